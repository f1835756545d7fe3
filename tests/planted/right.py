"""A workload without a fault."""

from typing import Any

from ._workload import planted


def right(xp: Any, x: Any) -> Any:
    """Square the matrix."""
    return xp.matmul(x, x)


WORKLOAD = planted("right", right)
