"""The figures of a comparison: what the page shows, and files of their own."""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.errors import RequestError
from bench.report import Document, Request, Table
from bench.text import fold, plain

from . import _cost_figure, _drawing, _machines_figure
from ._drawing import Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture


@dataclass(frozen=True)
class Figure:
    """A figure of a comparison before it is drawn."""

    name: str
    """Of its files."""
    title: str
    words: str
    """What somebody hears who cannot see it."""
    data: Sequence[Table]
    """The tables that it shows, and nothing else shows."""
    beside: Sequence[Table]
    """The tables that it shows and that are read for themselves, too."""
    drawing: Callable[[], Drawing]

    def svg(self) -> bytes:
        """Return it as SVG, the same bytes whenever it is drawn."""
        with _style(self.name):
            return _drawing.svg(self._picture())

    def files(self) -> Mapping[str, bytes]:
        """Return it as SVG, with what a screen reader says, and as PNG."""
        png = io.BytesIO()
        with _style(self.name):
            picture = self._picture()
            svg = _drawing.svg(picture)
            picture.savefig(png, format="png", dpi=150, metadata={"Software": None})
        described = _drawing.described(svg, self.name, plain(self.title), plain(self.words))
        return {f"{self.name}.svg": described, f"{self.name}.png": png.getvalue()}

    def _picture(self) -> "Picture":
        drawing = self.drawing()
        title = "\n".join(fold(plain(self.title), 90))
        _drawing.entitle(drawing.figure, title, drawing.legend, 2)
        _drawing.write_below(drawing.figure, fold(" ".join(drawing.caption), _drawing.LETTERS))
        return drawing.figure


@contextmanager
def _style(name: str) -> Iterator[None]:
    with _drawing.style(name), warnings.catch_warnings():
        # The SVG shows any script; the PNG has a box for a letter that its font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def figures(document: Document) -> list[Figure]:
    """Return the figures of a comparison: the speed of the machines, then their costs."""
    found = []
    speeds = _machines_figure.of(document)
    if speeds is not None:
        words = " ".join(f"{panel.title}: {panel.in_words()}" for panel in speeds.panels)
        found.append(Figure("speed", speeds.title, words, (), speeds.tables, lambda: speeds.draw()))
    for number, (curve, crossings) in enumerate(_cost_figure.curves(document), 1):
        found.append(
            Figure(
                "cost" if number == 1 else f"cost-{number}",
                curve.title,
                _cost_figure.in_words(crossings),
                [table for table in (curve, crossings) if table],
                (),
                partial(_cost_figure.draw, curve, crossings),
            )
        )
    return found


def render(document: Document, _request: Request) -> Mapping[str, bytes]:
    """Return an SVG and a PNG of each figure; the same comparison gives the same bytes.

    Raises:
        RequestError: The comparison has nothing that could be drawn.
    """
    files: dict[str, bytes] = {}
    for figure in figures(document):
        files |= figure.files()
    if not files:
        raise RequestError("nothing here can be drawn; see the table (--as table)")
    return files
