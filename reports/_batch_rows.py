"""What the table and the Markdown report show of a sweep over batches."""

from collections.abc import Mapping
from typing import Final

from bench import units
from bench.comparing.batches import is_swept, throughput
from bench.results.schema import LimitLine, Measurement

COLUMNS: Final = (
    *("size", "backend", "samples/s", "95% interval", "time", "memory", "vs best", "error"),
    "notes",
)
RIGHT: Final = frozenset({2, 3, 4, 5, 6, 7})
"""The columns that hold numbers."""
END: Final = "memory ends here"

Limits = Mapping[tuple[str, str], LimitLine]
"""Where the sweeps of a run end, by suite and sweep."""


def is_end(m: Measurement) -> bool:
    """Tell whether memory ran out at this batch, which is how a sweep ends and not a fault."""
    return is_swept(m) and m.status == "out_of_memory"


def numbers(m: Measurement) -> list[str]:
    """Return throughput, its interval, the time of a call and the peak memory of a timed case."""
    rate = throughput(m)
    if rate is None or m.seconds is None:
        return ["-"] * 4
    interval = "-"
    if rate.low is not None and rate.high is not None:
        interval = units.count_interval(rate.low, rate.high)
    elif len(m.blocks) == 1:
        interval = "one block"
    time, memory = units.seconds(m.seconds.median), units.size(m.peak_bytes)
    return [units.count(rate.median), interval, time, memory]


def notes(m: Measurement, limits: Limits) -> list[str]:
    """Say what still fits where memory ends, and a batch that is not what its label says."""
    found = []
    if m.effective_batch is not None and m.effective_batch != m.batch:
        found.append(f"computed batch {m.effective_batch:,}")
    if is_end(m):
        limit = limits.get((m.suite, m.sweep))
        if limit is None:
            found.append(m.reason or "no reason recorded")
        elif limit.largest_batch:
            found.append(f"largest usable batch {limit.largest_batch:,}")
            if (limit.failing_batch or 0) - limit.largest_batch > 1:
                found[-1] += f" ({limit.failing_batch:,} does not fit)"
        else:
            found.append("no batch fits")
    return found
