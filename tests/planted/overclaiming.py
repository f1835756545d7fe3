"""Declares ten times the FLOPs that it computes."""

from typing import Any

from bench.workload import Dims, Phase, Size, Workload, calling


def inputs(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw a square matrix."""
    return (rng.standard_normal((dims["n"], dims["n"]), dtype="float32"),)


def overclaiming(xp: Any, x: Any) -> Any:
    """Square the matrix."""
    return xp.matmul(x, x)


WORKLOAD = Workload(
    name="planted_overclaiming",
    summary="declares ten times the FLOPs that it computes",
    source="this test",
    suites=("matmul",),
    sizes=[Size(dims={"n": 768}, preset="quick")],
    inputs=inputs,
    phases={"call": Phase(array=calling(overclaiming), flops=lambda dims: 20 * dims["n"] ** 3)},
)
