"""A duet: two environments measured in interleaved pairs, in two stages, within the minutes given.

The first stage measures every case and finds those worth a second look; the second stage measures
these anew. Where nothing looks changed the job ends after the first.
"""

import math
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from msgspec import structs

import bench
from bench.comparing.gate import FEWEST_PAIRS, FRESH, flagged
from bench.comparing.pairs import (
    BASE_LACKS,
    CONTROL,
    HEAD_LACKS,
    MOST_PAIRS,
    is_control,
    pairs_of,
    planned_pairs,
)
from bench.comparing.verdicts import GateSettings
from bench.machine import PACKAGES, capture
from bench.results.schema import (
    SCHEMA,
    BlockLine,
    CaseLine,
    EndLine,
    OutcomeLine,
    Run,
    RunLine,
    WorkerLine,
)
from bench.results.summary import summarise
from bench.results.writing import RunWriter
from bench.running.environments import Environment
from bench.running.execute import Progress
from bench.running.session import utc_now
from bench.running.sides import SIDES, Note, Pairing, PairWorking, Side, SideLine

USUAL_MINUTES: Final = 3.0
USUAL_CASES: Final = 16
"""What the usual minutes are enough for; more cases get more by default."""
CONTROLS: Final = 2
FIRST_SHARE: Final = 0.55
"""Of the minutes, after which the first stage ends: suspects without fresh pairs stay open."""


@dataclass(frozen=True)
class PairStarted:
    """Pair number `number` of `total` of a stage begins, with so many cases."""

    stage: int
    number: int
    total: int
    cases: int


Event = SideLine | Note | PairWorking | PairStarted


@dataclass
class Record:
    """The run of one side, as it grows."""

    header: RunLine
    cases: Sequence[CaseLine]
    progress: Progress = field(default_factory=Progress)
    workers: list[WorkerLine] = field(default_factory=list)
    writer: RunWriter | None = None

    def open(self, path: Path) -> None:
        """Begin its file."""
        self.writer = RunWriter(path)
        for line in (self.header, *self.cases):
            self.writer.write(line)

    def add(self, line: BlockLine | OutcomeLine | WorkerLine) -> None:
        """Take a line in and write it."""
        if isinstance(line, WorkerLine):
            self.workers.append(line)
        else:
            self.progress.add(line)
        if self.writer is not None:
            self.writer.write(line)

    def run(self, unreached: str) -> Run:
        """Return the run so far; `unreached` is the reason of the cases without a number."""
        blocks = [line for found in self.progress.blocks.values() for line in found.values()]
        found = summarise(self.cases, blocks, self.progress.outcomes.values(), unreached)
        return Run(self.header, found, workers=self.workers)

    def close(self, unreached: str | None, seconds: float, interrupted: str | None) -> Run:
        """Write a measurement for every case and the end."""
        run = self.run(interrupted or unreached or "not reached")
        run.end = EndLine(
            finished=utc_now(),
            counts=dict(Counter(m.status for m in run.measurements)),
            wall_seconds=round(seconds, 3),
            interrupted=interrupted or unreached,
        )
        if self.writer is not None:
            for line in (*run.measurements, run.end):
                self.writer.write(line)
            self.writer.close()
            run.path = str(self.writer.path)
        return run


