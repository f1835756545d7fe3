"""Reads a run file, whoever wrote it: nothing in it is executed, everything is checked."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, get_args

import msgspec

from bench.errors import RunFileError
from bench.results.schema import (
    SCHEMA,
    Block,
    BlockLine,
    CaseLine,
    EndLine,
    Latency,
    LimitLine,
    Measurement,
    OutcomeLine,
    Run,
    RunLine,
    WorkerLine,
)
from bench.text import plain

MOST_BYTES: Final = 2**29
MOST_LINE_BYTES: Final = 2**26
"""A thousand blocks of 400 samples are half of it."""

LONGEST_NAME: Final = 1000
LARGEST_COUNT: Final = 2**63 - 1
DEEPEST: Final = 50
"""Levels of `machine` and `settings`, so that whoever walks through them need not count."""

_Known = (
    RunLine | CaseLine | BlockLine | OutcomeLine | LimitLine | WorkerLine | Measurement | EndLine
)
_KNOWN: Final = msgspec.json.Decoder(_Known)
KINDS: Final = {str(kind.__struct_config__.tag): kind for kind in get_args(_Known)}
"""The type of a line by its `kind`."""


class _Kind(msgspec.Struct):
    kind: str


class _Schema(msgspec.Struct):
    schema: int


@dataclass
class RunLines:
    """The lines of a file by kind, as they stand there."""

    header: RunLine
    cases: list[CaseLine] = field(default_factory=list)
    blocks: list[BlockLine] = field(default_factory=list)
    outcomes: list[OutcomeLine] = field(default_factory=list)
    workers: list[WorkerLine] = field(default_factory=list)
    limits: list[LimitLine] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    end: EndLine | None = None
    cut: str | None = None
    """Where and how the file is cut short, if it is."""
    kept: list[bytes] = field(default_factory=list)
    """The lines that a resumed run keeps, to the byte."""


def read_run(path: str | Path) -> Run:
    """Read a run; what a killed run had measured is there, with a remark.

    `reference:NAME` is one that comes with bench.

    Raises:
        RunFileError: The file cannot be read as a run.
        RequestError: There is no such reference run.
    """
    from bench.results.reference_runs import resolve
    from bench.results.summary import summarise

    path = resolve(path)
    name = plain(str(path))
    lines = read_lines(path)
    remarks = [lines.cut] if lines.cut else []
    known = {m.key for m in lines.measurements}
    measurements = lines.measurements
    if not known.issuperset(case.key for case in lines.cases):
        # All cases together, so that the intervals are those that the run itself would give.
        found = summarise(
            lines.cases, lines.blocks, lines.outcomes, "not reached: the run was ended"
        )
        missing = [m for m in found if m.key not in known]
        measurements = [*measurements, *missing]
        if lines.end is not None:
            remarks.append(f"{name}: {len(missing)} measurement lines were removed")
        elif not lines.cut:
            remarks.append(f"{name}: the run did not end; complete it with --resume")
    elif not measurements and lines.end is None and not lines.cut:
        remarks.append(f"{name}: the run ended before it had a case; run it again")
    known |= {case.key for case in lines.cases}
    strangers = {b.key for b in lines.blocks} | {o.key for o in lines.outcomes}
    strangers -= known
    if strangers:
        case = _brief(min(strangers)[1])
        remarks.append(
            f"{name}: left out what belongs to no case of the file: {case}"
            + (f" and {len(strangers) - 1} more" if len(strangers) > 1 else "")
        )
    return Run(
        lines.header,
        measurements,
        workers=lines.workers,
        limits=lines.limits,
        end=lines.end,
        remarks=remarks,
        path=str(path),
    )


def read_lines(path: Path) -> RunLines:
    """Read every line of `path`; the last one may be cut short, as a kill leaves it.

    Raises:
        RunFileError: It cannot be opened, is not a run, is of another schema, or holds a line
            that is not valid.
    """
    name = plain(str(path))
    lines: RunLines | None = None
    seen: set[tuple[object, ...]] = set()
    for number, raw in enumerate(_lines(path), start=1):
        text = raw.removesuffix(b"\n")
        if not text.strip():
            continue
        where = f"{name}, line {number}"
        if lines is None:
            lines = RunLines(_header(where, text), kept=[text])
        elif not raw.endswith(b"\n") and not _is_json(text):
            lines.cut = (
                f"{where}: cut short, as by a kill or a full disk; the {number - 1} lines before it"
                " are used; complete it with --resume"
            )
        else:
            _take(where, text, lines, seen)
    if lines is None:
        raise RunFileError(f"{name}: empty; the run ended before it wrote anything, run it again")
    return lines


def read_header(path: Path) -> RunLine:
    """Read the first line of a run file alone.

    Raises:
        RunFileError: It is not the header of a run.
    """
    name = plain(str(path))
    for raw in _lines(path):
        return _header(f"{name}, line 1", raw.removesuffix(b"\n"))
    raise RunFileError(f"{name}: empty; the run ended before it wrote anything, run it again")


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines that stand in the file now, each with its end."""
    name = plain(str(path))
    try:
        if not path.is_file():
            problem = "is a folder" if path.is_dir() else "no such file"
            if path.exists() and not path.is_dir():
                problem = "not a regular file, copy it to one first"
            raise RunFileError(f"{name}: {problem}; give a file that bench run wrote")
        with path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size
            if left > MOST_BYTES:
                raise RunFileError(f"{name}: larger than 512 MiB; no run is, give a run file")
            number = 0
            # Up to the size at the beginning only: the run may still be going on.
            while text := file.readline(min(left, MOST_LINE_BYTES + 1)):
                number += 1
                if len(text) > MOST_LINE_BYTES:
                    _refuse(f"{name}, line {number}", "longer than 64 MiB")
                left -= len(text)
                yield text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunFileError(f"{name}: cannot be read: {reason}; give another file") from error


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    except RecursionError:
        pass  # whoever takes the line in says so
    return True


