"""What the activations share: arrays of (batch, features), features being all of an example."""

import math
from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Size

from ._dims import complete

NEEDED = ("batch", "features")
LAYERS = {
    # Values per example: channels, rows and columns, or tokens and features.
    "mlp.hidden": (512,),
    "resnet50.stem": (64, 112, 112),
    "resnet50.last": (2048, 7, 7),
    "vgg16.first": (64, 224, 224),
    "vgg16.classifier": (4096,),
    "bert_base.hidden": (128, 768),
    "bert_base.ffn": (128, 3072),
    "bert_base.attention": (12, 128, 128),
    "gpt2_small.hidden": (1024, 768),
    "gpt2_small.ffn": (1024, 3072),
}
"""Sources: He et al., 2016, table 1; Simonyan and Zisserman, 2015, table 1; Devlin et al., 2019,
section 3; Radford et al., 2019, section 2; the perceptron of Keras's example mnist_mlp."""


def layer(name: str, batch: int, preset: str = "standard", **options: int) -> Size:
    """Return the activations of one layer of a network."""
    features = math.prod(LAYERS[name])
    return Size(dims={"batch": batch, "features": features, **options}, preset=preset, name=name)


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch and features."""
    return complete(given, NEEDED)


def draw_x(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw x from N(0, 1)."""
    return (rng.standard_normal((dims["batch"], dims["features"]), dtype="float32"),)


def draw_x_and_dy(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw x and dy from N(0, 1)."""
    return (*draw_x(rng, dims), *draw_x(rng, dims))


def elements(dims: Dims) -> int:
    """Return how many values an array holds."""
    return dims["batch"] * dims["features"]
