"""How many times as fast as a baseline each machine is, over the work that all of them did."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bench.comparing.machines import Machine, Piece, Result, why_void
from bench.comparing.speedup import Ratio, geometric_mean, ratio
from bench.errors import RequestError
from bench.text import natural

OTHER_DTYPE: Final = "dtype"


@dataclass(frozen=True)
class Lack:
    """Pieces of a suite that machines have no number for, or none that may be compared."""

    machines: Sequence[str]
    suite: str
    pieces: Sequence[Piece]
    of: int
    """How many pieces of the suite there are in all."""
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; machines are named, and ordered from the fastest to the slowest."""

    machines: Sequence[Machine]
    baseline: Machine
    suites: Mapping[str, Sequence[Piece]]
    """The pieces that all machines of a suite have, by suite; those are `speed`'s."""
    overall: Sequence[Piece]
    """The pieces that all machines have."""
    best: Mapping[str, Mapping[Piece, Result]]
    """By machine: its fastest result of each piece that may be compared with the baseline."""
    backends: Mapping[str, Mapping[str, Mapping[Piece, Result]]]
    """By machine and backend: the fastest of its variants."""
    forced: Mapping[str, Mapping[Piece, str]]
    """By machine: pieces compared although they are void, with the reason (`--force`)."""
    voids: Sequence[Lack]
    missing: Sequence[Lack]
    left_out: Sequence[str]
    """Machines that have nothing in common with the baseline."""

    def speed(
        self, machine: Machine, pieces: Sequence[Piece], backend: str | None = None
    ) -> Ratio | None:
        """Return how many times as fast as the baseline's best a machine is, or its backend.

        It is the geometric mean over those of the pieces that it has; None if it has none.
        """
        own = self.backends[machine.name].get(backend, {}) if backend else self.best[machine.name]
        base = self.best[self.baseline.name]
        shared = [piece for piece in pieces if piece in own]
        if not shared:
            return None
        if machine is self.baseline and backend is None:
            return Ratio(1.0, 1.0, 1.0)
        return geometric_mean([ratio(base[p].seconds, own[p].seconds) for p in shared])


def choose_baseline(machines: Sequence[Machine], label: str | None) -> Machine:
    """Return the machine of that label, or of that name if several have the label.

    Without a label it is that of the first file.

    Raises:
        RequestError: There is none, or more than one.
    """
    if label is None:
        return min(machines, key=lambda machine: machine.position)
    by_name = [machine for machine in machines if machine.name == label]
    found = by_name or [machine for machine in machines if machine.label == label]
    if len(found) == 1:
        return found[0]
    names = ", ".join(repr(machine.name) for machine in found or machines[:10])
    if found:
        raise RequestError(f"--baseline {label!r}: {len(found)} runs have it; give one of {names}")
    raise RequestError(f"--baseline {label!r}: no run has that label; there are {names}")


def compare(machines: Sequence[Machine], baseline: Machine, *, force: bool = False) -> Comparison:
    """Pair what is the same work; with `force` also what is not, marked as such."""
    base = {piece: results[0] for piece, results in baseline.results.items()}
    order = [baseline, *(m for m in machines if m is not baseline)]
    best: dict[str, dict[Piece, Result]] = {}
    void: dict[str, dict[Piece, str]] = {}
    forced: dict[str, dict[Piece, str]] = {}
    backends: dict[str, dict[str, dict[Piece, Result]]] = {}
    # The GPUs of two machines may differ in what a baseline without one knows nothing of.
    first: dict[Piece, list[Result]] = {piece: [result] for piece, result in base.items()}
    for machine in order:
        name = machine.name
        best[name], void[name], forced[name], backends[name] = {}, {}, {}, {}
        others = _by_stem(machine) if machine is not baseline else {}
        for piece, seen in first.items():
            candidates = machine.results.get(piece, ())
            fit = [r for r in candidates if not _why(seen, r)]
            reason = _why(seen, candidates[0]) if candidates and not fit else None
            if not candidates and piece.stem in others:
                other, *_ = others[piece.stem]
                if not any(p in base for p in others[piece.stem]):
                    candidates = machine.results[other]
                    reason = f"{OTHER_DTYPE} {other.dtype} against {piece.dtype}"
            if reason is not None:
                void[name][piece] = reason
                if force:
                    forced[name][piece] = reason
                    fit = list(candidates)
            if not fit:
                continue
            best[name][piece] = fit[0]
            if reason is None and all(fit[0].flags != one.flags for one in seen):
                seen.append(fit[0])
            for result in fit:
                backends[name].setdefault(result.backend, {}).setdefault(piece, result)
    return _comparison(order, baseline, best, backends, void, forced)


