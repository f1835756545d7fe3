"""Ends its process."""

import os
from typing import Any

from ._workload import planted


def dying(xp: Any, x: Any) -> Any:
    """End the process."""
    os._exit(3)


WORKLOAD = planted("dying", dying)
