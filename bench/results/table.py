"""Runs as tables: `table`, one row per case for pandas; `long_records`, one per case and metric.

All values are in SI base units, as in the run file. An unknown value is missing, never 0.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench.comparing.speedup import Ratio, Speedup, speedups
from bench.results.schema import Interval, Measurement, Run

if TYPE_CHECKING:
    import pandas

TEXT_COLUMNS: Final = (
    "run_id",
    "label",
    "suite",
    "id",
    "workload",
    "size",
    "phase",
    "dtype",
    "backend",
    "variant",
    "model",
    "device",
    "status",
    "reason",
    "verified",
    "input_digest",
    "flags",
    "speedup_over",
    "speedup_with_transfers_over",
)
COUNT_COLUMNS: Final = (
    "workload_version",
    "batch",
    "threads",
    "concurrency",
    "flops",
    "bytes_moved",
    "effective_batch",
    "peak_bytes",
    "blocks",
    "samples",
)
UNITS: Final = {
    "seconds": "s",
    "host_seconds": "s",
    "device_seconds": "s",
    "end_to_end_seconds": "s",
    "first_call_seconds": "s",
    "samples_per_second": "samples/s",
    "latency_p50": "s",
    "latency_p90": "s",
    "latency_p99": "s",
    "latency_p999": "s",
    "latency_jitter": "s",
    "requests_per_second": "1/s",
    "flops_per_second": "FLOP/s",
    "bytes_per_second": "B/s",
    "effective_batch": "samples",
    "peak_bytes": "B",
    "energy_joules": "J",
    "relative_error": "1",
    "speedup": "1",
    "speedup_with_transfers": "1",
}
"""The metrics of the long form, in their order."""

LATENCY: Final = {
    "latency_p50": "p50",
    "latency_p90": "p90",
    "latency_p99": "p99",
    "latency_p999": "p999",
    "latency_jitter": "jitter",
    "requests_per_second": "requests_per_second",
}
"""The metrics of what clients see, with their names in the run file."""

LONG_COLUMNS: Final = (
    "run_id",
    "label",
    "started",
    "suite",
    "id",
    "workload",
    "size",
    "batch",
    "phase",
    "dtype",
    "backend",
    "variant",
    "threads",
    "device",
    "status",
    "reason",
    "metric",
    "unit",
    "value",
    "low",
    "high",
    "workload_version",
    "input_digest",
)
"""New columns come last; a run, suite, id and metric stand in one row only."""


def table(runs: Sequence[Run]) -> "pandas.DataFrame":
    """Return one row per case and run, in the order of the runs.

    Each dimension of a size is a column of its own, `dim_n`, `dim_channels`, missing where a
    workload has no such dimension. `first_call_seconds` is the median over the blocks; `flags` are
    joined by commas. `speedup` is that of a GPU over the best CPU of its run, whose id is
    `speedup_over`. Columns are nullable: `string`, `Int64` or `Float64`.
    """
    import pandas

    rows = [_row(run, m, found) for run in runs for m, found in _with_speedups(run)]
    dims = sorted({f"dim_{dim}" for run in runs for m in run.measurements for dim in m.sizes})
    columns = _columns(dims)
    # The storage is named, because the default depends on whether pyarrow is installed.
    types: dict[str, Any] = {"string": pandas.StringDtype("python")}
    return pandas.DataFrame(
        {
            name: pandas.array([row.get(name) for row in rows], dtype=types.get(kind, kind))
            for name, kind in columns.items()
        }
    )


class LoadedRun(Run):
    """A run as `bench.load` returns it."""

    @classmethod
    def of(cls, run: Run) -> "LoadedRun":
        """Return the same run, with its table."""
        return cls(**vars(run))

    def table(self) -> "pandas.DataFrame":
        """Return a tidy pandas DataFrame, one row per case; units as in the file."""
        return table([self])


def _columns(dims: Sequence[str]) -> dict[str, str]:
    """Return the names of the columns, in their order, with their types."""
    order = (
        *("run_id", "label", "suite", "id", "workload", "workload_version", "size", *dims),
        *("batch", "phase", "dtype", "backend", "variant", "model", "threads", "device"),
        *("concurrency", "rate"),
        *("status", "reason", "seconds", "seconds_low", "seconds_high", "seconds_min"),
        *("host_seconds", "host_seconds_low", "host_seconds_high"),
        *("device_seconds", "device_seconds_low", "device_seconds_high"),
        *("end_to_end_seconds", "end_to_end_seconds_low", "end_to_end_seconds_high"),
        *(f"{name}{end}" for name in LATENCY for end in ("", "_low", "_high")),
        *("first_call_seconds", "samples_per_second"),
        *("samples_per_second_low", "samples_per_second_high", "effective_batch"),
        *("flops", "flops_per_second", "bytes_moved", "bytes_per_second"),
        *("peak_bytes", "energy_joules", "relative_error", "verified", "input_digest"),
        *("blocks", "samples", "flags"),
        *("speedup", "speedup_low", "speedup_high", "speedup_over"),
        *("speedup_with_transfers", "speedup_with_transfers_low", "speedup_with_transfers_high"),
        "speedup_with_transfers_over",
    )
    counts = {*COUNT_COLUMNS, *dims}
    return {
        name: "string" if name in TEXT_COLUMNS else "Int64" if name in counts else "Float64"
        for name in order
    }


def _with_speedups(run: Run) -> Iterator[tuple[Measurement, Speedup | None]]:
    found = {pair.gpu.key: pair for pair in speedups(run.measurements)}
    for m in run.measurements:
        yield m, found.get(m.key)


def _row(run: Run, m: Measurement, found: Speedup | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        **{name: getattr(m, name, None) for name in (*TEXT_COLUMNS, *COUNT_COLUMNS)},
        "run_id": run.header.id,
        "label": run.header.label,
        "flags": ", ".join(m.flags),
        "blocks": len(m.blocks),
        "samples": sum(len(block.seconds) for block in m.blocks),
        "rate": m.rate,
        "seconds_min": m.seconds.min if m.seconds else None,
        "speedup_over": found.cpu.id if found else None,
        "speedup_with_transfers_over": found.cpu_host.id if found and found.cpu_host else None,
        **{f"dim_{dim}": value for dim, value in m.sizes.items()},
    }
    for name in UNITS:
        row[name], row[f"{name}_low"], row[f"{name}_high"] = _metric(m, name, found)
    return row


def long_records(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return one flat record per case and metric, in the order of the runs and of `UNITS`.

    A case without any number has one record whose metric, unit and value are None, so that no
    case is absent. `low` and `high` are the 95% interval, where the metric has one.
    """
    return [
        {
            **{name: getattr(m, name, None) for name in LONG_COLUMNS},
            "run_id": run.header.id,
            "label": run.header.label,
            "started": run.header.started,
            **dict(zip(("metric", "unit", "value", "low", "high"), values, strict=True)),
        }
        for run in runs
        for m, found in _with_speedups(run)
        for values in _metrics(m, found)
    ]


