"""Is off by a factor of 1.001."""

from typing import Any

from ._workload import planted


def scaled(xp: Any, x: Any) -> Any:
    """Be a little wrong."""
    return xp.matmul(x, x) * x.dtype.type(1.001)


WORKLOAD = planted("scaled", scaled)
