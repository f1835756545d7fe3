"""One case in one block, from its inputs to its samples, in the order in which it happens."""

import contextlib
import gc
import math
import mmap
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.backends.base import Backend, DeviceState, Unknown
from bench.errors import CaseError
from bench.measuring.energy import joules_per_call
from bench.measuring.interference import Counters, disturbances
from bench.measuring.memory import PeakMemory, release
from bench.measuring.sampling import (
    HUGE_CALL_SECONDS,
    MIN_WARMUP_CALLS,
    Budget,
    Clock,
    ColdStopwatch,
    Stopwatch,
    choose_calls,
    choose_visits,
    hold_for,
    launching,
    take_samples,
    warm_up,
)
from bench.measuring.serving import MOST_REQUESTS, SAMPLED_SHARE, Server, Service, open_service
from bench.measuring.verification import Reference, relative_error, require_right
from bench.measuring.work import Work
from bench.workload import Call, Prepare

WAKE_SECONDS: Final = 0.01
CANARY_CALLS: Final = 3
SINGLE_CALLS: Final = 20
SINGLE_SECONDS: Final = 0.1
TRANSFERS: Final = 5
LAUNCH_BOUND_SHARE: Final = 0.8
FLUSHED_BYTES: Final = 256 * 2**20
"""More than twice the last cache of a GPU, and than the share of one CPU core."""


@dataclass(frozen=True, kw_only=True)
class Order(Work):
    """What the parent asks for: a case, where its inputs lie, and how long it may take."""

    decoy: str
    reference: Reference
    budget: Budget
    cores: int
    error_factor: float = 1.0
    calls_per_sample: int | None = None
    cold: bool = False
    """Whether caches are emptied before each call."""
    energy: bool = False
    fresh_inputs: int | None = None
    """How many of the inputs, the first ones, are copied to the device for each call; None: all."""
    serving: Mapping[str, Any] | None = None
    """How requests are served, if they are: `concurrency`, `rate` (None: a closed loop) and the
    `seed` of the arrivals."""

    @property
    def answers(self) -> int | None:
        """How many of the outputs, the first ones, are copied back; None: all."""
        return None if self.fresh_inputs is None else 1

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Order":
        """Build it from the JSON of a message."""
        rest = {k: v for k, v in fields.items() if k not in ("reference", "budget")}
        return cls(
            reference=Reference(**fields["reference"]), budget=Budget(**fields["budget"]), **rest
        )


@dataclass(frozen=True)
class Sight:
    """What was seen of the machine at one moment; `canary` in seconds."""

    state: DeviceState
    counters: Counters
    canary: float


