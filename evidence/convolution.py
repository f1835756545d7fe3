"""Is NumPy a straw man? Its convolutions beside its own matrix products and beside PyTorch.

Measures the 23 layers of ResNet-50 at batch 8, all three phases, and matrix products of n = 1024,
2048 and 4096 on NumPy and PyTorch CPU as `bench run` does: each library alone in its process.
Prints each layer's rate and the geometric means. Targets: NumPy's forward at least 0.7 of its best
product and 0.8 of PyTorch's forward; its gradients at least 0.6 of PyTorch's.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import bench
from bench.results.schema import Measurement, Run

PHASES = {"forward": 0.8, "input_gradient": 0.6, "weight_gradient": 0.6}
OF_PRODUCT = 0.7
GLOBS = (
    "conv2d/resnet50*,batch=8/*/float32/numpy",
    "conv2d/resnet50*,batch=8/*/float32/torch-cpu",
    *(f"matmul/n={n}/*" for n in (1024, 2048, 4096)),
)


def measure(path: Path, blocks: int) -> None:
    """Make the run."""
    command = [sys.executable, "-m", "bench", "run", "--quiet", "--preset", "quick"]
    command += ["--suite", "matmul", "--suite", "convolution", "--blocks", str(blocks)]
    for glob in GLOBS:
        command += ["--only", glob]
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, "--output", str(path)], check=True, stdout=subprocess.DEVNULL)


def rates(run: Run) -> dict[tuple[str, str, str], Measurement]:
    """Return the measurements that have a rate by workload and size, phase, backend."""
    return {
        (f"{m.workload}/{m.size}", m.phase, m.place): m
        for m in run.measurements
        if m.status == "ok" and m.flops_per_second
    }


def rate(m: Measurement) -> float:
    """Return GFLOP/s."""
    return (m.flops_per_second or 0.0) / 1e9


def main() -> int:
    """Print the tables; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=Path("results/convolution.jsonl"))
    parser.add_argument("--blocks", type=int, default=6)
    given = parser.parse_args()
    if not given.file.exists():
        measure(given.file, given.blocks)
    found = rates(bench.load(given.file))
    products = {
        place: max(
            rate(m) for (work, _, at), m in found.items() if work[:6] == "matmul" and at == place
        )
        for place in ("numpy", "torch-cpu")
    }
    print("best product, GFLOP/s: " + ", ".join(f"{p} {r:.0f}" for p, r in products.items()))
    missed = False
    for phase, target in PHASES.items():
        print(f"\n{phase}, GFLOP/s")
        print(f"{'layer':26} {'numpy':>6} {'of product':>11} {'torch':>6} {'numpy/torch':>12}")
        of_product, of_torch = [], []
        for (work, at_phase, place), m in found.items():
            if at_phase != phase or place != "numpy" or not work.startswith("conv2d/"):
                continue
            own, other = rate(m), rate(found[work, phase, "torch-cpu"])
            of_product.append(own / products["numpy"])
            of_torch.append(own / other)
            layer = work.removeprefix("conv2d/")
            print(f"{layer:26} {own:6.0f} {of_product[-1]:11.2f} {other:6.0f} {of_torch[-1]:12.2f}")
        means = statistics.geometric_mean(of_product), statistics.geometric_mean(of_torch)
        print(f"{f'geometric mean of {len(of_torch)}':26} {means[0]:18.2f} {means[1]:19.2f}")
        wanted = [f"{target} of torch-cpu"]
        missed |= means[1] < target
        if phase == "forward":
            wanted.append(f"{OF_PRODUCT} of its best product")
            missed |= means[0] < OF_PRODUCT
        print("target: " + ", ".join(wanted))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
