"""A case between a worker's first word about it and its block: what is asked, what is kept."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from bench.measuring.sampling import Budget, relative_half_width
from bench.results.schema import BlockLine, CaseLine
from bench.running.worker_process import WorkerProcess
from bench.workload import Workload

DISTURBED_SHARE: Final = 1 / 3  # of the visits of a block, from which on it is called disturbed

_AS_REPLIED: Final = (
    "calls_per_sample",
    "warmup_calls",
    "first_call_seconds",
    "effective_batch",
    "relative_error",
    "peak_bytes",
    "energy_joules",
    "worked_seconds",
)


@dataclass
class Begun:
    """A case in the middle of a block."""

    case: CaseLine
    place: int
    drawn: Mapping[str, Any]
    worker: WorkerProcess
    reply: dict[str, Any]
    samples: list[float] = field(default_factory=list)
    visits: list[int] = field(default_factory=list)
    canary: list[float] = field(default_factory=list)
    request_seconds: list[float] = field(default_factory=list)
    serving_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    disturbed: list[str] = field(default_factory=list)

    @property
    def is_disturbed(self) -> bool:
        """Whether so many visits were disturbed that the block is."""
        return len(self.disturbed) >= DISTURBED_SHARE * len(self.visits)

    def keep(self, reply: Mapping[str, Any]) -> None:
        """Take in what a visit saw."""
        self.samples += reply["seconds"]
        self.visits.append(len(reply["seconds"]))
        self.canary.append(reply["canary"])
        self.request_seconds += reply.get("request_seconds", [])
        self.serving_seconds += reply.get("serving_seconds", 0.0)
        self.notes += [note for note in reply["notes"] if note not in self.notes]
        self.disturbed += reply["disturbances"][:1]

    def block_line(self, finished: Mapping[str, Any], block: int, precision: float) -> BlockLine:
        """Return its block, with what the worker said at last; `precision` as in `Budget`."""
        reply = {"energy_joules": None, **self.reply, **finished}
        notes = [*reply["notes"], *self.notes]
        if self.is_disturbed:
            notes.append(f"disturbed: {'; '.join(sorted(set(self.disturbed)))}")
        kind = self.drawn["reference"]["kind"]
        line = BlockLine(
            suite=self.case.suite,
            case=self.case.id,
            block=block,
            order=self.place,
            input_digest=self.drawn["digest"],
            verified="small" if self.case.drawn_batch and kind == "full" else kind,
            seconds=self.samples,
            visits=self.visits,
            canary=self.canary,
            request_seconds=self.request_seconds,
            serving_seconds=self.serving_seconds,
            host_seconds=reply.get("host_seconds", self.samples),
            device_seconds=reply.get("device_seconds", []),
            end_to_end_seconds=reply.get("end_to_end_seconds", []),
            notes=notes,
            unknown={**self.reply["unknown"], **reply.get("unknown_at_last", {})},
            **{name: reply[name] for name in _AS_REPLIED},
        )
        width = relative_half_width(line.quiet_seconds())
        if precision < width < math.inf:
            line.notes.append("imprecise")
        return line


def work_message(case: CaseLine, workload: Workload, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is computed, as bench.measuring.work.Work has it."""
    parameters = workload.parameters
    return {
        "dims": case.sizes,
        "dtype": case.dtype,
        "inputs": drawn["inputs"],
        "batch": case.batch if parameters else None,
        "drawn_batch": case.drawn_batch,
        "parameters": parameters(case.sizes) if parameters else 0,
    }


def begin_message(
    case: CaseLine,
    workload: Workload,
    drawn: Mapping[str, Any],
    budget: Budget,
    **order: Any,
) -> dict[str, Any]:
    """Return the message that begins a case; `order` completes bench.measuring.measure.Order."""
    phase = workload.phases[case.phase]
    return {
        "do": "begin",
        "case": name_of(case),
        "workload": case.workload,
        "phase": case.phase,
        "way": case.way,
        "order": {
            **work_message(case, workload, drawn),
            **{name: drawn[name] for name in ("decoy", "reference")},
            "budget": asdict(budget),
            "error_factor": phase.error_factor,
            "fresh_inputs": phase.fresh_inputs,
            "answers": phase.answers,
            "cold": case.is_cold,
            **order,
        },
    }


def name_of(case: CaseLine) -> str:
    """Return what a worker calls a case: two suites may have cases of the same id."""
    return "/".join(case.key)


def shortcut_of(case: CaseLine, workload: Workload) -> float:
    """Return by how much the fastest known algorithm needs fewer FLOPs than are counted."""
    shortcut = workload.phases[case.phase].shortcut
    return shortcut(case.sizes) if shortcut else 1.0
