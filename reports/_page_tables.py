"""The tables of a page: every case with its numbers, under an anchor of its own."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

from ._panels import Key
from ._summary import Section

_UNSAFE = re.compile(r"[^A-Za-z0-9._=,+/-]")


@dataclass(frozen=True)
class TableRow:
    """One case."""

    cells: Sequence[str]
    id: str
    """The anchor of the row; empty where another row of the case has it."""
    href: str
    """Where the case's own row is; empty if it has none."""


@dataclass(frozen=True)
class Table:
    """The cases of a section."""

    id: str
    title: str
    columns: Sequence[str]
    right: Set[int]
    """The columns that hold numbers."""
    rows: Sequence[TableRow]


class Anchors:
    """The anchors of one run of a page: each case and each table has one, and no two the same."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._taken: set[Key] = set()

    def tables(self, sections: Sequence[Section], kind: str) -> list[Table]:
        """Lay out sections; the first row of a case gets its anchor, others lead there."""
        return [self._table(section, f"{kind}{i}") for i, section in enumerate(sections, 1)]

    def _table(self, section: Section, name: str) -> Table:
        rows = []
        size = ""
        for i, cells in enumerate(section.rows):
            size = cells[0] or size  # sorted, each row stands alone
            key = section.measurements[i].key if section.measurements else None
            own = "" if key is None or key in self._taken else self.case(key)
            if key is not None:
                self._taken.add(key)
            rows.append(TableRow([size, *cells[1:]], own, self.link(key)))
        title = section.full_title
        return Table(f"{self.prefix}{name}", title, section.columns, section.right, rows)

    def link(self, key: Key | None) -> str:
        """Return the reference to a case's row; empty if there is none."""
        return f"#{self.case(key)}" if key in self._taken and key is not None else ""

    def case(self, key: Key) -> str:
        """Return the anchor of a case, from which its suite and id can be read."""
        return self.prefix + ":".join(map(_quoted, key))


def _quoted(text: str) -> str:
    """Write `text` with characters that any id and any address may hold; no two texts alike."""
    return _UNSAFE.sub(lambda found: f"~{ord(found[0]):x}~", text)
