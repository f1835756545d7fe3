"""PyTorch, written once over the device, and its row for the CPU; `torch_gpu` has those of GPUs."""

import importlib.util
from pathlib import Path
from typing import Any, ClassVar, Final

from bench.backends.base import Backend, first_line, loaded_threadpools
from bench.backends.nvidia import says_out_of_memory
from bench.backends.powercap import package_joules
from bench.errors import BackendAbsent
from bench.measuring.exchange import HostArray
from bench.workload import Call

TUNED: Final = "tuned"


class TorchBackend(Backend):
    """PyTorch on one device, whatever it is."""

    library = "torch"
    kind: ClassVar[str]
    """PyTorch's name of the device."""

    def open(self, threads: int, setup: str | None = None) -> None:
        """Import PyTorch, set its threads and its precision."""
        try:
            import torch
        except (ImportError, OSError) as error:
            # On Linux CUDA's own libraries are wheels beside PyTorch: one of them may be missing.
            raise BackendAbsent(
                f"PyTorch does not import: {first_line(error)}",
                "install it anew: pip install --force-reinstall torch",
            ) from error
        self.namespace = torch
        torch.set_num_threads(threads)
        if torch.get_num_interop_threads() != 1:  # it can be set once in a process
            torch.set_num_interop_threads(1)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = setup == TUNED
        self.target = torch.device(self.kind)

    def describe(self) -> dict[str, Any]:
        """Return version, build, precision flags and thread pools."""
        torch = self.namespace
        pool = {
            "user_api": "torch",
            "prefix": "intra-op",
            "num_threads": torch.get_num_threads(),
            "version": torch.__version__,
        }
        return {
            "version": torch.__version__,
            "cuda_build": torch.version.cuda,
            "blas": "mkl" if torch.backends.mkl.is_available() else "other",
            "onednn": bool(torch.backends.mkldnn.is_available()),
            "isa": torch.backends.cpu.get_cpu_capability(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
            "threadpools": [pool, *loaded_threadpools()],
        }

    def unsupported(self, dtype: str) -> str | None:
        """Refuse tf32 only."""
        return "tf32 is a format of NVIDIA's tensor cores" if dtype == "tf32" else None

    def to_device(self, array: HostArray) -> Any:
        """Copy to the device."""
        copied = self._mapped(array).to(self.target, copy=True)
        self.drain()
        return copied

    def refill(self, array: Any, host_array: HostArray) -> None:
        """Copy to the device, in the order of the current stream."""
        array.copy_(self._mapped(host_array))

    def fetch(self, array: Any) -> Any:
        """Copy a result to host memory."""
        return array.cpu()

    def to_float64(self, array: Any, rows: slice | None = None) -> Any:
        """Bring to host memory, then convert: a GPU may be slow in float64."""
        part = array if rows is None else array[rows]
        return part.detach().cpu().double()

    def reference(self, array: HostArray) -> Any:
        """Return the mapped array as a tensor."""
        return self._mapped(array)

    def poison(self, array: Any) -> None:
        """Fill with NaN."""
        array.fill_(float("nan"))

    def gemm(self, n: int, dtype: str) -> Call:
        """Multiply Gaussian matrices into a buffer."""
        torch = self.namespace
        kind = getattr(torch, dtype)
        a, b = (torch.randn(n, n, device=self.target).to(kind) for _ in range(2))
        product = torch.empty_like(a)
        return lambda: torch.matmul(a, b, out=product)

    def copy(self, length: int) -> Call:
        """Copy between two touched buffers."""
        torch = self.namespace
        source, target = (torch.ones(length // 4, device=self.target) for _ in range(2))
        return lambda: target.copy_(source)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Know PyTorch's ways of saying so."""
        torch = self.namespace
        return (
            super().is_out_of_memory(error)
            or isinstance(error, torch.OutOfMemoryError)
            or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
            or says_out_of_memory(error)
        )

    def _mapped(self, array: HostArray) -> Any:
        import warnings

        torch = self.namespace
        dtype = getattr(torch, array.dtype)
        if not memoryview(array.data).nbytes:  # frombuffer refuses an empty one
            return torch.empty(array.shape, dtype=dtype)
        with warnings.catch_warnings():
            # The mapping is read-only and so is every use of this tensor.
            warnings.simplefilter("ignore", UserWarning)
            flat = torch.frombuffer(array.data, dtype=dtype)
        return flat.reshape(array.shape)


class TorchCpu(TorchBackend):
    """PyTorch on the CPU."""

    name = "torch-cpu"
    device = "cpu"
    kind = "cpu"

    def open(self, threads: int, setup: str | None = None) -> None:
        """Say so if PyTorch is not there, then open it."""
        build()
        super().open(threads, setup)

    def energy(self) -> float:
        """Ask the CPU's packages."""
        return package_joules()


def build() -> Any:
    """Return PyTorch's own `version` module without the second that importing PyTorch takes.

    Raises:
        BackendAbsent: PyTorch is not installed.
    """
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise BackendAbsent("PyTorch is not installed", "pip install torch")
    path = Path(found.origin).with_name("version.py")
    spec = importlib.util.spec_from_file_location("torch_version", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BACKENDS = (TorchCpu,)
