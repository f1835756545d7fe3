"""Names that a person types: known, or answered with the one that was probably meant."""

import difflib
from collections.abc import Iterable

from bench.errors import RequestError


def choose(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise RequestError with a suggestion for the first name that is not known."""
    known = sorted(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
            raise RequestError(f"unknown {kind} {name!r}; {hint}")
