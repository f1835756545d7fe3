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

WAITED_LIMIT: Final = 0.05  # share of all cores' time that this process's threads waited for one
STEAL_LIMIT: Final = 0.02  # share of all cores' time that the hypervisor gave to others
SHORTEST_SECONDS: Final = 0.02  # below this the counters' own ticks (10 ms) say nothing
REST_SHARE: Final = 0.1
REST_STEP_SECONDS: Final = 0.002
REST_CAP_SECONDS: Final = 0.3


@dataclass(frozen=True)
class Counters:
    """Readings of one moment; None where the system does not tell."""

    wall: float
    waited: float | None
    """Seconds in which threads of this process could have run and had no core. The kernel's
    pressure figures would say more, but are brought up to date every two seconds only."""
    steal: float | None
    throttled: int | None

    @classmethod
    def read(cls, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> "Counters":
        """Read them all; a few file reads, about 0.1 ms."""
        return cls(time.perf_counter(), _waited(proc), _steal(proc), _throttled(cgroup))


def disturbances(before: Counters, after: Counters, cores: int) -> list[str]:
    """Say what disturbed the time between two readings; empty if nothing did."""
    wall = after.wall - before.wall
    if wall < SHORTEST_SECONDS:
        return []
    found = []
    if before.waited is not None and after.waited is not None:
        share = (after.waited - before.waited) / (wall * cores)
        if share > WAITED_LIMIT:
            found.append(f"threads waited for a core {share:.0%} of the time")
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


def _waited(proc: Path) -> float | None:
    total = None
    for task in proc.glob("self/task/*/schedstat"):
        # A thread may end between being listed and being read.
        with contextlib.suppress(OSError, ValueError, IndexError):
            total = (total or 0.0) + int(task.read_text().split()[1]) / 1e9
    return total


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
