"""Figures of a run as SVG and PNG: which there are, and what all of them have around them."""

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bench.errors import RequestError
from bench.report import ComparisonReport, HistoryReport, Report, Request
from bench.results.schema import Run
from bench.text import display_width, fold, plain

from . import (
    _batch_figure,
    _batch_panels,
    _comparison_figures,
    _drawing,
    _history_figure,
    _latency_figure,
    _latency_panels,
    _panels,
    _rate_figure,
    _rate_panels,
    _speedup_figure,
    _speedup_panels,
    _why_figure,
    _why_panels,
)
from ._drawing import Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

_SWEEP: Final = "at two sizes or more that differ in one dimension"
_NAMED: Final = "at sizes with a name"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure: which panels it has, and how they are drawn.

    A panel has a `title` and says `in_words()` what it shows.
    """

    shows: str
    needs: str
    panels: Callable[[Sequence[Run], Request], Sequence[Any]]
    draw: Callable[[Sequence[Any]], Drawing]
    panels_a_page: int = 4
    """How many a printed page holds."""
    missing: Callable[[Sequence[Run], Request], str] = lambda _runs, _request: ""
    """Says why there is no panel where one would be expected."""


FIGURES: Final = {
    "rate": Figure(
        shows="rate against size, for workloads measured at a sweep of sizes",
        needs=f"cases with a rate {_SWEEP}",
        panels=partial(_rate_panels.panels, named=False),
        draw=_rate_figure.sweeps,
    ),
    "rate-named": Figure(
        shows="rate at each size that has a name, such as layers, and of whole networks",
        needs=f"cases with a rate {_NAMED}",
        panels=partial(_rate_panels.panels, named=True),
        draw=_rate_figure.named,
    ),
    "speedup": Figure(
        shows="speedup of the GPU over the best CPU against size, and the crossover",
        needs=f"cases measured on a CPU and on a GPU {_SWEEP}",
        panels=partial(_speedup_panels.panels, named=False),
        draw=_speedup_figure.sweeps,
    ),
    "speedup-named": Figure(
        shows="speedup of the GPU over the best CPU at each size that has a name",
        needs=f"cases measured on a CPU and on a GPU {_NAMED}",
        panels=partial(_speedup_panels.panels, named=True),
        draw=_speedup_figure.named,
    ),
    "batch": Figure(
        shows="throughput, time and peak memory against the batch, and what still fits",
        needs="cases of the suite batch-sweep with a number",
        panels=_batch_panels.panels,
        draw=_batch_figure.draw,
        missing=_batch_panels.missing,
    ),
    "why": Figure(
        shows="why one device wins: the time of a call above what limits it, and a roofline",
        needs=f"cases with FLOPs and bytes {_SWEEP}",
        panels=_why_panels.panels,
        draw=_why_figure.draw,
        panels_a_page=2,
        missing=_why_panels.missing,
    ),
    "latency": Figure(
        shows="how long the requests to a service took, with p50, p99 and the bound",
        needs="cases of the suite latency",
        panels=_latency_panels.panels,
        draw=_latency_figure.draw,
        missing=_latency_panels.missing,
    ),
}


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
    names = [request.figure] if request.figure else list(FIGURES)
    missing = {name: FIGURES[name].missing(runs, request) for name in FIGURES}
    remarks = [_panels.undrawn(runs, request)]
    remarks += [f"Figure {name}: {why}." for name, why in missing.items() if why]
    files: dict[str, bytes] = {}
    for name in names:
        panels = FIGURES[name].panels(runs, request)
        if panels:
            files |= _files(name, panels, runs, " ".join(filter(None, remarks)))
    if not files:
        what = f"figure {request.figure}" if request.figure else "any figure"
        why = "; ".join(filter(None, (missing[name] for name in names)))
        needs = " or ".join(dict.fromkeys(FIGURES[name].needs for name in names))
        raise RequestError(
            f"no case for {what}: {why or f'it shows {needs}'};"
            " choose others with --only, or see the table (--as table)"
        )
    return files


def _files(name: str, panels: Sequence[Any], runs: Sequence[Run], remarks: str) -> dict[str, bytes]:
    png = io.BytesIO()
    with _drawing.style(name), warnings.catch_warnings():
        # The SVG shows any script; the PNG has a box for a letter that its font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = draw(name, panels, runs, remarks)
        svg = _drawing.svg(figure)
        figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    title = f"{FIGURES[name].shows}: {_title(runs)}"
    words = " ".join(f"{panel.title}: {panel.in_words()}" for panel in panels)
    described = _drawing.described(svg, name, title, words)
    return {f"{name}.svg": described, f"{name}.png": png.getvalue()}


def draw(name: str, panels: Sequence[Any], runs: Sequence[Run], remarks: str = "") -> "Picture":
    """Return the figure `name` of `panels`, for who wants its artists rather than a file."""
    with _drawing.style(name):
        drawing = FIGURES[name].draw(panels)
        figure = drawing.figure
        labels = [str(entry.get_label()) for entry in drawing.legend]
        lines = math.ceil(len(labels) / max(1, 110 // (max(map(display_width, labels)) + 10)))
        caption = fold(" ".join(filter(None, [*drawing.caption, remarks])), _drawing.LETTERS)
        height = 0.2 * lines + 0.13 * len(caption)
        figure.set_figheight(figure.get_figheight() + height)
        columns = math.ceil(len(labels) / lines)
        _drawing.entitle(figure, _title(runs), drawing.legend, columns)
        _drawing.write_below(figure, caption)
        return figure


def _title(runs: Sequence[Run]) -> str:
    return "\n".join(fold(", ".join(dict.fromkeys(plain(r.header.label) for r in runs)), 90))


REPORT = Report(
    name="plots",
    summary="figures as SVG and PNG files",
    render=render,
    figures={name: figure.shows for name, figure in FIGURES.items()},
)

COMPARISON = ComparisonReport(
    name="plots",
    summary="the speed, and the cost against hours per month, as SVG and PNG files",
    render=_comparison_figures.render,
    is_for_programs=True,
)

HISTORY = HistoryReport(
    name="plots",
    summary="the time of each case from run to run, with intervals, as SVG and PNG files",
    render=_history_figure.render,
)
