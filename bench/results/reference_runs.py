"""The runs that come with bench: `reference:NAME` stands for one wherever a run file is taken."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import bench
from bench.errors import RequestError

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
    files = _files()
    if name not in files:
        raise RequestError(f"unknown reference run {name!r}; {_hint(name, list(files))}")
    return files[name]


def reference_runs() -> list[ReferenceRun]:
    """Return what there is, in the order of the names; only headers are read."""
    from bench.results.reading import read_header

    found = []
    for name, path in _files().items():
        header = read_header(path)
        suites = header.settings.get("suites")
        found.append(
            ReferenceRun(
                name=name,
                label=header.label,
                machine=_hardware(header.machine),
                date=header.started.partition("T")[0],
                suites=tuple(map(str, suites)) if isinstance(suites, list) else (),
            )
        )
    return found


def _files() -> dict[str, Path]:
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