class Measuring:
    """One case in one block: begun once, visited several times, finished once.

    The visits of a case lie between those of all others, so that a slow moment of the machine
    falls on every case and not on one. Times are seconds.
    """

    def __init__(
        self,
        backend: Backend,
        prepare: Prepare,
        order: Order,
        canary: Call,
        clock: Clock = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Verify the case, warm it up and choose its calls per sample.

        Raises:
            CaseError: The output is wrong, or work went on after the synchronisation.
        """
        self.backend = backend
        self.prepare = prepare
        self.order = order
        self.notes: list[str] = [] if backend.tried else ["untried"]
        self.canary = Stopwatch(backend, canary, clock)
        backend.use(order.dtype)
        self.first = _first_call(backend, prepare, order, clock)
        self.host_inputs = order.read(order.inputs)
        for array in self.host_inputs:
            # Mapped pages count as the process's memory: touched now, they are no part of the peak.
            bytes(memoryview(array.data)[:: mmap.PAGESIZE])
        least = sum(memoryview(array.data).nbytes for array in self.host_inputs)
        since = self._look()
        self.flush = backend.copy(FLUSHED_BYTES // 2) if order.cold else None
        with PeakMemory(backend, least) as self.peak:
            inputs = [backend.to_device(array) for array in self.host_inputs]
            call = prepare(backend.namespace, order.dims, *inputs)
            self.stopwatch = self._stopwatch(call, clock)
            once = self.stopwatch.sample(1)
        self.timed: list[float] = []
        self.since: Sight | None = None
        self.error = self._verify()
        self.effective_batch = order.require_batch(call, self.stopwatch.output)
        fresh = zip(inputs[: order.fresh_inputs], self.host_inputs, strict=False)
        self.server = Server(backend, call, list(fresh), order.answers)
        again = partial(prepare, backend.namespace, order.dims)
        self.service = (
            open_service(self.server, again, inputs, order.serving, clock, sleep)
            if order.serving is not None
            else None
        )
        if once >= HUGE_CALL_SECONDS and order.calls_per_sample in (None, 1):
            # The first call of the process was the warm-up, and the verified one is a sample. The
            # first one alone does not tell: it may have taken so long to load or to compile.
            self.calls, self.visits, self.warmup_calls = 1, 1, 1
            self.timed, self.since = [once], since
            self.stopwatch.require_drained()
            return
        with _collector_off():
            self._warm_up()

    def begun(self) -> dict[str, Any]:
        """Return what is known before the first visit."""
        return {
            "visits": self.visits,
            "calls_per_sample": self.calls,
            "warmup_calls": self.warmup_calls,
            "first_call_seconds": self.first,
            "effective_batch": self.effective_batch,
            "peak_bytes": self.peak.bytes,
            "unknown": {} if self.peak.unknown is None else {"peak_bytes": self.peak.unknown},
        }

    def visit(self) -> dict[str, Any]:
        """Take samples, and serve requests if there are any; return what disturbed the samples."""
        self.backend.use(self.order.dtype)
        huge = self.since is not None
        seen = self._visit_huge(self.since) if self.since is not None else self._sample()
        if self.service is None:
            return seen
        whole = self.order.budget.sampling_seconds / self.visits
        with _collector_off():
            if not huge:
                self._wake()
            served = self.service.serve(
                whole - self.calls * sum(seen["seconds"]), math.ceil(MOST_REQUESTS / self.visits)
            )
        return {
            **seen,
            "request_seconds": served.request_seconds,
            "serving_seconds": served.serving_seconds,
        }

    @property
    def _sampling_seconds(self) -> float:
        """What all visits together have for samples."""
        share = 1.0 if self.service is None else SAMPLED_SHARE
        return share * self.order.budget.sampling_seconds

    def _sample(self) -> dict[str, Any]:
        watch = self.stopwatch
        with _collector_off():
            since = self._look()
            if self.visits > 1:
                self._wake()
            share = self._sampling_seconds / self.visits
            samples = take_samples(watch, self.calls, share)
            # The last sample must write its output anew: it is what is verified in the end.
            for output in _outputs(watch.output):
                self.backend.poison(output)
            samples.append(watch.sample(self.calls))
        watch.require_drained()
        self.timed = samples
        return self._seen(samples, since)

    def _visit_huge(self, since: Sight) -> dict[str, Any]:
        """Return the verified call as a sample, with as many more as fit."""
        once, self.since = self.timed[0], None
        while sum(self.timed) + once <= self._sampling_seconds:
            self.timed.append(self.stopwatch.sample(1))
        return self._seen(self.timed, since)

    def finish(self) -> dict[str, Any]:
        """Verify the last timed output; add what is measured once."""
        self.backend.use(self.order.dtype)
        if self.stopwatch.calls > 1:
            self.error = max(self.error, self._verify())
        if self.service is not None:
            self._close_service(self.service)
        found: dict[str, Any] = {}
        with _collector_off():
            if self.calls > 1 or self.order.cold:
                self._wake()
                found["host_seconds"] = _single_calls(self.stopwatch)
            if self.backend.asynchronous:
                found.update(self._time_device(found.get("host_seconds", self.timed)[0]))
            if self.order.energy:
                found.update(self._use_energy())
        return {
            **found,
            "relative_error": self.error,
            "worked_seconds": self.stopwatch.worked
            + self.first
            + (self.service.worked if self.service else 0.0),
            "notes": self.notes,
        }

    def _close_service(self, service: Service) -> None:
        """Verify the last answer of every server; say whether they kept up."""
        service.close()
        for output in service.answers():
            self.error = max(self.error, self._verify(output))
        if service.utilisation is not None and service.utilisation >= 1:
            self.notes.append("overloaded")

    def _stopwatch(self, call: Call, clock: Clock) -> Stopwatch:
        if self.flush is None:
            return Stopwatch(self.backend, call, clock)
        return ColdStopwatch(self.backend, call, clock, flush=self.flush)

    def _use_energy(self) -> dict[str, Any]:
        if self.order.cold:
            why = "not measured with cold caches: emptying them uses energy, too"
            return {"unknown_at_last": {"energy_joules": why}}
        try:
            used = joules_per_call(self.stopwatch, self.calls, self.stopwatch.clock)
        except Unknown as unknown:
            return {"unknown_at_last": {"energy_joules": str(unknown)}}
        return {"energy_joules": used}

    def _warm_up(self) -> None:
        watch, order = self.stopwatch, self.order
        before = watch.calls
        if order.cold:  # shows work that nobody waits for, as cold samples do not
            for _ in range(MIN_WARMUP_CALLS):
                watch.single()
        warmed = warm_up(watch, order.budget)
        watch.require_drained()
        self.calls = order.calls_per_sample or min(choose_calls(warmed.estimate), watch.most_calls)
        self.warmup_calls = watch.calls - before
        lasts = warmed.estimate * self.calls
        if order.cold:  # a sample takes longer than what it tells
            begin = watch.clock()
            watch.sample(self.calls)
            lasts = watch.clock() - begin
        self.visits = choose_visits(lasts, order.budget)
        if order.calls_per_sample is None and not _is_linear(watch, self.calls):
            self.notes.append("nonlinear")
        if not warmed.steady:
            self.notes.append("no_steady_state")

    def _wake(self) -> None:
        """Call for a moment: threads have gone to sleep and caches hold another's data."""
        begin = self.stopwatch.clock()
        while True:
            self.stopwatch.sample(self.calls)
            if self.stopwatch.clock() - begin >= WAKE_SECONDS:
                return

    def _verify(self, output: Any = None) -> float:
        order = self.order
        checked = getattr(self.stopwatch.call, "checked", None)
        if output is None:
            output = checked() if checked else self.stopwatch.output
        error = relative_error(self.backend, output, order.reference, order.repeats)
        limit = order.reference.limit(order.dtype, order.error_factor)
        require_right(error, order.dtype, limit)
        return error

    def _look(self) -> Sight:
        self.canary.sample(1)  # wakes the threads
        reading = statistics.median(self.canary.sample(1) for _ in range(CANARY_CALLS))
        return Sight(self.backend.state(), Counters.read(), reading)

    def _seen(self, samples: list[float], since: Sight) -> dict[str, Any]:
        now = Sight(self.backend.state(), Counters.read(), self._look().canary)
        throttled = sorted({*since.state.throttled, *now.state.throttled})
        return {
            "seconds": samples,
            "notes": sorted({*since.state.labels, *now.state.labels}),
            "canary": (since.canary + now.canary) / 2,
            "disturbances": [f"throttled: {reason}" for reason in throttled]
            + disturbances(since.counters, now.counters, self.order.cores),
        }

    def _time_device(self, alone: float) -> dict[str, list[float]]:
        """Return what only an asynchronous device has: its own clock, launches and transfers."""
        backend, watch = self.backend, self.stopwatch
        launches: list[float] = []
        calls, beyond, intervals, round_trips = [], [], [], []
        for _ in range(SINGLE_CALLS if alone < SINGLE_SECONDS else 1):
            # The device is busy until all is launched: no launch lies between the events.
            held = hold_for(max(launches, default=0.0)) if alone < SINGLE_SECONDS else alone
            if alone < HUGE_CALL_SECONDS:
                backend.hold(held)
            start, begin = backend.record(), watch.clock()
            watch.call()
            called = watch.clock() - begin
            launches.append(launching(called, held))
            calls.append(called)
            beyond.append(called - held)
            stop = backend.record()
            backend.synchronize()
            intervals.append(backend.elapsed(start, stop))
        # Not by the events, which hold no launch. A call that outlasts every hold by its own time,
        # such as a copy of pageable memory, waits for the device: that is no launching.
        bound = LAUNCH_BOUND_SHARE * statistics.median(self.timed)
        if statistics.median(calls) >= bound > statistics.median(beyond):
            self.notes.append("launch_bound")
        for _ in range(TRANSFERS if alone < HUGE_CALL_SECONDS else 1):
            begin = watch.clock()
            self.server()
            round_trips.append(watch.clock() - begin)
        return {"device_seconds": intervals, "end_to_end_seconds": round_trips}


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """Keep the garbage collector out of what is timed."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _first_call(backend: Backend, prepare: Prepare, order: Order, clock: Clock) -> float:
    """Time the first call of this process, on other inputs: a stale result is then a wrong one."""
    decoys = [backend.to_device(array) for array in order.read(order.decoy)]
    call = prepare(backend.namespace, order.dims, *decoys)
    stopwatch = Stopwatch(backend, call, clock)
    seconds = stopwatch.sample(1)
    del stopwatch, call, decoys
    backend.free()
    release()
    return seconds


def _outputs(output: Any) -> Sequence[Any]:
    return output if isinstance(output, (tuple, list)) else (output,)


def _is_linear(stopwatch: Stopwatch, calls: int) -> bool:
    """Tell whether twice the calls take twice the time; if not, something is cached or fixed."""
    if calls == 1:
        return True
    pairs = [(stopwatch.sample(calls), stopwatch.sample(2 * calls)) for _ in range(3)]
    return 0.95 <= statistics.median(double / single for single, double in pairs) <= 1.05


def _single_calls(stopwatch: Stopwatch) -> list[float]:
    """Time calls one by one, each synchronised: what a caller waits for."""
    begin = stopwatch.clock()
    times = [stopwatch.single()]
    while len(times) < SINGLE_CALLS and stopwatch.clock() - begin < SINGLE_SECONDS:
        times.append(stopwatch.single())
    return times


def failure(backend: Backend | None, error: BaseException) -> CaseError:
    """Turn whatever a workload raised into the status that its case ends with."""
    if isinstance(error, CaseError):
        return error
    if isinstance(error, MemoryError) or (backend and backend.is_out_of_memory(error)):
        said = str(error).strip().split("\n")[0] or "memory ran out"
        # PyTorch's CPU allocator says first where in its source it has failed.
        return CaseError("out_of_memory", said.partition("err == 0. ")[2] or said)
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f" ({Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno})" if at else ""
    text = str(error).strip().split("\n")[0]
    return CaseError("failed", f"{type(error).__name__}: {text}{where}")
