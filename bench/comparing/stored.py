"""Stored runs of one machine against each other: what a gate may say without measuring again.

A machine drifts more from run to run than within one, and a single baseline cannot tell how much:
below five baselines a change counts only beyond an allowance for drift. With five or more the
spread between them is what a new run is judged by.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bench.comparing.machines import Machine, Result, machines, why_void
from bench.comparing.remarks import remarks
from bench.comparing.side_by_side import compare
from bench.comparing.verdicts import Key
from bench.results.intervals import Spread, median_variance, shrink
from bench.results.schema import Run

ENOUGH_BASELINES: Final = 5
"""So many runs tell how far a machine drifts between them."""

LEAST_SPREAD: Final = 1e-6
"""Times that agree better than this do so because a clock's ticks are coarse."""

_NOTHING: Final[Sequence[Any]] = (None, [], "")
"""What a file says where it does not know."""


@dataclass(frozen=True)
class Stored:
    """What a gate keeps of a run: the logarithm of each block's median, and no samples."""

    machine: Machine
    blocks: Mapping[Key, Sequence[float]]
    results: Mapping[Key, Result]
    canaries: Mapping[Key, float]
    """The logarithm of what a fixed product took around the case: the state of the machine."""
    disturbed: frozenset[Key]
    """Cases in whose every block others were on the cores."""
    unmeasured: Mapping[Key, str]
    """Cases without a number, with the reason."""

    def center(self, key: Key) -> float:
        """Return the logarithm of the case's time."""
        return statistics.median(self.blocks[key])


@dataclass(frozen=True)
class Evidence:
    """How a case's time compares with its baselines; logarithms."""

    change: float
    error: float | None
    """The standard error of `change`; None where one block each tells none."""
    freedom: float
    allowance: float
    """What the machine's drift may add to a change, unseen."""
    baselines: int
    is_disturbed: bool
    """Whether others were on the cores, on either side."""
    base_seconds: float
    head_seconds: float


@dataclass(frozen=True)
class Paired:
    """What of a run may be held against its baselines."""

    evidence: Mapping[Key, Evidence]
    missing: Mapping[Key, str]
    unjudged: Mapping[Key, str]


def stored(run: Run) -> Stored:
    """Take in a run."""
    machine = machines([run])[0]
    blocks, canaries, disturbed = {}, {}, set()
    for m in run.measurements:
        if m.status != "ok" or m.seconds is None:
            continue
        # Which blocks count is told by what befell them, never by their times.
        quiet = [b for b in m.blocks if not any(n.startswith("disturbed") for n in b.notes)]
        counted = [b for b in quiet or m.blocks if b.quiet_seconds()]
        medians = [statistics.median(b.quiet_seconds()) for b in counted]
        # A file may come without its samples; what they came to is one block then.
        blocks[m.key] = [math.log(value) for value in medians or [m.seconds.median]]
        readings = [statistics.median(b.canary) for b in counted if b.canary]
        if readings:
            canaries[m.key] = math.log(statistics.median(readings))
        if m.blocks and not quiet:
            disturbed.add(m.key)
    results = {
        (piece.suite, f"{piece.work}/{result.place}"): result
        for piece, found in machine.results.items()
        for result in found
    }
    unmeasured = {
        m.key: f"{m.status.replace('_', ' ')}: {m.reason or 'no reason'}"
        for m in run.measurements
        if m.key not in blocks
    }
    return Stored(machine, blocks, results, canaries, frozenset(disturbed), unmeasured)


def why_other_machine(head: Machine, base: Machine) -> str | None:
    """Say why two runs come from machines that must not be compared; None if they may be."""
    told: list[tuple[str, Any, Any]] = [
        (name, head.part("cpu").get(key), base.part("cpu").get(key))
        for name, key in (
            ("CPU", "model"),
            ("cores", "cores_allowed"),
            ("threads", "threads_allowed"),
            ("ISA", "isa"),
        )
    ]
    libraries = head.part("libraries"), base.part("libraries")
    for backend in sorted(set(libraries[0]) & set(libraries[1])):
        own, other = (_isa(library[backend]) for library in libraries)
        told.append((f"ISA of {backend}", own, other))
    for name, own, other in told:
        if own not in _NOTHING and other not in _NOTHING and own != other:
            return f"another machine: {name} {_listed(own)} against {_listed(other)}"
    return None


def _isa(library: Any) -> str:
    """Return which kernels a library has chosen, as far as it tells."""
    if not isinstance(library, Mapping):
        return ""
    pools = library.get("threadpools")
    chosen = {
        str(pool["architecture"])
        for pool in (pools if isinstance(pools, list) else [])
        if isinstance(pool, Mapping) and pool.get("architecture")
    }
    return " ".join(filter(None, [str(library.get("isa") or ""), *sorted(chosen)]))


