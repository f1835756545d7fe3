"""Which samples of a duet count, and what the machine added to them, by their canaries alone.

A neighbour on the other half of a core makes everything slower by half, for a tenth of a second or
for ten, and no counter shows it; a fixed piece of work, timed around every visit, does. Nothing
here looks at which side was faster.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from statistics import fmean, median
from typing import Final

from bench.results.schema import Block

QUIET: Final = 1.15
"""A visit is quiet if its canary took at most so much longer than at the machine's best."""
BEST: Final = 0.05
"""The quantile of a case's canaries that is called the machine's best."""
LEAST_SAMPLES: Final = 5
"""A block with fewer quiet samples than these, and than half of its own, is a noisy one."""
STRETCHES: Final = 4
LEAST_POINTS: Final = 12
"""With fewer a side, nothing is known of how the canary and the times go together."""


@dataclass(frozen=True)
class Canaries:
    """What the canaries of one case tell, on one side or on both if they are the same work."""

    best: float
    """Seconds that the canary takes at the machine's best."""
    slope: float = 0.0
    """By what power of the canary's the times of quiet visits grow, from 0 to 1."""
    slope_of_all: float = 0.0
    """The same of all visits."""

    def quiet_visits(self, block: Block) -> list[int]:
        """Return the visits of a block that were quiet; none where they are too few to count."""
        quiet = [n for n, canary in enumerate(block.canary) if canary <= QUIET * self.best]
        samples = sum(block.visits[n] for n in quiet)
        return quiet if samples >= min(LEAST_SAMPLES, len(block.seconds) / 2) else []

    def seconds(self, block: Block, visits: Sequence[int]) -> float:
        """Return the median of quiet visits, as if the canary had been at its best in each."""
        return self._at_best(block, visits, self.slope)

    def seconds_of_noisy(self, block: Block) -> float:
        """Return the same for a block that was not quiet: the best that can be made of it."""
        quietest = sorted(range(len(block.canary)), key=block.canary.__getitem__)
        return self._at_best(block, quietest[: (len(quietest) + 1) // 2], self.slope_of_all)

    def _at_best(self, block: Block, visits: Sequence[int], slope: float) -> float:
        parts = _by_visit(block)
        return median(
            second * math.pow(self.best / block.canary[visit], slope)
            for visit in visits
            for second in parts[visit]
        )


def has_canaries(block: Block) -> bool:
    """Tell whether every visit of a block has samples and a canary."""
    return (
        len(block.canary) == len(block.visits) > 0
        and min(block.visits) > 0
        and sum(block.visits) == len(block.seconds)
    )


def canaries_of(
    base: Sequence[Block], head: Sequence[Block], *, is_same_work: bool
) -> tuple[Canaries, Canaries] | None:
    """Return what the canaries of both sides tell; None where a block lacks them.

    If they are the same work on both sides, by the same interpreter and libraries, they have one
    best, and what is left of their differences in quiet visits is taken out of the times. But a
    canary that the code under test slows, such as by threads that go on spinning, is no witness.
    """
    if not base or not head or not all(has_canaries(block) for block in (*base, *head)):
        return None
    own = Canaries(_best(base)), Canaries(_best(head))
    bests = own[0].best, own[1].best
    if not is_same_work or max(bests) > QUIET * min(bests):
        return own
    both = Canaries(_best([*base, *head]))
    of_quiet = _slope([_quiet_points(blocks, both) for blocks in (base, head)])
    of_all = _slope([_stretches(blocks) for blocks in (base, head)])
    return (Canaries(both.best, of_quiet, of_all),) * 2


def best_canary(canaries: Sequence[float]) -> float:
    """Return what the canary takes at the machine's best, as far as these have seen it."""
    ordered = sorted(canaries)
    return ordered[int(BEST * (len(ordered) - 1))]


def _best(blocks: Sequence[Block]) -> float:
    return best_canary([canary for block in blocks for canary in block.canary])


def _quiet_points(blocks: Sequence[Block], canaries: Canaries) -> list[tuple[float, float]]:
    """Return the logarithms of canary and time of each quiet visit of a side."""
    return [
        _point([block.canary[visit]], parts[visit])
        for block in blocks
        if (parts := _by_visit(block))
        for visit in canaries.quiet_visits(block)
    ]


def _stretches(blocks: Sequence[Block]) -> list[tuple[float, float]]:
    """Return the same of each quarter of a block.

    Between quiet and slow moments a canary is too early or too late for a single visit, and a
    slope against what is itself uncertain comes out too flat.
    """
    points = []
    for block in blocks:
        parts = _by_visit(block)
        size = -(-len(parts) // STRETCHES)
        for start in range(0, len(parts), size):
            seconds = chain.from_iterable(parts[start : start + size])
            points.append(_point(block.canary[start : start + size], list(seconds)))
    return points


def _point(canary: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    return math.log(median(canary)), math.log(median(seconds))


def _by_visit(block: Block) -> list[list[float]]:
    """Return the samples of each visit."""
    ends = [0, *accumulate(block.visits)]
    return [block.seconds[start:end] for start, end in pairwise(ends)]


def _slope(sides: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Return the common slope of the sides, each around its own middle: blind to their distance."""
    if min(map(len, sides)) < LEAST_POINTS:
        return 0.0
    squares = products = 0.0
    for points in sides:
        x, y = (fmean(values) for values in zip(*points, strict=True))
        squares += math.fsum((a - x) ** 2 for a, _ in points)
        products += math.fsum((a - x) * (b - y) for a, b in points)
    return min(1.0, max(0.0, products / squares)) if squares else 0.0
