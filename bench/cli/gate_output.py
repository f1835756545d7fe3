"""What `check` and `duet` share: their options, and where their verdicts go."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bench.cli import color_of, width_of


class Share(click.ParamType[float]):
    """A share as people write it: `5%`, or `0.05`."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the share as a number; a bare 5 may mean 5% or 500%, and is refused."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        is_percent = text.endswith("%")
        try:
            found = float(text.removesuffix("%")) / (100 if is_percent else 1)
        except ValueError:
            found = math.nan
        if not 0.001 <= found <= (5 if is_percent else 0.999):
            self.fail(f"{value!r} is no share; write it as 5%, or as 0.05", param, ctx)
        return found


def with_gate_options(function: Any) -> Any:
    """Add the options that decide what a verdict leads to, and where it is written."""
    for option in (
        click.option("--junit", type=click.Path(path_type=Path), metavar="FILE",
                     help="Write the verdicts as JUnit XML."),
        click.option("--summary", type=click.Path(path_type=Path), metavar="FILE",
                     help="Write the verdicts as Markdown ($GITHUB_STEP_SUMMARY by itself)."),
        click.option("--allow-missing", multiple=True, metavar="GLOB",
                     help="Cases that may be missing, skipped or failed."),
        click.option("--strict", is_flag=True,
                     help="SAME only where a change above the threshold is ruled out."),
        click.option("--inconclusive", type=click.Choice(["fail", "warn"]), default="fail",
                     show_default=True, help="Exit with 3, or with 0 and a warning."),
        click.option("--threshold", type=Share(), default="5%", show_default=True, metavar="SHARE",
                     help="The change that matters."),
    ):  # fmt: skip
        function = option(function)
    return function


def split_missing(
    missing: dict[tuple[str, str], str], globs: Sequence[str]
) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], str]]:
    """Return the missing cases that fail, and those that a glob on the id allows."""
    from fnmatch import fnmatchcase

    allowed = {
        key: f"allowed: {reason}"
        for key, reason in missing.items()
        if any(fnmatchcase(key[1], glob) for glob in globs)
    }
    return {key: why for key, why in missing.items() if key not in allowed}, allowed


def show(
    judgement: Any,
    title: str,
    remarks: Sequence[str],
    *,
    summary: Path | None,
    junit_file: Path | None,
    color: str,
    quiet: bool = False,
) -> int:
    """Print the verdicts, write them wherever they were asked for, return the exit code.

    With `quiet` only the headline and the sentence are printed.

    Raises:
        OutputError: The summary or the JUnit file cannot be written.
    """
    from bench import catalog
    from bench.comparing.annotations import annotations
    from bench.comparing.gate_document import fit_summary, gate_document
    from bench.comparing.junit import junit
    from bench.report import Document, Request
    from bench.text import plain

    forms = catalog.comparison_reports()
    request = Request(color=color_of(color, sys.stdout), width=width_of(sys.stdout))
    document = gate_document(judgement, title, remarks)
    if quiet:
        click.echo(plain(document.title))
        click.echo(plain(judgement.sentence))
    else:
        click.echo(str(forms["table"].render(document, request)).rstrip("\n"))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in annotations(judgement):
            click.echo(plain(line))

    def as_markdown(document: Document) -> str:
        return str(forms["markdown"].render(document, Request()))

    fit: Callable[..., str] = fit_summary
    if summary is not None:
        _write(summary, fit(as_markdown, judgement, title, remarks).encode())
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if step:
        from bench.comparing.gate_document import MOST_SUMMARY_BYTES

        path = Path(step)
        room = MOST_SUMMARY_BYTES - (path.stat().st_size if path.exists() else 0)
        text = fit(as_markdown, judgement, title, remarks, room)
        _write(path, text.encode(), append=True)
    if junit_file is not None:
        _write(junit_file, junit(judgement, title))
    return int(judgement.exit_code)


def _write(path: Path, content: bytes, *, append: bool = False) -> None:
    from bench.errors import OutputError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if append else "wb") as file:
            file.write(content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another file") from error
