"""One line per case and metric, for spreadsheets and other programs.

As RFC 4180, but lines end with a line feed alone, so that line tools and version control see
ordinary lines. Texts are made harmless twice over: what has no glyph is escaped, so that a record
never spans lines, and a text that a spreadsheet would run as a formula begins with an apostrophe.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any

from bench.report import RECORD_FIELDS, ComparisonReport, Document, Report, Request
from bench.results.schema import Run
from bench.results.table import LONG_COLUMNS, long_records
from bench.text import plain

from .json import asked

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # noqa: RUF001 (full-width)


def render(runs: Sequence[Run], request: Request) -> str:
    """Return the long form with a header; an unknown value is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(LONG_COLUMNS)
    for record in long_records(asked(runs, request)):
        writer.writerow([_cell(record[name]) for name in LONG_COLUMNS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return f"'{plain(value)}" if value.startswith(_FORMULA) else plain(value)


REPORT = Report(
    name="csv",
    summary="one line per case and metric in SI units, for spreadsheets",
    render=render,
)


def render_comparison(document: Document, _request: Request) -> str:
    """Return every number of a comparison on a line, with the warnings and remarks after them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(RECORD_FIELDS)
    for table in document.tables:
        for record in table.records:
            writer.writerow([_cell(record.get(name)) for name in RECORD_FIELDS])
    for kind in ("warnings", "remarks"):
        for text in getattr(document, kind):
            said = {"table": kind, "note": text}
            writer.writerow([_cell(said.get(name)) for name in RECORD_FIELDS])
    return out.getvalue()


COMPARISON = ComparisonReport(
    name="csv",
    summary="one line per number in SI units, for spreadsheets",
    render=render_comparison,
    is_for_programs=True,
)
