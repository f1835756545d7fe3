"""What networks over sequences have in common: positions, heads of attention, one token of all.

Sequences are (batch, tokens, features); heads lie side by side in the features.
"""

from collections.abc import Sequence
from typing import Any

from bench.workload import Dims

from ..operations._pullback import Pullback
from ..operations.attention import attention


def positioned(_xp: Any, x: Any, table: Any) -> tuple[Any, Pullback]:
    """Add the rows of `table` (tokens, features) to the tokens of each sequence."""
    return x + table, lambda dy: (dy, dy.sum(axis=0))


def token(xp: Any, x: Any, *, at: int) -> tuple[Any, Pullback]:
    """Return one token of each sequence, (batch, features)."""
    shape = x.shape

    def pullback(dy: Any) -> tuple[Any]:
        dx = xp.zeros(shape, dy.dtype)
        dx[:, at] = dy
        return (dx,)

    return x[:, at], pullback


def whole_heads(dims: Dims) -> Dims:
    """Return `dims` if the features can be divided among the heads.

    Raises:
        ValueError: They cannot.
    """
    if dims["features"] % dims["heads"] or dims["features"] == 1:
        raise ValueError("heads divides features, of which there are two at least")
    return dims


def multi_head(
    xp: Any, q: Any, k: Any, v: Any, *, heads: int, causal: bool = False
) -> tuple[Any, Pullback]:
    """Attend with all heads (Vaswani et al., 2017, section 3.2.2), without projections."""
    y, back = attention(xp, *(_split(x, heads) for x in (q, k, v)), causal=causal)

    def pullback(dy: Any) -> tuple[Any, ...]:
        return tuple(_merged(xp, [gradient]) for gradient in back(_split(dy, heads)))

    return _merged(xp, [y]), pullback


def packed_multi_head(
    xp: Any, qkv: Any, *, heads: int, causal: bool = False
) -> tuple[Any, Pullback]:
    """Do the same with q, k and v side by side, (batch, tokens, 3 features)."""
    parts = xp.split(qkv, 3, axis=-1)
    y, back = attention(xp, *(_split(x, heads) for x in parts), causal=causal)
    return _merged(xp, [y]), lambda dy: (_merged(xp, back(_split(dy, heads))),)


def _split(x: Any, heads: int) -> Any:
    """Return a view (batch, heads, tokens, features of a head)."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def _merged(xp: Any, parts: Sequence[Any]) -> Any:
    """Copy heads side by side, and the parts too."""
    batch, heads, tokens, features = parts[0].shape
    whole = xp.empty((batch, tokens, len(parts), heads, features), parts[0].dtype)
    for i, part in enumerate(parts):
        whole[:, :, i] = part.swapaxes(1, 2)
    return whole.reshape(batch, tokens, -1)
