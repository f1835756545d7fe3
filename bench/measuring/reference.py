"""Draws inputs and computes references, in a process that times nothing.

It is one of NumPy, or of PyTorch for what only PyTorch has. The bits are drawn once, rounded to the
case's dtype, and written for every worker to read.
"""

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.errors import CaseError
from bench.measuring.exchange import HostArray, write_arrays
from bench.measuring.verification import Reference
from bench.workload import Dims, Phase, Projection, Workload

LARGE_FLOPS: Final = 50e9  # about a second of float64 on two cores; above it a projection checks
BACKENDS: Final = "backends"
"""How a user's workload without a reference is verified: one backend against the other."""


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
    numpy: Any,
    workload: Workload,
    dims: Dims,
    phase: str,
    dtype: str,
    seed: int,
    folder: Path,
    torch: Any = None,
) -> Drawn:
    """Draw the inputs of `workload` at `dims`, compute the reference, write both to `folder`.

    With `torch` that computes it, on the CPU: the phase has no version for NumPy then.
    """
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
    unlike = parts.inputs or workload.decoys or make
    decoys = [_rounded(numpy, array, dtype)[0] for array in unlike(decoy_rng, dims)]
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
        expected, kind, own_error = _reference(numpy, torch, parts, dims, exact)
        if kind == "full":
            unsure = workload.is_users and parts.reference is None
            kind = BACKENDS if unsure else parts.verified
        reference = Reference(kind, str(path), own_error=own_error, apart=parts.apart)
    total += write_arrays(path, [_host(numpy, array) for array in expected])
    return Drawn(str(folder / "inputs"), str(folder / "decoy"), reference, digest, total)


def _projection(
    numpy: Any, phase: Phase, dims: Dims, inputs: list[Any], rng: Any
) -> Projection | None:
    large = phase.flops is not None and phase.flops(dims) > LARGE_FLOPS
    if not large or phase.projection is None:
        return None
    return phase.projection(numpy, rng, dims, *inputs)


def _reference(
    numpy: Any, torch: Any, phase: Phase, dims: Dims, exact: list[Any]
) -> tuple[list[Any], str, float | None]:
    """Return what is expected, how far that verifies, and of a network the error of float32.

    PyTorch code that insists on float32 is its own reference, and its error is then what another
    order of additions makes of it.
    """
    if phase.reference is not None:
        expected, kind = _float64(numpy, phase.reference(numpy, dims, *exact)), "full"
    else:
        try:
            expected, kind = _computed(numpy, torch, phase, dims, exact), "full"
        except Exception:
            if torch is None:
                raise
            expected, kind = _computed(numpy, torch, phase, dims, _single(exact)), "float32"
    if not phase.is_network:
        return expected, kind, None
    with without_onednn(torch) if kind == "float32" else contextlib.nullcontext():
        own = _computed(numpy, torch, phase, dims, _single(exact))
    return expected, kind, max(_error(own, expected, part) for part in _parts(phase, expected))


@contextlib.contextmanager
def without_onednn(torch: Any) -> Iterator[None]:
    """Have PyTorch compute on the CPU without oneDNN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings of Intel's GPUs, which nobody touches here
        context = torch.backends.mkldnn.flags(enabled=False)
        context.__enter__()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            context.__exit__(None, None, None)


def _computed(numpy: Any, torch: Any, phase: Phase, dims: Dims, inputs: list[Any]) -> list[Any]:
    """Call the phase's own version for NumPy, or for PyTorch on the CPU."""
    prepare = phase.implementation(phase.judge)
    if prepare is None:
        raise CaseError("failed", f"has neither a reference nor a version for {phase.judge}")
    if torch is not None:
        inputs = [torch.from_numpy(numpy.array(array)) for array in inputs]
    call = prepare(numpy if torch is None else torch, dims, *inputs)
    return _float64(numpy, (getattr(call, "checked", None) or call)())


def _float64(numpy: Any, output: Any) -> list[Any]:
    outputs = output if isinstance(output, (tuple, list)) else (output,)
    arrays = [a.detach().double() if hasattr(a, "detach") else a for a in outputs]
    return [numpy.asarray(array, "float64") for array in arrays]


def _single(exact: list[Any]) -> list[Any]:
    return [value.astype("float32") if value.dtype.kind == "f" else value for value in exact]


def _parts(phase: Phase, outputs: list[Any]) -> list[slice]:
    """Return which outputs of a network are verified together."""
    apart = slice(0, phase.apart), slice(phase.apart, len(outputs))
    return [part for part in apart if part.stop > part.start]


def _error(own: list[Any], expected: list[Any], part: slice) -> float:
    wrong = whole = 0.0
    for got, right in zip(own[part], expected[part], strict=True):
        wrong += float(((got - right) ** 2).sum())
        whole += float((right**2).sum())
    return math.sqrt(wrong / whole) if whole else 0.0


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
