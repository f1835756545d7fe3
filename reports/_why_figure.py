"""Draws why one device wins: times above what limits them, and beside them a roofline."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bench import units
from bench.text import fold

from . import _drawing, _panels, _summary
from ._drawing import Drawing, Look
from ._limits import COMPUTE, LAUNCH, MEMORY, TRANSFER, Region
from ._panels import Point
from ._why_panels import BEST_CPU, Ribbon, Times, WhyPanel, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FILLS: Final = {
    LAUNCH: ("#dddddd", ""),
    MEMORY: ("#cfe5f5", "////"),
    COMPUTE: ("#fbe3bd", "...."),
    TRANSFER: ("#d5ecd9", "\\\\\\\\"),
}
"""Colour and hatching of what limits a call."""
_CPU_MARKERS: Final = ("o", "h", "d", "p", "8")
_FLOORS: Final = ((0, (1, 1.2)), (0, (5, 1, 1, 1)))
"""Dashes of the floor of a call, and of one with its transfers."""
_ROOFS: Final = {"gpu": "-", "cpu": "--"}
_LETTER: Final = 0.062
"""Inches that a letter takes in a ribbon."""
_PANEL: Final = 4.0
"""Inches of the panel of times, between its axes."""
_READING: Final = (
    "Left: the time of a call, above its floors. They follow from what the run measured of the"
    " device: the shortest call, the rates of its memory, of its arithmetic and of copying to it."
    " The highest of them is what limits a call; the ribbons name it. Right: FLOP/s against FLOPs"
    " per byte moved, under the measured ceilings."
)


def draw(panels: Sequence[WhyPanel]) -> Drawing:
    """Draw a row for each panel: times with ribbons on the left, the roofline on the right."""
    from matplotlib.figure import Figure

    texts = [_sentences(panel) for panel in panels]
    heights = [
        3.5 + 0.2 * len(p.ribbons) + 0.14 * len(t) for p, t in zip(panels, texts, strict=True)
    ]
    figure = Figure(figsize=(_drawing.WIDTH, 0.4 + sum(heights)))
    rows = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    looks = _looks(panels)
    for row, panel, text in zip(rows, panels, texts, strict=True):
        row.suptitle("\n".join(fold(panel.title, 110)), x=0.01, ha="left", fontsize=10)
        row.supxlabel("\n".join(text), x=0.01, ha="left", fontsize=8)
        grid = row.add_gridspec(
            2, 2, width_ratios=[5, 4], height_ratios=[3, 0.22 * len(panel.ribbons)]
        )
        axes = row.add_subplot(grid[0, 0])
        _times(axes, panel, looks)
        _ribbons(row.add_subplot(grid[1, 0], sharex=axes), axes, panel)
        _roofline(row.add_subplot(grid[:, 1]), panel, looks)
    points = [p for panel in panels for line in panel.times for p in line.points]
    return Drawing(figure, _legend(panels, looks), [_READING, *_drawing.how_sure(points)])


def _sentences(panel: WhyPanel) -> list[str]:
    return [line for r in panel.ribbons for line in fold(" ".join(r.sentences), _drawing.LETTERS)]


def _looks(panels: Sequence[WhyPanel]) -> dict[str, Look]:
    """Return the look of each place and backend; those of a GPU are the ones of a call alone."""
    dots = [dots for panel in panels for dots in panel.dots]
    gpus = {d.backend for d in dots if d.device == "gpu"}
    cpus = {d.backend for d in dots} - gpus
    for panel in panels:
        own = {line.place for line in panel.times} - {BEST_CPU}
        (gpus if panel.device == "gpu" else cpus).update(own)
    looks = {
        name: _drawing.gpu_look(i, moved=False)
        for i, name in enumerate(sorted(gpus, key=_summary.natural))
    }
    for i, name in enumerate(sorted(cpus - gpus, key=_summary.natural)):
        looks[name] = {
            **_drawing.look(len(gpus) + i),
            "marker": _CPU_MARKERS[i % len(_CPU_MARKERS)],
        }
    return looks


def _look(line: Times, looks: Mapping[str, Look]) -> Look:
    if line.place == BEST_CPU:
        return {"color": "black", "marker": "none", "linestyle": "-"}
    gpus = list(looks)
    return (
        _drawing.gpu_look(gpus.index(line.place), moved=True) if line.moved else looks[line.place]
    )


def _legend(panels: Sequence[WhyPanel], looks: Mapping[str, Look]) -> list[Any]:
    from matplotlib.patches import Patch

    lines = {line.name: line for panel in panels for line in panel.times}
    found = {name: _drawing.sample(_look(line, looks), name) for name, line in lines.items()}
    drawn = {line.place for line in lines.values()}
    for panel in panels:
        for dots in panel.dots:
            if dots.backend not in drawn:
                look = {**looks[dots.backend], "linestyle": "none"}
                found.setdefault(dots.backend, _drawing.sample(look, dots.backend))
        for i, _ in enumerate(panel.ribbons):
            name = ("floor of a call", "floor with transfers")[i]
            look = {"color": "#555555", "marker": "none", "linestyle": _FLOORS[i]}
            found[name] = _drawing.sample(look, name)
    for panel in panels:
        for ribbon in panel.ribbons:
            for region in ribbon.regions:
                name = _in_full(region, panel)
                if not _name_that_fits(region, ribbon, panel):
                    color, hatch = _FILLS[region.limit]
                    found[name] = Patch(facecolor=color, hatch=hatch, edgecolor="#888", label=name)
    return list(found.values())


def _times(axes: "Axes", panel: WhyPanel, looks: Mapping[str, Look]) -> None:
    for line in panel.times:
        look = _look(line, looks)
        if line.place == BEST_CPU:
            axes.plot([p.x for p in line.points], [p.y for p in line.points], **look)
            for backend in sorted(set(line.backends)):
                own = [p for p, b in zip(line.points, line.backends, strict=True) if b == backend]
                marks = {**looks[backend], "linestyle": "none"}
                _drawing.line(axes, own, backend, marks)
        else:
            _drawing.line(axes, line.points, line.name, look)
    for dashes, ribbon in zip(_FLOORS, panel.ribbons, strict=False):
        axes.plot(*zip(*ribbon.floor, strict=True), color="#555555", linestyle=dashes, zorder=1.5)
    for region in panel.ribbons[0].regions:
        axes.axvspan(region.start, region.end, color=_FILLS[region.limit][0], alpha=0.35, zorder=-1)
    floors = [Point(x, y, None, None) for ribbon in panel.ribbons for x, y in ribbon.floor]
    limits = _panels.limits([*floors, *(p for line in panel.times for p in line.points)])
    axes.set_ylabel("time of a call")
    _drawing.value_axis(axes.yaxis, limits, _drawing.bare(units.seconds))
    axes.tick_params(axis="x", labelbottom=False, length=0)


def _ribbons(strip: "Axes", axes: "Axes", panel: WhyPanel) -> None:
    """Draw what limits a call below the times, a lane alone and one with transfers."""
    sizes = sorted({p.x for line in panel.times for p in line.points})
    _drawing.size_axis(strip.xaxis, sizes, panel.x_label)
    for lane, ribbon in enumerate(panel.ribbons):
        for region in ribbon.regions:
            color, hatch = _FILLS[region.limit]
            strip.barh(
                lane,
                region.end - region.start,
                left=region.start,
                height=0.9,
                color=color,
                edgecolor="#888888",
                linewidth=0.5,
                hatch=hatch,
            )
            strip.text(
                (region.start * region.end) ** 0.5,
                lane,
                _name_that_fits(region, ribbon, panel),
                ha="center",
                va="center",
                fontsize=8,
                bbox={"boxstyle": "round,pad=0.1", "facecolor": color, "edgecolor": "none"},
            )
    strip.set_ylim(len(panel.ribbons) - 0.5, -0.5)
    strip.set_yticks(range(len(panel.ribbons)), [r.name for r in panel.ribbons], fontsize=8)
    strip.tick_params(axis="y", length=0)
    strip.grid(visible=False)


def _in_full(region: Region, panel: WhyPanel) -> str:
    on_cpu = panel.device == "cpu" and region.limit == LAUNCH
    return f"{'call' if on_cpu else region.limit}-limited"


def _name_that_fits(region: Region, ribbon: Ribbon, panel: WhyPanel) -> str:
    """Return the longest name of a region that its ribbon has room for; perhaps none."""
    first, last = ribbon.regions[0].start, ribbon.regions[-1].end
    room = _PANEL * math.log(region.end / region.start) / math.log(last / first)
    full = _in_full(region, panel)
    for name in (full, full.removesuffix("-limited")):
        if len(name) * _LETTER < room:
            return name
    return ""


def _roofline(axes: "Axes", panel: WhyPanel, looks: Mapping[str, Look]) -> None:
    points = [point for dots in panel.dots for point in dots.points]
    ridges = [roof.flops / roof.bytes_moved for roof in panel.roofs]
    low = min([*(x for x, _ in points), *ridges]) / 2
    high = max([*(x for x, _ in points), *ridges]) * 2
    for roof in panel.roofs:
        bends = sorted({low, roof.flops / roof.bytes_moved, high})
        axes.plot(
            bends,
            [roof.at(x) for x in bends],
            label=in_words(roof),
            color="black",
            linewidth=1.2,
            linestyle=_ROOFS[roof.device],
        )
    roofs = axes.get_lines()
    for dots in panel.dots:
        marks = {**looks[dots.backend], "linestyle": "none"}
        axes.plot(*zip(*dots.points, strict=True), markersize=5, label=dots.backend, **marks)
    heights = [*(y for _, y in points), *(roof.flops for roof in panel.roofs)]
    # Above the roofs is room for their names, whatever lies below.
    above = (max(heights) / min(heights)) ** 0.2 * 1.5
    limits = min(heights) / 2, max(heights) * above
    axes.legend(handles=roofs, loc="upper left", fontsize=8, frameon=False, borderpad=0)
    axes.set_xlabel("FLOPs per byte moved")
    _drawing.value_axis(axes.xaxis, (low, high))
    _drawing.value_axis(axes.yaxis, limits, _drawing.bare(lambda value: units.rate(value, "FLOP")))
