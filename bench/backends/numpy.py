"""NumPy on the CPU: also the library that draws inputs and computes references."""

import importlib.util
from typing import Any

from bench.backends.base import Backend, loaded_threadpools
from bench.backends.powercap import package_joules
from bench.errors import BackendAbsent
from bench.measuring.exchange import HostArray
from bench.workload import Call


class NumpyBackend(Backend):
    """NumPy with whatever BLAS it was built with."""

    name = "numpy"
    library = "numpy"
    device = "cpu"

    def open(self, threads: int, setup: str | None = None) -> None:
        """Import NumPy; its BLAS reads the thread count from the environment."""
        if importlib.util.find_spec("numpy") is None:
            raise BackendAbsent("NumPy is not installed", "pip install numpy")
        import numpy

        self.namespace = numpy
        one = numpy.ones((2, 2), numpy.float32)
        numpy.matmul(one, one)  # loads the BLAS and starts its threads

    def describe(self) -> dict[str, Any]:
        """Return NumPy's version, BLAS and thread pools."""
        build = self.namespace.show_config(mode="dicts")
        blas = build["Build Dependencies"]["blas"]
        return {
            "version": self.namespace.__version__,
            "blas": f"{blas.get('name')} {blas.get('version')}",
            "simd": build.get("SIMD Extensions", {}).get("found", []),
            "threadpools": loaded_threadpools(),
        }

    def unsupported(self, dtype: str) -> str | None:
        """Accept what a BLAS computes: float32 and float64."""
        return {
            "float16": "NumPy has no BLAS for float16: its product is a scalar loop",
            "bfloat16": "NumPy has no bfloat16",
            "tf32": "tf32 is a format of NVIDIA's tensor cores",
        }.get(dtype)

    def to_device(self, array: HostArray) -> Any:
        """Copy out of the mapped file, so that the timed call reads ordinary memory."""
        return self._mapped(array).copy()

    def refill(self, array: Any, host_array: HostArray) -> None:
        """Copy out of the mapped file."""
        self.namespace.copyto(array, self._mapped(host_array))

    def fetch(self, array: Any) -> Any:
        """Return the array: it is in host memory already."""
        return array

    def to_float64(self, array: Any, rows: slice | None = None) -> Any:
        """Convert to float64."""
        return self.namespace.asarray(array if rows is None else array[rows], dtype="float64")

    def reference(self, array: HostArray) -> Any:
        """Return the mapped array."""
        return self._mapped(array)

    def poison(self, array: Any) -> None:
        """Fill with NaN."""
        array.fill(float("nan"))

    def gemm(self, n: int, dtype: str) -> Call:
        """Multiply Gaussian matrices into a buffer."""
        numpy = self.namespace
        rng = numpy.random.default_rng(0)
        a, b = (rng.standard_normal((n, n)).astype(dtype) for _ in range(2))
        product = numpy.empty_like(a)
        return lambda: numpy.matmul(a, b, out=product)

    def copy(self, length: int) -> Call:
        """Copy between two touched buffers."""
        numpy = self.namespace
        source, target = (numpy.ones(length // 8) for _ in range(2))
        return lambda: numpy.copyto(target, source)

    def energy(self) -> float:
        """Ask the CPU's packages."""
        return package_joules()

    def _mapped(self, array: HostArray) -> Any:
        return self.namespace.frombuffer(array.data, dtype=array.dtype).reshape(array.shape)


BACKENDS = (NumpyBackend,)
