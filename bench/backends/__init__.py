"""How one library runs on one device: a file each, over the contract in `base`."""

from functools import cache

from bench.backends.base import Backend
from bench.catalog import PACKAGE, modules


@cache
def backends() -> dict[str, type[Backend]]:
    """Return every backend by name; none of their libraries is imported by this."""
    found: dict[str, type[Backend]] = {}
    for module in modules(PACKAGE / "backends", "bench.backends"):
        found.update({backend.name: backend for backend in getattr(module, "BACKENDS", ())})
    return found
