"""Compare CPU and GPU on neural-net workloads, with numbers that can be trusted.

PYTEST_DONT_REWRITE: as the package brings a plugin, pytest would warn where it is imported already.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from bench.catalog import mount_content

if TYPE_CHECKING:
    from bench.results.table import LoadedRun

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

mount_content()


def load(path: str | Path) -> "LoadedRun":
    """Read a run file; `load(path).table()` is a pandas DataFrame, one row per case.

    Raises:
        RunFileError: The file cannot be read; the message says which line and what to do.
    """
    from bench.results.reading import read_run
    from bench.results.table import LoadedRun

    return LoadedRun.of(read_run(path))
