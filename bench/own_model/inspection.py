"""Tries the user's model on the CPU before anything is measured, and says what is wrong with it.

What is found out (the facts) is JSON: the parent plans with it, and every worker measures by it.
"""

import importlib
import inspect as introspection
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from bench.errors import CaseError
from bench.own_model.building import OwnModel, blaming, call_module
from bench.own_model.network import PHASES, OwnNetwork
from bench.own_model.outputs import floating, loss_of, own_loss
from bench.own_model.spec import FLOATING, INTEGERS, InputSpec, ModelSpec
from bench.own_model.watching import undropped, watch
from bench.own_model.workload import COUNTED, drawn, flops_through

BATCHES: Final = (2, 4)
"""Two batches tell which axis of an output the samples are on."""
CHECKED: Final = 8
"""The batch at which the FLOPs that follow from the counts are compared with a count."""
SAME: Final = 1e-3
"""Two runs that differ by less are the same: atomic additions change the last digits only."""


def inspect(torch: Any, spec: ModelSpec, seed: int) -> dict[str, Any]:
    """Return what is known of the model without timing it.

    Raises:
        CaseError: It cannot be measured as it was named; the reason says why.
    """
    own = OwnModel(torch, spec, seed)
    inspection = Inspection(torch, own)
    inspection.find_ranges()
    inspection.find_outputs()
    inspection.find_randomness()
    inspection.count_flops()
    return inspection.facts


