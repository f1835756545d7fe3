"""How much memory a call needs: the device's own peak, or the process's on a CPU."""

import contextlib
import ctypes
import sys
from pathlib import Path
from types import TracebackType

from bench.backends.base import Backend

PROCESS = Path("/proc/self")


class PeakMemory:
    """A context in which memory is watched; `bytes` is the peak, or None with `unknown`."""

    def __init__(self, backend: Backend, least: int) -> None:
        self.backend = backend
        self.least = least
        self.bytes: int | None = None
        self.unknown: str | None = None
        self._base: int | None = None
        self._held: int | None = None

    def __enter__(self) -> "PeakMemory":
        self.backend.reset_peak()
        self._held = self.backend.peak_bytes()  # by other cases that are under way
        release()
        with contextlib.suppress(OSError):
            (PROCESS / "clear_refs").write_text("5")  # resets the peak of resident memory
            self._base = _status("VmRSS")
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        device_peak = self.backend.peak_bytes()
        if device_peak is not None:
            self.bytes = device_peak - (self._held or 0)
            return
        if self.backend.device != "cpu":
            self.unknown = f"{self.backend.name} counts no peak of its device's memory"
            return
        peak = _status("VmHWM")
        if self._base is None or peak is None:
            self.unknown = "this system does not tell a process's peak of memory"
        elif peak - self._base < self.least:
            # Memory that the allocator kept from before was used again.
            self.unknown = "too small for the process's memory counters"
        else:
            self.bytes = peak - self._base


def release() -> None:
    """Have the C library give freed memory back, where it can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def limit_to(available: int) -> None:
    """Let allocations beyond `available` bytes fail in this process rather than in the kernel.

    Without it the kernel's out-of-memory killer ends a process of its own choice.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_DATA, (available, available))
    with contextlib.suppress(OSError):
        (PROCESS / "oom_score_adj").write_text("1000")  # if one must be killed, then this one


def _status(field: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return None
