"""ResNet-50 in its version 1.5: bottlenecks with the stride in their 3 x 3 convolution.

Without `norm` the batch normalisations are left out, to see what they cost. The last layer of each
bottleneck begins small, as otherwise every addition would double the variance (Goyal et al.,
"Accurate, Large Minibatch SGD", 2017, section 5.1).

Sources: He et al., "Deep Residual Learning for Image Recognition", 2016, table 1; the stride as in
torchvision's models/resnet.py and NVIDIA's DeepLearningExamples.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bench.workload import Dims, Size

from ..operations._dims import complete
from ..operations.avg_pool2d import global_avg_pool2d
from ..operations.conv2d import conv2d
from ..operations.linear import linear
from ..operations.max_pool2d import max_pool2d
from ..operations.relu import relu
from ._network import Network, workload
from ._parameters import Tree, batch_norm, dense, kernels
from ._pass import Pass, Value

STAGES = [(1, 3), (2, 4), (4, 6), (8, 3)]
"""Channels of the 3 x 3 convolutions, in multiples of `width`, and how many bottlenecks."""

EXPANSION = 4
SMALL = 0.25  # times what is added: after 16 additions the variance is 2.6 times what it was


class Bottleneck(NamedTuple):
    """The channels that come in, those of the 3 x 3 convolution, its stride and its height."""

    inner: int
    width: int
    stride: int
    height: int

    @property
    def outer(self) -> int:
        """The channels that come out."""
        return EXPANSION * self.width

    @property
    def has_shortcut(self) -> bool:
        """Whether what is added has to be projected to another shape."""
        return self.stride > 1 or self.inner != self.outer


def bottlenecks(dims: Dims) -> Iterator[Bottleneck]:
    """Yield all of them; the stem has left a quarter of the image's height."""
    inner, height = dims["width"], dims["image"] // 4
    for stage, (multiple, count) in enumerate(STAGES):
        for i in range(count):
            stride = 2 if stage and i == 0 else 1
            height //= stride
            block = Bottleneck(inner, multiple * dims["width"], stride, height)
            yield block
            inner = block.outer


def features(dims: Dims) -> int:
    """Return how many the classifier reads."""
    *_, last = bottlenecks(dims)
    return last.outer


def declare(dims: Dims) -> Tree:
    """Declare the stem, the bottlenecks and the classifier."""

    def layer(inner: int, outer: int, kernel: int, gain: float = 1) -> Tree:
        if dims["norm"]:
            return [kernels(inner, outer, kernel), *batch_norm(outer, gain)]
        return [kernels(inner, outer, kernel, gain)]

    def bottleneck(block: Bottleneck) -> Tree:
        layers = {
            "reduce": layer(block.inner, block.width, 1),
            "convolve": layer(block.width, block.width, 3),
            "expand": layer(block.width, block.outer, 1, SMALL),
        }
        if block.has_shortcut:
            layers["shortcut"] = layer(block.inner, block.outer, 1)
        return layers

    return {
        "stem": layer(3, dims["width"], 7),
        "bottlenecks": [bottleneck(block) for block in bottlenecks(dims)],
        "classifier": dense(features(dims), dims["classes"]),
    }


