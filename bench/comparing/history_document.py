"""What a history says as one document, for the terminal and as Markdown."""

from collections.abc import Sequence
from typing import Final

from bench import units
from bench.comparing.history import History, MachineHistory, Point
from bench.comparing.speedup import Ratio, ratio
from bench.comparing.verdicts import Key
from bench.report import Document, Request, Table
from bench.text import natural

_OVERVIEW: Final = ("case", "runs", "first", "newest", "change", "95% interval")
_SERIES: Final = ("case", "began", "label", "revision", "time", "95% interval", "change", "note")


def history_document(history: History, request: Request) -> Document:
    """Say how each case went: from first to newest, then every run of it."""
    tables, sentences, remarks = [], [], list(history.remarks)
    runs = 0
    for machine in history.machines:
        runs += len(machine.entries)
        asked = asked_series(machine, request)
        sentences.append(_about(machine, len(asked)))
        never = [key for key in machine.never_measured() if request.wants(key[1])]
        if never:
            remarks.append(f"{machine.name}: {len(never)} cases never had a number")
        if asked:
            tables += [_overview(machine, asked), _runs(machine, asked)]
    if history.duets:
        remarks.append(f"{len(history.duets)} duets belong to no series; they show blind cases")
    if any(point.is_start for series in _all(history, request) for point in series[1:]):
        remarks.append("a series begins anew where its runs did not do the same work")
    return Document(
        title=f"A history of {runs} {_plural('run', runs)}",
        sentences=sentences,
        warnings=history.problems,
        remarks=remarks,
        tables=tables,
    )


def asked_series(machine: MachineHistory, request: Request) -> dict[Key, list[Point]]:
    """Return the series that were asked for, in the order of reading."""
    found = machine.series()
    order = sorted(found, key=lambda key: (key[0], natural(key[1])))
    return {key: found[key] for key in order if request.wants(key[1])}


def _all(history: History, request: Request) -> list[list[Point]]:
    return [s for machine in history.machines for s in asked_series(machine, request).values()]


def _about(machine: MachineHistory, cases: int) -> str:
    first, last = machine.entries[0], machine.entries[-1]
    count = len(machine.entries)
    when = f"on {first.started}" if count == 1 else f"from {first.started} to {last.started}"
    told = f"{machine.name}: {count} {_plural('run', count)} {when}"
    return f"{told}, {cases} {_plural('case', cases)}."


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def last_segment(points: Sequence[Point]) -> list[Point]:
    """Return the points with a number that may be compared with the newest one."""
    numbered = [point for point in points if point.result is not None]
    start = max((i for i, point in enumerate(numbered) if point.is_start), default=0)
    return numbered[start:]


def _overview(machine: MachineHistory, series: dict[Key, list[Point]]) -> Table:
    rows = []
    for (_, case), points in series.items():
        same = last_segment(points)
        first, newest = same[0].result, same[-1].result
        assert first is not None
        assert newest is not None
        times = [units.seconds(first.seconds.median), units.seconds(newest.seconds.median)]
        rows.append([case, str(len(same)), *times, *_change(same)])
    return Table(
        name="overview",
        title=f"{machine.name}: first and newest of the same work",
        columns=_OVERVIEW,
        rows=rows,
        right=frozenset({1, 2, 3, 4, 5}),
    )


def _change(points: Sequence[Point]) -> list[str]:
    first, newest = points[0].result, points[-1].result
    if len(points) < 2 or first is None or newest is None:
        return ["-", "-"]
    found = ratio(newest.seconds, first.seconds)
    return [_percent(found.median), _interval(found)]


def _interval(found: Ratio) -> str:
    if found.low is None or found.high is None:
        return "one block"
    return f"[{_percent(found.low)}, {_percent(found.high)}]"


def _percent(times: float) -> str:
    return f"{100 * (times - 1):+.1f}%"


def _runs(machine: MachineHistory, series: dict[Key, list[Point]]) -> Table:
    rows: list[list[str]] = []
    for (_, case), points in series.items():
        before: Point | None = None
        for number, point in enumerate(points):
            rows.append([case if number == 0 else "", *_row(point, before)])
            before = point if point.result is not None else before
    return Table(
        name="runs",
        title=f"{machine.name}: every run",
        columns=_SERIES,
        rows=rows,
        right=frozenset({4, 5, 6}),
    )


def _row(point: Point, before: Point | None) -> list[str]:
    entry = point.entry
    about = [entry.started, entry.label, entry.short_revision]
    if point.result is None:
        return [*about, "-", "-", "-", point.note]
    time = point.result.seconds
    interval = units.seconds_interval(time.low, time.high) if time.low else "one block"
    change = "-"
    if before is not None and before.result is not None and not point.is_start:
        change = _percent(time.median / before.result.seconds.median)
    return [*about, units.seconds(time.median), interval, change, point.note]
