"""Why each library is measured alone: NumPy and PyTorch in one process slow each other down.

Times one convolution (ResNet-50's 64 x 64 3x3 layer at 56 x 56, batch 8) on both libraries, twice:
each in a process of its own, and in turn in one process, as a script that compares them would.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from bench import catalog
from bench.cores import allowed_cores
from bench.running.worker_process import ALLOCATOR

DIMS = {
    "batch": 8,
    "in_channels": 64,
    "height": 56,
    "out_channels": 64,
    "kernel": 3,
    "padding": 1,
}
SECONDS = 1.0


def rates(libraries: list[str]) -> dict[str, float]:
    """Return the median GFLOP/s of each library, their calls taken in turn in this process."""
    workload = catalog.workloads()["conv2d"]
    phase = workload.phases["forward"]
    assert phase.array is not None
    assert phase.torch is not None
    assert phase.flops is not None
    calls: dict[str, Any] = {}
    for library in libraries:
        if library == "torch":
            import torch

            torch.set_num_threads(allowed_cores())
            x, w = torch.randn(8, 64, 56, 56), torch.randn(64, 64, 3, 3)
            calls[library] = phase.torch(torch, DIMS, x, w)
        else:
            import numpy

            drawn = workload.inputs(numpy.random.default_rng(0), DIMS)
            calls[library] = phase.array(numpy, DIMS, *drawn)
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {library: [] for library in libraries}
    begin = time.perf_counter()
    while time.perf_counter() - begin < SECONDS * len(libraries):
        for library, call in calls.items():
            start = time.perf_counter()
            call()
            times[library].append(time.perf_counter() - start)
    flops = phase.flops(DIMS)
    return {name: flops / statistics.median(found) / 1e9 for name, found in times.items()}


def in_fresh_process(*libraries: str) -> dict[str, float]:
    """Return `rates` of a process that does nothing else."""
    done = subprocess.run(
        [sys.executable, __file__, "--here", *libraries],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **ALLOCATOR},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> int:
    """Print the medians over rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--here", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(rates(given.here)))
        return 0
    seen: dict[tuple[str, str], list[float]] = {}
    for _ in range(given.rounds):
        for libraries in (("numpy",), ("torch",), ("numpy", "torch")):
            how = "in one process" if len(libraries) > 1 else "alone"
            for library, rate in in_fresh_process(*libraries).items():
                seen.setdefault((how, library), []).append(rate)
    medians = {key: statistics.median(found) for key, found in seen.items()}
    print(f"GFLOP/s, median of {given.rounds} rounds, {allowed_cores()} threads")
    print(f"{'':16} {'numpy':>7} {'torch':>7} {'numpy/torch':>12}")
    for how in ("alone", "in one process"):
        numpy_rate, torch_rate = medians[how, "numpy"], medians[how, "torch"]
        print(f"{how:16} {numpy_rate:7.0f} {torch_rate:7.0f} {numpy_rate / torch_rate:12.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
