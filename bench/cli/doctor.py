"""`bench doctor`: is this machine fit to measure."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from bench.cli import color_of, width_of, with_output_options

WATCH_SECONDS = 1.0
UNFIT = 1


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print it for a program.")
@with_output_options
def command(as_json: bool, color: str, quiet: bool, verbose: bool) -> int:
    r"""Is this machine fit to measure? Each line: ok, warning or problem, and what to do.

    Exits with 1 if there is a problem.

    \b
    Example:
      bench doctor
    """
    from bench import fitness
    from bench.backends import backends
    from bench.cores import allowed_cores
    from bench.machine import capture
    from bench.running.probe import probe

    cores = allowed_cores()
    probes = probe(backends(), cores)
    pressure = watch(cores)
    machine = capture(libraries={name: p.description for name, p in probes.items()})
    findings = fitness.check(machine, pressure)
    findings += [
        fitness.Finding("ok", p.backend, "available")
        if p.absent is None
        else fitness.Finding("warning", p.backend, p.absent[0], p.absent[1])
        for p in probes.values()
        if p.absent is None or backends()[p.backend].tried
    ]
    if quiet:
        findings = [f for f in findings if f.level != "ok"]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        painted = color_of(color, sys.stdout)
        click.echo(_as_text(findings, painted), nl=False, color=painted)
    return UNFIT if any(f.level == "problem" for f in findings) else 0


def watch(cores: int) -> dict[str, float]:
    """Look for a second at what else the machine does, while bench itself does nothing."""
    from bench.measuring.interference import Counters

    before = Counters.read()
    time.sleep(WATCH_SECONDS)
    after = Counters.read()
    wall = after.wall - before.wall
    found: dict[str, float] = {}
    pressure = Path("/proc/pressure/cpu")
    if pressure.exists():
        found["cpu_some_avg10"] = float(pressure.read_text().split("avg10=")[1].split()[0])
    if before.steal is not None and after.steal is not None:
        found["steal"] = (after.steal - before.steal) / (wall * cores)
    load = Path("/proc/loadavg")
    if load.exists():
        found["load_per_core"] = float(load.read_text().split()[0]) / cores
    return found


def _as_text(findings: list, color: bool) -> str:  # type: ignore[type-arg]
    from bench.text import align

    colors = {"ok": "green", "warning": "yellow", "problem": "red"}
    rows = [
        [f.level, f.subject, f"{f.what}. To mend it: {f.remedy}" if f.remedy else f.what]
        for f in findings
    ]
    return align(
        ["", "subject", "finding"],
        rows,
        width=width_of(sys.stdout),
        style=lambda row, column, text: (
            click.style(text, fg=colors[findings[row].level])
            if color and row >= 0 and column == 0
            else text
        ),
    )
