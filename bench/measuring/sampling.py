"""Warm-up, calibration and samples: when to begin, how many calls a sample has, when to stop.

Nothing here knows a library or a real clock: a stopwatch is given, and tests give a false one.
Rules 7 to 9 and 11 of docs/measurement.md.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.backends.base import Backend
from bench.errors import CaseError
from bench.workload import Call

MIN_SAMPLE_SECONDS: Final = 0.010  # one sample outlasts a scheduler tick and 1000 clock readings
LONG_CALL_SECONDS: Final = 0.15  # from here on as many samples as fit, at least one
HUGE_CALL_SECONDS: Final = 1.0  # from here on one call warms up
MIN_WARMUP_CALLS: Final = 3
WINDOW: Final = 5  # samples per window of the steadiness test
DRAIN_SHARE: Final = 0.05
DRAIN_SECONDS: Final = 20e-6
EVENT_SECONDS: Final = 0.5e-6  # what CUDA's events resolve, by the manual of cudaEventElapsedTime
HOLD_SECONDS: Final = 20e-6
LONGEST_HOLD_SECONDS: Final = 0.02
MOST_SAMPLES: Final = 400

Clock = Callable[[], float]


@dataclass(frozen=True)
class Budget:
    """How long one case is measured in one block, in seconds, and in how many visits."""

    warmup_seconds: float = 0.5
    warmup_cap_seconds: float = 2.0
    sampling_seconds: float = 1.0
    visits: int = 8
    precision: float = 0.05
    """Half the within-process interval over the median, above which a block is `imprecise`."""


@dataclass
class Stopwatch:
    """Times `calls` back-to-back calls and one synchronisation; watches what drains after it."""

    backend: Backend
    call: Call
    clock: Clock
    output: object = None
    worked: float = 0.0
    calls: int = 0
    most_calls: int = 2**30
    """Calls that a sample may have."""
    _drains: list[tuple[float, float]] = field(default_factory=list)

    def sample(self, calls: int) -> float:
        """Return the seconds of one call, averaged over `calls`."""
        call, clock = self.call, self.clock
        output = None
        start = clock()
        for _ in range(calls):
            output = call()
        self.backend.synchronize()
        stop = clock()
        if self.backend.asynchronous:
            self.backend.drain()
            self._drains.append((stop - start, clock() - stop))
        self.output = output
        self.worked += stop - start
        self.calls += calls
        return (stop - start) / calls

    def single(self) -> float:
        """Return the seconds of one call as its caller sees it, synchronised."""
        return self.sample(1)

    def require_drained(self) -> None:
        """Raise CaseError if work was still running after the synchronisation, as a rule.

        A single late return says nothing on a busy machine; half of them do.
        """
        late = sum(drain > max(DRAIN_SHARE * timed, DRAIN_SECONDS) for timed, drain in self._drains)
        if self._drains and 2 * late >= len(self._drains):
            timed, drain = self._drains[-1]
            raise CaseError(
                "unsynchronised",
                f"the device worked on for {drain * 1e3:.3g} ms after the timed {timed * 1e3:.3g}"
                " ms: the call launches work that synchronising its stream does not wait for",
            )


@dataclass
class ColdStopwatch(Stopwatch):
    """Times single calls, each after `flush` has filled the caches with something else.

    On a GPU the device is held, then flushed while the call is launched, and its own clock times
    what follows: what is timed holds neither the flush nor the launch. The flush alone is too short
    for a call of many kernels.
    """

    most_calls: int = 1
    flush: Call = lambda: None
    _launch: float = 0.0
    """What launching took last time, in seconds."""

    def sample(self, calls: int) -> float:
        """Return the mean of so many cold calls."""
        return statistics.fmean(self._one(self.backend.asynchronous) for _ in range(calls))

    def single(self) -> float:
        """Time one cold call by the host's clock, whatever the device."""
        return self._one(by_device=False)

    def _one(self, by_device: bool) -> float:
        backend, clock = self.backend, self.clock
        held = hold_for(self._launch) if by_device else 0.0
        if by_device:
            backend.hold(held)
        self.flush()
        if not by_device:
            backend.synchronize()
        mark, start = backend.record() if by_device else None, clock()
        self.output = self.call()
        self._launch = launching(clock() - start, held)
        end = backend.record() if by_device else None
        backend.synchronize()
        stop = clock()
        if not by_device and backend.asynchronous:  # the flush would hide what nobody waits for
            backend.drain()
            self._drains.append((stop - start, clock() - stop))
        self.worked += stop - start
        self.calls += 1
        return max(backend.elapsed(mark, end), EVENT_SECONDS) if by_device else stop - start


