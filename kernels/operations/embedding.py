"""Embedding: a row of a table for each token, and the gradient, which adds up repeated tokens.

Tokens are drawn as frequent as words are, the one of rank r in proportion to 1 / r (Zipf, "Human
Behavior and the Principle of Least Effort", 1949): how often rows repeat is what the gradient's
time depends on.

Sources of the sizes: BERT-base (Devlin et al., 2019), GPT-2 small (Radford et al., 2019), the
classifier of Keras's example imdb_lstm.
"""

from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Phase, Size, Workload

from ._dims import complete
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch

WIDE = 256
"""Features from which a row is worth a call of NumPy's: of 2560 rows of 128 a loop takes 1.8 ms and
one `add.at` on single elements 0.8 ms, of 8192 rows of 768 it is 9 ms and 16 ms."""


def embedding(xp: Any, w: Any, ids: Any) -> tuple[Any, Pullback]:
    """Return w[ids]: w is (vocabulary, features), ids is any shape, y has features as its last."""

    def pullback(dy: Any) -> tuple[Any, None]:
        dw = xp.zeros(w.shape, dy.dtype)
        add_rows(xp, dw, ids.reshape(-1), dy.reshape(-1, dy.shape[-1]))
        return dw, None

    return xp.take(w, ids, axis=0), pullback


def add_rows(xp: Any, table: Any, ids: Any, rows: Any) -> None:
    """Add each of `rows` to the row of `table` that its id names; ids may repeat."""
    if xp.__name__ != "numpy":
        xp.add.at(table, ids, rows)
    elif table.shape[1] >= WIDE:
        # NumPy's add.at is fast on single elements only: on rows it takes six times this loop.
        for row, added in zip(ids.tolist(), rows, strict=True):
            table[row] += added
    else:
        columns = xp.arange(table.shape[1])
        elements = ids[:, None] * table.shape[1] + columns
        xp.add.at(table.reshape(-1), elements.reshape(-1), rows.reshape(-1))


def embedding_torch(torch: Any, w: Any, ids: Any) -> Any:
    """Call the functional form."""
    return torch.nn.functional.embedding(ids, w)


def inputs(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw a table from N(0, 1), and tokens."""
    w = rng.standard_normal((dims["vocabulary"], dims["features"]), dtype="float32")
    return w, draw_ids(rng, dims["vocabulary"], (dims["batch"], dims["tokens"]))


def draw_ids(rng: Any, vocabulary: int, shape: tuple[int, ...]) -> Any:
    """Draw tokens as frequent as words are."""
    # The logarithm of what has the density 1 / r is uniform.
    return ((vocabulary + 1.0) ** rng.random(shape)).astype("int64") - 1


def backward_inputs(rng: Any, dims: Dims) -> tuple[Any, Any, Any]:
    """Draw a table, tokens and dy."""
    w, ids = inputs(rng, dims)
    return w, ids, rng.standard_normal((*ids.shape, dims["features"]), dtype="float32")


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch, tokens, vocabulary and features."""
    return complete(given, ("batch", "tokens", "vocabulary", "features"))


def elements(dims: Dims) -> int:
    """Return how many values the output has."""
    return dims["batch"] * dims["tokens"] * dims["features"]


def forward_bytes(dims: Dims, item: int) -> int:
    """Count tokens read and the output written; repeated rows are read from a cache."""
    return item * elements(dims) + 8 * dims["batch"] * dims["tokens"]


def backward_bytes(dims: Dims, item: int) -> int:
    """Count tokens and dy read, and the gradient of the whole table written."""
    return forward_bytes(dims, item) + item * dims["vocabulary"] * dims["features"]


def table(
    name: str, vocabulary: int, features: int, preset: str = "standard", **tokens: int
) -> Size:
    """Name a table."""
    dims = {**tokens, "vocabulary": vocabulary, "features": features}
    return Size(dims=dims, preset=preset, name=name)


WORKLOAD = Workload(
    name="embedding",
    summary="rows of a table by integer token, and the table's dense gradient",
    source="Devlin et al., 2019; Radford et al., 2019; Keras imdb_lstm; tokens: Zipf, 1949",
    suites=("layers",),
    sizes=[
        table("imdb_lstm.words", 20000, 128, "quick", batch=32, tokens=80),
        table("bert_base.words", 30522, 768, batch=64, tokens=128),
        table("gpt2_small.words", 50257, 768, batch=4, tokens=1024),
    ],
    inputs=inputs,
    phases={
        "forward": Phase(
            array=forward_array(embedding),
            torch=forward_torch(embedding_torch),
            bytes_moved=forward_bytes,
        ),
        "backward": Phase(
            array=backward_array(embedding),
            torch=backward_torch(embedding_torch, wanted=[0]),
            inputs=backward_inputs,
            error_factor=8,  # the most frequent token's row is a long sum
            flops=elements,  # an addition each
            bytes_moved=backward_bytes,
        ),
    },
    includes={
        "numpy": "backward: filling the table with zeros; rows are added one by one, on one core",
        "cupy": "backward: filling the table with zeros; atomic additions",
        "torch": "backward: filling the table with zeros, and the call of autograd",
    },
    resize=resize,
)
