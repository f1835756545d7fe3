"""`bench compare`: machines side by side."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from bench.cli import (
    ANSWER_IS_NO,
    BAD_REQUEST,
    NOTHING_COMPARABLE,
    color_of,
    width_of,
    with_output_options,
)


@click.command("compare")
@click.argument("files", nargs=-1, required=True, metavar="FILE FILE...")
@click.option("--baseline", metavar="LABEL", help="Compare with this run (default: the first).")
@click.option("--prices", type=click.Path(path_type=Path), metavar="FILE.toml",
              help="What the machines cost.")  # fmt: skip
@click.option("--train", "trainings", multiple=True, metavar="NETWORK:IMAGES",
              help="What a training takes and costs, such as NETWORK:1281167x90.")  # fmt: skip
@click.option("--latency-bound", metavar="TIME",
              help="Who answers 99% of requests within it, such as 20ms.")  # fmt: skip
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), metavar="AMOUNT",
              help="What is the fastest that it buys (with --prices).")  # fmt: skip
@click.option("--outliers", is_flag=True, help="Find the slow ones among like machines.")
@click.option("--force", is_flag=True, help="Show void comparisons, too, marked as such.")
@click.option("--as", "form", default="table", show_default=True, metavar="FORM",
              help="table, markdown, csv, json, page or plots.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), metavar="PATH",
              help="A file; for plots a folder (default: plots).")  # fmt: skip
@with_output_options
def command(
    files: tuple[str, ...],
    baseline: str | None,
    prices: Path | None,
    trainings: tuple[str, ...],
    latency_bound: str | None,
    budget: float | None,
    outliers: bool,
    force: bool,
    form: str,
    output: Path | None,
    color: str,
    quiet: bool,
    verbose: bool,
) -> int:
    r"""Set machines side by side, by the same work only: speed, cost, energy.

    \b
    Example:
      bench compare desktop.jsonl server.jsonl
      bench compare *.jsonl --baseline desktop --prices prices.toml
      bench compare node*.jsonl --outliers
    """
    from bench import catalog
    from bench.comparing.document import Questions, comparison_document, outlier_document
    from bench.comparing.machines import machines
    from bench.comparing.prices import read_prices
    from bench.comparing.purchase import parse_seconds, parse_training
    from bench.comparing.side_by_side import choose_baseline, compare
    from bench.comparing.speed_tables import refusal
    from bench.errors import RequestError
    from bench.names import choose
    from bench.report import Request
    from bench.results.reading import read_run
    from bench.text import plain

    reports = catalog.comparison_reports()
    choose("form (--as)", [form], reports)
    if len(files) < 2:
        raise RequestError(
            "one file is nothing to compare; give a second run, or see it alone with bench report"
        )
    if budget is not None and prices is None:
        raise RequestError("--budget needs --prices; give a file of prices")
    if outliers and (prices or trainings or latency_bound or force or baseline):
        raise RequestError("--outliers is a question of its own; ask it without other options")
    if output is None and reports[form].suffix and sys.stdout.isatty():
        output = Path(f"comparison{reports[form].suffix}")
    present = [file for file in files if Path(file).exists()]
    if output is not None and output.is_file() and any(map(output.samefile, present)):
        raise RequestError(f"--output {output}: that is a run file; choose another")
    questions = Questions(
        prices=read_prices(prices) if prices else None,
        trainings=[parse_training(text) for text in trainings],
        latency_bound=parse_seconds(latency_bound) if latency_bound else None,
        budget=budget,
    )
    found = machines(read_run(file, samples=False) for file in files)
    document, code = None, 0
    if outliers:
        document, verdict = outlier_document(found)
        code = ANSWER_IS_NO if verdict.slow else 0 if verdict.judged else NOTHING_COMPARABLE
    else:
        comparison = compare(found, choose_baseline(found, baseline), force=force)
        refused = refusal(comparison)
        for line in refused:
            click.echo(f"bench: {plain(line)}", err=True)
        if refused:
            code = NOTHING_COMPARABLE
        else:
            everything = reports[form].is_for_programs
            document = comparison_document(comparison, found, questions, everything=everything)
    if document is not None:
        request = Request(
            color=output is None and color_of(color, sys.stdout),
            width=width_of(sys.stdout) if output is None else None,
        )
        rendered = reports[form].render(document, request)
        show_rendered(rendered, output, color=request.color)
    broken = [remark for m in found for remark in m.remarks if "cut short" in remark]
    for remark in broken:
        click.echo(f"bench: error: {plain(remark)}", err=True)
    return BAD_REQUEST if broken else code


def show_rendered(rendered: str | Mapping[str, bytes], output: Path | None, *, color: bool) -> None:
    """Print a text or write it to `output`; write files into that folder, or into `plots`."""
    from bench.cli.report import write_files

    if not isinstance(rendered, str):
        folder = output or Path("plots")
        write_files(folder, rendered)
        for name in rendered:
            click.echo(folder / name)
    elif output is None:
        click.echo(rendered.rstrip("\n"), color=color)
    else:
        write_files(output.parent, {output.name: rendered.encode()})
        if output.suffix == ".html":
            click.echo(output)
