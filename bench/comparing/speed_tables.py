"""What a comparison says about speed: sentences, tables, and what cannot be compared."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from bench import units
from bench.comparing.machines import Machine, Piece, Result
from bench.comparing.remarks import listed
from bench.comparing.side_by_side import Comparison, Lack
from bench.comparing.speedup import Ratio, ratio
from bench.report import Table

MOST_IN_FULL: Final = 8
"""Machines whose every piece of work a person reads; more are only in the data."""

MOST_SENTENCES: Final = 12
MOST_LACKS: Final = 20
_OVERALL: Final = "all"


def speed_sentences(comparison: Comparison) -> list[str]:
    """Say how fast each machine is, the fastest first."""
    others = [machine for machine in comparison.machines if machine is not comparison.baseline]
    if len(others) <= MOST_SENTENCES:
        return [_sentence(comparison, machine) for machine in others]
    half = MOST_SENTENCES // 2
    return [
        *(_sentence(comparison, machine) for machine in others[:half]),
        f"{len(others) - 2 * half} more are in the table.",
        *(_sentence(comparison, machine) for machine in others[-half:]),
    ]


def _sentence(comparison: Comparison, machine: Machine) -> str:
    base = comparison.baseline.name
    own = comparison.forced[machine.name]
    void = " VOID (--force):" if own else ""
    suites = [
        (suite, speed)
        for suite, pieces in comparison.suites.items()
        if (speed := comparison.speed(machine, pieces))
    ]
    overall = comparison.speed(machine, comparison.overall)
    if overall is None:
        if not suites:
            return (
                f"{machine.name}:{void} no piece of work is common to all machines that have its"
                " suites; compare fewer at a time."
            )
        told = ", ".join(f"{times(speed)} in {suite}" for suite, speed in suites)
        return f"{machine.name}:{void} as fast as {base} {told}; no work is common to all machines."
    count = len(comparison.overall)
    many = f"{count} pieces of work" if count != 1 else "one piece of work"
    parts = f" ({', '.join(f'{suite} {times(speed)}' for suite, speed in suites)})"
    places = listed(sorted({comparison.best[machine.name][p].place for p in comparison.overall}))
    return (
        f"{machine.name}:{void} {times(overall)} as fast as {base} over {many}"
        f"{parts if len(suites) > 1 else ''}, with {places}."
    )


def times(value: Ratio) -> str:
    """Write a ratio with its interval, such as `38x [37, 39]`."""
    if value.low is None or value.high is None:
        return f"{units.significant(value.median)}x"
    interval = f"[{units.significant(value.low)}, {units.significant(value.high)}]"
    return f"{units.significant(value.median)}x {interval}"


def interval(value: Ratio) -> str:
    """Write the interval alone."""
    if value.low is None or value.high is None:
        return "one block"
    return f"[{units.significant(value.low)}, {units.significant(value.high)}]"


def record(table: str, value: Ratio | None, **fields: Any) -> dict[str, Any]:
    """Return a number as a record; what no float can hold is None."""
    ends = (value.median, value.low, value.high) if value else (None, None, None)
    known = [end if end is not None and math.isfinite(end) else None for end in ends]
    return {"table": table, **fields, **dict(zip(("value", "low", "high"), known, strict=True))}


def speed_tables(comparison: Comparison, *, everything: bool) -> Iterator[Table]:
    """Yield the speeds by machine and suite, by backend, and piece by piece."""
    base = comparison.baseline.name
    yield _speeds(comparison, f"Speed against {base}", by_backend=False)
    if everything or len(comparison.machines) <= MOST_IN_FULL:
        title = f"Speed of each backend against the best of {base}"
        yield _speeds(comparison, title, by_backend=True)
        yield _cases(comparison)


def _speeds(comparison: Comparison, title: str, *, by_backend: bool) -> Table:
    base = comparison.baseline.name
    name = "backends" if by_backend else "speed"
    rows: list[list[str]] = []
    records = []
    parts = dict(comparison.suites)
    if len(parts) > 1:
        parts = {_OVERALL: comparison.overall, **parts}
    for machine in comparison.machines:
        backends: Sequence[str | None] = (
            sorted(comparison.backends[machine.name]) if by_backend else [None]
        )
        for backend in backends:
            for suite, pieces in parts.items():
                speed = comparison.speed(machine, pieces, backend)
                own = (
                    comparison.backends[machine.name][backend]
                    if backend
                    else comparison.best[machine.name]
                )
                shared = [own[piece] for piece in pieces if piece in own]
                if speed is None or (by_backend and not shared):
                    if not by_backend:
                        rows.append([machine.name, suite, "0", "-", "-", "-"])
                    continue
                count = f"{len(shared)} of {len(pieces)}" if by_backend else str(len(shared))
                places = backend or listed(sorted({result.place for result in shared}))
                rows.append(
                    [
                        machine.name,
                        suite,
                        count,
                        places,
                        f"{units.significant(speed.median)}x",
                        _baseline_interval(speed, machine is comparison.baseline, backend),
                    ]
                )
                where = {"machine": machine.name, "against": base, "suite": suite}
                records.append(
                    record(name, speed, **where, backend=backend, metric="speed", unit="1")
                )
    return Table(
        name=name,
        title=title,
        columns=("machine", "suite", "pieces", "backend", "speed", "95% interval"),
        right=frozenset({2, 4, 5}),
        rows=rows,
        records=records,
    )


def _baseline_interval(speed: Ratio, is_baseline: bool, backend: str | None) -> str:
    return "baseline" if is_baseline and backend is None else interval(speed)


def _cases(comparison: Comparison) -> Table:
    base = comparison.best[comparison.baseline.name]
    rows: list[list[str]] = []
    records = []
    for piece in base:
        owners = [m for m in comparison.machines if piece in comparison.best[m.name]]
        if len(owners) < 2:
            continue
        for i, machine in enumerate(owners):
            result = comparison.best[machine.name][piece]
            speed = ratio(base[piece].seconds, result.seconds)
            void = comparison.forced[machine.name].get(piece)
            note = f"VOID: {void}" if void else ""
            rows.append(
                [
                    "" if i else f"{piece.suite}: {piece.name}",
                    machine.name,
                    result.place,
                    units.seconds(result.seconds.median),
                    _seconds_interval(result),
                    f"{units.significant(speed.median)}x",
                    _baseline_interval(speed, machine is comparison.baseline, None),
                    note,
                ]
            )
            records += _case_records(piece, machine, result, speed, comparison, note)
    return Table(
        name="cases",
        title="Piece by piece, each machine with its best backend",
        columns=(
            *("work", "machine", "backend", "time", "95% interval", "speed", "95% interval"),
            "notes",
        ),
        right=frozenset({3, 4, 5, 6}),
        rows=rows,
        records=records,
    )


def _seconds_interval(result: Result) -> str:
    if result.seconds.low is None:
        return "one block"
    return units.seconds_interval(result.seconds.low, result.seconds.high)


def _case_records(
    piece: Piece,
    machine: Machine,
    result: Result,
    speed: Ratio,
    comparison: Comparison,
    note: str,
) -> list[dict[str, Any]]:
    where = {
        "machine": machine.name,
        "suite": piece.suite,
        "id": piece.name,
        "backend": result.place,
        "note": note or None,
    }
    time = Ratio(result.seconds.median, result.seconds.low, result.seconds.high)
    found = [
        record("cases", time, metric="seconds", unit="s", **where),
        record("cases", speed, metric="speed", unit="1", against=comparison.baseline.name, **where),
    ]
    if result.energy_joules is not None:
        energy = Ratio(result.energy_joules, None, None)
        found.append(record("cases", energy, metric="energy_joules", unit="J", **where))
    return found


def lacks(comparison: Comparison) -> list[str]:
    """Name what is not compared, and why: void first, then missing, then who is left out."""
    void = "VOID, shown all the same (--force)," if any(comparison.forced.values()) else "void"
    lines = [_lack(lack, f"{void} on {{}}") for lack in comparison.voids]
    lines += [_lack(lack, "missing on {}") for lack in comparison.missing]
    if len(lines) > MOST_LACKS:
        lines = [*lines[:MOST_LACKS], f"{len(lines) - MOST_LACKS} more lines of this kind"]
    return lines + [
        f"{name} is left out: no piece of work may be compared with the baseline"
        for name in comparison.left_out
    ]


def _lack(lack: Lack, what: str) -> str:
    who = what.replace("{}", listed(lack.machines))
    which = listed([piece.name for piece in lack.pieces])
    count = f"{len(lack.pieces)} of {lack.of} pieces of {lack.suite}"
    return f"{who}: {count} ({which}): {lack.reason}"


def refusal(comparison: Comparison) -> list[str]:
    """Say why nothing can be compared; empty if something can."""
    if len(comparison.machines) > 1:
        return []
    reasons = [_lack(lack, "void on {}") for lack in comparison.voids]
    hint = "--force shows it all the same" if reasons else "run the same suite on both"
    base = comparison.baseline.name
    return [*reasons, f"no piece of work may be compared with {base}; {hint}"]
