"""Sweeps over batches in sentences: from which batch more is not faster, and what still fits."""

from collections.abc import Sequence

from bench import units
from bench.comparing.batches import BatchSweep, Saturation, batch_sweeps, by_work, throughput
from bench.comparing.speedup import Ratio
from bench.results.schema import LimitLine, Measurement


def batch_sentences(measurements: Sequence[Measurement], limits: Sequence[LimitLine]) -> list[str]:
    """Say a sentence for each workload, phase and dtype, its places side by side."""
    said = []
    for same in by_work(batch_sweeps(measurements, limits)):
        timed = [text for sweep in same if (text := _throughput(sweep))]
        parts = [f"of the batches measured, {'; '.join(timed)}"] if timed else []
        parts += _ends(same)
        if any(len(s.timed) > 1 and _unknown(s) for s in same):
            parts.append("one block: no interval")
        if parts:
            said.append(f"{same[0].title}: {'; '.join(parts)}.")
    return said


def saturates(found: Saturation) -> str:
    """Say from which of the measured batches throughput is at its best: `saturates from 64`."""
    others = [batch for batch in found.candidates or [] if batch != found.batch]
    if found.is_rising:
        doubt = f" (perhaps saturated from {min(others):,})" if others else ""
        return f"still rises at {found.batch:,}, the largest{doubt}"
    doubt = ""
    if others:
        doubt = f" [{min(*others, found.batch):,}, {max(*others, found.batch):,}]"
    return f"saturates from {found.batch:,}{doubt}"


def falls(sweep: BatchSweep) -> str:
    """Say how far throughput falls beyond its best; empty if it does not."""
    if (fall := sweep.fall) is None:
        return ""
    times = units.significant(fall.times.median, 2)
    return f"falls beyond {fall.best:,}, at {fall.batch:,} {times}x slower"


def ends(limit: LimitLine, where: str = "") -> str:
    """Say what still fits: `memory ends after batch 4,113 on numpy`."""
    if limit.failing_batch is None:
        largest = f"batch {limit.largest_batch:,}" if limit.largest_batch else "no batch"
        return f"memory is known to be enough for {largest}{where} ({limit.reason})"
    if not limit.largest_batch:
        return f"not even batch {limit.failing_batch:,} fits in memory{where}"
    if limit.failing_batch - limit.largest_batch > 1:
        between = f"{limit.largest_batch:,} and {limit.failing_batch:,}"
        return f"memory ends between batch {between}{where}"
    return f"memory ends after batch {limit.largest_batch:,}{where}"


def _throughput(sweep: BatchSweep) -> str:
    timed = sweep.timed
    if not timed:
        return ""
    found = sweep.saturation
    at = timed[0] if found is None else next(m for m in timed if m.batch == found.batch)
    rate = throughput(at)
    how = f"has batch {at.batch:,} only" if found is None else saturates(found)
    said = f"{sweep.place} {how} ({_rate(rate)})" if rate else ""
    return ", ".join(filter(None, [said, falls(sweep)]))


def _rate(rate: Ratio) -> str:
    said = f"{units.grouped(rate.median)} samples/s"
    if rate.low is None or rate.high is None:
        return said
    return f"{said} [{units.grouped(rate.low)}, {units.grouped(rate.high)}]"


def _ends(same: Sequence[BatchSweep]) -> list[str]:
    """Say which sweeps memory ends, and where: those that end alike together."""
    alike: dict[str, list[BatchSweep]] = {}
    for sweep in same:
        if sweep.limit is not None and sweep.limit.failing_batch is not None:
            alike.setdefault(ends(sweep.limit), []).append(sweep)
    return [
        ends(found[0].limit, f" on {', '.join(sweep.place for sweep in found)}")
        for found in alike.values()
        if found[0].limit is not None
    ]


def _unknown(sweep: BatchSweep) -> bool:
    return sweep.saturation is not None and sweep.saturation.candidates is None
