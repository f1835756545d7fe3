"""Text for a terminal: what a file says, made harmless, and tables that lose nothing."""

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Final

Style = Callable[[int, int, str], str]
"""`style(row, column, text)` returns the text with colours; it is called after aligning."""

_GAP: Final = "  "
_INDENT: Final = "    "
_NARROWEST: Final = 16
"""Columns below which folded prose is a ladder of single words."""
_JOINTS: Final = re.compile(r"(?<=[+/,])")
"""Where a word that is too long may be broken without hurting it, as in a backend's name."""


def plain(text: str) -> str:
    r"""Make `text` safe to show on one line: what has no glyph becomes an escape such as `\x1b`.

    Covers control characters, line breaks, bidirectional marks, zero-width characters, lone
    surrogates and unassigned code points. Backslashes stay, so that paths stay readable.
    """
    if text.isprintable():
        return text
    return "".join(c if _has_glyph(c) else _escape(c) for c in text)


def _has_glyph(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def display_width(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    return sum(_character_width(c) for c in text)


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fold(text: str, width: int) -> list[str]:
    """Break `text` into lines of at most `width` columns, at spaces or joints where there are any.

    A character wider than `width` still gets a line. Only spaces at the breaks are dropped.
    """
    lines: list[str] = []
    line: str | None = None
    for word in text.split(" "):
        candidate = word if line is None else f"{line} {word}"
        if display_width(candidate) <= width:
            line = candidate
            continue
        if line is not None and line.strip():
            lines.append(line)
        line = ""
        for piece in _JOINTS.split(word):
            if line and display_width(line + piece) > width:
                lines.append(line)
                line = ""
            for character in piece:
                if line and display_width(line + character) > width:
                    lines.append(line)
                    line = ""
                line += character
    return [*lines, line or ""]


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts `n=64` before `n=1024`."""
    return [
        (0, len(number := part.lstrip("0")), f"{number} {part}")
        if part.isdecimal()
        else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


def align(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    width: int | None = None,
    style: Style | None = None,
) -> str:
    """Return a table in plain text, columns aligned by what they take on the screen.

    Every cell is made `plain`; nothing is ever cut. A row of one cell is a heading across the
    table. Columns in `right` hold numbers: aligned at the right and never broken. Where the table
    is wider than `width`, the last column folds; with too little room for that it stands beneath
    its row under its header's name; then the other columns of words fold, widest first. A table
    whose numbers alone are wider than `width` stays so. The result ends with a line break.
    """
    cells = [[plain(cell) for cell in row] for row in [header, *rows]]
    full = [row for row in cells if len(row) == len(header)]
    natural = [max(display_width(row[i]) for row in full) for i in range(len(header))]
    last = len(header) - 1
    beneath = False
    widths = natural
    if width is not None and _total(natural) > width:
        room = width - _total(natural[:last]) - len(_GAP)
        beneath = last not in right and last > 0 and room < min(_NARROWEST, natural[last])
        widths = _narrowed(natural[:last] if beneath else natural, right, width)

    lines: list[str] = []
    for number, row in enumerate(cells):
        paint = _painter(style, number - 1)
        if len(row) != len(header):
            for line in fold(row[0], width) if width is not None else [row[0]]:
                lines.append(paint(0, line))
            continue
        lines += _lines_of(row[: len(widths)], widths, right, paint)
        if beneath and number > 0 and row[last]:
            text = f"{cells[0][last]}: {row[last]}" if cells[0][last] else row[last]
            room = max(1, (width or 0) - len(_INDENT))
            lines += [_INDENT + paint(last, line) for line in fold(text, room)]
        if number == 0:
            lines.append(_GAP.join("-" * w for w in widths))
    return "".join(f"{line.rstrip(' ')}\n" for line in lines)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * max(0, len(widths) - 1)


def _narrowed(widths: Sequence[int], right: Collection[int], width: int) -> list[int]:
    """Take columns of words down to `_NARROWEST`, the last one first, until they fit."""
    narrowed = list(widths)
    last = len(widths) - 1
    for i in sorted(range(len(widths)), key=lambda i: (i != last, -widths[i], i)):
        excess = _total(narrowed) - width
        if excess > 0 and i not in right:
            narrowed[i] -= min(excess, max(0, narrowed[i] - _NARROWEST))
    return narrowed


def _painter(style: Style | None, row: int) -> Callable[[int, str], str]:
    if style is None or row < 0:
        return lambda _column, text: text
    return lambda column, text: style(row, column, text) if text.strip() else text


def _lines_of(
    row: Sequence[str],
    widths: Sequence[int],
    right: Collection[int],
    paint: Callable[[int, str], str],
) -> list[str]:
    folded = [[c] if i in right else fold(c, widths[i]) for i, c in enumerate(row)]
    lines = []
    for depth in range(max(len(cell) for cell in folded)):
        parts = []
        for i, cell in enumerate(folded):
            text = cell[depth] if depth < len(cell) else ""
            padding = " " * (widths[i] - display_width(text))
            painted = paint(i, text)
            parts.append(padding + painted if i in right else painted + padding)
        lines.append(_GAP.join(parts))
    return lines
