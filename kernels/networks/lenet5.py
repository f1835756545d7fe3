"""LeNet-5 as it is written today: with max pooling, rectifiers and a linear last layer.

LeCun et al. had trained subsampling, tanh, a partly connected second convolution and radial basis
functions; the sizes of all layers are theirs. Images have 28 x 28 pixels, and two zeros around.

Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, figure 2.
"""

from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Size

from ..operations._dims import complete
from ..operations.conv2d import conv2d
from ..operations.linear import linear
from ..operations.max_pool2d import max_pool2d
from ..operations.relu import relu
from ._network import Network, workload
from ._parameters import Tree, convolution, dense
from ._pass import Pass, Value

IMAGE = 28


def declare(dims: Dims) -> Tree:
    """Declare C1, C3, C5, F6 and the output."""
    return {
        "c1": convolution(1, 6, 5),
        "c3": convolution(6, 16, 5),
        "c5": dense(16 * 5 * 5, 120),
        "f6": dense(120, 84),
        "output": dense(84, dims["classes"]),
    }


def draw(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw x (batch, 1, 28, 28) from N(0, 1), and labels."""
    x = rng.standard_normal((dims["batch"], 1, IMAGE, IMAGE), dtype="float32")
    return x, rng.integers(dims["classes"], size=dims["batch"])


def forward(run: Pass, parameters: Tree, x: Any, dims: Dims) -> Value:
    """Return the logits."""
    x = run(relu, run(conv2d, x, *parameters["c1"], padding=2))
    x = run(max_pool2d, x, kernel=2, stride=2)
    x = run(relu, run(conv2d, x, *parameters["c3"]))
    x = run(max_pool2d, x, kernel=2, stride=2)
    x = run.reshape(x, dims["batch"], -1)
    x = run(relu, run(linear, x, *parameters["c5"]))
    x = run(relu, run(linear, x, *parameters["f6"]))
    return run(linear, x, *parameters["output"])


def module(torch: Any, dims: Dims) -> Any:
    """Write it as a Sequential."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, dims["classes"]),
    )


def first(dims: Dims) -> int:
    """Count the multiply-adds of C1."""
    return dims["batch"] * 28 * 28 * 6 * 5 * 5


def multiply_adds(dims: Dims) -> int:
    """Count those of all layers."""
    c3 = 10 * 10 * 16 * 6 * 5 * 5
    return first(dims) + dims["batch"] * (c3 + 400 * 120 + 120 * 84 + 84 * dims["classes"])


def size(batch: int, preset: str = "standard") -> Size:
    """Name a batch of images of MNIST."""
    return Size(name="mnist", dims={"batch": batch, "classes": 10}, preset=preset)


def resize(given: Mapping[str, int]) -> Dims:
    """Complete what is given to images of MNIST."""
    return complete({**size(32).dims, **given}, ("batch", "classes"))


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
    name="lenet5",
    summary="LeNet-5 with max pooling and rectifiers: two convolutions, three linear layers",
    source="LeCun et al., 1998, figure 2",
    sizes=[size(32, "quick"), size(128), size(1024, "thorough")],
    resize=resize,
)
