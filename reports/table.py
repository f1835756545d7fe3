"""The table in the terminal: the default way to look at a run."""

from collections.abc import Sequence, Set

import click

from bench.report import Report, Request
from bench.results.schema import FAULTS, Run
from bench.text import align, display_width, fold, plain

from . import _comparison, _summary
from ._summary import FASTEST, Section

_COLORS = {FASTEST: "green"} | {_summary.status(fault): "red" for fault in FAULTS}


def render(runs: Sequence[Run], request: Request) -> str:
    """Return the tables of each run, one run after the other."""
    return "\n\n".join(_run(run, request) for run in runs)


def _run(run: Run, request: Request) -> str:
    parts = [_lines(_summary.heading(run), request)]
    compared = _comparison.comparison(run, request)
    if compared.sentences:
        parts.append(_lines(compared.sentences, request, "  "))
    sections = _summary.sections(run, request)
    for own in _by_suite(sections):
        parts.append(_titled(f"suite {_title(own)}", _cases(own, request), request))
    if not sections:
        parts.append("No case has a number.\n" if run.measurements else "The run has no cases.\n")
    for own in _by_suite(compared.sections):
        title = f"CPU against GPU, suite {_title(own)}"
        parts.append(_titled(title, _speedups(own, request), request))
    missing = _summary.unmeasured(run, request)
    if missing:
        lines = [_unmeasured(item, request) for item in missing]
        parts.append("Not measured:\n" + "".join(lines))
    remarks = [*_summary.remarks(run, request, sections), *compared.remarks]
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


def _by_suite(sections: Sequence[Section]) -> list[list[Section]]:
    """Put together what stands in one table: the sections of a suite with the same columns."""
    tables = dict.fromkeys((s.suite, tuple(s.columns)) for s in sections)
    return [[s for s in sections if (s.suite, tuple(s.columns)) == table] for table in tables]


def _title(sections: Sequence[Section]) -> str:
    """Name a suite; where it has several sections, each has a headline of its own."""
    return sections[0].suite if len(sections) > 1 else sections[0].full_title


def _titled(title: str, table: str, request: Request) -> str:
    return f"{_lines([title], request)}{table}"


def _cases(sections: Sequence[Section], request: Request) -> str:
    """Lay out one suite; sizes get lines of their own where a column would not leave room."""
    columns, right = sections[0].columns, sections[0].right
    wide = _headed(sections, [section.rows for section in sections])
    if request.width is None or _fits(columns, wide, request.width):
        return _align(columns, wide, right, request)
    narrow = []
    for section in sections:
        rows: list[Sequence[str]] = []
        for size, backend, *rest in section.rows:
            rows += [[size]] if size else []
            rows.append([f"  {backend}", *rest])
        narrow.append(rows)
    return _align(columns[1:], _headed(sections, narrow), {i - 1 for i in right}, request)


def _speedups(sections: Sequence[Section], request: Request) -> str:
    """Lay out CPU against GPU; narrow, the size and the best CPU stand above the GPUs."""
    columns, right = _comparison.COLUMNS, _comparison.RIGHT
    wide = _headed(sections, [section.rows for section in sections])
    if request.width is None or _fits(columns, wide, request.width):
        return _align(columns, wide, right, request)
    narrow = []
    for section in sections:
        rows: list[Sequence[str]] = []
        size, above = "", ""
        for given, gpu, cpu, *rest in section.rows:
            size = given or size
            if above != f"{size}, best CPU {cpu}":
                above = f"{size}, best CPU {cpu}"
                rows.append([above])
            rows.append([f"  {gpu}", *rest])
        narrow.append(rows)
    header = [columns[1], *columns[3:]]
    return _align(header, _headed(sections, narrow), {i - 2 for i in right}, request)


def _headed(
    sections: Sequence[Section], tables: Sequence[Sequence[Sequence[str]]]
) -> list[Sequence[str]]:
    """Put the rows of all sections under one another, each headed if there are several."""
    rows: list[Sequence[str]] = []
    for section, own in zip(sections, tables, strict=True):
        rows += _headline(section, first=not rows) if len(sections) > 1 else []
        rows += own
    return rows


def _headline(section: Section, *, first: bool) -> list[list[str]]:
    """Return rows of one cell, which stand across the table."""
    return [*([] if first else [[""]]), [f"{section.title}:"]]


def _fits(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> bool:
    """Tell whether all but the notes, which may stand beneath, fit without folding."""
    full = [[plain(cell) for cell in row[:-1]] for row in [header, *rows] if len(row) > 1]
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
