"""Measures a plan: blocks of fresh workers, cases interleaved in random order, lines as they come.

A block is worked off in batches. Each case of a batch is begun (verified, warmed up), then visited
several times in turn with all the others, then finished: a slow moment of the machine falls on all
cases, and each case is seen at several moments. `Execution.lines()` neither prints nor saves.
Everything that becomes known is a line of the run file; what only a person wants to hear (`Note`,
`BlockStarted`, `Working`) comes between them.
"""

import random
import statistics
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from bench.cores import available_memory
from bench.errors import CaseError
from bench.measuring.sampling import Budget
from bench.results.schema import (
    BlockLine,
    CaseLine,
    LimitLine,
    OutcomeLine,
    Status,
    WorkerLine,
)
from bench.running.begun import Begun, begin_message, name_of, shortcut_of, work_message
from bench.running.inputs import Inputs, work_of
from bench.running.plan import LEAST_VISITS, RunRequest
from bench.running.reach import Reach, sweeps
from bench.running.seats import Seat, Seats, seat_of
from bench.running.worker_process import WorkerProcess
from bench.suites import Suite
from bench.workload import Workload

BATCH_GROUPS: Final = 8  # what a kill may lose, and what lies in memory at a time
BATCH_BYTES: Final = 2**30
TOGETHER_SHARE: Final = 0.5  # of the memory, for what several CPU backends hold at a time
RETRIES: Final = 2  # of a disturbed visit
RETRY_SHARE: Final = 0.25  # of all visits of a batch may be repeated
PAUSES: Final = (0.25, 0.5)  # seconds before a repetition: neighbours come and go
BEGIN_SHARE: Final = 0.4  # of a batch's time goes to beginning its cases, about
MOST_BLOCKS: Final = 1000
"""Bound on a run whose only limit is `--minutes`."""


@dataclass(frozen=True)
class Note:
    """Something that a person should hear while the run goes on."""

    text: str


@dataclass(frozen=True)
class BlockStarted:
    """Block number `block` begins; `blocks` is None where time is the only limit."""

    block: int
    blocks: int | None


@dataclass(frozen=True)
class Working:
    """A case is being measured; `done` is the share of its block that lies behind."""

    case: CaseLine
    block: int
    done: float


Event = Note | BlockStarted | Working | BlockLine | OutcomeLine | LimitLine | WorkerLine


@dataclass
class Progress:
    """What is measured already: from this run so far, or from the file that it resumes."""

    blocks: dict[tuple[str, str], dict[int, BlockLine]] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], OutcomeLine] = field(default_factory=dict)
    limits: dict[tuple[str, str], LimitLine] = field(default_factory=dict)

    def add(self, line: BlockLine | OutcomeLine | LimitLine) -> None:
        """Take a line in."""
        if isinstance(line, OutcomeLine):
            self.outcomes[line.key] = line
        elif isinstance(line, LimitLine):
            self.limits[line.key] = line
        else:
            self.blocks.setdefault(line.key, {})[line.block] = line

    def calls_per_sample(self, key: tuple[str, str]) -> int | None:
        """Return the calls that a sample of this case has: fixed by its first block."""
        blocks = self.blocks.get(key)
        return next(iter(blocks.values())).calls_per_sample if blocks else None

    def digest(self, key: tuple[str, str]) -> str | None:
        """Return the digest of the inputs that this case was measured with."""
        blocks = self.blocks.get(key)
        return next(iter(blocks.values())).input_digest if blocks else None

    def is_done(self, key: tuple[str, str], block: int) -> bool:
        """Tell whether this case needs nothing in this block."""
        return key in self.outcomes or block in self.blocks.get(key, {})


