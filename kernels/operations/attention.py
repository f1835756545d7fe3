"""Scaled dot-product attention, plain or causal, and its gradients.

y = softmax(q k^T / sqrt(features)) v for each head; with `causal` = 1 a token attends to itself and
to those before it. All arrays are (batch, heads, tokens, features).

Sources: Vaswani et al., "Attention Is All You Need", 2017, equation 1; the heads of BERT-base
(Devlin et al., 2019) and GPT-2 small (Radford et al., 2019): 12 of 64 features.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from bench.workload import Dims, Phase, Size, Workload

from ._batches import matmul
from ._dims import complete
from ._fusing import fused
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch
from ._sums import row_dots, row_sums

BLOCK_BYTES = 512 * 1024
"""Of scores: half of a core's L2 cache, in which each product and pass finds what the last wrote,
and still products of which two cores can take halves."""


def attention(xp: Any, q: Any, k: Any, v: Any, *, causal: bool = False) -> tuple[Any, Pullback]:
    """Return the mean of the values, weighted by the softmax of the scores.

    The pullback keeps the weights, which are tokens times tokens for each head. They stay as exp of
    the scores: y, which is smaller, is divided by their sums instead.
    """
    scale = 1 / math.sqrt(q.shape[-1])
    queries, keys, values = (array.reshape(-1, *array.shape[2:]) for array in (q * scale, k, v))
    blocks = list(_blocks(xp, queries, causal))
    y = xp.empty_like(queries)
    sums = xp.empty((*y.shape[:2], 1), y.dtype)
    weights = []
    for heads, rows, seen in blocks:
        part = matmul(xp, queries[heads, rows], _transposed(keys[heads, seen]))
        if causal:
            size = len(range(*rows.indices(y.shape[1])))
            part[..., -size:] += xp.triu(xp.full((size, size), -math.inf, y.dtype), 1)
        # The largest is subtracted first, so that exp cannot overflow.
        fused(xp, _exp_of_difference)(part, part.max(axis=-1, keepdims=True))
        sums[heads, rows, 0] = row_sums(xp, part)
        y[heads, rows] = matmul(xp, part, values[heads, seen])
        weights.append(part)
    y /= sums

    def pullback(dy: Any) -> tuple[Any, Any, Any]:
        shares = dy.reshape(y.shape) / sums
        along = row_dots(xp, shares, y)[..., None]
        dq = xp.empty_like(y)
        dk, dv = (xp.zeros(y.shape, y.dtype) for _ in range(2))
        for (heads, rows, seen), part in zip(blocks, weights, strict=True):
            share = shares[heads, rows]
            dv[heads, seen] += matmul(xp, _transposed(part), share)
            scores = matmul(xp, share, _transposed(values[heads, seen]))
            fused(xp, _difference_times)(scores, along[heads, rows], part)
            dq[heads, rows] = matmul(xp, scores, keys[heads, seen])
            dk[heads, seen] += matmul(xp, _transposed(scores), queries[heads, rows])
        dq *= scale
        return dq.reshape(q.shape), dk.reshape(q.shape), dv.reshape(q.shape)

    return y.reshape(q.shape), pullback


def _blocks(xp: Any, queries: Any, causal: bool) -> Iterator[tuple[slice, slice, slice]]:
    """Yield heads, their tokens and the tokens that these see: few with NumPy, all with CuPy."""
    heads, tokens, _ = queries.shape
    heads_at_once, rows_at_once = heads, tokens
    if not hasattr(xp, "fuse"):
        rows_at_once = min(tokens, max(1, BLOCK_BYTES // (tokens * queries.itemsize)))
        heads_at_once = max(1, BLOCK_BYTES // (tokens * rows_at_once * queries.itemsize))
    for head in range(0, heads, heads_at_once):
        for row in range(0, tokens, rows_at_once):
            end = min(row + rows_at_once, tokens)
            seen = slice(0, end if causal else tokens)
            yield slice(head, head + heads_at_once), slice(row, end), seen


def _transposed(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def _exp_of_difference(xp: Any, x: Any, top: Any) -> None:
    x -= top
    xp.exp(x, out=x)


def _difference_times(_xp: Any, x: Any, along: Any, factor: Any) -> None:
    x -= along
    x *= factor


def attention_torch(torch: Any, q: Any, k: Any, v: Any, *, causal: bool) -> Any:
    """Call the fused function."""
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


def options(dims: Dims) -> dict[str, Any]:
    """Say whether tokens see only those before them."""
    return {"causal": bool(dims.get("causal", 0))}


def shape(dims: Dims) -> tuple[int, int, int, int]:
    """Return that of q, k, v and y."""
    return dims["batch"], dims["heads"], dims["tokens"], dims["features"]


def inputs(rng: Any, dims: Dims) -> tuple[Any, ...]:
    """Draw q, k and v from N(0, 1)."""
    return tuple(rng.standard_normal(shape(dims), dtype="float32") for _ in range(3))


def backward_inputs(rng: Any, dims: Dims) -> tuple[Any, ...]:
    """Draw q, k, v and dy from N(0, 1)."""
    return (*inputs(rng, dims), rng.standard_normal(shape(dims), dtype="float32"))


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch, heads, tokens and features; `causal` is 0 or 1."""
    return complete(given, ("batch", "heads", "tokens", "features"), causal=range(2))


