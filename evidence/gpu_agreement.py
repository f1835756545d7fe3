"""Compares the engine on a GPU with triton.testing.do_bench and cupyx.profiler.benchmark.

The same products, in turn, in one process per library: `do_bench` empties the L2 cache before each
call, as our cold mode does; `cupyx.profiler.benchmark` does not, as our `device_seconds` does not.
Medians agree within 2% for kernels above 50 us.
"""

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from bench.backends import backends
from bench.backends.base import Backend
from bench.errors import BackendAbsent
from bench.measuring.measure import FLUSHED_BYTES
from bench.measuring.sampling import HOLD_SECONDS, ColdStopwatch
from bench.workload import Call

PRODUCTS = ((2048, "float32"), (4096, "float32"), (4096, "float16"), (8192, "float16"))
TOOLS = {"torch-cuda": "triton.testing.do_bench", "cupy": "cupyx.profiler.benchmark"}
ALLOWED = 0.02
LEAST_SECONDS = 50e-6
REPEATS = 50

Median = Callable[[], float]


def cold(backend: Backend, call: Call) -> Median:
    """Return a function that gives the median of cold calls by the device's clock."""
    flush = backend.copy(FLUSHED_BYTES // 2)
    watch = ColdStopwatch(backend, call, time.perf_counter, flush=flush)
    return lambda: statistics.median(watch.sample(1) for _ in range(REPEATS))


def hot(backend: Backend, call: Call) -> Median:
    """Return a function that gives the median of hot calls by the device's clock."""

    def one() -> float:
        backend.hold(2 * HOLD_SECONDS)
        start = backend.record()
        call()
        stop = backend.record()
        backend.synchronize()
        return backend.elapsed(start, stop)

    return lambda: statistics.median(one() for _ in range(REPEATS))


def do_bench(call: Call) -> Median:
    """Return a function that asks Triton."""
    from triton.testing import do_bench

    return lambda: float(do_bench(call, return_mode="median")) / 1000


def cupyx_benchmark(call: Call) -> Median:
    """Return a function that asks CuPy."""
    from cupyx.profiler import benchmark

    return lambda: statistics.median(
        benchmark(call, n_repeat=REPEATS, n_warmup=5).gpu_times[0].tolist()
    )


def compare(name: str, rounds: int) -> int:
    """Print the table of one library; return how many products disagree."""
    backend = backends()[name]()
    backend.open(1)
    rng, missed = random.Random(0), 0
    print(f"{name} against {TOOLS[name]}, {rounds} rounds")
    print(f"{'n':>6} {'dtype':>8} {'bench':>12} {'other':>12} {'ratio':>8}")
    for n, dtype in PRODUCTS:
        backend.use(dtype)
        call = backend.gemm(n, dtype)
        call()
        ours = cold(backend, call) if name == "torch-cuda" else hot(backend, call)
        theirs = do_bench(call) if name == "torch-cuda" else cupyx_benchmark(call)
        medians: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(rounds):
            for tool in rng.sample(("ours", "theirs"), 2):
                medians[tool].append(ours() if tool == "ours" else theirs())
        ratio = statistics.median(
            a / b for a, b in zip(medians["ours"], medians["theirs"], strict=True)
        )
        one, other = (statistics.median(medians[tool]) for tool in ("ours", "theirs"))
        missed += one >= LEAST_SECONDS and abs(ratio - 1) > ALLOWED
        print(
            f"{n:6} {dtype:>8} {one * 1e6:9.1f} us {other * 1e6:9.1f} us {ratio:8.3f}", flush=True
        )
    return missed


def main() -> int:
    """Compare each library in a process of its own; return 1 if a product disagrees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--library", choices=TOOLS)
    given = parser.parse_args()
    if given.library:
        try:
            return 1 if compare(given.library, given.rounds) else 0
        except BackendAbsent as absent:
            print(f"{given.library}: not compared: {absent}")
            return 0
    command = [sys.executable, __file__, "--rounds", str(given.rounds), "--library"]
    codes = [subprocess.run([*command, name], check=False).returncode for name in TOOLS]
    print("all within 2%" if not any(codes) else "some beyond 2%")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