class Inspection:
    """One model under inspection; `facts` grows."""

    def __init__(self, torch: Any, own: OwnModel) -> None:
        self.torch, self.own = torch, own
        self.numpy = importlib.import_module("numpy")
        module = own.built.module
        self.facts: dict[str, Any] = {
            "inputs": _inputs(own),
            "outputs": {},
            "skipped": {},
            "flops": {},
            "drops": False,
            "notes": [],
            "parameters": sum(p.numel() for p in module.parameters()),
        }

    def note(self, text: str) -> None:
        """Keep what the user should know."""
        self.facts["notes"].append(text)

    def inputs(self, batch: int) -> list[Any]:
        """Draw inputs, integers up to the largest of their range."""
        rng = self.numpy.random.default_rng(self.own.seed)
        arrays = drawn(self.facts["inputs"], self.own, rng, batch)
        if self.own.built.examples is None:
            for each, array in zip(self.facts["inputs"], arrays, strict=True):
                if each["high"]:
                    array.reshape(-1)[0] = each["high"] - 1
        return [self.torch.from_numpy(array.copy()) for array in arrays]

    def network(self, batch: int, device: str = "cpu") -> OwnNetwork:
        """Place the model with inputs on the CPU, or without their values on `meta`."""
        torch = self.torch
        marker = torch.empty(0, dtype=torch.float32)
        digest = torch.tensor(list(self.own.digest()), dtype=torch.uint8)
        given = [x.to(device) for x in (*self.inputs(batch), marker, digest)]
        return OwnNetwork(self.own, self.facts, given, "")

    def find_ranges(self) -> None:
        """Find how far the integers of each input go, from the embeddings that read them."""
        unknown = [
            each
            for each in self.facts["inputs"]
            if each["dtype"] in INTEGERS[:-1] and each["high"] is None
        ]
        highs = self._watched()
        if self.own.built.examples is not None:
            return
        for i, each in enumerate(self.facts["inputs"]):
            if each in unknown:
                each["high"] = highs.get(i)
                name = each["name"] or f"input {i + 1}"
                if i in highs:
                    self.note(f"{name}: drawn below {highs[i]}, the rows of its embedding")
                else:
                    self.note(f"{name}: drawn as 0 and 1, since no embedding reads it")
        if unknown:
            self._watched()

    def _watched(self) -> dict[int, int]:
        """Call the model once; return the rows of the embeddings that its inputs go to."""
        module = self.own.fresh().eval()
        inputs = self.inputs(BATCHES[0])
        names = [each["name"] for each in self.facts["inputs"]]
        _require_signature(module, names, self.own.built.constants)
        looking = watch(self.torch, inputs, partial(self._refuse, inputs))
        with self.torch.no_grad(), self._explaining(inputs), looking:
            given = list(zip(names, inputs, strict=True))
            call_module(module, given, self.own.built.constants)
        read = [p.numel() for p in module.parameters() if id(p) in looking.reads]
        self.facts["elements_read"] = sum(read) or None
        found: dict[int, int] = looking.highs
        return found

    def _refuse(self, inputs: list[Any], i: int, rows: int) -> None:
        """Say that an input reaches beyond the embedding that reads it."""
        each = self.facts["inputs"][i]
        name = each["name"] or f"input {i + 1}"
        said = f"{name} reached {int(inputs[i].max())}; the embedding has {rows} rows"
        if self.own.built.examples is not None:
            raise CaseError("failed", f"{said}; mend the example inputs")
        spec = InputSpec(
            name=each["name"], shape=tuple(each["shape"]), dtype=each["dtype"], high=rows
        )
        raise CaseError("failed", f"{said}; write --input '{spec}'")

    def _explaining(self, inputs: list[Any]) -> Any:
        shapes = ", ".join(
            f"{each['name'] or ''} {tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}".strip()
            for each, x in zip(self.facts["inputs"], inputs, strict=True)
        )
        return blaming(f"forward, given {shapes},")

    def find_outputs(self) -> None:
        """Find which outputs own their memory, and on which of their axes the samples are."""
        self.facts["outputs"]["forward"] = self._places(training=False)
        try:
            self.facts["outputs"]["training_step"] = self._places(training=True)
        except CaseError as error:
            self.skip_training(error.reason)
            self.facts["outputs"]["training_step"] = []
        counted = [
            all(p["axes"] < 2 for p in places) and any(p["axis"] is not None for p in places)
            for phase, places in self.facts["outputs"].items()
            if phase not in self.facts["skipped"]
        ]
        self.facts["counts_samples"] = all(counted)

    def skip_training(self, reason: str) -> None:
        """Leave the training step out."""
        self.facts["skipped"].setdefault("training_step", reason)

    def _places(self, training: bool) -> list[dict[str, Any]]:
        found = []
        for batch in BATCHES:
            network = self.network(batch)
            network.module.train(training)
            inputs = [tensor for _, tensor in network.given]
            with self.torch.set_grad_enabled(training), self._explaining(inputs):
                output = network.run()
            outputs = floating(self.torch, output)
            if not outputs:
                kind = type(output).__name__
                raise CaseError(
                    "failed", f"forward returns no floating tensor but a {kind}: nothing to verify"
                )
            if training:
                self._require_trainable(network, output)
            found.append((outputs, {*map(_memory, inputs), *map(_memory, _state(network))}))
        (few, _), (many, borrowed) = found
        if [t.ndim for t in few] != [t.ndim for t in many]:
            raise CaseError("failed", "the number of outputs depends on the batch")
        places = []
        for i, (a, b) in enumerate(zip(few, many, strict=True)):
            if _memory(b) in borrowed or any(
                s == 0 < n - 1 for s, n in zip(b.stride(), b.shape, strict=True)
            ):
                continue
            axes = [
                axis for axis, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)) if x != y
            ]
            axis = axes[0] if axes else None
            per_sample = 0 if axis is None else b.shape[axis] // BATCHES[1]
            if axis is not None and a.shape[axis] != per_sample * BATCHES[0]:
                axis, axes = None, [0, 0]
            places.append({"index": i, "axis": axis, "axes": len(axes), "per_sample": per_sample})
        if not places:
            raise CaseError("failed", "forward returns its inputs or parameters: nothing to time")
        return places

    def _require_trainable(self, network: OwnNetwork, output: Any) -> None:
        if not network.parameters:
            raise CaseError("failed", "no parameter of the model learns")
        if not loss_of(self.torch, output).requires_grad:
            raise CaseError("failed", "the output does not depend on what learns")
        has_own = own_loss(self.torch, output) is not None
        self.facts["loss"] = "the model's own loss" if has_own else "mean of the squared outputs"

    def find_randomness(self) -> None:
        """Find whether calls differ, and if so whether dropouts are to blame."""
        if self._differs("forward"):
            self.facts["skipped"]["forward"] = "two calls of inference differ: nothing to verify"
        if "training_step" in self.facts["skipped"]:
            self.note(f"no training step: {self.facts['skipped']['training_step']}")
            return
        try:
            if not self._differs("training_step"):
                return
            if self._differs("training_step", drops=True):
                self.skip_training("two training steps differ even without dropout")
                self.note(f"no training step: {self.facts['skipped']['training_step']}")
            else:
                self.facts["drops"] = True
                self.note("training steps are timed with dropout and verified without")
        except CaseError as error:
            self.skip_training(error.reason)
            self.note(f"no training step: {error.reason}")

    def _differs(self, phase: str, *, drops: bool = False) -> bool:
        network = self.network(BATCHES[0])
        call = PHASES[phase](network)
        results = []
        with blaming(phase.replace("_", " ")):
            for seed in (1, 2):
                self.torch.manual_seed(seed)
                if drops:
                    with undropped(self.torch, network.module):
                        results.append([t.clone() for t in call()])
                else:
                    results.append([t.clone() for t in call()])
        for one, other in zip(*results, strict=True):
            gap, size = float((one - other).norm()), float(one.norm())
            if not math.isfinite(size):
                raise CaseError("failed", f"{phase.replace('_', ' ')} computes NaN or infinity")
            if gap > SAME * size:
                return True
        return False

    def count_flops(self) -> None:
        """Count the FLOPs without computing anything, or else while computing on the CPU."""
        for phase in PHASES:
            if phase in self.facts["skipped"]:
                continue
            found = self._counts(phase, "meta")
            if found is None:
                found = self._counts(phase, "cpu")
                where = "its control flow depends on its data, or it does not run without them"
                if found is None:
                    self.note(f"FLOPs of {phase} are not known: they depend on the data")
                else:
                    self.note(f"FLOPs of {phase} were counted on the CPU: {where}")
            self.facts["flops"][phase] = found

    def _counts(self, phase: str, device: str) -> list[int] | None:
        try:
            found = [self._count(phase, batch, device) for batch in COUNTED]
            checked = self._count(phase, CHECKED, device)
        except Exception:
            return None
        return found if found[0] and flops_through(found, CHECKED) == checked else None

    def _count(self, phase: str, batch: int, device: str) -> int:
        torch = self.torch
        counter = importlib.import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
        attention = importlib.import_module("torch.nn.attention")
        call = PHASES[phase](self.network(batch, device))
        # On the CPU the counter knows no fused attention and no recurrent layer of oneDNN.
        plain = attention.sdpa_kernel([attention.SDPBackend.MATH])
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with plain, torch.backends.mkldnn.flags(enabled=False), counter:
                call()
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
        return int(counter.get_total_flops())


