"""Asks for more memory than there is."""

from typing import Any

from ._workload import planted


def leaking(xp: Any, x: Any) -> Any:
    """Ask for memory."""
    return xp.ones((2**24, 2**20), "float64")


WORKLOAD = planted("leaking", leaking)
