"""The panels of the speedup: each GPU against the best CPU, alone and with transfers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from bench import units
from bench.comparing.crossover import Crossover, crossover
from bench.comparing.speedup import Ratio, Speedup, speedups
from bench.report import Request
from bench.results.networks import totals
from bench.results.schema import Measurement, Run
from bench.text import plain

from . import _panels, _summary
from ._panels import C, Case, Group, Panel, Point, Series

ALONE = "alone"
WITH_TRANSFERS = "with transfers"


@dataclass(frozen=True)
class SpeedupCase(Case):
    """A GPU's measurement beside the best CPU's."""

    found: Speedup

    def ratio(self, how: str) -> Ratio | None:
        """Return the speedup alone, or with transfers where they are known."""
        return self.found.alone if how == ALONE else self.found.with_transfers


@dataclass(kw_only=True)
class Curve(Series):
    """The speedup of one GPU backend and variant, alone or with transfers."""

    place: str
    how: str
    crossover: Crossover | None = None
    """Only of a sweep."""


@dataclass(kw_only=True)
class SpeedupPanel(Panel):
    """A panel whose values are times faster than the best CPU."""

    series: Sequence[Curve]
    dimension: str = ""
    best: str = ""
    """Which CPU backend is the best one, in words."""

    @property
    def limits(self) -> tuple[float, float]:
        """Return the ends of the axis; both sides of 1 are wide enough to bear a name."""
        low, high = super().limits
        share = 0.1 if self.names else 0.35
        below, above = math.log(1 / min(low, 0.9)), math.log(max(high, 1 / 0.9))
        below, above = max(below, share * above), max(above, share * below)
        return math.exp(-below), math.exp(above)

    @property
    def remarks(self) -> list[str]:
        """Name the best CPU, and say where the GPU is faster."""
        crossings = [
            f"{curve.name}: the GPU is faster {crossing(curve.crossover, self.dimension)}."
            for curve in self.series
            if curve.crossover is not None
        ]
        return [f"{self.best}.", *crossings]

    def in_words(self) -> str:
        """Say the speedups and where the GPU is faster."""
        best, *crossings = self.remarks
        return " ".join([best, super().in_words(), *crossings])


def panels(runs: Sequence[Run], request: Request, *, named: bool) -> list[SpeedupPanel]:
    """Return the panels of the sweeps, or those of the sizes that have a name."""
    cases = []
    for run in runs:
        asked = _panels.drawable(run, request)
        for whole, measurements in ((False, asked), (True, totals(asked))):
            for found in speedups(measurements):
                line = _panels.in_run(run, found.gpu.place, runs)
                cases.append(SpeedupCase(found.gpu, line, whole, found))
    return [_panel(group) for group in _panels.groups(cases, named=named)]


def _panel(group: Group[SpeedupCase]) -> SpeedupPanel:
    cases = sorted(group.cases, key=group.place)
    lines = sorted({case.line for case in cases}, key=_summary.natural)
    curves = [_curve(group, line, how) for line in lines for how in (ALONE, WITH_TRANSFERS)]
    return SpeedupPanel(
        title=titled(group, [case.found.cpu for case in cases]),
        x_label=group.x_label,
        y_label="speedup over the best CPU",
        unit="times",
        series=[curve for curve in curves if curve.points],
        names=group.labels,
        dimension=plain(group.dimension),
        best=_best(group, cases),
    )


def titled(group: Group[C], cpus: Iterable[Measurement]) -> str:
    """Return the title of a panel, which says so where the CPU computes in another dtype."""
    others = sorted({cpu.dtype for cpu in cpus} - {group.dtype})
    return group.title + (plain(f" (CPU: {', '.join(others)})") if others else "")


def _curve(group: Group[SpeedupCase], line: str, how: str) -> Curve:
    found = [
        (group.place(case), ratio, case.m.key)
        for case in sorted(group.cases, key=group.place)
        if case.line == line and (ratio := case.ratio(how)) is not None
    ]
    curve = Curve(
        f"{line}, {how}",
        [Point(x, ratio.median, ratio.low, ratio.high, key) for x, ratio, key in found],
        place=line,
        how=how,
    )
    if group.dimension and found:
        curve.crossover = crossover([x for x, *_ in found], [ratio for _, ratio, _ in found])
    return curve


def _best(group: Group[SpeedupCase], cases: Sequence[SpeedupCase]) -> str:
    """Name the best CPU, and that of calls with transfers where it is another."""
    alone = _by_size(group, [(group.place(c), c.found.cpu.place) for c in cases])
    hosts = [(group.place(c), c.found.cpu_host.place) for c in cases if c.found.cpu_host]
    moved = _by_size(group, hosts) if hosts else alone
    return f"best CPU: {alone}" + (f" ({WITH_TRANSFERS}: {moved})" if moved != alone else "")


def _by_size(group: Group[SpeedupCase], found: Sequence[tuple[int, str]]) -> str:
    names = sorted({plain(name) for _, name in found}, key=_summary.natural)
    stretches = [
        (plain(name), [x for x, _ in same])
        for name, same in groupby(dict.fromkeys(found), key=lambda pair: pair[1])
    ]
    if len(names) == 1 or not group.dimension or len(stretches) > 2:
        return " or ".join(names) + (", by size" if len(names) > 1 else "")
    (first, sizes), (then, _) = stretches
    return f"{first} to {plain(group.dimension)} = {sizes[-1]:,}, then {then}"


def crossing(found: Crossover, dimension: str) -> str:
    """Say from which size the GPU is faster, such as `from n = 180 [160, 210]`."""
    low = f"below {found.smallest:,.0f}" if found.low is None else rounded(found.low)
    high = f"above {found.largest:,.0f}" if found.high is None else rounded(found.high)
    if found.at is not None:
        between = f" [{low}, {high}]" if found.doubt == "between" else ""
        return f"{found.kind} {dimension} = {rounded(found.at)}{between}"
    if len(found.faster) > 2:
        where = f"in {len(found.faster)} ranges of {dimension}"
    elif found.kind == "several":
        ranges = [f"{rounded(start)} to {rounded(end)}" for start, end in found.faster]
        where = f"at {dimension} = {' and '.join(ranges)}"
    else:
        where = f"{found.kind} in the range"
    return where + (f", in doubt [{low}, {high}]" if found.doubt == "between" else "")


def rounded(size: float) -> str:
    """Write a size; one between those measured has three digits."""
    if size == int(size) or size >= 1000:
        return f"{size if size == int(size) else float(f'{size:.2e}'):,.0f}"
    return f"{math.ceil(size)}" if size >= 10 else units.significant(size)
