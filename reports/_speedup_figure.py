"""Draws the speedup over the best CPU, and from which size the GPU is faster."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bench.text import fold

from . import _drawing, _summary
from ._drawing import Drawing, Look
from ._speedup_panels import ALONE, WITH_TRANSFERS, Curve, SpeedupPanel, crossing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LANE: Final = 0.2
"""Inches of a line below a panel that says where the GPU is faster."""
_READING: Final = (
    "Speedup: the time of the best CPU over that of the GPU; with transfers, of one call whose"
    " inputs are copied to the GPU and whose result is copied back."
)
_STRIP: Final = (
    "Below each panel: the sizes at which the GPU is faster, and [from, to] the interval in which a"
    " repeat would find the crossover."
)


def sweeps(panels: Sequence[SpeedupPanel]) -> Drawing:
    """Draw panels in two columns: speedups against the size, below them the crossovers."""
    from matplotlib.figure import Figure

    looks = _looks(panels)
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    lanes = max(len(panel.series) for panel in panels)
    height = 3.0 + _LANE * lanes
    figure = Figure(figsize=(_drawing.WIDTH, 0.9 + (0.6 + height) * rows))
    # Room for the names beside a panel, before the axis of the next.
    grid = figure.add_gridspec(rows, columns, wspace=0.06)
    for i, panel in enumerate(panels):
        own = _LANE * len(panel.series)
        cell = grid[divmod(i, columns)].subgridspec(2, 1, height_ratios=[height - own, own])
        axes = figure.add_subplot(cell[0])
        strip = figure.add_subplot(cell[1], sharex=axes)
        _curves(axes, panel, looks, 52 if columns > 1 else 110)
        _strip(strip, axes, panel, looks)
    return Drawing(figure, _legend(looks), [_READING, *_caption(panels), _STRIP])


def named(panels: Sequence[SpeedupPanel]) -> Drawing:
    """Draw panels one below the other, each a row of points for every name."""
    from matplotlib.figure import Figure

    looks = _looks(panels)
    figure = Figure()
    _drawing.names(figure, panels, looks)
    for axes, panel in zip(figure.axes, panels, strict=True):
        low, _ = panel.limits
        axes.axvline(1, color="black", linewidth=1)
        axes.axvspan(low, 1, color="#f0f0f0", zorder=-1)
        axes.set_title("\n".join(fold(f"{panel.title}; {panel.best}", 110)))
        axes.set_xlabel(f"{panel.y_label} (below 1 the CPU is faster, above 1 the GPU)")
    return Drawing(figure, _legend(looks), [_READING, *_caption(panels)])


def _looks(panels: Sequence[SpeedupPanel]) -> dict[str, Look]:
    curves = {curve.name: curve for panel in panels for curve in panel.series}
    places = sorted({curve.place for curve in curves.values()}, key=_summary.natural)
    ordered = sorted(curves.values(), key=lambda c: (places.index(c.place), c.how != ALONE))
    return {
        c.name: _drawing.gpu_look(places.index(c.place), moved=c.how == WITH_TRANSFERS)
        for c in ordered
    }


def _legend(looks: Mapping[str, Look]) -> list[Any]:
    return [_drawing.sample(look, line) for line, look in looks.items()]


def _caption(panels: Sequence[SpeedupPanel]) -> list[str]:
    return _drawing.how_sure([p for panel in panels for c in panel.series for p in c.points])


def _curves(axes: "Axes", panel: SpeedupPanel, looks: Mapping[str, Look], width: int) -> None:
    for curve in panel.series:
        _drawing.line(axes, curve.points, curve.name, looks[curve.name])
    low, high = panel.limits
    axes.axhline(1, color="black", linewidth=1)
    axes.axhspan(low, 1, color="#f0f0f0", zorder=-1)
    for name, end in (("GPU faster", high), ("CPU faster", low)):
        axes.text(
            1.01,
            math.sqrt(end),
            name,
            transform=axes.get_yaxis_transform(),
            rotation=270,
            va="center",
            ha="left",
            fontsize=8,
        )
    axes.set_title("\n".join([*fold(panel.title, width), *fold(panel.best, width)]))
    axes.set_ylabel(panel.y_label)
    _drawing.value_axis(axes.yaxis, panel.limits)
    axes.tick_params(axis="x", labelbottom=False, length=0)


def _strip(strip: "Axes", axes: "Axes", panel: SpeedupPanel, looks: Mapping[str, Look]) -> None:
    """Draw a lane for each curve: where the GPU is faster, the crossover, its interval."""
    sizes = sorted({p.x for curve in panel.series for p in curve.points})
    _drawing.size_axis(strip.xaxis, sizes, panel.x_label)
    for lane, curve in enumerate(panel.series):
        _crossing(strip, axes, curve, lane, looks[curve.name], panel.dimension)
    strip.set_ylim(len(panel.series) - 0.5, -0.5)
    strip.set_yticks([])
    strip.set_ylabel("GPU\nfaster", rotation=0, ha="right", va="center", labelpad=10)
    strip.grid(visible=False, axis="y")


def _crossing(
    strip: "Axes", axes: "Axes", curve: Curve, lane: int, look: Look, dimension: str
) -> None:
    found = curve.crossover
    if found is None:
        return
    # On the spine, since a lane without a crossover would not show whose it is.
    key = {**look, "linestyle": "none", "markersize": 5}
    strip.plot([0], [lane], transform=strip.get_yaxis_transform(), clip_on=False, **key)
    for start, end in found.faster:
        strip.barh(lane, end - start, left=start, height=0.8, color=look["color"], alpha=0.2)
    low = found.smallest if found.low is None else found.low
    high = found.largest if found.high is None else found.high
    if found.doubt == "between":
        axes.axvspan(low, high, color=look["color"], alpha=0.12, linewidth=0)
    left, right = found.smallest, found.smallest
    if found.at is not None:
        left, right = (low, high) if found.doubt == "between" else (found.at, found.at)
        strip.plot([left, right], [lane, lane], color=look["color"], linewidth=1.5, marker="|")
        strip.plot([found.at], [lane], **key)
    leftmost = right * left <= found.smallest * found.largest
    strip.annotate(
        crossing(found, dimension),
        (right if leftmost else left, lane),
        xytext=(6 if leftmost else -6, 0),
        textcoords="offset points",
        ha="left" if leftmost else "right",
        va="center",
        fontsize=7.5,
    )
