"""Writes a run file line by line: what is known is on disk, whatever happens next."""

import math
import os
import sys
from pathlib import Path
from typing import IO, Any

import msgspec

from bench.errors import OutputError
from bench.results.schema import Line


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
        """
        encoded = encode(line)
        start = self._file.tell() if self.path is not None else 0
        try:
            view = memoryview(encoded)
            while view:  # a raw file may take a part only
                view = view[self._file.write(view) :]
            self._file.flush()
        except OSError as error:
            if self.path is not None:
                os.truncate(self._file.fileno(), start)
            raise OutputError(
                f"cannot write {self.path or 'standard output'}: {error.strerror}; what was written"
                " before is intact: make room, then go on with --resume"
            ) from error

    def close(self) -> None:
        """Close the file."""
        if self.path is not None:
            self._file.close()


def encode(line: Line) -> bytes:
    """Return `line` as JSON with a newline.

    Raises:
        ValueError: It holds a number that is not finite; such a number must not reach a file.
    """
    _require_finite(msgspec.to_builtins(line))
    return msgspec.json.encode(line) + b"\n"


def _require_finite(value: Any) -> None:
    # The encoder would write null instead, without a word.
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite must not reach a run file")
    if isinstance(value, dict):
        for item in value.values():
            _require_finite(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _require_finite(item)
