"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from bench.backends import backends
from bench.cli import color_of
from bench.results.schema import BlockLine, LimitLine, OutcomeLine
from bench.running.execute import BlockStarted, Event, Note, Working
from bench.text import plain
from bench.units import duration, seconds

if TYPE_CHECKING:
    from bench.running.session import Session


def show(
    session: "Session", events: Iterator[Event], *, quiet: bool, verbose: bool, color: str
) -> None:
    """Consume the events of a run and tell a person of them, on stderr."""
    if not quiet:
        for line in _introduction(session):
            click.echo(line, err=True)
    if sys.stderr.isatty() and not quiet:
        _show_bar(session, events, verbose, color_of(color, sys.stderr))
    else:
        for event in events:
            if not quiet:
                for line in _lines(session, event, verbose):
                    click.echo(line, err=True)


def _introduction(session: "Session") -> list[str]:
    measured = [case for case in session.cases if case.skipped is None]
    minutes = session.request.minutes
    blocks = session.request.planned_blocks()
    extent = f"for {duration(60 * minutes)}" if minutes else f"in {blocks} blocks"
    lines = [
        f"{len(measured)} cases {extent} on {session.cores} cores, about"
        f" {duration(session.expected_seconds)}"
    ]
    for probe in session.probes.values():
        named = session.request.backends
        if probe.absent is not None and not named and backends()[probe.backend].tried:
            lines.append(f"{probe.backend} is skipped: {probe.absent[0]}; {probe.absent[1]}")
    return lines


def _lines(session: "Session", event: Event, verbose: bool) -> list[str]:
    """Return the plain lines of one event: one per finished case, more with -v."""
    match event:
        case Note(text):
            return [plain(text)]
        case BlockStarted(block, blocks):
            return [f"block {block + 1}" + (f" of {blocks}" if blocks else "")]
        case LimitLine():
            fits = f"{event.largest_batch:,}" if event.largest_batch else "none"
            return [plain(f"  {event.sweep}: largest batch {fits}: {event.reason}")]
        case OutcomeLine():
            return [plain(f"  {event.case}: {event.status}: {event.reason}")]
        case BlockLine():
            lines = []
            if verbose:
                lines = [plain(f"  {event.case}: {note}") for note in event.notes]
            last = session.request.minutes is None
            if verbose or (last and event.block + 1 == session.request.planned_blocks()):
                middle = sorted(event.seconds)[len(event.seconds) // 2]
                lines.append(plain(f"  {event.case}: {seconds(middle)}"))
            return lines
    return []


def _show_bar(session: "Session", events: Iterator[Event], verbose: bool, color: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, no_color=not color, highlight=False)
    bar = Progress(
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[left]}  {task.description}"),
        console=console,
        transient=True,
    )
    begin = time.monotonic()
    with bar:
        task = bar.add_task("starting", total=1.0, left="")
        for event in events:
            if isinstance(event, Working):
                share = _share(session, event, begin)
                bar.update(
                    task,
                    completed=share,
                    left=_left(session, share, begin),
                    description=_escaped(event.case.id),
                )
            elif verbose or not isinstance(event, BlockLine):
                for line in _lines(session, event, verbose):
                    console.print(line, markup=False, soft_wrap=True)


def _share(session: "Session", event: Working, begin: float) -> float:
    if session.request.minutes is not None:
        return min(1.0, (time.monotonic() - begin) / (60 * session.request.minutes))
    return (event.block + event.done) / session.request.planned_blocks()


def _left(session: "Session", share: float, begin: float) -> str:
    """Say how long it takes still: by the plan at first, then by the pace so far."""
    passed = time.monotonic() - begin
    paced = passed * (1 - share) / share if share > 0.05 else session.expected_seconds - passed
    return f"{duration(max(0.0, paced))} left"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(plain(text))
