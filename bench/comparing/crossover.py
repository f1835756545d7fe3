"""From which size a GPU is faster than the best CPU."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from bench.comparing.speedup import Ratio, geometric_mean

Range = tuple[float, float]
Kind = Literal["from", "until", "always", "never", "several"]
Doubt = Literal["between", "nowhere", "unknown"]


@dataclass(frozen=True)
class Crossover:
    """Where the speedup passes 1, among the sizes measured: `smallest` to `largest`.

    `at` is None unless the curve passes 1 exactly once. `doubt` says where a repeat of the run may
    find the other device faster:

    - `between` the sizes `low` and `high`; None there means that it reaches beyond the sizes
      measured, below the smallest or above the largest;
    - `nowhere`, which only `always` and `never` can be;
    - `unknown`, where a ratio has no interval.
    """

    kind: Kind
    at: float | None
    low: float | None
    high: float | None
    smallest: float
    largest: float
    doubt: Doubt
    faster: Sequence[Range]
    """The ranges of sizes in which the GPU is faster."""


def crossover(sizes: Sequence[float], ratios: Sequence[Ratio]) -> Crossover:
    """Return where the GPU is faster; sizes may come in any order, and several times.

    Between neighbouring sizes the curve is taken as straight on logarithmic axes. `low` and `high`
    are the first and the last size at which a curve within the intervals can be 1; that a curve
    bends between the sizes is not in them.
    """
    by_size: dict[float, list[Ratio]] = {}
    for size, found in sorted(zip(sizes, ratios, strict=True), key=lambda pair: pair[0]):
        by_size.setdefault(size, []).append(found)
    knots = list(by_size)
    points = [geometric_mean(found) for found in by_size.values()]
    faster = _faster(knots, [math.log(point.median) for point in points])
    kind, at = _kind(faster, knots[0], knots[-1])
    low, high, doubt = _doubt(knots, points, faster)
    return Crossover(kind, at, low, high, knots[0], knots[-1], doubt, faster)


def _faster(knots: Sequence[float], logs: Sequence[float]) -> list[Range]:
    """Return the ranges in which the curve is above 0; touching 0 does not divide a range."""
    found: list[Range] = []
    for i, j in _segments(knots):
        part = _not_below(knots[i], knots[j], logs[i], logs[j])
        if part is None:
            continue
        if found and found[-1][1] == part[0]:
            part = found.pop()[0], part[1]
        found.append(part)
    above = [knot for knot, log in zip(knots, logs, strict=True) if log > 0]
    return [(start, end) for start, end in found if any(start <= knot <= end for knot in above)]


def _kind(faster: Sequence[Range], smallest: float, largest: float) -> tuple[Kind, float | None]:
    if not faster:
        return "never", None
    (start, end), *others = faster
    if others or (start > smallest and end < largest):
        return "several", None
    if start > smallest:
        return "from", start
    return ("until", end) if end < largest else ("always", None)


def _doubt(
    knots: Sequence[float], points: Sequence[Ratio], faster: Sequence[Range]
) -> tuple[float | None, float | None, Doubt]:
    lows = [math.log(point.low) for point in points if point.low is not None]
    highs = [math.log(point.high) for point in points if point.high is not None]
    if len(lows) < len(points) or len(highs) < len(points):
        return None, None, "unknown"
    # The crossings themselves, lest rounding leaves one out.
    found = [end for ends in faster for end in ends if knots[0] < end < knots[-1]]
    for i, j in _segments(knots):
        fast = _not_below(knots[i], knots[j], highs[i], highs[j])
        slow = _not_below(knots[i], knots[j], -lows[i], -lows[j])
        if fast and slow and max(fast[0], slow[0]) <= min(fast[1], slow[1]):
            found += [max(fast[0], slow[0]), min(fast[1], slow[1])]
    if not found:
        return None, None, "nowhere"
    low, high = min(found), max(found)
    return low if low > knots[0] else None, high if high < knots[-1] else None, "between"


def _segments(knots: Sequence[float]) -> list[tuple[int, int]]:
    """Return the indices of neighbours; a knot that is alone is its own."""
    return list(pairwise(range(len(knots)))) or [(0, 0)]


def _not_below(left: float, right: float, start: float, end: float) -> Range | None:
    """Return where, from `left` to `right`, the line from `start` to `end` is not below 0."""
    if start < 0 and end < 0:
        return None
    if start >= 0 and end >= 0:
        return left, right
    crossing = left * (right / left) ** (start / (start - end))
    crossing = min(max(crossing, left), right)
    return (left, crossing) if start >= 0 else (crossing, right)
