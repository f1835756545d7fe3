"""Writes a run file line by line: what is known is on disk, whatever happens next."""

import math
import os
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from bench.errors import OutputError
from bench.results.schema import Line


def slug(text: str) -> str:
    """Return what may stand in a file name on every system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:60] or "run"


def default_path(label: str, content: str) -> Path:
    """Return where a run is written that was not told where."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path("results") / f"{stamp}-{slug(label)}-{slug(content)}.jsonl"


class RunWriter:
    """Appends lines; a line that cannot be written whole is taken back."""

    def __init__(self, path: Path | None, *, append: bool = False) -> None:
        self.path = path
        self._file: IO[bytes]
        if path is None:
            self._file = sys.stdout.buffer
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = "not a folder" if isinstance(error, FileExistsError) else error.strerror
            raise OutputError(
                f"cannot write to {path.parent}: {reason}; choose another --output"
            ) from error
        try:
            self._file = path.open("ab" if append else "xb", buffering=0)
        except FileExistsError:
            raise OutputError(f"{path} exists already; choose another --output") from None
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror}; choose another --output"
            ) from error

    def write(self, line: Line) -> None:
        """Append one line and flush it.

        Raises:
            OutputError: The disk is full or gone; the lines before are intact.
            ValueError: As `encode` does; nothing is written.
        """
        encoded = encode(line)
        start = self._file.tell() if self.path is not None else 0
        view = memoryview(encoded)
        try:
            while view:  # a raw file may take a part only
                view = view[self._file.write(view) :]
            self._file.flush()
        except BaseException as error:
            # An interrupt, too, must leave no half line: more lines follow it.
            if view and self.path is not None:
                self._take_back(start)
            if not isinstance(error, OSError):
                raise
            raise OutputError(
                f"cannot write {self.path or 'standard output'}: {error.strerror}; what was written"
                " before is intact: make room, then go on with --resume"
            ) from error

    def _take_back(self, start: int) -> None:
        with suppress(OSError):  # a device has nothing to take back
            os.truncate(self._file.fileno(), start)
            self._file.seek(start)

    def close(self) -> None:
        """Close the file."""
        if self.path is not None:
            self._file.close()


def encode(line: Line) -> bytes:
    """Return `line` as JSON with a newline.

    Raises:
        ValueError: It holds a number that is not finite, or a value that no reader accepts, such
            as a time of 0; neither must reach a file, which would be unreadable as a whole.
    """
    content = _storable(msgspec.to_builtins(line))
    msgspec.convert(content, type(line))
    return msgspec.json.encode(content) + b"\n"


def _storable(value: Any) -> Any:
    """Return `value` with texts that are Unicode, which the names of files need not be."""
    if isinstance(value, float) and not math.isfinite(value):
        # The encoder would write null instead, without a word.
        raise ValueError("a number that is not finite must not reach a run file")
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    return value