class Execution:
    """One run under way. `unreached` says why cases are missing, once `lines()` has ended."""

    def __init__(
        self,
        request: RunRequest,
        cases: Sequence[CaseLine],
        suites: Mapping[str, Suite],
        workloads: Mapping[str, Workload],
        cores: int,
        progress: Progress | None = None,
        gpus: Mapping[int, str] | None = None,
    ) -> None:
        self.request = request
        self.suites = suites
        self.workloads = workloads
        self.cores = cores
        self.progress = progress or Progress()
        self.unreached: str | None = None
        self.rng = random.Random(request.seed)
        self.cases = cases
        self._reach = Reach(request, self._try)
        self._seats = Seats(request, self.rng, gpus)
        self._inputs = Inputs(request, workloads, cores, self.rng)
        self._deadline = (
            time.monotonic() + 60 * request.minutes if request.minutes is not None else None
        )

    @property
    def blocks(self) -> int | None:
        """Return how many blocks are planned; None: as many as the time allows."""
        if self.request.minutes is not None and self.request.blocks is None:
            return None
        return self.request.planned_blocks()

    def lines(self) -> Iterator[Event]:
        """Measure, block by block; ends the workers whatever happens."""
        lasted = 0.0
        try:
            yield from self._reached()
            self.groups = _groups(self.cases, self._reach.needs)
            for block in range(self.blocks or MOST_BLOCKS):
                if block and self._is_late(lasted):
                    return
                begin = time.monotonic()
                yield from self._block(block)
                lasted = time.monotonic() - begin
                if self.unreached:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """End every worker and remove the drawn files."""
        self._seats.close()
        self._inputs.close()

    def _reached(self) -> Iterator[Event]:
        """Find where the sweeps end, before anything is measured."""
        found = sweeps([case for case in self.cases if self.suites[case.suite].finds_limit])
        for i, cases in enumerate(found):
            if (cases[0].suite, cases[0].sweep) in self.progress.limits or self._is_late(0.0):
                continue
            yield Working(cases[0], 0, 0.0)
            for line in self._reach.sweep(cases):
                self.progress.add(line)
                yield line
            if i + 1 == len(found) or seat_of(found[i + 1][0]) != seat_of(cases[0]):
                self._seats.close()  # the next one has the memory for itself

    def _try(self, seat: Seat, case: CaseLine, batch: int, patience: float) -> dict[str, Any]:
        """Have one batch of a sweep called once, of the samples that were drawn for `case`."""
        try:
            drawn = self._inputs.draw(case, self.progress.digest(case.key))
        except CaseError as error:
            # What the process that draws lacks says nothing of the device.
            raise CaseError("failed", f"its inputs cannot be drawn: {error.reason}") from error
        work = work_message(case, self.workloads[case.workload], drawn)
        if batch != case.batch and work["batch"] is None:
            raise CaseError("failed", "its samples cannot be repeated to another batch")
        if work["batch"] is not None:
            work |= {
                "dims": {**case.sizes, "batch": batch},
                "batch": batch,
                "drawn_batch": case.drawn_batch or case.batch,
            }
        return self._seats.ask(
            seat,
            do="try",
            workload=case.workload,
            phase=case.phase,
            way=case.way,
            work=work,
            patience=patience,
        )

    def _block(self, block: int) -> Iterator[Event]:
        groups = [
            [case for case in group if not self.progress.is_done(case.key, block)]
            for group in self.groups
        ]
        groups = [group for group in groups if group]
        if not groups:
            return
        cases = [case for group in groups for case in group]
        seats: dict[Seat, list[str]] = {}
        for case in sorted(cases, key=lambda case: (str(seat_of(case)), case.dtype)):
            dtypes = seats.setdefault(seat_of(case), [])
            dtypes += [case.dtype] if case.dtype not in dtypes else []
        for problem in self._seats.take(seats):
            yield Note(problem)
        yield BlockStarted(block, self.blocks)
        self.rng.shuffle(groups)
        place = 0
        for batch in _batches(groups, self._reach.needs):
            yield from self._batch(batch, block, place, len(cases))
            place += sum(len(group) for group in batch)
            if self.unreached:
                break
        yield from self._seats.leave(seats, block)

    def _batch(
        self, batch: list[list[CaseLine]], block: int, place: int, total: int
    ) -> Iterator[Event]:
        begun: list[list[Begun]] = []
        before, size = place, sum(len(group) for group in batch)
        for group in batch:
            if block == 0 and self._is_late(0.0):
                self.unreached = f"not reached within --minutes {self.request.minutes:g}"
                break
            yield Working(group[0], block, (before + BEGIN_SHARE * (place - before)) / total)
            cases = yield from self._begin(group, block, place)
            begun.append(cases)
            place += len(group)
        allowed = round(RETRY_SHARE * sum(_visits(cases) for cases in begun)) + RETRIES
        turns = max(map(_visits, begun), default=0)
        for turn in range(turns):
            share = BEGIN_SHARE + (1 - BEGIN_SHARE) * turn / turns
            for cases in self.rng.sample(begun, len(begun)):
                due = [one for one in cases if turn < one.reply["visits"]]
                if due:
                    yield Working(due[0].case, block, (before + size * share) / total)
                    allowed -= yield from self._visit(due, cases, block, allowed)
        for cases in begun:
            for one in cases:
                yield self._finish(one, block)
        for group in batch:
            self._inputs.release(group[0])

    def _begin(
        self, group: list[CaseLine], block: int, place: int
    ) -> Generator[Event, None, list[Begun]]:
        """Begin the same work on every backend, in random order; return those that are right."""
        try:
            drawn = self._inputs.draw(group[0], self.progress.digest(group[0].key))
        except CaseError as error:
            for case in group:
                yield self._outcome(case, block, error)
            return []
        begun = []
        for offset, case in enumerate(self.rng.sample(group, len(group))):
            try:
                worker, reply = self._ask_begin(case, drawn)
            except CaseError as error:
                yield self._outcome(case, block, error)
            else:
                begun.append(Begun(case, place + offset, drawn, worker, reply))
        return begun

    def _ask_begin(
        self, case: CaseLine, drawn: Mapping[str, Any]
    ) -> tuple[WorkerProcess, dict[str, Any]]:
        message = begin_message(
            case,
            self.workloads[case.workload],
            drawn,
            self._budget(case),
            cores=self.cores,
            energy=self.request.energy,
            **{
                "calls_per_sample": self.progress.calls_per_sample(case.key),
                **self._serving(case),
            },
        )
        seat = seat_of(case)
        worker = self._seats.worker(seat)
        reply = self._seats.ask(seat, **message)
        return worker, reply

    def _budget(self, case: CaseLine) -> Budget:
        suite = self.suites[case.suite]
        budget = self.request.budget(suite.share)
        # A service works on and on: few visits, but long ones.
        return replace(budget, visits=LEAST_VISITS) if suite.serves else budget

    def _serving(self, case: CaseLine) -> dict[str, Any]:
        """Return what the order of a case says that serves requests."""
        if not self.suites[case.suite].serves:
            return {}
        serving = {
            "concurrency": case.concurrency,
            "rate": case.rate,
            "seed": self.rng.getrandbits(32),
        }
        return {"calls_per_sample": 1, "serving": serving}

    def _visit(
        self, due: list[Begun], begun: list[Begun], block: int, allowed: int
    ) -> Generator[Event, None, int]:
        """Sample the same work on every backend, again if something disturbed any of them.

        Discarding is blind to the result: all backends' samples of the visit or none. Returns how
        often it was repeated.
        """
        repeated = 0
        while True:
            seen: list[tuple[Begun, dict[str, Any]]] = []
            for one in self.rng.sample(due, len(due)):
                try:
                    seen.append((one, self._ask(one, "visit")))
                except CaseError as error:
                    due.remove(one)
                    begun.remove(one)
                    yield self._outcome(one.case, block, error)
            disturbed = sorted({d for _, reply in seen for d in reply["disturbances"]})
            if due and self.suites[due[0].case.suite].serves:
                break  # what befalls a service is part of what its clients wait for
            if not disturbed or repeated >= min(RETRIES, allowed):
                break
            for one in due:
                one.notes.append(f"discarded: {'; '.join(disturbed)}")
            time.sleep(PAUSES[repeated])
            repeated += 1
        for one, reply in seen:
            one.keep(reply)
        return repeated

    def _ask(self, one: Begun, what: str) -> dict[str, Any]:
        """Ask about a begun case; begin it again if its worker died of another case."""
        if self._seats.worker(seat_of(one.case)) is not one.worker:
            one.worker, _ = self._ask_begin(one.case, one.drawn)
        return self._seats.ask(seat_of(one.case), do=what, case=name_of(one.case))

    def _finish(self, one: Begun, block: int) -> BlockLine | OutcomeLine:
        try:
            finished = self._ask(one, "finish")
            shortcut = shortcut_of(one.case, self.workloads[one.case.workload])
            self._seats.require_plausible(one.case, statistics.median(one.samples), shortcut)
        except CaseError as error:
            return self._outcome(one.case, block, error)
        line = one.block_line(finished, block, self._budget(one.case).precision)
        self.progress.add(line)
        return line

    def _outcome(self, case: CaseLine, block: int, error: CaseError) -> OutcomeLine:
        line = OutcomeLine(
            suite=case.suite,
            case=case.id,
            block=block,
            status=cast(Status, error.status),
            reason=error.reason,
        )
        self.progress.add(line)
        return line

    def _is_late(self, expected: float) -> bool:
        return self._deadline is not None and time.monotonic() + expected > self._deadline


