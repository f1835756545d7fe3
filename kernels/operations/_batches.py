"""Batches of matrix products in any dtype."""

from typing import Any


def matmul(xp: Any, a: Any, b: Any) -> Any:
    """Return the products; CuPy 14 has none of bfloat16, which is multiplied as it does float16."""
    if a.dtype.itemsize == 2 and a.dtype.name == "bfloat16":
        return xp.matmul(a.astype("float32"), b.astype("float32")).astype(a.dtype)
    return xp.matmul(a, b)
