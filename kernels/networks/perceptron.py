"""A perceptron: one linear layer, softmax and cross-entropy, that is multinomial regression.

Source: Rosenblatt, 1958; with ten classes of 28 x 28 pixels as in LeCun et al., 1998, section III.
"""

from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Size

from ..operations._dims import complete
from ..operations.linear import linear
from ._network import Network, workload
from ._parameters import Tree, dense
from ._pass import Pass, Value


def declare(dims: Dims) -> Tree:
    """Declare the linear layer."""
    return dense(dims["features"], dims["classes"])


def draw(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw x (batch, features) from N(0, 1), and labels."""
    x = rng.standard_normal((dims["batch"], dims["features"]), dtype="float32")
    return x, rng.integers(dims["classes"], size=dims["batch"])


def forward(run: Pass, parameters: Tree, x: Any, _dims: Dims) -> Value:
    """Return the logits."""
    return run(linear, x, *parameters)


def module(torch: Any, dims: Dims) -> Any:
    """Write it as the only layer that it is."""
    return torch.nn.Linear(dims["features"], dims["classes"])


def multiply_adds(dims: Dims) -> int:
    """Count those of the only layer."""
    return dims["batch"] * dims["features"] * dims["classes"]


def size(batch: int, preset: str = "standard") -> Size:
    """Name a batch of images of MNIST."""
    return Size(name="mnist", dims={"batch": batch, "features": 784, "classes": 10}, preset=preset)


def resize(given: Mapping[str, int]) -> Dims:
    """Complete what is given to images of MNIST."""
    return complete({**size(32).dims, **given}, ("batch", "features", "classes"))


WORKLOAD = workload(
    Network(
        declare=declare,
        draw=draw,
        forward=forward,
        module=module,
        multiply_adds=multiply_adds,
        first=multiply_adds,
    ),
    name="perceptron",
    summary="one linear layer with softmax cross-entropy",
    source="Rosenblatt, 1958; LeCun et al., 1998, section III",
    sizes=[size(32, "quick"), size(1024)],
    resize=resize,
)
