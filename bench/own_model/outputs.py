"""What a model returns: tensors, wherever they are, and a loss if it computes one itself."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any


def floating(torch: Any, output: Any) -> list[Any]:
    """Return every floating tensor in `output`: a tensor, or containers of them.

    Mappings, sequences, dataclasses and the outputs of Hugging Face (mappings) are looked into.
    """
    return [tensor for tensor in _tensors(torch, output) if tensor.is_floating_point()]


def _tensors(torch: Any, output: Any) -> Iterator[Any]:
    if torch.is_tensor(output):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(torch, value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(torch, value)
    elif dataclasses.is_dataclass(output):
        for field in dataclasses.fields(output):
            yield from _tensors(torch, getattr(output, field.name))


def own_loss(torch: Any, output: Any) -> Any:
    """Return the loss that the model computed itself, or None."""
    loss: Any
    if isinstance(output, Mapping):
        loss = output.get("loss")
    else:
        loss = None if torch.is_tensor(output) else getattr(output, "loss", None)
    if not torch.is_tensor(loss) or not loss.is_floating_point() or loss.numel() != 1:
        return None
    return loss.reshape(())


def loss_of(torch: Any, output: Any) -> Any:
    """Return the model's own loss, or the mean squares of its floating outputs, added up."""
    loss = own_loss(torch, output)
    if loss is not None:
        return loss
    halves = (torch.float16, torch.bfloat16)
    tensors = [t.float() if t.dtype in halves else t for t in floating(torch, output)]
    return sum(tensor.square().mean() for tensor in tensors)
