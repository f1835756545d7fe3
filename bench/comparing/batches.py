"""Batch after batch: where the throughput of a sweep saturates, where it falls, where it ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from bench.comparing.speedup import Ratio, ratio
from bench.results.schema import Interval, LimitLine, Measurement, size_without_batch
from bench.suites.batch_sweep import SUITE

SATURATED: Final = 0.95
"""Share of the best throughput from which a larger batch is not worth its memory."""


@dataclass(frozen=True)
class Fall:
    """The lowest throughput beyond the best: so many times slower than at the batch `best`."""

    best: int
    batch: int
    times: Ratio


@dataclass(frozen=True)
class Saturation:
    """From which of the measured batches throughput is within 5% of the best of the sweep."""

    batch: int
    candidates: Sequence[int] | None
    """The batches that a repeat of the run may find instead, `batch` among them; None where a
    throughput has no interval."""
    is_rising: bool
    """Whether only the largest batch is so good: the sweep ends before throughput saturates."""


@dataclass(frozen=True)
class BatchSweep:
    """The cases of a workload, size, phase and dtype at one place, by their batch."""

    cases: Sequence[Measurement]
    limit: LimitLine | None
    """Where it ends, if the run has searched for that."""

    @property
    def place(self) -> str:
        """The backend with its variant."""
        return self.cases[0].place

    @property
    def title(self) -> str:
        """What is computed, such as `lenet5/mnist training_step, float32`."""
        return _title(self.cases[0])

    @property
    def timed(self) -> list[Measurement]:
        """The cases that have a throughput."""
        return [m for m in self.cases if throughput(m) is not None]

    @property
    def saturation(self) -> Saturation | None:
        """Where throughput saturates; None where there are fewer than two batches."""
        rates = [(m.batch or 0, rate) for m in self.cases if (rate := throughput(m)) is not None]
        if len(rates) < 2:
            return None
        return saturation([batch for batch, _ in rates], [rate for _, rate in rates])

    @property
    def fall(self) -> Fall | None:
        """How far throughput falls beyond its best, if surely by more than 5%."""
        found = [(m, _per_sample(m.seconds, m.batch)) for m in self.timed if m.seconds and m.batch]
        if not found:
            return None
        best, shortest = min(found, key=lambda pair: pair[1].median)
        beyond = [pair for pair in found if (pair[0].batch or 0) > (best.batch or 0)]
        if not beyond:
            return None
        worst, longest = max(beyond, key=lambda pair: pair[1].median)
        times = ratio(longest, shortest)
        if times.median <= 1 / SATURATED or (times.low is not None and times.low <= 1):
            return None
        return Fall(best.batch or 0, worst.batch or 0, times)


def is_swept(m: Measurement) -> bool:
    """Tell whether a case is one batch of a sweep over batches."""
    return m.suite == SUITE.name


def batch_sweeps(
    measurements: Sequence[Measurement], limits: Sequence[LimitLine]
) -> list[BatchSweep]:
    """Return the sweeps of the suite, those of the same work after each other."""
    ends = {limit.key: limit for limit in limits}
    found: dict[tuple[object, ...], list[Measurement]] = {}
    for m in measurements:
        if is_swept(m) and m.batch:
            found.setdefault((_title(m), m.place), []).append(m)
    sweeps = [
        BatchSweep(sorted(cases, key=lambda m: m.batch or 0), ends.get((m.suite, m.sweep)))
        for cases in found.values()
        for m in cases[:1]
    ]
    first = {sweep.title: i for i, sweep in reversed(list(enumerate(sweeps)))}
    return sorted(sweeps, key=lambda sweep: first[sweep.title])


def by_work(sweeps: Sequence[BatchSweep]) -> list[list[BatchSweep]]:
    """Return the sweeps of the same work together, one for each place."""
    return [list(same) for _, same in groupby(sweeps, key=lambda sweep: sweep.title)]


def throughput(m: Measurement) -> Ratio | None:
    """Return samples per second; None without a time, or with one that no clock tells."""
    if m.status != "ok" or m.seconds is None or not m.batch:
        return None
    ends = [m.batch / end if end else None for end in (m.seconds.high, m.seconds.low)]
    found = Ratio(m.batch / m.seconds.median, *ends)
    if any(end is not None and not math.isfinite(end) for end in (found.median, *ends)):
        return None
    return found


def saturation(batches: Sequence[int], rates: Sequence[Ratio]) -> Saturation:
    """Return from which batch throughput is within 5% of the best; batches ascend.

    A batch is a candidate if throughputs within the intervals can make it the one.
    """
    best = max(rate.median for rate in rates)
    enough = [rate.median >= SATURATED * best for rate in rates]
    found = enough.index(True)
    return Saturation(
        batches[found],
        _candidates(batches, rates, found),
        is_rising=len(batches) > 1 and found == len(batches) - 1,
    )


def _candidates(batches: Sequence[int], rates: Sequence[Ratio], middle: int) -> list[int] | None:
    lows = [rate.low for rate in rates if rate.low is not None]
    highs = [rate.high for rate in rates if rate.high is not None]
    if len(lows) < len(rates) or len(highs) < len(rates):
        return None
    found = []
    for i, batch in enumerate(batches):
        # A best throughput that leaves the smaller batches behind, but not this one. No smaller
        # batch can then be the best.
        least = max(lows)
        behind = max((low / SATURATED for low in lows[:i]), default=0.0)
        most = min(max(highs[i:]), highs[i] / SATURATED)
        if i == middle or (least <= most and behind < most):
            found.append(batch)
    return found


def _title(m: Measurement) -> str:
    size = size_without_batch(m)
    version = f" version {m.workload_version}" if m.workload_version != 1 else ""
    return f"{m.workload}{size and f'/{size}'} {m.phase}{version}, {m.dtype}"


def _per_sample(seconds: Interval, batch: int) -> Interval:
    return Interval(
        median=seconds.median / batch,
        low=seconds.low / batch if seconds.low is not None else None,
        high=seconds.high / batch if seconds.high is not None else None,
        min=seconds.min / batch,
    )
