"""The panels of latency: what share of the requests took longer than a time, for each place."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from bench import units
from bench.comparing.serving import latency_bound, written
from bench.report import Request
from bench.results.schema import Interval, Measurement, Run
from bench.text import plain

from . import _panels, _summary
from ._panels import Data, Key

_STEPS: Final = 150
"""Points of a curve: more would make the file larger, not the picture finer."""
_MARKED: Final = (("p50", "p50", 0.5), ("p99", "p99", 0.01), ("p999", "p99.9", 0.001))
"""Percentiles as in the run file and for people, with the share of requests that took longer."""


@dataclass(frozen=True)
class Mark:
    """A percentile: the share of requests beyond it, and its seconds."""

    name: str
    beyond: float
    seconds: Interval


@dataclass(frozen=True)
class Curve:
    """The requests of one place: seconds, and the share of the requests that took so long."""

    name: str
    requests: int
    points: Sequence[tuple[float, float]]
    marks: Sequence[Mark]
    key: Key | None = None
    """The suite and the id of the case."""


@dataclass(frozen=True, kw_only=True)
class LatencyPanel:
    """One workload at one size and dtype; `bounds` in seconds, as the runs had them."""

    title: str
    curves: Sequence[Curve]
    bounds: Sequence[float]

    def data(self) -> Data:
        """Return the percentiles as a table."""
        found = [(curve, mark) for curve in self.curves for mark in curve.marks]
        rows = [
            [
                curve.name,
                mark.name,
                units.seconds(mark.seconds.median),
                units.seconds_interval(mark.seconds.low, mark.seconds.high),
                f"{curve.requests:,}",
            ]
            for curve, mark in found
        ]
        columns = ("line", "percentile", "time", "95% interval", "requests")
        bounds = [f"The bound is {written(bound)}." for bound in self.bounds]
        return Data(columns, rows, [curve.key for curve, _ in found], bounds)

    def in_words(self) -> str:
        """Say what the panel shows to somebody who cannot see it."""
        said = [
            f"{curve.name}: "
            + ", ".join(f"{m.name} {units.seconds(m.seconds.median)}" for m in curve.marks)
            + f" of {curve.requests:,} requests."
            for curve in self.curves
        ]
        said += [f"The bound is {written(bound)}." for bound in self.bounds]
        return " ".join(said)


def panels(runs: Sequence[Run], request: Request) -> list[LatencyPanel]:
    """Return a panel for each size, in the order of the table."""
    cases = [
        (m, _panels.in_run(run, m.place, runs), latency_bound(run.header.settings))
        for run in runs
        for m in _panels.drawable(run, request)
        if m.status == "ok" and m.latency is not None and _requests(m)
    ]
    cases.sort(key=lambda case: _summary.reading_order(case[0]))
    found = []
    for _, members in groupby(
        cases, key=lambda case: (_summary.section_key(case[0]), case[0].size)
    ):
        group = list(members)
        m = group[0][0]
        found.append(
            LatencyPanel(
                title=plain(f"{m.workload} {m.phase}, {m.dtype}, {m.size}"),
                curves=[_curve(m, name) for m, name, _ in group],
                bounds=sorted({bound for _, _, bound in group if bound is not None}),
            )
        )
    return found


def missing(runs: Sequence[Run], request: Request) -> str:
    """Say why runs of a service have no panel; empty where there is one, or no such case."""
    served = [
        m
        for run in runs
        for m in request.measurements(run)
        if m.concurrency is not None and m.status == "ok"
    ]
    if not served or any(m.latency is not None and _requests(m) for m in served):
        return ""
    return "no request of the suite latency is in the file"


def _requests(m: Measurement) -> list[float]:
    shortest = _panels.SHORTEST
    return [s for block in m.blocks for s in block.request_seconds if s > shortest]


def _curve(m: Measurement, name: str) -> Curve:
    requests = sorted(_requests(m))
    count = len(requests)
    # Ranks from the slowest request on, ever farther apart: the axis is logarithmic.
    ranks = sorted({round(count ** (step / _STEPS)) for step in range(_STEPS + 1)}, reverse=True)
    return Curve(
        name,
        count,
        [(requests[count - rank], rank / count) for rank in ranks],
        [
            Mark(shown, beyond, seconds)
            for key, shown, beyond in _MARKED
            if (seconds := getattr(m.latency, key)) is not None
        ],
        m.key,
    )


def limits(panel: LatencyPanel) -> tuple[float, float]:
    """Return the ends of the axis of times, with room at both."""
    times = [x for curve in panel.curves for x, _ in curve.points] + list(panel.bounds)
    beside = max(1.15, (max(times) / min(times)) ** 0.04)
    return min(times) / beside, max(times) * beside


def least_share(panel: LatencyPanel) -> float:
    """Return the power of ten at which the axis of shares ends."""
    most = max(curve.requests for curve in panel.curves)
    return 10.0 ** -max(1, math.ceil(math.log10(most)))
