"""What a repeat of the whole run would print: intervals from blocks.

The unit of replication is the block, a fresh process: samples of one process share its memory
layout and the machine's state of the moment. A run has few blocks, so a case's own variance is
known badly; the cases of a run resemble each other, so their variances are shrunk towards the
common one (Smyth, "Linear models and empirical Bayes methods", 2004, section 6.2).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LEVEL: Final = 0.975
MOST_PRIOR_FREEDOM: Final = 50.0


@dataclass(frozen=True)
class Center:
    """A median over blocks with its 95% interval; None where one block tells nothing."""

    median: float
    low: float | None
    high: float | None


def intervals(blocks: Mapping[Any, Sequence[float]]) -> dict[Any, Center]:
    """Return the interval of every case from the medians of its blocks, in seconds."""
    logs = {key: [math.log(m) for m in medians] for key, medians in blocks.items()}
    spreads = {
        key: (statistics.variance(values), len(values) - 1)
        for key, values in logs.items()
        if len(values) > 1
    }
    prior, freedom = prior_variance(list(spreads.values()))
    found = {}
    for key, medians in blocks.items():
        middle = statistics.median(medians)
        if key not in spreads:
            found[key] = Center(middle, None, None)
            continue
        variance, own = spreads[key]
        shrunk = (freedom * prior + own * variance) / (freedom + own)
        # Both this run and its repeat are medians of so many blocks.
        count = own + 1
        reach = _t_quantile(freedom + own) * math.sqrt(2 * shrunk * median_variance(count))
        found[key] = Center(middle, middle * math.exp(-reach), middle * math.exp(reach))
    return found


def median_variance(count: int) -> float:
    """Return the variance of the median of `count` normal values of variance 1.

    Exact for small counts (order statistics); pi / 2 / count for many.
    """
    exact = {1: 1.0, 2: 0.5, 3: 0.4487, 4: 0.2982, 5: 0.2868, 6: 0.2147, 7: 0.2104, 8: 0.1682}
    return exact.get(count, math.pi / 2 / (count + 0.5))


def prior_variance(spreads: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Return the common variance and how many degrees of freedom it is worth.

    `spreads` holds each case's variance and its degrees of freedom. Fits the scaled inverse
    chi-square prior to the logarithms of the variances by their first two moments.
    """
    from scipy.special import polygamma

    usable = [(math.log(v), d) for v, d in spreads if v > 0]
    if len(usable) < 3:
        return (statistics.fmean(v for v, _ in spreads) if spreads else 0.0), 0.0
    centred = [z - float(polygamma(0, d / 2)) + math.log(d / 2) for z, d in usable]
    mean = statistics.fmean(centred)
    excess = statistics.variance(centred) - statistics.fmean(
        float(polygamma(1, d / 2)) for _, d in usable
    )
    freedom = MOST_PRIOR_FREEDOM
    if excess > 0:
        freedom = min(freedom, 2 * _inverse_trigamma(excess))
    common = math.exp(mean + float(polygamma(0, freedom / 2)) - math.log(freedom / 2))
    return common, freedom


def _inverse_trigamma(value: float) -> float:
    """Solve polygamma(1, x) = value by Newton's method (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x


def _t_quantile(freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, LEVEL))
