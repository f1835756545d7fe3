"""A multilayer perceptron: linear layers with rectifiers between, and dropout if it is asked for.

Sources: Keras's example mnist_mlp (784 - 512 - 512 - 10, dropout 0.2); `wide`: the same with 4096
features everywhere, where products are all that counts.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from bench.workload import Dims, Size

from ..operations._dims import complete
from ..operations.dropout import draw_mask
from ..operations.linear import linear
from ..operations.relu import relu
from ._network import Network, given_dropout, workload
from ._parameters import Tree, dense
from ._pass import Pass, Value

DROPPED = 0.2


def widths(dims: Dims) -> list[int]:
    """Return the features of x, of each hidden layer and of the logits."""
    return [dims["features"], *[dims["hidden"]] * dims["layers"], dims["classes"]]


def declare(dims: Dims) -> Tree:
    """Declare a linear layer for each step from one width to the next."""
    each = widths(dims)
    return [dense(inner, outer) for inner, outer in itertools.pairwise(each)]


def draw(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw x (batch, features) from N(0, 1), and labels."""
    x = rng.standard_normal((dims["batch"], dims["features"]), dtype="float32")
    return x, rng.integers(dims["classes"], size=dims["batch"])


def masks(rng: Any, dims: Dims) -> Sequence[Any]:
    """Draw one mask for each hidden layer, if it is dropped from at all."""
    shape = (dims["batch"], dims["hidden"])
    return [draw_mask(rng, shape, DROPPED) for _ in range(dims["layers"] * dims["dropout"])]


def forward(run: Pass, parameters: Tree, x: Any, dims: Dims) -> Value:
    """Return the logits."""
    *hidden, last = parameters
    for layer in hidden:
        x = run(relu, run(linear, x, *layer))
        if dims["dropout"]:
            x = run.drop(x)
    return run(linear, x, *last)


def module(torch: Any, dims: Dims) -> Any:
    """Write it as a Sequential."""
    each = widths(dims)
    layers = []
    for inner, outer in itertools.pairwise(each[:-1]):
        layers += [torch.nn.Linear(inner, outer), torch.nn.ReLU()]
        layers += [given_dropout(torch)] if dims["dropout"] else []
    return torch.nn.Sequential(*layers, torch.nn.Linear(*each[-2:]))


def first(dims: Dims) -> int:
    """Count the multiply-adds of the first layer."""
    return dims["batch"] * dims["features"] * widths(dims)[1]


def multiply_adds(dims: Dims) -> int:
    """Count those of all layers."""
    each = widths(dims)
    return dims["batch"] * sum(a * b for a, b in itertools.pairwise(each))


def size(name: str, batch: int, width: int, preset: str = "standard", **own: int) -> Size:
    """Name a perceptron."""
    dims = {"batch": batch, "features": 784, "hidden": width, "layers": 2, "classes": 10}
    return Size(name=name, dims={**dims, "dropout": 0, **own}, preset=preset)


def resize(given: Mapping[str, int]) -> Dims:
    """Complete what is given to the network of mnist_mlp."""
    return complete(
        {**size("", 32, 512).dims, **given},
        ("batch", "features", "hidden", "classes"),
        layers=range(100),
        dropout=range(2),
    )


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
    ),
    name="mlp",
    summary="multilayer perceptron with two hidden layers, with and without dropout",
    source="Keras, examples/mnist_mlp.py; Srivastava et al., 2014",
    sizes=[
        size("mnist", 32, 512, "quick"),
        size("mnist.dropout", 32, 512, dropout=1),
        size("mnist", 128, 512),
        size("mnist.dropout", 128, 512, dropout=1),
        size("wide", 128, 4096, features=4096),
        size("wide", 1024, 4096, "thorough", features=4096),
    ],
    resize=resize,
)
