"""A clock and a device in virtual time, on which the measuring engine is tested without waiting."""

import functools
import math
import time
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.backends.base import Backend, DeviceState
from bench.backends.numpy import NumpyBackend
from bench.backends.torch import TorchCpu
from bench.measuring.exchange import HostArray
from bench.measuring.measure import Measuring, Order
from bench.measuring.sampling import Clock
from bench.workload import Call, Prepare


class FakeClock:
    """Time passes when it is read, as reading a clock costs time, and by `advance`."""

    def __init__(self, cost: float = 66e-9, resolution: float = 0.0) -> None:
        self.now = 0.0
        self.cost = cost
        self.resolution = resolution

    def __call__(self) -> float:
        self.now += self.cost
        if self.resolution:
            return math.floor(self.now / self.resolution) * self.resolution
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeMemoryError(RuntimeError):
    """What the fake device raises when its memory is full: no MemoryError, as on a GPU."""


class FakeDevice(Backend):
    """Launches return at once; each stream is busy until a moment of the clock.

    Numbers are NumPy's and there when the launch returns; only the time is that of a device.
    """

    name = "fake"
    library = "fake"
    device = "gpu"
    asynchronous = True
    ceiling_sizes = (64,)

    def __init__(
        self,
        clock: FakeClock | None = None,
        *,
        launch_seconds: float = 3e-6,
        synchronize_seconds: float = 0.0,
        bytes_per_second: float = 10e9,
        flops_per_second: float = 1e12,
        memory_bytes: int = 2**30,
        states: Mapping[float, DeviceState] | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.namespace = self
        self.launch_seconds = launch_seconds
        self.synchronize_seconds = synchronize_seconds
        self.bytes_per_second = bytes_per_second
        self.flops_per_second = flops_per_second
        self.memory_bytes = memory_bytes
        self.states = {0.0: DeviceState(), **(states or {})}
        self.busy_until = {"main": 0.0}
        self.launches = 0
        self.refills = 0
        self.used: list[str] = []
        self.held: list[float] = []
        self._held = self._peak = 0

    def launch(self, seconds: float, stream: str = "main") -> None:
        """Put work of `seconds` behind what the stream has to do already."""
        self.launches += 1
        self.clock.advance(self.launch_seconds)
        begin = max(self.clock.now, self.busy_until.get(stream, 0.0))
        self.busy_until[stream] = begin + seconds

    def empty(self, *shape: int, dtype: Any = "float32") -> Any:
        """Allocate an array that holds what was in that memory before."""
        return self._own(np.full(shape, 7.0, dtype))

    def open(self, threads: int, setup: str | None = None) -> None:
        return

    def describe(self) -> dict[str, Any]:
        return {"gpu": "fake device"}

    def unsupported(self, dtype: str) -> str | None:
        return None

    def use(self, dtype: str) -> None:
        self.used.append(dtype)

    def to_device(self, array: HostArray) -> Any:
        copied = np.frombuffer(array.data, array.dtype).reshape(array.shape).copy()
        self.clock.advance(copied.nbytes / self.bytes_per_second)
        return self._own(copied)

    def refill(self, array: Any, host_array: HostArray) -> None:
        self.synchronize()  # in the order of the stream
        array[...] = np.frombuffer(host_array.data, host_array.dtype).reshape(host_array.shape)
        self.refills += 1
        self.clock.advance(array.nbytes / self.bytes_per_second)

    def fetch(self, array: Any) -> Any:
        self.synchronize()
        self.clock.advance(array.nbytes / self.bytes_per_second)
        return array.copy()

    def to_float64(self, array: Any, rows: slice | None = None) -> Any:
        return np.asarray(array if rows is None else array[rows], "float64")

    def reference(self, array: HostArray) -> Any:
        return np.frombuffer(array.data, array.dtype).reshape(array.shape)

    def poison(self, array: Any) -> None:
        array.fill(math.nan)

    def gemm(self, n: int, dtype: str) -> Call:
        slower = {"float64": 2}.get(dtype, 1)
        return lambda: self.launch(slower * 2 * n**3 / self.flops_per_second)

    def copy(self, length: int) -> Call:
        return lambda: self.launch(2 * length / self.bytes_per_second)

    def synchronize(self) -> None:
        self.clock.now = max(self.clock.now, self.busy_until["main"]) + self.synchronize_seconds

    def drain(self) -> None:
        self.clock.now = max(self.clock.now, *self.busy_until.values())

    def record(self) -> float:
        return max(self.clock.now, self.busy_until["main"])

    def elapsed(self, start: Any, stop: Any) -> float:
        assert self.clock.now >= stop, "the mark has not been reached"
        return float(stop - start)

    def hold(self, seconds: float) -> None:
        self.held.append(seconds)
        self.launch(seconds)

    def energy(self) -> float:
        """Draw 100 W, seen in steps of 100 ms, as a GPU's counter shows it."""
        return math.floor(self.clock.now / 0.1) * 0.1 * 100.0

    def state(self) -> DeviceState:
        return self.states[max(since for since in self.states if since <= self.clock.now)]

    def reset_peak(self) -> None:
        self._peak = self._held

    def peak_bytes(self) -> int | None:
        return self._peak

    def is_out_of_memory(self, error: BaseException) -> bool:
        return super().is_out_of_memory(error) or isinstance(error, FakeMemoryError)

    def _own(self, array: Any) -> Any:
        if self._held + array.nbytes > self.memory_bytes:
            raise FakeMemoryError(f"cannot allocate {array.nbytes} bytes\nand a long story")
        self._held += array.nbytes
        self._peak = max(self._peak, self._held)
        weakref.finalize(array, self._release, array.nbytes)
        return array

    def _release(self, length: int) -> None:
        self._held -= length


class FakeCpu(FakeDevice):
    """Work is done when the call returns."""

    name = "fake-cpu"
    device = "cpu"
    asynchronous = False

    def launch(self, seconds: float, stream: str = "main") -> None:
        self.launches += 1
        self.clock.now += seconds


@functools.cache
def numpy_backend() -> NumpyBackend:
    """Return the real NumPy backend, opened in this process."""
    backend = NumpyBackend()
    backend.open(1, None)
    return backend


@functools.cache
def torch_backend() -> TorchCpu:
    """Return the real PyTorch backend on the CPU, opened in this process."""
    backend = TorchCpu()
    backend.open(1, None)
    return backend


def whole_block(
    backend: Backend,
    prepare: Prepare,
    order: Order,
    clock: Clock = time.perf_counter,
    canary: Call = lambda: None,
) -> dict[str, Any]:
    """Begin a case, visit it as often as planned and finish it, as the parent has it done."""
    sleep = clock.advance if isinstance(clock, FakeClock) else time.sleep
    measuring = Measuring(backend, prepare, order, canary, clock, sleep)
    block: dict[str, Any] = {"seconds": [], "disturbances": [], **measuring.begun()}
    served: dict[str, Any] = {"request_seconds": [], "serving_seconds": 0.0}
    notes: list[str] = []
    for _ in range(block["visits"]):
        seen = measuring.visit()
        block["seconds"] += seen["seconds"]
        block["disturbances"] += [d for d in seen["disturbances"] if d not in block["disturbances"]]
        notes += [note for note in seen["notes"] if note not in notes]
        for name in served:
            served[name] += seen.get(name, type(served[name])())
    finished = measuring.finish()
    notes = [*finished.pop("notes"), *notes]
    return {"host_seconds": block["seconds"], **block, **served, **finished, "notes": notes}
