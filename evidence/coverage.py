"""Repeats one quick run and counts how often its intervals hold what the others say.

For each run and case: does the printed 95% interval contain the median of the other runs'
medians? At least 90% should, and the typical interval should be narrow (median of high / low at
most 1.15). The runs are kept in a folder, so that an interrupted series goes on where it ended.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import bench

COVERED = 0.90
NARROW = 1.15


def measure(folder: Path, repeats: int, arguments: list[str]) -> list[Path]:
    """Make the runs that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"repeat-{index:02}.jsonl" for index in range(repeats)]
    for path in paths:
        if path.exists() and bench.load(path).end is not None:
            continue
        path.unlink(missing_ok=True)
        command = [sys.executable, "-m", "bench", "run", "--quiet", "--output", str(path)]
        subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)
        print(f"{path.name} done", file=sys.stderr, flush=True)
    return paths


def main() -> int:
    """Print coverage and width by backend and by case; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("results/coverage"))
    parser.add_argument("run_options", nargs="*", help="after --: options of bench run")
    given = parser.parse_args()
    options = given.run_options or ["--suite", "matmul", "--preset", "quick"]
    runs = [bench.load(path) for path in measure(given.folder, given.repeats, options)]
    by_case: dict[str, list[tuple[float, float, float]]] = {}
    for run in runs:
        for m in run.measurements:
            if m.seconds is not None and m.seconds.low is not None and m.seconds.high is not None:
                by_case.setdefault(m.id, []).append(
                    (m.seconds.median, m.seconds.low, m.seconds.high)
                )
    hits: list[bool] = []
    widths: list[float] = []
    print(f"{'case':58} {'covered':>8} {'high/low':>9} {'spread':>7}")
    for case, found in sorted(by_case.items()):
        own = []
        for index, (_, low, high) in enumerate(found):
            others = statistics.median(m for j, (m, _, _) in enumerate(found) if j != index)
            own.append(low <= others <= high)
        width = statistics.median(high / low for _, low, high in found)
        medians = [m for m, _, _ in found]
        print(f"{case:58} {sum(own):3} / {len(own):2} {width:9.3f}"
              f" {max(medians) / min(medians):7.3f}")  # fmt: skip
        hits += own
        widths += [high / low for _, low, high in found]
    covered, width = sum(hits) / len(hits), statistics.median(widths)
    print(f"covered: {covered:.1%} of {len(hits)} intervals (target {COVERED:.0%})")
    print(f"median high / low: {width:.3f} (target {NARROW})")
    return 0 if covered >= COVERED and width <= NARROW else 1


if __name__ == "__main__":
    sys.exit(main())
