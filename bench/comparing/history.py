"""A store of runs as a history: each machine by itself, its runs in the order of time.

Numbers of two machines are never joined, nor those of another workload version, other inputs,
threads or precision. What changes besides the code, such as a library, is marked where it changes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.comparing.machines import Machine, Result
from bench.comparing.stored import Stored, stored, why_not_comparable, why_other_machine
from bench.comparing.verdicts import Key
from bench.errors import RequestError
from bench.results.schema import Run

FEWEST_LETTERS: Final = 4
"""Of a revision, for it to be told from another."""

_LIBRARY_FIELDS: Final = ("version", "blas", "cudnn", "cuda_runtime", "isa")
_SHOWN_REVISION: Final = 10


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run of the history."""

    run: Run
    stored: Stored
    changes: Sequence[str] = ()
    """What is not as it was in the run before, besides the code."""

    @property
    def started(self) -> str:
        """When it began, as the file says it."""
        return self.run.header.started

    @property
    def label(self) -> str:
        """The label of the run."""
        return self.run.header.label

    @property
    def revision(self) -> str | None:
        """The revision of the code that was measured, if it is known."""
        git = self.stored.machine.part("git")
        revision = git.get("revision")
        return revision if isinstance(revision, str) and revision else None

    @property
    def short_revision(self) -> str:
        """The revision for people; a plus where files had been changed."""
        if self.revision is None:
            return "-"
        is_dirty = self.stored.machine.part("git").get("dirty") is True
        return self.revision[:_SHOWN_REVISION] + ("+" if is_dirty else "")

    def is_called(self, name: str, revision: str | None = None) -> bool:
        """Tell whether a release is meant by its label, or by its revision or the start of it."""
        if self.label == name:
            return True
        if self.revision is None:
            return False
        if revision is not None and self.revision == revision:
            return True
        is_hexadecimal = re.fullmatch(r"[0-9a-f]+", name) is not None
        return is_hexadecimal and len(name) >= FEWEST_LETTERS and self.revision.startswith(name)


@dataclass(frozen=True, kw_only=True)
class Point:
    """What a run has for a case."""

    entry: Entry
    result: Result | None
    """None where there is no number; `note` says why."""
    note: str = ""
    """What changed since the point before it."""
    is_start: bool = False
    """Whether it cannot be compared with the points before it."""


@dataclass
class MachineHistory:
    """The runs of one machine, the oldest first."""

    name: str
    entries: list[Entry] = field(default_factory=list)

    def series(self) -> dict[Key, list[Point]]:
        """Return the points of each case that ever had a number, in the order of time."""
        keys = dict.fromkeys(key for entry in self.entries for key in entry.stored.results)
        return {key: _points(key, self.entries) for key in keys}

    def never_measured(self) -> list[Key]:
        """Return the cases that no run has a number for."""
        known = {key for entry in self.entries for key in entry.stored.results}
        gaps = dict.fromkeys(key for entry in self.entries for key in entry.stored.unmeasured)
        return [key for key in gaps if key not in known]


def _points(key: Key, entries: Sequence[Entry]) -> list[Point]:
    points: list[Point] = []
    last: Entry | None = None
    notes: list[str] = []
    for entry in entries:
        notes += entry.changes
        result = entry.stored.results.get(key)
        if result is None:
            if key in entry.stored.unmeasured:
                note = entry.stored.unmeasured[key]
                points.append(Point(entry=entry, result=None, note=note))
            continue
        void = why_not_comparable(entry.stored, last.stored, key) if last else None
        note = "; ".join(dict.fromkeys([*([f"begins anew: {void}"] if void else []), *notes]))
        is_start = last is None or void is not None
        points.append(Point(entry=entry, result=result, note=note, is_start=is_start))
        last, notes = entry, []
    return points


@dataclass(frozen=True)
class History:
    """What a store holds."""

    machines: Sequence[MachineHistory]
    duets: Sequence[tuple[Entry, Entry]] = ()
    """Base and head of each duet, the oldest first; they belong to no series."""
    problems: Sequence[str] = ()
    """Files that are no runs, and why."""
    remarks: Sequence[str] = ()

    @property
    def entries(self) -> Iterator[Entry]:
        """Every run of every machine."""
        for machine in self.machines:
            yield from machine.entries


def read_history(found: Iterable[Run | Exception]) -> History:
    """Sort what a store yields: by machine, then by time; duets by themselves."""
    problems: list[str] = []
    remarks: list[str] = []
    entries: dict[str, Entry] = {}
    sides: dict[str, list[Entry]] = {}
    for run in found:
        if isinstance(run, Exception):
            problems.append(str(run))
            continue
        cut = [remark for remark in run.remarks if "cut short" in remark]
        problems += cut
        remarks += [remark for remark in run.remarks if remark not in cut]
        entry = Entry(run=run, stored=stored(run))
        duet = run.header.settings.get("duet")
        if isinstance(duet, str):
            sides.setdefault(duet, []).append(entry)
        elif run.header.id in entries:
            remarks.append(f"{run.path}: the same run as {entries[run.header.id].run.path}")
        else:
            entries[run.header.id] = entry
    machines = _machines(sorted(entries.values(), key=_moment))
    return History(machines, _duets(sides), problems, remarks)


