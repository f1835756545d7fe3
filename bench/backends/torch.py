"""PyTorch on the CPU and on NVIDIA GPUs, written once over the device."""

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

from bench.backends.base import Backend, DeviceState, loaded_threadpools
from bench.backends.nvidia import clock_state, why_no_gpu
from bench.errors import BackendAbsent
from bench.measuring.exchange import HostArray
from bench.workload import Call

# The index is PyTorch's own; an extra of ours cannot name it.
CUDA_REMEDY = "pip install torch --index-url https://download.pytorch.org/whl/cu130"


class TorchCpu(Backend):
    """PyTorch on the CPU."""

    name = "torch-cpu"
    library = "torch"
    device = "cpu"
    kind: ClassVar[str] = "cpu"

    def open(self, threads: int, gpu: str | None) -> None:
        """Import PyTorch, set its threads and its precision."""
        _build()
        import torch

        self.namespace = torch
        torch.set_num_threads(threads)
        if torch.get_num_interop_threads() != 1:  # it can be set once in a process
            torch.set_num_interop_threads(1)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
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


class TorchCuda(TorchCpu):
    """PyTorch on one NVIDIA GPU."""

    name = "torch-cuda"
    device = "gpu"
    kind = "cuda"
    asynchronous = True
    ceiling_sizes = (4096, 8192)

    def open(self, threads: int, gpu: str | None) -> None:
        """Import PyTorch and open a context on the GPU, unless its build tells that it cannot."""
        build = _build()
        if build.hip:
            raise BackendAbsent(
                f"this PyTorch ({build.__version__}) is built for ROCm, which nobody has tried",
                f"on a machine with an NVIDIA GPU: {CUDA_REMEDY}",
            )
        missing = why_no_gpu()
        if build.cuda is None:
            reason = f"this PyTorch ({build.__version__}) is built without CUDA"
            if missing:
                raise BackendAbsent(
                    f"{reason}, and {missing[0]}", f"on a machine with an NVIDIA GPU: {CUDA_REMEDY}"
                )
            raise BackendAbsent(reason, CUDA_REMEDY)
        if missing:
            raise BackendAbsent(*missing)
        super().open(threads, gpu)
        torch = self.namespace
        try:
            torch.cuda.init()
            found = torch.cuda.device_count()
        except (RuntimeError, AssertionError) as error:
            raise BackendAbsent(
                f"CUDA {torch.version.cuda} does not start: {str(error).splitlines()[0]}",
                "update the NVIDIA driver, or install a PyTorch built for an older CUDA",
            ) from error
        if found == 0:
            raise BackendAbsent(
                "CUDA sees no GPU", "check CUDA_VISIBLE_DEVICES, and nvidia-smi for the GPU's state"
            )
        self.target = torch.device("cuda", 0)  # --gpu is applied through CUDA_VISIBLE_DEVICES
        torch.cuda.set_device(self.target)
        torch.zeros(1, device=self.target)

    def describe(self) -> dict[str, Any]:
        """Add the GPU and cuDNN."""
        torch = self.namespace
        properties = torch.cuda.get_device_properties(self.target)
        return {
            **super().describe(),
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "gpu_multiprocessors": properties.multi_processor_count,
            "cudnn": torch.backends.cudnn.version(),
            "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        }

    def unsupported(self, dtype: str) -> str | None:
        """Accept every dtype."""
        return None

    def use(self, dtype: str) -> None:
        """Allow TF32 where it is what is measured, and nowhere else."""
        torch = self.namespace
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"

    def synchronize(self) -> None:
        """Wait for the current stream."""
        self.namespace.cuda.current_stream().synchronize()

    def drain(self) -> None:
        """Wait for the whole device."""
        self.namespace.cuda.synchronize()

    def record(self) -> Any:
        """Record an event on the current stream."""
        event = self.namespace.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed(self, start: Any, stop: Any) -> float:
        """Return the seconds between two events."""
        return float(start.elapsed_time(stop)) / 1000

    def state(self) -> DeviceState:
        """Ask the driver."""
        return clock_state(str(self.namespace.cuda.get_device_properties(self.target).uuid))

    def reset_peak(self) -> None:
        """Reset the allocator's peak."""
        self.namespace.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int | None:
        """Return the allocator's peak."""
        return int(self.namespace.cuda.max_memory_allocated())

    def free(self) -> None:
        """Empty the allocator's cache."""
        self.namespace.cuda.empty_cache()


def _build() -> Any:
    """Return PyTorch's own `version` module without the second that importing PyTorch takes."""
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


BACKENDS = (TorchCpu, TorchCuda)
