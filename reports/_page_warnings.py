"""What a reader has to know before believing a run: warnings, each with what it is about."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench import fitness
from bench.report import Request
from bench.results.schema import FAULTS, Measurement, Run

from . import _summary

_PRECISION: Final = {
    "CUPY_TF32": "1",
    "matmul_allow_tf32": True,
    "cudnn_allow_tf32": True,
    "float32_matmul_precision": ("high", "medium"),
}
"""What a library says of itself when its float32 is not float32."""

_BEFALLEN: Final = {
    "disturbed": "something else took the cores, or the GPU slowed down, even when repeated",
    "imprecise": "their samples spread more widely than the preset asks for",
    "no_steady_state": "warming up did not bring them to a steady speed",
    "nonlinear": "two calls do not take twice the time of one",
    "untried": "nobody has tried this backend yet",
}
"""Flags that weaken a number, with what they mean."""


@dataclass(frozen=True)
class Warned:
    """A warning; `items` names the cases or the reasons."""

    subject: str
    text: str
    items: Sequence[str] = ()


def warnings(run: Run, request: Request) -> list[Warned]:
    """Return the warnings of a run, the gravest first."""
    asked = request.measurements(run)
    return [
        *_ended(run),
        *_unmeasured(run, request, faults=True),
        *_throttled(asked),
        *_machine(run.header.machine),
        *_reduced_precision(run.header.machine, asked),
        *_few_blocks(run, asked),
        *_befallen(asked),
        *_unmeasured(run, request, faults=False),
    ]


def _ended(run: Run) -> Iterator[Warned]:
    if run.end is not None and run.end.interrupted:
        yield Warned("Not finished", f"ended before everything was measured: {run.end.interrupted}")
    for remark in run.remarks:
        yield Warned("Run file", remark)


def _unmeasured(run: Run, request: Request, *, faults: bool) -> Iterator[Warned]:
    names = {_summary.status(name) for name in FAULTS}
    found = [u for u in _summary.unmeasured(run, request) if (u.status in names) == faults]
    if not found:
        return
    skipped = sum(m.status == "skipped" for m in request.measurements(run))
    count = len(found) if faults else skipped
    subject = "Failed" if faults else "Not measured"
    text = f"{_cases(count)} without a number" + ("" if faults else ", each for a stated reason")
    yield Warned(subject, text, [item for u in found for item in _named(u)])


def _named(what: _summary.Unmeasured) -> list[str]:
    of = f" ({_cases(len(what.cases))}: {', '.join(what.cases)})" if what.cases else ""
    return [f"{what.who}: {what.status}{of}: {what.reason}"]


def _throttled(asked: Sequence[Measurement]) -> Iterator[Warned]:
    """Tell of a GPU that was too hot or short of power, or a CPU whose quota was used up."""
    kept: dict[str, set[tuple[str, str]]] = {}
    discarded: Counter[str] = Counter()
    for m in asked:
        for note in (note for block in m.blocks for note in block.notes):
            kind, _, reasons = note.partition(": ")
            for reason in reasons.split("; "):
                if "throttled" not in reason and "quota stopped" not in reason:
                    continue
                if kind == "discarded":
                    discarded[reason] += 1
                elif kind == "disturbed":
                    kept.setdefault(reason, set()).add(m.key)
    if kept:
        items = [f"{reason}: {_cases(len(keys))}" for reason, keys in sorted(kept.items())]
        yield Warned("Throttled", "the device was slowed down while these were measured", items)
    if discarded:
        items = [f"{reason}: {count} times" for reason, count in sorted(discarded.items())]
        yield Warned("Throttled now and then", "what was measured then was measured again", items)


def _machine(machine: Mapping[str, Any]) -> Iterator[Warned]:
    """Judge the machine as `bench doctor` does; a file may describe it in any way."""
    try:
        found = fitness.check(machine)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        yield Warned("Machine", "its description is not one that bench writes: nothing can be said")
        return
    for finding in found:
        # A run was made, so NumPy was there, whatever the file leaves out.
        if finding.level != "ok" and finding.subject != "NumPy":
            remedy = [f"before the next run: {finding.remedy}"] if finding.remedy else []
            yield Warned(finding.subject, finding.what, remedy)


def _reduced_precision(
    machine: Mapping[str, Any], asked: Sequence[Measurement]
) -> Iterator[Warned]:
    libraries = machine.get("libraries")
    for name, said in (libraries if isinstance(libraries, dict) else {}).items():
        for flag, reduced in _PRECISION.items():
            value = said.get(flag) if isinstance(said, dict) else None
            if value is not None and (value == reduced or value in _all(reduced)):
                yield Warned("TF32 on", f"{name} says {flag} = {value}: its float32 is rounded")
    places = Counter(m.place for m in asked if m.dtype == "tf32" and m.status == "ok")
    if places:
        yield Warned(
            "TF32 on",
            f"{_cases(sum(places.values()))} in tf32 round what they multiply to 11 bits; they are"
            " compared with the CPU's float32",
            [f"{place}: {_cases(count)}" for place, count in sorted(places.items())],
        )


def _all(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()


def _few_blocks(run: Run, asked: Sequence[Measurement]) -> Iterator[Warned]:
    if run.header.settings.get("preset") == "quick":
        yield Warned("Quick preset", "for a first look: few blocks, so the intervals are wide")
    single = [m for m in asked if m.seconds and m.seconds.low is None]
    if single:
        timed = sum(m.seconds is not None for m in asked)
        yield Warned(
            "One block only",
            f"{len(single)} of {_cases(timed)} ran in one process only: no interval is known, and a"
            " repeat may differ",
        )


def _befallen(asked: Sequence[Measurement]) -> Iterator[Warned]:
    timed = [m for m in asked if m.seconds is not None]
    for flag, meaning in _BEFALLEN.items():
        found = [m for m in timed if flag in m.flags]
        if found:
            places = Counter(m.place for m in found)
            yield Warned(
                _summary.status(flag).capitalize(),
                f"{len(found)} of {_cases(len(timed))}: {meaning}",
                [f"{place}: {_cases(count)}" for place, count in sorted(places.items())],
            )


def _cases(count: int) -> str:
    return f"{count} case{'s' * (count != 1)}"
