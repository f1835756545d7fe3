"""VGG-16: thirteen convolutions of 3 x 3 and three linear layers, hardly anything but products.

With `norm` every convolution is followed by batch normalisation, as in torchvision's vgg16_bn;
with `dropout` half of what the two hidden linear layers compute is dropped, as in the paper.

Sources: Simonyan and Zisserman, 2015, table 1, configuration D; for the 32 x 32 pixels of CIFAR-10
with 512 features in the linear layers Liu and Deng, "Very Deep Convolutional Neural Network Based
Image Classification Using Small Training Sample Size", 2015.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.workload import Dims, Size

from ..operations._dims import complete
from ..operations.conv2d import conv2d
from ..operations.dropout import draw_mask
from ..operations.linear import linear
from ..operations.max_pool2d import max_pool2d
from ..operations.relu import relu
from ._network import Network, given_dropout, workload
from ._parameters import Tree, batch_norm, convolution, dense
from ._pass import Pass, Value

STAGES = [(1, 2), (2, 2), (4, 3), (8, 3), (8, 3)]
"""Channels, in multiples of `width`, and how many convolutions; then comes a pooling."""

DROPPED = 0.5


def layers(dims: Dims) -> Iterator[tuple[int, int, int]]:
    """Yield the channels in, the channels out and the height of each convolution."""
    inner, height = 3, dims["image"]
    for multiple, count in STAGES:
        for _ in range(count):
            outer = multiple * dims["width"]
            yield inner, outer, height
            inner = outer
        height //= 2


def widths(dims: Dims) -> list[int]:
    """Return the features of the last pooling, of both hidden linear layers and of the logits."""
    *_, (_, channels, height) = layers(dims)
    return [channels * (height // 2) ** 2, dims["hidden"], dims["hidden"], dims["classes"]]


def declare(dims: Dims) -> Tree:
    """Declare the convolutions, each with its normalisation, and the linear layers."""
    each = widths(dims)
    return {
        "convolutions": [
            [*convolution(inner, outer, 3), *(batch_norm(outer) if dims["norm"] else [])]
            for inner, outer, _ in layers(dims)
        ],
        "classifier": [dense(*pair) for pair in itertools.pairwise(each)],
    }


def draw(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw x (batch, 3, image, image) from N(0, 1), and labels."""
    x = rng.standard_normal((dims["batch"], 3, dims["image"], dims["image"]), dtype="float32")
    return x, rng.integers(dims["classes"], size=dims["batch"])


def masks(rng: Any, dims: Dims) -> Sequence[Any]:
    """Draw one mask for each hidden linear layer, if it is dropped from at all."""
    shape = (dims["batch"], dims["hidden"])
    return [draw_mask(rng, shape, DROPPED) for _ in range(2 * dims["dropout"])]


def forward(run: Pass, parameters: Tree, x: Any, dims: Dims) -> Value:
    """Return the logits."""
    convolutions = iter(parameters["convolutions"])
    for _, count in STAGES:
        for _ in range(count):
            w, b, *norm = next(convolutions)
            x = run(conv2d, x, w, b, padding=1)
            x = run(relu, run.norm(x, norm) if norm else x)
        x = run(max_pool2d, x, kernel=2, stride=2)
    x = run.reshape(x, dims["batch"], -1)
    *hidden, last = parameters["classifier"]
    for layer in hidden:
        x = run(relu, run(linear, x, *layer))
        x = run.drop(x) if dims["dropout"] else x
    return run(linear, x, *last)


def module(torch: Any, dims: Dims) -> Any:
    """Write it as a Sequential."""
    nn = torch.nn
    parts, sizes = [], layers(dims)
    for _, count in STAGES:
        for _ in range(count):
            inner, outer, _ = next(sizes)
            parts.append(nn.Conv2d(inner, outer, 3, padding=1))
            parts += [nn.BatchNorm2d(outer)] if dims["norm"] else []
            parts.append(nn.ReLU(inplace=True))
        parts.append(nn.MaxPool2d(2))
    parts.append(nn.Flatten())
    *hidden, last = itertools.pairwise(widths(dims))
    for pair in hidden:
        parts += [nn.Linear(*pair), nn.ReLU(inplace=True)]
        parts += [given_dropout(torch)] if dims["dropout"] else []
    return nn.Sequential(*parts, nn.Linear(*last))


def first(dims: Dims) -> int:
    """Count the multiply-adds of the first convolution."""
    return dims["batch"] * dims["image"] ** 2 * 3 * dims["width"] * 3 * 3


def multiply_adds(dims: Dims) -> int:
    """Count those of all layers."""
    convolutions = sum(height**2 * inner * outer * 9 for inner, outer, height in layers(dims))
    linears = sum(a * b for a, b in itertools.pairwise(widths(dims)))
    return dims["batch"] * (convolutions + linears)


DATA = {
    "imagenet": {"image": 224, "classes": 1000, "hidden": 4096},
    "tiny_imagenet": {"image": 64, "classes": 200, "hidden": 4096},
    "cifar": {"image": 32, "classes": 10, "hidden": 512},
}


def size(name: str, batch: int, preset: str = "standard", **own: int) -> Size:
    """Name images: `cifar`, or `cifar.norm` with what else the network has."""
    dims = {"batch": batch, **DATA[name], "width": 64, "norm": 0, "dropout": 0, **own}
    return Size(name=".".join([name, *own]), dims=dims, preset=preset)


def resize(given: Mapping[str, int]) -> Dims:
    """Complete what is given to the network of the paper."""
    needed = ("batch", "image", "classes", "hidden", "width")
    dims = complete({**size("imagenet", 1).dims, **given}, needed, norm=range(2), dropout=range(2))
    if dims["image"] % 32:
        raise ValueError("image is a multiple of 32: it is halved five times")
    return dims


WORKLOAD = workload(
    Network(
        declare=declare,
        draw=draw,
        masks=masks,
        forward=forward,
        module=module,
        multiply_adds=multiply_adds,
        first=first,
        has_kinks=True,
        is_image=True,
    ),
    name="vgg16",
    summary="VGG-16, with and without batch normalisation and dropout",
    source="Simonyan and Zisserman, 2015, table 1, configuration D; Liu and Deng, 2015;"
    " torchvision, models/vgg.py",
    sizes=[
        size("cifar", 4, "quick"),
        size("cifar", 32),
        size("cifar", 32, norm=1),
        size("cifar", 32, dropout=1),
        size("cifar", 32, norm=1, dropout=1),
        size("tiny_imagenet", 8),
        size("imagenet", 8, "thorough"),
        size("imagenet", 8, "thorough", norm=1),
        size("imagenet", 32, "thorough", dropout=1),
    ],
    resize=resize,
    includes=[
        ("torch", "with batch normalisation, training also updates the running statistics"),
    ],
)
