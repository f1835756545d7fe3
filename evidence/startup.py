"""Compares `bench --help` with `python -c "import click"`, in turn: at most twice the time.

To be run with the Python of an environment in which the wheel is installed.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 21
ALLOWED = 2.0


def seconds(command: list[str], folder: str) -> float:
    """Time one process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    return time.perf_counter() - start


def main() -> int:
    """Print both medians and the median ratio; return 1 if it is above 2."""
    script = Path(sys.executable).with_name("bench" + (".exe" if os.name == "nt" else ""))
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "bench --help": [str(script), "--help"],
            "import click": [sys.executable, "-c", "import click"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for run in range(RUNS + 1):
            for name, command in commands.items():
                taken = seconds(command, folder)
                if run:  # the first fills the disk cache
                    times[name].append(taken)
    for name, taken_all in times.items():
        print(f"{name:14} {statistics.median(taken_all) * 1e3:7.1f} ms")
    ratio = statistics.median(
        a / b for a, b in zip(times["bench --help"], times["import click"], strict=True)
    )
    print(f"{'ratio':14} {ratio:7.2f}")
    return 1 if ratio > ALLOWED else 0


if __name__ == "__main__":
    sys.exit(main())
