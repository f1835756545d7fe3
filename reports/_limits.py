"""What limits a call at each size: the longest of the times that the device cannot go below."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from bench.results.schema import Measurement, Run

LAUNCH: Final = "launch"
MEMORY: Final = "memory"
COMPUTE: Final = "compute"
TRANSFER: Final = "transfer"

Floors = Mapping[str, Callable[[float], float]]
"""The seconds below which each limit lets no call of a size go."""

_SANE: Final = (1e-12, 1e24)
"""Peaks beyond are no measurement, whoever wrote the file."""
_STEPS: Final = 64
"""Points between two sizes at which the limit is looked up; a narrower region cannot be seen."""
_EQUAL: Final = 1e-9
"""Floors that differ by less are equal, lest their rounding makes regions."""


@dataclass(frozen=True)
class Region:
    """The sizes from `start` to `end`, in which one limit is the highest."""

    limit: str
    start: float
    end: float


@dataclass(frozen=True)
class Cost:
    """What a call at each size computes and moves; straight between them on logarithmic axes."""

    sizes: Sequence[int]
    flops: Sequence[int]
    bytes_moved: Sequence[int]

    def flops_at(self, size: float) -> float:
        """Return the FLOPs of a call."""
        return self._at(size, self.flops)

    def bytes_at(self, size: float) -> float:
        """Return the bytes that a call moves at least."""
        return self._at(size, self.bytes_moved)

    def _at(self, size: float, amounts: Sequence[int]) -> float:
        i = min(max(bisect_right(self.sizes, size) - 1, 0), len(self.sizes) - 2)
        span = math.log(self.sizes[i + 1] / self.sizes[i])
        share = math.log(size / self.sizes[i]) / span
        return amounts[i] * math.exp(share * math.log(amounts[i + 1] / amounts[i]))


def device_of(m: Measurement) -> str:
    """Return `cpu` or `gpu`."""
    return "cpu" if m.device == "cpu" else "gpu"


def peaks_of(run: Run) -> dict[str, dict[str, float]]:
    """Return the peaks of each device: the best that any of its backends has measured."""
    devices = {m.backend: device_of(m) for m in run.measurements}
    found: dict[str, dict[str, float]] = {}
    for line in run.workers:
        if line.backend not in devices:
            continue
        known = found.setdefault(devices[line.backend], {})
        for name, value in line.peaks.items():
            if _SANE[0] < value < _SANE[1]:
                better = min if name.endswith("call") else max
                known[name] = better(known.get(name, value), value)
    return found


def floors(cost: Cost, peaks: Mapping[str, float], dtype: str) -> Floors:
    """Return the floors of a call whose data are on the device; `peaks` must hold them all."""
    return {
        LAUNCH: lambda _size: peaks["call"],
        MEMORY: lambda size: cost.bytes_at(size) / peaks["bytes"],
        COMPUTE: lambda size: cost.flops_at(size) / peaks[dtype],
    }


def link_floor(cost: Cost, peaks: Mapping[str, float]) -> Floors:
    """Return the floor of copying the inputs there and the result back."""
    call, rate = peaks["link_call"], peaks["link_bytes"]
    return {TRANSFER: lambda size: call + cost.bytes_at(size) / rate}


def highest(over: Floors, size: float) -> str:
    """Return the limit that is the highest at a size; of equal ones the first."""
    seconds = {limit: floor(size) for limit, floor in over.items()}
    almost = max(seconds.values()) * (1 - _EQUAL)
    return next(limit for limit, value in seconds.items() if value >= almost)


def regions(over: Floors, sizes: Sequence[float]) -> list[Region]:
    """Return what limits a call from the smallest size to the largest."""
    grid = [
        start * (end / start) ** (step / _STEPS)
        for start, end in pairwise(sizes)
        for step in range(_STEPS)
    ]
    found: list[Region] = []
    begin, limit = sizes[0], highest(over, sizes[0])
    for left, right in pairwise([*grid, sizes[-1]]):
        after = left
        while highest(over, right) != limit:
            after = _end(over, limit, after, right)
            found.append(Region(limit, begin, after))
            begin, limit = after, highest(over, after)
    return [*found, Region(limit, begin, sizes[-1])]


def _end(over: Floors, limit: str, inside: float, outside: float) -> float:
    """Return where `limit` ends to be the highest, by bisection."""
    while inside < (middle := math.sqrt(inside * outside)) < outside:
        if highest(over, middle) == limit:
            inside = middle
        else:
            outside = middle
    return outside
