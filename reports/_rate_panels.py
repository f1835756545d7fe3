"""The panels of the rate: which cases, and their FLOP/s or, without FLOPs, their traffic."""

from collections.abc import Sequence

from bench.report import Request
from bench.results.schema import Run

from . import _panels, _summary
from ._panels import Case, Group, Panel, Point, Series


def panels(runs: Sequence[Run], request: Request, *, named: bool) -> list[Panel]:
    """Return the panels of the sweeps, or those of the sizes with a `named` dot each."""
    cases = [
        Case(m, _panels.in_run(run, m.place, runs), whole)
        for run in runs
        for m, whole in _panels.asked(run, request)
        if m.flops or m.bytes_moved
    ]
    return [_panel(group) for group in _panels.groups(cases, named=named)]


def _panel(group: Group[Case]) -> Panel:
    lines = {
        name: Series(name) for name in sorted({c.line for c in group.cases}, key=_summary.natural)
    }
    for case in sorted(group.cases, key=group.place):
        amount = case.m.flops or case.m.bytes_moved
        seconds = case.m.seconds
        if amount is None or seconds is None:
            continue

        def rate(time: float, amount: int = amount) -> float:
            return amount / time / 1e9

        lines[case.line].points.append(
            Point(
                group.place(case),
                rate(seconds.median),
                None if seconds.high is None else rate(seconds.high),
                None if seconds.low is None else rate(seconds.low),
                case.m.key,
            )
        )
    unit = "GFLOP/s" if group.cases[0].m.flops else "GB/s"
    return Panel(
        title=group.title,
        x_label=group.x_label,
        y_label=f"rate ({unit})",
        unit=unit,
        series=list(lines.values()),
        names=group.labels,
    )
