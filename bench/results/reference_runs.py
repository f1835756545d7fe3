"""The runs that come with bench: `reference:NAME` stands for one wherever a run file is taken."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import bench
from bench.errors import RequestError
from bench.results.schema import RunLine

PREFIX: Final = "reference:"
FOLDER = Path(bench.__file__).parent / "reference"


@dataclass(frozen=True, kw_only=True)
class ReferenceRun:
    """What the header of a reference run says."""

    name: str
    label: str
    machine: str
    """The GPUs and the CPU."""
    date: str
    suites: tuple[str, ...]


def resolve(path: str | Path) -> Path:
    """Return the file that `path` means: a reference run by its name, or else `path` itself.

    Raises:
        RequestError: There is no reference run of that name.
    """
    text = str(path)
    if not text.startswith(PREFIX):
        return Path(path)
    name = text.removeprefix(PREFIX)
    files = reference_files()
    if name not in files:
        raise RequestError(f"unknown reference run {name!r}; {_hint(name, list(files))}")
    return files[name]


def describe(name: str, header: RunLine) -> ReferenceRun:
    """Return what the header of the reference run `name` says."""
    suites = header.settings.get("suites")
    return ReferenceRun(
        name=name,
        label=header.label,
        machine=_hardware(header.machine),
        date=header.started.partition("T")[0],
        suites=tuple(map(str, suites)) if isinstance(suites, list) else (),
    )


def reference_files() -> dict[str, Path]:
    """Return the files by their names, in order."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.jsonl"))}


def _hint(name: str, known: list[str]) -> str:
    if not known:
        return "this bench comes with none: give a run file"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}known are: {', '.join(known)}"


def _hardware(machine: Mapping[str, Any]) -> str:
    gpus, cpu = machine.get("gpus"), machine.get("cpu")
    names = [g.get("name") for g in gpus if isinstance(g, dict)] if isinstance(gpus, list) else []
    counted = [f"{names.count(n)} x {n}" if names.count(n) > 1 else n for n in dict.fromkeys(names)]
    model = cpu.get("model") if isinstance(cpu, dict) else None
    return ", ".join(str(name) for name in (*counted, model) if name) or "unknown machine"
