"""Which cases are one sweep: the same work but for a single dimension of its size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.comparing.batches import is_swept
from bench.results.schema import Measurement

_SHORTEST: Final = 2
_SHORTEST_NAMED: Final = 3
"""Batches from which a named size becomes a sweep; two are better seen as two points, but for the
suite that is about batches."""


@dataclass(frozen=True)
class Sweep:
    """Cases that differ in `dimension` only; `name` is empty where their sizes have none."""

    name: str
    dimension: str
    measurements: Sequence[Measurement]


def size_name(m: Measurement) -> str:
    """Return the name of a size without its batch; empty for a size without a name."""
    dims = ",".join(f"{dim}={value}" for dim, value in m.sizes.items())
    return "" if m.size == dims else m.size.removesuffix(f",batch={m.sizes.get('batch')}")


def sweeps(measurements: Sequence[Measurement]) -> list[Sweep]:
    """Return the sweeps among the cases of one workload, phase and dtype.

    All cases of a name are in its sweep, or none is.
    """
    by_name: dict[str, list[Measurement]] = {}
    for m in measurements:
        by_name.setdefault(size_name(m), []).append(m)
    found = []
    for name, cases in by_name.items():
        values = {
            dim: {m.sizes.get(dim, 0) for m in cases} for dim in {d for m in cases for d in m.sizes}
        }
        varying = [dim for dim in values if len(values[dim]) > 1]
        # An axis begins above 0; it also stands for a dimension that a case lacks.
        if len(varying) != 1 or min(values[varying[0]]) < 1:
            continue
        alone = not name or is_swept(cases[0])
        if len(values[varying[0]]) >= (_SHORTEST if alone else _SHORTEST_NAMED):
            found.append(Sweep(name, varying[0], cases))
    return found
