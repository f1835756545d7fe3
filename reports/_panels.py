"""What the panels of all figures share: which cases are in one, and its title, axes and words."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

from bench import units
from bench.comparing.sweeps import size_name, sweeps
from bench.report import Request
from bench.results.networks import totals
from bench.results.schema import Measurement, Run
from bench.text import plain

from . import _summary

Key = tuple[str, str]
SHORTEST: Final = 1e-30
"""Seconds that no clock tells; ratios of such times leave the range of numbers."""


@dataclass(frozen=True)
class Point:
    """A case: where it stands, and its value with its interval in the unit of the panel."""

    x: float
    y: float
    low: float | None
    high: float | None
    key: Key | None = None
    """The suite and the id of the case."""


@dataclass(frozen=True)
class Data:
    """What a panel shows, as a table."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Sequence[Key | None]
    """The suite and the id of the case behind each row."""
    remarks: Sequence[str] = ()
    """What the panel says besides its points."""


@dataclass
class Series:
    """The points of one line."""

    name: str
    points: list[Point] = field(default_factory=list)


@dataclass(kw_only=True)
class Panel:
    """A plot of its own: one workload, phase and dtype."""

    title: str
    x_label: str
    y_label: str
    unit: str
    series: Sequence[Series]
    names: Sequence[str] = ()
    """The named sizes in their order; empty where `x` is a number."""

    @property
    def limits(self) -> tuple[float, float]:
        """Return the lowest and the highest value of the axis; intervals lie within."""
        return limits([p for s in self.series for p in s.points])

    @property
    def remarks(self) -> Sequence[str]:
        """Say what the panel shows besides its points."""
        return ()

    def data(self) -> Data:
        """Return the points as a table."""
        points = [(series.name, p) for series in self.series for p in series.points]
        rows = [[self._where(p), name, *written(p, f" {self.unit}")] for name, p in points]
        columns = (self.x_label or "size", "line", self.y_label, "95% interval")
        return Data(columns, rows, [p.key for _, p in points], self.remarks)

    def _where(self, p: Point) -> str:
        return self.names[int(p.x)] if self.names else f"{p.x:,.0f}"

    def in_words(self) -> str:
        """Say what the panel shows to somebody who cannot see it."""
        return " ".join(f"{s.name}: {self._series_in_words(s)}." for s in self.series)

    def _series_in_words(self, series: Series) -> str:
        def at(p: Point) -> str:
            where = self.names[int(p.x)] if self.names else f"{self.x_label} {p.x:,.0f}"
            return f"{units.significant(p.y)} {self.unit} at {where}"

        return ", ".join(map(at, series.points))


def written(p: Point, unit: str) -> list[str]:
    """Write a point's value and its interval."""
    value = f"{units.significant(p.y)}{unit}"
    if p.low is None or p.high is None:
        return [value, "one block"]
    return [value, f"[{units.significant(p.low)}, {units.significant(p.high)}]{unit}"]


@dataclass(frozen=True)
class Case:
    """A measurement that is drawn, and the name of its line."""

    m: Measurement
    line: str
    whole: bool
    """Whether it is the sum over a network."""


C = TypeVar("C", bound=Case)


