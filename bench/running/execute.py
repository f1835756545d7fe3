"""Measures a plan: blocks of fresh workers, cases interleaved in random order, lines as they come.

`Execution.lines()` neither prints nor saves. Everything that becomes known is a line of the run
file; what only a person wants to hear (`Note`, `Started`) comes between them.
"""

import random
import statistics
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, cast

from bench.errors import BackendAbsent, CaseError, WorkerError
from bench.measuring.plausibility import ceiling, device_name, why_implausible
from bench.results.schema import BlockLine, CaseLine, OutcomeLine, Status, WorkerLine
from bench.running.inputs import Inputs, open_worker, work_of
from bench.running.plan import RunRequest
from bench.running.worker_process import WorkerProcess
from bench.workload import Workload

RETRIES: Final = 2  # of a disturbed group
RETRY_SHARE: Final = 0.25  # of all groups of a block may be measured again
SUSPICIONS: Final = 3  # readings of the peak before a number is refused
PAUSES: Final = (0.5, 1.0, 2.0, 4.0)
MOST_BLOCKS: Final = 1000
"""Bound on a run whose only limit is `--minutes`."""

Seat = tuple[str, int]
"""A backend with a number of threads: what needs a process of its own."""


@dataclass(frozen=True)
class Note:
    """Something that a person should hear while the run goes on."""

    text: str


@dataclass(frozen=True)
class Started:
    """A case begins in a block, as number `place` of `total` cases."""

    case: CaseLine
    block: int
    blocks: int | None
    place: int
    total: int


Event = Note | Started | BlockLine | OutcomeLine | WorkerLine


@dataclass
class Progress:
    """What is measured already: from this run so far, or from the file that it resumes."""

    blocks: dict[tuple[str, str], dict[int, BlockLine]] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], OutcomeLine] = field(default_factory=dict)

    def add(self, line: BlockLine | OutcomeLine) -> None:
        """Take a line in."""
        if isinstance(line, OutcomeLine):
            self.outcomes[line.key] = line
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
        workloads: Mapping[str, Workload],
        cores: int,
        progress: Progress | None = None,
    ) -> None:
        self.request = request
        self.workloads = workloads
        self.cores = cores
        self.progress = progress or Progress()
        self.unreached: str | None = None
        self.rng = random.Random(request.seed)
        self.groups = _groups(cases)
        self.total = sum(len(group) for group in self.groups)
        self.peaks: dict[Seat, dict[str, float]] = {}
        self.devices: dict[str, str] = {}
        self._seats: dict[Seat, WorkerProcess] = {}
        self._inputs = Inputs(request, cores, self.rng)
        self._deadline = (
            time.monotonic() + 60 * request.minutes if request.minutes is not None else None
        )
        self._group_seconds: dict[str, float] = {}

    @property
    def blocks(self) -> int | None:
        """Return how many blocks are planned; None: as many as the time allows."""
        if self.request.minutes is not None and self.request.blocks is None:
            return None
        return self.request.planned_blocks()

    def lines(self) -> Iterator[Event]:
        """Measure, block by block; ends the workers whatever happens."""
        try:
            for block in range(self.blocks or MOST_BLOCKS):
                if self._is_late(0.0):
                    self.unreached = f"not reached within --minutes {self.request.minutes:g}"
                    return
                yield from self._block(block)
                if self.unreached:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """End every worker and remove the drawn files."""
        for worker in self._seats.values():
            worker.kill()
        self._seats.clear()
        self._inputs.close()

    def _block(self, block: int) -> Iterator[Event]:
        groups = [
            [case for case in group if not self.progress.is_done(case.key, block)]
            for group in self.groups
        ]
        groups = [group for group in groups if group]
        if not groups:
            return
        seats = sorted({_seat(case) for group in groups for case in group})
        yield from self._take_seats(seats, block)
        canaries = {seat: [self._canary(seat)] for seat in seats}
        self.rng.shuffle(groups)
        budget = max(3, round(RETRY_SHARE * len(groups)))
        place = 0
        for group in groups:
            if self._is_late(self._group_seconds.get(group[0].id, 0.0)):
                self.unreached = f"not reached within --minutes {self.request.minutes:g}"
                break
            begin = time.monotonic()
            retries = yield from self._group(group, block, place, budget)
            budget -= retries
            place += len(group)
            self._group_seconds[group[0].id] = (time.monotonic() - begin) / (1 + retries)
        for seat in seats:
            worker = self._seats.pop(seat, None)
            if worker is None:
                continue
            canaries[seat].append(self._canary(seat, worker))
            worker.close()
            yield WorkerLine(
                backend=seat[0],
                threads=seat[1],
                block=block,
                canary=[reading for reading in canaries[seat] if reading],
                layout=worker.layout,
            )

    def _group(
        self, group: list[CaseLine], block: int, place: int, budget: int
    ) -> Generator[Event, None, int]:
        """Measure the same work on every backend, again if something disturbed any of them.

        Discarding is blind to the result: all of the group or none of it. Returns (as a
        generator) how often it was measured again.
        """
        try:
            drawn = self._inputs.draw(group[0], self.progress.digest(group[0].key))
        except CaseError as error:
            for case in group:
                yield self._outcome(case, block, error)
            return 0
        order = self.rng.sample(group, len(group))
        discarded: list[str] = []
        while True:
            measured: list[tuple[CaseLine, dict[str, Any]]] = []
            for offset, case in enumerate(order):
                if not discarded:
                    yield Started(case, block, self.blocks, place + offset, self.total)
                try:
                    measured.append((case, self._measure(case, drawn)))
                except CaseError as error:
                    yield self._outcome(case, block, error)
            order = [case for case, _ in measured]
            disturbed = sorted({d for _, reply in measured for d in reply["disturbances"]})
            if not disturbed or len(discarded) >= min(RETRIES, budget):
                break
            discarded.append(f"discarded: {'; '.join(disturbed)}")
            time.sleep(PAUSES[len(discarded) - 1])
        for offset, (case, reply) in enumerate(measured):
            reply["notes"] += discarded
            if reply["disturbances"]:
                reply["notes"].append(f"disturbed: {'; '.join(reply['disturbances'])}")
            yield self._line(case, block, place + offset, reply, drawn)
        self._inputs.release(group[0])
        return len(discarded)

    def _measure(self, case: CaseLine, drawn: Mapping[str, Any]) -> dict[str, Any]:
        workload = self.workloads[case.workload]
        order = {
            "dims": case.sizes,
            "dtype": case.dtype,
            **{name: drawn[name] for name in ("inputs", "decoy", "reference")},
            "budget": asdict(self.request.budget()),
            "cores": self.cores,
            "error_factor": workload.error_factor,
            "calls_per_sample": self.progress.calls_per_sample(case.key),
        }
        message = {"do": "measure", "workload": case.workload, "phase": case.phase, "order": order}
        worker = self._worker(_seat(case))
        try:
            reply: dict[str, Any] = worker.ask(timeout=self.request.timeout, **message)
        except WorkerError:
            self._seats.pop(_seat(case), None)
            raise
        self._require_plausible(case, statistics.median(reply["seconds"]))
        return reply

    def _require_plausible(self, case: CaseLine, seconds: float) -> None:
        seat = _seat(case)
        for attempt in range(1 + SUSPICIONS):
            if attempt:  # look again: the first reading may have been disturbed
                again = self._seats[seat].ask(do="peaks", dtypes=[case.dtype])
                old = self.peaks.get(seat, {})
                self.peaks[seat] = {k: max(old.get(k, 0.0), v) for k, v in {**old, **again}.items()}
            same_device = [
                peaks
                for other, peaks in self.peaks.items()
                if self.devices.get(other[0]) == self.devices.get(seat[0])
            ]
            limit = ceiling(same_device, case.dtype, self.devices.get(seat[0], "cpu"))
            why = why_implausible(seconds, case.flops, case.bytes_moved, limit)
            if why is None:
                return
        raise CaseError("implausible", str(why))

    def _line(
        self,
        case: CaseLine,
        block: int,
        place: int,
        reply: dict[str, Any],
        drawn: Mapping[str, Any],
    ) -> BlockLine:
        known = {k: v for k, v in reply.items() if k in BlockLine.__struct_fields__}
        line = BlockLine(
            suite=case.suite,
            case=case.id,
            block=block,
            order=place,
            input_digest=drawn["digest"],
            verified=drawn["reference"]["kind"],
            **known,
        )
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

    def _take_seats(self, seats: Sequence[Seat], block: int) -> Iterator[Event]:
        """Start all workers of a block at once: importing takes longer than anything else."""
        for backend, threads in seats:
            self._seats[backend, threads] = WorkerProcess(
                backend, threads, self.request.gpu, self.rng
            )
        for seat in seats:
            try:
                open_worker(self._seats[seat], self.request)
            except (CaseError, BackendAbsent) as error:
                self._seats.pop(seat).kill()
                yield Note(f"{seat[0]}: {error}")
                continue
            self.devices[seat[0]] = device_name(self._seats[seat].description)
            if seat not in self.peaks:
                self.peaks[seat] = self._seats[seat].ask(do="peaks", dtypes=self._dtypes_of(seat))

    def _worker(self, seat: Seat) -> WorkerProcess:
        """Return the worker of a seat; a new one if it has died."""
        if seat not in self._seats:
            worker = WorkerProcess(*seat, self.request.gpu, self.rng)
            try:
                open_worker(worker, self.request)
            except BackendAbsent as absent:
                worker.kill()
                raise CaseError("failed", str(absent)) from None
            except CaseError:
                worker.kill()
                raise
            self._seats[seat] = worker
        return self._seats[seat]

    def _canary(self, seat: Seat, worker: WorkerProcess | None = None) -> dict[str, float]:
        worker = worker or self._seats.get(seat)
        if worker is None:
            return {}
        try:
            reading: dict[str, float] = worker.ask(do="canary")
        except CaseError:
            return {}
        return reading

    def _dtypes_of(self, seat: Seat) -> list[str]:
        return sorted({c.dtype for group in self.groups for c in group if _seat(c) == seat})

    def _is_late(self, expected: float) -> bool:
        return self._deadline is not None and time.monotonic() + expected > self._deadline


def _groups(cases: Sequence[CaseLine]) -> list[list[CaseLine]]:
    """Put the cases of the same work together, those that are going to be measured."""
    found: dict[tuple[str, str], list[CaseLine]] = {}
    for case in cases:
        if case.skipped is None:
            found.setdefault((case.suite, work_of(case)), []).append(case)
    return list(found.values())


def _seat(case: CaseLine) -> Seat:
    return case.backend, case.threads
