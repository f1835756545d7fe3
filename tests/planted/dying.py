"""Ends its process."""

import os
from typing import Any

from bench.workload import Dims, Phase, Size, Workload, calling


def inputs(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw a square matrix."""
    return (rng.standard_normal((dims["n"], dims["n"]), dtype="float32"),)


def dying(xp: Any, x: Any) -> Any:
    """Square the matrix, or not."""
    os._exit(3)


WORKLOAD = Workload(
    name="planted_dying",
    summary="ends its process",
    source="this test",
    suites=("matmul",),
    sizes=[Size(dims={"n": 64}, preset="quick")],
    inputs=inputs,
    phases={
        "call": Phase(
            array=calling(dying),
            flops=lambda dims: 2 * dims["n"] ** 3,
            reference=lambda numpy, dims, x: numpy.matmul(x, x),
        )
    },
)
