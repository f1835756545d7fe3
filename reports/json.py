"""One record per case and metric as JSON, for other programs."""

import json
from collections.abc import Sequence

from bench.report import RECORD_FIELDS, ComparisonReport, Document, Report, Request
from bench.results.networks import totals
from bench.results.schema import Run
from bench.results.table import long_records

SCHEMA = 1


def asked(runs: Sequence[Run], request: Request) -> list[Run]:
    """Return the runs with the cases that were asked for, then the whole networks among them."""
    found = [(run.header, request.measurements(run)) for run in runs]
    return [Run(header, [*cases, *totals(cases)]) for header, cases in found]


def render(runs: Sequence[Run], request: Request) -> str:
    """Return `{"schema": 1, "records": [...]}`, a record on each line, keys in a fixed order."""
    records = ",\n".join(_json(record) for record in long_records(asked(runs, request)))
    return f'{{"schema": {SCHEMA}, "records": [\n{records}\n]}}\n'


def _json(record: object) -> str:
    # Every other control character is escaped already; DEL alone passes as ASCII.
    return json.dumps(record, allow_nan=False).replace("\x7f", "\\u007f")


REPORT = Report(
    name="json",
    summary="one record per case and metric in SI units, for other programs",
    render=render,
)


def render_comparison(document: Document, _request: Request) -> str:
    """Return `{"schema", "sentences", "warnings", "remarks", "records"}`, a record on each line."""
    texts = ", ".join(
        f'"{name}": {_json(list(getattr(document, name)))}'
        for name in ("sentences", "warnings", "remarks")
    )
    records = ",\n".join(
        _json({name: record.get(name) for name in RECORD_FIELDS})
        for table in document.tables
        for record in table.records
    )
    return f'{{"schema": {SCHEMA}, {texts}, "records": [\n{records}\n]}}\n'


COMPARISON = ComparisonReport(
    name="json",
    summary="every number as a record in SI units, with what is said, for other programs",
    render=render_comparison,
    is_for_programs=True,
)
