"""The slow ones among machines that should be alike: the node of a cluster that nobody noticed.

A machine's time of a case is set beside the median of its like. Its shift in a suite, on one kind
of device, is the median of these over all cases, and it is judged by the spread of the shifts:
a robust z, with the median absolute deviation in place of the standard deviation (Iglewicz and
Hoaglin, "How to Detect and Handle Outliers", 1993).
"""

import bisect
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.comparing.machines import Machine, Piece
from bench.text import natural

FEWEST: Final = 4
"""Of three machines nobody can say which one is odd."""

_LIMITS: Final = {
    4: 11.1,
    5: 13.5,
    6: 8.8,
    8: 7.0,
    10: 6.0,
    12: 5.6,
    15: 5.3,
    20: 4.8,
    30: 4.5,
    50: 4.3,
}
"""By the number of machines: the z that the slowest of so many passes in one of 100 groups whose
shifts are normal and which has no outlier (200,000 simulated groups each; up to 1000 machines the
last one holds)."""

_LEAST_SHIFT: Final = math.log(1.03)
"""Slower by less than 3% is nobody's reason to take a node out, however alike the others are."""

_LEAST_SPREAD: Final = 0.005
"""Machines that agree better than half a percent do so by chance."""

_FARTHEST: Final = 700.0
"""The largest exponent that is a number."""

_NORMAL: Final = 1.4826
"""The standard deviation of normal values over their median absolute deviation."""

_Case = tuple[Piece, str, int, str | None]
"""A piece of work at a place, with the workload's version and the digest of the inputs."""


@dataclass(frozen=True)
class Slow:
    """A machine that is slower than its like in a suite, on its CPU or its GPU."""

    machine: str
    like: int
    """How many machines of its kind were judged."""
    suite: str
    device: str
    times: float
    """How many times as long as its like it takes, in the median case."""
    z: float
    limit: float
    cases: Sequence[tuple[str, float]]
    """Every case by its name, with how many times as long it takes; the worst first."""


@dataclass(frozen=True)
class Verdict:
    """The slow ones, and who could not be judged."""

    slow: Sequence[Slow]
    judged: Sequence[tuple[str, int]]
    """Kinds of machine, with how many there are of each."""
    too_few: Sequence[tuple[str, int]]


def find_outliers(machines: Sequence[Machine]) -> Verdict:
    """Judge each machine by those with the same CPU and GPUs."""
    kinds: dict[str, list[Machine]] = {}
    for machine in machines:
        kinds.setdefault(_kind(machine), []).append(machine)
    slow: list[Slow] = []
    judged, too_few = [], []
    for kind, like in sorted(kinds.items(), key=lambda item: natural(item[0])):
        shifts = _shifts(like)
        # A kind can have enough machines and yet no case that enough of them measured.
        if not any(len(found) >= FEWEST for found in shifts.values()):
            too_few.append((kind, len(like)))
            continue
        judged.append((kind, len(like)))
        for (suite, device), found in shifts.items():
            slow += _slow(suite, device, found)
    slow.sort(key=lambda one: (-one.times, natural(one.machine), one.suite, one.device))
    return Verdict(slow, judged, too_few)


def _kind(machine: Machine) -> str:
    names = sorted(str(gpu.get("name") or "unknown GPU") for gpu in machine.gpus)
    return ", ".join([str(machine.part("cpu").get("model") or "unknown CPU"), *names])


def _shifts(
    machines: Sequence[Machine],
) -> dict[tuple[str, str], dict[str, list[tuple[str, float]]]]:
    """Return the logarithm of each machine's time over the median, by suite and device."""
    times: dict[_Case, dict[str, float]] = {}
    devices: dict[_Case, str] = {}
    for machine in machines:
        for piece, results in machine.results.items():
            for result in results:
                case = piece, result.place, result.version, result.digest
                times.setdefault(case, {})[machine.name] = math.log(result.seconds.median)
                devices[case] = result.device
    found: dict[tuple[str, str], dict[str, list[tuple[str, float]]]] = {}
    for case in sorted(times, key=lambda case: (case[0].suite, natural(case[0].work), case[1])):
        own = times[case]
        if len(own) < FEWEST:
            continue
        middle = statistics.median(own.values())
        piece, place = case[:2]
        group = found.setdefault((piece.suite, devices[case]), {})
        for name, log in own.items():
            group.setdefault(name, []).append((f"{piece.name}/{place}", log - middle))
    return found


def _slow(suite: str, device: str, found: Mapping[str, Sequence[tuple[str, float]]]) -> list[Slow]:
    shifts = {name: statistics.median(log for _, log in cases) for name, cases in found.items()}
    middle = statistics.median(shifts.values())
    apart = statistics.median(abs(shift - middle) for shift in shifts.values())
    spread = max(_NORMAL * apart, _LEAST_SPREAD)
    limit = limit_of(len(shifts))
    return [
        Slow(
            machine=name,
            like=len(shifts),
            suite=suite,
            device=device,
            times=_times(shift),
            z=(shift - middle) / spread,
            limit=limit,
            cases=[
                (case, _times(log))
                for case, log in sorted(found[name], key=lambda pair: (-pair[1], pair[0]))
            ],
        )
        for name, shift in shifts.items()
        if (shift - middle) / spread > limit and shift - middle > _LEAST_SHIFT
    ]


def _times(log: float) -> float:
    return math.exp(min(log, _FARTHEST))


def limit_of(count: int) -> float:
    """Return the z from which the slowest of so many machines is an outlier."""
    keys = list(_LIMITS)
    return _LIMITS[keys[max(0, bisect.bisect_right(keys, count) - 1)]]
