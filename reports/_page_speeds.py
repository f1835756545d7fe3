"""The speeds of a run as a whole: the sentences and the heat map with which its page opens."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from bench import units
from bench.comparing.sentences import sentences as speedups_in_words
from bench.comparing.speedup import Ratio, against_best_cpu, geometric_mean, ratio, speedups
from bench.report import Request
from bench.results.schema import Measurement, Run

from . import _summary

SHADES: Final = 5
"""Of a faster and of a slower cell, one for each factor of 2; the last is for what is beyond."""


@dataclass
class Ratios:
    """The speeds of one place over the best CPU, in some cases of a run."""

    alone: list[Ratio] = field(default_factory=list)
    moved: list[Ratio] = field(default_factory=list)
    """With transfers."""

    def add(self, other: "Ratios") -> None:
        """Take another's cases in."""
        self.alone += other.alone
        self.moved += other.moved


@dataclass(frozen=True)
class Cell:
    """Geometric means of one place as texts, and how dark the cell is."""

    shade: int
    """Above 0 faster than the best CPU, below it slower."""
    times: str
    interval: str
    moved: str
    cases: int
    """How many cases the mean is over."""


@dataclass(frozen=True)
class Row:
    """A suite, or a workload of it, with a cell for each place; None where it has no number."""

    name: str
    suite: str
    section: tuple[object, ...] | None
    """The key of the section that holds the cases; None for the row of a whole suite."""
    cells: Sequence[Cell | None]

    @property
    def cases(self) -> int:
        """How many cases the place with the most of them has."""
        return max(cell.cases for cell in self.cells if cell is not None)


@dataclass(frozen=True)
class HeatMap:
    """Workloads by places: geometric means of the speed over that of the best CPU."""

    places: Sequence[str]
    suites: Sequence[Sequence[Row]]
    """The rows of each suite; of several, the first is that of all its cases."""


def heat_map(run: Run, request: Request) -> HeatMap | None:
    """Return the heat map; None where there is nothing to compare with."""
    found = _compared(request.measurements(run))
    gpus = {m.place for m, _ in found if m.device != "cpu"}
    places = sorted({m.place for m, _ in found}, key=lambda p: (p not in gpus, _summary.natural(p)))
    if len(places) < 2:
        return None
    found.sort(key=lambda pair: _summary.section_key(pair[0]))
    suites = []
    for suite, members in groupby(found, key=lambda pair: pair[0].suite):
        own = list(members)
        rows = [Row(f"{suite}: all", suite, None, _cells(own, places))]
        for key, some in groupby(own, key=lambda pair: _summary.section_key(pair[0])):
            part = list(some)
            rows.append(Row(_named(part[0][0]), suite, key, _cells(part, places)))
        suites.append(rows if len(rows) > 2 else rows[1:])
    return HeatMap(places, suites)


def _compared(measurements: Sequence[Measurement]) -> list[tuple[Measurement, Ratios]]:
    found = [(m, Ratios([found_ratio])) for m, found_ratio in against_best_cpu(measurements)]
    for pair in speedups(measurements):
        moved = [pair.with_transfers] if pair.with_transfers else []
        found.append((pair.gpu, Ratios([pair.alone], moved)))
    # Alone, a CPU is the best one, which says nothing.
    works = Counter(_work(m) for m, _ in found)
    return [(m, ratios) for m, ratios in found if works[_work(m)] > 1]


def _work(m: Measurement) -> tuple[object, ...]:
    """Return what is compared; a tf32 of the GPU stands beside the CPU's float32."""
    dtype = "float32" if m.dtype == "tf32" else m.dtype
    return m.suite, m.workload, m.workload_version, m.size, m.phase, dtype, m.is_cold


def _named(m: Measurement) -> str:
    phase = "" if m.phase == "call" else f" {m.phase}"
    version = f" version {m.workload_version}" if m.workload_version != 1 else ""
    return f"{m.workload}{phase}{version}, {m.dtype}"


def _cells(found: Sequence[tuple[Measurement, Ratios]], places: Sequence[str]) -> list[Cell | None]:
    by_place: dict[str, Ratios] = {}
    for m, ratios in found:
        by_place.setdefault(m.place, Ratios()).add(ratios)
    return [_cell(by_place[place]) if place in by_place else None for place in places]


def _cell(ratios: Ratios) -> Cell:
    mean = geometric_mean(ratios.alone)
    shade = round(math.log2(mean.median))
    moved = f"{_times(geometric_mean(ratios.moved))} with transfers" if ratios.moved else ""
    if moved and len(ratios.moved) < len(ratios.alone):
        moved += f" ({len(ratios.moved)})"
    return Cell(
        max(-SHADES, min(SHADES, shade)),
        _times(mean),
        _interval(mean),
        moved,
        len(ratios.alone),
    )


def _times(ratio: Ratio) -> str:
    return f"{units.significant(ratio.median)}x"


