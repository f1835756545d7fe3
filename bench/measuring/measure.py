"""One case in one block, from its inputs to its samples, in the order in which it happens."""

import gc
import mmap
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.backends.base import Backend, DeviceState
from bench.errors import CaseError
from bench.measuring.exchange import HostArray, read_arrays
from bench.measuring.interference import Counters, disturbances
from bench.measuring.memory import PeakMemory, release
from bench.measuring.sampling import (
    HUGE_CALL_SECONDS,
    Budget,
    Clock,
    Stopwatch,
    choose_calls,
    take_samples,
    warm_up,
)
from bench.measuring.verification import Reference, relative_error, require_right
from bench.workload import Call, Dims, Prepare

SINGLE_CALLS: Final = 20
SINGLE_SECONDS: Final = 0.1
TRANSFERS: Final = 5
LAUNCH_BOUND_SHARE: Final = 0.8


@dataclass(frozen=True)
class Order:
    """What the parent asks for: a case, where its inputs lie, and how long it may take."""

    dims: Dims
    dtype: str
    inputs: str
    decoy: str
    reference: Reference
    budget: Budget
    cores: int
    error_factor: float = 1.0
    calls_per_sample: int | None = None

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Order":
        """Build it from the JSON of a message."""
        rest = {k: v for k, v in fields.items() if k not in ("reference", "budget")}
        return cls(
            reference=Reference(**fields["reference"]), budget=Budget(**fields["budget"]), **rest
        )


