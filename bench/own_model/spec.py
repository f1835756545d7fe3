"""What `--model` and `--input` say: the grammar, and nothing that needs PyTorch or user code."""

import keyword
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.errors import RequestError
from bench.names import choose

INTEGERS: Final = ("int64", "int32", "int16", "int8", "uint8", "bool")
FLOATING: Final = "float32"
"""How a floating input is written; it has the dtype of its case."""
MOST_ELEMENTS: Final = 2**32
"""Of one sample: more is a slip of the finger."""

_INPUT: Final = re.compile(
    r"(?:(?P<name>[^=:<]*)=)?(?P<shape>[^=:<]*)(?::(?P<dtype>[^=:<]*)(?:<(?P<high>[^=:<]*))?)?"
)
_EXAMPLE: Final = "write [NAME=]SHAPE[:DTYPE[<RANGE]] such as 3x224x224 or ids=128:int64<30522"


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """One input of the model; `shape` is that of one sample, without the batch."""

    shape: tuple[int, ...]
    name: str | None = None
    """The keyword that it is passed as; None: by its position."""
    dtype: str = FLOATING
    high: int | None = None
    """Integers are drawn below it; None: not said."""

    def __str__(self) -> str:
        """Write it as a user would."""
        name = f"{self.name}=" if self.name else ""
        high = f"<{self.high}" if self.high is not None else ""
        return f"{name}{'x'.join(map(str, self.shape))}:{self.dtype}{high}"

    @classmethod
    def parse(cls, text: str) -> "InputSpec":
        """Read `[NAME=]SHAPE[:DTYPE[<RANGE]]`.

        Raises:
            RequestError: It is none.
        """
        match = _INPUT.fullmatch(text)
        if match is None or not text:
            raise RequestError(f"--input {text!r} cannot be read; {_EXAMPLE}")
        name, shape, dtype, high = match.group("name", "shape", "dtype", "high")
        if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
            raise RequestError(f"--input {text!r}: {name!r} is no name of an argument; {_EXAMPLE}")
        if dtype is not None:
            choose("dtype of --input", [dtype], [FLOATING, *INTEGERS])
        dtype = dtype or FLOATING
        return cls(name=name, shape=_shape(text, shape), dtype=dtype, high=_high(text, dtype, high))


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which model, and what it reads."""

    text: str
    """As `--model` has it."""
    source: str
    """A path that ends in `.py`, or the name of a module."""
    factory: str
    inputs: tuple[InputSpec, ...] = ()

    @property
    def name(self) -> str:
        """The workload's name, safe for ids: `models.build`."""
        stem = re.split(r"[/\\]", self.source)[-1].removesuffix(".py")
        return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{stem}.{self.factory}")

    @classmethod
    def parse(cls, text: str, inputs: Sequence[str]) -> "ModelSpec":
        """Read `PATH.py:FACTORY` or `package.module:FACTORY`, and the inputs.

        Raises:
            RequestError: Something of it cannot be read.
        """
        source, _, factory = text.rpartition(":")
        is_path = source.endswith(".py")
        dotted = (factory,) if is_path else (factory, source)
        if not source or not all(part.isidentifier() for d in dotted for part in d.split(".")):
            raise RequestError(
                f"--model {text!r} cannot be read; write PATH.py:FACTORY or package.module:FACTORY"
            )
        parsed = tuple(InputSpec.parse(each) for each in inputs)
        names = [each.name for each in parsed if each.name is not None]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise RequestError(f"--input {twice}= is given twice; give each input once")
        return cls(text=text, source=source, factory=factory, inputs=parsed)


def _shape(text: str, shape: str) -> tuple[int, ...]:
    if not shape:
        return ()
    if not re.fullmatch(r"[0-9]{1,10}(x[0-9]{1,10})*", shape, re.ASCII):
        raise RequestError(f"--input {text!r}: {shape!r} is no shape; {_EXAMPLE}")
    sizes = tuple(map(int, shape.split("x")))
    if 0 in sizes or math.prod(sizes) > MOST_ELEMENTS:
        raise RequestError(
            f"--input {text!r}: a sample of {math.prod(sizes):,} elements is impossible; give the"
            " shape of one sample, without the batch"
        )
    return sizes


def _high(text: str, dtype: str, high: str | None) -> int | None:
    if high is None:
        return None
    if dtype not in INTEGERS or dtype == "bool":
        raise RequestError(f"--input {text!r}: a range is for integers, such as 128:int64<30522")
    bits = int(dtype.lstrip("uint")) - (not dtype.startswith("u"))
    if not re.fullmatch(r"[0-9]{1,19}", high, re.ASCII) or not 1 <= int(high) <= 2**bits:
        raise RequestError(
            f"--input {text!r}: {high!r} is no range of {dtype}; it is a whole number from 1 to"
            f" {2**bits:,}, one above the largest value"
        )
    return int(high)
