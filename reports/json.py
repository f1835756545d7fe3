"""One record per case and metric as JSON, and where sweeps end, for other programs."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from bench.report import Report, Request
from bench.results.networks import totals
from bench.results.schema import Run
from bench.results.table import long_records

SCHEMA = 1


def asked(runs: Sequence[Run], request: Request) -> list[Run]:
    """Return the runs with the cases that were asked for, then the whole networks among them."""
    found = [(run.header, request.measurements(run)) for run in runs]
    return [Run(header, [*cases, *totals(cases)]) for header, cases in found]


def render(runs: Sequence[Run], request: Request) -> str:
    """Return `{"schema": 1, "records": [...], "limits": [...]}`, keys in a fixed order.

    Each record and each limit of a sweep over batches has a line of its own.
    """
    records = ",\n".join(_json(record) for record in long_records(asked(runs, request)))
    limits = ",".join(f"\n{_json(limit)}" for run in runs for limit in _limits(run, request))
    limits += "\n" if limits else ""
    return f'{{"schema": {SCHEMA}, "records": [\n{records}\n], "limits": [{limits}]}}\n'


def _limits(run: Run, request: Request) -> list[dict[str, Any]]:
    """Return where the sweeps of the cases that were asked for end."""
    sweeps = {(m.suite, m.sweep) for m in request.measurements(run)}
    return [
        {"run_id": run.header.id, "label": run.header.label, **msgspec.structs.asdict(limit)}
        for limit in run.limits
        if limit.key in sweeps
    ]


def _json(record: object) -> str:
    # Every other control character is escaped already; DEL alone passes as ASCII.
    return json.dumps(record, allow_nan=False).replace("\x7f", "\\u007f")


REPORT = Report(
    name="json",
    summary="one record per case and metric in SI units, and where sweeps end, for programs",
    render=render,
)
