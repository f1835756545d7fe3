"""CuPy on one NVIDIA GPU."""

import contextlib
import importlib.metadata
import importlib.util
import os
from typing import Any, Final

from bench.backends.base import Backend, DeviceState, first_line, loaded_threadpools
from bench.backends.nvidia import (
    clock_state,
    energy_joules,
    install_for,
    require_cuda,
    says_out_of_memory,
    why_no_gpu,
)
from bench.errors import BackendAbsent
from bench.measuring.exchange import HostArray
from bench.workload import Call

BUILDS: Final = {n: f'pip install "cupy-cuda{n}x[ctk]"' for n in (12, 13)}
WHEELS: Final = {"cupy": None, "cupy-cuda11x": 11, "cupy-cuda12x": 12, "cupy-cuda13x": 13}
"""The distributions that own the folder `cupy`, with the CUDA that each is built for."""
TF32: Final = "tf32"
BFLOAT16: Final = "bfloat16"
TF32_MATH: Final = 3
"""cuBLAS's CUBLAS_TF32_TENSOR_OP_MATH: CUPY_TF32 reaches single products only, not batches."""
HOLD: Final = """
extern "C" __global__ void hold(long long nanoseconds) {
    long long begin, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - begin < nanoseconds);
}
"""


class CupyBackend(Backend):
    """CuPy: NumPy's interface on cuBLAS and its own kernels."""

    name = "cupy"
    library = "cupy"
    device = "gpu"
    asynchronous = True
    ceiling_sizes = (4096, 8192)
    _hold: Any = None

    @classmethod
    def setup_of(cls, dtype: str, way: str | None) -> str | None:
        """Keep TF32 apart: CuPy reads its switch once in a process."""
        return TF32 if dtype == TF32 else None

    def open(self, threads: int, setup: str | None = None) -> None:
        """Import CuPy and try what needs CUDA's libraries."""
        missing = why_no_gpu()
        installed = installed_wheels()
        if len(installed) > 1:
            raise BackendAbsent(
                f"{' and '.join(installed)} overwrite each other",
                f"pip uninstall {' '.join(installed)}; {install_for(BUILDS)}",
            )
        if importlib.util.find_spec("cupy") is None:
            if missing:
                raise BackendAbsent(
                    f"CuPy is not installed, and {missing[0]}",
                    f"on a machine with an NVIDIA GPU: {install_for(BUILDS)}",
                )
            raise BackendAbsent("CuPy is not installed", install_for(BUILDS))
        os.environ["CUPY_TF32"] = "1" if setup == TF32 else "0"  # float32 means float32
        try:
            import cupy
        except ImportError as error:
            raise BackendAbsent(
                f"CuPy does not import: {first_line(error)}", install_for(BUILDS)
            ) from error
        if missing:
            raise BackendAbsent(*missing)
        for wheel in installed:
            if WHEELS[wheel] is not None:
                other = {n: f"pip uninstall {wheel}; {BUILDS[n]}" for n in BUILDS}
                require_cuda(wheel, str(WHEELS[wheel]), other)
        runtime = cupy.cuda.runtime
        try:
            found = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            raise BackendAbsent(
                f"CUDA does not start: {first_line(error)}",
                f"update the NVIDIA driver, or choose the CuPy for its CUDA: {install_for(BUILDS)}",
            ) from error
        if found == 0:
            raise BackendAbsent(
                "CUDA sees no GPU", "check CUDA_VISIBLE_DEVICES, and nvidia-smi for the GPU's state"
            )
        cupy.cuda.Device(0).use()  # --gpu is applied through CUDA_VISIBLE_DEVICES
        try:
            one = cupy.ones((2, 2), "float32")
            cupy.matmul(one, one)
            if setup == TF32:
                cupy.cuda.cublas.setMathMode(cupy.cuda.get_cublas_handle(), TF32_MATH)
            cupy.random.standard_normal((2, 2), dtype="float32")  # opens another library
            cupy.cuda.Device().synchronize()
        except (ImportError, RuntimeError) as error:
            # CuPy opens some of them itself and says so in a RuntimeError.
            if isinstance(error, RuntimeError) and "failed to load" not in str(error):
                raise
            own = next((WHEELS[wheel] for wheel in installed), None)
            raise BackendAbsent(
                f"CUDA's libraries are missing: {first_line(error)}",
                BUILDS[own] if own in BUILDS else install_for(BUILDS),
            ) from error
        self.namespace = cupy

    def describe(self) -> dict[str, Any]:
        """Return versions, the GPU and the precision flag."""
        cupy = self.namespace
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        return {
            "version": cupy.__version__,
            "distribution": next(iter(installed_wheels()), None),
            "cuda_runtime": cupy.cuda.runtime.runtimeGetVersion(),
            "cuda_driver": cupy.cuda.runtime.driverGetVersion(),
            "gpu": properties["name"].decode(),
            "gpu_memory_bytes": properties["totalGlobalMem"],
            "gpu_multiprocessors": properties["multiProcessorCount"],
            "CUPY_TF32": os.environ["CUPY_TF32"],
            "cudnn": None,
            "threadpools": loaded_threadpools(),
        }

    def unsupported(self, dtype: str) -> str | None:
        """Refuse bfloat16 where the type is missing that CuPy 14 takes from another package."""
        if dtype != BFLOAT16 or importlib.util.find_spec("ml_dtypes"):
            return None
        return "CuPy's bfloat16 needs ml_dtypes: pip install ml_dtypes"

    def to_device(self, array: HostArray) -> Any:
        """Copy to the device."""
        copied = self.namespace.asarray(self._mapped(array))
        self.drain()
        return copied

    def refill(self, array: Any, host_array: HostArray) -> None:
        """Copy to the device, in the order of the current stream."""
        array.set(self._mapped(host_array))

    def fetch(self, array: Any) -> Any:
        """Copy a result to host memory."""
        return self.namespace.asnumpy(array)

    def to_float64(self, array: Any, rows: slice | None = None) -> Any:
        """Bring to host memory, then convert: a GPU may be slow in float64."""
        return self.namespace.asnumpy(array if rows is None else array[rows]).astype("float64")

    def reference(self, array: HostArray) -> Any:
        """Return the mapped array as NumPy's."""
        return self._mapped(array)

    def poison(self, array: Any) -> None:
        """Fill with NaN."""
        array.fill(float("nan"))

    def gemm(self, n: int, dtype: str) -> Call:
        """Multiply Gaussian matrices into a buffer."""
        cupy = self.namespace
        a, b = (
            cupy.random.standard_normal((n, n), dtype="float32").astype(_dtype(dtype)) for _ in "ab"
        )
        product = cupy.empty_like(a)
        return lambda: cupy.dot(a, b, out=product)

    def copy(self, length: int) -> Call:
        """Copy between two touched buffers."""
        cupy = self.namespace
        source, target = (cupy.ones(length // 8) for _ in range(2))
        return lambda: cupy.copyto(target, source)

    def synchronize(self) -> None:
        """Wait for the current stream."""
        self.namespace.cuda.get_current_stream().synchronize()

    def drain(self) -> None:
        """Wait for the whole device."""
        self.namespace.cuda.Device().synchronize()

    def record(self) -> Any:
        """Record an event on the current stream."""
        event = self.namespace.cuda.Event()
        event.record()
        return event

    def elapsed(self, start: Any, stop: Any) -> float:
        """Return the seconds between two events."""
        return float(self.namespace.cuda.get_elapsed_time(start, stop)) / 1000

    def hold(self, seconds: float) -> None:
        """Let a kernel wait on the current stream, by the GPU's own clock."""
        if self._hold is None:
            self._hold = self.namespace.RawKernel(HOLD, "hold")
        self._hold((1,), (1,), (int(seconds * 1e9),))

    def state(self) -> DeviceState:
        """Ask the driver."""
        return clock_state(self.namespace.cuda.Device().pci_bus_id)

    def energy(self) -> float:
        """Ask the driver."""
        return energy_joules(self.namespace.cuda.Device().pci_bus_id)

    def reset_peak(self) -> None:
        """Empty the pool: what it holds afterwards is what the call needed."""
        self.free()

    def peak_bytes(self) -> int | None:
        """Return what the pool took from the device."""
        return int(self.namespace.get_default_memory_pool().total_bytes())

    def free(self) -> None:
        """Empty both pools."""
        self.namespace.get_default_memory_pool().free_all_blocks()
        self.namespace.get_default_pinned_memory_pool().free_all_blocks()

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Know CuPy's ways of saying so."""
        # That of its pool is a MemoryError.
        return super().is_out_of_memory(error) or says_out_of_memory(error)

    def _mapped(self, array: HostArray) -> Any:
        import numpy  # CuPy's own dependency

        return numpy.frombuffer(array.data, dtype=_dtype(array.dtype)).reshape(array.shape)


def installed_wheels() -> list[str]:
    """Return the distributions of CuPy that are installed; more than one is a broken CuPy."""
    found = []
    for name in WHEELS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            found.append(name)
    return found


def _dtype(name: str) -> Any:
    """Return what NumPy and CuPy call the type; bfloat16 is not NumPy's own."""
    if name != BFLOAT16:
        return name
    import ml_dtypes

    return ml_dtypes.bfloat16


BACKENDS = (CupyBackend,)
