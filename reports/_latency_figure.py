"""Draws latency: the share of requests that took longer, against the time, both logarithmic."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import units
from bench.comparing.serving import written
from bench.text import fold

from . import _drawing, _latency_panels, _summary
from ._drawing import Drawing, Look
from ._latency_panels import Curve, LatencyPanel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CAPTION = (
    "Each curve: the share of all requests that took longer than the time below it; the farther"
    " left, the sooner the answers. Points: p50, p99 and, from 10,000 requests, p99.9."
)
_BARS = "Bars: the 95% interval of what a repeat of the whole run would print."


def draw(panels: Sequence[LatencyPanel]) -> Drawing:
    """Draw panels side by side in two columns."""
    from matplotlib.figure import Figure

    names = sorted({c.name for panel in panels for c in panel.curves}, key=_summary.natural)
    looks = {name: _drawing.look(i) for i, name in enumerate(names)}
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(_drawing.WIDTH, 0.9 + 3.3 * rows))
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set_title("\n".join(fold(panel.title, 52 if columns > 1 else 110)))
        least = _latency_panels.least_share(panel)
        _drawing.value_axis(axes.xaxis, _latency_panels.limits(panel), _time)
        _drawing.value_axis(axes.yaxis, (least / 1.3, 1.3), _share)
        for lane, curve in enumerate(panel.curves):
            # Bars at the same height would hide each other.
            beside = 1.06 ** (lane - (len(panel.curves) - 1) / 2)
            _draw(axes, curve, looks[curve.name], beside)
        for bound in panel.bounds:
            _draw_bound(axes, bound)
        axes.set_xlabel("time from arrival to answer")
        axes.set_ylabel("requests that took longer")
    legend = [_drawing.sample(look, name) for name, look in looks.items()]
    return Drawing(figure, legend, [_CAPTION, _BARS])


def _draw(axes: "Axes", curve: Curve, look: Look, beside: float) -> None:
    times, shares = zip(*curve.points, strict=True)
    line = {"color": look["color"], "linestyle": look["linestyle"]}
    axes.step(times, shares, where="post", linewidth=1.5, label=curve.name, **line)
    for mark in curve.marks:
        told = mark.seconds
        if told.low is not None and told.high is not None:
            height = [mark.beyond * beside] * 2
            axes.plot([told.low, told.high], height, color=look["color"], marker="|", linewidth=1.0)
        axes.plot([told.median], [mark.beyond], **{**look, "linestyle": "none"}, markersize=5)


def _draw_bound(axes: "Axes", bound: float) -> None:
    axes.axvline(bound, color="#444444", linestyle=":", linewidth=1.5)
    axes.annotate(
        f"bound {written(bound)}",
        (bound, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-3, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        rotation=90,
        fontsize=8,
        color="#444444",
    )


def _time(value: float) -> str:
    number, _, unit = units.seconds(value).partition(" ")
    return f"{float(number):g} {unit}"


def _share(value: float) -> str:
    return f"{100 * value:g}%"
