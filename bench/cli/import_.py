"""`bench import`: another tool's results as a run file."""

from pathlib import Path

import click

from bench.cli import with_output_options

FAULTY = 1


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--from", "tool", required=True, type=click.Choice(["pytest-benchmark"]),
              help="The tool that wrote FILE.")  # fmt: skip
@click.option("--label", metavar="NAME", help="Name of the run (default: the CPU's model).")
@click.option("--output", metavar="FILE",
              help="Run file (default: in results/); - is standard output.")  # fmt: skip
@with_output_options
def command(
    file: Path,
    tool: str,
    label: str | None,
    output: str | None,
    color: str,
    quiet: bool,
    verbose: bool,
) -> int:
    r"""Turn another tool's results into a run file.

    Each benchmark becomes a case of the suite `imported`, named as pytest names the test. What the
    tool does not record, such as the dtype or the inputs, stays unknown.

    \b
    Example:
      pytest --benchmark-json benchmarks.json
      bench import benchmarks.json --from pytest-benchmark --output results/tests.jsonl
      bench report results/tests.jsonl
    """
    from bench.results.importing import SUITE, import_pytest_benchmark
    from bench.results.writing import RunWriter, default_path
    from bench.text import plain

    run = import_pytest_benchmark(file, label)
    path = Path(output) if output else default_path(run.header.label, SUITE)
    writer = RunWriter(None if output == "-" else path)
    for line in (run.header, *run.measurements, run.end):
        if line is not None:
            writer.write(line)
    writer.close()
    faulty = [m for m in run.measurements if m.status != "ok"]
    for m in faulty:
        click.echo(plain(f"{m.id}: {m.status}: {m.reason}"), err=True)
    if not quiet:
        ok = len(run.measurements) - len(faulty)
        where = "standard output" if output == "-" else path
        done = f"{ok} of {len(run.measurements)} benchmarks have a time; run file: {where}"
        click.echo(plain(done), err=True)
    return FAULTY if faulty else 0