def elements(dims: Dims) -> int:
    """Return how many values q holds."""
    return math.prod(shape(dims))


def products(dims: Dims, number: int) -> int:
    """Count multiply-adds of products with tokens times tokens, causal or not, as PyTorch does.

    Forward has two of them, backward four. The softmax is not counted.
    """
    return number * 2 * elements(dims) * dims["tokens"]


def shortcut(dims: Dims) -> float:
    """Return what is saved by leaving out the scores that a causal mask hides."""
    return 2 * dims["tokens"] / (dims["tokens"] + 1) if dims.get("causal") else 1.0


def layer(name: str, batch: int, tokens: int, preset: str = "standard", **causal: int) -> Size:
    """Name an attention with 12 heads of 64 features."""
    dims = {"batch": batch, "heads": 12, "tokens": tokens, "features": 64, **causal}
    return Size(dims=dims, preset=preset, name=name)


WORKLOAD = Workload(
    name="attention",
    summary="scaled dot-product attention, plain or causal, and its gradients",
    source="Vaswani et al., 2017, equation 1; sizes: Devlin et al., 2019; Radford et al., 2019",
    suites=("layers",),
    sizes=[
        layer("bert_base", 2, 128, "quick"),
        layer("gpt2_small.256_tokens", 1, 256, causal=1),
        layer("bert_base", 64, 128),
        layer("gpt2_small", 1, 1024, causal=1),
        layer("gpt2_small", 4, 1024, "thorough", causal=1),
        layer("bert_base.512_tokens", 16, 512, "thorough"),
    ],
    inputs=inputs,
    phases={
        "forward": Phase(
            array=forward_array(attention, options),
            torch=forward_torch(attention_torch, options),
            flops=lambda dims: products(dims, 2),
            bytes_moved=lambda dims, item: 4 * item * elements(dims),
            shortcut=shortcut,
        ),
        "backward": Phase(
            array=backward_array(attention, options),
            torch=backward_torch(attention_torch, wanted=[0, 1, 2], options=options),
            inputs=backward_inputs,
            error_factor=8,  # through the softmax of all tokens
            flops=lambda dims: products(dims, 4),
            bytes_moved=lambda dims, item: 7 * item * elements(dims),
            shortcut=shortcut,
        ),
    },
    includes={
        "numpy": "BLAS and passes over scores in blocks of its cache; memory for the weights of all"
        " heads, batch * heads * tokens^2, which backward needs. A causal mask halves both",
        "cupy": "cuBLAS and kernels over all scores, batch * heads * tokens^2 in memory, masked"
        " ones as well; half precision is multiplied in float32, as cupy.matmul does",
        "torch": "the fused kernel that PyTorch chooses, which stores no weights; backward computes"
        " them again, and is the call of autograd",
    },
    resize=resize,
)
