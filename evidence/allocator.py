"""Why workers keep freed memory: PyTorch's convolutions with glibc's allocator as it is, and so.

A convolution in PyTorch makes a new output in each call. glibc gives large arrays back to the
kernel when they are freed, so that each call has to get its pages anew. A worker of `bench` sets
the variables in `ALLOCATOR`; users who want the same speed can do so, too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from bench.cores import allowed_cores
from bench.running.worker_process import ALLOCATOR

# in_channels, out_channels, height, kernel; batch 8
LAYERS = ((64, 64, 56, 3), (64, 256, 56, 1), (64, 64, 224, 3))
SECONDS = 0.6


def rates() -> list[float]:
    """Return the GFLOP/s of each layer in this process."""
    import torch

    torch.set_num_threads(allowed_cores())
    found = []
    for channels, filters, height, kernel in LAYERS:
        x = torch.randn(8, channels, height, height)
        w = torch.randn(filters, channels, kernel, kernel)
        torch.nn.functional.conv2d(x, w, padding=kernel // 2)
        times: list[float] = []
        begin = time.perf_counter()
        while time.perf_counter() - begin < SECONDS:
            start = time.perf_counter()
            torch.nn.functional.conv2d(x, w, padding=kernel // 2)
            times.append(time.perf_counter() - start)
        flops = 2 * 8 * filters * height**2 * channels * kernel**2
        found.append(flops / statistics.median(times) / 1e9)
    return found


def main() -> int:
    """Print the medians over rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(rates()))
        return 0
    seen: dict[str, list[list[float]]] = {"as it is": [], "keeps memory": []}
    for _ in range(given.rounds):
        for how, variables in (("as it is", {}), ("keeps memory", ALLOCATOR)):
            environment = {k: v for k, v in os.environ.items() if k not in ALLOCATOR}
            done = subprocess.run(
                [sys.executable, __file__, "--here"],
                check=True,
                capture_output=True,
                text=True,
                env={**environment, **variables},
            )
            seen[how].append(json.loads(done.stdout))
    print(f"PyTorch's conv2d, batch 8, {allowed_cores()} threads, GFLOP/s, {given.rounds} rounds")
    print(f"{'layer':28} {'as it is':>9} {'keeps memory':>13} {'ratio':>6}")
    columns = [[statistics.median(rates) for rates in zip(*seen[how], strict=True)] for how in seen]
    for (channels, filters, height, kernel), plain, kept in zip(LAYERS, *columns, strict=True):
        name = f"{channels} to {filters}, {kernel}x{kernel}, {height} x {height}"
        print(f"{name:28} {plain:9.0f} {kept:13.0f} {kept / plain:6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