def _why(seen: Sequence[Result], result: Result) -> str | None:
    return next((why for one in seen if (why := why_void(one, result))), None)


def _by_stem(machine: Machine) -> dict[Piece, list[Piece]]:
    """Return its pieces by what they are without the dtype, the fastest dtype first."""
    found: dict[Piece, list[Piece]] = {}
    for piece in sorted(
        machine.results, key=lambda p: (machine.results[p][0].seconds.median, p[1])
    ):
        found.setdefault(piece.stem, []).append(piece)
    return found


def _comparison(
    order: Sequence[Machine],
    baseline: Machine,
    best: Mapping[str, Mapping[Piece, Result]],
    backends: Mapping[str, Mapping[str, Mapping[Piece, Result]]],
    void: Mapping[str, Mapping[Piece, str]],
    forced: Mapping[str, Mapping[Piece, str]],
) -> Comparison:
    taking = [machine for machine in order if best[machine.name]]
    pieces = sorted(best[baseline.name], key=_reading)
    suites: dict[str, list[Piece]] = {}
    for suite in dict.fromkeys(piece.suite for piece in pieces):
        of_suite = [piece for piece in pieces if piece.suite == suite]
        members = [m for m in taking if any(piece in best[m.name] for piece in of_suite)]
        suites[suite] = _common(of_suite, [best[m.name] for m in members])
    counts = Counter(p.suite for p in {p for machine in order for p in machine.results})
    comparison = Comparison(
        machines=taking,
        baseline=baseline,
        suites=suites,
        overall=_common(pieces, [best[m.name] for m in taking]),
        best=best,
        backends=backends,
        forced=forced,
        voids=_grouped(void, counts),
        missing=_grouped(_missing(taking, void), counts),
        left_out=[m.name for m in order if m is not baseline and not best[m.name]],
    )
    # Where no piece is common to all, what each shares with the baseline orders them.
    ranks = {m.name: _pace(best[m.name], comparison.overall or pieces) for m in taking}
    ranked = sorted(taking, key=lambda m: (ranks[m.name], natural(m.name)))
    return replace(comparison, machines=ranked)


def _common(pieces: Sequence[Piece], owners: Sequence[Mapping[Piece, Result]]) -> list[Piece]:
    """Return the pieces that all have; none where there is nobody to compare with."""
    if len(owners) < 2:
        return []
    return [piece for piece in pieces if all(piece in own for own in owners)]


def _pace(own: Mapping[Piece, Result], pieces: Sequence[Piece]) -> float:
    """Return the mean of the logarithms of its times."""
    return statistics.fmean(math.log(own[p].seconds.median) for p in pieces if p in own)


def _missing(
    machines: Sequence[Machine], void: Mapping[str, Mapping[Piece, str]]
) -> dict[str, dict[Piece, str]]:
    """Return what each machine lacks of what others have, with the reason."""
    known = {piece for machine in machines for piece in machine.results}
    return {
        machine.name: {
            piece: machine.absent.get(piece, "not in the run")
            for piece in known.difference(machine.results, void[machine.name])
        }
        for machine in machines
    }


def _grouped(lacking: Mapping[str, Mapping[Piece, str]], counts: Mapping[str, int]) -> list[Lack]:
    """Put together machines that lack the same pieces for the same reason."""
    groups: dict[tuple[str, str, tuple[Piece, ...]], list[str]] = {}
    for name, gone in lacking.items():
        by_reason: dict[tuple[str, str], list[Piece]] = {}
        for piece in sorted(gone, key=_reading):
            by_reason.setdefault((piece.suite, gone[piece]), []).append(piece)
        for (suite, reason), pieces in by_reason.items():
            groups.setdefault((suite, reason, tuple(pieces)), []).append(name)
    found = [
        Lack(sorted(names, key=natural), suite, pieces, counts[suite], reason)
        for (suite, reason, pieces), names in groups.items()
    ]
    return sorted(
        found, key=lambda lack: (lack.suite, *map(natural, lack.machines[:1]), lack.reason)
    )


def _reading(piece: Piece) -> tuple[Any, ...]:
    return (
        piece.suite,
        natural(piece.work),
        piece.is_cold,
        piece.concurrency or 0,
        piece.rate or 0.0,
    )
