"""A transformer encoder that classifies sequences, as BERT does after it was trained in advance.

Of each block, x = norm(x + drop(attention(x))) and then x = norm(x + drop(down(gelu(up(x))))); a
tanh of the first token is classified. Sources: Vaswani et al., 2017, section 3.1; Devlin et al.,
"BERT", 2019, with its dropout of 0.1; the smaller ones are those of Turc et al., "Well-Read
Students Learn Better", 2019.

All sequences are as long as the batch's tensor, so that nothing is masked, and none is a pair, so
that there is no table of segments; there are as many positions as tokens. With `dropout` = 1 hidden
values are dropped from, but not attention's weights: PyTorch's fused attention takes no given mask.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.workload import Dims, Size

from ..operations._dims import complete
from ..operations._pullback import Pullback
from ..operations.dropout import draw_mask
from ..operations.embedding import draw_ids, embedding
from ..operations.gelu import gelu
from ..operations.layer_norm import layer_norm
from ..operations.linear import linear
from ._network import Network, given_dropout, workload
from ._parameters import Tree, dense, table
from ._parameters import layer_norm as gain_and_bias
from ._pass import Pass, Value
from ._sequences import multi_head, positioned, token, whole_heads

DROPPED = 0.1
EPS = 1e-12  # in the published code of BERT


def declare(dims: Dims) -> Tree:
    """Declare tables, blocks and classifier."""
    features = dims["features"]
    block = {
        "query": dense(features, features),
        "key": dense(features, features),
        "value": dense(features, features),
        "mixed": dense(features, features),
        "norm": gain_and_bias(features),
        "up": dense(features, 4 * features),
        "down": dense(4 * features, features),
        "last_norm": gain_and_bias(features),
    }
    return {
        "words": table(dims["vocabulary"], features),
        "positions": table(dims["tokens"], features),
        "norm": gain_and_bias(features),
        "blocks": [block] * dims["layers"],
        "pooled": dense(features, features),
        "classifier": dense(features, dims["classes"]),
    }


def draw(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw words (batch, tokens) as frequent as in texts, and a label for each sequence."""
    ids = draw_ids(rng, dims["vocabulary"], (dims["batch"], dims["tokens"]))
    return ids, rng.integers(dims["classes"], size=dims["batch"])


def masks(rng: Any, dims: Dims) -> Sequence[Any]:
    """Draw one mask for the embedded words and two for each block, if there is dropout at all."""
    shape = (dims["batch"], dims["tokens"], dims["features"])
    number = (1 + 2 * dims["layers"]) * dims["dropout"]
    return [draw_mask(rng, shape, DROPPED) for _ in range(number)]


def forward(run: Pass, parameters: Tree, ids: Any, dims: Dims) -> Value:
    """Return the logits."""
    words = run(embedding, parameters["words"], ids)
    x = run(positioned, words, parameters["positions"])
    x = run.drop(run(layer_norm, x, *parameters["norm"], eps=EPS))
    for block in parameters["blocks"]:
        q, k, v = (run(linear, x, *block[name]) for name in ("query", "key", "value"))
        mixed = run(linear, run(multi_head, q, k, v, heads=dims["heads"]), *block["mixed"])
        x = run(layer_norm, run.add(x, run.drop(mixed)), *block["norm"], eps=EPS)
        hidden = run(gelu, run(linear, x, *block["up"]))
        down = run.drop(run(linear, hidden, *block["down"]))
        x = run(layer_norm, run.add(x, down), *block["last_norm"], eps=EPS)
    pooled = run(tanh, run(linear, run(token, x, at=0), *parameters["pooled"]))
    return run(linear, pooled, *parameters["classifier"])


def tanh(xp: Any, x: Any) -> tuple[Any, Pullback]:
    """Return the hyperbolic tangent; the pullback keeps it."""
    y = xp.tanh(x)
    return y, lambda dy: (dy * (1 - y * y),)


