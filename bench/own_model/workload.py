"""Makes the user's model a workload like any other, from what was found out about it."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from bench.errors import CaseError
from bench.own_model.building import OwnModel
from bench.own_model.network import PHASES, OwnNetwork
from bench.own_model.spec import FLOATING, ModelSpec
from bench.workload import Call, Dims, Phase, Prepare, Size, Workload

SUITES: Final = ("passes", "batch-sweep", "latency")
COUNTED: Final = (2, 4, 6)
"""The batches at which FLOPs are counted: three tell a polynomial of degree two."""
DECISIONS: Final = 2000.0
"""Widens the limits of gradients: a rectifier near 0 lets one pass or not (see `_network.py` in
`kernels/networks`)."""
SHORTCUT: Final = 4.0
"""A library may leave work out that is counted: half of a causal attention, products with padding,
three quarters of those of a small convolution (Winograd)."""
MARKERS: Final = 2
"""Inputs besides the model's own, the last ones: one of the case's dtype, and a digest."""


def model_workload(
    spec: ModelSpec, facts: Mapping[str, Any] | None, torch: Any = None, seed: int = 0
) -> Workload:
    """Return the workload of `spec`.

    Without `facts` it can be planned with, but not measured; only workers, which hand in PyTorch,
    can call it.
    """
    known: Mapping[str, Any] = facts or {}
    own = OwnModel(torch, spec, seed)
    includes = (
        f"a training step: forward, {known.get('loss', 'loss')}, backward, update by SGD with"
        " momentum; float16 and bfloat16 are autocast over float32 parameters"
    )
    return Workload(
        name=spec.name,
        summary="the user's own model",
        source=spec.text,
        suites=SUITES,
        sizes=[
            Size(dims={"batch": 1}, preset="quick"),
            Size(dims={"batch": 8}, preset="quick"),
            Size(dims={"batch": 64}),
        ],
        inputs=lambda rng, dims: [
            *drawn(known["inputs"], own, rng, dims["batch"]),
            *_markers(own),
        ],
        decoys=lambda rng, dims: [
            *_decoys(known["inputs"], own, rng, dims["batch"]),
            *_markers(own),
        ],
        phases={name: _phase(name, known, own) for name in PHASES},
        includes={"torch": includes},
        parameters=(lambda _dims: MARKERS) if known.get("counts_samples") else None,
    )


def _phase(name: str, facts: Mapping[str, Any], own: OwnModel) -> Phase:
    drops = name == "training_step" and bool(facts.get("drops"))
    moved = facts.get("elements_read")
    counts = facts.get("flops", {}).get(name)

    def prepared(way: str) -> Prepare:
        def prepare(_torch: Any, dims: Dims, *inputs: Any) -> Call:
            if name == "training_step" and dims["batch"] == 1 and facts.get("alone"):
                raise CaseError("skipped", facts["alone"])
            return PHASES[name](OwnNetwork(own, facts, inputs, way))

        return prepare

    return Phase(
        torch=prepared(""),
        variants={"compiled": {"torch": prepared("compiled")}},
        is_network=True,
        apart=1 + len(facts.get("outputs", {}).get(name, ())) if name == "training_step" else 0,
        error_factor=DECISIONS if name == "training_step" else 1.0,
        verified="without dropout" if drops else "full",
        skipped=facts.get("skipped", {}).get(name),
        flops=(lambda dims: flops_through(counts, dims["batch"])) if counts else None,
        bytes_moved=(lambda _dims, item: item * moved) if moved else None,
        shortcut=lambda _dims: SHORTCUT,
    )


def flops_through(counts: Sequence[int], batch: int) -> int:
    """Return what the polynomial through the counts says of a batch (Newton's form)."""
    first, second, third = counts
    step, bend = second - first, third - 2 * second + first
    t = Fraction(batch - COUNTED[0], COUNTED[1] - COUNTED[0])
    return round(first + t * step + t * (t - 1) / 2 * bend)


def drawn(inputs: Sequence[Mapping[str, Any]], own: OwnModel, rng: Any, batch: int) -> list[Any]:
    """Return the model's inputs as NumPy arrays, `batch` samples of each.

    The rows of the factory's examples are repeated to the batch; others are drawn.
    """
    if own.built.examples is None:
        return [_one(each, rng, batch) for each in inputs]
    return [
        tensor[[i % len(tensor) for i in range(batch)]].numpy() for _, tensor in own.built.examples
    ]


def _one(each: Mapping[str, Any], rng: Any, batch: int) -> Any:
    shape = (batch, *each["shape"])
    if each["dtype"] == FLOATING:
        return rng.standard_normal(shape, dtype=FLOATING)
    if each["dtype"] == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(0, each["high"] or 2, shape, dtype=each["dtype"])


def _decoys(inputs: Sequence[Mapping[str, Any]], own: OwnModel, rng: Any, batch: int) -> list[Any]:
    """Return inputs unlike those.

    Examples have their elements exchanged; where all are the same they get others that any model
    takes.
    """
    arrays = drawn(inputs, own, rng, batch)
    if own.built.examples is None:
        return arrays
    return [
        rng.permuted(array, axis=None).reshape(array.shape)
        if (array != array.flat[0]).any()
        else rng.integers(0, 2, array.shape).astype(array.dtype)
        for array in arrays
    ]


def _markers(own: OwnModel) -> list[Any]:
    import numpy

    return [numpy.empty(0, "float32"), numpy.frombuffer(own.digest(), "uint8")]
