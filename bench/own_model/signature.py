"""Which inputs the model takes, as the user says and as its `forward` does."""

import inspect
from collections.abc import Mapping
from typing import Any

from bench.errors import CaseError
from bench.own_model.building import OwnModel
from bench.own_model.spec import FLOATING


def describe_inputs(own: OwnModel) -> list[dict[str, Any]]:
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
    return f"it is called as forward{inspect.signature(module.forward)}"


def require_signature(module: Any, names: list[str | None], constants: Mapping[str, Any]) -> None:
    """Raise CaseError if `forward` cannot be called with such inputs."""
    positional = [None for name in names if name is None]
    keywords = {name: None for name in names if name is not None}
    try:
        inspect.signature(module.forward).bind(*positional, **keywords, **constants)
    except TypeError as error:
        raise CaseError(
            "failed", f"forward takes other inputs: {error}; {_signature(module)}"
        ) from None
