"""The page of a comparison: machines side by side as one HTML file, with what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.report import Document, Request, Table

from . import _cost_figure, _svg
from ._page_document import document


@dataclass(frozen=True)
class PageTable:
    """A table under an anchor of its own, without holes: rows may be sorted."""

    id: str
    title: str
    columns: Sequence[str]
    right: frozenset[int]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class CostFigure:
    """The costs of the same work on every machine, drawn, with the tables that it shows."""

    svg: Any
    data: Sequence[PageTable]


def render(found: Document, _request: Request) -> str:
    """Return the page; the same comparison gives the same bytes."""
    from markupsafe import Markup

    classes = _svg.Classes()
    numbered = [_numbered(table, number) for number, table in enumerate(found.tables, 1)]
    figures: list[CostFigure] = []
    drawn: set[int] = set()
    for curve, crossings in _cost_figure.curves(found):
        title = f"{curve.title}."
        svg = _svg.inline(
            _cost_figure.svg(curve, crossings),
            f"figure-{len(figures) + 1}",
            classes,
            title,
            f"{_cost_figure.in_words(crossings)} The data stands below as a table.",
        )
        shown = [i for i, table in enumerate(found.tables) if table in (curve, crossings)]
        drawn.update(shown)
        figures.append(CostFigure(Markup(svg), [numbered[i] for i in shown]))
    return document(
        "comparison.html",
        style=classes.rules(),
        title=found.title,
        sentences=found.sentences,
        warnings=found.warnings,
        remarks=found.remarks,
        figures=figures,
        tables=[table for i, table in enumerate(numbered) if i not in drawn],
    )


def _numbered(table: Table, number: int) -> PageTable:
    """Repeat what stands in the first row of a group only: sorted, no row has one above it."""
    rows: list[Sequence[str]] = []
    for row in table.rows:
        first = row[0] or (rows[-1][0] if rows else "")
        rows.append([first, *row[1:]])
    return PageTable(f"table-{number}", table.title, table.columns, table.right, rows)
