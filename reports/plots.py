"""Figures of a run: the rate against the size, and the rate at sizes that have a name."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from difflib import get_close_matches
from html import escape
from typing import TYPE_CHECKING, Any, Final

from bench.errors import RequestError
from bench.report import Report, Request
from bench.results.schema import Run
from bench.text import display_width, fold, plain

from . import _panels
from ._panels import Panel, Point, Series
from ._summary import natural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES: Final = {
    "rate": "rate against size, for workloads measured at a sweep of sizes",
    "rate-named": "rate at each size that has a name, such as layers, and of whole networks",
}
_COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without its yellow, which is too pale for a line on white."""
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES: Final = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
_STYLE: Final = {
    "text.parse_math": False,  # a dollar in a label is a dollar
    "svg.fonttype": "none",  # text stays text: it can be searched, and read aloud
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
}
_INTERVAL: Final = (
    "Points: medians. Bars: the 95% interval of what a repeat of the whole run on this machine"
    " would print."
)
_HOLLOW: Final = "Hollow points: one block only, so no interval is known."
_WIDTH: Final = 9.0
"""Inches; at 100 dots per inch the picture fits the column of a web page."""


def render(runs: Sequence[Run], request: Request) -> Mapping[str, bytes]:
    """Return an SVG and a PNG of each figure; the same runs give the same bytes.

    Raises:
        RequestError: There is no such figure, or no case that it could show.
    """
    if request.figure is not None and request.figure not in FIGURES:
        near = get_close_matches(request.figure, FIGURES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise RequestError(
            f"--figure {plain(request.figure)}: no such figure;"
            f" {hint}there are: {', '.join(FIGURES)}"
        )
    files: dict[str, bytes] = {}
    for name in FIGURES if request.figure is None else [request.figure]:
        panels = _panels.panels(runs, request, named=name == "rate-named")
        if panels:
            files |= _files(name, panels, runs, _panels.undrawn(runs, request))
    if not files:
        what = f"figure {request.figure}" if request.figure else "any figure"
        raise RequestError(
            f"no case for {what}: it shows cases with a rate ({_what_is_needed(request.figure)});"
            " choose others with --only, or see the table (--as table)"
        )
    return files


def _what_is_needed(figure: str | None) -> str:
    sweep, named = "at two sizes or more that differ in one dimension", "at sizes with a name"
    return {"rate": sweep, "rate-named": named}.get(figure or "", f"{sweep}, or {named}")


def _files(
    name: str, panels: Sequence[Panel], runs: Sequence[Run], undrawn: str
) -> dict[str, bytes]:
    svg, png = io.BytesIO(), io.BytesIO()
    with _style(name), warnings.catch_warnings():
        # The SVG shows any script; the PNG has a box for a letter that its font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = draw(name, panels, runs, undrawn)
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    described = _described(svg.getvalue().decode(), name, _title(runs), panels)
    return {f"{name}.svg": described.encode(), f"{name}.png": png.getvalue()}


def _style(name: str) -> AbstractContextManager[Any]:
    """Set our style, whatever the user's own settings are: they must not change the bytes."""
    import matplotlib.style

    return matplotlib.style.context(["default", {**_STYLE, "svg.hashsalt": f"bench-{name}"}])


def draw(name: str, panels: Sequence[Panel], runs: Sequence[Run], undrawn: str = "") -> "Figure":
    """Return the figure `name` of `panels`, for who wants its artists rather than a file."""
    with _style(name):
        return _draw(name, panels, runs, undrawn)


def _draw(name: str, panels: Sequence[Panel], runs: Sequence[Run], undrawn: str) -> "Figure":
    from matplotlib.figure import Figure

    lines = sorted({s.name for panel in panels for s in panel.series}, key=natural)
    looks = {line: _look(i) for i, line in enumerate(lines)}
    figure = (_named if name == "rate-named" else _sweeps)(panels, looks, Figure)
    columns = max(1, 110 // (max(map(display_width, lines)) + 10))
    figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(lines) / columns))
    # The title stands in the legend, because the layout would put a title of its own over it.
    figure.legend(
        handles=[_sample(looks[line], line) for line in lines],
        title=_title(runs),
        title_fontproperties={"size": 12, "weight": "bold"},
        alignment="left",
        loc="outside upper left",
        ncols=columns,
        frameon=False,
    )
    hollow = any(p.low is None for panel in panels for s in panel.series for p in s.points)
    caption = " ".join(filter(None, [_INTERVAL, _HOLLOW if hollow else "", undrawn]))
    figure.supxlabel("\n".join(fold(caption, 128)), x=0.01, ha="left", fontsize=8, color="#444444")
    return figure


def _title(runs: Sequence[Run]) -> str:
    return "\n".join(fold(", ".join(dict.fromkeys(plain(r.header.label) for r in runs)), 90))


