"""The figures of a comparison: what the page shows, and files of their own."""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
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
            self._picture().savefig(png, format="png", dpi=150, metadata={"Software": None})
        described = self._described(self.svg().decode())
        return {f"{self.name}.svg": described.encode(), f"{self.name}.png": png.getvalue()}

    def _picture(self) -> "Picture":
        drawing = self.drawing()
        figure = drawing.figure
        figure.legend(
            handles=drawing.legend,
            title="\n".join(fold(plain(self.title), 90)),
            title_fontproperties={"size": 12, "weight": "bold"},
            alignment="left",
            loc="outside upper left",
            ncols=2,
            frameon=False,
        )
        caption = "\n".join(fold(" ".join(drawing.caption), _drawing.LETTERS))
        figure.supxlabel(caption, x=0.01, ha="left", fontsize=8, color="#444444")
        return figure

    def _described(self, svg: str) -> str:
        name = self.name
        head = (
            f'<title id="bench-{name}-title">{escape(plain(self.title))}</title>'
            f'<desc id="bench-{name}-desc">{escape(plain(self.words))}</desc>'
        )
        role = f'role="img" aria-labelledby="bench-{name}-title bench-{name}-desc"'
        start = svg.index("<svg ")
        end = svg.index(">", start)
        return f"<svg {role} {svg[start + 5 : end]}>{head}{svg[end + 1 :]}"


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
