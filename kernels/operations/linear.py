"""Linear layer y = x w^T + b and its gradients, the layer that most of a transformer consists of.

x is (..., in_features), w is (out_features, in_features) as PyTorch stores it, b is
(out_features,), y is (..., out_features).

Sources of the sizes: LeNet-5 (LeCun et al., 1998), ResNet-50 (He et al., 2016), BERT-base (Devlin
et al., 2019), GPT-2 small (Radford et al., 2019), the perceptron of Keras's example mnist_mlp.
"""

import math
from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Phase, Size, Workload

from ._dims import complete
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch


def linear(
    xp: Any, x: Any, w: Any, b: Any | None = None, *, input_gradient: bool = True
) -> tuple[Any, Pullback]:
    """Return x w^T + b; all leading axes of x are rows of one matrix product."""
    rows = x.reshape(-1, x.shape[-1])
    y = xp.matmul(rows, w.T)
    if b is not None:
        y += b

    def pullback(dy: Any) -> tuple[Any, Any, Any]:
        dy = dy.reshape(-1, dy.shape[-1])
        dx = xp.matmul(dy, w).reshape(x.shape) if input_gradient else None
        return dx, xp.matmul(dy.T, rows), None if b is None else dy.sum(axis=0)

    return y.reshape(*x.shape[:-1], -1), pullback


def linear_torch(torch: Any, x: Any, w: Any, b: Any) -> Any:
    """Call the functional form."""
    return torch.nn.functional.linear(x, w, b)


def inputs(rng: Any, dims: Dims) -> tuple[Any, Any, Any]:
    """Draw x, w and b from N(0, 1)."""
    w = (dims["out_features"], dims["in_features"])
    shapes = (shape(dims, "in_features"), w, w[:1])
    x, w, b = (rng.standard_normal(shape, dtype="float32") for shape in shapes)
    return x, w, b


def backward_inputs(rng: Any, dims: Dims) -> tuple[Any, ...]:
    """Draw x, w, b and dy from N(0, 1)."""
    dy = rng.standard_normal(shape(dims, "out_features"), dtype="float32")
    return (*inputs(rng, dims), dy)


def shape(dims: Dims, features: str) -> tuple[int, ...]:
    """Return that of x or y: tokens are an axis where a size has them."""
    return tuple(dims[name] for name in ("batch", "tokens", features) if name in dims)


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch, in_features and out_features; tokens may be left out."""
    return complete(given, ("batch", "in_features", "out_features"), ("tokens",))


def product(dims: Dims) -> tuple[int, int, int]:
    """Return the rows of x, in_features and out_features."""
    return dims["batch"] * dims.get("tokens", 1), dims["in_features"], dims["out_features"]


def flops(dims: Dims) -> int:
    """Count a multiply-add for each row, input and output; the bias is not counted."""
    return 2 * math.prod(product(dims))


def forward_bytes(dims: Dims, item: int) -> int:
    """Count x, w and b read and y written, once each."""
    rows, inner, outer = product(dims)
    return item * (rows * inner + inner * outer + outer + rows * outer)


def backward_bytes(dims: Dims, item: int) -> int:
    """Count x, w and dy read and the gradients of x, w and b written, once each."""
    rows, inner, outer = product(dims)
    return item * (2 * rows * inner + 2 * inner * outer + outer + rows * outer)


def layer(
    name: str, in_features: int, out_features: int, preset: str = "standard", **rows: int
) -> Size:
    """Name a layer."""
    dims = {**rows, "in_features": in_features, "out_features": out_features}
    return Size(dims=dims, preset=preset, name=name)


WORKLOAD = Workload(
    name="linear",
    summary="linear layer with bias, and the gradients of its input, weights and bias",
    source="LeCun et al., 1998; He et al., 2016; Devlin et al., 2019; Radford et al., 2019",
    suites=("layers",),
    sizes=[
        layer("mlp.hidden", 784, 512, batch=128),
        layer("bert_base.projection", 768, 768, "quick", batch=4, tokens=128),
        layer("lenet5.classifier", 400, 120, batch=64),
        layer("resnet50.classifier", 2048, 1000, batch=256),
        layer("bert_base.projection", 768, 768, batch=64, tokens=128),
        layer("gpt2_small.ffn_up", 768, 3072, batch=4, tokens=1024),
        layer("bert_base.ffn_up", 768, 3072, "thorough", batch=64, tokens=128),
        layer("bert_base.ffn_down", 3072, 768, "thorough", batch=64, tokens=128),
        layer("gpt2_small.qkv", 768, 2304, "thorough", batch=4, tokens=1024),
        layer("gpt2_small.ffn_down", 3072, 768, "thorough", batch=4, tokens=1024),
    ],
    inputs=inputs,
    phases={
        "forward": Phase(
            array=forward_array(linear),
            torch=forward_torch(linear_torch),
            flops=flops,
            bytes_moved=forward_bytes,
        ),
        "backward": Phase(
            array=backward_array(linear),
            torch=backward_torch(linear_torch, wanted=[0, 1, 2]),
            inputs=backward_inputs,
            error_factor=8,  # a weight's gradient adds up as many terms as there are rows
            flops=lambda dims: 2 * flops(dims),
            bytes_moved=backward_bytes,
        ),
    },
    includes={
        "numpy": "BLAS, then a pass that adds the bias",
        "cupy": "cuBLAS, then a kernel that adds the bias",
        "torch": "backward: the call of autograd",
    },
    resize=resize,
)