def _look(index: int) -> dict[str, Any]:
    """Return colour, marker and line: no two of the first 280 are the same in all three."""
    return {
        "color": _COLORS[index % len(_COLORS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _LINES[index % len(_LINES)],
    }


def _sample(look: Mapping[str, Any], label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, markersize=5, linewidth=1.5, **look)


def _sweeps(panels: Sequence[Panel], looks: Mapping[str, Any], make: Any) -> "Figure":
    """Draw panels side by side in two columns, each a rate against a size."""
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure: Figure = make(figsize=(_WIDTH, 0.9 + 3.3 * rows))
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        for series in panel.series:
            _line(axes, series, looks[series.name])
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_title("\n".join(fold(panel.title, 52 if columns > 1 else 110)))
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
        values = sorted({p.x for s in panel.series for p in s.points})
        _ticks(axes.xaxis, _panels.thinned(values), "{:,.0f}".format)
        _rate_axis(axes.yaxis, panel)
    return figure


def _line(axes: "Axes", series: Series, look: Mapping[str, Any]) -> None:
    x, y = [p.x for p in series.points], [p.rate for p in series.points]
    axes.errorbar(
        x,
        y,
        yerr=_bars(series.points),
        label=series.name,
        markersize=5,
        linewidth=1.5,
        elinewidth=1.2,
        capsize=3,
        **look,
    )
    _hollow(axes, [p.x for p in series.points if p.low is None], _alone(series.points), look)


def _bars(points: Sequence[Point]) -> list[list[float]]:
    low = [p.rate - p.low if p.low is not None else 0.0 for p in points]
    high = [p.high - p.rate if p.high is not None else 0.0 for p in points]
    return [low, high]


def _alone(points: Sequence[Point]) -> list[float]:
    return [p.rate for p in points if p.low is None]


def _hollow(axes: "Axes", x: Sequence[float], y: Sequence[float], look: Mapping[str, Any]) -> None:
    """Whiten the points without an interval."""
    if x:
        axes.plot(
            x,
            y,
            linestyle="none",
            marker=look["marker"],
            markersize=5,
            markerfacecolor="white",
            markeredgecolor=look["color"],
            zorder=3,
        )


def _named(panels: Sequence[Panel], looks: Mapping[str, Any], make: Any) -> "Figure":
    """Draw panels one below the other, each a row of points for every name."""
    counts = [len(panel.names) for panel in panels]
    lanes = [max(1, len(panel.series)) for panel in panels]
    heights = [0.9 + n * (0.15 + 0.08 * k) for n, k in zip(counts, lanes, strict=True)]
    figure: Figure = make(figsize=(_WIDTH, 0.8 + sum(heights)))
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(grid[i])
        for lane, series in enumerate(panel.series):
            _dots(axes, series, looks[series.name], _offset(lane, len(panel.series)))
        axes.set_xscale("log")
        axes.set_title(panel.title)
        axes.set_xlabel(panel.y_label)
        axes.set_yticks(range(len(panel.names)), panel.names)
        axes.set_ylim(len(panel.names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        for border in range(len(panel.names) - 1):
            axes.axhline(border + 0.5, color="#dddddd", linewidth=0.6, zorder=0)
        _rate_axis(axes.xaxis, panel)
    return figure


def _offset(lane: int, lanes: int) -> float:
    """Return how far below its name a series stands: twice as far from those of the next name."""
    return (lane - (lanes - 1) / 2) / (lanes + 1)


def _dots(axes: "Axes", series: Series, look: Mapping[str, Any], offset: float) -> None:
    points = series.points
    x, y = [p.rate for p in points], [p.x + offset for p in points]
    axes.errorbar(
        x,
        y,
        xerr=_bars(points),
        label=series.name,
        markersize=5,
        elinewidth=1.2,
        capsize=2.5,
        **{**look, "linestyle": "none"},
    )
    _hollow(axes, _alone(points), [p.x + offset for p in points if p.low is None], look)


def _rate_axis(axis: Any, panel: Panel) -> None:
    """Put ticks on round rates, so that even a narrow range has at least two of them."""
    (axis.axes.set_ylim if axis.axis_name == "y" else axis.axes.set_xlim)(*panel.limits)
    _ticks(axis, _panels.round_ticks(*panel.limits), "{:,g}".format)


def _ticks(axis: Any, values: Sequence[float], label: Any) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _position: label(value))


def _described(svg: str, name: str, title: str, panels: Sequence[Panel]) -> str:
    """Give the SVG what a screen reader says, and drop what only a file of its own may have."""
    words = [f"{panel.title}: {panel.in_words()}" for panel in panels]
    head = (
        f'<title id="bench-{name}-title">{escape(f"{FIGURES[name]}: {title}")}</title>'
        f'<desc id="bench-{name}-desc">{escape(" ".join(words))}</desc>'
    )
    role = f'role="img" aria-labelledby="bench-{name}-title bench-{name}-desc"'
    start = svg.index("<svg ")
    end = svg.index(">", start)
    return f"<svg {role} {svg[start + 5 : end]}>{head}{svg[end + 1 :]}"


REPORT = Report(
    name="plots",
    summary="figures as SVG and PNG files",
    render=render,
    figures=FIGURES,
)
