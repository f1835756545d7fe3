"""The calls that are timed: inference and a training step of the user's model on one device.

Conventions are those of the networks in `kernels/`: the learning rate is 0, so that every step
computes the same; in float16 and bfloat16 the model runs under autocast over float32 parameters.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from bench.own_model.building import OwnModel, call_module
from bench.own_model.outputs import floating, loss_of
from bench.own_model.watching import undropped
from bench.workload import Call, CountedCall

LEARNING_RATE: Final = 0.0
MOMENTUM: Final = 0.9
COMPILATIONS: Final = 2**16
"""Of one model in one process, for its batches, dtypes and phases."""
GRADIENT_SCALE: Final = 2.0**10
"""Of the loss in float16, below whose range small gradients would fall."""


class OwnNetwork:
    """The user's model on the device of its inputs.

    After the inputs that facts names come an empty array, which has the dtype of the case even
    where all inputs are integers, and the digest of the parameters.
    """

    def __init__(
        self, own: OwnModel, facts: Mapping[str, Any], inputs: Sequence[Any], way: str
    ) -> None:
        torch = self.torch = own.torch
        self.own, self.facts = own, facts
        *given, marker, digest = inputs
        if marker.device.type != "meta":
            own.require_digest(bytes(digest.tolist()))
        self.device = marker.device
        self.half = marker.dtype if marker.dtype in (torch.float16, torch.bfloat16) else None
        self.exact = torch.float32 if self.half else marker.dtype
        self.module = own.fresh().to(device=self.device, dtype=self.exact)
        for part in self.module.modules():
            if isinstance(part, torch.nn.RNNBase) and marker.device.type != "meta":
                part.flatten_parameters()  # side by side in memory, as cuDNN wants them
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.take(given)
        self.rows = 0
        self.called = self.module
        if "compiled" in way:
            torch._inductor.config.compile_threads = 1  # no helpers that take the cores
            # Code for each batch, as for who has one: not for all shapes, nor none after eight.
            torch._dynamo.config.cache_size_limit = COMPILATIONS
            torch._dynamo.config.accumulated_cache_size_limit = COMPILATIONS
            self.called = torch.compile(self.module, dynamic=False)

    def take(self, given: Sequence[Any]) -> None:
        """Have the next call read other inputs."""
        names = [each["name"] for each in self.facts["inputs"]]
        tensors = [x.to(self.exact) if x.is_floating_point() else x for x in given]
        self.given = list(zip(names, tensors, strict=True))

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """Autocast for half precision; in float64 what the model creates itself is so, too."""
        torch = self.torch
        if self.half is not None:
            with torch.autocast(self.device.type, self.half):
                yield
        elif self.exact == torch.float64:
            before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float64)
            try:
                yield
            finally:
                torch.set_default_dtype(before)
        else:
            yield

    def run(self) -> Any:
        """Call the model; return what it returns."""
        return call_module(self.called, self.given, self.own.built.constants)

    def kept(self, phase: str, output: Any) -> list[Any]:
        """Return the floating outputs that own their memory, samples first; count the samples."""
        found = floating(self.torch, output)
        outputs = []
        for place in self.facts["outputs"][phase]:
            tensor = found[place["index"]].detach()
            if place["axis"]:
                tensor = tensor.movedim(place["axis"], 0)
            if place["axis"] is not None:
                self.rows = tensor.shape[0] // place["per_sample"]
            outputs.append(tensor)
        return outputs

    def forward(self) -> CountedCall:
        """Return the call of inference."""
        self.module.eval()

        def call() -> list[Any]:
            with self.torch.no_grad(), self.precision():
                output = self.run()
            return self.kept("forward", output)

        return self._counted(call)

    def training_step(self) -> CountedCall:
        """Return a call that goes forward and back, then updates the parameters."""
        torch = self.torch
        self.module.train()
        optimizer = torch.optim.SGD(self.parameters, lr=LEARNING_RATE, momentum=MOMENTUM)
        scaler = torch.amp.GradScaler(
            self.device.type,
            init_scale=GRADIENT_SCALE,
            growth_interval=2**30,
            enabled=self.half == torch.float16,
        )

        def call() -> list[Any]:
            optimizer.zero_grad(set_to_none=True)
            with self.precision():
                output = self.run()
                loss = loss_of(torch, output)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            return [
                loss.detach().reshape(1),
                *self.kept("training_step", output),
                *gradients,
            ]

        return self._counted(call, drops=self.facts["drops"])

    def _counted(self, call: Call, drops: bool = False) -> CountedCall:
        def checked() -> Any:
            with undropped(self.torch, self.module):
                return call()

        return CountedCall(call, lambda: self.rows, checked if drops else None)


PHASES: Final[Mapping[str, Callable[[OwnNetwork], CountedCall]]] = {
    "forward": OwnNetwork.forward,
    "training_step": OwnNetwork.training_step,
}
