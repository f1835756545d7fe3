"""Did something else use the processor meanwhile? Counters that need no privileges.

What shares a core's execution units, its caches or its turbo budget leaves them clean: the canary
is for that.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PRESSURE_LIMIT: Final = 0.10  # share of the time in which some process waited for a core
STEAL_LIMIT: Final = 0.02  # share of all cores' time that the hypervisor gave to others
SHORTEST_SECONDS: Final = 0.1  # below this the counters' own ticks (10 ms) say nothing
REST_SHARE: Final = 0.1
REST_STEP_SECONDS: Final = 0.002
REST_CAP_SECONDS: Final = 0.3


@dataclass(frozen=True)
class Counters:
    """Readings of one moment; None where the system does not tell."""

    wall: float
    pressure: float | None
    steal: float | None
    throttled: int | None

    @classmethod
    def read(cls, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> "Counters":
        """Read them all; a few file reads, about 0.1 ms."""
        return cls(time.perf_counter(), _pressure(proc), _steal(proc), _throttled(cgroup))


def disturbances(before: Counters, after: Counters, cores: int) -> list[str]:
    """Say what disturbed the time between two readings; empty if nothing did."""
    wall = after.wall - before.wall
    if wall < SHORTEST_SECONDS:
        return []
    found = []
    if before.pressure is not None and after.pressure is not None:
        share = (after.pressure - before.pressure) / wall
        if share > PRESSURE_LIMIT:
            found.append(f"processes waited for a core {share:.0%} of the time")
    if before.steal is not None and after.steal is not None:
        share = (after.steal - before.steal) / (wall * cores)
        if share > STEAL_LIMIT:
            found.append(f"the hypervisor took {share:.0%} of the cores' time")
    if before.throttled is not None and after.throttled is not None:
        times = after.throttled - before.throttled
        if times > 0:
            found.append(f"the CPU quota stopped the process {times} times")
    return found


def rest() -> None:
    """Wait until this process's threads stop spinning, so that the next worker has the cores.

    After a product OpenBLAS's threads were seen to burn CPU for about 110 ms by default.
    """
    deadline = time.perf_counter() + REST_CAP_SECONDS
    while time.perf_counter() < deadline:
        start, busy = time.perf_counter(), time.process_time()
        time.sleep(REST_STEP_SECONDS)
        share = (time.process_time() - busy) / (time.perf_counter() - start)
        if share < REST_SHARE:
            return


def _pressure(proc: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = (proc / "pressure/cpu").read_text()
        return int(text.split("\n", 1)[0].rpartition("total=")[2]) / 1e6
    return None


def _steal(proc: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        ticks = int((proc / "stat").read_text().split("\n", 1)[0].split()[8])
        return ticks / os.sysconf("SC_CLK_TCK")
    return None


def _throttled(cgroup: Path) -> int | None:
    for name in ("cpu.stat", "cpu/cpu.stat"):
        with contextlib.suppress(OSError, ValueError):
            for line in (cgroup / name).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "nr_throttled":
                    return int(value)
    return None
