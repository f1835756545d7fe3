"""The parameters of a network: declared by name, drawn once, the same for every library.

A declaration is a tree of dictionaries, lists and tuples. Its leaves stand in the order in which
PyTorch lists the parameters of the same network.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tree = Any
"""A leaf, or a mapping or sequence of trees."""


@dataclass(frozen=True)
class Parameter:
    """An array drawn from N(center, spread^2); `learned` ones have a gradient."""

    shape: tuple[int, ...]
    spread: float
    center: float = 0.0
    learned: bool = True


def dense(inner: int, outer: int) -> tuple[Parameter, Parameter]:
    """Declare the weights (outer, inner) and biases of a linear layer (He et al., 2015)."""
    return Parameter((outer, inner), math.sqrt(2 / inner)), Parameter((outer,), 0.1)


def kernels(inner: int, outer: int, kernel: int, gain: float = 1) -> Parameter:
    """Declare the weights (outer, inner, kernel, kernel) of a convolution (He et al., 2015)."""
    spread = gain * math.sqrt(2 / (inner * kernel**2))
    return Parameter((outer, inner, kernel, kernel), spread)


def convolution(inner: int, outer: int, kernel: int) -> tuple[Parameter, Parameter]:
    """Declare the weights and biases of a convolution."""
    return kernels(inner, outer, kernel), Parameter((outer,), 0.1)


def batch_norm(channels: int, gain: float = 1) -> tuple[Parameter, ...]:
    """Declare gains around `gain`, biases, running means and variances of a normalisation."""
    gains, bias = Parameter((channels,), 0.1, gain), Parameter((channels,), 0.1)
    mean = Parameter((channels,), 0.1, learned=False)
    return gains, bias, mean, Parameter((channels,), 0.1, 1.0, learned=False)


def layer_norm(features: int) -> tuple[Parameter, Parameter]:
    """Declare gain and bias of a layer normalisation."""
    return Parameter((features,), 0.1, 1.0), Parameter((features,), 0.1)


def table(rows: int, features: int, spread: float = 0.02) -> Parameter:
    """Declare an embedding; transformers draw theirs from N(0, 0.02^2) (Devlin et al., 2019)."""
    return Parameter((rows, features), spread)


def leaves(tree: Tree) -> list[Any]:
    """Return the leaves in their order."""
    if isinstance(tree, Mapping):
        return [leaf for part in tree.values() for leaf in leaves(part)]
    if isinstance(tree, Sequence):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]


def filled(tree: Tree, values: Iterator[Any]) -> Tree:
    """Return a tree of the same form with `values` in place of the leaves."""
    if isinstance(tree, Mapping):
        return {name: filled(part, values) for name, part in tree.items()}
    if isinstance(tree, Sequence):
        return [filled(part, values) for part in tree]
    return next(values)


def draw(rng: Any, tree: Tree) -> list[Any]:
    """Draw every leaf as a float32 array; variances stay positive."""
    drawn = []
    for leaf in leaves(tree):
        values = rng.standard_normal(leaf.shape, dtype="float32")
        values *= leaf.spread
        values += leaf.center
        drawn.append(abs(values) if leaf.center and not leaf.learned else values)
    return drawn


def count(tree: Tree) -> int:
    """Count the numbers in all leaves."""
    return sum(math.prod(leaf.shape) for leaf in leaves(tree))
