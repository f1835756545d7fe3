"""Compares the engine with torch.utils.benchmark on the same calls, in turn, in one process.

Both time PyTorch's matrix product at the same number of threads; their medians, over rounds taken
in random order, agree within 3% for products above 100 us.
"""

import argparse
import random
import statistics
import sys
import time

from bench.backends.torch import TorchCpu
from bench.cores import allowed_cores
from bench.measuring.sampling import Budget, Stopwatch, choose_calls, take_samples, warm_up

SIZES = (256, 384, 512, 768, 1024, 1536)
ALLOWED = 0.03
SECONDS = 0.4  # of each tool in each round


def main() -> int:
    """Print a table; return 1 if a size disagrees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    threads = allowed_cores()
    backend = TorchCpu()
    backend.open(threads, None)
    from torch.utils.benchmark import Timer

    rng = random.Random(0)
    budget = Budget(warmup_seconds=0.1, warmup_cap_seconds=0.2)
    print(f"{threads} threads, {rounds} rounds")
    print(f"{'n':>6} {'bench':>12} {'torch.utils.benchmark':>22} {'ratio':>8}")
    missed = 0
    for n in SIZES:
        call = backend.gemm(n, "float32")
        watch = Stopwatch(backend, call, time.perf_counter)
        calls = choose_calls(warm_up(watch, Budget()).estimate)
        timer = Timer("call()", globals={"call": call}, num_threads=threads)
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(rounds):
            for tool in rng.sample(("ours", "theirs"), 2):
                if tool == "ours":
                    warm_up(watch, budget)
                    ours.append(statistics.median(take_samples(watch, calls, SECONDS)))
                else:
                    theirs.append(timer.blocked_autorange(min_run_time=SECONDS).median)
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        missed += abs(ratio - 1) > ALLOWED
        print(
            f"{n:6} {statistics.median(ours) * 1e6:9.1f} us"
            f" {statistics.median(theirs) * 1e6:19.1f} us {ratio:8.3f}",
            flush=True,
        )
    print("all within 3%" if not missed else f"{missed} of {len(SIZES)} beyond 3%")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
