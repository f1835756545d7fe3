"""The page of a comparison: machines side by side as one HTML file, with what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.report import Document, Request, Table

from . import _comparison_figures, _page_tables, _svg
from ._page_document import document
from ._page_tables import TableRow


@dataclass(frozen=True)
class Drawn:
    """A figure in the page: its own data, and the tables of the page that it shows."""

    title: str
    svg: Any
    data: Sequence[_page_tables.Table]
    beside: Sequence[_page_tables.Table]


def render(found: Document, _request: Request) -> str:
    """Return the page; the same comparison gives the same bytes."""
    from markupsafe import Markup

    classes = _svg.Classes()
    numbered = {id(table): _numbered(table, number) for number, table in enumerate(found.tables, 1)}
    figures: list[Drawn] = []
    for number, figure in enumerate(_comparison_figures.figures(found), 1):
        words = f"{figure.words} The data stands below as a table."
        svg = _svg.inline(figure.svg(), f"figure-{number}", classes, f"{figure.title}.", words)
        data, beside = ([numbered[id(t)] for t in own] for own in (figure.data, figure.beside))
        figures.append(Drawn(figure.title, Markup(svg), data, beside))
    drawn = [table for figure in figures for table in figure.data]
    return document(
        "comparison.html",
        style=classes.rules(),
        title=found.title,
        sentences=found.sentences,
        warnings=found.warnings,
        remarks=found.remarks,
        figures=figures,
        tables=[table for table in numbered.values() if table not in drawn],
    )


def _numbered(table: Table, number: int) -> _page_tables.Table:
    """Repeat what stands in the first row of a group only: sorted, no row has one above it."""
    rows: list[TableRow] = []
    for row in table.rows:
        first = row[0] or (rows[-1].cells[0] if rows else "")
        rows.append(TableRow([first, *row[1:]], id="", href=""))
    name = f"table-{number}"
    return _page_tables.Table(name, table.title, table.columns, table.right, rows)
