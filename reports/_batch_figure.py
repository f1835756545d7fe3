"""Draws throughput, latency and memory against the batch, and marks what they tell."""

import math
from collections.abc import Mapping, Sequence, Set
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from bench import units
from bench.text import fold

from . import _drawing, _panels, _summary
from ._batch_panels import BatchLine, BatchPanel
from ._drawing import Drawing, Look
from ._panels import Point
from ._speedup_panels import ALONE, WITH_TRANSFERS, rounded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SATURATION: Final = "saturation: 95% of the best throughput"
_END: Final = "largest batch that fits"
_CROSSOVERS: Final = {
    ALONE: "crossover with the best CPU",
    WITH_TRANSFERS: "crossover, transfers included",
}
_MARKS: Final[Mapping[str, Mapping[str, Any]]] = {
    _SATURATION: {"marker": "D", "markersize": 11, "markerfacecolor": "none"},
    _CROSSOVERS[ALONE]: {"marker": "*", "markersize": 12},
    _CROSSOVERS[WITH_TRANSFERS]: {"marker": "*", "markersize": 12, "markerfacecolor": "white"},
    _END: {"marker": "X", "markersize": 8},
}
"""What is marked, with the shape that it has in any colour."""
_READING: Final = "Throughput: the batch over the time of a call."
_READINGS: Final = {
    _SATURATION: "Saturation: the first of the measured batches with 95% of the best throughput; in"
    " brackets those that a repeat may find.",
    _CROSSOVERS[ALONE]: "The bar of a crossover: the interval in which a repeat would find it.",
    _END: "Dotted: memory ends there.",
}
"""What the caption says about the marks that are drawn."""


def draw(panels: Sequence[BatchPanel]) -> Drawing:
    """Draw a row for each panel: three plots above a sentence for each place."""
    from matplotlib.figure import Figure

    looks = _looks(panels)
    texts = [_sentences(panel) for panel in panels]
    heights = [2.9 + 0.14 * len(text) for text in texts]
    figure = Figure(figsize=(_drawing.WIDTH, 0.5 + sum(heights)))
    rows = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    marked: set[str] = set()
    for row, panel, text in zip(rows, panels, texts, strict=True):
        row.suptitle("\n".join(fold(panel.title, 110)), x=0.01, ha="left", fontsize=10)
        row.supxlabel("\n".join(text), x=0.01, ha="left", fontsize=8)
        throughput, latency, memory = row.subplots(1, 3)
        _throughput(throughput, panel, looks)
        _latency(latency, panel, looks)
        _memory(memory, panel, looks)
        for axes in (throughput, latency, memory):
            _batch_axis(axes, panel)
        # Of several GPUs the numbers would stand on each other: those are in the sentences.
        numbered = sum(bool(line.crossings) for line in panel.lines) < 2
        for line in panel.lines:
            for axes in (throughput, latency, memory):
                marked |= _end(axes, line, looks[line.name])
            marked |= _marks(throughput, line, looks[line.name], numbered=numbered)
        _name_ends(memory, sorted({line.fits for line in panel.lines if line.fits is not None}))
    points = [p for panel in panels for line in panel.lines for p in line.throughput]
    readings = [reading for name, reading in _READINGS.items() if name in marked]
    caption = [_READING, *readings, *_drawing.how_sure(points)]
    return Drawing(figure, _legend(looks, marked), caption)


def _sentences(panel: BatchPanel) -> list[str]:
    said = [f"{line.name}: {line.sentence}." for line in panel.lines]
    return [part for text in said for part in fold(text, _drawing.LETTERS)]


def _looks(panels: Sequence[BatchPanel]) -> dict[str, Look]:
    names = {line.name for panel in panels for line in panel.lines}
    return {name: _drawing.look(i) for i, name in enumerate(sorted(names, key=_summary.natural))}


