"""Declares ten times the FLOPs that it computes."""

from typing import Any

from ._workload import planted


def overclaiming(xp: Any, x: Any) -> Any:
    """Square the matrix."""
    return xp.matmul(x, x)


WORKLOAD = planted("overclaiming", overclaiming, n=768, claim=10)
