"""Draws how the time of each case went from run to run, one machine and suite a figure."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from bench import units
from bench.comparing.history import History, MachineHistory
from bench.comparing.history import Point as Measured
from bench.comparing.history_document import asked_series
from bench.errors import RequestError
from bench.report import Request
from bench.text import fold, plain

from . import _drawing
from ._panels import SHORTEST, Point, limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PANELS: Final = 8
"""More in one picture are hard to look through."""

_MOST_TICKS: Final = 10
_MOST_CHANGES: Final = 6
_READING: Final = "Runs stand in the order of time. A gap: what was measured is not the same work."


@dataclass(frozen=True)
class _Line:
    """What one backend took for a piece of work: stretches of runs that may be joined."""

    place: str
    stretches: Sequence[Sequence[Point]]


@dataclass(frozen=True)
class _Panel:
    """A piece of work, with a line for each backend."""

    title: str
    lines: Sequence[_Line]

    def in_words(self) -> str:
        """Say where each line begins and ends."""
        told = []
        for line in self.lines:
            first, last = line.stretches[0][0], line.stretches[-1][-1]
            times = f"{units.seconds(first.y)} at first, {units.seconds(last.y)} at last"
            told.append(f"{line.place}: {times}.")
        return f"{self.title}: {' '.join(told)}"


def render(history: History, request: Request) -> Mapping[str, bytes]:
    """Return an SVG and a PNG of each figure; the same history gives the same bytes.

    Raises:
        RequestError: No case has a number to draw.
    """
    files: dict[str, bytes] = {}
    number = 0
    for machine in history.machines:
        for suite, panels in _pages(machine, request):
            number += 1
            name = f"trend-{number}"
            svg, png = io.BytesIO(), io.BytesIO()
            with _drawing.style(name), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Glyph .* missing from font")
                figure = draw(machine, suite, panels)
                figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
                figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
            title = f"{suite} on {machine.name}"
            files[f"{name}.svg"] = _described(svg.getvalue().decode(), name, title, panels)
            files[f"{name}.png"] = png.getvalue()
    if not files:
        raise RequestError("no case has a number to draw; choose others with --only")
    return files


def _pages(machine: MachineHistory, request: Request) -> Iterator[tuple[str, list[_Panel]]]:
    """Yield the panels of each suite, so many a page."""
    order = {entry.run.header.id: place for place, entry in enumerate(machine.entries)}
    series = asked_series(machine, request)
    for suite, keys in groupby(series, key=lambda key: key[0]):
        panels = []
        for work, same in groupby(keys, key=lambda key: key[1].rpartition("/")[0]):
            lines = [
                _Line(plain(case.rpartition("/")[2]), stretches)
                for _, case in same
                if (stretches := _stretches(series[suite, case], order))
            ]
            if lines:
                panels.append(_Panel(plain(work), lines))
        for start in range(0, len(panels), MOST_PANELS):
            yield plain(suite), panels[start : start + MOST_PANELS]


def _stretches(points: Sequence[Measured], order: Mapping[str, int]) -> list[list[Point]]:
    found: list[list[Point]] = []
    for point in points:
        if point.result is None or point.result.seconds.median <= SHORTEST:
            continue
        time = point.result.seconds
        place = order[point.entry.run.header.id]
        if point.is_start or not found:
            found.append([])
        low = time.low if time.low is None or time.low > SHORTEST else time.median
        found[-1].append(Point(place, time.median, low, time.high))
    return found


def draw(machine: MachineHistory, suite: str, panels: Sequence[_Panel]) -> "Figure":
    """Return the figure of some panels, one below the other."""
    from matplotlib.figure import Figure

    places = list(dict.fromkeys(line.place for panel in panels for line in panel.lines))
    looks = {place: _drawing.look(index) for index, place in enumerate(places)}
    changed = [i for i, entry in enumerate(machine.entries) if entry.changes]
    figure = Figure(figsize=(_drawing.WIDTH, 1.6 + 2.1 * len(panels)))
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        for line in panel.lines:
            for stretch in line.stretches:
                _drawing.line(axes, stretch, line.place, looks[line.place])
        shown = [point for line in panel.lines for own in line.stretches for point in own]
        axes.set_title(panel.title)
        axes.set_ylabel("time of a call")
        _drawing.value_axis(axes.yaxis, limits(shown), _drawing.bare(units.seconds))
        for place in changed:
            axes.axvline(place, color="#888888", linestyle=":", linewidth=1, zorder=0)
    _name_runs(grid[-1], machine)
    caption = [*_drawing.how_sure(shown_in(panels)), _READING, *_changes(machine, changed)]
    figure.legend(
        handles=[_drawing.sample(looks[place], place) for place in places],
        title="\n".join(fold(plain(f"{suite} on {machine.name}"), 90)),
        title_fontproperties={"size": 12, "weight": "bold"},
        alignment="left",
        loc="outside upper left",
        ncols=4,
        frameon=False,
    )
    text = "\n".join(fold(" ".join(caption), _drawing.LETTERS))
    figure.supxlabel(text, x=0.01, ha="left", fontsize=8, color="#444444")
    return figure


def shown_in(panels: Sequence[_Panel]) -> list[Point]:
    """Return every point of some panels."""
    return [p for panel in panels for line in panel.lines for own in line.stretches for p in own]


def _name_runs(axes: Any, machine: MachineHistory) -> None:
    """Write the day and the revision below as many runs as there is room for."""
    count = len(machine.entries)
    step = -(-count // _MOST_TICKS)
    places = range(count - 1, -1, -step)  # the newest run always has its name
    names = [
        plain(f"{machine.entries[i].started[:10]}\n{machine.entries[i].short_revision}")
        for i in places
    ]
    axes.set_xticks(list(places), names)
    axes.set_xlim(-0.5, count - 0.5)


def _changes(machine: MachineHistory, changed: Sequence[int]) -> list[str]:
    if not changed:
        return []
    told = [
        f"{machine.entries[i].started[:10]} {', '.join(machine.entries[i].changes)}"
        for i in changed[-_MOST_CHANGES:]
    ]
    return [plain(f"Dotted lines, the newest last: {'; '.join(told)}.")]


def _described(svg: str, name: str, title: str, panels: Sequence[_Panel]) -> bytes:
    """Give the SVG what a screen reader says."""
    words = " ".join(panel.in_words() for panel in panels)
    head = (
        f'<title id="bench-{name}-title">{escape(plain(title))}</title>'
        f'<desc id="bench-{name}-desc">{escape(words)}</desc>'
    )
    role = f'role="img" aria-labelledby="bench-{name}-title bench-{name}-desc"'
    start = svg.index("<svg ")
    end = svg.index(">", start)
    return f"<svg {role} {svg[start + 5 : end]}>{head}{svg[end + 1 :]}".encode()