def _inputs(own: OwnModel) -> list[dict[str, Any]]:
    """Describe the inputs: those of the command line, or else the factory's examples."""
    if own.built.examples is not None:
        return [
            {
                "name": name,
                "shape": list(tensor.shape[1:]),
                "dtype": FLOATING
                if tensor.is_floating_point()
                else str(tensor.dtype).removeprefix("torch."),
                "high": None,
            }
            for name, tensor in own.built.examples
        ]
    if not own.spec.inputs:
        raise CaseError(
            "failed",
            f"--input is missing; {_signature(own.built.module)}: give --input [NAME=]SHAPE for"
            " each, without the batch, or return (module, example_inputs)",
        )
    return [
        {"name": i.name, "shape": list(i.shape), "dtype": i.dtype, "high": i.high}
        for i in own.spec.inputs
    ]


def _signature(module: Any) -> str:
    return f"it is called as forward{introspection.signature(module.forward)}"


def _require_signature(module: Any, names: list[str | None], constants: Mapping[str, Any]) -> None:
    positional = [None for name in names if name is None]
    keywords = {name: None for name in names if name is not None}
    try:
        introspection.signature(module.forward).bind(*positional, **keywords, **constants)
    except TypeError as error:
        raise CaseError(
            "failed", f"forward takes other inputs: {error}; {_signature(module)}"
        ) from None


def _memory(tensor: Any) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _state(network: OwnNetwork) -> Iterator[Any]:
    yield from network.module.parameters()
    yield from network.module.buffers()
