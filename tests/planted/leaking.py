"""Asks for more memory than there is."""

from typing import Any

from bench.workload import Dims, Phase, Size, Workload, calling


def inputs(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw a square matrix."""
    return (rng.standard_normal((dims["n"], dims["n"]), dtype="float32"),)


def leaking(xp: Any, x: Any) -> Any:
    """Square the matrix, or not."""
    return xp.ones((2**24, 2**20), "float64")


WORKLOAD = Workload(
    name="planted_leaking",
    summary="asks for more memory than there is",
    source="this test",
    suites=("matmul",),
    sizes=[Size(dims={"n": 64}, preset="quick")],
    inputs=inputs,
    phases={
        "call": Phase(
            array=calling(leaking),
            flops=lambda dims: 2 * dims["n"] ** 3,
            reference=lambda numpy, dims, x: numpy.matmul(x, x),
        )
    },
)
