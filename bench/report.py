"""What a file in `reports/` provides: something to look at, made from runs or a comparison."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from bench.results.schema import Measurement, Run

if TYPE_CHECKING:
    from bench.comparing.history import History


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked of a report."""

    only: Sequence[str] = ()
    """Globs on case ids; none means every case."""
    figure: str | None = None
    """One figure by its name; none means all."""
    color: bool = False
    width: int | None = None
    """Columns of the terminal, or None where nothing may be cut or wrapped."""

    def measurements(self, run: Run) -> list[Measurement]:
        """Return the measurements of `run` that were asked for, in their order."""
        return [m for m in run.measurements if self.wants(m.id)]

    def wants(self, case_id: str) -> bool:
        """Tell whether a case was asked for."""
        return not self.only or any(fnmatchcase(case_id, glob) for glob in self.only)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a comparison: rows for people, and the same as records for programs."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()
    """The columns that hold numbers; `bench` itself wrote them."""
    records: Sequence[Mapping[str, Any]] = ()
    """A record for each number, in SI units; the keys are among `RECORD_FIELDS`."""


RECORD_FIELDS = (
    *("table", "machine", "against", "suite", "id", "backend", "samples", "hours_per_month"),
    *("metric", "unit", "value", "low", "high", "note"),
)


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a comparison of machines says, in the order in which it is read."""

    title: str
    sentences: Sequence[str]
    warnings: Sequence[str] = ()
    remarks: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """One form of showing a comparison; a file in `reports/` defines it as `COMPARISON`.

    `render` returns text, or the contents of several files by name.
    """

    name: str
    summary: str
    render: Callable[[Document, Request], str | Mapping[str, bytes]]
    is_for_programs: bool = False
    """Whether it is given every number, however many there are."""
    suffix: str = ""
    """Of its file, such as `.html`, if nobody reads it in a terminal: there it goes into a file."""


@dataclass(frozen=True, kw_only=True)
class HistoryReport:
    """One form of showing a history; a file in `reports/` defines it as `HISTORY`.

    `render` returns text, or the contents of several files by name.
    """

    name: str
    summary: str
    render: "Callable[[History, Request], str | Mapping[str, bytes]]"


@dataclass(frozen=True, kw_only=True)
class Report:
    """One form of showing runs; a file in `reports/` defines one as `REPORT`.

    `render(runs, request)` returns text, or the contents of several files by name. The same runs
    give the same bytes. It raises RequestError for a figure that does not exist.
    """

    name: str
    summary: str
    render: Callable[[Sequence[Run], Request], str | Mapping[str, bytes]]
    figures: Mapping[str, str] | None = None
    """The figures that it can draw, with what each shows."""
    suffix: str = ""
    """Of its file, such as `.html`, if nobody reads it in a terminal: there it goes into a file
    beside the run's."""