def hold_for(launch: float) -> float:
    """Return how long a device is held before a call whose launches have taken so long."""
    return min(2 * launch + HOLD_SECONDS, LONGEST_HOLD_SECONDS)


def launching(called: float, held: float) -> float:
    """Return what launching took, at most, of a call that a held device let return after `called`.

    One that returns after the hold may have waited for it, as a copy of pageable memory does: the
    next hold must not double this one.
    """
    return called - held if called > held else called


@dataclass(frozen=True)
class WarmUp:
    """How a warm-up ended: the estimate of one call's seconds, and whether it was steady."""

    estimate: float
    steady: bool


def warm_up(stopwatch: Stopwatch, budget: Budget) -> WarmUp:
    """Call until two adjacent windows of samples agree; long calls just for the time given."""
    begin = stopwatch.clock()
    calls = 1
    recent: list[float] = []
    while True:
        recent.append(stopwatch.sample(calls))
        elapsed = stopwatch.clock() - begin
        estimate = statistics.median(recent[-WINDOW:])
        if estimate >= HUGE_CALL_SECONDS:
            return WarmUp(estimate, steady=True)
        short = recent[-1] * calls < MIN_SAMPLE_SECONDS / 2 and 2 * calls <= stopwatch.most_calls
        if short and elapsed < budget.warmup_cap_seconds:
            calls *= 2
            recent.clear()
            continue
        long = estimate >= LONG_CALL_SECONDS
        enough = elapsed >= budget.warmup_seconds and (long or stopwatch.calls >= MIN_WARMUP_CALLS)
        if enough and (long or is_steady(recent)):
            return WarmUp(estimate, steady=True)
        if enough and elapsed >= budget.warmup_cap_seconds:
            # Too few samples to tell say nothing.
            return WarmUp(estimate, steady=len(recent) < 2 * WINDOW)


def is_steady(samples: Sequence[float]) -> bool:
    """Tell whether the last two windows agree: 2% in the median, 5% in both quartiles."""
    if len(samples) < 2 * WINDOW:
        return False
    before, after = (
        statistics.quantiles(samples[-2 * WINDOW : -WINDOW], n=4, method="inclusive"),
        statistics.quantiles(samples[-WINDOW:], n=4, method="inclusive"),
    )
    return all(
        abs(b / a - 1) <= limit
        for a, b, limit in zip(before, after, (0.05, 0.02, 0.05), strict=True)
    )


def choose_calls(estimate: float) -> int:
    """Return the calls per sample that make a sample last 10 ms or more: a power of two."""
    return 1 << max(0, math.ceil(math.log2(MIN_SAMPLE_SECONDS / estimate)))


def choose_visits(sample_seconds: float, budget: Budget) -> int:
    """Return into how many visits the sampling is divided; each has two samples at the least."""
    if sample_seconds >= LONG_CALL_SECONDS:
        return 1
    return max(1, min(budget.visits, int(budget.sampling_seconds / (2 * sample_seconds))))


def take_samples(stopwatch: Stopwatch, calls: int, seconds: float) -> list[float]:
    """Sample at least once, and as long as another one and one more fit into `seconds`."""
    begin = stopwatch.clock()
    samples: list[float] = []
    while len(samples) < MOST_SAMPLES:
        typical = statistics.median(samples) * calls if samples else 0.0
        if samples and stopwatch.clock() - begin + 2 * typical > seconds:
            break
        samples.append(stopwatch.sample(calls))
    return samples


def relative_half_width(samples: Sequence[float]) -> float:
    """Return half the 95% interval of the median over the median, within one process.

    Distribution-free, from order statistics; widened for autocorrelation, since neighbouring
    samples of one process resemble each other. Infinite below six samples.
    """
    count = len(samples)
    if count < 6:
        return math.inf
    ordered = sorted(samples)
    reach = math.ceil(1.96 * math.sqrt(count) / 2)
    low, high = ordered[max(0, count // 2 - reach)], ordered[min(count - 1, count // 2 + reach)]
    correlation = autocorrelation(samples)
    widening = math.sqrt((1 + correlation) / (1 - correlation)) if correlation > 0.1 else 1.0
    return widening * (high - low) / 2 / statistics.median(ordered)


def autocorrelation(samples: Sequence[float]) -> float:
    """Return the correlation of neighbouring samples, at most 0.95."""
    mean = statistics.fmean(samples)
    spread = sum((s - mean) ** 2 for s in samples)
    if spread == 0:
        return 0.0
    together = sum((a - mean) * (b - mean) for a, b in itertools.pairwise(samples))
    return min(0.95, together / spread)
