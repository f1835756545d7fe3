"""`bench report`: show one run or several."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from bench.cli import BAD_REQUEST, color_of, width_of, with_output_options


@click.command("report")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--as", "form", default="table", show_default=True, metavar="FORM",
              help="table, markdown, csv, json, plots, page or pytest-benchmark.")  # fmt: skip
@click.option("--figure", metavar="NAME", help="One figure only (with --as plots).")
@click.option("--only", multiple=True, metavar="GLOB", help="Only cases whose id matches.")
@click.option("--output", type=click.Path(path_type=Path), metavar="PATH",
              help="A file; for plots a folder (default: plots). A page for a terminal goes to"
                   " FILE.html beside the run file.")  # fmt: skip
@with_output_options
def command(
    files: tuple[str, ...],
    form: str,
    figure: str | None,
    only: tuple[str, ...],
    output: Path | None,
    color: str,
    quiet: bool,
    verbose: bool,
) -> int:
    r"""Show one run or several as a table, Markdown, CSV, JSON, plots or a page.

    A FILE may be reference:NAME, a run that comes with bench; bench list shows them.

    \b
    Example:
      bench report results/mine.jsonl
      bench report results/mine.jsonl --as page
      bench report results/*.jsonl --as plots --output plots
    """
    from bench import catalog
    from bench.errors import RequestError
    from bench.names import choose
    from bench.report import Request
    from bench.results.reading import read_run
    from bench.text import plain

    reports = catalog.reports()
    choose("report", [form], reports)
    if figure is not None and reports[form].figures is None:
        raise RequestError(f"--figure: {form} has no figures; add --as plots")
    runs = [read_run(file) for file in files]
    request = Request(
        only=only,
        figure=figure,
        color=output is None and color_of(color, sys.stdout),
        width=width_of(sys.stdout) if output is None else None,
    )
    if only and not any(request.measurements(run) for run in runs):
        raise RequestError(f"--only {only[0]!r} matches no case of {', '.join(files)}")
    if output is None and reports[form].suffix and sys.stdout.isatty():
        output = beside(files[0], reports[form].suffix)
    if output is not None and output.is_file() and any(map(output.samefile, existing(files))):
        raise RequestError(f"--output {output}: that is a run file; choose another")
    rendered = reports[form].render(runs, request)
    if isinstance(rendered, str):
        if output is None:
            click.echo(rendered.rstrip("\n"), color=request.color)
        else:
            write_files(output.parent, {output.name: rendered.encode()})
            if reports[form].suffix:
                click.echo(output)
    else:
        folder = output or Path("plots")
        write_files(folder, rendered)
        for name in rendered:
            click.echo(folder / name)
    broken = [remark for run in runs for remark in run.remarks if "cut short" in remark]
    for remark in broken:
        click.echo(f"bench: error: {plain(remark)}", err=True)
    return BAD_REQUEST if broken else 0


def existing(files: Sequence[str]) -> list[Path]:
    """Return those of the run files that are files; others are names such as `reference:NAME`."""
    return [path for path in map(Path, files) if path.exists()]


def beside(file: str, suffix: str) -> Path:
    """Return where to put what nobody reads in a terminal: beside the run file.

    What is no file, such as `reference:NAME`, has its report in the current folder.
    """
    path = Path(file)
    return path.with_suffix(suffix) if path.exists() else Path(f"{file.rpartition(':')[2]}{suffix}")


def write_files(folder: Path, contents: object) -> None:
    """Write files into a folder, which is made if it is not there.

    Raises:
        OutputError: It cannot be written.
    """
    from bench.errors import OutputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in dict(contents).items():  # type: ignore[call-overload]
            (folder / name).write_bytes(content)
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {error.strerror}; choose another --output"
        ) from error
