"""`bench duet`: gate two Python environments against each other."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli import INTERRUPTED, with_output_options
from bench.cli.gate_output import show, split_missing, with_gate_options
from bench.cli.run import Dimension, Numbers

if TYPE_CHECKING:
    from bench.comparing.verdicts import GateSettings
    from bench.running.duet import Duet
    from bench.running.duet_plan import DuetPlan
    from bench.running.environments import Environment
    from bench.running.sides import Side


_OF_CASES = {
    "inputs": "--input",
    "compiled": "--compile",
    "backends": "--backend",
    "dtypes": "--dtype",
    "gpu": "--gpu",
    "preset": "--preset",
    "sizes": "--size",
    "batches": "--batch",
    "threads": "--threads",
}
"""What only cases of suites have, by its parameter."""


@click.command("duet")
@click.option("--base-python", required=True, metavar="P",
              help="The interpreter of the environment as it was.")  # fmt: skip
@click.option("--head-python", required=True, metavar="P",
              help="The interpreter of the environment as it is to be.")  # fmt: skip
@click.option("--suite", "suites", multiple=True, metavar="NAME", help="What to measure.")
@click.option("--kernels", multiple=True, metavar="DIR", help="A folder of your own workloads.")
@click.option("--model", metavar="PATH.py:FACTORY|MODULE:FACTORY", help="Your own model.")
@click.option("--input", "inputs", multiple=True, metavar="[NAME=]SHAPE[:DTYPE[<RANGE]]",
              help="What the model reads, without the batch.")  # fmt: skip
@click.option("--compile", "compiled", is_flag=True, help="Measure torch.compile as well.")
@click.option("--pytest", "tests", metavar="PATH",
              help="Your own pytest-benchmark tests, as they are.")  # fmt: skip
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), metavar="N",
              help="The time for all of it. Default: 3, more for more than 16 cases.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR",
              help="For base.jsonl and head.jsonl. Default: a new folder in results.")  # fmt: skip
@click.option("--only", multiple=True, metavar="GLOB", help="Only cases whose id matches.")
@click.option("--backend", "backends", multiple=True, metavar="NAME", help="Where.")
@click.option("--gpu", metavar="INDEX|UUID", help="Which GPU.")
@click.option("--dtype", "dtypes", multiple=True, metavar="NAME",
              help="float64, float32, tf32, float16 or bfloat16. Default: float32.")  # fmt: skip
@click.option("--preset", metavar="NAME",
              help="Whose sizes. Default: quick of our suites, standard of your own.")  # fmt: skip
@click.option("--size", "sizes", multiple=True, type=Dimension(), help="Other sizes: n=512,1024.")
@click.option("--batch", "batches", type=Numbers(), default=(), help="Other batch sizes.")
@click.option("--threads", type=Numbers(), default=(), help="Thread counts of the CPU backends.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
              help="Seed of inputs and order.")  # fmt: skip
@with_gate_options
@with_output_options
def command(
    base_python: str,
    head_python: str,
    tests: str | None,
    minutes: float | None,
    output: Path | None,
    sizes: tuple[tuple[str, tuple[int, ...]], ...],
    threshold: float,
    inconclusive: Any,
    strict: bool,
    allow_missing: tuple[str, ...],
    summary: Path | None,
    junit: Path | None,
    color: str,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    r"""Gate two Python environments against each other, interleaved on this machine.

    Exits with 1 if a case regressed or is missing, 3 if that stays open. bench carries its own
    worker into both environments: neither needs bench. `bench check` replays the two files.

    \b
    Example:
      bench duet --base-python base/bin/python --head-python head/bin/python --suite matmul
      bench duet --base-python base/bin/python --head-python head/bin/python --pytest tests/perf
      bench check results/duet/head.jsonl --against results/duet/base.jsonl
    """
    from bench.comparing.stored import stored
    from bench.comparing.stored_gate import judge_duet
    from bench.comparing.verdicts import GateSettings
    from bench.errors import RequestError
    from bench.running.duet import Duet, Record, make_headers
    from bench.running.environments import changes, examine
    from bench.running.sides import SIDES

    settings = GateSettings(threshold=threshold, strict=strict, inconclusive=inconclusive)
    folder = output or Path("results") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-duet"
    for side in SIDES:
        if (folder / f"{side}.jsonl").exists():
            raise RequestError(f"{folder / side}.jsonl exists already; choose another --output")
    environments: dict[Side, Environment] = {
        "base": examine("base", base_python),
        "head": examine("head", head_python),
    }
    plan = _plan(environments, tests, minutes, settings, {"sizes": dict(sizes), **options})
    probes = [plan.probes.get(side) for side in SIDES]
    differing = changes(environments["base"], environments["head"], *probes)
    for line in differing or ["the environments hold the same packages"]:
        _tell(line, quiet)
    command_line = ["bench", *sys.argv[1:]]
    headers = make_headers(environments, plan.libraries, plan.settings, command_line)
    records = {side: Record(headers[side], plan.cases[side]) for side in SIDES}
    for side, record in records.items():
        record.open(folder / f"{side}.jsonl")
    duet = Duet(plan.pairing, records, settings, plan.minutes)
    interrupted = _follow(duet, plan, quiet, verbose)
    base, head = duet.finish(interrupted)
    notes = [note for note in (*plan.notes, *_notes(plan), duet.unreached) if note]
    judgement = judge_duet((base, stored(base)), (head, stored(head)), duet.settings)
    missing, allowed = split_missing(dict(judgement.missing), allow_missing)
    judgement = replace(judgement, missing=missing, unjudged={**judgement.unjudged, **allowed})
    code = show(
        judgement,
        "bench duet",
        [*(differing or ["the environments hold the same packages"]), *notes],
        summary=summary,
        junit_file=junit,
        color=color,
        quiet=quiet,
    )
    if not quiet:
        click.echo(f"\nrun files: {folder / 'base.jsonl'} {folder / 'head.jsonl'}")
    return INTERRUPTED if interrupted else code


def _plan(
    environments: "dict[Side, Environment]",
    tests: str | None,
    minutes: float | None,
    gate: "GateSettings",
    options: dict[str, Any],
) -> "DuetPlan":
    from bench.errors import RequestError
    from bench.running.duet_plan import plan_cases, plan_tests
    from bench.running.plan import RunRequest

    measured = [name for name in ("suites", "kernels", "model") if options[name]]
    if tests is not None:
        if measured:
            raise RequestError("--pytest measures tests alone; make a duet of each")
        for name, option in _OF_CASES.items():
            if options[name]:
                raise RequestError(
                    f"--pytest runs tests as they are, without {option}: choose with --only,"
                    " and set the rest in the tests"
                )
        return plan_tests(tests, environments, minutes, gate, options["only"], options["seed"])
    if not measured:
        raise RequestError(
            "nothing to measure was named; add --suite NAME, --kernels DIR, --model or --pytest"
        )
    is_own = bool(options["kernels"] or options["model"])
    options["dtypes"] = options["dtypes"] or ("float32",)
    options["preset"] = options["preset"] or ("standard" if is_own else "quick")
    return plan_cases(RunRequest(**options), environments, minutes, gate)


def _follow(duet: "Duet", plan: "DuetPlan", quiet: bool, verbose: bool) -> str | None:
    """Let the duet run and tell of it; return why it was ended before, if it was."""
    from bench.cli.run import termination_as_interrupt

    _tell(f"{len(duet.cases)} cases, controls included, within {plan.minutes:g} minutes", quiet)
    try:
        with termination_as_interrupt():
            for line in _lines(duet, verbose):
                _tell(line, quiet)
    except KeyboardInterrupt:
        return "interrupted"
    return None


def _lines(duet: "Duet", verbose: bool) -> Iterator[str]:
    from bench.results.schema import BlockLine, OutcomeLine
    from bench.running.duet import PairStarted
    from bench.running.sides import Note, SideLine

    for event in duet.events():
        match event:
            case PairStarted(1, number, total):
                yield f"pair {number + 1} of {total}"
            case PairStarted(2, number, total, cases):
                yield f"fresh pair {number + 1} of {total} for {cases} cases that look changed"
            case Note(text):
                yield text
            case SideLine(side, OutcomeLine() as line) if line.status != "skipped":
                yield f"  {side}: {line.case}: {line.status}: {line.reason}"
            case SideLine(side, BlockLine() as line) if verbose:
                yield from (f"  {side}: {line.case}: {note}" for note in line.notes)


def _notes(plan: "DuetPlan") -> list[str]:
    """Return what may make the comparison one of a thing with itself."""
    import os

    from bench.running.paired_tests import PairedTests

    notes = []
    if os.environ.get("PYTHONPATH"):
        notes.append("PYTHONPATH is set and holds on both sides: unset it to compare what differs")
    if isinstance(plan.pairing, PairedTests):
        shared = plan.pairing.shared_sources()
        if shared:
            notes.append(
                f"both sides imported {shared[0]}: from one folder, not from their environments"
            )
    return notes


def _tell(text: str, quiet: bool) -> None:
    from bench.text import plain

    if not quiet:
        click.echo(plain(text), err=True)
