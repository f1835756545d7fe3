"""Draws how many times as fast as the baseline each machine is: its suites, and every piece."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.report import Document, Table
from bench.text import fold, plain

from . import _drawing
from ._drawing import Drawing
from ._panels import Panel, Point, Series

MOST_MACHINES: Final = 12
FARTHEST: Final = 1e12
"""Times as fast: more is no speed of a machine."""
MOST_PIECES: Final = 48
"""A suite of more pieces is drawn by its mean alone."""
_READING: Final = (
    "Speed: the time of the baseline's best backend over that of the machine's best, of the same"
    " work. Means are geometric, over the work that all machines of a suite did. Bars: the 95%"
    " interval of a repeat of the runs."
)


@dataclass(frozen=True)
class Machines:
    """The speeds of a comparison, ready to be drawn."""

    title: str
    panels: Sequence[Panel]
    tables: Sequence[Table]
    remarks: Sequence[str]

    def draw(self) -> Drawing:
        """Draw a panel for each suite, a row for each of its pieces, a point for each machine."""
        from matplotlib.figure import Figure

        lines = dict.fromkeys(series.name for panel in self.panels for series in panel.series)
        looks = {name: _drawing.look(index) for index, name in enumerate(lines)}
        figure = Figure()
        _drawing.names(figure, self.panels, looks)
        for axes, panel in zip(figure.axes, self.panels, strict=True):
            axes.axvline(1, color="black", linewidth=1)
            axes.axvspan(panel.limits[0], 1, color="#f0f0f0", zorder=-1)
            axes.set_title("\n".join(fold(panel.title, 110)))
        points = [point for panel in self.panels for s in panel.series for point in s.points]
        figure.set_figheight(figure.get_figheight() + 0.2 * len(looks) / 2 + 0.4)
        return Drawing(
            figure,
            [_drawing.sample({**look, "linestyle": "none"}, name) for name, look in looks.items()],
            [_READING, *_drawing.how_sure(points)[1:], *self.remarks],
        )


def of(document: Document) -> Machines | None:
    """Return the speeds of a document; None if it has none."""
    by_name = {table.name: table for table in document.tables}
    speeds, cases = by_name.get("speed"), by_name.get("cases")
    if speeds is None:
        return None
    against = next((record["against"] for record in speeds.records), "")
    means = [r for r in speeds.records if r["machine"] != against and _is_drawable(r)]
    machines = list(dict.fromkeys(record["machine"] for record in means))
    if not machines:
        return None
    remarks = []
    if len(machines) > MOST_MACHINES:
        half = MOST_MACHINES // 2
        remarks.append(
            f"Of {len(machines)} machines the {half} fastest and the {half} slowest are drawn."
        )
        machines = [*machines[:half], *machines[-half:]]
        means = [record for record in means if record["machine"] in machines]
    pieces = (
        [r for r in cases.records if r["metric"] == "speed" and _is_drawable(r)] if cases else []
    )
    panels = []
    for suite in dict.fromkeys(record["suite"] for record in means):
        own = [r for r in pieces if r["suite"] == suite and r["machine"] in machines]
        names = list(dict.fromkeys(record["id"] for record in own))
        if len(names) > MOST_PIECES:
            remarks.append(f"The {len(names)} pieces of {plain(suite)} stand in the table.")
            names = []
        panels.append(
            _panel(suite, names, [r for r in means if r["suite"] == suite], own, machines, against)
        )
    return Machines(speeds.title, panels, [t for t in (speeds, cases) if t], remarks)


def _panel(
    suite: str,
    names: Sequence[str],
    means: Sequence[Mapping[str, Any]],
    pieces: Sequence[Mapping[str, Any]],
    machines: Sequence[str],
    against: str,
) -> Panel:
    places = {name: place for place, name in enumerate(names, 1)}
    series = []
    for machine in machines:
        points = [_point(0, r) for r in means if r["machine"] == machine]
        points += [
            _point(places[r["id"]], r)
            for r in pieces
            if r["machine"] == machine and r["id"] in places
        ]
        if points:
            series.append(Series(plain(machine), points))
    void = {record["id"] for record in pieces if record["note"]}
    return Panel(
        title="all suites" if suite == "all" else plain(suite),
        x_label="work",
        y_label=f"times as fast as {plain(against)}",
        unit="times",
        series=series,
        names=[
            "mean (VOID)" if void else "mean",
            *(f"{plain(name)} (VOID)" if name in void else plain(name) for name in names),
        ],
    )


def _is_drawable(record: Mapping[str, Any]) -> bool:
    """Tell whether an axis can hold a number with its interval."""
    ends = [record[name] for name in ("value", "low", "high") if record[name] is not None]
    return record["value"] is not None and all(1 / FARTHEST < end < FARTHEST for end in ends)


def _point(place: int, record: Mapping[str, Any]) -> Point:
    return Point(place, record["value"], record["low"], record["high"])
