"""Is CuPy a straw man? Its rates beside PyTorch's on the same GPU, from run files.

Prints each case that both measured, in float32 and float16 and whatever else the files hold, with
the geometric mean by workload, phase and dtype, and the best rate of a bfloat16 product. Targets:
CuPy's products at least 0.95 of PyTorch's in float32 and float16; its convolutions, which have no
cuDNN behind them, have a stated ratio.
"""

import argparse
import statistics
import sys

import bench

TARGET = 0.95
TARGETED = ("float32", "float16")


def main() -> int:
    """Print the ratios; return 1 if a target is missed, 2 if there is nothing to compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    rates: dict[tuple[str, str, str], dict[str, dict[str, float]]] = {}
    best = 0.0
    for file in parser.parse_args().files:
        for m in bench.load(file).measurements:
            if m.status != "ok" or m.seconds is None or m.variant is not None:
                continue
            group = rates.setdefault((m.workload, m.phase, m.dtype), {})
            group.setdefault(m.size, {})[m.backend] = 1 / m.seconds.median
            if m.dtype == "bfloat16" and m.backend == "torch-cuda":
                best = max(best, m.flops_per_second or 0.0)
    compared, missed = 0, 0
    for (workload, phase, dtype), sizes in rates.items():
        ratios = {
            size: found["cupy"] / found["torch-cuda"]
            for size, found in sizes.items()
            if {"cupy", "torch-cuda"} <= set(found)
        }
        if not ratios:
            continue
        compared += 1
        mean = statistics.geometric_mean(ratios.values())
        missed += workload == "matmul" and dtype in TARGETED and mean < TARGET
        print(f"{workload} {phase}, {dtype}: CuPy / PyTorch CUDA")
        for size, ratio in ratios.items():
            print(f"  {size:40} {ratio:6.2f}")
        print(f"  {'geometric mean':40} {mean:6.2f}")
    if best:
        print(f"best bfloat16 rate of PyTorch CUDA: {best / 1e12:.0f} TFLOP/s")
    if not compared:
        print("no case was measured on both CuPy and PyTorch CUDA")
        return 2
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
