"""Draws how the time of each case went from run to run, one machine and suite a figure."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from bench import units
from bench.comparing.history import History, MachineHistory
from bench.comparing.history import Point as Measured
from bench.comparing.history_document import asked_series
from bench.errors import RequestError
from bench.report import Request
from bench.results.schema import Interval
from bench.text import fold, plain

from . import _drawing
from ._panels import SHORTEST, Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PANELS: Final = 8
"""More in one picture are hard to look through."""

_MOST_TICKS: Final = 7
_MOST_IN_TITLE: Final = 2
_LEAST: Final = 10.0
_LARGEST: Final = 1e6
_MOST_CHANGES: Final = 6
_READING: Final = (
    "Runs in the order of time, each against the first of the same work; where that changes, a line"
    " begins anew at 0."
)


@dataclass(frozen=True)
class _Line:
    """What one backend took for a piece of work: stretches of runs that may be joined."""

    place: str
    stretches: Sequence[Sequence[Point]]
    """Each point in percent of change since the first run of its stretch."""
    first: float
    newest: float
    """Seconds, of the newest stretch."""


@dataclass(frozen=True)
class _Panel:
    """A piece of work, with a line for each backend."""

    work: str
    lines: Sequence[_Line]

    @property
    def title(self) -> str:
        """The work, and its times where there is room for them."""
        told = [f"{line.place} {self._times(line)}" for line in self.lines]
        return f"{self.work}: {', '.join(told)}" if len(told) <= _MOST_IN_TITLE else self.work

    def in_words(self) -> str:
        """Say where each line begins and ends."""
        told = [f"{line.place}: {self._times(line)}." for line in self.lines]
        return f"{self.work}: {' '.join(told)}"

    def _times(self, line: _Line) -> str:
        return f"{units.seconds(line.first)} to {units.seconds(line.newest)}"

    @property
    def points(self) -> list[Point]:
        """Every point of every line."""
        return [p for line in self.lines for own in line.stretches for p in own]


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
            png = io.BytesIO()
            with _drawing.style(name), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Glyph .* missing from font")
                figure = draw(machine, suite, panels)
                svg = _drawing.svg(figure)
                figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
            title = f"{suite} on {machine.name}"
            words = " ".join(panel.in_words() for panel in panels)
            files[f"{name}.svg"] = _drawing.described(svg, name, plain(title), words)
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
            lines = [_line(key[1], series[key], order) for key in same]
            if drawn := [line for line in lines if line is not None]:
                panels.append(_Panel(plain(work), drawn))
        for start in range(0, len(panels), MOST_PANELS):
            yield plain(suite), panels[start : start + MOST_PANELS]


def _line(case: str, points: Sequence[Measured], order: Mapping[str, int]) -> _Line | None:
    stretches: list[list[tuple[int, Interval]]] = []
    for point in points:
        if point.result is None or not _is_drawable(point.result.seconds):
            continue
        if point.is_start or not stretches:
            stretches.append([])
        stretches[-1].append((order[point.entry.run.header.id], point.result.seconds))
    stretches = [own for own in stretches if own]
    if not stretches:
        return None
    newest = stretches[-1]
    return _Line(
        plain(case.rpartition("/")[2]),
        [_relative(own) for own in stretches],
        newest[0][1].median,
        newest[-1][1].median,
    )


def _is_drawable(time: Interval) -> bool:
    """Tell whether a clock can have told the time; a file may say anything."""
    return all(end is None or end > SHORTEST for end in (time.median, time.low, time.high))


def _relative(stretch: Sequence[tuple[int, Interval]]) -> list[Point]:
    base = stretch[0][1].median

    def percent(time: float | None) -> float | None:
        return None if time is None else 100 * min(time / base - 1, _LARGEST)

    return [
        Point(place, percent(time.median) or 0.0, percent(time.low), percent(time.high))
        for place, time in stretch
    ]


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
        axes.set_title(panel.title)
        axes.set_ylabel("change")
        _scale(axes, [point.y for point in panel.points])
        for place in changed:
            axes.axvline(place, color="#888888", linestyle=":", linewidth=1, zorder=0)
    _name_runs(grid[-1], machine)
    points = [point for panel in panels for point in panel.points]
    caption = [*_drawing.how_sure(points), _READING, *_changes(machine, changed)]
    title = "\n".join(fold(plain(f"{suite} on {machine.name}"), 90))
    handles = [_drawing.sample(looks[place], place) for place in places]
    _drawing.entitle(figure, title, handles, 4)
    _drawing.write_below(figure, fold(" ".join(caption), _drawing.LETTERS))
    return figure


def _scale(axes: Any, values: Sequence[float]) -> None:
    """Show 10% either way at least, so that noise looks like noise; intervals may be cut."""
    low, high = min(-_LEAST, *values), max(_LEAST, *values)
    beside = 0.15 * (high - low)
    axes.set_ylim(low - beside, high + beside)
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:+g}%" if value else "0")


def _name_runs(axes: Any, machine: MachineHistory) -> None:
    """Write the day and the revision below as many runs as there is room for."""
    count = len(machine.entries)
    step = -(-count // _MOST_TICKS)
    places = range(count - 1, -1, -step)  # the newest run always has its name
    entries = [machine.entries[place] for place in places]
    names = [f"{plain(entry.started[:10])}\n{plain(entry.short_revision)}" for entry in entries]
    axes.set_xticks(list(places), names, fontsize=8)
    axes.set_xlim(-0.5, count - 0.5)


def _changes(machine: MachineHistory, changed: Sequence[int]) -> list[str]:
    if not changed:
        return []
    told = [
        f"{machine.entries[i].started[:10]} {', '.join(machine.entries[i].changes)}"
        for i in changed[-_MOST_CHANGES:]
    ]
    return [plain(f"Dotted lines, the newest last: {'; '.join(told)}.")]
