"""How a run was measured, and on what: the last part of its page."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench import units
from bench.results.schema import Run

PROTOCOL: Final = (
    "Each library ran alone, in fresh processes, on the same inputs, and its results were verified"
    " against float64 before they were timed.",
    "A block is one fresh process of each backend: it visits its cases again and again in random"
    " order, and what was measured while something else disturbed the machine is measured again.",
    "A time is the median over all blocks; its interval is the one in which, 95 times of 100, a"
    " repeat of the whole run on this machine would find it.",
)
_FOREIGN: Final = (
    "The file does not say how it was measured: it was not written by a run of bench.",
)

_LEFT_OUT: Final = frozenset({"host"})
"""Who the machine is changes no number, and a page is passed on."""

_SETTINGS: Final = ("preset", "blocks", "threads", "seed", "suites", "backends", "dtypes", "cache")


@dataclass(frozen=True)
class Measured:
    """How a run was made."""

    protocol: Sequence[str]
    settings: Sequence[tuple[str, str]]
    command: str
    """Empty where the file does not tell."""
    facts: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    """The machine and its software, group by group."""


def measured(run: Run) -> Measured:
    """Tell how the run was measured, and on which machine."""
    header = run.header
    settings = [
        (name, _text(name, header.settings[name]))
        for name in _SETTINGS
        if header.settings.get(name) not in (None, [], "")
    ]
    settings += [("started", header.started), ("bench", header.bench_version), ("run", header.id)]
    return Measured(
        PROTOCOL if "preset" in header.settings else _FOREIGN,
        settings,
        shlex.join(map(str, header.command)),
        list(_groups(header.machine)),
    )


def _groups(machine: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    alone = []
    for name, value in machine.items():
        if name in _LEFT_OUT:
            continue
        if isinstance(value, dict | list):
            facts = list(_facts("", value))
            if facts:
                yield name, facts
        else:
            alone.append((name, _text(name, value)))
    if alone:
        yield "other", alone


def _facts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every leaf under its path; lists of plain values stay on one line."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _facts(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for index, inner in enumerate(value):
            yield from _facts(f"{name} {index}".lstrip(), inner)
    elif value not in (None, [], ""):
        yield name, _text(name, value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_text(name, inner) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and 0 <= value < 1e18:
        if name.endswith("_bytes") or name.startswith("caches."):
            return units.size(int(value))
        if name.endswith("_watts"):
            return f"{value:.0f} W"
        if name.endswith("_hertz"):
            return f"{value / 1e9:.2f} GHz"
    return str(value)
