"""What paired differences say, whatever their distribution: Wilcoxon's signed ranks, exactly.

Source: Wilcoxon, "Individual comparisons by ranking methods", 1945; the estimate and its bounds
are those of Hodges and Lehmann, "Estimates of location based on rank tests", 1963.
"""

import math
import statistics
from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement
from typing import Final

MOST_EXACT: Final = 60
"""Above so many values the normal approximation errs by less than anybody can see."""

_DIGITS: Final = 9
"""Logarithms that agree so far are ties: what is beyond is rounding of the clock's ticks."""


def p_above(values: Sequence[float], center: float) -> float:
    """Return the one-sided p of values so far above `center` if they lay around it.

    Ties get middle ranks, and values at `center` no sign; the distribution is exact given those.
    """
    shifted = sorted((round(value - center, _DIGITS) for value in values), key=abs)
    ranks, above = [], 0
    start = 0
    while start < len(shifted):
        end = start
        while end < len(shifted) and abs(shifted[end]) == abs(shifted[start]):
            end += 1
        rank = start + end + 1  # twice the middle rank, so that it is a whole number
        if shifted[start] != 0:
            ranks += [rank] * (end - start)
            above += rank * sum(value > 0 for value in shifted[start:end])
        start = end
    if not ranks:
        return 1.0
    if len(ranks) > MOST_EXACT:
        spread = math.sqrt(sum(rank**2 for rank in ranks)) / 2
        return statistics.NormalDist(sum(ranks) / 2, spread).cdf(sum(ranks) - above + 1)
    return _tails(tuple(ranks))[above]


@cache
def _tails(ranks: tuple[int, ...]) -> list[float]:
    """Return for each sum the probability that ranks with random signs reach it."""
    ways = [1]
    for rank in ranks:
        longer = ways + [0] * rank
        for total, count in enumerate(ways):
            longer[total + rank] += count
        ways = longer
    tails, reached = [], 0
    for count in reversed(ways):
        reached += count
        tails.append(reached / 2 ** len(ranks))
    return tails[::-1]


def walsh_averages(values: Sequence[float]) -> list[float]:
    """Return the means of all pairs of values, each with itself too, sorted."""
    return sorted((a + b) / 2 for a, b in combinations_with_replacement(sorted(values), 2))


def bounds(averages: Sequence[float], count: int, level: float) -> tuple[float, float]:
    """Return the one-sided lower and upper bounds at `level`; infinite where none can be given.

    `averages` are the Walsh averages of `count` values.
    """
    outside = _outside(count, level)
    if outside < 0:
        return -math.inf, math.inf
    return averages[outside], averages[-1 - outside]


@cache
def _outside(count: int, level: float) -> int:
    """Return the largest rank sum whose lower tail is at most `level`; -1: even 0 is likelier."""
    if count > MOST_EXACT:
        middle = count * (count + 1) / 4
        spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
        return math.floor(statistics.NormalDist(middle, spread).inv_cdf(level)) - 1
    tails = _tails(tuple(range(1, count + 1)))
    # The distribution is symmetric: the lower tail of a sum is the upper tail of its mirror.
    return sum(tail <= level for tail in tails) - 1
