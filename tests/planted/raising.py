"""Fails with a message of several lines and control characters."""

from typing import Any

from bench.workload import Dims, Phase, Size, Workload, calling


def inputs(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw a square matrix."""
    return (rng.standard_normal((dims["n"], dims["n"]), dtype="float32"),)


def raising(xp: Any, x: Any) -> Any:
    """Square the matrix, or not."""
    raise ValueError("no \x1b[31mgood\nat all")


WORKLOAD = Workload(
    name="planted_raising",
    summary="fails with a message of several lines and control characters",
    source="this test",
    suites=("matmul",),
    sizes=[Size(dims={"n": 64}, preset="quick")],
    inputs=inputs,
    phases={
        "call": Phase(
            array=calling(raising),
            flops=lambda dims: 2 * dims["n"] ** 3,
            reference=lambda numpy, dims, x: numpy.matmul(x, x),
        )
    },
)
