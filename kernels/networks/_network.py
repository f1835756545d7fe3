"""What a network tells, and the phases that follow from it for every library.

All phases have the same inputs: x, the labels, the masks of the dropouts, the parameters. The loss
is the mean cross-entropy. The learning rate is 0: an update then does all its work and yet every
step computes the same, so that the last one timed can be verified.

In float16 and bfloat16 PyTorch keeps float32 parameters and runs under autocast, as its users do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.workload import Call, CountedCall, Dims, Phase, Prepare, Size, Workload

from ..operations._fusing import elementwise
from ..operations.cross_entropy import cross_entropy
from ._parameters import Parameter, Tree, count, draw, filled, leaves
from ._pass import Pass, Value

FIRST = ("forward", "training_step")
"""The phases that users ask for first; the others are timed in the plain way only. Compiled code
could not go back twice through one pass, as `backward` does: it writes over what that has kept."""

LEARNING_RATE = 0.0
MOMENTUM = 0.9
ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8
HALVES = ("float16", "bfloat16")
DECISIONS = 2000.0
"""Widens the limits of gradients where there are kinks, to a hundredth in float32.

A sum that is nearly 0 is above it in one order of additions and below it in another, and its
rectifier lets the gradient pass or not. Of a few million one is so near; it changes the gradient by
up to a hundredth, in float32. In half precision there are so many that only a gradient that has
nothing to do with the right one is rejected.
"""
COMPILATIONS = 2**16
"""Of one network in one process, for its sizes, dtypes and phases."""
GRADIENT_SCALE = 2.0**10
"""Of the loss in float16, below whose range small gradients would fall."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network as each family of libraries has it.

    `forward(run, parameters, x, dims)` applies operations to values and returns the logits, one
    row for each label. `module(torch, dims)` returns a new torch.nn.Module whose parameters and
    buffers are in the order of `declare`.
    """

    declare: Callable[[Dims], Tree]
    draw: Callable[[Any, Dims], tuple[Any, Any]]
    """`draw(rng, dims)`: x and the integer labels."""
    forward: Callable[[Pass, Tree, Any, Dims], Value]
    module: Callable[[Any, Dims], Any]
    multiply_adds: Callable[[Dims], int]
    """Of one inference, in matrix products and convolutions."""
    first: Callable[[Dims], int] = lambda _dims: 0
    """The multiply-adds of the layer that reads x, of which nobody wants the gradient; an embedding
    has none."""
    masks: Callable[[Any, Dims], Sequence[Any]] = lambda _rng, _dims: ()
    """`masks(rng, dims)`: of the dropouts, in their order."""
    is_image: bool = False
    has_kinks: bool = False
    """Whether rectifiers or maxima decide what has a gradient."""


@dataclass
class Given:
    """The inputs of a phase, sorted."""

    x: Any
    labels: Any
    masks: Sequence[Any]
    parameters: Sequence[Any]
    leaves: Sequence[Parameter] = field(repr=False)

    def samples(self, logits: Any) -> int:
        """Return how many samples `logits` are about: each of them has as many labels."""
        return int(logits.shape[0] * self.x.shape[0] // self.labels.shape[0])

    @classmethod
    def of(cls, network: Network, dims: Dims, inputs: Sequence[Any]) -> "Given":
        """Sort the inputs: parameters come last."""
        declared = leaves(network.declare(dims))
        x, labels, *rest = inputs
        split = len(rest) - len(declared)
        return cls(x, labels, rest[:split], rest[split:], declared)


def inputs_of(network: Network) -> Callable[[Any, Dims], list[Any]]:
    """Return what draws the inputs."""

    def inputs(rng: Any, dims: Dims) -> list[Any]:
        x, labels = network.draw(rng, dims)
        return [x, labels, *network.masks(rng, dims), *draw(rng, network.declare(dims))]

    return inputs


class ArrayNetwork:
    """A network on NumPy or CuPy."""

    def __init__(self, network: Network, xp: Any, dims: Dims, inputs: Sequence[Any]) -> None:
        self.network, self.xp, self.dims = network, xp, dims
        self.given = Given.of(network, dims, inputs)
        values = [Value(array) for array in self.given.parameters]
        self.tree = filled(network.declare(dims), iter(values))
        self.learned = [
            v for v, leaf in zip(values, self.given.leaves, strict=True) if leaf.learned
        ]
        self.one = xp.ones((), self.learned[0].array.dtype)
        self.samples = 0

    def run(self, *, training: bool) -> tuple[Pass, Value]:
        """Run forward."""
        run = Pass(self.xp, training=training, masks=self.given.masks)
        logits = self.network.forward(run, self.tree, self.given.x, self.dims)
        self.samples = self.given.samples(logits.array)
        return run, logits

    def infer(self) -> Any:
        """Return the logits of inference."""
        return self.run(training=False)[1].array

    def train_forward(self) -> Any:
        """Return the logits of the forward pass in training."""
        return self.run(training=True)[1].array

    def backward(self) -> Call:
        """Return a call that goes back through a pass made beforehand."""
        run, logits = self.run(training=True)
        _, pullback = cross_entropy(self.xp, logits.array, self.given.labels)

        def call() -> list[Any]:
            dlogits, _ = pullback(self.one)
            return run.gradients(logits, dlogits, self.learned)

        return call

    def step(self, update: Callable[[Sequence[Value], Sequence[Any]], None]) -> Call:
        """Return a call that goes forward and back, then updates the parameters."""

        def call() -> list[Any]:
            run, logits = self.run(training=True)
            loss, pullback = cross_entropy(self.xp, logits.array, self.given.labels)
            dlogits, _ = pullback(self.one)
            found = run.gradients(logits, dlogits, self.learned)
            update(self.learned, found)
            return [self.xp.asarray(loss).reshape(1), *found]

        return call


def momentum(xp: Any, parameters: Sequence[Value]) -> Callable[..., None]:
    """Return stochastic gradient descent with momentum (Sutskever et al., 2013), as PyTorch."""
    velocities = [xp.zeros_like(value.array) for value in parameters]

    def update(parameters: Sequence[Value], gradients: Sequence[Any]) -> None:
        for i, (value, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            velocities[i] = elementwise(xp, _velocity, velocities[i], gradient)
            value.array = elementwise(xp, _moved, value.array, velocities[i])

    return update


def _velocity(_xp: Any, velocity: Any, gradient: Any) -> Any:
    return MOMENTUM * velocity + gradient


def _moved(_xp: Any, parameter: Any, direction: Any) -> Any:
    return parameter - LEARNING_RATE * direction


def adam(xp: Any, parameters: Sequence[Value]) -> Callable[..., None]:
    """Return Adam (Kingma and Ba, 2015), as PyTorch."""
    means = [xp.zeros_like(value.array) for value in parameters]
    squares = [xp.zeros_like(value.array) for value in parameters]
    steps = 0

    def update(parameters: Sequence[Value], gradients: Sequence[Any]) -> None:
        nonlocal steps
        steps += 1
        corrections = [
            xp.asarray(1 - beta**steps, parameters[0].array.dtype) for beta in ADAM_BETAS
        ]
        for i, (value, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            means[i] = elementwise(xp, _mean, means[i], gradient)
            squares[i] = elementwise(xp, _square, squares[i], gradient)
            value.array = elementwise(
                xp, _moved_by_adam, value.array, means[i], squares[i], *corrections
            )

    return update


def _mean(_xp: Any, mean: Any, gradient: Any) -> Any:
    return ADAM_BETAS[0] * mean + (1 - ADAM_BETAS[0]) * gradient


def _square(_xp: Any, square: Any, gradient: Any) -> Any:
    return ADAM_BETAS[1] * square + (1 - ADAM_BETAS[1]) * gradient * gradient


def _moved_by_adam(xp: Any, parameter: Any, mean: Any, square: Any, one: Any, other: Any) -> Any:
    return parameter - LEARNING_RATE * (mean / one) / (xp.sqrt(square / other) + ADAM_EPS)


def array_phases(network: Network) -> dict[str, Prepare]:
    """Return the phases for NumPy and CuPy."""

    def made(make: Callable[[ArrayNetwork], Call]) -> Prepare:
        def prepare(xp: Any, dims: Dims, *inputs: Any) -> Call:
            built = ArrayNetwork(network, xp, dims, inputs)
            return CountedCall(make(built), lambda: built.samples)

        return prepare

    return {
        "forward": made(lambda n: n.infer),
        "forward_training": made(lambda n: n.train_forward),
        "backward": made(lambda n: n.backward()),
        "training_step": made(lambda n: n.step(momentum(n.xp, n.learned))),
        "training_step_adam": made(lambda n: n.step(adam(n.xp, n.learned))),
    }


class TorchNetwork:
    """A network on PyTorch: a module of its own, loaded with the parameters that were drawn."""

    def __init__(
        self, network: Network, torch: Any, dims: Dims, inputs: Sequence[Any], way: str
    ) -> None:
        """Build the module without drawing parameters of its own, and load the given ones."""
        given = Given.of(network, dims, inputs)
        self.torch, self.given, self.labels = torch, given, given.labels
        floating = [x for x in (given.x, *given.parameters) if x.is_floating_point()]
        dtype = floating[0].dtype
        self.half = dtype if str(dtype).removeprefix("torch.") in HALVES else None
        exact = torch.float32 if self.half else dtype
        self.device = given.labels.device
        with torch.device("meta"):
            module = network.module(torch, dims)
        named = {True: list(module.named_parameters()), False: []}
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point():
                named[False].append((name, buffer))
        state = {
            name: torch.zeros(buffer.shape, dtype=buffer.dtype, device=self.device)
            for name, buffer in module.named_buffers()
        }
        for learned, listed in named.items():
            arrays = [
                array
                for array, leaf in zip(given.parameters, given.leaves, strict=True)
                if leaf.learned is learned
            ]
            for (name, _), array in zip(listed, arrays, strict=True):
                state[name] = array.to(exact, copy=True)
        module.load_state_dict(state, assign=True)
        for part in module.modules():
            if isinstance(part, torch.nn.RNNBase):
                part.flatten_parameters()  # side by side in memory, as cuDNN wants them
        dropouts = [part for part in module.modules() if hasattr(part, "mask")]
        for part, mask in zip(dropouts, given.masks, strict=True):
            part.mask = mask.to(exact)
        self.x = given.x.to(exact) if given.x.is_floating_point() else given.x
        if "channels_last" in way:
            module = module.to(memory_format=torch.channels_last)
            self.x = self.x.to(memory_format=torch.channels_last)
        self.parameters = list(module.parameters())
        self.module = module
        self.samples = 0
        if "compiled" in way:
            torch._inductor.config.compile_threads = 1  # no helpers that take the cores
            # Code for each size, as for who has one: not for all shapes, nor none after eight.
            torch._dynamo.config.cache_size_limit = COMPILATIONS
            torch._dynamo.config.accumulated_cache_size_limit = COMPILATIONS
            self.module = torch.compile(module, dynamic=False)

    def precision(self) -> Any:
        """Return the context in which the module is called."""
        return self.torch.autocast(self.device.type, self.half, enabled=self.half is not None)

    def logits(self) -> Any:
        """Call the module."""
        with self.precision():
            logits = self.module(self.x)
        self.samples = self.given.samples(logits)
        return logits

    def loss(self) -> Any:
        """Call the module, and compare with the labels."""
        with self.precision():
            return self.torch.nn.functional.cross_entropy(self.logits(), self.labels)

    def infer(self) -> Call:
        """Return a call of inference."""
        self.module.eval()

        def call() -> Any:
            with self.torch.no_grad():
                return self.logits()

        return call

    def train_forward(self) -> Call:
        """Return a call that goes forward in training."""
        self.module.train()
        return lambda: self.logits().detach()

    def backward(self) -> Call:
        """Return a call that goes back through a pass made beforehand."""
        self.module.train()
        loss = self.loss()
        return lambda: self.torch.autograd.grad(loss, self.parameters, retain_graph=True)

    def step(self, optimizer: Any) -> Call:
        """Return a call that goes forward and back, then updates the parameters."""
        torch = self.torch
        self.module.train()
        scaler = torch.amp.GradScaler(
            self.device.type,
            init_scale=GRADIENT_SCALE,
            growth_interval=2**30,
            enabled=self.half == torch.float16,
        )

        def call() -> list[Any]:
            optimizer.zero_grad(set_to_none=True)
            loss = self.loss()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return [loss.detach().reshape(1), *(p.grad for p in self.parameters)]

        return call

    def sgd(self) -> Any:
        """Return PyTorch's stochastic gradient descent with momentum."""
        return self.torch.optim.SGD(self.parameters, lr=LEARNING_RATE, momentum=MOMENTUM)

    def adam(self) -> Any:
        """Return PyTorch's Adam."""
        optimizer = self.torch.optim.Adam
        return optimizer(self.parameters, lr=LEARNING_RATE, betas=ADAM_BETAS, eps=ADAM_EPS)