Needs = Mapping[tuple[str, str], int]
"""The bytes that a case was seen to take, by its key."""


def _groups(cases: Sequence[CaseLine], needs: Needs) -> list[list[CaseLine]]:
    """Put the cases of the same work together, those that are going to be measured.

    They are begun at the same time: where memory would not bear that, each is by itself.
    """
    found: dict[tuple[str, str], list[CaseLine]] = {}
    for case in cases:
        if case.skipped is None:
            found.setdefault((case.suite, work_of(case)), []).append(case)
    room = available_memory() or 0
    groups: list[list[CaseLine]] = []
    for group in found.values():
        need = sum(needs.get(case.key, 0) for case in group if case.device == "cpu")
        groups += [[case] for case in group] if need > TOGETHER_SHARE * room > 0 else [group]
    return groups


def _batches(groups: list[list[CaseLine]], needs: Needs) -> Iterator[list[list[CaseLine]]]:
    """Divide the groups so that what is begun at a time fits into memory."""
    batch: list[list[CaseLine]] = []
    room = BATCH_BYTES
    for group in groups:
        need = sum(needs.get(case.key) or case.bytes_moved or 0 for case in group)
        if batch and (len(batch) == BATCH_GROUPS or need > room):
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(group)
        room -= need
    if batch:
        yield batch


def _visits(cases: Sequence[Begun]) -> int:
    """Return how often a group is visited."""
    return max((one.reply["visits"] for one in cases), default=0)
