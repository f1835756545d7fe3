"""A folder of run files as the store of a history: no index, nothing but the files themselves.

A file's name says when the run began, what it is called and which one it is, so that folders can be
synchronised and merged without a conflict.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import OutputError, RequestError, RunFileError
from bench.results.reading import read_run
from bench.results.reference_runs import resolve
from bench.results.schema import Run, RunLine
from bench.results.writing import slug

_ID_LETTERS: Final = 12


@dataclass(frozen=True)
class Added:
    """Where a run lies in the store; not `is_new` if it was there already."""

    path: Path
    run: Run
    is_new: bool


def file_name(header: RunLine) -> str:
    """Return the name of a run in a store: TIME-LABEL-ID.jsonl."""
    time = "".join(letter for letter in header.started if letter.isalnum())
    short = slug(header.id[:_ID_LETTERS])
    return f"{slug(time)[:20]}-{slug(header.label)}-{short}.jsonl"


def add_run(file: str | Path, store: Path) -> Added:
    """Copy a run file that can be read into the store; what lies there is never overwritten.

    Raises:
        RunFileError: The file is no run, or is cut short.
        RequestError: The store has the same run with another content.
        OutputError: The store cannot be written.
    """
    run = read_run(file)
    cut = next((remark for remark in run.remarks if "cut short" in remark), None)
    if cut is not None:
        raise RunFileError(cut)
    content = resolve(file).read_bytes()
    path = store / file_name(run.header)
    if path.exists():
        if path.read_bytes() == content:
            return Added(path, run, is_new=False)
        raise RequestError(
            f"{path} holds the same run with another content; remove it first if that of {file} is"
            " to count"
        )
    _write_new(path, content)
    return Added(path, run, is_new=True)


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all, and replaces none."""
    beside: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).chmod(0o644)
        try:
            os.link(beside, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with path.open("xb") as file:
                file.write(content)
    except FileExistsError:
        raise RequestError(f"{path}: another process has just added it; try again") from None
    except OSError as error:
        raise OutputError(
            f"cannot write to {path.parent}: {error.strerror}; choose another --store"
        ) from error
    finally:
        if beside is not None:
            with suppress(OSError):
                Path(beside).unlink()


def read_store(store: Path) -> Iterator[Run | RunFileError]:
    """Yield every run of a store in the order of the names, or why a file is none.

    Raises:
        RequestError: There is no such folder, or no run file in it.
    """
    if not store.is_dir():
        raise RequestError(f"--store {store}: no such folder; fill it with bench history add FILE")
    paths = sorted(path for path in store.iterdir() if path.suffix == ".jsonl")
    if not paths:
        raise RequestError(f"--store {store}: no run file in it; add one with bench history add")
    for path in paths:
        try:
            yield read_run(path)
        except RunFileError as error:
            yield error
