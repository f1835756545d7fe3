"""The table in the terminal: the default way to look at a run."""

from collections.abc import Sequence, Set

import click

from bench.report import Report, Request
from bench.results.schema import FAULTS, Run
from bench.text import align, display_width, fold, plain

from . import _summary
from ._summary import COLUMNS, FASTEST, RIGHT, Section

_COLORS = {FASTEST: "green"} | {_summary.status(fault): "red" for fault in FAULTS}


def render(runs: Sequence[Run], request: Request) -> str:
    """Return the tables of each run, one run after the other."""
    return "\n\n".join(_run(run, request) for run in runs)


def _run(run: Run, request: Request) -> str:
    parts = [_lines(_summary.heading(run), request)]
    sections = _summary.sections(run, request)
    for suite in dict.fromkeys(section.suite for section in sections):
        parts.append(_suite(suite, [s for s in sections if s.suite == suite], request))
    if not sections:
        parts.append("No case has a number.\n" if run.measurements else "The run has no cases.\n")
    missing = _summary.unmeasured(run, request)
    if missing:
        lines = [_unmeasured(item, request) for item in missing]
        parts.append("Not measured:\n" + "".join(lines))
    remarks = _summary.remarks(run, request, sections)
    if remarks:
        parts.append("Remarks:\n" + _lines([f"- {r}" for r in remarks], request, "  "))
    return "\n".join(parts)


def _lines(texts: Sequence[str], request: Request, indent: str = "") -> str:
    """Put each text on lines of its own; the second and following ones are indented."""
    out = []
    for text in map(plain, texts):
        room = request.width - len(indent) if request.width else display_width(text)
        first, *rest = fold(text, max(1, room))
        out += [f"{first}\n", *(f"{indent}{line}\n" for line in rest)]
    return "".join(out)


def _suite(suite: str, sections: Sequence[Section], request: Request) -> str:
    """Lay out one suite; sizes get lines of their own where a column would not leave room."""
    headed = len(sections) > 1
    title = f"suite {suite}" if headed else f"suite {sections[0].full_title}"
    wide = _wide(sections, headed)
    table = _align(COLUMNS, wide, RIGHT, request)
    if request.width is not None and not _fits(wide, request.width):
        table = _align(COLUMNS[1:], _narrow(sections, headed), {i - 1 for i in RIGHT}, request)
    return f"{_lines([title], request)}{table}"


def _wide(sections: Sequence[Section], headed: bool) -> list[list[str]]:
    rows: list[list[str]] = []
    for section in sections:
        rows += _headline(section, first=not rows) if headed else []
        rows += [list(row) for row in section.rows]
    return rows


def _narrow(sections: Sequence[Section], headed: bool) -> list[list[str]]:
    rows: list[list[str]] = []
    for section in sections:
        rows += _headline(section, first=not rows) if headed else []
        for size, backend, *rest in section.rows:
            rows += [[size]] if size else []
            rows.append([f"  {backend}", *rest])
    return rows


def _headline(section: Section, *, first: bool) -> list[list[str]]:
    """Return rows of one cell, which stand across the table."""
    return [*([] if first else [[""]]), [f"{section.title}:"]]


def _fits(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Tell whether all but the notes, which may stand beneath, fit without folding."""
    full = [[plain(cell) for cell in row[:-1]] for row in [COLUMNS, *rows] if len(row) > 1]
    natural = [max(map(display_width, column)) for column in zip(*full, strict=True)]
    return sum(natural) + 2 * (len(natural) - 1) <= width


def _align(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Set[int],
    request: Request,
) -> str:
    def style(row: int, column: int, text: str) -> str:
        # Only columns that bench itself fills: a backend could be called "fastest", too.
        color = _COLORS.get(text) if column in right and len(rows[row]) > 1 else None
        return click.style(text, fg=color, bold=True) if color else text

    return align(
        header, rows, right=right, width=request.width, style=style if request.color else None
    )


def _unmeasured(item: _summary.Unmeasured, request: Request) -> str:
    count = f" ({len(item.cases)} cases)" if item.cases else ""
    text = f"- {item.who}: {item.status}{count}: {item.reason}"
    lines = _lines([text], request, "  ")
    if request.color and item.status != "skipped":
        lines = lines.replace(f": {item.status}", f": {click.style(item.status, fg='red')}", 1)
    for case in item.cases:
        lines += f"    {plain(case)}\n"
    return lines


REPORT = Report(
    name="table",
    summary="a table in plain text, suite by suite, for reading in a terminal",
    render=render,
)
