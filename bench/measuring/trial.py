"""One call at one batch: does it fit, and how long does it take?"""

import time
from typing import Any

from bench.backends.base import Backend
from bench.measuring.memory import PeakMemory, release
from bench.measuring.sampling import Clock, Stopwatch
from bench.measuring.work import Work
from bench.workload import Prepare


def try_once(
    backend: Backend,
    prepare: Prepare,
    work: Work,
    patience: float,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """Call once, and again if that took more than `patience` seconds: it may have been loading.

    Raises:
        CaseError: It computes another batch than it should.
        Exception: Whatever the backend says when memory runs out.
    """
    backend.use(work.dtype)
    backend.free()
    release()
    hosts = work.read(work.inputs)
    least = sum(memoryview(array.data).nbytes for array in hosts)
    with PeakMemory(backend, least) as peak:
        inputs = [backend.to_device(array) for array in hosts]
        call = prepare(backend.namespace, work.dims, *inputs)
        watch = Stopwatch(backend, call, clock)
        seconds = watch.sample(1)
        if seconds > patience:
            seconds = min(seconds, watch.sample(1))
    work.require_batch(call, watch.output)
    return {"seconds": seconds, "peak_bytes": peak.bytes}
