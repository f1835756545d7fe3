"""The lines of a run file, as types.

Schema history:
1  2026-11-20  first version
"""

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

SCHEMA: Final = 1

STATUSES: Final = (
    "ok",
    "skipped",
    "wrong",
    "implausible",
    "unsynchronised",
    "out_of_memory",
    "timed_out",
    "crashed",
    "failed",
)
FAULTS: Final = frozenset(STATUSES) - {"ok", "skipped"}
"""Statuses that make `bench run` exit with 1."""

Status = Literal[
    "ok",
    "skipped",
    "wrong",
    "implausible",
    "unsynchronised",
    "out_of_memory",
    "timed_out",
    "crashed",
    "failed",
]
COLD: Final = "cache=cold"
"""The part of a variant that says that caches were emptied before each call."""

Positive = Annotated[float, Meta(gt=0, le=1e12)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Line(Struct, kw_only=True, tag_field="kind", omit_defaults=False):
    """A line of a run file; `kind` says which."""


class RunLine(Line, tag="run"):
    """The first line: which run this is, on which machine, with which settings."""

    schema: int
    id: str
    label: str
    started: str
    bench_version: str
    command: list[str]
    settings: dict[str, Any]
    machine: dict[str, Any]


class Layers(Struct, kw_only=True):
    """How many layers of a network a case stands for, and how many the network has in all."""

    count: Annotated[int, Meta(ge=1, le=10**6)]
    of: Annotated[int, Meta(ge=1, le=10**6)]


class CaseLine(Line, tag="case"):
    """A case that the run is going to measure, or the reason why it does not."""

    id: str
    suite: str
    workload: str
    workload_version: int
    size: str
    sizes: dict[str, int]
    phase: str
    dtype: str
    backend: str
    threads: Count
    device: str
    batch: Count | None = None
    variant: str | None = None
    gpu: Count | None = None
    """The index of the GPU, as nvidia-smi counts; null: the one that CUDA chose."""
    model: str | None = None
    """The user's own, as `--model` named it."""
    concurrency: Count | None = None
    """How many requests are under way at a time, in the latency suite."""
    rate: Positive | None = None
    """Requests per second that arrive at random moments; null: each follows an answer."""
    drawn_batch: Count | None = None
    """The samples that are drawn, of which the batch is so many repetitions; null: all of them."""
    flops: Count | None = None
    bytes_moved: Count | None = None
    networks: dict[str, Layers] = field(default_factory=dict)
    """The networks that it is a layer of."""
    includes: str | None = None
    """What the time of this library holds besides the operation, where readers would ask."""
    skipped: str | None = None
    """The reason why it is not measured, if it is not."""

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the case in a run."""
        return self.suite, self.id

    @property
    def way(self) -> str | None:
        """The workload's own variant: without what `bench` sets, such as `threads=1`."""
        ways = [name for name in (self.variant or "").split("+") if name and "=" not in name]
        return "+".join(ways) or None

    @property
    def is_cold(self) -> bool:
        """Whether the caches are emptied before each call."""
        return _is_cold(self.variant)

    @property
    def sweep(self) -> str:
        """The id without the batch: what its cases have in common."""
        return _without_batch(self)


class Block(Struct, kw_only=True):
    """What one fresh process measured for one case. Times are seconds of one call."""

    seconds: list[Positive]
    calls_per_sample: Annotated[int, Meta(ge=1)]
    warmup_calls: Count | None
    first_call_seconds: Positive | None
    order: Count
    """Place of the case in its block, from 0."""
    host_seconds: list[Positive] = field(default_factory=list)
    device_seconds: list[Positive] = field(default_factory=list)
    end_to_end_seconds: list[Positive] = field(default_factory=list)
    relative_error: Annotated[float, Meta(ge=0)] | None = None
    peak_bytes: Count | None = None
    energy_joules: Positive | None = None
    """What one call used, the device's idle power included."""
    worked_seconds: Annotated[float, Meta(ge=0)] = 0.0
    """Time spent in warm-up and timed calls."""
    pair: Count | None = None
    """The pair of a duet that it belongs to: the other run has a block of the same number."""
    effective_batch: Count | None = None
    """The samples that the output holds, as counted there."""
    request_seconds: list[Positive] = field(default_factory=list)
    """What each request took in the latency suite, from its arrival to the answer in host memory,
    in the order of arrival."""
    serving_seconds: Annotated[float, Meta(ge=0)] = 0.0
    """How long requests were served."""
    visits: list[Count] = field(default_factory=list)
    """How many of the samples each visit took, in the order of `seconds`."""
    canary: list[Positive] = field(default_factory=list)
    """What a fixed product took around each visit: the state of the machine at that moment."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Why a field is null, by the field's name."""
    notes: list[str] = field(default_factory=list)
    """What befell the block: `no_steady_state`, `disturbed`, `discarded: ...`."""

    def quiet_seconds(self) -> list[float]:
        """Return the samples of the quieter half of the visits, as the canary saw them.

        The choice is blind to the samples themselves. Without canaries they all count.
        """
        if len(self.canary) < 2 or len(self.canary) != len(self.visits):
            return self.seconds
        quietest = sorted(range(len(self.visits)), key=self.canary.__getitem__)
        return self.seconds_of(sorted(quietest[: (len(quietest) + 1) // 2]))

    def seconds_of(self, chosen: Sequence[int]) -> list[float]:
        """Return the samples of these visits."""
        ends = list(itertools.accumulate(self.visits))
        return [
            second
            for visit in chosen
            for second in self.seconds[ends[visit] - self.visits[visit] : ends[visit]]
        ]


class BlockLine(Block, Line, kw_only=True, tag_field="kind", tag="block"):
    """A block, as soon as it is measured."""

    suite: str
    case: str
    block: Count
    input_digest: str
    verified: str

    @property
    def key(self) -> tuple[str, str]:
        """Which case it belongs to."""
        return self.suite, self.case


class OutcomeLine(Line, tag="outcome"):
    """A case came to an end without a number: `status` says how, `reason` why."""

    suite: str
    case: str
    block: Count
    status: Status
    reason: str

    @property
    def key(self) -> tuple[str, str]:
        """Which case it belongs to."""
        return self.suite, self.case


class WorkerLine(Line, tag="worker"):
    """A worker that ended its block: the state of the machine as its canary saw it."""

    backend: str
    threads: Count
    block: Count
    canary: list[dict[str, float]]
    """Readings in seconds, at the start and at the end of the block."""
    layout: dict[str, int]
    """What was randomised in this process: the hash seed, the padding of the environment."""
    gpu: Count | None = None
    setup: str | None = None
    """What the process was opened with for good, such as cuDNN's tuner."""
    peaks: dict[str, float] = field(default_factory=dict)
    """The best rates of the device as this worker measured them, in the block that did: FLOP/s by
    dtype, `bytes` per second of its memory, and `call`, the seconds of a call that does next to
    nothing. Of a GPU also `link_bytes` per second and the seconds of the shortest `link_call`."""


class LimitLine(Line, tag="limit"):
    """Where a sweep over batches ends: the largest batch that fits, as searched for."""

    suite: str
    sweep: str
    """The id of its cases without the batch."""
    largest_batch: Count | None
    """The largest that was seen to fit; null if none did."""
    failing_batch: Count | None
    """The smallest that was seen not to fit; null if the search ended before memory did."""
    reason: str
    """Why it ends there: what the memory said, or why the search went no further."""

    @property
    def key(self) -> tuple[str, str]:
        """Which sweep it belongs to."""
        return self.suite, self.sweep


class Interval(Struct, kw_only=True):
    """A median with the 95% interval of what a repeat of the whole run would print."""

    median: Positive
    low: Positive | None
    high: Positive | None
    min: Positive


class Latency(Struct, kw_only=True):
    """What a service's clients see: percentiles of `request_seconds` over all blocks, in seconds.

    A percentile that too few requests tell is null; `Measurement.unknown` has the reason under its
    name, such as `latency.p999`.
    """

    requests: Count
    p50: Interval | None
    p90: Interval | None
    p99: Interval | None
    p999: Interval | None
    jitter: Interval | None
    """The mean difference between one request and the next (RFC 3550, 6.4.1, unsmoothed)."""
    requests_per_second: Interval | None
    """Answers per second of serving."""


class Measurement(Line, tag="measurement"):
    """One case of a run: its identity, its status, its blocks and what follows from them."""

    id: str
    suite: str
    workload: str
    workload_version: int
    sizes: dict[str, int]
    phase: str
    dtype: str
    backend: str
    threads: Count | None
    device: str
    status: Status
    size: str = ""
    batch: Count | None = None
    variant: str | None = None
    gpu: Count | None = None
    model: str | None = None
    concurrency: Count | None = None
    rate: Positive | None = None
    drawn_batch: Count | None = None
    reason: str | None = None
    flops: Count | None = None
    bytes_moved: Count | None = None
    networks: dict[str, Layers] = field(default_factory=dict)
    includes: str | None = None
    input_digest: str | None = None
    verified: str | None = None
    relative_error: Annotated[float, Meta(ge=0)] | None = None
    blocks: list[Block] = field(default_factory=list)
    seconds: Interval | None = None
    host_seconds: Interval | None = None
    device_seconds: Interval | None = None
    end_to_end_seconds: Interval | None = None
    latency: Latency | None = None
    effective_batch: Count | None = None
    peak_bytes: Count | None = None
    energy_joules: Positive | None = None
    flags: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    """Why a field is null, by the field's name."""

    metrics: ClassVar[tuple[str, ...]] = (
        "seconds",
        "host_seconds",
        "device_seconds",
        "end_to_end_seconds",
    )

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the measurement in a run."""
        return self.suite, self.id

    @property
    def is_cold(self) -> bool:
        """Whether the caches were emptied before each call."""
        return _is_cold(self.variant)

    @property
    def work(self) -> tuple[str, bool]:
        """The id without the backend, and whether caches were cold: what is compared."""
        return self.id.rpartition("/")[0], self.is_cold

    @property
    def sweep(self) -> str:
        """The id without the batch: what its cases have in common."""
        return _without_batch(self)

    @property
    def place(self) -> str:
        """The backend with its variant: the last part of the id."""
        return self.id.rpartition("/")[2]

    @property
    def samples_per_second(self) -> float | None:
        """The rate at the median, or None where there is no batch or no time."""
        if self.seconds is None or not self.batch:
            return None
        return self.batch / self.seconds.median

    @property
    def flops_per_second(self) -> float | None:
        """The rate at the median, or None where either is unknown."""
        if self.seconds is None or self.flops is None:
            return None
        return self.flops / self.seconds.median

    @property
    def bytes_per_second(self) -> float | None:
        """The traffic at the median, or None where either is unknown."""
        if self.seconds is None or self.bytes_moved is None:
            return None
        return self.bytes_moved / self.seconds.median


def _is_cold(variant: str | None) -> bool:
    return COLD in (variant or "").split("+")


def size_without_batch(case: CaseLine | Measurement) -> str:
    """Return the size as its id has it, but for the batch."""
    return ",".join(part for part in case.size.split(",") if part != f"batch={case.batch}")


def _without_batch(case: CaseLine | Measurement) -> str:
    """Return WORKLOAD/SIZE/PHASE/DTYPE/BACKEND with a size that names no batch."""
    rest = case.id.removeprefix(f"{case.workload}/{case.size}/")
    return "/".join(part for part in (case.workload, size_without_batch(case), rest) if part)


class EndLine(Line, tag="end"):
    """The last line of a run that was not killed."""

    finished: str
    counts: dict[str, int]
    wall_seconds: float | UnsetType = UNSET
    interrupted: str | None = None
    """Why it ended before everything was measured, if it did."""


class Run:
    """A run as read from its file: the header, the measurements, remarks about the file."""

    def __init__(
        self,
        header: RunLine,
        measurements: list[Measurement],
        *,
        workers: list[WorkerLine] | None = None,
        limits: list[LimitLine] | None = None,
        end: EndLine | None = None,
        remarks: list[str] | None = None,
        path: str = "",
    ) -> None:
        self.header = header
        self.measurements = measurements
        self.workers = workers or []
        self.limits = limits or []
        self.end = end
        self.remarks = remarks or []
        self.path = path

    def faults(self) -> list[Measurement]:
        """Return what went wrong; that memory ends a sweep did not."""
        ends = {limit.key for limit in self.limits if limit.failing_batch is not None}
        return [
            m
            for m in self.measurements
            if m.status in FAULTS
            and not (m.status == "out_of_memory" and (m.suite, m.sweep) in ends)
        ]
