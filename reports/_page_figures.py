"""The figures of a page: which panels are drawn, as SVG, and the data of each as a table."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.report import Request
from bench.results.schema import Run
from bench.text import plain

from . import _drawing, _svg, plots
from ._panels import Data

MOST_PANELS: Final = 4
"""Of each figure. A run of every suite has dozens of sweeps: drawing all of them takes a minute,
and nobody looks at them; the tables hold their numbers."""


@dataclass(frozen=True)
class PanelData:
    """What a panel shows, for who cannot see it or wants the numbers."""

    title: str
    data: Data


@dataclass(frozen=True)
class Drawn:
    """One figure."""

    name: str
    shows: str
    svg: str
    panels: Sequence[PanelData]
    left_out: Sequence[str]
    """The titles of panels that are not drawn."""


def figures(run: Run, request: Request, prefix: str, classes: _svg.Classes) -> Iterator[Drawn]:
    """Yield each figure that has a case to show, on as many sheets as it takes."""
    from markupsafe import Markup

    for name, figure in plots.FIGURES.items():
        panels = figure.panels([run], request)
        shown = _fullest(panels)
        drawn = {id(panel) for panel in shown}
        left_out = [panel.title for panel in panels if id(panel) not in drawn]
        for start in range(0, len(shown), figure.panels_a_page):
            sheet = shown[start : start + figure.panels_a_page]
            sheet_name = name if len(shown) <= figure.panels_a_page else f"{name}-{start + 1}"
            svg = Markup(
                _svg.inline(
                    _draw(name, sheet, run),
                    f"{prefix}{sheet_name}",
                    classes,
                    f"{figure.shows}: {plain(run.header.label)}",
                    f"{'; '.join(p.title for p in sheet)}. Its data stands below as a table.",
                )
            )
            is_last = start + figure.panels_a_page >= len(shown)
            data = [PanelData(panel.title, _data(panel)) for panel in sheet]
            yield Drawn(sheet_name, figure.shows, svg, data, left_out if is_last else ())


def _fullest(panels: Sequence[Any]) -> list[Any]:
    """Return the panels with the most points, in their order.

    Of those with as many points some are taken here and there: neighbours are alike.
    """
    points = [len(_data(panel).rows) for panel in panels]
    least = sorted(points, reverse=True)[:MOST_PANELS][-1:]
    chosen = {i for i, count in enumerate(points) if [count] > least}
    alike = [i for i, count in enumerate(points) if [count] == least]
    places = min(MOST_PANELS - len(chosen), len(alike))
    chosen |= {alike[(place + 1) * len(alike) // places - 1] for place in range(places)}
    return [panel for i, panel in enumerate(panels) if i in chosen]


def _data(panel: Any) -> Data:
    """Return the table of a panel; one that has none still says what it shows."""
    if hasattr(panel, "data"):
        found: Data = panel.data()
        return found
    return Data((), (), (), [panel.in_words()])


def _draw(name: str, panels: Sequence[Any], run: Run) -> bytes:
    with _drawing.style(name), warnings.catch_warnings():
        # A browser has fonts for every script; the one that measures the texts has not.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        return _drawing.svg(plots.draw(name, panels, [run]))
