"""Synthetic histories: the runs of one machine night after night, for the tests of `history`."""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.results.intervals import intervals
from bench.results.schema import Block, Interval, Run
from bench.results.store import file_name
from bench.results.writing import encode
from tests.runs import MACHINE, measurement, run

SIZES = (64, 128, 256, 512, 1024, 2048)
BLOCKS = 6

Drift = Callable[[int, int], float]
"""The logarithm that is added to the time of a size in a night."""


def revision(night: int) -> str:
    """Return the revision that is measured in a night."""
    return f"{night:04x}" * 10


def nightly(
    night: int,
    *,
    slower: Drift = lambda _n, _night: 0.0,
    rng: random.Random | None = None,
    between: float = 0.01,
    within: float = 0.005,
    sizes: Sequence[int] = SIZES,
    blocks: int = BLOCKS,
    code: str | None = None,
    machine: dict[str, Any] | None = None,
    label: str = "nightly",
    **fields: Any,
) -> Run:
    """Return the run of a night: nights lie `between` apart, their blocks `within`."""
    rng = rng or random.Random(night)
    samples = {}
    for n in sizes:
        middle = math.log(1e-9 * n**2) + slower(n, night) + rng.gauss(0, between)
        own = [math.exp(middle + rng.gauss(0, within)) for _ in range(blocks)]
        samples[n] = [[seconds] * 4 for seconds in own]
    known = intervals(samples)
    cases = []
    for n, own_blocks in samples.items():
        center = known[n]
        case = measurement(
            sizes={"n": n},
            seconds=center.median,
            **{"input_digest": f"digest of {n}", **fields},
        )
        case.seconds = Interval(
            median=center.median, low=center.low, high=center.high, min=0.5 * center.median
        )
        case.blocks = [
            Block(
                seconds=own,
                calls_per_sample=8,
                warmup_calls=5,
                first_call_seconds=0.01,
                order=0,
            )
            for own in own_blocks
        ]
        cases.append(case)
    git = {"revision": code or revision(night), "dirty": False}
    found = run(*cases, label=label, machine={**MACHINE, "git": git, **(machine or {})})
    found.header.id = f"{night:08x}-{label}"
    found.header.started = f"2026-{1 + night // 28:02d}-{1 + night % 28:02d}T02:00:00Z"
    return found


def nights(count: int, seed: int = 0, *, release: int = 5, **fields: Any) -> list[Run]:
    """Return `release` runs of version 1.0 and the nights after them."""
    rng = random.Random(seed)
    found = []
    for night in range(count):
        own = {"code": "feed" * 10, "label": "v1.0"} if night < release else {}
        found.append(nightly(night, rng=rng, **{**own, **fields}))
    return found


def content(found: Run) -> bytes:
    """Return a run as its file has it."""
    lines = [found.header, *found.measurements, *([found.end] if found.end else [])]
    return b"".join(encode(line) for line in lines)


def fill(store: Path, runs: Sequence[Run]) -> Path:
    """Write runs into a store as `bench history add` does."""
    store.mkdir(parents=True, exist_ok=True)
    for found in runs:
        (store / file_name(found.header)).write_bytes(content(found))
    return store
