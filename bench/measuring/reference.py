"""Draws inputs and computes references, in a NumPy process that times nothing.

The bits are drawn once, rounded to the case's dtype, and written for every worker to read.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.errors import CaseError
from bench.measuring.exchange import HostArray, write_arrays
from bench.measuring.verification import Reference
from bench.workload import Dims, Phase, Projection, Workload

LARGE_FLOPS: Final = 50e9  # about a second of float64 on two cores; above it a projection checks


@dataclass(frozen=True)
class Drawn:
    """The files that one piece of work needs: inputs, inputs unlike them, and the reference."""

    inputs: str
    decoy: str
    reference: Reference
    digest: str
    total_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def draw(
    numpy: Any, workload: Workload, dims: Dims, phase: str, dtype: str, seed: int, folder: Path
) -> Drawn:
    """Draw the inputs of `workload` at `dims`, compute the reference, write both to `folder`."""
    parts = workload.phases[phase]
    rng, decoy_rng, other = (
        numpy.random.default_rng(_entropy(seed, workload, dims, role))
        for role in ("inputs", "decoy", "projection")
    )
    folder.mkdir(parents=True, exist_ok=True)
    make = parts.inputs or workload.inputs
    inputs = [_rounded(numpy, array, dtype) for array in make(rng, dims)]
    total = write_arrays(folder / "inputs", [host for host, _ in inputs])
    digest = _digest([host for host, _ in inputs])
    decoys = [_rounded(numpy, array, dtype)[0] for array in make(decoy_rng, dims)]
    if _digest(decoys) == digest:
        raise CaseError("failed", "inputs() draws the same whatever its random generator")
    total += write_arrays(folder / "decoy", decoys)
    del decoys
    exact = [value.astype("float64") if value.dtype.kind == "f" else value for _, value in inputs]
    del inputs
    path = folder / "reference"
    check = _projection(numpy, parts, dims, exact, other)
    if check is not None:
        expected = [check.vectors, check.expected]
        reference = Reference("sampled", str(path), check.axis)
    else:
        expected = _reference(numpy, parts, dims, exact)
        own_error = _own_error(numpy, parts, dims, exact, expected) if parts.is_network else None
        reference = Reference("full", str(path), own_error=own_error)
    total += write_arrays(path, [_host(numpy, array) for array in expected])
    return Drawn(str(folder / "inputs"), str(folder / "decoy"), reference, digest, total)


def _projection(
    numpy: Any, phase: Phase, dims: Dims, inputs: list[Any], rng: Any
) -> Projection | None:
    large = phase.flops is not None and phase.flops(dims) > LARGE_FLOPS
    if not large or phase.projection is None:
        return None
    return phase.projection(numpy, rng, dims, *inputs)


def _reference(numpy: Any, phase: Phase, dims: Dims, inputs: list[Any]) -> list[Any]:
    if phase.reference is not None:
        output = phase.reference(numpy, dims, *inputs)
    else:
        prepare = phase.implementation("numpy")
        if prepare is None:
            raise CaseError("failed", "has neither a reference nor a version for NumPy")
        output = prepare(numpy, dims, *inputs)()
    outputs = output if isinstance(output, (tuple, list)) else (output,)
    return [numpy.asarray(array, "float64") for array in outputs]


def _own_error(
    numpy: Any, phase: Phase, dims: Dims, exact: list[Any], expected: list[Any]
) -> float:
    """Return the error of the array version in float32: what that type itself can reach."""
    prepare = phase.implementation("numpy")
    if prepare is None:
        raise CaseError("failed", "a network is verified by its version for NumPy, and has none")
    inputs = [value.astype("float32") if value.dtype.kind == "f" else value for value in exact]
    output = prepare(numpy, dims, *inputs)()
    outputs = output if isinstance(output, (tuple, list)) else (output,)
    wrong = whole = 0.0
    for got, right in zip(outputs, expected, strict=True):
        wrong += float(((got - right) ** 2).sum())
        whole += float((right**2).sum())
    return float(numpy.sqrt(wrong / whole)) if whole else 0.0


def _entropy(seed: int, workload: Workload, dims: Dims, role: str) -> int:
    text = json.dumps([seed, workload.name, workload.version, dict(dims), role], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def _rounded(numpy: Any, array: Any, dtype: str) -> tuple[HostArray, Any]:
    """Return the bits in `dtype`, and the value that they stand for as a NumPy array."""
    if array.dtype.kind != "f":
        return _host(numpy, array), array
    if dtype != "bfloat16":
        rounded = numpy.asarray(array, "float32" if dtype == "tf32" else dtype, order="C")
        return _host(numpy, rounded), rounded
    # Round to nearest even on the upper half of a float32: NumPy has no bfloat16.
    bits = numpy.asarray(array, "float32", order="C").view("uint32")
    upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("uint16")
    value = (upper.astype("uint32") << 16).view("float32")
    return HostArray(array.shape, "bfloat16", upper.reshape(-1).view("uint8").data), value


def _host(numpy: Any, array: Any) -> HostArray:
    flat = numpy.ascontiguousarray(array).reshape(-1)
    return HostArray(array.shape, array.dtype.name, flat.view("uint8").data)


def _digest(arrays: list[HostArray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.data)
    return digest.hexdigest()[:32]
