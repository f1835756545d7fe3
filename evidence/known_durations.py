"""Spins for known durations and prints what the engine reports: within 1% (+1 us).

A spin on the clock lasts as long as it is told to, whatever else the machine does, as long as it
is not interrupted; the sampling is the one that `bench run` uses.
"""

import statistics
import sys
import time

from bench.backends.numpy import NumpyBackend
from bench.measuring.sampling import Budget, Stopwatch, choose_calls, take_samples, warm_up

TARGETS = (100e-6, 300e-6, 1e-3, 3e-3, 10e-3, 50e-3, 200e-3)  # seconds
ALLOWED = 0.01
ALLOWED_SECONDS = 1e-6


def spin(target: float) -> None:
    """Burn `target` seconds."""
    end = time.perf_counter() + target
    while time.perf_counter() < end:
        pass


def main() -> int:
    """Print a table; return 1 if a target is missed."""
    budget = Budget(warmup_seconds=0.2, sampling_seconds=1.0)
    print(f"{'target':>12} {'reported':>14} {'error':>9} {'samples':>8} {'calls':>6}")
    missed = 0
    for target in TARGETS:
        watch = Stopwatch(NumpyBackend(), lambda t=target: spin(t), time.perf_counter)  # type: ignore[misc]
        calls = choose_calls(warm_up(watch, budget).estimate)
        samples = take_samples(watch, calls, budget.sampling_seconds)
        reported = statistics.median(samples)
        missed += abs(reported - target) > ALLOWED * target + ALLOWED_SECONDS
        print(
            f"{target * 1e6:9.0f} us {reported * 1e6:11.2f} us {reported / target - 1:+9.3%}"
            f" {len(samples):8} {calls:6}"
        )
    print("all within 1% + 1 us" if not missed else f"{missed} of {len(TARGETS)} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
