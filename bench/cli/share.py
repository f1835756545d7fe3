"""`bench share`: a copy of a run file that is fit to pass on."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from bench.cli import with_output_options


@click.command("share")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--output", metavar="FILE",
              help="The copy (default: FILE-shared.jsonl); - is standard output.")  # fmt: skip
@with_output_options
def command(file: Path, output: str | None, color: str, quiet: bool, verbose: bool) -> None:
    r"""Copy a run file without what identifies people, places and paths.

    Left out: host and user names, paths, what of the recorded command names a place, branch and
    remote of git, GPU identifiers, and every field that this bench does not know. Kept: all
    numbers, the label, the names of cases. Every field that is left out or changed is named.

    \b
    Example:
      bench share results/mine.jsonl
      bench share results/mine.jsonl --output for-everyone.jsonl
    """
    from bench.errors import OutputError
    from bench.results.sharing import share
    from bench.text import plain

    shared = share(file)
    path = Path(output) if output else file.with_name(f"{file.stem}-shared.jsonl")
    if output == "-":
        sys.stdout.buffer.write(shared.content)
        sys.stdout.flush()
    else:
        try:
            with path.open("xb") as stream:
                stream.write(shared.content)
        except FileExistsError:
            raise OutputError(f"{path} exists already; choose another --output") from None
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror}; choose another --output"
            ) from error
    if quiet:
        return
    for what, fields in (("left out", shared.removed), ("changed", shared.changed)):
        click.echo(plain(f"{what}: {_counted(fields)}"), err=True)
    label = plain(shared.run.header.label)
    click.echo(f"kept: every number, the label {label!r} and the names of cases", err=True)
    if output != "-":
        click.echo(plain(f"run file: {path}"), err=True)


def _counted(fields: Mapping[str, int]) -> str:
    counted = (f"{name} ({n} times)" if n > 1 else name for name, n in sorted(fields.items()))
    return ", ".join(counted) or "nothing"
