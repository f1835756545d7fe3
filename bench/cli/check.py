"""`bench check`: a gate against stored runs of the same machine."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from bench.cli import BAD_REQUEST, with_output_options
from bench.cli.gate_output import Share, show, split_missing, with_gate_options


class _Check(click.Command):
    """Lets `--against` take several files, as a shell's pattern gives them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _spread(args))


def _spread(args: Sequence[str]) -> list[str]:
    """Repeat `--against` before each of the files that follow it."""
    spread: list[str] = []
    is_following = False
    for number, arg in enumerate(args):
        if arg == "--against":
            is_following = True
            has_file = number + 1 < len(args) and not _is_option(args[number + 1])
            spread += [] if has_file else [arg]
        elif is_following and not _is_option(arg):
            spread += ["--against", arg]
        else:
            is_following = False
            spread.append(arg)
    return spread


def _is_option(arg: str) -> bool:
    return arg.startswith("-") and arg != "-"


@click.command("check", cls=_Check)
@click.argument("file", metavar="FILE")
@click.option("--against", multiple=True, required=True, metavar="FILE...",
              help="The baselines; five or more tell how far the machine drifts.")  # fmt: skip
@click.option("--drift", type=Share(), default="10%", show_default=True, metavar="SHARE",
              help="How far the machine may drift between runs, below five baselines.")  # fmt: skip
@with_gate_options
@with_output_options
def command(
    file: str,
    against: tuple[str, ...],
    drift: float,
    threshold: float,
    inconclusive: Any,
    strict: bool,
    allow_missing: tuple[str, ...],
    summary: Path | None,
    junit: Path | None,
    color: str,
    quiet: bool,
    verbose: bool,
) -> int:
    r"""Check a run against stored runs of the same machine; replay a duet from its two files.

    Exits with 1 if a case regressed or is missing, 3 if that stays open, 4 if nothing is
    comparable.

    \b
    Example:
      bench check results/new.jsonl --against results/old.jsonl
      bench check results/new.jsonl --against results/baseline-*.jsonl --threshold 8%
      bench check results/head.jsonl --against results/base.jsonl --junit verdicts.xml
    """
    from bench.comparing.stored import (
        Stored,
        differences,
        pair_cases,
        stored,
        why_other_machine,
    )
    from bench.comparing.stored_gate import control_keys, is_duet, judge_duet, judge_stored
    from bench.comparing.verdicts import GateSettings
    from bench.errors import RequestError
    from bench.results.reading import read_run
    from bench.results.schema import Run
    from bench.text import plain

    baselines = list(dict.fromkeys(against))
    for output in (summary, junit):
        if output is not None and _is_one_of(output, (file, *baselines)):
            raise RequestError(f"{output} is a run file; choose another to write to")
    run = read_run(file)
    head = stored(run)
    bases: list[Stored] = []
    duet: Run | None = None
    refused: list[str] = []
    remarks = list(run.remarks)
    for path in baselines:
        base = read_run(path)
        if base.header.id == run.header.id:
            raise RequestError(f"{path} is the run that is checked; give an earlier one")
        remarks += base.remarks
        taken = stored(base)
        if len(baselines) == 1 and is_duet(base, run):
            duet = base
            if run.header.id.endswith("-base"):
                raise RequestError(f"{file} is the base of that duet: give {path} as FILE")
        reason = None if duet else why_other_machine(head.machine, taken.machine)
        if reason:
            refused.append(f"void: {path}: {reason}")
        elif all(base.header.id != other.machine.run_id for other in bases):
            bases.append(taken)
    for line in refused:
        click.echo(f"bench: {plain(line)}", err=True)
    settings = GateSettings(
        threshold=threshold, drift=drift, strict=strict, inconclusive=inconclusive
    )
    if duet is not None:
        settings = replace(settings, sentinels=control_keys(run))
        judgement = judge_duet((duet, bases[0]), (run, head), settings)
    else:
        judgement = judge_stored(pair_cases(head, bases, drift), settings)
    missing, allowed = split_missing(dict(judgement.missing), allow_missing)
    judgement = replace(judgement, missing=missing, unjudged={**judgement.unjudged, **allowed})
    bases.sort(key=lambda base: base.machine.started)
    code = show(
        judgement,
        "bench check",
        [*refused, *(differences(head, bases[-1]) if bases else [])],
        summary=summary,
        junit_file=junit,
        color=color,
        quiet=quiet,
    )
    return _finish(code, remarks)


def _is_one_of(output: Path, files: Sequence[str]) -> bool:
    return output.exists() and any(Path(file).exists() and output.samefile(file) for file in files)


def _finish(code: int, remarks: Sequence[str]) -> int:
    """Say what is wrong with the files; one that is cut short is a bad one."""
    from bench.text import plain

    is_bad = False
    for remark in remarks:
        is_cut = "cut short" in remark
        is_bad |= is_cut
        click.echo(f"bench: {'error: ' if is_cut else ''}{plain(remark)}", err=True)
    return BAD_REQUEST if is_bad else code