def torch_phases(network: Network, way: str = "") -> dict[str, Prepare]:
    """Return the phases for PyTorch, used in its plain way or in another."""

    def made(make: Callable[[TorchNetwork], Call]) -> Prepare:
        def prepare(torch: Any, dims: Dims, *inputs: Any) -> Call:
            built = TorchNetwork(network, torch, dims, inputs, way)
            return CountedCall(make(built), lambda: built.samples)

        return prepare

    return {
        "forward": made(lambda n: n.infer()),
        "forward_training": made(lambda n: n.train_forward()),
        "backward": made(lambda n: n.backward()),
        "training_step": made(lambda n: n.step(n.sgd())),
        "training_step_adam": made(lambda n: n.step(n.adam())),
    }


def given_dropout(torch: Any) -> Any:
    """Return a module that drops by a mask that it is given: the same one on every library."""

    class GivenDropout(torch.nn.Module):  # type: ignore[misc]
        mask: Any = None

        def forward(self, x: Any) -> Any:
            return x * self.mask if self.training else x

    return GivenDropout()


def phases(network: Network) -> dict[str, Phase]:
    """Return every phase with its versions, its variants and its cost."""
    ways = {"compiled": "torch"}
    if network.is_image:
        ways |= {"channels_last": "torch", "tuned": "torch-cuda"}
        ways |= {"channels_last+tuned": "torch-cuda"}
    versions = {way: torch_phases(network, way) for way in ways}
    arrays, plain = array_phases(network), torch_phases(network)

    def multiply_adds(name: str) -> Callable[[Dims], int]:
        # Going back takes two products for each one forward, except for the gradient of x.
        forward, back = {"backward": (0, 2)}.get(name, (1, 2 if "step" in name else 0))

        def flops(dims: Dims) -> int:
            whole = (forward + back) * network.multiply_adds(dims)
            return 2 * (whole - (network.first(dims) if back else 0))

        return flops

    def moved(dims: Dims, item: int) -> int:
        return item * count(network.declare(dims))

    def variants(name: str) -> dict[str, dict[str, Prepare]]:
        return {way: {kind: versions[way][name]} for way, kind in ways.items()}

    return {
        name: Phase(
            array=arrays[name],
            torch=plain[name],
            variants=variants(name) if name in FIRST else {},
            preset="quick" if name in FIRST else "standard",
            fresh_inputs=1 if name == "forward" else 2,
            answers=1,
            is_network=True,
            error_factor=DECISIONS if network.has_kinks and "forward" not in name else 1.0,
            flops=multiply_adds(name),
            bytes_moved=moved,
        )
        for name in arrays
    }


def workload(
    network: Network,
    *,
    name: str,
    summary: str,
    source: str,
    sizes: Sequence[Size],
    resize: Callable[[Mapping[str, int]], Dims],
    includes: Iterable[tuple[str, str]] = (),
) -> Workload:
    """Return the workload of a network; `includes` adds to what is true of all."""
    told = {
        "torch": "a training step: forward, loss, backward, update by the library's own optimizer;"
        " float16 and bfloat16 are autocast over float32 parameters",
    }
    for library, text in includes:
        told[library] = f"{told[library]}; {text}" if library in told else text
    return Workload(
        name=name,
        summary=summary,
        source=source,
        suites=("passes", "batch-sweep", "latency"),
        sizes=sizes,
        inputs=inputs_of(network),
        phases=phases(network),
        includes=told,
        parameters=lambda dims: len(leaves(network.declare(dims))),
        resize=resize,
    )
