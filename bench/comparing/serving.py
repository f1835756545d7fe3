"""Which device a real-time service needs, in sentences: what its clients would wait for."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

from bench import units
from bench.comparing.crossover import Crossover, crossover
from bench.comparing.speedup import Ratio, ratio
from bench.comparing.sweeps import size_name
from bench.results.intervals import LONGEST
from bench.results.schema import Interval, Measurement

OVERLOADED: Final = "overloaded"
LOADS: Final = ("threads=", "concurrency=", "rate=")
"""What a variant says of the load, beside the way in which the library is used."""
RUNTIMES: Final = (
    "latency: CPU means NumPy and PyTorch, eager or compiled, in one Python process here; other"
    " inference runtimes (OpenVINO, ONNX Runtime, TensorRT) were not measured"
)


def latency_bound(settings: Mapping[str, Any]) -> float | None:
    """Return the seconds within which 99 of 100 answers were to come, if a run says so."""
    bound = settings.get("latency_bound")
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        return None
    return float(bound) if 0 < bound <= LONGEST else None


def written(bound: float) -> str:
    """Write a bound as its user would: `20 ms`."""
    number, _, unit = units.seconds(bound).partition(" ")
    return f"{float(number):g} {unit}"


def service_sentences(measurements: Sequence[Measurement], bound: float | None) -> list[str]:
    """Say for each workload, size and dtype which device answers how many requests how soon.

    First at the smallest batch, as a service has it; then, with a `bound` in seconds, what each
    device reaches at any batch while 99 of 100 answers come within it.
    """
    groups: dict[Hashable, list[Measurement]] = {}
    for m in measurements:
        if m.latency is not None and m.status == "ok":
            load = m.workload, m.workload_version, m.phase, size_name(m), m.dtype, m.rate
            groups.setdefault(load, []).append(m)
    said = []
    for group in groups.values():
        name = _title(group[0])
        said.append(f"{name}, {_at_least_batch(group, bound)}.")
        if bound is not None:
            reached = "; ".join(_reached(way, bound) for way in _devices(group).values())
            said.append(f"{name}, within {written(bound)} at p99: {reached}.")
    return said


def setting(m: Measurement) -> str:
    """Name where requests are served: the backend, how it is used, its threads and clients."""
    threads = f"{m.threads} thread{'s' * (m.threads != 1)}" if m.device == "cpu" else ""
    clients = f"concurrency {m.concurrency}" if (m.concurrency or 1) > 1 else ""
    load = " and ".join(filter(None, [threads, clients]))
    return _device_name(m) + (f" with {load}" if load else "")


def busy_share(m: Measurement) -> float | None:
    """Return how much of the time of serving the device works, by its own clock; None: unknown."""
    if m.device_seconds is None or m.latency is None or m.latency.requests_per_second is None:
        return None
    return min(1.0, m.device_seconds.median * m.latency.requests_per_second.median)


def _title(m: Measurement) -> str:
    size = size_name(m)
    parts = [f"{m.workload} {m.phase}", size if size != m.workload else "", m.dtype]
    rate = f"{_count(m.rate)} arrivals/s" if m.rate is not None else ""
    return ", ".join(filter(None, [*parts, rate]))


def _at_least_batch(group: Sequence[Measurement], bound: float | None) -> str:
    """Say what is enough for a service that answers each request by itself."""
    least = min(_batch(m) for m in group)
    best = {
        device: _best([m for m in way if _batch(m) == least], bound)
        for device, way in _devices(group).items()
    }
    cpu = best.pop("cpu", None)
    gpus = [gpu for gpu in best.values() if gpu is not None]
    crossings = {
        device: found for device in best if (found := _crossing(group, device)) is not None
    }
    verdict = _verdict(cpu, gpus, crossings.values(), bound)
    said = [_serves(m) for m in ([cpu] if cpu else []) + gpus]
    said += [f"{device} {_wins(found)}" for device, found in crossings.items()]
    missing = "no CPU was measured" if cpu is None else "" if gpus else "no GPU was measured"
    text = "; ".join(filter(None, [*said, missing]))
    return f"batch {least}: {verdict}{text}"


def _verdict(
    cpu: Measurement | None,
    gpus: Sequence[Measurement],
    crossings: Iterable[Crossover],
    bound: float | None,
) -> str:
    """Say whether the CPU is enough: for the bound, or without one because no GPU is sooner."""
    if cpu is None:
        return ""
    if bound is not None:
        p99 = cpu.latency.p99 if cpu.latency else None
        if p99 is None:
            return ""
        enough = "enough" if _is_within(cpu, bound) else "not enough"
        perhaps = "perhaps " if _unsure(cpu, bound) and not _is_overloaded(cpu) else ""
        return f"CPU is {perhaps}{enough} for {written(bound)}: "
    if not gpus or _is_overloaded(cpu):
        return ""
    sooner = any(found.faster and found.faster[0][0] == found.smallest for found in crossings)
    return "" if sooner else "CPU is enough: "


def _reached(way: Sequence[Measurement], bound: float) -> str:
    """Say how much a device serves within the bound, at the batch that lets it serve most."""
    who = "CPU" if way[0].device == "cpu" else _device_name(way[0])
    within = [m for m in way if _is_within(m, bound)]
    untold = [m for m in way if m.latency and not m.latency.p99 and not _is_overloaded(m)]
    if not within and untold:
        most = max(m.latency.requests for m in untold if m.latency)
        return f"{who}: not known, as {most:,} requests tell no p99"
    if not within:
        best = min([m for m in way if not _is_overloaded(m)] or way, key=_p99)
        where = f"{setting(best)}, batch {_batch(best)}"
        return f"{who}: never; the best is {_p99_of(best)}{_unsure(best, bound)} ({where})"
    # What arrives at a rate is served at that rate, but for chance: the soonest is then the best.
    best = max(within, key=lambda m: (_batch(m) * (m.rate or _requests(m)), -_p99(m)))
    samples = _count(_batch(best) * _requests(best))
    return (
        f"{setting(best)}, batch {_batch(best)}: {_count(_requests(best))} requests/s"
        f" ({samples} samples/s) at {_p99_of(best)}{_unsure(best, bound)}"
    )


def _devices(group: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """Return the cases of all CPU backends together, and those of each GPU."""
    found: dict[str, list[Measurement]] = {}
    for m in sorted(group, key=lambda m: m.device != "cpu"):
        found.setdefault("cpu" if m.device == "cpu" else _device_name(m), []).append(m)
    return found


def _device_name(m: Measurement) -> str:
    ways = [part for part in (m.variant or "").split("+") if part and not part.startswith(LOADS)]
    return "+".join([m.backend, *ways])


def _best(cases: Sequence[Measurement], bound: float | None) -> Measurement | None:
    """Return the setting that serves most within the bound; if none is, the soonest.

    Where requests arrive at a rate they all serve as many: the soonest that keeps up.
    """
    kept_up = [m for m in cases if not _is_overloaded(m)] or cases
    within = [m for m in kept_up if bound is None or _is_within(m, bound)]
    if within and within[0].rate is None:
        return max(within, key=_requests)
    return min(within or kept_up, key=_p99, default=None)


def _crossing(group: Sequence[Measurement], device: str) -> Crossover | None:
    """Return from which batch a GPU answers sooner than the best CPU, one request at a time."""
    alone = [m for m in group if m.concurrency == min(c.concurrency or 1 for c in group)]
    ratios: dict[int, Ratio] = {}
    for gpu in (m for m in alone if m.device != "cpu" and _device_name(m) == device):
        cpus = [
            interval
            for m in alone
            if m.device == "cpu" and m.sizes == gpu.sizes
            if None in (m.input_digest, gpu.input_digest) or m.input_digest == gpu.input_digest
            if (interval := _p50(m)) is not None
        ]
        p50 = _p50(gpu)
        if p50 is not None and cpus:
            ratios[_batch(gpu)] = ratio(min(cpus, key=lambda interval: interval.median), p50)
    return crossover(list(ratios), list(ratios.values())) if ratios else None


def _wins(found: Crossover) -> str:
    """Say at which batches a GPU is faster; of batches between the measured ones the next whole."""

    def whole(batch: float) -> str:
        return f"{math.ceil(batch - 1e-9):,}"

    if found.smallest == found.largest:
        sure = " (not certain)" if found.doubt == "between" else ""
        verb = "wins" if found.kind == "always" else "does not win"
        return f"{verb} at batch {whole(found.smallest)}, the only one measured{sure}"
    if found.kind == "several":
        parts = [f"{whole(start)} to {whole(end)}" for start, end in found.faster]
        return f"wins at batch {' and '.join(parts)}"
    low = "below" if found.low is None else whole(found.low)
    high = "above" if found.high is None else whole(found.high)
    if found.at is not None:
        word = "from" if found.kind == "from" else "below"
        said = f"wins {word} batch {whole(found.at)}"
        return said if found.doubt == "unknown" else f"{said} [{low}, {high}]"
    every = f"{whole(found.smallest)} to {whole(found.largest)}"
    verb = "wins at every batch from" if found.kind == "always" else "wins at no batch from"
    return f"{verb} {every}{' (not certain)' if found.doubt == 'between' else ''}"


def _serves(m: Measurement) -> str:
    said = f"{setting(m)} serves {_count(_requests(m))} requests/s at {_p99_of(m)}"
    busy = busy_share(m) if m.device != "cpu" else None
    said += f", busy {busy:.0%} of the time" if busy is not None else ""
    return f"{said}, {OVERLOADED}" if _is_overloaded(m) else said


def _p99_of(m: Measurement) -> str:
    if m.latency is None or m.latency.p99 is None:
        return "a p99 that too few requests tell"
    p99 = m.latency.p99
    interval = units.seconds_interval(p99.low, p99.high)
    return f"p99 {units.seconds(p99.median)}" + (f" {interval}" if p99.low is not None else "")


def _p50(m: Measurement) -> Interval | None:
    return m.latency.p50 if m.latency else None


def _p99(m: Measurement) -> float:
    """Return what sorts settings by how soon they answer; those without a p99 come last."""
    return m.latency.p99.median if m.latency and m.latency.p99 else math.inf


def _requests(m: Measurement) -> float:
    served = m.latency.requests_per_second if m.latency else None
    return served.median if served else 0.0


def _batch(m: Measurement) -> int:
    return m.batch or 1


def _is_overloaded(m: Measurement) -> bool:
    return OVERLOADED in m.flags


def _is_within(m: Measurement, bound: float) -> bool:
    return _p99(m) <= bound and not _is_overloaded(m)


def _unsure(m: Measurement, bound: float) -> str:
    """Say so if a repeat of the run may find itself on the other side of the bound."""
    p99 = m.latency.p99 if m.latency else None
    if p99 is None or p99.low is None or p99.high is None or not p99.low <= bound < p99.high:
        return ""
    return ", whose interval crosses the bound"


def _count(value: float) -> str:
    """Write a number with three digits that count, and commas."""
    rounded = float(f"{value:.2e}")
    return f"{rounded:,.0f}" if rounded >= 100 else units.significant(value)
