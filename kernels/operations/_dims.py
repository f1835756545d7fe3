"""Checks the dimensions that a user gives with `--size`."""

from collections.abc import Mapping, Sequence

from bench.workload import Dims


def complete(
    given: Mapping[str, int],
    needed: Sequence[str],
    optional: Sequence[str] = (),
    **ranges: range,
) -> Dims:
    """Return `given` if it holds all of `needed` and else only what is optional.

    Dimensions begin at 1, except for those that `ranges` tells the values of, which are optional.

    Raises:
        ValueError: One is missing, unknown or impossible.
    """
    others = (*optional, *ranges)
    if not set(needed) <= set(given) <= {*needed, *others}:
        besides = f" (and {', '.join(others)})" if others else ""
        raise ValueError(f"give {', '.join(needed)}{besides}")
    for name, value in given.items():
        if name in ranges and value not in ranges[name]:
            raise ValueError(f"{name} is {ranges[name][0]} to {ranges[name][-1]}")
        if name not in ranges and value < 1:
            raise ValueError(f"{name} begins at 1")
    return given
