"""Runs the command as a user does: in a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def bench(*arguments: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run `python -m bench` and return its output; the time limit is for a hang."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=options.pop("timeout", 120),
        check=False,
        **options,
    )
