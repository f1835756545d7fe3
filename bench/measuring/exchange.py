"""Arrays between processes: raw files that any library can map without NumPy.

A file is one line of JSON that describes the arrays, padding, then their bytes. Inputs and
references are written once by the process that draws them and read by every worker, so that all
libraries see the same bits.
"""

import json
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ALIGNMENT: Final = 64  # a cache line, and the widest vector register


@dataclass(frozen=True)
class HostArray:
    """An array in host memory that belongs to no library: C order, native byte order.

    `dtype` is one of bench.workload.DTYPES without tf32, or an integer type of NumPy's name.
    """

    shape: tuple[int, ...]
    dtype: str
    data: Any


def write_arrays(path: Path, arrays: Sequence[HostArray]) -> int:
    """Write `arrays` to `path`; return the bytes that it takes."""
    entries: list[dict[str, Any]] = []
    offset = 0
    for array in arrays:
        length = memoryview(array.data).nbytes
        entries.append(
            {"shape": array.shape, "dtype": array.dtype, "offset": offset, "bytes": length}
        )
        offset += _aligned(length)
    header = json.dumps(entries).encode() + b"\n"
    start = _aligned(len(header))
    with path.open("wb") as file:
        file.write(header)
        for entry, array in zip(entries, arrays, strict=True):
            file.seek(start + entry["offset"])
            file.write(array.data)
        file.truncate(start + offset)
    return start + offset


def read_arrays(path: Path) -> list[HostArray]:
    """Map the arrays of `path`; they are read-only and vanish from memory with the last use."""
    with path.open("rb") as file:
        header = file.readline()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = _aligned(len(header))
    view = memoryview(mapped)
    arrays = []
    for entry in json.loads(header):
        begin = start + entry["offset"]
        data = view[begin : begin + entry["bytes"]]
        arrays.append(HostArray(tuple(entry["shape"]), entry["dtype"], data))
    return arrays


def extend(array: HostArray, rows: int) -> HostArray:
    """Return the first `rows` rows of `array` over and over, along its first axis."""
    first, *others = array.shape
    if rows == first:
        return array
    data = memoryview(array.data).cast("B")
    length = len(data) // first * rows
    return HostArray((rows, *others), array.dtype, (bytes(data) * -(-rows // first))[:length])


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT
