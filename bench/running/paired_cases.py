"""Pairs of a duet, of cases: one worker in each environment, both alive, one of them at work.

Both sides of a case are begun, then visited in turns of random order, then finished. What disturbs
a visit of either side discards it on both, before anyone has looked at the times.
"""

import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from bench.comparing.pairs import is_control
from bench.errors import CaseError, WorkerError
from bench.measuring.sampling import Budget
from bench.results.schema import BlockLine, CaseLine, OutcomeLine, Status
from bench.running.begun import Begun, begin_message, name_of, shortcut_of
from bench.running.inputs import Inputs
from bench.running.noise import Noise
from bench.running.plan import RunRequest
from bench.running.seats import Seat, Seats, seat_of
from bench.running.sides import SIDES, Note, Pairing, PairWorking, Side, SideLine
from bench.workload import Workload

RETRIES: Final = 2  # of a disturbed turn
PAUSES: Final = (0.1, 0.25)  # seconds before a repetition
RETRY_SHARE: Final = 0.25  # of all turns of a pair may be repeated: some neighbours stay
AGAIN_SHARE: Final = 0.5  # of the cases of a pair may be measured again, later in the pair


class PairedCases(Pairing):
    """Measures cases of suites, of the user's kernels or of a model, in two environments."""

    def __init__(
        self,
        request: RunRequest,
        workloads: Mapping[str, Workload],
        cores: int,
        pythons: Mapping[Side, str],
        budget: Budget,
        *,
        drawing_python: str | None = None,
        gpus: Mapping[int, str] | None = None,
    ) -> None:
        """Draw with `drawing_python`, if not with the interpreter of bench."""
        self.request = request
        self.workloads = workloads
        self.cores = cores
        self.pythons = pythons
        self.budget = budget
        self.rng = random.Random(request.seed)
        self._seats = Seats(request, self.rng, gpus, reads_canaries=False)
        self._inputs = Inputs(request, workloads, cores, self.rng, drawing_python)
        self._retries = 0
        self._calls: dict[tuple[str, str], int] = {}
        self._orders: dict[tuple[str, str], list[tuple[Side, Side]]] = {}
        self._noise = Noise()

    def measure(
        self, cases: Sequence[CaseLine], pair: int, is_late: Callable[[], bool]
    ) -> Iterator[SideLine | Note | PairWorking]:
        """Measure one pair of every case, in random order, with fresh processes."""
        yield from self._take(cases, pair)
        self._retries = round(RETRY_SHARE * self.budget.visits * len(cases)) + RETRIES
        queue = deque(self.rng.sample(cases, len(cases)))
        allowed = round(AGAIN_SHARE * len(cases)) + 1
        again: set[tuple[str, str]] = set()
        place = 0
        while queue and not is_late():
            case = queue.popleft()
            yield PairWorking(case, pair, place / (place + len(queue) + 1))
            lines, disturbed = self._measure(case, pair, place)
            if disturbed and len(again) < allowed and case.key not in again:
                # Blind to what was measured, and in the same processes: only the moment is another.
                again.add(case.key)
                queue.append(case)
                continue
            place += 1
            yield from lines
        yield from self._leave(pair)

    def close(self) -> None:
        """End every worker and remove the drawn files."""
        self._seats.close()
        self._inputs.close()

    def _take(self, cases: Sequence[CaseLine], pair: int) -> Iterator[Note]:
        dtypes: dict[Seat, set[str]] = {}
        for case in cases:
            for side in SIDES:
                dtypes.setdefault(self._seat(case, side), set()).add(case.dtype)
        seats = self.rng.sample(sorted(dtypes, key=str), len(dtypes))
        for problem in self._seats.take({seat: sorted(dtypes[seat]) for seat in seats}):
            yield Note(f"pair {pair}: {problem}")
        self._taken = seats

    def _leave(self, pair: int) -> Iterator[SideLine]:
        for side in SIDES:
            for line in self._seats.leave([s for s in self._taken if s.role == side], pair):
                yield SideLine(side, line)
        self._seats.close()  # the controls

    def _seat(self, case: CaseLine, side: Side) -> Seat:
        """Return where a side of a case is measured; of a control both are base's."""
        seat = seat_of(case)
        if side == "head" and is_control(case.variant):
            return seat._replace(python=self.pythons["base"], role="control")
        return seat._replace(python=self.pythons[side], role=side)

    def _order(self, case: CaseLine) -> tuple[Side, Side]:
        """Return a random order of the sides; each is used in half of all turns."""
        left = self._orders.setdefault(case.key, [])
        if not left:
            left += self.rng.sample([("base", "head"), ("head", "base")], 2)
        return left.pop()

    def _measure(self, case: CaseLine, pair: int, place: int) -> tuple[list[SideLine], bool]:
        """Return the two lines of a case, and whether the pair was disturbed."""
        begun: dict[Side, Begun] = {}
        lines: list[SideLine] = []
        try:
            drawn = self._inputs.draw(case, None)
        except CaseError as error:
            return [SideLine(side, _outcome(case, pair, error)) for side in SIDES], False
        for side in self._order(case):
            try:
                begun[side] = self._begin(case, side, drawn, place)
            except CaseError as error:
                lines.append(SideLine(side, _outcome(case, pair, error)))
        if lines:
            self._drop(begun)
            return lines, False
        lines = self._visit(begun, pair) or self._finish(begun, pair)
        self._inputs.release(case)
        return lines, any(
            isinstance(found.line, BlockLine) and self._noise.is_noisy(found.line, found.side)
            for found in lines
        )

    def _begin(self, case: CaseLine, side: Side, drawn: Mapping[str, Any], place: int) -> Begun:
        seat = self._seat(case, side)
        worker = self._seats.worker(seat)
        message = begin_message(
            case,
            self.workloads[case.workload],
            drawn,
            self.budget,
            cores=self.cores,
            # Fixed once: both sides and all pairs have the same.
            calls_per_sample=self._calls.get(case.key),
        )
        reply = self._seats.ask(seat, **message)
        self._calls.setdefault(case.key, reply["calls_per_sample"])
        return Begun(case, place, drawn, worker, reply)

    def _drop(self, begun: Mapping[Side, Begun]) -> None:
        """Let go of the side of a case whose other side has failed."""
        for side, one in begun.items():
            try:
                self._ask(one, side, "finish")
            except CaseError:
                continue

    def _visit(self, begun: dict[Side, Begun], pair: int) -> list[SideLine]:
        """Visit both sides in turns; return the outcome of a side that fails."""
        case = begun["base"].case
        for _ in range(min(one.reply["visits"] for one in begun.values())):
            repeated = 0
            while True:
                seen: dict[Side, dict[str, Any]] = {}
                for side in self._order(case):
                    try:
                        seen[side] = self._ask(begun[side], side, "visit")
                    except CaseError as error:
                        return [SideLine(side, _outcome(case, pair, error))]
                disturbed = sorted({d for reply in seen.values() for d in reply["disturbances"]})
                noisy = [*disturbed, *self._slow(case, seen)]
                if not noisy or repeated >= min(RETRIES, repeated + self._retries):
                    break
                for one in begun.values():
                    one.notes.append(f"discarded: {'; '.join(noisy)}")
                time.sleep(PAUSES[repeated])
                repeated += 1
                self._retries -= 1
            for side, reply in seen.items():
                begun[side].keep({**reply, "disturbances": disturbed[:1]})
        return []

    def _slow(self, case: CaseLine, seen: Mapping[Side, Mapping[str, Any]]) -> list[str]:
        """Say if the machine was slow in a turn, by the canaries; each side has its own best."""
        for side in SIDES:
            self._noise.note(case.key, side, [seen[side]["canary"]])
        slow = [self._noise.is_slow(case.key, side, seen[side]["canary"]) for side in SIDES]
        return ["the canary was slow"] if any(slow) else []

    def _finish(self, begun: Mapping[Side, Begun], pair: int) -> list[SideLine]:
        lines: list[SideLine] = []
        for side, one in begun.items():
            case, workload = one.case, self.workloads[one.case.workload]
            seat = self._seat(case, side)
            try:
                finished = self._ask(one, side, "finish")
                if seat.role != "control":
                    middle = statistics.median(one.samples)
                    self._seats.require_plausible(case, middle, shortcut_of(case, workload), seat)
            except CaseError as error:
                lines.append(SideLine(side, _outcome(case, pair, error)))
                continue
            line = one.block_line(finished, pair, self.budget.precision)
            line.pair = pair
            lines.append(SideLine(side, line))
        if any(isinstance(found.line, OutcomeLine) for found in lines):
            return [found for found in lines if not isinstance(found.line, BlockLine)]
        return lines

    def _ask(self, one: Begun, side: Side, what: str) -> dict[str, Any]:
        seat = self._seat(one.case, side)
        if self._seats.worker(seat) is not one.worker:
            raise WorkerError("crashed", "its worker was lost")
        return self._seats.ask(seat, do=what, case=name_of(one.case))


def _outcome(case: CaseLine, pair: int, error: CaseError) -> OutcomeLine:
    return OutcomeLine(
        suite=case.suite,
        case=case.id,
        block=pair,
        status=cast(Status, error.status),
        reason=error.reason,
    )
