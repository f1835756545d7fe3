"""Runs a project's own pytest in an environment, with a plugin that notes what happens."""

import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.catalog import PACKAGE
from bench.comparing.quiet import best_canary
from bench.running.environments import Environment
from bench.running.sides import Side
from bench.running.worker_process import PADDING_BYTES, describe_exit

COLLECT_SECONDS: Final = 300.0
ROUND_SECONDS: Final = 0.001
LEAST_ROUNDS: Final = 5
LIMIT_FACTOR: Final = 20
LIMIT_SECONDS: Final = 300.0
PATIENCE_SECONDS: Final = 2.0
"""A process waits for quiet moments at most so long: another process takes longer to start."""
# As the command `pytest` does: without the folder where the user stands in the path, where the
# sources of one of the two versions may lie.
_START: Final = (
    "import sys; sys.path = [p for p in sys.path if p]; import pytest; sys.exit(pytest.main())"
)


@dataclass(frozen=True)
class Ran:
    """What one process of pytest left."""

    found: Mapping[str, Any]
    """What the observer wrote; empty if it could not."""
    times: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """pytest-benchmark's `stats` by test."""
    end: str = ""
    """How the process ended, if that was no ordinary end of a test run."""


class Runner:
    """Runs pytest in an environment, with bench's observer."""

    def __init__(self, environments: Mapping[Side, Environment], rng: random.Random) -> None:
        self.environments = environments
        self.rng = rng
        self.scratch = Path(tempfile.mkdtemp(prefix="bench-duet-"))
        self.root = Path.cwd()
        """The folder from which pytest names the tests."""
        self.canary: dict[Side, float] = {}
        """Seconds that a side's canary takes at the machine's best, as far as it was seen."""

    def collect(self, side: Side, path: str) -> Ran:
        """Learn which tests there are."""
        ran = self._run(side, [path, "--collect-only"], COLLECT_SECONDS)
        self.root = Path(ran.found.get("root") or self.root)
        return ran

    def run(self, side: Side, tests: Sequence[str], seconds: float) -> Ran:
        """Time tests, each for about `seconds`."""
        times = self.scratch / "times.json"
        times.unlink(missing_ok=True)
        options = [
            "--benchmark-enable",
            f"--benchmark-json={times}",
            f"--benchmark-max-time={seconds:.3f}",
            f"--benchmark-min-time={ROUND_SECONDS}",
            f"--benchmark-min-rounds={LEAST_ROUNDS}",
            "-p",
            "no:cacheprovider",
        ]
        limit = LIMIT_SECONDS + LIMIT_FACTOR * seconds * len(tests)
        ran = self._run(side, [*tests, *options], limit, PATIENCE_SECONDS)
        for test in ran.found.get("tests", {}).values():
            if test.get("canary"):
                best = best_canary(test["canary"])
                self.canary[side] = min(best, self.canary.get(side, best))
        return Ran(ran.found, _times(times), ran.end)

    def close(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _run(
        self, side: Side, arguments: Sequence[str], limit: float, patience: float = 0.0
    ) -> Ran:
        report = self.scratch / "report.json"
        report.unlink(missing_ok=True)
        python = self.environments[side].python
        carried = str(PACKAGE / "carried")
        paths = [carried, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONHASHSEED": str(self.rng.randrange(2**32)),
            "BENCH_PADDING": "x" * self.rng.randrange(PADDING_BYTES),
            "BENCH_DUET_REPORT": str(report),
            "BENCH_DUET_COUNTERS": str(PACKAGE / "measuring" / "interference.py"),
            "BENCH_DUET_CANARY": str(self.canary.get(side, "")),
            "BENCH_DUET_PATIENCE": str(patience),
        }
        command = [python, "-c", _START, "-p", "bench_duet_observer", "-q", *arguments]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                check=False,
                env=environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return Ran({}, end=f"pytest did not end within {limit:.0f} s")
        except OSError as error:
            return Ran({}, end=f"{python} does not start: {error.strerror}")
        try:
            found = json.loads(report.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or [""]
        is_usual = found and done.returncode in (0, 1, 2, 5)
        return Ran(found, end="" if is_usual else describe_exit(done.returncode, said[-1]))


def _times(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {entry["fullname"]: entry["stats"] for entry in document["benchmarks"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
