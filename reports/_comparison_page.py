"""The page of a comparison: machines side by side as one HTML file, with what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.report import Document, Request, Table

from . import _cost_figure, _page_tables, _svg
from ._page_document import document
from ._page_tables import TableRow


@dataclass(frozen=True)
class CostFigure:
    """The costs of the same work on every machine, drawn, with the tables that it shows."""

    svg: Any
    data: Sequence[_page_tables.Table]


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


def _numbered(table: Table, number: int) -> _page_tables.Table:
    """Repeat what stands in the first row of a group only: sorted, no row has one above it."""
    rows: list[TableRow] = []
    for row in table.rows:
        first = row[0] or (rows[-1].cells[0] if rows else "")
        rows.append(TableRow([first, *row[1:]], id="", href=""))
    name = f"table-{number}"
    return _page_tables.Table(name, table.title, table.columns, table.right, rows)
