"""Never returns."""

import time
from typing import Any

from bench.workload import Dims, Phase, Size, Workload, calling


def inputs(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw a square matrix."""
    return (rng.standard_normal((dims["n"], dims["n"]), dtype="float32"),)


def hanging(xp: Any, x: Any) -> Any:
    """Square the matrix, or not."""
    while True:
        time.sleep(60)


WORKLOAD = Workload(
    name="planted_hanging",
    summary="never returns",
    source="this test",
    suites=("matmul",),
    sizes=[Size(dims={"n": 64}, preset="quick")],
    inputs=inputs,
    phases={
        "call": Phase(
            array=calling(hanging),
            flops=lambda dims: 2 * dims["n"] ** 3,
            reference=lambda numpy, dims, x: numpy.matmul(x, x),
        )
    },
)
