"""The inputs of every case: drawn once, by a process that times nothing, for all workers."""

import random
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.cores import available_memory
from bench.errors import CaseError, RequestError, WorkerError
from bench.results.schema import CaseLine
from bench.running.plan import RunRequest
from bench.running.worker_process import WorkerProcess
from bench.workload import Workload

KEEP_BYTES: Final = 512 * 2**20  # larger files are drawn again in each block, not kept
MEMORY_SHARE: Final = 0.9
SPARE_BYTES: Final = 2**30  # of the disk, left for others


class Inputs:
    """Draws and keeps what workers read: inputs, inputs unlike them, and the reference."""

    def __init__(
        self,
        request: RunRequest,
        workloads: Mapping[str, Workload],
        cores: int,
        rng: random.Random,
        python: str | None = None,
    ) -> None:
        """Draw with the interpreter `python`, if not with that of bench."""
        self.request = request
        self.workloads = workloads
        self.cores = cores
        self.rng = rng
        self.python = python
        self.scratch = Path(tempfile.mkdtemp(prefix="bench-"))
        self._workers: dict[str, WorkerProcess] = {}
        self._drawn: dict[str, dict[str, Any]] = {}

    def draw(self, case: CaseLine, digest: str | None) -> dict[str, Any]:
        """Return where the files of `case` lie, as `bench.measuring.reference.Drawn` does.

        Raises:
            CaseError: They cannot be drawn.
            RequestError: Their digest is not `digest`, that of the run being resumed.
        """
        work = _drawing_of(case)
        if work not in self._drawn:
            drawn = self._ask(case, self.scratch / str(len(list(self.scratch.iterdir()))))
            if digest is not None and digest != drawn["digest"]:
                raise RequestError(
                    f"{case.id}: the inputs are not those of the run being resumed (another version"
                    " of bench or NumPy?); start a new run"
                )
            self._drawn[work] = drawn
        return self._drawn[work]

    def release(self, case: CaseLine) -> None:
        """Remove the files of `case` if they are too large to keep until the next block."""
        drawn = self._drawn.get(_drawing_of(case))
        if drawn is not None and drawn["total_bytes"] > KEEP_BYTES:
            del self._drawn[_drawing_of(case)]
            for name in (drawn["inputs"], drawn["decoy"], drawn["reference"]["path"]):
                Path(name).unlink(missing_ok=True)

    def close(self) -> None:
        """End the processes and remove every file."""
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _ask(self, case: CaseLine, folder: Path) -> dict[str, Any]:
        if shutil.disk_usage(self.scratch).free < SPARE_BYTES:
            raise CaseError(
                "failed", f"no room for inputs in {self.scratch.parent}; point TMPDIR to a disk"
            )
        judge = self.workloads[case.workload].phases[case.phase].judge
        if judge not in self._workers:
            self._workers[judge] = WorkerProcess(
                judge, self.cores, None, self.rng, python=self.python
            )
            open_worker(self._workers[judge], self.request)
        try:
            drawn: dict[str, Any] = self._workers[judge].ask(
                do="draw",
                workload=case.workload,
                dims=_drawn_dims(case),
                phase=case.phase,
                dtype=case.dtype,
                seed=self.request.seed,
                folder=str(folder),
            )
        except WorkerError:
            del self._workers[judge]
            raise
        return drawn


def open_worker(worker: WorkerProcess, request: RunRequest) -> None:
    """Open a worker's backend within the memory that there is, and load the workloads."""
    memory = available_memory()
    worker.open(None if memory is None else int(MEMORY_SHARE * memory))
    model = None
    if request.model is not None:
        model = {
            "model": request.model,
            "inputs": list(request.inputs),
            "facts": request.facts,
            "seed": request.seed,
        }
    worker.ask(do="load", kernels=list(request.kernels), model=model)


def work_of(case: CaseLine) -> str:
    """Return the id without the backend: what is computed, wherever."""
    return case.id.rpartition("/")[0]


def _drawn_dims(case: CaseLine) -> dict[str, int]:
    return case.sizes if case.drawn_batch is None else {**case.sizes, "batch": case.drawn_batch}


def _drawing_of(case: CaseLine) -> str:
    """Name what is drawn: batches that repeat the same samples share it."""
    return f"{case.workload} {_drawn_dims(case)} {case.phase} {case.dtype}"
