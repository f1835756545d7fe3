"""The panels of the sweeps over batches: throughput, latency and memory of each place."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench import units
from bench.comparing.batch_sentences import ends, falls, saturates
from bench.comparing.batches import BatchSweep, Saturation, batch_sweeps, throughput
from bench.comparing.crossover import Crossover, crossover
from bench.comparing.speedup import Speedup, speedups
from bench.report import Request
from bench.results.schema import LimitLine, Run
from bench.text import plain

from . import _panels, _summary
from ._panels import Data, Point
from ._speedup_panels import ALONE, WITH_TRANSFERS, crossing


@dataclass(frozen=True)
class Crossing:
    """From which batch a GPU is faster than the best CPU, alone or with transfers."""

    how: str
    found: Crossover


@dataclass(frozen=True, kw_only=True)
class BatchLine:
    """One place: its curves against the batch, and what they tell."""

    name: str
    throughput: Sequence[Point]
    """Samples per second."""
    latency: Sequence[Point]
    """Seconds of a call."""
    memory: Sequence[Point]
    """Bytes; the batches of which the peak is known."""
    saturation: Saturation | None
    limit: LimitLine | None
    crossings: Sequence[Crossing]
    sentence: str

    @property
    def fits(self) -> int | None:
        """The largest batch that fits, if memory ends the sweep."""
        if self.limit is None or self.limit.failing_batch is None:
            return None
        return self.limit.largest_batch or None


@dataclass(frozen=True)
class BatchPanel:
    """The sweeps of one workload, phase and dtype."""

    title: str
    lines: Sequence[BatchLine]

    @property
    def batches(self) -> list[float]:
        """The batches that were measured, in their order."""
        return sorted({point.x for line in self.lines for point in line.throughput})

    def data(self) -> Data:
        """Return the curves as a table, with what they tell."""
        points = [
            (line, rate, time)
            for line in self.lines
            for rate, time in zip(line.throughput, line.latency, strict=True)
        ]
        rows = [
            [
                f"{rate.x:,.0f}",
                line.name,
                units.grouped(rate.y),
                "one block"
                if rate.low is None or rate.high is None
                else f"[{units.grouped(rate.low)}, {units.grouped(rate.high)}]",
                units.seconds(time.y),
                units.size(next((int(p.y) for p in line.memory if p.x == rate.x), None)),
            ]
            for line, rate, time in points
        ]
        columns = ("batch", "line", "samples/s", "95% interval", "time of a call", "peak memory")
        said = [f"{line.name}: {line.sentence}." for line in self.lines]
        return Data(columns, rows, [rate.key for _, rate, _ in points], said)

    def in_words(self) -> str:
        """Say the curves and what they tell."""
        return " ".join(f"{line.name}: {_curves(line)}; {line.sentence}." for line in self.lines)


def panels(runs: Sequence[Run], request: Request) -> list[BatchPanel]:
    """Return a panel for each work that has a throughput anywhere."""
    lines: dict[str, list[BatchLine]] = {}
    for run in runs:
        drawable = sorted(_panels.drawable(run, request), key=_summary.reading_order)
        pairs: dict[tuple[str, str], list[Speedup]] = {}
        for pair in speedups(drawable):
            pairs.setdefault((pair.gpu.suite, pair.gpu.sweep), []).append(pair)
        for sweep in batch_sweeps(drawable, run.limits):
            if sweep.timed:
                key = sweep.cases[0].suite, sweep.cases[0].sweep
                line = _line(run, runs, sweep, pairs.get(key, []))
                lines.setdefault(sweep.title, []).append(line)
    return [BatchPanel(plain(title), own) for title, own in lines.items()]


def missing(runs: Sequence[Run], request: Request) -> str:
    """Say which work was swept and yet has no panel, because no batch of it has a number."""
    drawn: set[str] = set()
    empty: set[str] = set()
    for run in runs:
        for sweep in batch_sweeps(request.measurements(run), run.limits):
            (drawn if sweep.timed else empty).add(sweep.title)
    titles = sorted(empty - drawn, key=_summary.natural)
    return f"no batch has a number of {'; '.join(map(plain, titles))}" if titles else ""


def _line(run: Run, runs: Sequence[Run], sweep: BatchSweep, pairs: Sequence[Speedup]) -> BatchLine:
    crossings = _crossings(pairs)
    rates = [(m, rate) for m in sweep.timed if (rate := throughput(m))]
    return BatchLine(
        name=_panels.in_run(run, sweep.place, runs),
        throughput=[Point(m.batch or 0, r.median, r.low, r.high, m.key) for m, r in rates],
        latency=[
            Point(m.batch or 0, m.seconds.median, m.seconds.low, m.seconds.high)
            for m in sweep.timed
            if m.seconds
        ],
        memory=[
            Point(m.batch or 0, m.peak_bytes, m.peak_bytes, m.peak_bytes)
            for m in sweep.timed
            if m.peak_bytes
        ],
        saturation=sweep.saturation,
        limit=sweep.limit,
        crossings=crossings,
        sentence=plain("; ".join(filter(None, _sentence(sweep, crossings)))),
    )


def _crossings(pairs: Sequence[Speedup]) -> list[Crossing]:
    found = []
    moved = [(pair, pair.with_transfers) for pair in pairs if pair.with_transfers]
    alone = [(pair, pair.alone) for pair in pairs]
    for how, ratios in ((ALONE, alone), (WITH_TRANSFERS, moved)):
        if ratios:
            batches = [pair.gpu.batch or 0 for pair, _ in ratios]
            found.append(Crossing(how, crossover(batches, [ratio for _, ratio in ratios])))
    return found


def _sentence(sweep: BatchSweep, crossings: Sequence[Crossing]) -> list[str]:
    found = sweep.saturation
    faster = [
        f"{'' if c.how == ALONE else f'{c.how} '}{crossing(c.found, 'batch')}" for c in crossings
    ]
    return [
        saturates(found) if found else f"has batch {sweep.timed[0].batch:,} only",
        falls(sweep),
        f"faster than the best CPU {', '.join(faster)}" if faster else "",
        ends(sweep.limit) if sweep.limit else "",
    ]


def _curves(line: BatchLine) -> str:
    memory = {point.x: point.y for point in line.memory}
    said = []
    for rate, time in zip(line.throughput, line.latency, strict=True):
        text = f"{units.grouped(rate.y)} samples/s, {units.seconds(time.y)}"
        if rate.x in memory:
            text += f" and {units.size(int(memory[rate.x]))}"
        said.append(f"{text} at batch {rate.x:,.0f}")
    return "; ".join(said)
