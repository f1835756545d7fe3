"""`bench run`: measure a suite."""

import contextlib
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli import INTERRUPTED, color_of, width_of, with_output_options

if TYPE_CHECKING:
    from bench.results.schema import Run
    from bench.results.writing import RunWriter
    from bench.running.session import Session

FAULTY = 1


class Numbers(click.ParamType[Any]):
    """`1,2,4`: whole numbers above zero."""

    name = "N,N"
    least, most = 1, 10**9

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Parse, naming the part that is no number."""
        if not isinstance(value, str):
            return value
        return tuple(self._one(text, param, ctx) for text in value.split(","))

    def _one(self, text: str, param: Any, ctx: Any) -> int:
        try:
            number = int(text)
        except ValueError:
            self.fail(f"{text!r} is not a whole number", param, ctx)
        if not self.least <= number <= self.most:
            self.fail(f"{text!r} must be from {self.least} to {self.most:,}", param, ctx)
        return number


class Clients(Numbers):
    """`1,2,8`: requests that are under way at a time, each with a thread of its own."""

    most = 256


class Rates(click.ParamType[Any]):
    """`50,200`: requests per second, at random moments."""

    name = "R,R"
    least, most = 0.001, 1e6

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Parse, naming the part that is no rate."""
        if not isinstance(value, str):
            return value
        return tuple(self._one(text, param, ctx) for text in value.split(","))

    def _one(self, text: str, param: Any, ctx: Any) -> float:
        try:
            rate = float(text)
        except ValueError:
            self.fail(f"{text!r} is not a number of requests per second", param, ctx)
        if not self.least <= rate <= self.most:
            self.fail(f"{text!r} must be from {self.least:g} to {self.most:,.0f}", param, ctx)
        return rate


class Duration(click.ParamType[Any]):
    """`20ms`: a time in us, ms or s; without a unit in seconds."""

    name = "TIME"
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0}  # noqa: RUF012

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return seconds."""
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(us|ms|s|)\s*", value)
        if found is None:
            self.fail(f"{value!r} is no time such as 20ms, 500us or 0.02s", param, ctx)
        seconds = float(found[1]) * self.units[found[2]]
        if not 1e-6 <= seconds <= 3600:
            self.fail(f"{value!r} must be from 1us to 3600s", param, ctx)
        return seconds


class Dimension(Numbers):
    """`n=64,128`: a dimension's name and its values; the workload knows which may be zero."""

    name = "KEY=V,V"
    least = 0

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Split at the equals sign."""
        if not isinstance(value, str):
            return value
        key, equals, values = value.partition("=")
        if not equals or not key.isidentifier():
            self.fail(f"{value!r} is not KEY=VALUE,VALUE such as n=512,1024", param, ctx)
        return key, super().convert(values, param, ctx)


@click.command("run")
@click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="NAME",
    help="What to measure (repeatable; all; see bench list).",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="Where (repeatable). Default: every available one.",
)
@click.option(
    "--gpu",
    metavar="INDEX,...|UUID|all",
    help="Which GPUs, as nvidia-smi names them; several get rows of their own. Default: the first.",
)
@click.option(
    "--cache",
    default="hot",
    show_default=True,
    metavar="NAME",
    help="hot, cold (caches emptied before each call) or both.",
)
@click.option(
    "--energy", is_flag=True, help="Measure the energy of each case as well: 5 s more a block."
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    default=["float32"],
    show_default=True,
    metavar="NAME",
    help="float64, float32, tf32, float16 or bfloat16 (repeatable).",
)
@click.option(
    "--preset",
    default="standard",
    show_default=True,
    metavar="NAME",
    help="quick, standard or thorough.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Every case once, then further blocks until the time is out.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    help="Only cases whose id matches, of any preset (repeatable).",
)
@click.option("--size", "sizes", multiple=True, type=Dimension(), help="Other sizes: n=512,1024.")
@click.option("--batch", "batches", type=Numbers(), default=(), help="Other batch sizes.")
@click.option(
    "--threads",
    type=Numbers(),
    default=(),
    help="Thread counts of the CPU backends. Default: the cores that may be used.",
)
@click.option(
    "--concurrency",
    type=Clients(),
    default=(),
    help="Suite latency: requests under way at a time.",
)
@click.option(
    "--rate",
    "rates",
    type=Rates(),
    default=(),
    help="Suite latency: requests per second, arriving at random. Default: each follows an answer.",
)
@click.option(
    "--latency-bound",
    type=Duration(),
    help="Suite latency: within which 99 of 100 answers must come, such as 20ms.",
)
@click.option("--blocks", type=click.IntRange(min=1), metavar="N", help="Fresh processes a case.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Sampling time of a case in a block.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="S",
    help="End a case that takes longer.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of inputs and order.",
)
@click.option("--label", metavar="NAME", help="The run's name. Default: the GPU or CPU model.")
@click.option(
    "--output",
    metavar="FILE",
    help="The run file; - is standard output; {host}, {gpu}, {label} are filled in.",
)
@click.option(
    "--resume",
    "resumed",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Go on with a run that was interrupted.",
)
@click.option("--dry-run", is_flag=True, help="Only list the cases and the expected time.")
@click.option("--kernels", multiple=True, metavar="DIR", help="A folder of your own workloads.")
@click.option(
    "--model",
    metavar="PATH.py:FACTORY|MODULE:FACTORY",
    help="Your own PyTorch model: a function that returns it, or it with example inputs.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]SHAPE[:DTYPE[<RANGE]]",
    help="What the model reads, without the batch: 3x224x224, ids=128:int64<30522 (repeatable).",
)
@click.option(
    "--compile", "compiled", is_flag=True, help="Measure torch.compile where it is left out."
)
@with_output_options  # fmt: skip
def command(
    suites: tuple[str, ...],
    label: str | None,
    output: str | None,
    resumed: Path | None,
    dry_run: bool,
    color: str,
    quiet: bool,
    verbose: bool,
    sizes: tuple[tuple[str, tuple[int, ...]], ...],
    **options: Any,
) -> int:
    r"""Measure a suite, print a table, leave a run file.

    \b
    Example:
      bench run --suite matmul
      bench run --suite matmul --preset quick --backend numpy --size n=512,1024
      bench run --suite passes --model models.py:build --input 3x224x224
      bench run --resume results/interrupted.jsonl
    """
    from bench.errors import RequestError
    from bench.running.plan import RunRequest
    from bench.running.session import prepare, resume

    started = time.monotonic()
    if resumed is not None:
        session, lines = resume(resumed)
        _tell(session, quiet)
        if dry_run:
            return _show_plan(session)
        return _measure(session, _reopen(resumed, lines.kept), started, color, quiet, verbose)
    if not suites:
        raise RequestError("--suite is missing; bench list shows what there is, or say --suite all")
    request = RunRequest(suites=suites, sizes=dict(sizes), **options)
    session = prepare(request, label, ["bench", *sys.argv[1:]])
    _tell(session, quiet)
    if dry_run:
        return _show_plan(session)
    writer = _open(output, session)
    writer.write(session.header)
    for case in session.cases:
        writer.write(case)
    return _measure(session, writer, started, color, quiet, verbose)


def _tell(session: "Session", quiet: bool) -> None:
    """Say what was found out about the user's model."""
    from bench.text import plain

    if session.request.facts is not None and not quiet:
        for note in session.request.facts["notes"]:
            click.echo(plain(f"{session.request.model}: {note}"), err=True)


