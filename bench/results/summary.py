"""From blocks to measurements: what follows from the raw samples of all cases together."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from bench.results.intervals import Center, intervals
from bench.results.latency import latencies
from bench.results.schema import (
    Block,
    BlockLine,
    CaseLine,
    Interval,
    Latency,
    Measurement,
    OutcomeLine,
)

NOT_ON_CPU = "a CPU has no clock of its own: see host_seconds"
DIFFERENT_INPUTS = "the blocks had different inputs"
UNKNOWN = {
    "host_seconds": "not measured",
    "device_seconds": "not measured: the device has no clock that bench reads",
    "end_to_end_seconds": "not measured",
    "flops": "the workload does not tell",
    "bytes_moved": "the workload does not tell",
    "relative_error": "not verified",
    "peak_bytes": "not told by the process's memory counters",
    "energy_joules": "not asked for: --energy measures it",
}
"""Why a field of a case that was measured is null."""


def summarise(
    cases: Sequence[CaseLine],
    blocks: Iterable[BlockLine],
    outcomes: Iterable[OutcomeLine],
    unreached: str,
) -> list[Measurement]:
    """Return a measurement for every case; `unreached` is the reason of those without a block."""
    by_case: dict[tuple[str, str], list[BlockLine]] = {}
    for block in blocks:
        by_case.setdefault(block.key, []).append(block)
    for lines in by_case.values():
        lines.sort(key=lambda line: line.block)
    ends = {outcome.key: outcome for outcome in outcomes}
    ok = {
        case.key: by_case[case.key]
        for case in cases
        if case.key in by_case and case.key not in ends and case.skipped is None
    }
    # Backends differ in how far they follow the machine: each lends to its own cases only.
    places = {case.key: (case.backend, case.threads, case.gpu) for case in cases}
    centers: dict[str, dict[tuple[str, str], Center]] = {}
    for metric in Measurement.metrics:
        samples = _samples(ok, metric)
        centers[metric] = {}
        for place in dict.fromkeys(places.values()):
            own = {key: found for key, found in samples.items() if places[key] == place}
            centers[metric].update(intervals(own))
    clients: dict[tuple[str, str], tuple[Latency | None, dict[str, str]]] = {}
    serving = {case.key for case in cases if case.concurrency is not None}
    for place in dict.fromkeys(places.values()):
        clients.update(
            latencies({k: v for k, v in ok.items() if k in serving and places[k] == place})
        )
    found = [
        _measurement(case, by_case.get(case.key, []), ends.get(case.key), centers, unreached)
        for case in cases
    ]
    for measurement in found:
        if measurement.key in clients:
            measurement.latency, why = clients[measurement.key]
            measurement.unknown.update(why)
    return found


def _samples(
    blocks: dict[tuple[str, str], list[BlockLine]], metric: str
) -> dict[tuple[str, str], list[list[float]]]:
    """Return the samples that count, by case and block; `seconds` those of quiet moments."""
    found = {
        key: [
            samples
            for line in lines
            if (samples := line.quiet_seconds() if metric == "seconds" else getattr(line, metric))
        ]
        for key, lines in blocks.items()
    }
    return {key: samples for key, samples in found.items() if samples}


def _measurement(
    case: CaseLine,
    lines: Sequence[BlockLine],
    outcome: OutcomeLine | None,
    centers: dict[str, dict[tuple[str, str], Center]],
    unreached: str,
) -> Measurement:
    status, why = _status(case, lines, outcome, unreached)
    measurement = Measurement(
        **{
            name: getattr(case, name)
            for name in CaseLine.__struct_fields__
            if name in Measurement.__struct_fields__
        },
        status=status,
        reason=why,
    )
    if lines:
        measurement.blocks = [_block(line) for line in lines]
        digests = {line.input_digest for line in lines}
        if len(digests) == 1:
            measurement.input_digest = digests.pop()
        else:
            measurement.unknown["input_digest"] = DIFFERENT_INPUTS
        measurement.verified = lines[0].verified
        measurement.flags = _flags(lines)
    if status != "ok":
        return measurement
    measurement.relative_error = max(
        (line.relative_error for line in lines if line.relative_error is not None), default=None
    )
    measurement.peak_bytes = max(
        (line.peak_bytes for line in lines if line.peak_bytes is not None), default=None
    )
    measurement.effective_batch = lines[0].effective_batch
    used = [line.energy_joules for line in lines if line.energy_joules is not None]
    measurement.energy_joules = median(used) if used else None
    for metric, found in centers.items():
        if case.key in found:
            setattr(measurement, metric, _interval(found[case.key], lines, metric))
    if case.device == "cpu":
        measurement.end_to_end_seconds = measurement.host_seconds
        measurement.unknown["device_seconds"] = NOT_ON_CPU
    for name, reason in {**UNKNOWN, **lines[0].unknown}.items():
        if getattr(measurement, name, reason) is None:
            measurement.unknown.setdefault(name, reason)
    return measurement


def _status(
    case: CaseLine, lines: Sequence[BlockLine], outcome: OutcomeLine | None, unreached: str
) -> tuple[Any, str | None]:
    if case.skipped is not None:
        return "skipped", case.skipped
    if outcome is not None:
        return outcome.status, outcome.reason
    return ("ok", None) if lines else ("skipped", unreached)


def _block(line: BlockLine) -> Block:
    return Block(**{name: getattr(line, name) for name in Block.__struct_fields__})


def _interval(center: Center, lines: Sequence[Block], metric: str) -> Interval:
    least = min(min(getattr(line, metric)) for line in lines if getattr(line, metric))
    return Interval(median=center.median, low=center.low, high=center.high, min=least)


def _flags(lines: Sequence[Block]) -> list[str]:
    """Name what befell at least half of the blocks; a kept disturbance always counts."""
    counts: dict[str, int] = {}
    for line in lines:
        for name in {note.partition(":")[0] for note in line.notes} - {"discarded"}:
            counts[name] = counts.get(name, 0) + 1
    return sorted(
        name for name, count in counts.items() if 2 * count >= len(lines) or name == "disturbed"
    )
