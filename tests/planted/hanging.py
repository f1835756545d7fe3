"""Never returns."""

import time
from typing import Any

from ._workload import planted


def hanging(xp: Any, x: Any) -> Any:
    """Hang."""
    while True:
        time.sleep(60)


WORKLOAD = planted("hanging", hanging)
