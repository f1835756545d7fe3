"""Writes to both streams, below Python too."""

import os
from typing import Any

from bench.workload import Dims, Phase, Size, Workload, calling


def inputs(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw a square matrix."""
    return (rng.standard_normal((dims["n"], dims["n"]), dtype="float32"),)


def printing(xp: Any, x: Any) -> Any:
    """Square the matrix, or not."""
    print('{"ok": {}}')
    os.write(1, b"noise\n")
    os.write(2, b"more noise\n")
    return xp.matmul(x, x)


WORKLOAD = Workload(
    name="planted_printing",
    summary="writes to both streams, below Python too",
    source="this test",
    suites=("matmul",),
    sizes=[Size(dims={"n": 64}, preset="quick")],
    inputs=inputs,
    phases={
        "call": Phase(
            array=calling(printing),
            flops=lambda dims: 2 * dims["n"] ** 3,
        )
    },
)