def module(torch: Any, dims: Dims) -> Any:
    """Write it with PyTorch's layers and its fused attention."""
    nn, functional = torch.nn, torch.nn.functional
    features = dims["features"]

    def dropout() -> Any:
        return given_dropout(torch) if dims["dropout"] else nn.Identity()

    class SelfAttention(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(features, features)
            self.key = nn.Linear(features, features)
            self.value = nn.Linear(features, features)
            self.mixed = nn.Linear(features, features)

        def forward(self, x: Any) -> Any:
            q, k, v = (
                project(x).unflatten(-1, (dims["heads"], -1)).transpose(1, 2)
                for project in (self.query, self.key, self.value)
            )
            y = functional.scaled_dot_product_attention(q, k, v)
            return self.mixed(y.transpose(1, 2).flatten(2))

    class Block(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.attention = SelfAttention()
            self.drop = dropout()
            self.norm = nn.LayerNorm(features, EPS)
            self.up = nn.Linear(features, 4 * features)
            self.down = nn.Linear(4 * features, features)
            self.last_drop = dropout()
            self.last_norm = nn.LayerNorm(features, EPS)

        def forward(self, x: Any) -> Any:
            x = self.norm(x + self.drop(self.attention(x)))
            return self.last_norm(x + self.last_drop(self.down(functional.gelu(self.up(x)))))

    class Encoder(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(dims["vocabulary"], features)
            self.positions = nn.Embedding(dims["tokens"], features)
            self.norm = nn.LayerNorm(features, EPS)
            self.drop = dropout()
            self.blocks = nn.Sequential(*(Block() for _ in range(dims["layers"])))
            self.pooled = nn.Linear(features, features)
            self.classifier = nn.Linear(features, dims["classes"])

        def forward(self, ids: Any) -> Any:
            positions = torch.arange(ids.shape[1], device=ids.device)
            x = self.drop(self.norm(self.words(ids) + self.positions(positions)))
            return self.classifier(torch.tanh(self.pooled(self.blocks(x)[:, 0])))

    return Encoder()


def multiply_adds(dims: Dims) -> int:
    """Count for each token and block 12 squares of features and two products with all tokens."""
    features, tokens = dims["features"], dims["tokens"]
    blocks = dims["layers"] * tokens * (12 * features**2 + 2 * tokens * features)
    return dims["batch"] * (blocks + features**2 + features * dims["classes"])


def size(name: str, layers: int, features: int, batch: int, preset: str, **own: int) -> Size:
    """Name an encoder whose heads have 64 features, as all of BERT's do."""
    dims = {
        "batch": batch,
        "tokens": 128,
        "layers": layers,
        "features": features,
        "heads": features // 64,
        "vocabulary": 30522,
        "classes": 2,
        "dropout": 0,
    }
    return Size(name=name, dims={**dims, **own}, preset=preset)


def resize(given: Mapping[str, int]) -> Dims:
    """Complete what is given to BERT-tiny."""
    return whole_heads(
        complete(
            {**size("", 2, 128, 8, "quick").dims, **given},
            ("batch", "tokens", "layers", "features", "heads", "vocabulary", "classes"),
            dropout=range(2),
        )
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
    name="transformer",
    summary="transformer encoder (BERT) that classifies sequences, with and without dropout",
    source="Vaswani et al., 2017; Devlin et al., 2019; Turc et al., 2019",
    sizes=[
        size("bert_tiny", 2, 128, 8, "quick", tokens=64),
        size("bert_tiny.dropout", 2, 128, 8, "standard", tokens=64, dropout=1),
        size("bert_mini", 4, 256, 32, "standard"),
        size("bert_base", 12, 768, 8, "thorough"),
        size("bert_base.dropout", 12, 768, 8, "thorough", dropout=1),
        size("bert_base", 12, 768, 32, "thorough"),
    ],
    resize=resize,
    includes=[("numpy", "the whole table of words gets a gradient, as with PyTorch")],
)
