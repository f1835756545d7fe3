"""Tries the user's model on the CPU before anything is measured, and says what is wrong with it.

What is found out (the facts) is JSON: the parent plans with it, and every worker measures by it.
"""

import importlib
import random
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from bench.errors import CaseError
from bench.own_model.building import OwnModel, blaming, call_module
from bench.own_model.flops import count_flops
from bench.own_model.network import PHASES, OwnNetwork
from bench.own_model.outputs import floating, loss_of, own_loss
from bench.own_model.signature import describe_inputs, require_signature
from bench.own_model.spec import INTEGERS, InputSpec, ModelSpec
from bench.own_model.watching import undropped, watch
from bench.own_model.workload import COUNTED, drawn, flops_through
from bench.workload import Call

BATCHES: Final = (2, 4)
"""Two batches tell which axis of an output the samples are on."""
CHECKED: Final = 8
"""The batch at which the FLOPs that follow from the counts are compared with a count."""
SAME: Final = 1e-3
"""Two steps that differ by less, relatively, are the same: the order of additions may change."""


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
        self.device = "meta"
        """Where only shapes matter."""
        self.numpy = importlib.import_module("numpy")
        module = own.built.module
        self.facts: dict[str, Any] = {
            "inputs": describe_inputs(own),
            "outputs": {},
            "loss": "loss",
            "skipped": {},
            "flops": {},
            "drops": False,
            "alone": None,
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
        require_signature(module, names, self.own.built.constants)
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
        try:
            self._places("meta", training=False)
        except CaseError:
            self.device = "cpu"  # it looks at its data, or puts tensors on a device of its choice
        self.facts["outputs"]["forward"] = self._places(self.device, training=False)
        try:
            self.facts["outputs"]["training_step"] = self._places(self.device, training=True)
            self.facts["alone"] = self._why_not_alone()
        except CaseError as error:
            self.skip_training(error.reason)
        counted = [
            all(p["axes"] < 2 for p in places) and any(p["axis"] is not None for p in places)
            for places in self.facts["outputs"].values()
        ]
        self.facts["counts_samples"] = all(counted)

    def _why_not_alone(self) -> str | None:
        """Return why a training step of a single sample is impossible, as with batch norms."""
        network = self.network(1, self.device)
        network.module.train()
        try:
            with self._explaining([tensor for _, tensor in network.given]):
                network.run()
        except CaseError as error:
            return error.reason
        return None

    def skip_training(self, reason: str) -> None:
        """Leave the training step out."""
        self.facts["skipped"]["training_step"] = reason
        self.note(f"no training step: {reason}")

    def _places(self, device: str, *, training: bool) -> list[dict[str, Any]]:
        found = []
        network = self.network(BATCHES[0], device)
        network.module.train(training)
        for batch in BATCHES:
            inputs = [tensor.to(device) for tensor in self.inputs(batch)]
            network.take(inputs)
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
        """Find whether calls draw numbers or change the model, and whether that can be helped."""
        network = self.network(BATCHES[0])
        _, draws = self._called(network, PHASES["forward"](network))
        if draws:
            self.facts["skipped"]["forward"] = "inference draws random numbers: nothing to verify"
            self.note(f"no inference: {self.facts['skipped']['forward']}")
        if "training_step" in self.facts["skipped"]:
            return
        try:
            call = PHASES["training_step"](network)
            first, draws = self._called(network, call)
            if draws:
                first, _ = self._called(network, call, drops=True)
            second, _ = self._called(network, call, drops=draws)
        except CaseError as error:
            self.skip_training(error.reason)
            return
        if self._differ(first, second):
            why = "draws random numbers even without dropout" if draws else "changes the model"
            self.skip_training(f"one step {why}: no two can be compared")
        elif draws:
            self.facts["drops"] = True
            self.note("training steps are timed with dropout and verified without")

    def _called(
        self, network: OwnNetwork, call: Call, *, drops: bool = False
    ) -> tuple[list[Any], bool]:
        """Return the outputs of a call, and whether it drew random numbers."""
        before = self._states()
        with blaming("the model"):
            if drops:
                with undropped(self.torch, network.module):
                    outputs = [tensor.clone() for tensor in call()]
            else:
                outputs = [tensor.clone() for tensor in call()]
        if not all(bool(tensor.isfinite().all()) for tensor in outputs):
            raise CaseError("failed", "the model computes NaN or infinity: nothing to verify")
        return outputs, before != self._states()

    def _states(self) -> list[Any]:
        """Return the states of the generators that models draw from."""
        torch_state = self.torch.get_rng_state().tolist()
        return [torch_state, random.getstate(), str(self.numpy.random.get_state())]

    def _differ(self, one: list[Any], other: list[Any]) -> bool:
        if len(one) != len(other):
            return True
        pairs = zip(one, other, strict=True)
        return any(float((a - b).norm()) > SAME * float(a.norm()) for a, b in pairs)

    def count_flops(self) -> None:
        """Count the FLOPs without computing anything, or else while computing on the CPU."""
        for phase in PHASES:
            if phase in self.facts["skipped"]:
                continue
            self.facts["flops"][phase] = found = self._counts(phase)
            if found is None:
                self.note(f"the FLOPs of {phase} are not known: they depend on the data")
            elif self.device == "cpu":
                self.note(f"the FLOPs of {phase} were counted on the CPU: it looks at its data")

    def _counts(self, phase: str) -> list[int] | None:
        """Return the FLOPs at each of `COUNTED`; None if no polynomial goes through them."""
        network = self.network(BATCHES[0], self.device)
        call = PHASES[phase](network)
        counts: list[int] = []
        try:
            for batch in (*COUNTED, CHECKED):
                network.take([tensor.to(self.device) for tensor in self.inputs(batch)])
                counts.append(count_flops(self.torch, call))
        except Exception:
            return None
        *found, checked = counts
        return found if found[0] and flops_through(found, CHECKED) == checked else None


def _memory(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)  # on `meta` there is no other address


def _state(network: OwnNetwork) -> Iterator[Any]:
    yield from network.module.parameters()
    yield from network.module.buffers()
