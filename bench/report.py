"""What a file in `reports/` provides: something to look at, made from runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bench.results.schema import Measurement, Run


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
        return [
            m
            for m in run.measurements
            if not self.only or any(fnmatchcase(m.id, glob) for glob in self.only)
        ]


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
