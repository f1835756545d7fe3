"""Machines side by side: which of their measurements are the same work, and what each lacks.

A machine is a run. Of each it keeps what a comparison needs, and no samples.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from bench.results.schema import Interval, Measurement, Run, size_without_batch
from bench.results.summary import DIFFERENT_INPUTS

_PRECISION_FLAGS: Final = (
    "float32_matmul_precision",
    "matmul_allow_tf32",
    "cudnn_allow_tf32",
    "CUPY_TF32",
)
"""What a worker says about how precisely its library multiplies float32."""
_GPU_FLAGS: Final = frozenset({"matmul_allow_tf32", "cudnn_allow_tf32"})
"""Flags that say nothing of a CPU, although PyTorch has them everywhere."""
_OVERRIDE: Final = "NVIDIA_TF32_OVERRIDE"


class Piece(NamedTuple):
    """A piece of work by its name: what is computed, and under which load it is asked for."""

    suite: str
    work: str
    """The id without the backend: WORKLOAD/SIZE/PHASE/DTYPE."""
    is_cold: bool = False
    concurrency: int | None = None
    rate: float | None = None

    @property
    def dtype(self) -> str:
        """The last part of the id."""
        return self.work.rpartition("/")[2]

    @property
    def stem(self) -> "Piece":
        """The piece without its dtype."""
        return self._replace(work=self.work.rpartition("/")[0])

    @property
    def name(self) -> str:
        """Its name for people."""
        load = [
            "cold caches" if self.is_cold else "",
            f"concurrency {self.concurrency}" if (self.concurrency or 1) > 1 else "",
            f"{self.rate:g} requests/s" if self.rate else "",
        ]
        return ", ".join(filter(None, [self.work, *load]))


@dataclass(frozen=True, slots=True)
class Result:
    """What one backend, in one of its variants, took for a piece of work on a machine."""

    place: str
    backend: str
    device: str
    threads: int | None
    seconds: Interval
    workload: str
    network: str
    """The workload with the size, without the batch, such as `resnet50/imagenet`."""
    phase: str
    batch: int | None
    version: int
    digest: str | None
    flags: Mapping[str, Any]
    """The precision flags that apply to it."""
    energy_joules: float | None
    p99: Interval | None
    """The latency that 99% of requests stay below."""

    @property
    def samples_per_second(self) -> float | None:
        """The throughput at the median."""
        return self.batch / self.seconds.median if self.batch else None


@dataclass(frozen=True, slots=True)
class Machine:
    """One run: the results of each piece of work, and why others have none."""

    name: str
    """The label; with the start, or a number, where several runs have it."""
    label: str
    run_id: str
    started: str
    header: Mapping[str, Any]
    """What the run says of the machine."""
    settings: Mapping[str, Any]
    results: Mapping[Piece, Sequence[Result]]
    """The fastest first."""
    absent: Mapping[Piece, str]
    """Pieces that no backend has a number for, with a reason."""
    remarks: Sequence[str]
    position: int
    """Which of the files it was, from 0."""

    @property
    def gpus(self) -> list[Mapping[str, Any]]:
        """The descriptions of its GPUs."""
        listed = self.header.get("gpus")
        return [gpu for gpu in listed if isinstance(gpu, dict)] if isinstance(listed, list) else []

    def part(self, name: str) -> Mapping[str, Any]:
        """Return a group of the description; empty where the file says something else."""
        found = self.header.get(name)
        return found if isinstance(found, dict) else {}


@dataclass
class _Names:
    """Equal values become one object: hundreds of runs say the same."""

    known: dict[Any, Any] = field(default_factory=dict)

    def one(self, value: Any) -> Any:
        return self.known.setdefault(value, value)


def machines(runs: Iterable[Run]) -> list[Machine]:
    """Return each run as a machine with a name of its own, in an order that files cannot change.

    A run is let go as soon as it is taken in, so that an iterator needs little memory.
    """
    names = _Names()
    paths: dict[int, str] = {}
    found = []
    for position, run in enumerate(runs):
        paths[position] = run.path
        found.append(_machine(run, names, position))
    found.sort(key=lambda m: (m.label, m.started, m.run_id, paths[m.position]))
    return [
        replace(machine, name=name)
        for machine, name in zip(found, _unique_names(found), strict=True)
    ]


def _machine(run: Run, names: _Names, position: int) -> Machine:
    header = run.header
    flags = {backend: _flags(header.machine, backend) for backend in _libraries(header.machine)}
    results: dict[Piece, list[Result]] = {}
    absent: dict[Piece, str] = {}
    for m in run.measurements:
        piece = names.one(_piece(m))
        if m.status == "ok" and m.seconds is not None:
            results.setdefault(piece, []).append(_result(m, flags, names))
        elif m.status != "skipped" or piece not in absent:
            # A fault says more than a backend that is not there.
            absent[piece] = names.one(f"{m.status.replace('_', ' ')}: {m.reason or 'no reason'}")
    for same in results.values():
        same.sort(key=lambda result: (result.seconds.median, result.place))
    remarks = list(run.remarks)
    if run.end is not None and run.end.interrupted:
        remarks.append(f"ended before everything was measured: {run.end.interrupted}")
    return Machine(
        name=header.label or "no label",
        label=header.label or "no label",
        run_id=header.id,
        started=header.started,
        header=header.machine,
        settings=header.settings,
        results=results,
        absent={piece: why for piece, why in absent.items() if piece not in results},
        remarks=remarks,
        position=position,
    )


def _piece(m: Measurement) -> Piece:
    work, is_cold = m.work
    return Piece(m.suite, work, is_cold, m.concurrency, m.rate)


def _result(m: Measurement, flags: Mapping[str, Mapping[str, Any]], names: _Names) -> Result:
    assert m.seconds is not None
    # Blocks with different inputs are no two runs' same work.
    torn = m.input_digest is None and m.unknown.get("input_digest") == DIFFERENT_INPUTS
    size = size_without_batch(m)
    return Result(
        place=names.one(m.place),
        backend=names.one(m.backend),
        device=names.one(m.device),
        threads=m.threads,
        seconds=m.seconds,
        workload=names.one(m.workload),
        network=names.one(f"{m.workload}/{size}" if size else m.workload),
        phase=names.one(m.phase),
        batch=m.batch,
        version=m.workload_version,
        digest=DIFFERENT_INPUTS if torn else names.one(m.input_digest),
        flags=flags.get(m.backend, {}) if m.dtype == "float32" else {},
        energy_joules=m.energy_joules,
        p99=m.latency.p99 if m.latency else None,
    )


def _libraries(machine: Mapping[str, Any]) -> list[str]:
    found = machine.get("libraries")
    return list(found) if isinstance(found, dict) else []


def _flags(machine: Mapping[str, Any], backend: str) -> dict[str, Any]:
    """Return what is known of how precisely a backend multiplies float32."""
    described = machine["libraries"][backend]
    if not isinstance(described, dict):
        return {}
    on_gpu = "gpu" in described
    found = {
        name: str(described[name])
        for name in _PRECISION_FLAGS
        if described.get(name) is not None and (on_gpu or name not in _GPU_FLAGS)
    }
    environment = machine.get("environment")
    if on_gpu and isinstance(environment, dict):
        found[_OVERRIDE] = str(environment.get(_OVERRIDE, "not set"))
    return found


def _unique_names(found: Sequence[Machine]) -> Iterator[str]:
    """Yield a name for each: its label, if that is its own; else with the start, or a number."""
    labels = Counter(machine.label for machine in found)
    starts = Counter((machine.label, machine.started) for machine in found)
    taken = set(labels)
    for machine in found:
        if labels[machine.label] == 1:
            yield machine.label
            continue
        name = f"{machine.label} ({machine.started})"
        number = 1
        while name in taken or (number == 1 and starts[machine.label, machine.started] > 1):
            name = f"{machine.label} ({machine.started}, number {number})"
            number += 1
        taken.add(name)
        yield name


def why_void(one: Result, other: Result) -> str | None:
    """Say why two results of a piece of work must not be compared; None if they may be."""
    if one.version != other.version:
        return f"workload version {other.version} against {one.version}"
    if DIFFERENT_INPUTS in (one.digest, other.digest):
        return DIFFERENT_INPUTS
    if one.digest != other.digest:
        known = None not in (one.digest, other.digest)
        return "different inputs" if known else "inputs of which one is not known"
    for name, value in one.flags.items():
        if other.flags.get(name, value) != value:
            return f"precision: {name} {other.flags[name]} against {value}"
    return None
