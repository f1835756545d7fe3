"""The one way in which the operations pass on what backward needs.

An operation is a function of a library with NumPy's interface and of arrays. It returns its output
and a *pullback*: a function of the output's gradient that returns the gradients of the arrays, in
their order, None for those that have none (labels, masks). What backward needs stays inside the
pullback; whoever wants the output alone drops it. Networks chain operations by their pullbacks.

An operation with which a network may begin takes `input_gradient`: where that is False, the
pullback returns None for the first array too, and does not compute what nobody asks for.
"""

from collections.abc import Callable, Sequence
from typing import Any

from bench.workload import Call, Dims, Prepare

Pullback = Callable[[Any], tuple[Any, ...]]
Operation = Callable[..., tuple[Any, Pullback]]
Options = Callable[[Dims], dict[str, Any]]
"""The keyword arguments that an operation takes from the dimensions of a size."""


def no_options(_dims: Dims) -> dict[str, Any]:
    """Return none."""
    return {}


def forward_array(operation: Operation, options: Options = no_options) -> Prepare:
    """Return a version for NumPy and CuPy that times the output."""

    def prepare(xp: Any, dims: Dims, *inputs: Any) -> Call:
        given = options(dims)
        return lambda: operation(xp, *inputs, **given)[0]

    return prepare


def backward_array(operation: Operation, options: Options = no_options) -> Prepare:
    """Return a version for NumPy and CuPy that times the pullback; dy is the last input."""

    def prepare(xp: Any, dims: Dims, *inputs: Any) -> Call:
        *arrays, dy = inputs
        _, pullback = operation(xp, *arrays, **options(dims))
        return lambda: tuple(gradient for gradient in pullback(dy) if gradient is not None)

    return prepare


def forward_torch(operation: Callable[..., Any], options: Options = no_options) -> Prepare:
    """Return a version that times `operation(torch, *inputs, **options)` without autograd."""

    def prepare(torch: Any, dims: Dims, *inputs: Any) -> Call:
        given = options(dims)

        def call() -> Any:
            # An output of inference_mode could not be overwritten before the last sample.
            with torch.no_grad():
                return operation(torch, *inputs, **given)

        return call

    return prepare


def backward_torch(
    operation: Callable[..., Any], wanted: Sequence[int], options: Options = no_options
) -> Prepare:
    """Return a version that times autograd; dy is the last input, `wanted` says of which inputs."""

    def prepare(torch: Any, dims: Dims, *inputs: Any) -> Call:
        *arrays, dy = inputs
        for place in wanted:
            arrays[place] = arrays[place].detach().requires_grad_()
        output = operation(torch, *arrays, **options(dims))
        leaves = [arrays[place] for place in wanted]
        return lambda: torch.autograd.grad(output, leaves, dy, retain_graph=True)

    return prepare
