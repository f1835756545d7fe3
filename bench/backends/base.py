"""The contract between a library on a device and the measuring engine.

A backend must
- import its library in `open`, nowhere else, and say precisely what is missing when it cannot:
  `open` is also how `bench list` and `bench doctor` find out whether it is available;
- use the number of threads it was given, set precision flags explicitly, and report both as read
  back from the library (`describe`);
- take host arrays to its device and results back to host memory;
- have `synchronize` wait for everything that the timed call launched the way users launch it, and
  `drain` wait for everything on the device: the difference finds work that nobody waited for;
- time an interval on the device itself, if the device runs asynchronously (`record`, `elapsed`,
  and `hold`, which keeps launches out of the interval);
- know its memory peak, the state of its clock and the energy used, if anything can tell;
- name what a process has to be set up with for good (`setup_of`): cases that differ in it never
  share a process.
A CPU library needs next to none of the last four; the defaults below are for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.measuring.exchange import HostArray
from bench.workload import Call


@dataclass(frozen=True)
class DeviceState:
    """What a device says of its clock; throttle reasons are those that void a measurement."""

    clock_hertz: float | None = None
    throttled: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """States that are recorded but harmless, such as `power_capped`."""


class Unknown(Exception):
    """Nothing on this machine tells; the message says why and what would help."""


class Backend(ABC):
    """One library on one device, in a process of its own."""

    name: ClassVar[str]
    library: ClassVar[str]
    device: ClassVar[str]
    """`cpu` or `gpu`."""
    asynchronous: ClassVar[bool] = False
    """Whether a call may return before its work is done."""
    tried: ClassVar[bool] = True
    """Whether anybody has run it on such a device: its numbers say so where nobody has."""
    ceiling_sizes: ClassVar[tuple[int, ...]] = (512, 2048)
    """The square products that show the device's peak: the best of a small one is found even on a
    busy machine."""

    namespace: Any
    """What implementations get as their first argument: the imported library."""

    @classmethod
    def setup_of(cls, _dtype: str, _way: str | None) -> str | None:
        """Return what a process must be opened with to measure such a case, if anything."""
        return None

    @abstractmethod
    def open(self, threads: int, setup: str | None = None) -> None:
        """Import the library and make the device ready; which GPU is set in the environment.

        Raises:
            BackendAbsent: The library, its build, the driver or the device is missing.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return versions, build, precision flags and `threadpools` as the library reports them."""

    @abstractmethod
    def unsupported(self, dtype: str) -> str | None:
        """Return why `dtype` is not measured on this backend, or None if it is."""

    @abstractmethod
    def to_device(self, array: HostArray) -> Any:
        """Copy `array` to the device; the copy is complete when this returns."""

    @abstractmethod
    def refill(self, array: Any, host_array: HostArray) -> None:
        """Copy a host array into a device array that exists; complete when a call sees it."""

    @abstractmethod
    def fetch(self, array: Any) -> Any:
        """Copy an output to host memory in its own dtype, as the user of a result would."""

    @abstractmethod
    def to_float64(self, array: Any, rows: slice | None = None) -> Any:
        """Return `array`, or a slice of its first axis, as a float64 array in host memory."""

    @abstractmethod
    def reference(self, array: HostArray) -> Any:
        """Return a float64 reference as an array in host memory, for use with `to_float64`."""

    @abstractmethod
    def poison(self, array: Any) -> None:
        """Fill an output with NaN, so that a call that does not write it is found out."""

    @abstractmethod
    def gemm(self, n: int, dtype: str) -> Call:
        """Return a product of two random n x n matrices into a buffer, for peak and canary."""

    @abstractmethod
    def copy(self, length: int) -> Call:
        """Return a copy between two buffers of `length` bytes in the device's memory."""

    def use(self, _dtype: str) -> None:
        """Set the precision flags that the next case needs."""
        return

    def synchronize(self) -> None:
        """Wait for the work of the calls made so far."""
        return

    def drain(self) -> None:
        """Wait for all work on the device, whoever launched it."""
        return

    def record(self) -> Any:
        """Mark this point in the device's order of work."""
        return None

    def elapsed(self, _start: Any, _stop: Any) -> float:
        """Return the seconds between two marks; both must have been reached."""
        raise NotImplementedError(f"{self.name} has no clock of its own")

    def hold(self, _seconds: float) -> None:
        """Keep the device busy for about so long: what is launched meanwhile waits in its queue."""
        return

    def energy(self) -> float:
        """Return the joules that the device has used since some moment of the past.

        Raises:
            Unknown: No counter tells.
        """
        raise Unknown(f"no energy counter is known for {self.name}")

    def state(self) -> DeviceState:
        """Return the state of the device's clock."""
        return DeviceState()

    def reset_peak(self) -> None:
        """Begin to look for a new peak of allocated memory."""
        return

    def peak_bytes(self) -> int | None:
        """Return the peak of the device's memory since `reset_peak`; None: look at the process."""
        return None

    def free(self) -> None:
        """Give pooled memory back, so that an idle worker holds none."""
        return

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tell whether `error` means that memory ran out."""
        return isinstance(error, MemoryError)


def first_line(error: BaseException) -> str:
    """Return what an error says first, or else its kind."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def loaded_threadpools() -> list[dict[str, Any]]:
    """Return the thread pools of the libraries loaded in this process, if threadpoolctl is here."""
    try:
        import threadpoolctl
    except ImportError:
        return []
    found: Sequence[Mapping[str, Any]] = threadpoolctl.threadpool_info()
    keep = ("user_api", "internal_api", "prefix", "version", "num_threads", "architecture")
    return [{key: pool[key] for key in (*keep, "threading_layer") if key in pool} for pool in found]