@dataclass(frozen=True)
class Group(Generic[C]):
    """The cases of one panel: a sweep of `dimension`, or `names` of sizes."""

    subject: str
    """What is measured, without its dtype."""
    dtype: str
    cases: Sequence[C]
    dimension: str = ""
    names: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The subject and the dtype."""
        return plain(f"{self.subject}, {self.dtype}")

    @property
    def x_label(self) -> str:
        """The name of the axis of a sweep."""
        if not self.dimension:
            return ""
        return "batch size" if self.dimension == "batch" else f"size {plain(self.dimension)}"

    @property
    def labels(self) -> list[str]:
        """The names as they are shown."""
        return [plain(name) for name in self.names]

    def place(self, case: Case) -> int:
        """Return where a case stands on the axis."""
        if self.dimension:
            return case.m.sizes[self.dimension]
        return self.names.index(case.m.size)


def drawable(run: Run, request: Request) -> list[Measurement]:
    """Return the measurements that were asked for and whose times fit on an axis."""
    return [m for m in request.measurements(run) if _fits(m)]


def _fits(m: Measurement) -> bool:
    """Tell whether a clock can have told the times; a file may say anything."""
    known = [time for name in m.metrics if (time := getattr(m, name)) is not None]
    ends = [end for time in known for end in (time.median, time.low, time.high)]
    return all(end is None or end > SHORTEST for end in ends)


def asked(run: Run, request: Request) -> Iterator[tuple[Measurement, bool]]:
    """Yield the measurements with a number and the sums of networks, which are `True`."""
    cases = drawable(run, request)
    for whole, measurements in ((False, cases), (True, totals(cases))):
        for m in measurements:
            if m.status == "ok" and m.seconds is not None:
                yield m, whole


def groups(cases: Sequence[C], *, named: bool) -> list[Group[C]]:
    """Return the sweeps among the cases, or the sizes that have a name and are in no sweep."""
    found = []
    for _, members in groupby(sorted(cases, key=_family), key=_family):
        family = list(members)
        swept = sorted(sweeps([c.m for c in family]), key=lambda s: _summary.natural(s.name))
        if not named:
            for sweep in swept:
                inside = [c for c in family if size_name(c.m) == sweep.name]
                found.append(_sweep(sweep.name, sweep.dimension, inside))
            continue
        rest = [c for c in family if size_name(c.m) not in {sweep.name for sweep in swept}]
        if rest:
            names = sorted({c.m.size for c in rest}, key=_summary.natural)
            found.append(Group(_subject(rest[0], ""), rest[0].m.dtype, rest, names=names))
    return found


def _sweep(name: str, dimension: str, cases: Sequence[C]) -> Group[C]:
    m = cases[0].m
    beside = name if name != m.workload else ""
    if not name:
        beside = ", ".join(f"{key}={value}" for key, value in m.sizes.items() if key != dimension)
    return Group(_subject(cases[0], beside), m.dtype, cases, dimension)


def _subject(case: Case, beside: str) -> str:
    m = case.m
    phase = "" if m.phase == "call" else f" {m.phase}"
    suite = "" if m.suite == m.workload else f"{m.suite}: "
    whole = "whole networks" if case.whole else ""
    return plain(", ".join(filter(None, [f"{suite}{m.workload}{phase}", whole, beside])))


def _family(case: Case) -> tuple[Any, ...]:
    m = case.m
    measured = "FLOP" if m.flops else "B"
    order = _summary.phase_order(m)
    return m.suite, m.workload, m.workload_version, order, m.dtype, measured, case.whole


def in_run(run: Run, name: str, runs: Sequence[Run]) -> str:
    """Put the label of the run before `name` where there are several runs."""
    if len(runs) == 1:
        return plain(name)
    labels = [r.header.label for r in runs]
    twice = labels.count(run.header.label) > 1
    label = f"{run.header.label} ({run.header.started})" if twice else run.header.label
    return plain(f"{label}: {name}")


def undrawn(runs: Sequence[Run], request: Request) -> str:
    """Say how many cases have no number to draw, by status."""
    counts = Counter(
        m.status if m.status != "ok" else "with a time too short for any clock"
        for run in runs
        for m in request.measurements(run)
        if m.status != "ok" or not _fits(m)
    )
    if not counts:
        return ""
    listed = ", ".join(f"{n} {_summary.status(name)}" for name, n in sorted(counts.items()))
    return f"Cases without a number are not drawn: {listed}; the table names them."


def limits(points: Sequence[Point]) -> tuple[float, float]:
    """Return the ends of an axis that holds the points with their intervals.

    The axis spans a factor of 3 at least, so that small differences look small.
    """
    low = min(p.y if p.low is None else p.low for p in points)
    high = max(p.y if p.high is None else p.high for p in points)
    # A marker is as wide as one part in thirty of a panel.
    beside = max(1.15, (high / low) ** 0.04)
    low, high = low / beside, high * beside
    wider = max(1.0, math.sqrt(3 * low / high))
    return low / wider, high * wider
