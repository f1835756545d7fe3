"""How often `bench history check` cries wolf and how often it sleeps, on synthetic histories.

Each night a run of 16 cases with 6 blocks each: the machine as a whole is off by 1.4% that night,
each case by 1.4% more, so that runs lie 2% apart; blocks lie 1% apart. Beside it the comparison
that most people make: each case against the night before, red above the threshold. Same seed, same
table.
"""

import argparse
import math
import sys
from collections.abc import Callable

import numpy as np

from bench.comparing.creep import find_creep
from bench.comparing.history import History, read_history
from bench.comparing.verdicts import GateSettings
from bench.results.schema import SCHEMA, Block, Interval, Measurement, Run, RunLine

CASES, BLOCKS, NIGHTS = 16, 6, 20
MACHINE_SD, CASE_SD, BLOCK_SD = 0.014, 0.014, 0.01
SETTINGS = GateSettings()
MOST_ALARMS = 0.08
"""What a rate of 5% stays below with a probability of 99% in 300 histories."""

Effect = Callable[[int], float]
"""The share by which the first case is slower, so many nights after the release."""


def night(rng: np.random.Generator, number: int, label: str, effect: float) -> Run:
    """Return the run of a night; its first case is slower by `effect`."""
    machine = rng.normal(0, MACHINE_SD)
    measurements = []
    for case in range(CASES):
        own = machine + rng.normal(0, CASE_SD) + (math.log1p(effect) if case == 0 else 0.0)
        times = [1e-3 * math.exp(own + rng.normal(0, BLOCK_SD)) for _ in range(BLOCKS)]
        middle = float(np.median(times))
        measurements.append(
            Measurement(
                id=f"work/n={case}/call/float32/numpy",
                suite="synthetic",
                workload="work",
                workload_version=1,
                sizes={"n": case},
                phase="call",
                dtype="float32",
                backend="numpy",
                threads=1,
                device="cpu",
                status="ok",
                input_digest=str(case),
                seconds=Interval(median=middle, low=None, high=None, min=min(times)),
                blocks=[
                    Block(
                        seconds=[time],
                        calls_per_sample=1,
                        warmup_calls=1,
                        first_call_seconds=None,
                        order=0,
                    )
                    for time in times
                ],
            )
        )
    header = RunLine(
        schema=SCHEMA,
        id=str(number),
        label=label,
        started=f"2026-01-01T{number:06d}",
        bench_version="0",
        command=[],
        settings={},
        machine={},
    )
    return Run(header, measurements)


def history(rng: np.random.Generator, release: int, effect: Effect) -> History:
    """Return a history of `release` runs of version 1 and the nights after it."""
    runs = [night(rng, number, "1", 0.0) for number in range(release)]
    runs += [
        night(rng, release + number, "nightly", effect(number + 1)) for number in range(NIGHTS)
    ]
    return read_history(runs)


def outcome(found: History) -> tuple[bool, ...]:
    """Return whether the case was found slower, faster, left open; the same of any other case."""
    judgement = find_creep(found, "1", SETTINGS).judgement
    verdicts = {case.name.split("/")[1]: case.verdict for case in judgement.cases}
    own = verdicts.pop("n=0")
    others = set(verdicts.values())
    return (
        own == "REGRESSED",
        own == "IMPROVED",
        own == "INCONCLUSIVE",
        bool(others & {"REGRESSED", "IMPROVED"}),
        "INCONCLUSIVE" in others,
    )


def against_last_night(found: History) -> tuple[bool, bool]:
    """Return whether the case is red against the night before, and whether any other is."""
    (machine,) = found.machines
    before, last = (entry.stored for entry in machine.entries[-2:])
    red = [
        key[1].split("/")[1] == "n=0"
        for key in last.blocks
        if last.center(key) - before.center(key) > SETTINGS.most
    ]
    return any(red), not all(red)


def main() -> int:
    """Print the table; exit with 1 if unchanged code alarms too often."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    rows: list[tuple[str, int, Effect]] = [
        ("nothing changes", 5, lambda _night: 0.0),
        ("1% a night", 5, lambda night: 1.01**night - 1),
        ("0.5% a night", 5, lambda night: 1.005**night - 1),
        ("a step of +10%", 5, lambda _night: 0.10),
        ("a step of +5%", 5, lambda _night: 0.05),
        ("a step of -10%", 5, lambda _night: -0.10),
        ("nothing changes, 1 run of the release", 1, lambda _night: 0.0),
        ("1% a night, 1 run of the release", 1, lambda night: 1.01**night - 1),
    ]
    print("| after 20 nights | REGRESSED | IMPROVED | INCONCLUSIVE | others: any alarm | any"
          " INCONCLUSIVE | red against the last night | others: any red |")  # fmt: skip
    print("|---|" + "---:|" * 7)
    worst = 0.0
    for name, release, effect in rows:
        results = []
        for _ in range(options.histories):
            found = history(rng, release, effect)
            results.append((*outcome(found), *against_last_night(found)))
        shares = np.mean(np.array(results), axis=0)
        worst = max(worst, float(shares[3]))
        print(f"| {name} | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)
    return int(worst > MOST_ALARMS)


if __name__ == "__main__":
    sys.exit(main())
