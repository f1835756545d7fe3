"""Is off by a factor of 1.001."""

from typing import Any

from bench.workload import Dims, Phase, Size, Workload, calling


def inputs(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw a square matrix."""
    return (rng.standard_normal((dims["n"], dims["n"]), dtype="float32"),)


def scaled(xp: Any, x: Any) -> Any:
    """Square the matrix, or not."""
    return xp.matmul(x, x) * x.dtype.type(1.001)


WORKLOAD = Workload(
    name="planted_scaled",
    summary="is off by a factor of 1.001",
    source="this test",
    suites=("matmul",),
    sizes=[Size(dims={"n": 64}, preset="quick")],
    inputs=inputs,
    phases={
        "call": Phase(
            array=calling(scaled),
            flops=lambda dims: 2 * dims["n"] ** 3,
            reference=lambda numpy, dims, x: numpy.matmul(x, x),
        )
    },
)
