"""A history as flat records: one per case, run and metric."""

from collections.abc import Iterator
from typing import Any, Final

from bench.comparing.history import History
from bench.report import Request
from bench.results.schema import Run
from bench.results.table import LONG_COLUMNS, long_records

HISTORY_COLUMNS: Final = (
    *LONG_COLUMNS,
    *("machine", "revision", "dirty", "bench_version", "changes"),
)
"""Those of a single run, then what tells the runs apart; new columns come last."""


def history_records(history: History, request: Request) -> Iterator[dict[str, Any]]:
    """Yield the records of every run, machine by machine, the oldest first."""
    for machine in history.machines:
        for entry in machine.entries:
            git = entry.stored.machine.part("git")
            dirty = git.get("dirty")
            about = {
                "machine": machine.name,
                "revision": entry.revision,
                "dirty": dirty if isinstance(dirty, bool) else None,
                "bench_version": entry.run.header.bench_version,
                "changes": "; ".join(entry.changes) or None,
            }
            run = Run(entry.run.header, request.measurements(entry.run))
            for record in long_records([run]):
                yield {**record, **about}
