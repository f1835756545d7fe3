"""Is the output right? Compared with float64 before it may be timed, and on the timed output.

The relative error e = |y - y64|_F / |y64|_F is a fingerprint of the precision in effect: a product
in float32 has 1.5e-7 to 4e-7, one in TF32 3e-4, so a silent TF32 cannot pass. Operators and
`.sum()` are all that is asked of an array here, so that no library needs a case of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.backends.base import Backend
from bench.errors import CaseError
from bench.measuring.exchange import read_arrays

LIMITS: Final = {
    "float64": 1e-12,
    "float32": 5e-6,
    "tf32": 1e-3,
    "float16": 2e-3,
    "bfloat16": 1.2e-2,
}
ROWS_AT_ONCE_BYTES: Final = 64 * 2**20  # of float64, so that checking needs little memory


YARDSTICK: Final = 3.0
"""Times the error of plain float32 that a network may have: the order of additions differs."""
LARGEST_LIMIT: Final = 0.8
"""Beyond it anything would pass: zeros have the error 1. Gradients of deep networks in bfloat16
have 0.1 to 0.6."""
ROUNDINGS: Final = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "tf32": 2.0**-11,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}
"""The largest relative error of one rounding: a coarser type rounds between any two layers."""


@dataclass(frozen=True)
class Reference:
    """Where the expected output lies.

    `kind` is `sampled` for projections of `axis`, or says how whole outputs are verified.
    `own_error` is that of NumPy in float32 on the same bits, for whole networks: their outputs are
    verified together, as one vector, against what float32 itself can reach; the first `apart` of
    them as one, the others as another.
    """

    kind: str
    path: str
    axis: int = -1
    own_error: float | None = None
    apart: int = 0

    def limit(self, dtype: str, factor: float) -> float:
        """Return the largest error that is right; `factor` widens what the type allows."""
        if self.own_error is None:
            return LIMITS[dtype] * factor
        coarser = ROUNDINGS[dtype] / ROUNDINGS["float32"]
        times = max(coarser, YARDSTICK * LIMITS[dtype] / LIMITS["float32"])
        return min(LARGEST_LIMIT, max(LIMITS[dtype] * factor, self.own_error * times))


def relative_error(backend: Backend, output: Any, reference: Reference, repeats: int = 1) -> float:
    """Return the relative error of `output`; NaN if it holds one.

    Where the inputs are the same samples `repeats` times, so is an output with a row for each
    sample; what is a mean over the batch is the same as for one of them.

    Raises:
        CaseError: The output is not of the expected number or shape.
    """
    outputs = output if isinstance(output, (tuple, list)) else (output,)
    arrays = [backend.reference(array) for array in read_arrays(Path(reference.path))]
    if reference.kind == "sampled":
        vectors, expected = arrays
        shape = list(expected.shape)
        shape[reference.axis] = vectors.shape[-2]
        _require_shape(outputs[:1], [tuple(shape)])
        return _projected_error(backend, outputs[0], vectors, expected, reference.axis)
    expected_shapes = [tuple(array.shape) for array in arrays]
    times = [1] * len(arrays)
    for i, (result, whole) in enumerate(zip(outputs, expected_shapes, strict=False)):
        if tuple(result.shape) != whole and whole:
            times[i] = repeats
            expected_shapes[i] = (repeats * whole[0], *whole[1:])
    _require_shape(outputs, expected_shapes)
    sums = [_squares(backend, *each) for each in zip(outputs, arrays, times, strict=True)]
    if reference.own_error is not None:
        parts = [part for part in (sums[: reference.apart], sums[reference.apart :]) if part]
        sums = [
            (sum(wrong for wrong, _ in part), sum(whole for _, whole in part)) for part in parts
        ]
    errors = [_ratio(*pair) for pair in sums]
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def require_right(error: float, dtype: str, limit: float) -> None:
    """Raise CaseError (`wrong`) if `error` is beyond `limit`."""
    if error <= limit:
        return
    if not math.isfinite(error):
        reason = "the output holds NaN or infinity, was not written, or should be zero and is not"
    else:
        reason = f"relative error {error:.2g} against float64; the limit of {dtype} is {limit:.2g}"
        if dtype == "float32" and LIMITS["tf32"] / 10 <= error <= LIMITS["tf32"]:
            reason += ": reduced precision (such as TF32) is in effect"
    raise CaseError("wrong", reason)


def _require_shape(outputs: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> None:
    got = [tuple(output.shape) for output in outputs]
    if got != shapes:
        raise CaseError("wrong", f"the output has the shape {got}; the reference has {shapes}")


def _row_slices(shape: Sequence[int]) -> list[slice]:
    row = 8 * math.prod(shape[1:]) if shape else 8
    step = max(1, ROWS_AT_ONCE_BYTES // max(1, row))
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def _squares(backend: Backend, output: Any, expected: Any, times: int) -> tuple[float, float]:
    """Return the squared norms of the error and of what is expected, so many times in a row."""
    if not tuple(expected.shape):
        got = float(backend.to_float64(output))
        return (got - float(expected)) ** 2, float(expected) ** 2
    wrong = whole = 0.0
    for rows in _row_slices(tuple(expected.shape)):
        part = expected[rows]
        for start in range(0, times * expected.shape[0], expected.shape[0]):
            own = slice(start + rows.start, start + rows.start + part.shape[0])
            difference = backend.to_float64(output, own) - part
            wrong += float((difference * difference).sum())
            whole += float((part * part).sum())
    return wrong, whole


def _projected_error(
    backend: Backend, output: Any, vectors: Any, expected: Any, axis: int
) -> float:
    wrong = whole = 0.0
    for rows in _row_slices(tuple(output.shape)):
        # Of batched products each has its own vectors.
        chosen = vectors[rows] if len(vectors.shape) > 2 else vectors
        part = expected[rows]
        projected = (backend.to_float64(output, rows).swapaxes(axis, -1) @ chosen).swapaxes(
            axis, -1
        )
        difference = projected - part
        wrong += float((difference * difference).sum())
        whole += float((part * part).sum())
    return _ratio(wrong, whole)


def _ratio(wrong: float, whole: float) -> float:
    if math.isnan(wrong) or math.isinf(wrong):
        return math.nan
    if whole == 0:
        return 0.0 if wrong == 0 else math.inf
    return math.sqrt(wrong / whole)
