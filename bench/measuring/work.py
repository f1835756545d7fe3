"""What a worker is to compute: sizes, dtype, inputs, and how many samples they make up."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import CaseError
from bench.measuring.exchange import HostArray, extend, read_arrays
from bench.workload import Call, CountedCall, Dims


@dataclass(frozen=True, kw_only=True)
class Work:
    """The part of a parent's order that says what is computed, not how it is measured."""

    dims: Dims
    dtype: str
    inputs: str
    batch: int | None = None
    """The samples that one call must compute; None: the workload has no such notion."""
    drawn_batch: int | None = None
    """The samples that were drawn, of which the batch is repetitions; None: all of them."""
    parameters: int = 0
    """How many of the inputs, the last ones, no sample has of its own."""

    @property
    def repeats(self) -> int:
        """How many times the batch holds what was drawn."""
        return self.batch // self.drawn_batch if self.batch and self.drawn_batch else 1

    def read(self, path: str) -> list[HostArray]:
        """Read inputs, extended to the batch."""
        arrays = read_arrays(Path(path))
        if self.batch is None or self.drawn_batch is None:
            return arrays
        samples = len(arrays) - self.parameters
        extended = [
            extend(array, array.shape[0] * self.batch // self.drawn_batch)
            for array in arrays[:samples]
        ]
        return extended + arrays[samples:]

    def require_batch(self, call: Call, output: Any) -> int | None:
        """Return how many samples `call` has computed, None where no batch is asked for.

        Raises:
            CaseError: They are not those of the batch.
        """
        if self.batch is None:
            return None
        counted = call.rows() if isinstance(call, CountedCall) else _rows(output)
        if counted != self.batch:
            raise CaseError("wrong", f"{counted} samples were computed, not {self.batch}")
        return counted


def _rows(output: Any) -> int:
    first = output[0] if isinstance(output, Sequence) else output
    return int(first.shape[0])
