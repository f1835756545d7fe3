"""Is NumPy a straw man? A training step of each network beside PyTorch on the same cores.

Measures a training step (SGD with momentum) of each network at batch 32, or the largest that is
sensible, as `bench run` does: each library alone in its process. Prints NumPy's time over
PyTorch's. Targets on two cores are in the table.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import bench
from bench.comparing.speedup import ratio
from bench.results.schema import Measurement
from bench.units import seconds, significant

TARGETS = {
    "mlp/mnist,batch=32": 1.5,
    "lenet5/mnist,batch=32": 2.5,
    "transformer/bert_mini,batch=32": 2.0,
    "lstm_classifier/imdb,batch=32": 2.5,
    "vgg16/cifar,batch=32": 2.0,
    "resnet50/tiny_imagenet,batch=32": 3.0,
}


def measure(path: Path, blocks: int) -> None:
    """Make the run."""
    command = [sys.executable, "-m", "bench", "run", "--quiet", "--preset", "quick"]
    command += ["--suite", "passes", "--blocks", str(blocks), "--output", str(path)]
    for size in TARGETS:
        for backend in ("numpy", "torch-cpu"):
            command += ["--only", f"{size}/training_step/float32/{backend}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=Path("results/networks.jsonl"))
    parser.add_argument("--blocks", type=int, default=6)
    given = parser.parse_args()
    if not given.file.exists():
        measure(given.file, given.blocks)
    found: dict[str, dict[str, Measurement]] = {}
    for m in bench.load(given.file).measurements:
        if m.phase == "training_step" and m.variant is None and m.status == "ok":
            found.setdefault(f"{m.workload}/{m.size}", {})[m.backend] = m
    print(f"{'training step':34} {'numpy':>9} {'torch-cpu':>9}  ratio")
    missed = False
    for size, target in TARGETS.items():
        numpy, torch = (found.get(size, {}).get(name) for name in ("numpy", "torch-cpu"))
        if numpy is None or torch is None or numpy.seconds is None or torch.seconds is None:
            print(f"{size:34} not measured")
            missed = True
            continue
        times = ratio(numpy.seconds, torch.seconds)
        reach = (
            "one block"
            if times.low is None or times.high is None
            else f"[{significant(times.low)}, {significant(times.high)}]"
        )
        missed |= times.median > target
        print(
            f"{size:34} {seconds(numpy.seconds.median):>9} {seconds(torch.seconds.median):>9}"
            f"  {significant(times.median)} {reach}, target {target}"
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
