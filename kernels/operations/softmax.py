"""Softmax over the last axis, as in the attention of transformers, and its gradient.

Source: Vaswani et al., "Attention Is All You Need", 2017, equation 1; with y the output,
dx = y (dy - sum(y dy)).
"""

from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Phase, Size, Workload

from ._dims import complete
from ._fusing import fused
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch
from ._sums import row_dots, row_sums


def softmax(xp: Any, x: Any) -> tuple[Any, Pullback]:
    """Return exp(x) over its sum along the last axis; the pullback keeps that output."""
    # The largest is subtracted first, so that exp cannot overflow.
    y = fused(xp, _exp_of_difference)(x, x.max(axis=-1, keepdims=True))
    y /= row_sums(xp, y)[..., None]

    def pullback(dy: Any) -> tuple[Any]:
        along = row_dots(xp, y, dy)[..., None]
        return (fused(xp, _product_with_difference)(y, dy, along),)

    return y, pullback


def _exp_of_difference(xp: Any, x: Any, top: Any) -> Any:
    difference = x - top
    return xp.exp(difference, out=difference)


def _product_with_difference(_xp: Any, y: Any, dy: Any, along: Any) -> Any:
    dx = dy - along
    dx *= y
    return dx.astype(dy.dtype, copy=False)  # CuPy's sums of half precision are float32


def softmax_torch(torch: Any, x: Any) -> Any:
    """Call the function."""
    return torch.softmax(x, dim=-1)


def inputs(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw scores from N(0, 1)."""
    shape = (dims["batch"], dims.get("rows", 1), dims["columns"])
    return (rng.standard_normal(shape, dtype="float32"),)


def backward_inputs(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw scores and dy from N(0, 1)."""
    return (*inputs(rng, dims), *inputs(rng, dims))


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch and columns; rows of an example may be left out."""
    return complete(given, ("batch", "columns"), ("rows",))


def elements(dims: Dims) -> int:
    """Return how many scores there are."""
    return dims["batch"] * dims.get("rows", 1) * dims["columns"]


def scores(name: str, columns: int, preset: str = "standard", **rows: int) -> Size:
    """Name a layer."""
    return Size(dims={**rows, "columns": columns}, preset=preset, name=name)


WORKLOAD = Workload(
    name="softmax",
    summary="softmax over the last axis, and its gradient",
    source="Vaswani et al., 2017, equation 1; sizes: Devlin et al., 2019; Radford et al., 2019;"
    " He et al., 2016",
    suites=("layers",),
    sizes=[
        scores("resnet50.classes", 1000, "quick", batch=256),
        # Of 12 heads and all queries.
        scores("bert_base.attention", 128, "quick", batch=8, rows=12 * 128),
        scores("bert_base.attention", 128, batch=64, rows=12 * 128),
        scores("gpt2_small.attention", 1024, batch=1, rows=12 * 1024),
        scores("gpt2_small.attention", 1024, "thorough", batch=4, rows=12 * 1024),
    ],
    inputs=inputs,
    phases={
        "forward": Phase(
            array=forward_array(softmax),
            torch=forward_torch(softmax_torch),
            # A comparison, a subtraction, exp counted as one, a sum, a division.
            flops=lambda dims: 5 * elements(dims),
            bytes_moved=lambda dims, item: 2 * item * elements(dims),
        ),
        "backward": Phase(
            array=backward_array(softmax),
            torch=backward_torch(softmax_torch, wanted=[0]),
            inputs=backward_inputs,
            error_factor=8,
            # A multiply-add for the sum, a subtraction, a product.
            flops=lambda dims: 4 * elements(dims),
            bytes_moved=lambda dims, item: 3 * item * elements(dims),
        ),
    },
    includes={
        "numpy": "one core; passes for the maximum, the difference, exp, the sum and the division",
        "cupy": "kernels for the maximum, exp of the difference, the sum and the division",
        "torch": "backward: the call of autograd",
    },
    resize=resize,
)
