"""What `bench check` says of stored runs whose truth is known, by the number of baselines.

A run has 16 cases of 6 blocks. Blocks of a case differ by 2% between processes; besides, each run
is off by 2.66% in all of its cases, and each case by 1% of its own, as on hosted runners. The first
case of the new run is changed. Same seed, same table.
"""

import argparse
import sys
from collections import Counter

import numpy as np

from bench.comparing.machines import Machine, Result
from bench.comparing.stored import Stored, pair_cases
from bench.comparing.stored_gate import judge_stored
from bench.comparing.verdicts import GateSettings, Judgement
from bench.results.schema import Interval

RUN_SD, CASE_SD, PROCESS_SD = 0.0266, 0.01, 0.02
CASES, BLOCKS = 16, 6
KEYS = [("synthetic", f"case={number}") for number in range(CASES)]
RESULT = Result(
    *("numpy", "numpy", "cpu", 2),
    seconds=Interval(median=1e-3, low=None, high=None, min=1e-3),
    workload="synthetic",
    network="synthetic",
    phase="call",
    batch=None,
    version=1,
    digest="the same",
    flags={},
    energy_joules=None,
    p99=None,
)
MACHINE = Machine("box", "box", "run", "now", {}, {}, {}, {}, [], 0)
MOST_JOBS_WITH_ALARM = 0.08


def draw_run(rng: np.random.Generator, change: float = 0.0) -> Stored:
    """Return a run whose first case takes longer by `change`."""
    logs = np.log(1e-3) + rng.normal(0, RUN_SD) + rng.normal(0, CASE_SD, (CASES, 1))
    logs = logs + rng.normal(0, PROCESS_SD, (CASES, BLOCKS))
    logs[0] += np.log1p(change)
    blocks = {key: [float(log) for log in own] for key, own in zip(KEYS, logs, strict=True)}
    return Stored(MACHINE, blocks, dict.fromkeys(KEYS, RESULT), {}, frozenset(), {})


def check(rng: np.random.Generator, baselines: int, change: float) -> Judgement:
    """Judge a new run by so many baselines."""
    settings = GateSettings()
    bases = [draw_run(rng) for _ in range(baselines)]
    return judge_stored(pair_cases(draw_run(rng, change), bases, settings.drift), settings)


def main() -> int:
    """Print the table; return 1 if unchanged cases alarm too often."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=200)
    options = parser.parse_args()
    missed = 0
    print(f"{options.jobs} jobs; the verdict of the changed case in % of them,")
    print("and the jobs that called one of the 15 unchanged cases changed")
    heads = ("REGR.", "INCON.", "IMPR.", "SAME", "sees", "false alarms", "exit 3")
    print("baselines  change " + " ".join(f"{head:>6}" for head in heads))
    for baselines in (1, 3, 5, 10, 20):
        for change in (0.0, 0.05, 0.10, 0.20, 0.40):
            rng = np.random.default_rng([options.seed, baselines, round(100 * change)])
            jobs = [check(rng, baselines, change) for _ in range(options.jobs)]
            firsts = [next(c for c in job.cases if c.key == KEYS[0]) for job in jobs]
            counts = Counter(case.verdict for case in firsts)
            alarms = sum(
                any(c.verdict in ("REGRESSED", "IMPROVED") and c.key != KEYS[0] for c in job.cases)
                for job in jobs
            )
            missed += alarms > MOST_JOBS_WITH_ALARM * options.jobs
            sees = np.median([case.sees if case.sees is not None else np.inf for case in firsts])
            shares = [
                f"{100 * counts[verdict] / options.jobs:6.1f}"
                for verdict in ("REGRESSED", "INCONCLUSIVE", "IMPROVED", "SAME")
            ]
            inconclusive = sum(job.exit_code == 3 for job in jobs)
            print(
                f"{baselines:9} {change:+7.0%} {' '.join(shares)} {sees:6.0%} {alarms:12}"
                f" {inconclusive:6}",
                flush=True,
            )
    print("all targets met" if not missed else f"{missed} rows with too many false alarms")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
