"""Which cases a figure shows, in which panel and on which line; what is drawn is decided here."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from bench import units
from bench.report import Request
from bench.results.networks import totals
from bench.results.schema import Measurement, Run
from bench.text import plain

from . import _summary

_SHORTEST_NAMED_SWEEP = 3
"""Batch sizes from which a named size becomes a line; two are better seen as two points."""


@dataclass(frozen=True)
class Point:
    """A case: where it stands, and its rate with its interval in the unit of the panel."""

    x: float
    rate: float
    low: float | None
    high: float | None


@dataclass
class Series:
    """The points of one backend and variant in one run."""

    name: str
    points: list[Point] = field(default_factory=list)


@dataclass
class Panel:
    """A plot of its own: one workload, phase and dtype."""

    title: str
    x_label: str
    y_label: str
    unit: str
    series: list[Series]
    names: Sequence[str] = ()
    """The named sizes in their order; empty where `x` is a number."""

    @property
    def limits(self) -> tuple[float, float]:
        """Return the lowest and the highest rate of the axis; intervals lie within.

        The axis spans a factor of 3 at least, so that small differences look small.
        """
        points = [p for s in self.series for p in s.points]
        low = min(p.rate if p.low is None else p.low for p in points) / 1.15
        high = max(p.rate if p.high is None else p.high for p in points) * 1.15
        wider = max(1.0, math.sqrt(3 * low / high))
        return low / wider, high * wider

    def in_words(self) -> str:
        """Say what the panel shows to somebody who cannot see it."""
        return " ".join(f"{s.name}: {self._series_in_words(s)}." for s in self.series)

    def _series_in_words(self, series: Series) -> str:
        def at(p: Point) -> str:
            where = self.names[int(p.x)] if self.names else f"{self.x_label} {p.x:,.0f}"
            return f"{units.significant(p.rate)} {self.unit} at {where}"

        return ", ".join(map(at, series.points))


@dataclass(frozen=True)
class _Drawn:
    """A measurement that has a rate, and the name of its line."""

    m: Measurement
    line: str
    whole: bool
    """Whether it is the sum over a network."""


def panels(runs: Sequence[Run], request: Request, *, named: bool) -> list[Panel]:
    """Return the panels of the sweeps, or those of the sizes with a `named` dot each."""
    drawn = []
    for run in runs:
        asked = request.measurements(run)
        for whole, cases in ((False, asked), (True, totals(asked))):
            drawn += [
                _Drawn(m, _line_name(run, m, runs), whole)
                for m in cases
                if m.status == "ok" and (m.flops_per_second or m.bytes_per_second)
            ]
    drawn.sort(key=_family)
    found = []
    for _, members in groupby(drawn, key=_family):
        group = list(members)
        sweeps = _sweeps(group)
        if not named:
            found += [_sweep_panel(stem, dim, cases) for stem, dim, cases in sweeps]
            continue
        swept = {id(d) for _, _, cases in sweeps for d in cases}
        rest = [d for d in group if id(d) not in swept]
        found += [_named_panel(rest)] if rest else []
    return found


def undrawn(runs: Sequence[Run], request: Request) -> str:
    """Say how many cases have no number to draw, by status."""
    counts = Counter(
        m.status for run in runs for m in request.measurements(run) if m.status != "ok"
    )
    if not counts:
        return ""
    listed = ", ".join(f"{n} {_summary.status(name)}" for name, n in sorted(counts.items()))
    return f"Cases without a number are not drawn: {listed}; the table names them."


def _line_name(run: Run, m: Measurement, runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return plain(m.place)
    labels = [r.header.label for r in runs]
    twice = labels.count(run.header.label) > 1
    label = f"{run.header.label} ({run.header.started})" if twice else run.header.label
    return plain(f"{label}: {m.place}")


def _family(d: _Drawn) -> tuple[Any, ...]:
    m = d.m
    measured = "FLOP" if m.flops else "B"
    order = _summary.phase_order(m)
    return m.suite, m.workload, m.workload_version, order, m.dtype, measured, d.whole


def _stem(m: Measurement) -> str:
    """Return the name of a size without its batch; empty for a size without a name."""
    dims = ",".join(f"{dim}={value}" for dim, value in m.sizes.items())
    return "" if m.size == dims else m.size.removesuffix(f",batch={m.sizes.get('batch')}")


def _sweeps(group: Sequence[_Drawn]) -> list[tuple[str, str, list[_Drawn]]]:
    """Return the cases of one name that differ in one dimension only, with that dimension."""
    found = []
    by_stem: dict[str, list[_Drawn]] = {}
    for d in group:
        by_stem.setdefault(_stem(d.m), []).append(d)
    for stem, cases in sorted(by_stem.items(), key=lambda item: _summary.natural(item[0])):
        dims = {dim for d in cases for dim in d.m.sizes}
        values = {dim: {d.m.sizes.get(dim) for d in cases} for dim in dims}
        varying = sorted(dim for dim in dims if len(values[dim]) > 1)
        if len(varying) != 1 or None in values[varying[0]]:
            continue
        if len(values[varying[0]]) >= (_SHORTEST_NAMED_SWEEP if stem else 2):
            found.append((stem, varying[0], cases))
    return found


def _sweep_panel(stem: str, dim: str, cases: Sequence[_Drawn]) -> Panel:
    fixed = {key: value for key, value in cases[0].m.sizes.items() if key != dim}
    beside = stem if stem != cases[0].m.workload else ""
    if not stem:
        beside = ", ".join(f"{key}={value}" for key, value in fixed.items())
    label = "batch size" if dim == "batch" else f"size {plain(dim)}"
    return _panel(cases, beside, label, {id(d): d.m.sizes[dim] for d in cases})


def _named_panel(cases: Sequence[_Drawn]) -> Panel:
    names = sorted({d.m.size for d in cases}, key=_summary.natural)
    places = {name: i for i, name in enumerate(names)}
    panel = _panel(cases, "", "", {id(d): places[d.m.size] for d in cases})
    panel.names = [plain(name) for name in names]
    return panel


def _panel(cases: Sequence[_Drawn], beside: str, x_label: str, places: dict[int, int]) -> Panel:
    m = cases[0].m
    unit = "GFLOP/s" if m.flops else "GB/s"
    lines = {name: Series(name) for name in sorted({d.line for d in cases}, key=_summary.natural)}
    for d in sorted(cases, key=lambda d: places[id(d)]):
        amount = d.m.flops or d.m.bytes_moved
        seconds = d.m.seconds
        if amount is None or seconds is None:
            continue

        def rate(time: float, amount: int = amount) -> float:
            return amount / time / 1e9

        lines[d.line].points.append(
            Point(
                places[id(d)],
                rate(seconds.median),
                None if seconds.high is None else rate(seconds.high),
                None if seconds.low is None else rate(seconds.low),
            )
        )
    phase = "" if m.phase == "call" else f" {m.phase}"
    suite = "" if m.suite == m.workload else f"{m.suite}: "
    whole = "whole networks" if cases[0].whole else ""
    title = ", ".join(filter(None, [f"{suite}{m.workload}{phase}", whole, beside, m.dtype]))
    return Panel(plain(title), x_label, f"rate ({unit})", unit, list(lines.values()))


def thinned(values: Sequence[float], steps: int = 7) -> list[float]:
    """Return those of the sorted values whose labels keep apart on a logarithmic axis.

    Two of them are at least one of `steps` equal parts of the axis apart.
    """
    apart = math.log(values[-1] / values[0]) / steps
    kept: list[float] = []
    for value in values:
        if not kept or math.log(value / kept[-1]) >= apart * 0.999:
            kept.append(value)
    return kept


def round_ticks(low: float, high: float) -> list[float]:
    """Return 1, 10, 100 within the limits, with numbers between where those are too few."""
    within: list[float] = []
    for steps in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
        within = [tick for tick in ticks if low <= tick <= high]
        if len(within) >= 3:
            break
    return within