def _header(where: str, text: bytes) -> RunLine:
    kind = ""
    try:
        kind = msgspec.json.decode(text, type=_Kind).kind
    except RecursionError:
        _refuse(where, "nested too deeply")
    except ValueError:
        if text.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise RunFileError(
                f"{where}: UTF-16, as PowerShell's > writes; save it as UTF-8, or write it with"
                " bench run --output FILE"
            ) from None
        if text.startswith(b'{"kind":"run"') and not _is_json(text):
            raise RunFileError(
                f"{where}: the header is cut short; nothing was measured yet, run it again"
            ) from None
    if kind != "run":
        raise RunFileError(f"{where}: not the header of a run; give a file that bench run wrote")
    schema = _decode(where, text, msgspec.json.Decoder(_Schema)).schema
    if schema > SCHEMA:
        raise RunFileError(
            f"{where}: schema {_brief(str(schema))}, but this bench reads up to {SCHEMA};"
            " upgrade it: pip install -U nn-bench"
        )
    if schema < 1:
        raise RunFileError(f"{where}: a schema below 1 does not exist; run it again")
    header: RunLine = _decode(where, text, msgspec.json.Decoder(RunLine))
    if not (_is_shallow(header.machine) and _is_shallow(header.settings)):
        _refuse(where, "nested too deeply")
    return header


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return not level


def _take(where: str, text: bytes, lines: RunLines, seen: set[tuple[object, ...]]) -> None:
    try:
        line = _KNOWN.decode(text)
    except (ValueError, RecursionError) as error:
        if _decode(where, text, msgspec.json.Decoder(_Kind)).kind in KINDS:
            _refuse(where, error)
        # A later bench may have more to say; what this one knows stays valid.
        lines.kept.append(text)
        return
    match line:
        case CaseLine():
            _require_identity(where, line)
            _require_once(where, line, seen, "case")
            lines.cases.append(line)
        case BlockLine():
            _require_once(where, line, seen, line.block)
            _require_samples(where, line)
            lines.blocks.append(line)
        case Measurement():
            _require_identity(where, line)
            _require_once(where, line, seen, "measurement")
            _require_sound(where, line)
            line.size = line.size or _size(line)
            lines.measurements.append(line)
            return
        case OutcomeLine():
            lines.outcomes.append(line)
        case WorkerLine():
            lines.workers.append(line)
        case LimitLine():
            lines.limits.append(line)
        case EndLine():
            lines.end = line
            return
        case RunLine():
            raise RunFileError(f"{where}: a second header; split the file there")
    lines.kept.append(text)


def _require_once(
    where: str,
    line: CaseLine | BlockLine | Measurement,
    seen: set[tuple[object, ...]],
    role: object,
) -> None:
    place = (role, *line.key)
    if place in seen:
        suite, case = map(_brief, line.key)
        raise RunFileError(
            f"{where}: {case} of suite {suite} stands there twice; the file was put together from"
            " several: give them one by one"
        )
    seen.add(place)


def _require_identity(where: str, line: CaseLine | Measurement) -> None:
    for name in ("id", "suite", "size"):
        if len(getattr(line, name)) > LONGEST_NAME:
            _refuse(where, f"`{name}` has more than {LONGEST_NAME} characters")
    if any(len(name) > LONGEST_NAME for name in line.networks):
        _refuse(where, f"a name in `networks` has more than {LONGEST_NAME} characters")
    for value in (line.workload_version, *line.sizes.values()):
        if not 0 <= value <= LARGEST_COUNT:
            _refuse(where, "a size or version is negative or too large")


def _require_samples(where: str, block: Block) -> None:
    if not block.seconds:
        _refuse(where, "a block without samples")


def _require_sound(where: str, line: Measurement) -> None:
    for block in line.blocks:
        _require_samples(where, block)
    if line.status == "ok" and line.seconds is None:
        _refuse(where, "status ok, but no `seconds`")
    named = {name: getattr(line, name) for name in Measurement.metrics}
    if line.latency is not None:
        told = (name for name in Latency.__struct_fields__ if name != "requests")
        named |= {f"latency.{name}": getattr(line.latency, name) for name in told}
    for name, interval in named.items():
        if interval is None:
            continue
        ordered = interval.min <= interval.median
        if interval.low is not None and interval.high is not None:
            ordered = ordered and interval.low <= interval.median <= interval.high
        elif interval.low is not interval.high:
            ordered = False
        if not ordered:
            _refuse(where, f"`{name}` is no interval around its median")


def _size(line: Measurement) -> str:
    """Return the size as it stands in the id, WORKLOAD/SIZE/PHASE/DTYPE/BACKEND."""
    parts = line.id.split("/")
    return "/".join(parts[1:-3]) or _dimensions(line.sizes)


def _dimensions(sizes: Mapping[str, int]) -> str:
    return ",".join(f"{name}={value}" for name, value in sizes.items())


def _decode(where: str, text: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(text)
    except (ValueError, RecursionError) as error:
        _refuse(where, error)


def _refuse(where: str, problem: str | Exception) -> NoReturn:
    shown = "nested too deeply" if isinstance(problem, RecursionError) else _brief(str(problem))
    raise RunFileError(
        f"{where}: {shown}; the file was changed or damaged: restore it, or remove that line"
    ) from (problem if isinstance(problem, Exception) else None)


def _brief(text: str) -> str:
    """Return what fits into a message; the end says where a fault is, so it stays."""
    return plain(text if len(text) <= 200 else f"{text[:100]} ... {text[-60:]}")
