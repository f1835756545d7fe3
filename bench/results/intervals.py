"""What a repeat of the whole run would print: intervals from blocks.

The unit of replication is the block, a fresh process: samples of one process share its memory
layout and the machine's state of the moment. A run has few blocks, so a case's own variance is
known badly; the cases of a run resemble each other, so their variances are shrunk towards the
common one (Smyth, "Linear models and empirical Bayes methods", 2004). A case that is wilder than
the others keeps its own variance and does not widen theirs (Phipson et al., "Robust
hyperparameter estimation protects against hypervariable genes", 2016); the common variance is
fitted to quartiles, which up to a quarter of wild cases cannot move far.
"""

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

LEVEL: Final = 0.975
FEWEST_CASES: Final = 4
"""Quartiles of fewer variances say nothing; each case then stands for itself."""

LEAST_PRIOR_FREEDOM: Final = 0.3
MOST_PRIOR_FREEDOM: Final = 50.0
"""Few variances never prove that all cases have the same one."""

MANY_SAMPLES: Final = 4

MOST_REACH: Final = math.log(1000)
"""A factor of 1000 either way says that nothing is known; beyond it numbers would overflow."""

LONGEST: Final = 1e12
"""The longest time that a run file holds, in seconds."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Center:
    """A median over blocks with its 95% interval; None where one block tells nothing."""

    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Spread:
    """The variance of a case's log times between blocks, and its degrees of freedom."""

    variance: float
    freedom: float


def intervals(blocks: Mapping[Key, Sequence[Sequence[float]]]) -> dict[Key, Center]:
    """Return the interval of every case from the samples of each of its blocks, in seconds."""
    spreads = {
        key: Spread(
            statistics.variance(math.log(statistics.median(samples)) for samples in found),
            len(found) - 1,
        )
        for key, found in blocks.items()
        if len(found) > 1
    }
    shrunk = dict(zip(spreads, shrink(list(spreads.values())), strict=True))
    return {key: _center(found, shrunk.get(key)) for key, found in blocks.items()}


def _center(blocks: Sequence[Sequence[float]], spread: Spread | None) -> Center:
    middle = statistics.median(sample for samples in blocks for sample in samples)
    if spread is None:
        return Center(middle, None, None)
    # The median of many samples in each of the blocks varies as the mean of the blocks does.
    many = min(map(len, blocks)) >= MANY_SAMPLES
    share = 1 / len(blocks) if many else median_variance(len(blocks))
    # Both this run and its repeat have so many blocks.
    deviation = math.sqrt(2 * spread.variance * share)
    reach = min(_t_quantile(spread.freedom) * deviation, MOST_REACH)
    return Center(
        middle,
        max(middle * math.exp(-reach), math.ulp(0.0)),
        min(middle * math.exp(reach), LONGEST),
    )


def median_variance(count: int) -> float:
    """Return the variance of the median of `count` normal values of variance 1.

    Exact for small counts (order statistics); for many nearly pi / 2 / count.
    """
    exact = {1: 1.0, 2: 0.5, 3: 0.4487, 4: 0.2982, 5: 0.2868, 6: 0.2147, 7: 0.2104, 8: 0.1682}
    # The mean of two middle values varies less than one middle value.
    return exact.get(count, math.pi / 2 / (count + (0.45 if count % 2 else 1.4)))


def shrink(spreads: Sequence[Spread]) -> list[Spread]:
    """Return what is known about each case's variance, given those of all the others."""
    prior = common_spread(spreads)
    pooled = sum(spread.freedom for spread in spreads)
    found = []
    for spread, share in zip(spreads, _belonging(spreads, prior), strict=True):
        borrowed = share * prior.freedom
        total = borrowed + spread.freedom
        variance = (borrowed * prior.variance + spread.freedom * spread.variance) / total
        # The common variance is itself known no better than all blocks together tell it.
        found.append(Spread(variance, min(total, pooled)))
    return found


def common_spread(spreads: Sequence[Spread]) -> Spread:
    """Return the common variance and how many degrees of freedom it is worth; 0: none.

    The ratio of a case's variance to the common one is distributed as F; its quartiles are
    matched to those of the cases.
    """
    from scipy.special import fdtri

    if len(spreads) < FEWEST_CASES:
        return Spread(0.0, 0.0)
    low, middle, high = statistics.quantiles((s.variance for s in spreads), method="inclusive")
    if low <= 0:
        return Spread(middle, 0.0)
    own = statistics.median(s.freedom for s in spreads)
    target = math.log(high / low)
    least, most = math.log(LEAST_PRIOR_FREEDOM), math.log(MOST_PRIOR_FREEDOM)
    for _ in range(30):  # the more freedom, the closer the quartiles: bisect
        guess = (least + most) / 2
        prior = math.exp(guess)
        if math.log(fdtri(own, prior, 0.75) / fdtri(own, prior, 0.25)) > target:
            least = guess
        else:
            most = guess
    freedom = math.exp((least + most) / 2)
    return Spread(middle / float(fdtri(own, freedom, 0.5)), freedom)


def _belonging(spreads: Sequence[Spread], prior: Spread) -> list[float]:
    """Return how far each case is one of the others, from 1 down to 0 for a wild one.

    A variance is wild if it is less probable than the largest of so many would be.
    """
    from scipy.special import fdtrc

    if not prior.freedom:
        return [0.0] * len(spreads)
    tails = [float(fdtrc(s.freedom, prior.freedom, s.variance / prior.variance)) for s in spreads]
    shares = [1.0] * len(spreads)
    share = 0.0
    for rank, case in enumerate(sorted(range(len(spreads)), key=tails.__getitem__)):
        expected = (rank + 0.5) / len(spreads)
        share = max(share, min(1.0, tails[case] / expected))
        shares[case] = share
    return shares


def _t_quantile(freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, LEVEL))