def draw(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw x (batch, 3, image, image) from N(0, 1), and labels."""
    x = rng.standard_normal((dims["batch"], 3, dims["image"], dims["image"]), dtype="float32")
    return x, rng.integers(dims["classes"], size=dims["batch"])


def forward(run: Pass, parameters: Tree, x: Any, dims: Dims) -> Value:
    """Return the logits."""

    def convolved(x: Any, layer: Tree, stride: int = 1) -> Value:
        w, *norm = layer
        x = run(conv2d, x, w, stride=stride, padding=w.array.shape[-1] // 2)
        return run.norm(x, norm) if norm else x

    def bottleneck(x: Value, layers: Tree, stride: int) -> Value:
        y = run(relu, convolved(x, layers["reduce"]))
        y = run(relu, convolved(y, layers["convolve"], stride))
        y = convolved(y, layers["expand"])
        if "shortcut" in layers:
            x = convolved(x, layers["shortcut"], stride)
        return run(relu, run.add(y, x))

    x = run(relu, convolved(x, parameters["stem"], stride=2))
    x = run(max_pool2d, x, kernel=3, stride=2, padding=1)
    for block, layers in zip(bottlenecks(dims), parameters["bottlenecks"], strict=True):
        x = bottleneck(x, layers, block.stride)
    x = run.reshape(run(global_avg_pool2d, x), dims["batch"], -1)
    return run(linear, x, *parameters["classifier"])


def module(torch: Any, dims: Dims) -> Any:
    """Write it as torchvision does."""
    nn = torch.nn

    def convolution(inner: int, outer: int, kernel: int, stride: int = 1) -> list[Any]:
        conv = nn.Conv2d(inner, outer, kernel, stride, padding=kernel // 2, bias=False)
        return [conv, nn.BatchNorm2d(outer)] if dims["norm"] else [conv]

    class Block(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, block: Bottleneck) -> None:
            super().__init__()
            inner, width, outer = block.inner, block.width, block.outer
            self.residual = nn.Sequential(
                *convolution(inner, width, 1),
                nn.ReLU(inplace=True),
                *convolution(width, width, 3, block.stride),
                nn.ReLU(inplace=True),
                *convolution(width, outer, 1),
            )
            self.shortcut = nn.Sequential(
                *(convolution(inner, outer, 1, block.stride) if block.has_shortcut else [])
            )
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Any) -> Any:
            y = self.residual(x)
            y += self.shortcut(x)
            return self.relu(y)

    return nn.Sequential(
        *convolution(3, dims["width"], 7, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        *(Block(block) for block in bottlenecks(dims)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(features(dims), dims["classes"]),
    )


def first(dims: Dims) -> int:
    """Count the multiply-adds of the stem."""
    return dims["batch"] * (dims["image"] // 2) ** 2 * 3 * dims["width"] * 7 * 7


def multiply_adds(dims: Dims) -> int:
    """Count those of all layers."""

    def of(block: Bottleneck) -> int:
        before, after = (block.height * block.stride) ** 2, block.height**2
        shortcut = after * block.inner * block.outer if block.has_shortcut else 0
        reduced = before * block.inner * block.width
        return reduced + after * block.width * (9 * block.width + block.outer) + shortcut

    blocks = sum(of(block) for block in bottlenecks(dims))
    return first(dims) + dims["batch"] * (blocks + features(dims) * dims["classes"])


DATA = {
    "imagenet": {"image": 224, "classes": 1000},
    "tiny_imagenet": {"image": 64, "classes": 200},
}


def size(name: str, batch: int, preset: str = "standard", **own: int) -> Size:
    """Name images; `imagenet.no_norm` is without batch normalisation."""
    dims = {"batch": batch, **DATA[name], "width": 64, "norm": 1, **own}
    return Size(name=name if dims["norm"] else f"{name}.no_norm", dims=dims, preset=preset)


def resize(given: Mapping[str, int]) -> Dims:
    """Complete what is given to the network of the paper."""
    needed = ("batch", "image", "classes", "width")
    dims = complete({**size("imagenet", 1).dims, **given}, needed, norm=range(2))
    if dims["image"] % 32 or dims["image"] < 64:
        raise ValueError("image is a multiple of 32, which it is divided by, and 64 or more")
    return dims


WORKLOAD = workload(
    Network(
        declare=declare,
        draw=draw,
        forward=forward,
        module=module,
        multiply_adds=multiply_adds,
        first=first,
        has_kinks=True,
        is_image=True,
    ),
    name="resnet50",
    summary="ResNet-50 v1.5, with and without batch normalisation",
    source="He et al., 2016, table 1; torchvision, models/resnet.py",
    sizes=[
        size("tiny_imagenet", 2, "quick"),
        size("tiny_imagenet", 32),
        size("tiny_imagenet", 32, norm=0),
        size("imagenet", 8),
        size("imagenet", 8, norm=0),
        size("imagenet", 32, "thorough"),
    ],
    resize=resize,
    includes=[
        ("torch", "with batch normalisation, training also updates the running statistics"),
    ],
)