_Values = tuple[str | None, str | None, float | None, float | None, float | None]


def _metrics(m: Measurement, found: Speedup | None) -> Iterator[_Values]:
    absent = True
    for name, unit in UNITS.items():
        value, low, high = _metric(m, name, found)
        if value is not None:
            absent = False
            yield name, unit, value, low, high
    if absent:
        yield None, None, None, None, None


def _metric(
    m: Measurement, name: str, found: Speedup | None
) -> tuple[float | None, float | None, float | None]:
    """Return the value of a metric of `UNITS` with its interval."""
    if name == "speedup":
        return _ratio(found.alone if found else None)
    if name == "speedup_with_transfers":
        return _ratio(found.with_transfers if found else None)
    if name == "first_call_seconds":
        firsts = [first for b in m.blocks if (first := b.first_call_seconds) is not None]
        return (median(firsts) if firsts else None), None, None
    if name == "samples_per_second":
        return _rate(m.batch or None, m.seconds)
    if name == "flops_per_second":
        return _rate(m.flops, m.seconds)
    if name == "bytes_per_second":
        return _rate(m.bytes_moved, m.seconds)
    value = getattr(m.latency, LATENCY[name], None) if name in LATENCY else getattr(m, name)
    if isinstance(value, Interval):
        return value.median, value.low, value.high
    return value, None, None


def _ratio(ratio: Ratio | None) -> tuple[float | None, float | None, float | None]:
    return (ratio.median, ratio.low, ratio.high) if ratio else (None, None, None)


def _rate(
    amount: int | None, seconds: Interval | None
) -> tuple[float | None, float | None, float | None]:
    """Divide by the times; the longest time gives the lowest rate."""
    if amount is None or seconds is None:
        return None, None, None

    def per(time: float | None) -> float | None:
        # A time near the smallest float would give an infinite rate.
        rate = amount / time if time else None
        return rate if rate is not None and math.isfinite(rate) else None

    return per(seconds.median), per(seconds.high), per(seconds.low)
