"""How many times as fast as the best CPU a GPU does the same work: alone, and with transfers."""

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.results.networks import SUM_OF_LAYERS
from bench.results.schema import Interval, Measurement

_SAME_BITS: Final = {"tf32": "float32"}
"""What a GPU's dtype is compared with where no CPU has it; the stored inputs agree."""

_FARTHEST: Final = 700.0
"""The largest exponent that is a number."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians with its 95% interval; None where one block tells nothing."""

    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Speedup:
    """A GPU's measurement and the best CPU's of the same work.

    `alone` divides `seconds` by `seconds`; `with_transfers` the CPU's `host_seconds` by the GPU's
    `end_to_end_seconds`, for which another CPU (`cpu_host`) may be the best. It is None where
    either is unknown, and for sums of layers, which would count copies that no network makes.
    """

    cpu: Measurement
    gpu: Measurement
    alone: Ratio
    cpu_host: Measurement | None
    with_transfers: Ratio | None


def ratio(slow: Interval, fast: Interval) -> Ratio:
    """Return how many times as long `slow` takes.

    The two are taken as independent: their reaches in log space add up as squares do, downwards
    and upwards separately.
    """
    middle = _finite(slow.median / fast.median)
    if slow.low is None or slow.high is None or fast.low is None or fast.high is None:
        return Ratio(middle, None, None)
    down = math.hypot(_reach(slow.low, slow.median), _reach(fast.median, fast.high))
    up = math.hypot(_reach(slow.median, slow.high), _reach(fast.low, fast.median))
    return Ratio(
        middle,
        _finite(middle * math.exp(-min(down, _FARTHEST))),
        _finite(middle * math.exp(min(up, _FARTHEST))),
    )


def _reach(low: float, high: float) -> float:
    return math.log(high) - math.log(low)


def _finite(value: float) -> float:
    """Return the nearest positive number; two times may be farther apart than floats reach."""
    return min(max(value, math.ulp(0.0)), sys.float_info.max)


def geometric_mean(ratios: Sequence[Ratio]) -> Ratio:
    """Return the mean on a logarithmic axis.

    Its interval is the mean of theirs, as if all drifted together: rather too wide.
    """
    if len(ratios) == 1:
        return ratios[0]
    return Ratio(
        statistics.geometric_mean(ratio.median for ratio in ratios),
        _mean_of_known([ratio.low for ratio in ratios]),
        _mean_of_known([ratio.high for ratio in ratios]),
    )


def _mean_of_known(ends: Sequence[float | None]) -> float | None:
    known = [end for end in ends if end is not None]
    return statistics.geometric_mean(known) if len(known) == len(ends) else None


def speedups(measurements: Sequence[Measurement]) -> list[Speedup]:
    """Return the speedup of every GPU measurement of a run that a CPU measurement matches.

    The best CPU is the fastest of all backends, variants and thread counts. A GPU's tf32 is
    compared with the CPU's float32. The order is that of the GPU's measurements.
    """
    by_work = _cpus_by_work(measurements)
    found = []
    for gpu in measurements:
        if gpu.device != "gpu" or gpu.status != "ok":
            continue
        dtype = _SAME_BITS.get(gpu.dtype, gpu.dtype)
        same = [cpu for cpu in by_work.get(_work(gpu, dtype), ()) if _same_inputs(cpu, gpu)]
        best = _best(same, "seconds", gpu.seconds)
        if best is None:
            continue
        # A network does not leave the GPU between its layers.
        leaves = SUM_OF_LAYERS not in gpu.flags
        hosted = _best(same, "host_seconds", gpu.end_to_end_seconds) if leaves else None
        found.append(Speedup(best[0], gpu, best[1], *(hosted or (None, None))))
    return found


def against_best_cpu(measurements: Sequence[Measurement]) -> list[tuple[Measurement, Ratio]]:
    """Return how many times as fast as the best CPU each CPU measurement of a run is.

    The best one is as fast as itself, without any doubt.
    """
    found = []
    for cpus in _cpus_by_work(measurements).values():
        for m in cpus:
            best = _best([cpu for cpu in cpus if _same_inputs(cpu, m)], "seconds", m.seconds)
            if best is not None:
                found.append((m, Ratio(1.0, 1.0, 1.0) if best[0] is m else best[1]))
    return found


def _cpus_by_work(
    measurements: Sequence[Measurement],
) -> dict[tuple[object, ...], list[Measurement]]:
    by_work: dict[tuple[object, ...], list[Measurement]] = {}
    for m in measurements:
        if m.device == "cpu" and m.status == "ok":
            by_work.setdefault(_work(m, m.dtype), []).append(m)
    return by_work


def _work(m: Measurement, dtype: str) -> tuple[object, ...]:
    return m.suite, m.workload, m.workload_version, m.size, m.phase, dtype, m.is_cold


def _same_inputs(one: Measurement, other: Measurement) -> bool:
    """Tell whether the inputs may be the same; the sum of a network has no digest."""
    return None in (one.input_digest, other.input_digest) or one.input_digest == other.input_digest


def _best(
    cpus: Sequence[Measurement], metric: str, gpu: Interval | None
) -> tuple[Measurement, Ratio] | None:
    """Return the fastest by `metric`, and how many times as long as `gpu` it takes."""
    timed = [(cpu, time) for cpu in cpus if (time := getattr(cpu, metric)) is not None]
    if gpu is None or not timed:
        return None
    best, time = min(timed, key=lambda pair: pair[1].median)
    return best, ratio(time, gpu)