def _open(output: str | None, session: "Session") -> "RunWriter":
    from bench.results.writing import RunWriter, default_path, slug

    if output == "-":
        return RunWriter(None)
    header = session.header
    gpus = header.machine.get("gpus") or [{}]
    fields = {
        "host": header.machine.get("host") or "host",
        "gpu": gpus[0].get("name") or "no-gpu",
        "label": header.label,
    }
    if output is None:
        return RunWriter(default_path(header.label, "-".join(session.request.suites)))
    for field, value in fields.items():
        output = output.replace(f"{{{field}}}", slug(str(value)))
    return RunWriter(Path(output))


def _reopen(path: Path, kept: list[bytes]) -> "RunWriter":
    """Leave header, cases and blocks; what follows from them is written anew at the end."""
    from bench.errors import OutputError
    from bench.results.writing import RunWriter

    beside = path.with_name(path.name + ".part")
    try:
        beside.write_bytes(b"".join(line + b"\n" for line in kept))
        beside.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; make room or copy it") from error
    return RunWriter(path, append=True)


def _show_plan(session: "Session") -> int:
    from bench.text import align, plain
    from bench.units import duration

    measured = [case for case in session.cases if case.skipped is None]
    for case in measured:
        click.echo(plain(case.id))
    skipped: dict[tuple[str, str], int] = {}
    for case in session.cases:
        if case.skipped is not None:
            key = (case.backend, case.skipped)
            skipped[key] = skipped.get(key, 0) + 1
    rows = [[backend, str(count), reason] for (backend, reason), count in skipped.items()]
    if rows:
        click.echo()
        click.echo(
            align(["skipped", "cases", "reason"], rows, right={1}, width=width_of(sys.stdout))
        )
    blocks = session.request.planned_blocks()
    click.echo(
        f"\n{len(measured)} cases, {blocks} blocks each: about"
        f" {duration(session.expected_seconds)} on {session.cores} cores"
    )
    return 0


def _measure(
    session: "Session", writer: "RunWriter", started: float, color: str, quiet: bool, verbose: bool
) -> int:
    """Carry the run through to its table, whatever interrupts it."""
    from bench.cli.progress import show
    from bench.errors import OutputError

    interrupted: str | None = None
    run: Run | None = None
    try:
        with termination_as_interrupt():
            show(session, session.measure(writer), quiet=quiet, verbose=verbose, color=color)
    except KeyboardInterrupt:
        interrupted = "interrupted"
    except OutputError:
        # What was measured is known still: show it before complaining.
        _print_table(session.measurements("not reached: no room"), session, writer, color)
        raise
    run = session.finish(writer, started, interrupted)
    writer.close()
    _print_run(run, writer, color)
    if verbose:
        _print_share(session, time.monotonic() - started)
    if writer.path is not None:
        click.echo(f"\nrun file: {writer.path}")
    if interrupted:
        click.echo(f"interrupted; go on with: bench run --resume {writer.path}", err=True)
        return INTERRUPTED
    return FAULTY if run.faults() else 0


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Treat a polite request to end (SIGTERM) as Ctrl-C, so that the file stays valid."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    previous: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _print_table(measurements: Any, session: "Session", writer: "RunWriter", color: str) -> None:
    from bench.results.schema import Run

    _print_run(Run(session.header, measurements), writer, color)


def _print_run(run: "Run", writer: "RunWriter", color: str) -> None:
    from bench import catalog
    from bench.report import Request

    stream = sys.stderr if writer.path is None else sys.stdout
    request = Request(color=color_of(color, stream), width=width_of(stream))
    text = str(catalog.reports()["table"].render([run], request))
    click.echo(text.rstrip(), file=stream, color=request.color)


def _print_share(session: "Session", wall: float) -> None:
    worked = sum(
        line.worked_seconds for found in session.progress.blocks.values() for line in found.values()
    )
    click.echo(
        f"{worked / wall:.0%} of {wall:.1f} s was spent in warm-up and timed calls", err=True
    )
