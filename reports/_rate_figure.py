"""Draws the rate: against the size, and at sizes that have a name."""

import math
from collections.abc import Sequence
from typing import Any

from bench.text import fold

from . import _drawing, _summary
from ._drawing import Drawing, Look
from ._panels import Panel


def sweeps(panels: Sequence[Panel]) -> Drawing:
    """Draw panels side by side in two columns, each a rate against a size."""
    from matplotlib.figure import Figure

    looks = _looks(panels)
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(_drawing.WIDTH, 0.9 + 3.3 * rows))
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        for series in panel.series:
            _drawing.line(axes, series.points, series.name, looks[series.name])
        axes.set_title("\n".join(fold(panel.title, 52 if columns > 1 else 110)))
        axes.set_ylabel(panel.y_label)
        sizes = [p.x for series in panel.series for p in series.points]
        _drawing.size_axis(axes.xaxis, sizes, panel.x_label)
        _drawing.value_axis(axes.yaxis, panel.limits)
    return Drawing(figure, _legend(looks), _caption(panels))


def named(panels: Sequence[Panel]) -> Drawing:
    """Draw panels one below the other, each a row of points for every name."""
    from matplotlib.figure import Figure

    looks = _looks(panels)
    figure = Figure()
    _drawing.names(figure, panels, looks)
    return Drawing(figure, _legend(looks), _caption(panels))


def _looks(panels: Sequence[Panel]) -> dict[str, Look]:
    lines = sorted({s.name for panel in panels for s in panel.series}, key=_summary.natural)
    return {line: _drawing.look(i) for i, line in enumerate(lines)}


def _legend(looks: dict[str, Look]) -> list[Any]:
    return [_drawing.sample(look, line) for line, look in looks.items()]


def _caption(panels: Sequence[Panel]) -> list[str]:
    points = [p for panel in panels for series in panel.series for p in series.points]
    return ["Points: medians.", *_drawing.how_sure(points)]
