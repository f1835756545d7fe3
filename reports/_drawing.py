"""What the figures share when they are drawn: style, colours and markers, axes, points."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

from ._panels import Panel, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Look = Mapping[str, Any]
"""Colour, marker and line style, as matplotlib takes them."""

COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without its yellow, which is too pale for a line on white."""
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES: Final = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
_TURNED: Final = (("s", "D"), ("^", "v"), ("P", "X"), (">", "<"), ((5, 0, 0), (5, 0, 36)))
"""Markers of a call alone; turned round, with its transfers."""
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
    "hatch.linewidth": 0.5,
}
WIDTH: Final = 9.0
"""Inches; at 100 dots per inch the picture fits the column of a web page."""
LETTERS: Final = 140
"""Columns of a caption that fill the width."""
_INTERVAL: Final = (
    "Bars: the 95% interval of what a repeat of the whole run on this machine would print."
)
_HOLLOW: Final = "Hollow points: one block only, so no interval is known."


@dataclass(frozen=True)
class Drawing:
    """A figure without its legend and caption, and what those consist of."""

    figure: "Figure"
    legend: Sequence[Any]
    caption: Sequence[str]


def style(name: str) -> AbstractContextManager[Any]:
    """Set our style, whatever the user's own settings are: they must not change the bytes."""
    import matplotlib.style

    return matplotlib.style.context(["default", {**_STYLE, "svg.hashsalt": f"bench-{name}"}])


def svg(figure: "Figure") -> bytes:
    """Return the figure as SVG, the same bytes whenever it is drawn.

    `savefig` gives the same, but goes through everything twice. The date is left out; clips are
    numbered, because matplotlib names those of subfigures after addresses in memory.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(out, metadata={"Date": None, "Creator": None})
    drawn = out.getvalue()
    clips = re.findall(rb'<clipPath id="(\w+)"', drawn)
    for number, name in enumerate(clips):
        drawn = re.sub(rb"\b%s\b" % name, b"clip%d" % number, drawn)
    return drawn


def described(svg: bytes, name: str, title: str, words: str) -> bytes:
    """Give an SVG what a screen reader says, and drop what only a file of its own may have."""
    text = svg.decode()
    head = (
        f'<title id="bench-{name}-title">{escape(title)}</title>'
        f'<desc id="bench-{name}-desc">{escape(words)}</desc>'
    )
    role = f'role="img" aria-labelledby="bench-{name}-title bench-{name}-desc"'
    start = text.index("<svg ")
    end = text.index(">", start)
    return f"<svg {role} {text[start + 5 : end]}>{head}{text[end + 1 :]}".encode()


def entitle(figure: "Figure", title: str, handles: Sequence[Any], columns: int) -> None:
    """Write the title above the legend: the layout would put a title of its own over it."""
    figure.legend(
        handles=handles,
        title=title,
        title_fontproperties={"size": 12, "weight": "bold"},
        alignment="left",
        loc="outside upper left",
        ncols=columns,
        frameon=False,
    )


def write_below(figure: "Figure", caption: Sequence[str]) -> None:
    """Write the lines of a caption below a figure."""
    figure.supxlabel("\n".join(caption), x=0.01, ha="left", fontsize=8, color="#444444")


def look(index: int) -> Look:
    """Return colour, marker and line: no two of the first 280 are the same in all three."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _LINES[index % len(_LINES)],
    }


def gpu_look(index: int, *, moved: bool) -> Look:
    """Return the look of a GPU's line; with transfers it is dashed and the marker is turned."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": _TURNED[index % len(_TURNED)][moved],
        "linestyle": "--" if moved else "-",
    }


def sample(look: Look, label: str) -> Any:
    """Return the entry of a line in the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, markersize=5, linewidth=1.5, **look)


def line(axes: "Axes", points: Sequence[Point], label: str, look: Look) -> None:
    """Draw points with their intervals, joined by a line."""
    axes.errorbar(
        [p.x for p in points],
        [p.y for p in points],
        yerr=_bars(points),
        label=label,
        markersize=5,
        linewidth=1.5,
        elinewidth=1.2,
        capsize=3,
        **look,
    )
    _hollow(axes, [(p.x, p.y) for p in points if p.low is None], look)


def dots(axes: "Axes", points: Sequence[Point], label: str, look: Look, offset: float) -> None:
    """Draw points with their intervals lying, `offset` below the name that they stand at."""
    axes.errorbar(
        [p.y for p in points],
        [p.x + offset for p in points],
        xerr=_bars(points),
        label=label,
        markersize=5,
        elinewidth=1.2,
        capsize=2.5,
        **{**look, "linestyle": "none"},
    )
    _hollow(axes, [(p.y, p.x + offset) for p in points if p.low is None], look)


