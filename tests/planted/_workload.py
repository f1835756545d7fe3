"""What the planted workloads share: a square matrix goes in, a product should come out."""

from collections.abc import Callable
from typing import Any

from bench.workload import Dims, Phase, Size, Workload, calling


def planted(name: str, function: Callable[..., Any], *, n: int = 64, claim: int = 1) -> Workload:
    """Return a workload that calls `function` and claims `claim` times the FLOPs of a product."""

    def inputs(rng: Any, dims: Dims) -> tuple[Any]:
        return (rng.standard_normal((dims["n"], dims["n"]), dtype="float32"),)

    phase = Phase(
        array=calling(function),
        flops=lambda dims: claim * 2 * dims["n"] ** 3,
        reference=lambda numpy, dims, x: numpy.matmul(x, x),
    )
    return Workload(
        name=f"planted_{name}",
        summary=(function.__doc__ or "").strip().rstrip("."),
        source="this test",
        suites=("matmul",),
        sizes=[Size(dims={"n": n}, preset="quick")],
        inputs=inputs,
        phases={"call": phase},
    )
