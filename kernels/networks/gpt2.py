"""GPT-2, a causal transformer that predicts the next word at each token.

Of each block, x = x + drop(attention(norm(x))) and then x = x + drop(down(gelu(up(norm(x))))); a
last norm, and the table of words once more for the logits. Source: Radford et al., "Language Models
are Unsupervised Multitask Learners", 2019, section 2.3, and its published code: gelu with tanh, one
product for queries, keys and values, dropout of 0.1.

There are as many positions as tokens, in GPT-2 small 1024 as published. With `dropout` = 1 hidden
values are dropped from, but not attention's weights: PyTorch's fused attention takes no given mask.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.workload import Dims, Size

from ..operations._dims import complete
from ..operations.dropout import draw_mask
from ..operations.embedding import draw_ids, embedding
from ..operations.gelu import gelu
from ..operations.layer_norm import layer_norm
from ..operations.linear import linear
from ._network import Network, given_dropout, workload
from ._parameters import Tree, dense, table
from ._parameters import layer_norm as gain_and_bias
from ._pass import Pass, Value
from ._sequences import packed_multi_head, positioned, whole_heads

DROPPED = 0.1


def declare(dims: Dims) -> Tree:
    """Declare tables, blocks and the last norm; the logits have no weights of their own."""
    features = dims["features"]
    block = {
        "norm": gain_and_bias(features),
        "queries_keys_values": dense(features, 3 * features),
        "mixed": dense(features, features),
        "next_norm": gain_and_bias(features),
        "up": dense(features, 4 * features),
        "down": dense(4 * features, features),
    }
    return {
        "words": table(dims["vocabulary"], features),
        "positions": table(dims["tokens"], features),
        "blocks": [block] * dims["layers"],
        "norm": gain_and_bias(features),
    }


def draw(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw words (batch, tokens) as frequent as in texts, and for each of them the next."""
    ids = draw_ids(rng, dims["vocabulary"], (dims["batch"], dims["tokens"] + 1))
    return ids[:, :-1], ids[:, 1:].reshape(-1)


def masks(rng: Any, dims: Dims) -> Sequence[Any]:
    """Draw one mask for the embedded words and two for each block, if there is dropout at all."""
    shape = (dims["batch"], dims["tokens"], dims["features"])
    number = (1 + 2 * dims["layers"]) * dims["dropout"]
    return [draw_mask(rng, shape, DROPPED) for _ in range(number)]


def forward(run: Pass, parameters: Tree, ids: Any, dims: Dims) -> Value:
    """Return the logits (batch tokens, vocabulary)."""
    words = run(embedding, parameters["words"], ids)
    x = run.drop(run(positioned, words, parameters["positions"]))
    for block in parameters["blocks"]:
        qkv = run(linear, run(layer_norm, x, *block["norm"]), *block["queries_keys_values"])
        heads = run(packed_multi_head, qkv, heads=dims["heads"], causal=True)
        x = run.add(x, run.drop(run(linear, heads, *block["mixed"])))
        up = run(linear, run(layer_norm, x, *block["next_norm"]), *block["up"])
        down = run(linear, run(gelu, up, tanh=True), *block["down"])
        x = run.add(x, run.drop(down))
    logits = run(linear, run(layer_norm, x, *parameters["norm"]), parameters["words"])
    return run.reshape(logits, -1, dims["vocabulary"])


def module(torch: Any, dims: Dims) -> Any:
    """Write it with PyTorch's layers and its fused attention."""
    nn, functional = torch.nn, torch.nn.functional
    features = dims["features"]

    def dropout() -> Any:
        return given_dropout(torch) if dims["dropout"] else nn.Identity()

    class SelfAttention(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.queries_keys_values = nn.Linear(features, 3 * features)
            self.mixed = nn.Linear(features, features)

        def forward(self, x: Any) -> Any:
            q, k, v = (
                part.unflatten(-1, (dims["heads"], -1)).transpose(1, 2)
                for part in self.queries_keys_values(x).chunk(3, dim=-1)
            )
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.mixed(y.transpose(1, 2).flatten(2))

    class Block(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(features)
            self.attention = SelfAttention()
            self.drop = dropout()
            self.next_norm = nn.LayerNorm(features)
            self.up = nn.Linear(features, 4 * features)
            self.gelu = nn.GELU(approximate="tanh")
            self.down = nn.Linear(4 * features, features)
            self.next_drop = dropout()

        def forward(self, x: Any) -> Any:
            x = x + self.drop(self.attention(self.norm(x)))
            return x + self.next_drop(self.down(self.gelu(self.up(self.next_norm(x)))))

    class Decoder(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(dims["vocabulary"], features)
            self.positions = nn.Embedding(dims["tokens"], features)
            self.drop = dropout()
            self.blocks = nn.Sequential(*(Block() for _ in range(dims["layers"])))
            self.norm = nn.LayerNorm(features)

        def forward(self, ids: Any) -> Any:
            positions = torch.arange(ids.shape[1], device=ids.device)
            x = self.blocks(self.drop(self.words(ids) + self.positions(positions)))
            return functional.linear(self.norm(x), self.words.weight).flatten(0, 1)

    return Decoder()


def multiply_adds(dims: Dims) -> int:
    """Count for each token and block 12 squares of features and two products with all tokens.

    Tokens that the causal mask hides count as well, as in PyTorch's own counter; and the logits.
    """
    features, tokens = dims["features"], dims["tokens"]
    blocks = dims["layers"] * (12 * features**2 + 2 * tokens * features)
    return dims["batch"] * tokens * (blocks + features * dims["vocabulary"])


def size(name: str, layers: int, features: int, batch: int, preset: str, **own: int) -> Size:
    """Name a decoder whose heads have 64 features, as all of GPT-2's do."""
    dims = {
        "batch": batch,
        "tokens": 128,
        "layers": layers,
        "features": features,
        "heads": features // 64,
        "vocabulary": 50257,
        "dropout": 0,
    }
    return Size(name=name, dims={**dims, **own}, preset=preset)


def resize(given: Mapping[str, int]) -> Dims:
    """Complete what is given to two layers of 128 features."""
    return whole_heads(
        complete(
            {**size("", 2, 128, 4, "quick").dims, **given},
            ("batch", "tokens", "layers", "features", "heads", "vocabulary"),
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
    name="gpt2",
    summary="causal transformer (GPT-2) that predicts the next word, with and without dropout",
    source="Radford et al., 2019; Vaswani et al., 2017",
    sizes=[
        size("tiny", 2, 128, 4, "quick", tokens=64, vocabulary=1000),
        size("tiny.dropout", 2, 128, 4, "standard", tokens=64, vocabulary=1000, dropout=1),
        size("mini", 4, 256, 8, "standard", vocabulary=5000),
        size("gpt2_small", 12, 768, 1, "thorough", tokens=1024),
        size("gpt2_small.dropout", 12, 768, 1, "thorough", tokens=1024, dropout=1),
    ],
    resize=resize,
    includes=[
        ("numpy", "blocks of scores that the causal mask hides are left out, as PyTorch does"),
        ("cupy", "scores that the causal mask hides are computed as well"),
    ],
)
