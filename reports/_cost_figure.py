"""Draws the cost of the same work on every machine against hours per month."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

from bench.report import Document, Table
from bench.text import plain

from . import _drawing
from ._drawing import Drawing

_READING: Final = (
    "Each line: what it costs to do the work of the fastest machine in its time. Bands: the 95%"
    " interval of a repeat of the runs. Circles: where one begins to cost less than another."
)


def curves(document: Document) -> list[tuple[Table, Table | None]]:
    """Return each table of costs with that of its crossings, which stands right behind it."""
    return [
        (table, after if after and after.name == "crossings" else None)
        for table, after in zip_longest(document.tables, document.tables[1:])
        if table.name == "cost_curve"
    ]


def draw(curve: Table, crossings: Table | None = None) -> Drawing:
    """Draw a table `cost_curve`, with the circles of its `crossings`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_drawing.WIDTH, 5.5))
    axes = figure.add_subplot()
    lines = _lines(curve)
    for index, (name, records) in enumerate(lines.items()):
        look = _drawing.look(index)
        hours = [record["hours_per_month"] for record in records]
        axes.plot(hours, [r["value"] for r in records], label=plain(name), markersize=5, **look)
        known = [r for r in records if r["low"] is not None and r["high"] is not None]
        if len(known) == len(records):
            ends = [r["low"] for r in records], [r["high"] for r in records]
            axes.fill_between(hours, *ends, color=look["color"], alpha=0.15, linewidth=0)
    for record in crossings.records if crossings else ():
        cost = _cost_at(lines, record)
        if cost is not None:
            axes.plot([record["value"]], [cost], marker="o", color="black", markersize=7,
                      markerfacecolor="none", linestyle="none", zorder=4)  # fmt: skip
    axes.set_xlim(0, max(r["hours_per_month"] for records in lines.values() for r in records))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("hours per month that the fastest machine would work")
    axes.set_ylabel(f"{curve.records[0]['unit']} per month")
    handles, _ = axes.get_legend_handles_labels()
    return Drawing(figure, handles, [_READING])


def _lines(curve: Table) -> dict[str, list[Mapping[str, Any]]]:
    """Return the records of each option, in the order of the hours."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in curve.records:
        found.setdefault(record["note"], []).append(record)
    return found


def _cost_at(lines: Mapping[str, Sequence[Mapping[str, Any]]], crossing: Any) -> float | None:
    """Return the cost at a crossing: costs are straight lines over the hours."""
    names = [name for name in lines if crossing["note"].startswith(f"{name} against ")]
    if not names:
        return None
    records = lines[names[0]]
    first, last = records[0], records[-1]
    span = last["hours_per_month"] - first["hours_per_month"]
    share = (crossing["value"] - first["hours_per_month"]) / span
    return float(first["value"] + share * (last["value"] - first["value"]))


def in_words(crossings: Table | None) -> str:
    """Say where which machine costs less."""
    rows = crossings.rows if crossings else ()
    words = [f"{row[0]} costs less up to {row[2]}, {row[1]} after it." for row in rows]
    return " ".join(words) or "No crossings."
