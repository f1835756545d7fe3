"""A classifier of texts: embedded words, layers of a long short-term memory, and its last output.

Source: Keras's example imdb_lstm (20000 words, texts of 80 words, 128 features, dropout 0.2).
With `dropout` = 1 embedded words are dropped from, as Keras does; its dropout of the recurrence,
which no PyTorch layer has, is left out. There are two classes with a logit each instead of one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.workload import Dims, Size

from ..operations._dims import complete
from ..operations.dropout import draw_mask
from ..operations.embedding import draw_ids, embedding
from ..operations.linear import linear
from ..operations.lstm import lstm
from ._network import Network, given_dropout, workload
from ._parameters import Parameter, Tree, dense, table
from ._pass import Pass, Value
from ._sequences import token

DROPPED = 0.2


def widths(dims: Dims) -> list[int]:
    """Return the features that each LSTM layer reads."""
    return [dims["features"], *[dims["hidden"]] * (dims["layers"] - 1)]


def declare(dims: Dims) -> Tree:
    """Declare words, layers and classifier; layers have two biases, as PyTorch's do for cuDNN."""
    hidden = dims["hidden"]
    spread = (3 * hidden) ** -0.5  # that of a uniform distribution within 1 / sqrt(hidden)
    layers = [
        [Parameter((4 * hidden, *inner), spread) for inner in ((features,), (hidden,), (), ())]
        for features in widths(dims)
    ]
    return {
        "words": table(dims["vocabulary"], dims["features"], spread=1.0),
        "layers": layers,
        "classifier": dense(hidden, dims["classes"]),
    }


def draw(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw words (batch, tokens) as frequent as in texts, and labels."""
    ids = draw_ids(rng, dims["vocabulary"], (dims["batch"], dims["tokens"]))
    return ids, rng.integers(dims["classes"], size=dims["batch"])


def masks(rng: Any, dims: Dims) -> Sequence[Any]:
    """Draw the mask of the embedded words, if they are dropped from at all."""
    shape = (dims["batch"], dims["tokens"], dims["features"])
    return [draw_mask(rng, shape, DROPPED) for _ in range(dims["dropout"])]


def forward(run: Pass, parameters: Tree, ids: Any, _dims: Dims) -> Value:
    """Return the logits."""
    x = run.drop(run(embedding, parameters["words"], ids))
    for layer in parameters["layers"]:
        x = run(lstm, x, *layer)
    return run(linear, run(token, x, at=-1), *parameters["classifier"])


def module(torch: Any, dims: Dims) -> Any:
    """Write it with PyTorch's own layers."""
    nn = torch.nn

    class Classifier(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            features, hidden = dims["features"], dims["hidden"]
            self.words = nn.Embedding(dims["vocabulary"], features)
            self.drop = given_dropout(torch) if dims["dropout"] else nn.Identity()
            self.lstm = nn.LSTM(features, hidden, dims["layers"], batch_first=True)
            self.classifier = nn.Linear(hidden, dims["classes"])

        def forward(self, ids: Any) -> Any:
            _, (last, _) = self.lstm(self.drop(self.words(ids)))
            return self.classifier(last[-1])

    return Classifier()


def multiply_adds(dims: Dims) -> int:
    """Count four gates for each token, of x and of what came before, and the classifier."""
    hidden = dims["hidden"]
    each = sum(4 * hidden * (features + hidden) for features in widths(dims))
    return dims["batch"] * (dims["tokens"] * each + hidden * dims["classes"])


def size(name: str, width: int = 128, preset: str = "standard", **own: int) -> Size:
    """Name a classifier."""
    dims = {"batch": 32, "tokens": 80, "vocabulary": 20000, "features": width, "hidden": width}
    return Size(
        name=name,
        dims={**dims, "layers": 1, "classes": 2, "dropout": 0, **own},
        preset=preset,
    )


def resize(given: Mapping[str, int]) -> Dims:
    """Complete what is given to the network of imdb_lstm."""
    return complete(
        {**size("").dims, **given},
        ("batch", "tokens", "vocabulary", "features", "hidden", "layers", "classes"),
        dropout=range(2),
    )


NETWORK = Network(
    declare=declare,
    draw=draw,
    masks=masks,
    forward=forward,
    module=module,
    multiply_adds=multiply_adds,
)

WORKLOAD = workload(
    NETWORK,
    name="lstm_classifier",
    summary="long short-term memory that classifies texts, with and without dropout",
    source="Keras, examples/imdb_lstm.py; Hochreiter and Schmidhuber, 1997",
    sizes=[
        size("imdb", preset="quick"),
        size("imdb.dropout", dropout=1),
        size("wide", 256, tokens=128),
        size("wide.two_layers", 512, "thorough", tokens=128, layers=2),
        size("wide.two_layers", 512, "thorough", tokens=128, layers=2, batch=256),
    ],
    resize=resize,
    includes=[("numpy", "the whole table of words gets a gradient, as with PyTorch")],
)