def _legend(looks: Mapping[str, Look], marked: Set[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    shapes = {name: shape for name, shape in _MARKS.items() if name in marked}
    marks = [
        Line2D([], [], label=name, **{"color": "black", "linestyle": "none", **shape})
        for name, shape in shapes.items()
    ]
    return [*(_drawing.sample(look, name) for name, look in looks.items()), *marks]


def _throughput(axes: "Axes", panel: BatchPanel, looks: Mapping[str, Look]) -> None:
    for line in panel.lines:
        _drawing.line(axes, line.throughput, line.name, looks[line.name])
    limits = _panels.limits([p for line in panel.lines for p in line.throughput])
    _drawing.value_axis(axes.yaxis, limits, units.grouped)
    axes.set_title("samples/s", fontsize=9)


def _latency(axes: "Axes", panel: BatchPanel, looks: Mapping[str, Look]) -> None:
    for line in panel.lines:
        _drawing.line(axes, line.latency, line.name, looks[line.name])
    limits = _panels.limits([p for line in panel.lines for p in line.latency])
    _drawing.value_axis(axes.yaxis, limits, _drawing.bare(units.seconds))
    axes.set_title("time of a call", fontsize=9)


def _memory(axes: "Axes", panel: BatchPanel, looks: Mapping[str, Look]) -> None:
    """Draw the peaks, which have no interval, on an axis of binary units."""
    axes.set_title("peak memory", fontsize=9)
    points = [p for line in panel.lines for p in line.memory]
    if not points:
        axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", fontsize=8)
        axes.set_yticks([])
        return
    for line in panel.lines:
        own = [p.x for p in line.memory], [p.y for p in line.memory]
        axes.plot(*own, label=line.name, markersize=5, linewidth=1.5, **looks[line.name])
    low, high = _panels.limits(points)
    _drawing.value_axis(axes.yaxis, (low, high))
    write = _drawing.bare(lambda value: units.size(int(value)))
    _drawing.ticks(axes.yaxis, _binary_ticks(low, high), write)


def _binary_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return powers of two within the limits, with numbers between where those are too few."""
    within: list[float] = []
    for steps in ((1.0,), (1.0, 1.25, 1.5, 1.75)):
        exponents = range(math.floor(math.log2(low)), math.floor(math.log2(high)) + 1)
        values = [step * 2.0**exponent for exponent in exponents for step in steps]
        within = [value for value in values if low <= value <= high]
        if len(within) >= 3:
            break
    return within[:: max(1, math.ceil(len(within) / most))]


def _batch_axis(axes: "Axes", panel: BatchPanel) -> None:
    ends = [line.fits for line in panel.lines if line.fits is not None]
    low, high = min([*panel.batches, *ends]), max([*panel.batches, *ends])
    beside = max(1.5, (high / low) ** 0.05)
    axes.set_xscale("log", base=2)
    axes.set_xlim(low / beside, high * beside)
    axes.set_xlabel("batch")
    _drawing.ticks(axes.xaxis, _drawing.thinned(panel.batches, 5), "{:,.0f}".format)


def _end(axes: "Axes", line: BatchLine, look: Look) -> set[str]:
    """Mark the largest batch that fits, at the upper end of a dotted line."""
    if line.fits is None:
        return set()
    axes.axvline(line.fits, color=look["color"], linestyle=":", linewidth=1.2)
    axes.plot(
        [line.fits],
        [1],
        transform=axes.get_xaxis_transform(),
        clip_on=False,
        color=look["color"],
        **_MARKS[_END],
    )
    return {_END}


def _name_ends(axes: "Axes", ends: Sequence[int]) -> None:
    """Write the largest batches beside their lines; of lines side by side, beside the first."""
    low, high = axes.get_xlim()
    apart = (high / low) ** 0.08
    near: list[list[int]] = []
    for batch in ends:
        if near and batch < near[-1][-1] * apart:
            near[-1].append(batch)
        else:
            near.append([batch])
    for batches in near:
        axes.annotate(
            " and ".join(f"{batch:,}" for batch in batches),
            (batches[0], 0.03),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-2, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="bottom",
            fontsize=7.5,
        )


def _marks(axes: "Axes", line: BatchLine, look: Look, *, numbered: bool) -> set[str]:
    """Mark saturation and crossovers on the curve of throughput, each with its batch."""
    marked = set()
    if line.saturation is not None and not line.saturation.is_rising:
        at = float(line.saturation.batch)
        _mark(axes, at, line.throughput, look, _SATURATION, f"{at:,.0f}")
        marked.add(_SATURATION)
    for crossing in line.crossings:
        found, name = crossing.found, _CROSSOVERS[crossing.how]
        if found.at is None:
            continue
        if found.doubt == "between":
            ends = found.low or found.smallest, found.high or found.largest
            y = _height(found.at, line.throughput)
            axes.plot(ends, [y, y], color=look["color"], linewidth=4, alpha=0.35)
        text = rounded(found.at) if numbered else ""
        _mark(axes, found.at, line.throughput, look, name, text)
        marked.add(name)
    return marked


def _mark(
    axes: "Axes", x: float, points: Sequence[Point], look: Look, name: str, text: str
) -> None:
    y = _height(x, points)
    shape = {"color": look["color"], "linestyle": "none", "zorder": 4, **_MARKS[name]}
    axes.plot([x], [y], **shape)
    # Below a plateau and left of a steeper curve there is seldom another.
    below = name == _SATURATION
    axes.annotate(
        text,
        (x, y),
        xytext=(0, -8) if below else (-6, 4),
        textcoords="offset points",
        ha="center" if below else "right",
        va="top" if below else "bottom",
        fontsize=7.5,
        zorder=3.5,
        bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )


def _height(x: float, points: Sequence[Point]) -> float:
    """Return where the drawn curve is at `x`: straight between points on logarithmic axes."""
    for left, right in pairwise(points):
        if left.x <= x <= right.x:
            share = math.log(x / left.x) / math.log(right.x / left.x)
            return math.exp((1 - share) * math.log(left.y) + share * math.log(right.y))
    return min(points, key=lambda point: abs(point.x - x)).y