def measure(
    backend: Backend, prepare: Prepare, order: Order, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Verify, warm up, sample and verify again; return the fields of a block.

    Raises:
        CaseError: The output is wrong, or work went on after the synchronisation.
    """
    backend.use(order.dtype)
    first = _first_call(backend, prepare, order, clock)
    host_inputs = read_arrays(Path(order.inputs))
    for array in host_inputs:
        # Mapped pages count as the process's memory: touched now, they are no part of the peak.
        bytes(memoryview(array.data)[:: mmap.PAGESIZE])
    least = sum(memoryview(array.data).nbytes for array in host_inputs)
    since = backend.state(), Counters.read()
    with PeakMemory(backend, least) as peak:
        inputs = [backend.to_device(array) for array in host_inputs]
        stopwatch = Stopwatch(backend, prepare(backend.namespace, order.dims, *inputs), clock)
        once = stopwatch.sample(1)
    error = _verify(backend, stopwatch, order)
    gc.collect()
    gc.disable()
    try:
        block = _sample(backend, stopwatch, order, once, since)
    finally:
        gc.enable()
    if stopwatch.calls > 1:
        error = _verify(backend, stopwatch, order)
    block.update(first_call_seconds=first, relative_error=error, peak_bytes=peak.bytes)
    if peak.bytes is None:
        block["unknown"] = {"peak_bytes": peak.unknown}
    if block["calls_per_sample"] == 1:
        block["host_seconds"] = list(block["seconds"])
    else:
        block["host_seconds"] = _single_calls(stopwatch)
    if backend.asynchronous:
        _time_device(backend, prepare, host_inputs, stopwatch, order, block)
    block["worked_seconds"] = stopwatch.worked + first
    return block


def _first_call(backend: Backend, prepare: Prepare, order: Order, clock: Clock) -> float:
    """Time the first call of this process, on other inputs: a stale result is then a wrong one."""
    decoys = [backend.to_device(array) for array in read_arrays(Path(order.decoy))]
    call = prepare(backend.namespace, order.dims, *decoys)
    stopwatch = Stopwatch(backend, call, clock)
    seconds = stopwatch.sample(1)
    del stopwatch, call, decoys
    backend.free()
    release()
    return seconds


def _verify(backend: Backend, stopwatch: Stopwatch, order: Order) -> float:
    error = relative_error(backend, stopwatch.output, order.reference)
    require_right(error, order.dtype, order.error_factor)
    return error


def _sample(
    backend: Backend,
    stopwatch: Stopwatch,
    order: Order,
    once: float,
    since: tuple[DeviceState, Counters],
) -> dict[str, Any]:
    """Warm up and sample; `once` is the call just verified, `since` what was read before it."""
    before_calls = stopwatch.calls
    notes = []
    if once >= HUGE_CALL_SECONDS and order.calls_per_sample in (None, 1):
        # The first call of the process was the warm-up, and the verified one is a sample. The
        # first one alone does not tell: it may have taken so long to load or to compile.
        (state_before, before), calls, warmup_calls = since, 1, 1
        samples, precise = [once], True
        while sum(samples) + once <= order.budget.sampling_seconds:
            samples.append(stopwatch.sample(1))
    else:
        warmed = warm_up(stopwatch, order.budget)
        stopwatch.require_drained()
        calls = order.calls_per_sample or choose_calls(warmed.estimate)
        warmup_calls = stopwatch.calls - before_calls
        if order.calls_per_sample is None and not _is_linear(stopwatch, calls):
            notes.append("nonlinear")
        if not warmed.steady:
            notes.append("no_steady_state")
        state_before, before = backend.state(), Counters.read()
        samples, precise = take_samples(stopwatch, calls, order.budget)
        if stopwatch.output is not None and len(samples) > 1:
            # The last sample must write its output anew: it is what is verified in the end.
            for output in _outputs(stopwatch.output):
                backend.poison(output)
            samples.append(stopwatch.sample(calls))
    after, state_after = Counters.read(), backend.state()
    stopwatch.require_drained()
    if not precise:
        notes.append("imprecise")
    throttled = sorted({*state_before.throttled, *state_after.throttled})
    return {
        "seconds": samples,
        "calls_per_sample": calls,
        "warmup_calls": warmup_calls,
        "notes": notes + sorted({*state_before.labels, *state_after.labels}),
        "disturbances": [f"throttled: {reason}" for reason in throttled]
        + disturbances(before, after, order.cores),
    }


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
    times = [stopwatch.sample(1)]
    while len(times) < SINGLE_CALLS and stopwatch.clock() - begin < SINGLE_SECONDS:
        times.append(stopwatch.sample(1))
    return times


def _time_device(
    backend: Backend,
    prepare: Prepare,
    host_inputs: Sequence[HostArray],
    stopwatch: Stopwatch,
    order: Order,
    block: dict[str, Any],
) -> None:
    """Add what only an asynchronous device has: its own clock, launches and transfers."""
    call: Call = stopwatch.call
    launches, intervals = [], []
    for _ in range(SINGLE_CALLS if block["host_seconds"][0] < SINGLE_SECONDS else 1):
        start, begin = backend.record(), stopwatch.clock()
        call()
        launches.append(stopwatch.clock() - begin)
        stop = backend.record()
        backend.synchronize()
        intervals.append(backend.elapsed(start, stop))
    block["device_seconds"] = intervals
    # Not by the events: around a single call they include its launch.
    if statistics.median(launches) >= LAUNCH_BOUND_SHARE * statistics.median(block["seconds"]):
        block["notes"].append("launch_bound")
    round_trips = []
    for _ in range(TRANSFERS if block["host_seconds"][0] < HUGE_CALL_SECONDS else 1):
        begin = stopwatch.clock()
        moved = [backend.to_device(array) for array in host_inputs]
        output = prepare(backend.namespace, order.dims, *moved)()
        for array in _outputs(output):
            backend.fetch(array)
        round_trips.append(stopwatch.clock() - begin)
    block["end_to_end_seconds"] = round_trips


def failure(backend: Backend | None, error: BaseException) -> CaseError:
    """Turn whatever a workload raised into the status that its case ends with."""
    if isinstance(error, CaseError):
        return error
    if isinstance(error, MemoryError) or (backend and backend.is_out_of_memory(error)):
        return CaseError("out_of_memory", str(error).strip().split("\n")[0] or "memory ran out")
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f" ({Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno})" if at else ""
    text = str(error).strip().split("\n")[0]
    return CaseError("failed", f"{type(error).__name__}: {text}{where}")
