"""The workers of a block: one for each backend and number of threads, and what they know."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bench.backends import backends
from bench.errors import BackendAbsent, CaseError, WorkerError
from bench.measuring.plausibility import best_of, ceiling, device_name, why_implausible
from bench.results.schema import CaseLine, WorkerLine
from bench.running.inputs import open_worker
from bench.running.plan import RunRequest
from bench.running.worker_process import WorkerProcess

SUSPICIONS: Final = 3  # readings of the peak before a number is refused


class Seat(NamedTuple):
    """What needs a process of its own."""

    backend: str
    threads: int
    gpu: int | None = None
    """The index of the GPU, if one was asked for."""
    setup: str | None = None
    """What the process is opened with for good, such as cuDNN's tuner."""
    python: str | None = None
    """The interpreter of another environment."""
    role: str | None = None
    """What it is in a duet: `base`, `head` or `control`, a second base."""


class Seats:
    """Fresh workers for each block; one that dies is replaced, its peaks are kept."""

    def __init__(
        self,
        request: RunRequest,
        rng: random.Random,
        gpus: Mapping[int, str] | None = None,
        *,
        reads_canaries: bool = True,
    ) -> None:
        """Know the UUIDs of the GPUs that the run was asked for, by their indices.

        Without `reads_canaries` a block has those of its visits alone.
        """
        self.request = request
        self.gpus = gpus or {}
        self.rng = rng
        self.reads_canaries = reads_canaries
        self.peaks: dict[Seat, dict[str, float]] = {}
        self._told: dict[Seat, dict[str, float]] = {}
        self._devices: dict[Seat, str] = {}
        self._workers: dict[Seat, WorkerProcess] = {}
        self._canaries: dict[Seat, list[dict[str, float]]] = {}

    def take(self, seats: Mapping[Seat, Sequence[str]]) -> list[str]:
        """Start all workers of a block at once; return what went wrong, in words.

        Each seat comes with the dtypes of its cases. Importing takes longer than anything else
        before the first case.
        """
        for seat in seats:
            self._workers[seat] = self._start(seat)
        problems = []
        for seat, dtypes in seats.items():
            try:
                open_worker(self._workers[seat], self.request)
            except (CaseError, BackendAbsent) as error:
                self._workers.pop(seat).kill()
                problems.append(f"{seat.backend}: {error}")
                continue
            self._devices[seat] = device_name(self._workers[seat].description)
            if seat not in self.peaks and seat.role != "control":
                try:
                    self.peaks[seat] = self._workers[seat].ask(do="peaks", dtypes=sorted(dtypes))
                except CaseError as error:
                    problems.append(f"{seat.backend}: its peak is not known: {error}")
                    if isinstance(error, WorkerError):
                        del self._workers[seat]
                        continue
            self._canaries[seat] = [self._read_canary(self._workers[seat])]
        return problems

    def leave(self, seats: Iterable[Seat], block: int) -> list[WorkerLine]:
        """End the workers of a block; return what their canaries saw."""
        lines = []
        for seat in seats:
            worker = self._workers.pop(seat, None)
            if worker is None:
                continue
            readings = [*self._canaries.pop(seat, []), self._read_canary(worker)]
            worker.close()
            line = WorkerLine(
                backend=seat.backend,
                threads=seat.threads,
                gpu=seat.gpu,
                setup=seat.setup,
                block=block,
                canary=[reading for reading in readings if reading],
                layout=worker.layout,
            )
            if seat in self.peaks and self.peaks[seat] != self._told.get(seat):
                line.peaks = self._told[seat] = self.peaks[seat]
            lines.append(line)
        return lines

    def close(self) -> None:
        """End every worker now."""
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()

    def worker(self, seat: Seat) -> WorkerProcess:
        """Return the worker of a seat; a new one if it has died.

        Raises:
            CaseError: None can be started.
        """
        if seat not in self._workers:
            worker = self._start(seat)
            try:
                open_worker(worker, self.request)
            except BackendAbsent as absent:
                worker.kill()
                raise CaseError("failed", str(absent)) from None
            except CaseError:
                worker.kill()
                raise
            self._workers[seat] = worker
        return self._workers[seat]

    def ask(self, seat: Seat, **message: Any) -> dict[str, Any]:
        """Ask the worker of a seat about a case, within the time that a case may take."""
        worker = self.worker(seat)
        try:
            reply: dict[str, Any] = worker.ask(timeout=self.request.timeout, **message)
        except WorkerError:
            self._workers.pop(seat, None)
            raise
        return reply

    def require_plausible(
        self, case: CaseLine, seconds: float, shortcut: float = 1.0, seat: Seat | None = None
    ) -> None:
        """Raise CaseError (`implausible`) if `case` is faster than its device can be."""
        seat = seat or seat_of(case)
        for attempt in range(1 + SUSPICIONS):
            if attempt:  # look again: the first reading may have been disturbed
                again = self.ask(seat, do="peaks", dtypes=[case.dtype])
                old = self.peaks.get(seat, {})
                self.peaks[seat] = best_of(old, again)
            same_device = [
                peaks
                for other, peaks in self.peaks.items()
                if self._devices.get(other) == self._devices.get(seat)
            ]
            limit = ceiling(same_device, case.dtype, self._devices.get(seat, "cpu"))
            why = why_implausible(seconds, case.flops, case.bytes_moved, limit, shortcut)
            if why is None:
                return
        raise CaseError("implausible", str(why))

    def _start(self, seat: Seat) -> WorkerProcess:
        gpu = None if seat.gpu is None else self.gpus[seat.gpu]
        return WorkerProcess(seat.backend, seat.threads, gpu, self.rng, seat.setup, seat.python)

    def _read_canary(self, worker: WorkerProcess) -> dict[str, float]:
        if not self.reads_canaries:
            return {}
        try:
            reading: dict[str, float] = worker.ask(do="canary")
        except CaseError:
            return {}
        return reading


def seat_of(case: CaseLine) -> Seat:
    """Return where a case is measured."""
    setup = backends()[case.backend].setup_of(case.dtype, case.way)
    return Seat(case.backend, case.threads, case.gpu, setup)
