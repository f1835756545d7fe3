"""The table as GitHub Markdown, for issues, pull requests and job summaries."""

import re
from collections.abc import Sequence, Set

from bench.report import Report, Request
from bench.results.schema import Run
from bench.text import plain

from . import _comparison, _summary
from ._summary import Section

_SPECIAL = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        # As an entity, because a backslash before it means different things inside a table.
        "|": "&#124;",
        # The zero-width space keeps a label from notifying the person of that name.
        "@": "@&#8203;",
        **{character: f"\\{character}" for character in "\\`*[]#~$"},
    }
)


def escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it is: no markup, no link, no mention."""
    escaped = plain(text).translate(_SPECIAL)
    # Inside a word it means nothing, and most of our words have one.
    escaped = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)
    escaped = re.sub(r"(?i)(https?|ftp|mailto|xmpp):", r"\1&#58;", escaped)
    return re.sub(r"(?i)(www)\.", r"\1&#46;", escaped)


def item(text: str) -> str:
    """Return a line of a list, in which `text` begins neither a list nor a block of code."""
    escaped = escape(text.lstrip(" "))
    escaped = re.sub(r"^([-+=])", r"\\\1", escaped)
    escaped = re.sub(r"^([0-9]+)([.)])", r"\1\\\2", escaped)
    return f"- {escaped}\n"


def render(runs: Sequence[Run], request: Request) -> str:
    """Return the same content as the table report; the width does not matter to it."""
    return "\n".join(_run(run, request) for run in runs)


def _run(run: Run, request: Request) -> str:
    label, *about = _summary.heading(run)
    parts = [f"## {escape(label)}\n", "".join(map(item, about))]
    compared = _comparison.comparison(run, request)
    if compared.sentences:
        parts.append("".join(map(item, compared.sentences)))
    sections = _summary.sections(run, request)
    for section in sections:
        parts.append(f"### {escape(section.full_title)}\n")
        parts.append(_table(section.columns, section, section.right))
    if not sections:
        parts.append("No case has a number.\n" if run.measurements else "The run has no cases.\n")
    for section in compared.sections:
        parts.append(f"### CPU against GPU: {escape(section.full_title)}\n")
        parts.append(_table(_comparison.COLUMNS, section, _comparison.RIGHT))
    missing = _summary.unmeasured(run, request)
    if missing:
        parts += ["### Not measured\n", "".join(map(_unmeasured, missing))]
    remarks = [*_summary.remarks(run, request, sections), *compared.remarks]
    if remarks:
        parts += ["### Remarks\n", "".join(map(item, remarks))]
    return "\n".join(parts)


def _table(columns: Sequence[str], section: Section, right: Set[int]) -> str:
    rule = ["---:" if i in right else "---" for i in range(len(columns))]
    rows: list[Sequence[str]] = [columns, rule]
    for row in section.rows:
        # bench itself wrote the columns of numbers; they stay readable as source.
        rows.append([cell if i in right else escape(cell) for i, cell in enumerate(row)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _unmeasured(what: _summary.Unmeasured) -> str:
    count = f" ({len(what.cases)} cases)" if what.cases else ""
    cases = "".join(f"  {item(case)}" for case in what.cases)
    return f"{item(f'{what.who}: {what.status}{count}: {what.reason}')}{cases}"


REPORT = Report(
    name="markdown",
    summary="the table as GitHub Markdown, for issues, pull requests and job summaries",
    render=render,
)
