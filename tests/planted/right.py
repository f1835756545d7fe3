"""A workload without a fault."""

from typing import Any

from bench.workload import Dims, Phase, Size, Workload, calling


def inputs(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw a square matrix."""
    return (rng.standard_normal((dims["n"], dims["n"]), dtype="float32"),)


def right(xp: Any, x: Any) -> Any:
    """Square the matrix, or not."""
    return xp.matmul(x, x)


WORKLOAD = Workload(
    name="planted_right",
    summary="a workload without a fault",
    source="this test",
    suites=("matmul",),
    sizes=[Size(dims={"n": 64}, preset="quick")],
    inputs=inputs,
    phases={
        "call": Phase(
            array=calling(right),
            flops=lambda dims: 2 * dims["n"] ** 3,
        )
    },
)
