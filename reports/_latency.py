"""What the table and the Markdown report show of requests to a service, as cells."""

from collections.abc import Sequence
from statistics import median

from bench import units
from bench.results.schema import Interval, Measurement

COLUMNS = (
    *("size", "backend", "p50", "p99", "95% interval", "p99.9", "jitter", "requests/s"),
    *("first request", "vs best", "notes"),
)
RIGHT = frozenset(range(2, 10))
"""The columns that hold numbers."""

FEW = (
    "p90 needs 10 requests, p99 needs 100 and p99.9 needs 10,000 (-): the run file says how each"
    " case would have them"
)


def numbers(m: Measurement) -> list[str]:
    """Return the cells from p50 to the first request; a status stands in place of the interval."""
    if m.status != "ok" or m.latency is None:
        said = m.status.replace("_", " ") if m.status != "ok" else "no request"
        return ["-", "-", said, "-", "-", "-", "-"]
    told = m.latency
    interval = "-"
    if told.p99 is not None:
        interval = units.seconds_interval(told.p99.low, told.p99.high)
        interval = "one block" if told.p99.low is None else interval
    served = told.requests_per_second
    firsts = [first for b in m.blocks if (first := b.first_call_seconds) is not None]
    return [
        *(_seconds(told.p50), _seconds(told.p99), interval, _seconds(told.p999)),
        _seconds(told.jitter),
        units.significant(served.median) if served else "-",
        units.seconds(median(firsts) if firsts else None),
    ]


def same_load(m: Measurement, others: Sequence[Measurement]) -> list[Interval]:
    """Return the medians of the cases that serve as many clients at the same rate."""
    return [
        other.latency.p50
        for other in others
        if other.status == "ok" and other.latency and other.latency.p50
        if (other.concurrency, other.rate) == (m.concurrency, m.rate)
    ]


def few(measurements: Sequence[Measurement]) -> list[str]:
    """Say why a percentile is missing, if one is."""
    told = [m.latency for m in measurements if m.latency is not None]
    return [FEW] if any(None in (t.p50, t.p90, t.p99, t.p999) for t in told) else []


def _seconds(value: Interval | None) -> str:
    return units.seconds(value.median if value else None)