def _bars(points: Sequence[Point]) -> list[list[float]]:
    low = [p.y - p.low if p.low is not None else 0.0 for p in points]
    high = [p.high - p.y if p.high is not None else 0.0 for p in points]
    return [low, high]


def _hollow(axes: "Axes", places: Sequence[tuple[float, float]], look: Look) -> None:
    """Whiten the points without an interval."""
    if places:
        axes.plot(
            *zip(*places, strict=True),
            linestyle="none",
            marker=look["marker"],
            markersize=5,
            markerfacecolor="white",
            markeredgecolor=look["color"],
            zorder=3,
        )


def how_sure(points: Sequence[Point]) -> list[str]:
    """Say in a caption what the bars mean, and the points without one."""
    return [_INTERVAL, *([_HOLLOW] if any(p.low is None for p in points) else [])]


def names(figure: "Figure", panels: Sequence[Panel], looks: Mapping[str, Look]) -> None:
    """Draw panels one below the other, each a row of points for every name."""
    counts = [len(panel.names) for panel in panels]
    lanes = [max(1, len(panel.series)) for panel in panels]
    titles = [1 + panel.title.count("\n") for panel in panels]
    heights = [
        0.7 + 0.2 * lines + n * (0.15 + 0.08 * k)
        for n, k, lines in zip(counts, lanes, titles, strict=True)
    ]
    figure.set_size_inches(WIDTH, 0.8 + sum(heights))
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(grid[i])
        for lane, series in enumerate(panel.series):
            offset = _offset(lane, len(panel.series))
            dots(axes, series.points, series.name, looks[series.name], offset)
        axes.set_xscale("log")
        axes.set_title(panel.title)
        axes.set_xlabel(panel.y_label)
        axes.set_yticks(range(len(panel.names)), panel.names)
        axes.set_ylim(len(panel.names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        for border in range(len(panel.names) - 1):
            axes.axhline(border + 0.5, color="#dddddd", linewidth=0.6, zorder=0)
        value_axis(axes.xaxis, panel.limits)


def _offset(lane: int, lanes: int) -> float:
    """Return how far below its name a series stands: twice as far from those of the next name."""
    return (lane - (lanes - 1) / 2) / (lanes + 1)


def size_axis(axis: Any, sizes: Sequence[float], label: str) -> None:
    """Make an x axis of sizes, each with a tick where there is room."""
    axis.axes.set_xscale("log", base=2)
    axis.set_label_text(label)
    beside = (max(sizes) / min(sizes)) ** 0.04
    axis.axes.set_xlim(min(sizes) / beside, max(sizes) * beside)
    ticks(axis, thinned(sorted(set(sizes))), "{:,.0f}".format)


def value_axis(axis: Any, limits: tuple[float, float], label: Any = "{:,g}".format) -> None:
    """Put ticks on round values, so that even a narrow range has at least two of them."""
    if axis.axis_name == "y":
        axis.axes.set_yscale("log")
        axis.axes.set_ylim(*limits)
    else:
        axis.axes.set_xscale("log")
        axis.axes.set_xlim(*limits)
    ticks(axis, round_ticks(*limits), label)


def bare(write: Callable[[float], str]) -> Callable[[float], str]:
    """Write round numbers without the zeros behind the point: `10 us`, not `10.0 us`."""

    def label(value: float) -> str:
        number, unit = write(value).split(" ", 1)
        return f"{float(number):g} {unit}"

    return label


def ticks(axis: Any, values: Sequence[float], label: Any) -> None:
    """Put ticks on `values` and nowhere else."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _position: label(value))


def thinned(values: Sequence[float], steps: int = 7) -> list[float]:
    """Return those of the sorted values whose labels keep apart on a logarithmic axis.

    Two of them are at least one of `steps` equal parts of the axis apart.
    """
    apart = math.log(values[-1] / values[0]) / steps
    kept: list[float] = []
    for value in values:
        if not kept or math.log(value / kept[-1]) >= apart * 0.999:
            kept.append(value)
    return kept


def round_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Return 1, 10, 100 within the limits, with numbers between where those are too few.

    Where there are more than `most`, only each second, third, ... power of ten is returned.
    """
    within: list[float] = []
    for steps in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        values = [step * 10.0**exponent for exponent in exponents for step in steps]
        within = [value for value in values if low <= value <= high]
        if len(within) >= 3:
            break
    return within[:: max(1, math.ceil(len(within) / most))]
