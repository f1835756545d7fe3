"""A run as pytest-benchmark writes it, for `pytest-benchmark compare` and what reads such files.

github-action-benchmark (tool `pytest`) and Bencher (adapter `python_pytest`) read it, too.
"""

import json
import statistics
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.errors import RequestError
from bench.report import Report, Request
from bench.results.schema import Measurement, Run
from bench.text import plain

FORMAT: Final = "5.1.0"
"""The version of pytest-benchmark whose fields these are."""


def render(runs: Sequence[Run], request: Request) -> str:
    """Return one run; cases without samples are named under `bench`, which readers pass over."""
    if len(runs) > 1:
        raise RequestError(
            f"--as pytest-benchmark: {len(runs)} runs, but such a file holds one; write each to a"
            " file of its own, then: pytest-benchmark compare FILE FILE"
        )
    (run,) = runs
    header = run.header
    samples = {m.key: _samples(m) for m in request.measurements(run)}
    asked = request.measurements(run)
    content = {
        "machine_info": _machine_info(header.label, header.machine),
        "commit_info": _commit_info(header.machine),
        "benchmarks": [_benchmark(m, samples[m.key]) for m in asked if samples[m.key]],
        "datetime": plain(header.started),
        "version": FORMAT,
        "bench": {
            "run_id": plain(header.id),
            "bench_version": plain(header.bench_version),
            "left_out": [_left_out(m) for m in asked if not samples[m.key]],
        },
    }
    return _json(content)


def _samples(m: Measurement) -> list[float]:
    """Return the samples that the median of `m` is made of."""
    if m.status != "ok" or m.seconds is None:
        return []
    return [second for block in m.blocks for second in block.quiet_seconds()]


def _left_out(m: Measurement) -> dict[str, str | None]:
    reason = m.reason or ("no samples are stored" if m.status == "ok" else None)
    return {
        "suite": plain(m.suite),
        "id": plain(m.id),
        "status": m.status,
        "reason": None if reason is None else plain(reason),
    }


def _benchmark(m: Measurement, samples: Sequence[float]) -> dict[str, Any]:
    """Return one case; cases of the same work share a group, in which tools compare them."""
    work, cold = m.work
    return {
        "group": plain(f"{m.suite}: {work}{', caches emptied' if cold else ''}"),
        "name": plain(m.id),
        "fullname": plain(f"{m.suite}::{m.id}"),
        "params": {
            **{plain(dim): value for dim, value in m.sizes.items()},
            "phase": plain(m.phase),
            "dtype": plain(m.dtype),
            "backend": plain(m.place),
        },
        "param": plain(m.size),
        "extra_info": {
            "workload_version": m.workload_version,
            "input_digest": None if m.input_digest is None else plain(m.input_digest),
            "verified": None if m.verified is None else plain(m.verified),
            "blocks": len(m.blocks),
            "interval": [m.seconds.low, m.seconds.high] if m.seconds else None,
        },
        "options": {},
        "stats": {
            **stats(samples),
            "data": list(samples),
            "iterations": statistics.median_low(b.calls_per_sample for b in m.blocks),
        },
    }


def stats(samples: Sequence[float]) -> dict[str, Any]:
    """Return what pytest-benchmark derives from `samples`, by its definitions, in seconds."""
    ordered = sorted(samples)
    mean = statistics.mean(ordered)
    deviation = statistics.stdev(ordered) if len(ordered) > 1 else 0
    low, high = _quartiles(ordered)
    reach = 1.5 * (high - low)
    beyond_deviation = _outside(ordered, mean - deviation, mean + deviation)
    beyond_fences = _outside(ordered, low - reach, high + reach)
    total = sum(ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(ordered),
        "median": statistics.median(ordered),
        "iqr": high - low,
        "q1": low,
        "q3": high,
        "iqr_outliers": beyond_fences,
        "stddev_outliers": beyond_deviation,
        "outliers": f"{beyond_deviation};{beyond_fences}",
        # Rounding may put the quartile of equal samples above them all.
        "ld15iqr": ordered[min(bisect_left(ordered, low - reach), len(ordered) - 1)],
        "hd15iqr": ordered[max(bisect_right(ordered, high + reach) - 1, 0)],
        # Times near the smallest float would give an infinite rate, which JSON has not.
        "ops": min(len(ordered) / total, sys.float_info.max),
        "total": total,
    }


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    """Return the lower and the upper quartile: methods 2 and 3 of Wikipedia's "Quartile"."""
    count = len(ordered)
    if count == 1:
        return ordered[0], ordered[0]
    n, rest = divmod(count, 4)
    if rest == 1:
        return (
            0.25 * ordered[n - 1] + 0.75 * ordered[n],
            0.75 * ordered[3 * n] + 0.25 * ordered[3 * n + 1],
        )
    if rest == 3:
        return (
            0.75 * ordered[n] + 0.25 * ordered[n + 1],
            0.25 * ordered[3 * n + 1] + 0.75 * ordered[3 * n + 2],
        )
    half = count // 2
    return statistics.median(ordered[:half]), statistics.median(ordered[half:])


def _outside(samples: Sequence[float], low: float, high: float) -> int:
    return sum(sample < low or sample > high for sample in samples)


def _machine_info(label: str, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that pytest-benchmark has; `node` is the label, not the host's name."""
    cpu, system, python = (_group(machine, name) for name in ("cpu", "system", "python"))
    isa = cpu.get("isa")
    return {
        "node": plain(label),
        "machine": _text(cpu.get("architecture")),
        "system": _text(system.get("os")),
        "release": _text(system.get("kernel")),
        "python_version": _text(python.get("version")),
        "python_implementation": _text(python.get("implementation")),
        "python_compiler": _text(python.get("compiler")),
        "cpu": {
            "brand_raw": _text(cpu.get("model")),
            "count": cpu.get("threads_present"),
            "flags": [plain(str(name)) for name in isa] if isinstance(isa, list) else [],
        },
    }


def _commit_info(machine: Mapping[str, Any]) -> dict[str, Any]:
    git = _group(machine, "git")
    return {
        "id": _text(git.get("revision")) or "unversioned",
        "time": None,
        "author_time": None,
        "dirty": git.get("dirty"),
        "project": None,
        "branch": _text(git.get("branch")) or "(unknown)",
    }


def _group(machine: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = machine.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    return plain(value) if isinstance(value, str) else None


def _json(content: object) -> str:
    # Every other control character is escaped already; DEL alone passes as ASCII.
    text = json.dumps(content, allow_nan=False, indent=1)
    return text.replace("\x7f", "\\u007f") + "\n"


REPORT = Report(
    name="pytest-benchmark",
    summary="a run as pytest-benchmark writes it, for tools that read its files",
    render=render,
)