def _listed(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def why_not_comparable(
    head: Stored, base: Stored, key: Key, *, side_by_side: bool = False
) -> str | None:
    """Say why a case of two runs must not be compared.

    Runs that were measured `side_by_side` saw the same GPU, whatever it is called.
    """
    own, other = head.results[key], base.results[key]
    void = why_void(other, own)
    if void:
        return void
    if own.threads != other.threads and None not in (own.threads, other.threads):
        return f"{own.threads} threads against {other.threads}"
    if own.device != "cpu" and not side_by_side:
        names = [
            ", ".join(sorted(str(gpu.get("name")) for gpu in run.machine.gpus))
            for run in (head, base)
        ]
        if names[0] != names[1]:
            return f"another machine: GPU {names[0] or 'unknown'} against {names[1] or 'unknown'}"
    return None


def pair_cases(head: Stored, bases: Sequence[Stored], drift: float) -> Paired:
    """Set each case of the baselines beside the same case of the new run.

    `drift` is the share that the machine may drift between runs, unseen.
    """
    comparable: dict[Key, list[Stored]] = {}
    missing: dict[Key, str] = {}
    unjudged: dict[Key, str] = {}
    for base in bases:
        for key in base.blocks:
            if key not in head.blocks:
                missing[key] = head.unmeasured.get(key, "not in the run")
                continue
            void = why_not_comparable(head, base, key)
            if void:
                unjudged.setdefault(key, f"void: {void}")
            else:
                comparable.setdefault(key, []).append(base)
    known = {key for base in bases for key in base.blocks}
    if bases:
        unjudged |= {key: _why_new(key, bases) for key in head.blocks if key not in known}
    spreads = _block_spreads(head, comparable)
    evidence = {
        key: _evidence(key, head, found, spreads.get(key), math.log1p(drift))
        for key, found in comparable.items()
    }
    unjudged = {key: why for key, why in unjudged.items() if key not in evidence}
    return Paired(evidence, missing, unjudged)


def _why_new(key: Key, bases: Sequence[Stored]) -> str:
    reasons = (base.unmeasured[key] for base in bases if key in base.unmeasured)
    return f"base: {next(reasons, 'not in the run')}"


def _block_spreads(head: Stored, comparable: Mapping[Key, Sequence[Stored]]) -> dict[Key, Spread]:
    """Return how far blocks of one run lie apart, by case; the cases lend to each other."""
    spreads = {}
    for key, bases in comparable.items():
        runs = [run.blocks[key] for run in (head, *bases) if len(run.blocks[key]) > 1]
        freedom = sum(len(blocks) - 1 for blocks in runs)
        if freedom:
            squares = math.fsum((len(b) - 1) * statistics.variance(b) for b in runs)
            spreads[key] = Spread(squares / freedom, freedom)
    return dict(zip(spreads, shrink(list(spreads.values())), strict=True))


def _evidence(
    key: Key, head: Stored, bases: Sequence[Stored], spread: Spread | None, drift: float
) -> Evidence:
    centers = sorted(base.center(key) for base in bases)
    center = statistics.fmean(centers)
    change = head.center(key) - center
    apart = statistics.stdev(centers) if len(centers) > 1 else 0.0
    is_enough = len(centers) >= ENOUGH_BASELINES
    moved = _canary_change(key, head, bases)
    error: float | None = None
    freedom = 0.0
    if is_enough:
        error = max(apart, LEAST_SPREAD) * math.sqrt(1 + 1 / len(centers))
        freedom = len(centers) - 1
        allowance = moved if moved > drift else 0.0
    else:
        # Two standard deviations of so few baselines are a guess, but a better one than none.
        allowance = max(drift, 2 * apart, moved)
        if spread is not None:
            shares = sum(median_variance(len(b.blocks[key])) for b in bases) / len(bases) ** 2
            shares += median_variance(len(head.blocks[key]))
            error = max(math.sqrt(spread.variance * shares), LEAST_SPREAD)
            freedom = spread.freedom
    return Evidence(
        change,
        error,
        freedom,
        allowance,
        len(centers),
        key in head.disturbed or (not is_enough and any(key in b.disturbed for b in bases)),
        base_seconds=math.exp(center),
        head_seconds=math.exp(head.center(key)),
    )


def _canary_change(key: Key, head: Stored, bases: Sequence[Stored]) -> float:
    """Return by how much the machine itself was another one, as far as its canaries tell."""
    found = [base.canaries[key] for base in bases if key in base.canaries]
    if not found or key not in head.canaries:
        return 0.0
    return abs(head.canaries[key] - statistics.median(found))


def differences(head: Stored, base: Stored) -> list[str]:
    """Say what differs between the two sides besides the times, and may be why they differ."""
    sides = [
        replace(side.machine, name=name, label=name, run_id=name)
        for name, side in (("base", base), ("head", head))
    ]
    return [
        remark
        for remark in remarks(compare(sides, sides[0]))
        if "no run has a digest" not in remark
    ]
