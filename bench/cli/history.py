"""`bench history`: a folder of run files, its trends, and slow creep against a release."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli import BAD_REQUEST, color_of, width_of, with_output_options
from bench.cli.gate_output import Share, with_gate_options

if TYPE_CHECKING:
    from bench.comparing.history import History

_GIT_SECONDS = 10.0

with_store = click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path("results/history"),
    show_default=True,
    metavar="DIR",
    help="The folder of run files.",
)


@click.group("history")
def command() -> None:
    r"""Keep runs in a folder, see how they change, find slow creep.

    \b
    Example:
      bench history add results/mine.jsonl
      bench history show --only 'matmul/*'
      bench history check --against v1.2 --threshold 5%
    """


@command.command("add")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@with_store
@with_output_options
def add(files: tuple[str, ...], store: Path, color: str, quiet: bool, verbose: bool) -> int:
    r"""Copy run files into the store, each under a name of its own.

    What lies there is never overwritten. A file that is no run is named, the others are added.

    \b
    Example:
      bench history add results/mine.jsonl
      bench history add results/*.jsonl --store /mnt/team/history
    """
    from bench.errors import OutputError, RequestError, RunFileError
    from bench.results.store import add_run
    from bench.text import plain

    code = 0
    for file in files:
        try:
            added = add_run(file, store)
        except OutputError:
            raise
        except (RunFileError, RequestError) as error:
            click.echo(f"bench: error: {plain(str(error))}", err=True)
            code = BAD_REQUEST
            continue
        if not quiet:
            click.echo(plain(f"{added.path}{'' if added.is_new else ' (was there already)'}"))
        for remark in added.run.remarks:
            click.echo(f"bench: {plain(remark)}", err=True)
    return code


@command.command("show")
@click.option("--only", multiple=True, metavar="GLOB", help="Only cases whose id matches.")
@click.option("--as", "form", default="table", show_default=True, metavar="FORM",
              help="table, markdown, csv, json or plots.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), metavar="PATH",
              help="A file; for plots a folder (default: plots).")  # fmt: skip
@with_store
@with_output_options
def show(
    only: tuple[str, ...],
    form: str,
    output: Path | None,
    store: Path,
    color: str,
    quiet: bool,
    verbose: bool,
) -> int:
    r"""Show how each case went from run to run, machine by machine.

    \b
    Example:
      bench history show
      bench history show --only '*/numpy' --as plots --output trends
      bench history show --as csv --output history.csv
    """
    from bench import catalog
    from bench.cli.compare import show_rendered
    from bench.errors import RequestError
    from bench.names import choose
    from bench.report import Request

    reports = catalog.history_reports()
    choose("form (--as)", [form], reports)
    history = _read(store)
    request = Request(
        only=only,
        color=output is None and color_of(color, sys.stdout),
        width=width_of(sys.stdout) if output is None else None,
    )
    measured = [m.id for entry in history.entries for m in entry.run.measurements]
    if only and not any(map(request.wants, measured)):
        raise RequestError(f"--only {only[0]!r} matches no case of {store}")
    if output is not None and output.resolve().parent == store.resolve():
        raise RequestError(f"--output {output}: that is in the store; choose another")
    if history.machines or history.duets:
        show_rendered(reports[form].render(history, request), output, color=request.color)
    return _complain(history)


@command.command("check")
@click.option("--against", metavar="RELEASE",
              help="Its label, tag or revision (default: what was measured first).")  # fmt: skip
@click.option("--newest", type=click.IntRange(min=1), default=5, show_default=True, metavar="N",
              help="How many of the newest runs say how it is now.")  # fmt: skip
@click.option("--drift", type=Share(), default="10%", show_default=True, metavar="SHARE",
              help="How far the machine may drift, below five runs of the release.")  # fmt: skip
@with_gate_options
@with_store
@with_output_options
def check(
    against: str | None,
    newest: int,
    drift: float,
    threshold: float,
    inconclusive: Any,
    strict: bool,
    allow_missing: tuple[str, ...],
    summary: Path | None,
    junit: Path | None,
    store: Path,
    color: str,
    quiet: bool,
    verbose: bool,
) -> int:
    r"""Check the newest runs against those of a release: what no comparison with the last run sees.

    Exits with 1 if a case crept up or is gone, 3 if that stays open, 4 if nothing is comparable.

    \b
    Example:
      bench history check --against v1.2
      bench history check --against 1a2b3c4d --threshold 8% --inconclusive warn
    """
    from bench.cli.gate_output import show as show_judgement
    from bench.cli.gate_output import split_missing
    from bench.comparing.creep import find_creep
    from bench.comparing.history import require_release
    from bench.comparing.verdicts import GateSettings

    history = _read(store)
    revision = _revision_of(against) if against else None
    if against is not None and history.machines:
        require_release(history, against, revision)
    settings = GateSettings(
        threshold=threshold, drift=drift, strict=strict, inconclusive=inconclusive
    )
    found = find_creep(history, against, settings, revision=revision, newest=newest)
    missing, allowed = split_missing(dict(found.judgement.missing), allow_missing)
    judgement = replace(
        found.judgement, missing=missing, unjudged={**found.judgement.unjudged, **allowed}
    )
    code = show_judgement(
        judgement,
        "bench history check",
        [*found.blind, *found.remarks, *history.remarks],
        summary=summary,
        junit_file=junit,
        color=color,
        quiet=quiet,
    )
    return _complain(history) or code


def _read(store: Path) -> "History":
    from bench.comparing.history import read_history
    from bench.results.store import read_store

    return read_history(read_store(store))


def _complain(history: "History") -> int:
    """Name the files that are no runs; the others were shown."""
    from bench.text import plain

    for problem in history.problems:
        click.echo(f"bench: error: {plain(problem)}", err=True)
    return BAD_REQUEST if history.problems else 0


def _revision_of(name: str) -> str | None:
    """Return the revision that a tag or branch stands for in the repository around, if any."""
    if name.startswith("-"):
        return None
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
