"""Which backends can run here: asked of the very workers that would measure."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.errors import BackendAbsent, CaseError
from bench.running.worker_process import WorkerProcess


@dataclass(frozen=True)
class Probe:
    """What a backend says of itself; `absent` holds the reason and the remedy if it cannot run."""

    backend: str
    absent: tuple[str, str] | None = None
    description: dict[str, Any] = field(default_factory=dict)


def probe(
    names: Iterable[str], threads: int, gpu: str | None = None, python: str | None = None
) -> dict[str, Probe]:
    """Open each backend in a process of its own, all at once, and end them again."""
    rng = random.Random()
    workers = [WorkerProcess(name, threads, gpu, rng, python=python) for name in names]
    try:
        return {worker.backend: _probe_one(worker) for worker in workers}
    finally:
        for worker in workers:
            worker.close()


def _probe_one(worker: WorkerProcess) -> Probe:
    try:
        worker.open(memory_limit=None)
    except BackendAbsent as absent:
        return Probe(worker.backend, absent=(absent.reason, absent.remedy))
    except CaseError as error:
        remedy = f"see what `python -c 'import {worker.backend.partition('-')[0]}'` says"
        return Probe(worker.backend, absent=(error.reason, remedy))
    return Probe(worker.backend, description=worker.description)
