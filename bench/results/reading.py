"""Reads a run file, whoever wrote it: nothing in it is executed, everything is checked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.errors import RunFileError
from bench.results.schema import (
    SCHEMA,
    BlockLine,
    CaseLine,
    EndLine,
    Measurement,
    OutcomeLine,
    Run,
    RunLine,
    WorkerLine,
)

MOST_BYTES: Final = 2**30
KINDS: Final[dict[str, Any]] = {
    "run": RunLine,
    "case": CaseLine,
    "block": BlockLine,
    "outcome": OutcomeLine,
    "worker": WorkerLine,
    "measurement": Measurement,
    "end": EndLine,
}


class _Kind(msgspec.Struct):
    kind: str


class _Schema(msgspec.Struct):
    kind: str
    schema: int


@dataclass
class RunLines:
    """The lines of a file by kind, as they stand there."""

    header: RunLine
    cases: list[CaseLine] = field(default_factory=list)
    blocks: list[BlockLine] = field(default_factory=list)
    outcomes: list[OutcomeLine] = field(default_factory=list)
    workers: list[WorkerLine] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    end: EndLine | None = None
    cut: str | None = None
    """Where and how the file is cut short, if it is."""
    kept: list[bytes] = field(default_factory=list)
    """The lines that a resumed run keeps, to the byte."""


def read_run(path: str | Path) -> Run:
    """Read a run; what a killed run had measured is there, with a remark.

    Raises:
        RunFileError: The file cannot be read as a run.
    """
    from bench.results.summary import summarise

    lines = read_lines(Path(path))
    remarks = [lines.cut] if lines.cut else []
    known = {m.key for m in lines.measurements}
    rest = [case for case in lines.cases if case.key not in known]
    measurements = lines.measurements
    if rest:
        if not lines.cut:
            remarks.append(f"{path}: the run did not end; complete it with --resume")
        measurements = [
            *measurements,
            *summarise(rest, lines.blocks, lines.outcomes, "not reached: the run was ended"),
        ]
    return Run(
        lines.header,
        measurements,
        workers=lines.workers,
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
    content = _content(path)
    raw = content.split(b"\n")
    whole, last = raw[:-1], raw[-1]
    if not whole:
        whole, last = [last], b""
    lines = RunLines(_header(path, whole[0]))
    lines.kept.append(whole[0])
    seen: set[tuple[str, str, str]] = set()
    for number, text in enumerate(whole[1:], start=2):
        if text.strip():
            _take(path, number, text, lines, seen)
    if last:
        lines.cut = (
            f"{path}, line {len(whole) + 1}: cut short, as by a kill or a full disk; the"
            f" {len(whole)} lines before it are used; complete it with --resume"
        )
    return lines


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            problem = "is a folder" if path.is_dir() else "no such file"
            raise RunFileError(f"{path}: {problem}; give a file that bench run wrote")
        if path.stat().st_size > MOST_BYTES:
            raise RunFileError(f"{path}: larger than 1 GiB; no run is, give a run file")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunFileError(f"{str(path)!r}: cannot be read: {reason}") from error
    if not content.strip():
        raise RunFileError(f"{path}: empty; the run ended before it wrote anything, run it again")
    return content


def _header(path: Path, text: bytes) -> RunLine:
    try:
        found = msgspec.json.decode(text, type=_Schema)
    except (ValueError, RecursionError):
        found = None
    if found is None or found.kind != "run":
        raise RunFileError(f"{path}, line 1: not the header of a run; give a file of bench run")
    if found.schema > SCHEMA:
        raise RunFileError(
            f"{path}, line 1: schema {found.schema}, but this bench reads up to {SCHEMA};"
            " upgrade it: pip install -U nn-bench"
        )
    if found.schema < 1:
        raise RunFileError(f"{path}, line 1: schema {found.schema} does not exist; run it again")
    header: RunLine = _decode(path, 1, text, RunLine)
    return header


def _take(
    path: Path, number: int, text: bytes, lines: RunLines, seen: set[tuple[str, str, str]]
) -> None:
    kind = _decode(path, number, text, _Kind).kind
    if kind not in KINDS:
        return  # a later bench may have more to say; what this one knows stays valid
    line = _decode(path, number, text, KINDS[kind])
    match line:
        case RunLine():
            raise RunFileError(f"{path}, line {number}: a second header; split the file there")
        case EndLine():
            lines.end = line
            return
        case CaseLine() | Measurement():
            place = (kind, *line.key)
            if place in seen:
                raise RunFileError(
                    f"{path}, line {number}: {line.id} of suite {line.suite} stands there twice;"
                    " the file was put together from several: give them one by one"
                )
            seen.add(place)
    {
        CaseLine: lines.cases,
        BlockLine: lines.blocks,
        OutcomeLine: lines.outcomes,
        WorkerLine: lines.workers,
        Measurement: lines.measurements,
    }[type(line)].append(line)
    if not isinstance(line, Measurement):
        lines.kept.append(text)


def _decode(path: Path, number: int, text: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RunFileError(
            f"{path}, line {number}: {reason}; the file was changed or damaged: restore it, or"
            " remove that line"
        ) from error