def _interval(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return "one block"
    if ratio.low == ratio.high:
        return ""
    return f"[{units.significant(ratio.low)}, {units.significant(ratio.high)}]"


def _mean_over(cases: int) -> str:
    return f"geometric mean over {_counted(cases)}" if cases > 1 else "in 1 case"


def _counted(cases: int) -> str:
    return f"{cases} case{'s' * (cases != 1)}"


def sentences(run: Run, request: Request) -> list[str]:
    """Say of each suite how many times as fast as the best CPU the GPU is.

    Without a GPU they say which CPU backend is the fastest.
    """
    measurements = [m for m in request.measurements(run) if not m.is_cold]
    timed = [m for m in measurements if m.status == "ok" and m.seconds is not None]
    if not timed:
        return ["No case has a number: nothing follows from this run."]
    if all(m.device == "cpu" for m in timed):
        said = "No GPU was measured: nothing here tells whether one is worth it."
        return [said, *_fastest_cpus(timed)]
    if all(m.device != "cpu" for m in timed):
        return ["No CPU was measured: nothing here tells how much faster the GPU is."]
    return _gpu_by_suite(measurements)


def training(run: Run, request: Request) -> list[str]:
    """Say how the GPU trains each network, where the run tells: what most readers came for.

    Of several suites the one with the most such cases is told of, and of several GPU backends the
    one that is the fastest there.
    """
    trained = [
        m
        for m in request.measurements(run)
        if m.phase.startswith("training_step") and m.status == "ok" and not m.is_cold
    ]
    pairs = speedups(trained)
    if not pairs:
        return []
    suite = Counter(pair.gpu.suite for pair in pairs).most_common(1)[0][0]
    by_backend: dict[str, list[Ratio]] = {}
    for pair in pairs:
        if pair.gpu.suite == suite:
            by_backend.setdefault(pair.gpu.backend, []).append(pair.alone)
    best = max(
        sorted(by_backend),
        key=lambda name: (len(by_backend[name]), geometric_mean(by_backend[name]).median),
    )
    own = [m for m in trained if m.suite == suite and (m.device == "cpu" or m.backend == best)]
    return speedups_in_words(own)


def _gpu_by_suite(measurements: Sequence[Measurement]) -> list[str]:
    """Name the best GPU backend of each suite, with the best variant of each case."""
    best: dict[tuple[str, str], dict[object, Ratios]] = {}
    for pair in speedups(measurements):
        works = best.setdefault((pair.gpu.suite, pair.gpu.backend), {})
        known = works.get(pair.gpu.work)
        if known is None or pair.alone.median > known.alone[0].median:
            moved = [pair.with_transfers] if pair.with_transfers else []
            works[pair.gpu.work] = Ratios([pair.alone], moved)
    found: dict[str, list[tuple[str, Ratios]]] = {}
    for (suite, backend), works in sorted(best.items()):
        all_of = Ratios()
        for ratios in works.values():
            all_of.add(ratios)
        found.setdefault(suite, []).append((backend, all_of))
    said = []
    for suite, backends in found.items():
        # One that has few of the cases may look good for the wrong reason.
        backend, all_of = max(
            backends, key=lambda b: (len(b[1].alone), geometric_mean(b[1].alone).median)
        )
        mean = geometric_mean(all_of.alone)
        text = f"{suite}: {backend} is {_in_words(mean)} as fast as the best CPU"
        if all_of.moved:
            text += f", {_times(geometric_mean(all_of.moved))} when transfers count"
            if len(all_of.moved) < len(all_of.alone):
                text += f" ({len(all_of.moved)} of them)"
        slower = sum(ratio.median < 1 for ratio in all_of.alone)
        text += f"; {_mean_over(len(all_of.alone))}"
        said.append(text + (f", of which the CPU wins {slower}." if slower else "."))
    return said


def _fastest_cpus(timed: Iterable[Measurement]) -> list[str]:
    by_suite: dict[str, dict[str, dict[object, Measurement]]] = {}
    for m in timed:
        works = by_suite.setdefault(m.suite, {}).setdefault(m.backend, {})
        key = m.work, m.workload_version, m.input_digest
        if key not in works or _seconds(m) < _seconds(works[key]):
            works[key] = m
    return [_fastest_cpu(suite, backends) for suite, backends in sorted(by_suite.items())]


def _fastest_cpu(suite: str, backends: dict[str, dict[object, Measurement]]) -> str:
    if len(backends) == 1:
        ((name, works),) = backends.items()
        return f"{suite}: only {name} has numbers, in {_counted(len(works))}."
    works, *rest = backends.values()
    shared = [key for key in works if all(key in other for other in rest)]
    if not shared:
        return f"{suite}: no case has a number on all of {', '.join(sorted(backends))}."

    def total(name: str) -> float:
        return sum(math.log(_seconds(backends[name][key])) for key in shared)

    first, *others = sorted(backends, key=lambda name: (total(name), name))
    parts = []
    for other in others:
        pairs = [(backends[other][key].seconds, backends[first][key].seconds) for key in shared]
        mean = geometric_mean([ratio(slow, fast) for slow, fast in pairs if slow and fast])
        doubt = " (a repeat may turn it)" if mean.low is not None and mean.low < 1 else ""
        parts.append(f"{_in_words(mean)} as fast as {other}{doubt}")
    return (
        f"{suite}: {first} is the fastest CPU backend, {', '.join(parts)};"
        f" {_mean_over(len(shared))} that all have."
    )


def _in_words(mean: Ratio) -> str:
    return f"{_times(mean)} {_interval(mean).replace('one block', '(one block: no interval)')}"


def _seconds(m: Measurement) -> float:
    return m.seconds.median if m.seconds is not None else math.inf