class Duet:
    """A duet under way; `unreached` says what the time was too short for."""

    def __init__(
        self,
        pairing: Pairing,
        records: Mapping[Side, Record],
        settings: GateSettings,
        minutes: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pairing = pairing
        self.records = records
        controls = (case.key for case in records["base"].cases if is_control(case.variant))
        self.settings = replace(settings, sentinels=frozenset(controls))
        self.minutes = minutes
        self.clock = clock
        self.unreached: str | None = None
        self.suspects: list[tuple[str, str]] = []
        self._began = clock()
        skipped = {case.key for record in records.values() for case in record.cases if case.skipped}
        self.cases = [case for case in records["base"].cases if case.key not in skipped]

    def events(self) -> Iterator[Event]:
        """Measure both stages; ends every process whatever happens."""
        try:
            yield from self._stage(1, range(self.settings.first_pairs))
            found = pairs_of(*self._runs()).first
            measured = {key: pairs for key, pairs in found.items() if len(pairs) >= FEWEST_PAIRS}
            self.suspects = flagged(measured, self.settings)
            if self.suspects:
                planned = planned_pairs(self.records["head"].header, self.settings)
                yield from self._stage(2, range(FRESH, FRESH + planned))
        finally:
            self.pairing.close()

    def finish(self, interrupted: str | None = None) -> tuple[Run, Run]:
        """Complete both files; return the two runs."""
        seconds = self.clock() - self._began
        base, head = (
            self.records[side].close(self.unreached, seconds, interrupted) for side in SIDES
        )
        return base, head

    def _stage(self, stage: int, numbers: range) -> Iterator[Event]:
        chosen = [case for case in self.cases if stage == 1 or case.key in self.suspects]
        lasted: list[float] = []
        for place, number in enumerate(numbers):
            ended = {key for record in self.records.values() for key in record.progress.outcomes}
            cases = [case for case in chosen if case.key not in ended]
            if not cases:
                return
            enough = stage == 1 and place >= FEWEST_PAIRS
            if self._left(FIRST_SHARE if enough else 1.0) < _expected(lasted):
                if stage == 1 or place < self.settings.second_pairs:
                    self._note(stage, place, len(numbers))
                return
            yield PairStarted(stage, place, len(numbers), len(cases))
            begin = self.clock()
            for event in self.pairing.measure(cases, number, lambda: self._left(1.0) <= 0):
                if isinstance(event, SideLine):
                    self.records[event.side].add(event.line)
                    if isinstance(event.line, OutcomeLine):
                        self._end_other(event.side, event.line)
                yield event
            lasted.append(self.clock() - begin)
        if self._left(1.0) <= 0 and stage == 1:
            self._note(stage, len(numbers), len(numbers))

    def _end_other(self, side: Side, outcome: OutcomeLine) -> None:
        """Write why a case ends on the side where nothing was wrong with it."""
        other: Side = "head" if side == "base" else "base"
        record = self.records[other]
        if outcome.key not in record.progress.outcomes:
            reason = HEAD_LACKS if side == "head" else BASE_LACKS
            record.add(structs.replace(outcome, status="skipped", reason=reason))

    def _note(self, stage: int, pairs: int, planned: int) -> None:
        wanted = math.ceil(1.5 * self.minutes)
        self.unreached = (
            f"{pairs} of {planned} pairs of stage {stage} were begun within {self.minutes:g}"
            f" minutes; give --minutes {wanted}, or fewer cases with --only"
        )

    def _left(self, share: float) -> float:
        """Return the seconds that are left of a share of the minutes."""
        return self._began + 60 * share * self.minutes - self.clock()

    def _runs(self) -> tuple[Run, Run]:
        base, head = (self.records[side].run("not reached") for side in SIDES)
        return base, head


def _expected(lasted: Sequence[float]) -> float:
    """Return about how long the next pair takes; the first one also draws the inputs."""
    return min(lasted, default=0.0) / (2 if len(lasted) == 1 else 1)


def usual_minutes(cases: int) -> float:
    """Return how long a duet of so many cases takes if nobody says."""
    return USUAL_MINUTES * max(1.0, cases / USUAL_CASES)


def fresh_pairs(minutes: float, cases: int, least: int) -> int:
    """Return how many pairs the second stage may have, more with more minutes.

    It is settled before anything is measured: nobody may go on until he likes what he sees.
    """
    return min(round(least * max(1.0, minutes / usual_minutes(cases))), MOST_PAIRS // 2)


def with_controls(cases: Sequence[CaseLine], seed: int) -> list[CaseLine]:
    """Add A/A controls of a few cases, of as many backends as there are."""
    rng = random.Random(seed)
    measured = rng.sample([c for c in cases if c.skipped is None], k=_measured(cases))
    measured.sort(key=lambda case: [c.backend for c in cases].count(case.backend))
    by_backend: dict[str, CaseLine] = {}
    for case in measured:
        by_backend.setdefault(case.backend, case)
    first = list(by_backend.values())
    chosen = [*first, *(case for case in measured if case not in first)][:CONTROLS]
    return [*cases, *(_control(case) for case in chosen)]


def _measured(cases: Sequence[CaseLine]) -> int:
    return sum(case.skipped is None for case in cases)


def _control(case: CaseLine) -> CaseLine:
    variant = f"{case.variant}+{CONTROL}" if case.variant else CONTROL
    return structs.replace(case, id=f"{case.id}+{CONTROL}", variant=variant)


def make_headers(
    environments: Mapping[Side, Environment],
    libraries: Mapping[Side, Mapping[str, Any]],
    settings: Mapping[str, Any],
    command: Sequence[str],
) -> dict[Side, RunLine]:
    """Return the first lines of both files; each side's describes its own environment."""
    machine = capture(libraries={})
    job = uuid.UUID(int=random.SystemRandom().getrandbits(128), version=4).hex
    headers: dict[Side, RunLine] = {}
    for side in SIDES:
        environment = environments[side]
        known = (name for name in PACKAGES.split() if name in environment.packages)
        packages = {name: environment.packages[name] for name in known}
        own = {
            **machine,
            "python": {**(machine.get("python") or {}), **environment.described},
            "packages": {name: found[0] for name, found in packages.items()},
            "libraries": dict(libraries[side]),
            # One version may be built in two ways.
            "package_files": {name: found[2] for name, found in packages.items()}
            if libraries[side]
            else {},
        }
        headers[side] = RunLine(
            schema=SCHEMA,
            id=f"{job}-{side}",
            label=side,
            started=utc_now(),
            bench_version=bench.__version__,
            command=list(command),
            settings={**settings, "duet": job},
            machine=own,
        )
    return headers
