"""One pass of a network on a library with NumPy's interface, and the way back.

A network is a function that applies operations to values in turn. The pass keeps each operation's
pullback, and goes back through them when gradients are asked for.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ..operations._pullback import Operation, Pullback
from ..operations.batch_norm import batch_norm, batch_norm_training
from ..operations.dropout import dropout


class Value:
    """An array of the network; `key` tells its gradient from those of others.

    A pass remembers keys alone, so that an array lives on only where a pullback keeps it.
    """

    __slots__ = ("array", "key")

    def __init__(self, array: Any) -> None:
        self.array, self.key = array, object()


class Pass:
    """Applies operations; where `training`, remembers how to go back.

    `masks` are those of the dropouts, in the order in which the network comes to them.
    """

    def __init__(self, xp: Any, *, training: bool = False, masks: Sequence[Any] = ()) -> None:
        self.xp, self.training = xp, training
        self._drops = len(masks) > 0
        self._masks: Iterator[Any] = iter(masks)
        self._steps: list[tuple[object, list[object], Pullback]] = []

    def __call__(self, operation: Operation, *operands: Any, **options: Any) -> Value:
        """Apply an operation to values, and to arrays that need no gradient.

        Where the first operand is such an array, it is what the network reads.
        """
        if not isinstance(operands[0], Value):
            options["input_gradient"] = False
        arrays = [x.array if isinstance(x, Value) else x for x in operands]
        output, pullback = operation(self.xp, *arrays, **options)
        value = Value(output)
        if self.training:
            keys = [x.key if isinstance(x, Value) else None for x in operands]
            self._steps.append((value.key, keys, pullback))
        return value

    def norm(self, x: Value, layer: Sequence[Value]) -> Value:
        """Normalise by the batch in training, by the running statistics in inference."""
        gain, bias, mean, variance = layer
        if self.training:
            return self(batch_norm_training, x, gain, bias)
        return self(batch_norm, x, gain, bias, mean, variance)

    def drop(self, x: Value) -> Value:
        """Drop by the next mask in training; do nothing in inference, or where none was drawn."""
        return self(dropout, x, next(self._masks)) if self.training and self._drops else x

    def add(self, a: Value, b: Value) -> Value:
        """Add, as at the end of a residual block."""
        return self(_sum, a, b)

    def reshape(self, x: Value, *shape: int) -> Value:
        """Change the shape."""
        return self(_reshaped, x, shape=shape)

    def gradients(self, output: Value, dy: Any, wanted: Sequence[Value]) -> list[Any]:
        """Go back from the gradient `dy` of `output`; may be called again."""
        due = {output.key: dy}
        for key, operands, pullback in reversed(self._steps):
            dy = due.pop(key, None)
            if dy is None:
                continue
            for operand, gradient in zip(operands, pullback(dy), strict=False):
                if operand is not None and gradient is not None:
                    before = due.get(operand)
                    # Not in place: the same array may be the gradient of something else, too.
                    due[operand] = gradient if before is None else before + gradient
        return [due[value.key] for value in wanted]


def _sum(_xp: Any, a: Any, b: Any) -> tuple[Any, Pullback]:
    return a + b, lambda dy: (dy, dy)


def _reshaped(_xp: Any, x: Any, *, shape: tuple[int, ...]) -> tuple[Any, Pullback]:
    before = x.shape
    return x.reshape(shape), lambda dy: (dy.reshape(before),)
