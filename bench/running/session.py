"""A run from its beginning to its end: the machine, the header, the lines, the measurements."""

import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bench
from bench import catalog
from bench.backends import backends
from bench.cores import allowed_cores
from bench.errors import RequestError
from bench.gpus import choose_gpus, present_gpus
from bench.machine import capture, default_label
from bench.measuring.energy import WINDOW_SECONDS
from bench.results.reading import RunLines, read_lines
from bench.results.schema import (
    SCHEMA,
    BlockLine,
    CaseLine,
    EndLine,
    LimitLine,
    Measurement,
    OutcomeLine,
    Run,
    RunLine,
    WorkerLine,
)
from bench.results.summary import summarise
from bench.results.writing import RunWriter
from bench.running.execute import Event, Execution, Progress
from bench.running.model import inspected, own_workload
from bench.running.plan import RunRequest, make_plan
from bench.running.probe import Probe, probe
from bench.running.reach import LONGEST_CALL_SECONDS
from bench.suites import Suite
from bench.workload import Workload


@dataclass
class Session:
    """What a run needs before its first case; made by `prepare` or `resume`."""

    request: RunRequest
    cases: list[CaseLine]
    suites: Mapping[str, Suite]
    workloads: Mapping[str, Workload]
    probes: Mapping[str, Probe]
    cores: int
    header: RunLine
    gpus: Mapping[int, str]
    """The UUIDs of the GPUs that were asked for, by their indices."""
    progress: Progress
    workers: list[WorkerLine]

    @property
    def expected_seconds(self) -> float:
        """Return about how long it takes: for a person who decides whether to wait."""
        if self.request.minutes is not None:
            return 60 * self.request.minutes
        block = 4.0
        for case in self.cases:
            if case.skipped is None:
                suite = self.suites[case.suite]
                budget = self.request.budget(suite.share)
                # 50 GFLOP/s a core is what a current CPU reaches in float32.
                call = (case.flops or 0) / (50e9 * case.threads)
                if suite.finds_limit and call > LONGEST_CALL_SECONDS[self.request.preset]:
                    continue
                calls = 3 * call
                block += budget.warmup_seconds + budget.sampling_seconds + calls + 0.4
                block += WINDOW_SECONDS if self.request.energy else 0
        return self.request.planned_blocks() * block

    def measure(self, writer: RunWriter) -> Iterator[Event]:
        """Measure what is missing; write every line before anyone hears of it."""
        execution = Execution(
            self.request,
            self.cases,
            self.suites,
            self.workloads,
            self.cores,
            self.progress,
            self.gpus,
        )
        self.unreached: str | None = None
        try:
            for event in execution.lines():
                if isinstance(event, BlockLine | OutcomeLine | LimitLine | WorkerLine):
                    writer.write(event)
                if isinstance(event, WorkerLine):
                    self.workers.append(event)
                yield event
        finally:
            execution.close()
            self.unreached = execution.unreached

    def finish(self, writer: RunWriter, started: float, interrupted: str | None) -> Run:
        """Write a measurement for every case, and the end."""
        unreached = f"not reached: {interrupted}" if interrupted else self.unreached
        measurements = self.measurements(unreached or "not reached")
        for measurement in measurements:
            writer.write(measurement)
        end = EndLine(
            finished=utc_now(),
            counts=dict(Counter(m.status for m in measurements)),
            wall_seconds=round(time.monotonic() - started, 3),
            interrupted=interrupted or self.unreached,
        )
        writer.write(end)
        path = str(writer.path or "-")
        return Run(
            self.header,
            measurements,
            workers=self.workers,
            limits=list(self.progress.limits.values()),
            end=end,
            path=path,
        )

    def measurements(self, unreached: str) -> list[Measurement]:
        """Return what follows from the blocks measured so far."""
        blocks = [line for found in self.progress.blocks.values() for line in found.values()]
        return summarise(self.cases, blocks, self.progress.outcomes.values(), unreached)


def prepare(request: RunRequest, label: str | None, command: Sequence[str]) -> Session:
    """Look at the machine and its backends, and plan the run.

    Raises:
        RequestError: The request cannot be carried out.
    """
    cores = allowed_cores()
    suites = catalog.suites()
    workloads = own_workload(request, suites) or catalog.workloads(tuple(request.kernels))
    known = {name: Probe(name) for name in backends()}
    make_plan(request, suites, workloads, known, cores)  # a bad request ends here, at once
    if request.model is not None:
        request = inspected(request, cores)
        workloads = own_workload(request, suites)
    names = request.backends or [
        name for name, kind in backends().items() if kind.library == "torch" or not request.model
    ]
    gpus = _gpus(request)
    probes = {**known, **probe(names, cores, next(iter(gpus.values()), None))}
    cases = make_plan(request, suites, workloads, probes, cores, list(gpus))
    measured = {case.backend for case in cases}
    machine = capture(libraries={n: probes[n].description for n in names if n in measured})
    header = RunLine(
        schema=SCHEMA,
        id=uuid.UUID(int=random.SystemRandom().getrandbits(128), version=4).hex,
        label=label or default_label(machine),
        started=utc_now(),
        bench_version=bench.__version__,
        command=list(command),
        settings=request.as_settings(cores),
        machine=machine,
    )
    return Session(request, cases, suites, workloads, probes, cores, header, gpus, Progress(), [])


def _gpus(request: RunRequest) -> dict[int, str]:
    if request.gpu is None:
        return {}
    return {gpu.index: gpu.uuid for gpu in choose_gpus(request.gpu, present_gpus())}


def resume(path: Path) -> tuple[Session, RunLines]:
    """Take a run up again where its file ends.

    Raises:
        RunFileError: The file cannot be read.
        RequestError: This is another machine, or other workloads.
    """
    lines = read_lines(path)
    if "duet" in lines.header.settings:
        raise RequestError(f"--resume {path}: one side of a duet; make the duet anew")
    request = RunRequest.from_settings(lines.header.settings)
    session = prepare(request, lines.header.label, lines.header.command)
    _require_same_machine(lines.header, session.header)
    known = {case.key for case in session.cases}
    gone = [case.id for case in lines.cases if case.key not in known]
    if gone:
        raise RequestError(f"{path}: {gone[0]} does not exist here any more; start a new run")
    session.header = lines.header
    session.cases = lines.cases
    for block in lines.blocks:
        session.progress.add(block)
    for outcome in lines.outcomes:
        session.progress.add(outcome)
    for limit in lines.limits:
        session.progress.add(limit)
    session.workers = lines.workers
    return session, lines


def _require_same_machine(before: RunLine, now: RunLine) -> None:
    def identity(header: RunLine) -> dict[str, Any]:
        cpu = header.machine.get("cpu") or {}
        packages = header.machine.get("packages") or {}
        return {
            "CPU": cpu.get("model"),
            "cores": cpu.get("cores_allowed"),
            "GPUs": [gpu.get("name") for gpu in header.machine.get("gpus") or []],
            **{name: packages.get(name) for name in ("numpy", "torch", "cupy")},
        }

    old, new = identity(before), identity(now)
    for name, value in old.items():
        if new[name] != value:
            raise RequestError(
                f"--resume: the run was begun with {name} {value}, here it is {new[name]};"
                " start a new run"
            )


def utc_now() -> str:
    """Return the time as the run file writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