def _moment(entry: Entry) -> tuple[str, str]:
    return entry.started, entry.run.header.id


def _machines(entries: Sequence[Entry]) -> list[MachineHistory]:
    groups: list[list[Entry]] = []
    for entry in entries:
        own = next((group for group in groups if _is_same(entry, group[-1])), None)
        if own is None:
            groups.append([entry])
            continue
        before = own[-1]
        own.append(
            Entry(run=entry.run, stored=entry.stored, changes=changes(before.run, entry.run))
        )
    names = [describe_machine(group[-1].stored.machine) for group in groups]
    return [
        MachineHistory(name if names.count(name) == 1 else f"{name}, number {number}", group)
        for number, (name, group) in enumerate(zip(names, groups, strict=True), start=1)
    ]


def _is_same(one: Entry, other: Entry) -> bool:
    if why_other_machine(one.stored.machine, other.stored.machine) is not None:
        return False
    return _gpus(one.stored.machine) == _gpus(other.stored.machine)


def _gpus(machine: Machine) -> list[str]:
    return sorted(str(gpu.get("name") or "a GPU") for gpu in machine.gpus)


def describe_machine(machine: Machine) -> str:
    """Name a machine by what makes it one: its processor, the cores allowed, its GPUs."""
    cpu = machine.part("cpu")
    model = str(cpu.get("model") or "unknown CPU")
    cores = cpu.get("cores_allowed")
    parts = [f"{model} ({cores} cores)" if isinstance(cores, int) else model, *_gpus(machine)]
    return " + ".join(parts)


def _duets(sides: Mapping[str, Sequence[Entry]]) -> list[tuple[Entry, Entry]]:
    found = []
    for both in sides.values():
        # The id of each is that of the duet and the side.
        roles = {entry.run.header.id.rpartition("-")[2]: entry for entry in both}
        if len(both) == 2 and set(roles) == {"base", "head"}:
            found.append((roles["base"], roles["head"]))
    return sorted(found, key=lambda pair: _moment(pair[0]))


def changes(before: Run, after: Run) -> list[str]:
    """Return what differs between two runs besides the code: `numpy 2.3.1 to 2.4.0`."""
    old, new = _surroundings(before), _surroundings(after)
    return [
        f"{name} {old[name]} to {new[name]}"
        for name in new
        if name in old and old[name] != new[name]
    ]


def _surroundings(run: Run) -> dict[str, str]:
    """Return what may change the numbers of the same code on the same machine."""
    machine = run.header.machine
    found: dict[str, Any] = {"bench": run.header.bench_version}
    found |= _part(machine, "packages")
    found["python"] = _part(machine, "python").get("version")
    for backend, described in _part(machine, "libraries").items():
        if isinstance(described, Mapping):
            found |= {f"{backend}'s {key}": described.get(key) for key in _LIBRARY_FIELDS}
    gpus = machine.get("gpus")
    for gpu in gpus if isinstance(gpus, list) else []:
        if isinstance(gpu, Mapping):
            found["GPU driver"] = gpu.get("driver")
            found["power limit (W)"] = gpu.get("power_limit_watts")
    found["kernel"] = _part(machine, "system").get("kernel")
    found["governor"] = _part(machine, "cpu").get("governor")
    found["preset"] = run.header.settings.get("preset")
    return {name: str(value) for name, value in found.items() if value not in (None, "", [])}


def _part(machine: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = machine.get(name)
    return found if isinstance(found, Mapping) else {}


def choose_release(
    machine: MachineHistory, name: str | None, revision: str | None = None
) -> list[Entry]:
    """Return the runs of a release; without a name, of what was measured first.

    `revision` is the one that `name` stands for, if it is a tag.
    """
    if name is not None:
        return [entry for entry in machine.entries if entry.is_called(name, revision)]
    first = machine.entries[0]
    if first.revision is None:
        return [first]
    return [entry for entry in machine.entries if entry.revision == first.revision]


def require_release(history: History, name: str, revision: str | None) -> None:
    """Raise RequestError if no run is called so, naming what there is."""
    if any(entry.is_called(name, revision) for entry in history.entries):
        return
    known = dict.fromkeys(
        told
        for entry in history.entries
        for told in (entry.label, entry.short_revision)
        if told != "-"
    )
    listed = ", ".join(list(known)[:8]) + (" ..." if len(known) > 8 else "")
    raise RequestError(
        f"--against {name}: no run of the history has that label or revision; there are {listed}"
    )
