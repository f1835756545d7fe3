"""Percentiles of what requests took: from the blocks of all cases to what clients see."""

import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Final, TypeVar

from bench.measuring.serving import MOST_REQUESTS, SAMPLED_SHARE
from bench.results.intervals import intervals
from bench.results.schema import Block, Interval, Latency

PERCENTILES: Final = {
    "p50": (0.5, 1),
    "p90": (0.9, 10),
    "p99": (0.99, 100),
    "p999": (0.999, 10_000),
}
"""Each with the requests that it needs. Of 100, one is beyond p99; of 10,000, ten are beyond p99.9,
which fewer would leave to chance."""
NO_REQUEST: Final = (
    "no request was answered in the time: a higher --rate, or a larger --max-seconds"
)
ALIKE: Final = "no request took longer than another by this clock"

Key = TypeVar("Key", bound=Hashable)


def latencies(
    blocks: Mapping[Key, Sequence[Block]],
) -> dict[Key, tuple[Latency | None, dict[str, str]]]:
    """Return what the clients of each case saw, and why what is null in it is so, by its name.

    All requests count, those of disturbed moments too: a tail must not be cut. A percentile is that
    of the requests of all blocks together (nearest rank). Its interval follows from the percentiles
    of the single blocks as that of a time does, and is widened to hold the pooled value where that
    lies outside.
    """
    served = {
        key: [block for block in found if block.request_seconds and block.serving_seconds > 0]
        for key, found in blocks.items()
    }
    some = {key: found for key, found in served.items() if found}
    told = {
        name: _told(some, partial(percentile, share=share), needed)
        for name, (share, needed) in PERCENTILES.items()
    }
    told["jitter"] = _told(some, jitter, 2)
    rates = {
        key: [[len(block.request_seconds) / block.serving_seconds] for block in found]
        for key, found in some.items()
    }
    per_second = {
        key: _interval(center.median, center.low, center.high, [rate for (rate,) in rates[key]])
        for key, center in intervals(rates).items()
    }
    summaries: dict[Key, tuple[Latency | None, dict[str, str]]] = {}
    for key, found in served.items():
        if not found:
            summaries[key] = None, {"latency": NO_REQUEST}
            continue
        values = {name: by_case.get(key) for name, by_case in told.items()}
        requests = sum(len(block.request_seconds) for block in found)
        summaries[key] = (
            Latency(requests=requests, requests_per_second=per_second[key], **values),
            {
                f"latency.{name}": _why(name, found)
                for name, value in values.items()
                if value is None
            },
        )
    return summaries


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of `values` that at least `share` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]


def jitter(requests: Sequence[float]) -> float:
    """Return the mean difference between one request and the next (RFC 3550, 6.4.1, unsmoothed)."""
    return statistics.fmean(abs(later - sooner) for sooner, later in pairwise(requests))


def _told(
    blocks: Mapping[Key, Sequence[Block]],
    tell: Callable[[Sequence[float]], float],
    needed: int,
) -> dict[Key, Interval]:
    """Return a statistic of every case that has enough requests and where it is not 0."""
    pooled: dict[Key, float] = {}
    single: dict[Key, list[list[float]]] = {}
    for key, found in blocks.items():
        requests = [second for block in found for second in block.request_seconds]
        if len(requests) < needed or (value := tell(requests)) <= 0:
            continue
        of_blocks = [tell(b.request_seconds) for b in found if len(b.request_seconds) > 1]
        pooled[key] = value
        single[key] = [[own] for own in of_blocks if own > 0] or [[value]]
    return {
        key: _interval(pooled[key], center.low, center.high, [own for (own,) in single[key]])
        for key, center in intervals(single).items()
    }


def _interval(
    value: float, low: float | None, high: float | None, of_blocks: Sequence[float]
) -> Interval:
    return Interval(
        median=value,
        low=None if low is None else min(low, value),
        high=None if high is None else max(high, value),
        min=min(value, *of_blocks),
    )


def _why(name: str, blocks: Sequence[Block]) -> str:
    """Say how many requests a statistic lacks, and how a run would have them."""
    requests = sum(len(block.request_seconds) for block in blocks)
    needed = PERCENTILES[name][1] if name in PERCENTILES else 2
    if requests >= needed:
        return ALIKE
    more = f"--blocks {math.ceil(len(blocks) * needed / requests):,}"
    if needed <= MOST_REQUESTS * len(blocks):
        served = statistics.fmean(block.serving_seconds for block in blocks)
        longer = served / (1 - SAMPLED_SHARE) * needed / requests
        more = f"--max-seconds {max(1, math.ceil(longer)):,} or {more}"
    return f"{requests:,} requests; {needed:,} are needed: about {more}"
