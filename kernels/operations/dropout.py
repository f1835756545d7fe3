"""Dropout of a given mask, scaled in training so that inference needs nothing, and its gradient.

The mask is an input, 0 where a value is dropped and 1 / (1 - rate) elsewhere: the libraries' own
generators cannot draw the same one, and every result is compared with the same reference.

Source: Srivastava et al., "Dropout", 2014, sections 4 and 10.
"""

from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Phase, Workload

from ._activation import NEEDED, draw_x, elements, layer
from ._dims import complete
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch


def dropout(xp: Any, x: Any, mask: Any) -> tuple[Any, Pullback]:
    """Return x times the mask, of the same shape; the pullback keeps the mask."""
    return xp.multiply(x, mask), lambda dy: (xp.multiply(dy, mask), None)


def dropout_torch(_torch: Any, x: Any, mask: Any) -> Any:
    """Multiply: `torch.nn.functional.dropout` would draw a mask of its own."""
    return x * mask


def draw_mask(rng: Any, shape: tuple[int, ...], rate: float) -> Any:
    """Draw which values are kept, each with the probability 1 - rate, scaled by its inverse."""
    kept = rng.random(shape, dtype="float32") >= rate
    return kept.astype("float32") / (1 - rate)


def inputs(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw x from N(0, 1), and a mask."""
    (x,) = draw_x(rng, dims)
    return x, draw_mask(rng, x.shape, dims["percent"] / 100)


def backward_inputs(rng: Any, dims: Dims) -> tuple[Any, Any, Any]:
    """Draw x and dy from N(0, 1), and a mask."""
    return (*inputs(rng, dims), *draw_x(rng, dims))


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch and features; a tenth is dropped where `percent` says nothing else."""
    return complete({"percent": 10, **given}, NEEDED, percent=range(100))


def bytes_moved(dims: Dims, item: int) -> int:
    """Count x or dy and the mask read, and the output written, once each."""
    return 3 * item * elements(dims)


WORKLOAD = Workload(
    name="dropout",
    summary="dropout with a given mask, and its gradient",
    source="Srivastava et al., 2014; rates and sizes: Devlin et al., 2019; Radford et al., 2019;"
    " Simonyan and Zisserman, 2015; Keras mnist_mlp",
    suites=("layers",),
    sizes=[
        layer("mlp.hidden", 128, percent=20),
        layer("bert_base.hidden", 8, "quick", percent=10),
        layer("vgg16.classifier", 256, percent=50),
        layer("bert_base.hidden", 64, percent=10),
        layer("bert_base.attention", 64, percent=10),
        layer("gpt2_small.hidden", 4, percent=10),
    ],
    inputs=inputs,
    phases={
        "forward": Phase(
            array=forward_array(dropout),
            torch=forward_torch(dropout_torch),
            flops=elements,  # a product each
            bytes_moved=bytes_moved,
        ),
        "backward": Phase(
            array=backward_array(dropout),
            torch=backward_torch(dropout_torch, wanted=[0]),
            inputs=backward_inputs,
            flops=elements,  # a product each
            bytes_moved=bytes_moved,
        ),
    },
    includes={
        "numpy": "the product with the mask, on one core; no mask is drawn",
        "cupy": "the product with the mask; no mask is drawn",
        "torch": "the product with the mask; no mask is drawn: torch.nn.functional.dropout would"
        " draw one, which no other library could repeat. backward: the call of autograd",
    },
    resize=resize,
)
