"""Fails with a message of several lines and control characters."""

from typing import Any

from ._workload import planted


def raising(xp: Any, x: Any) -> Any:
    """Fail."""
    raise ValueError("no \x1b[31mgood\nat all")


WORKLOAD = planted("raising", raising)
