"""Energy of one call: a counter read before and after many of them."""

from typing import Final

from bench.backends.base import Backend, Unknown
from bench.measuring.sampling import Clock, Stopwatch

WINDOW_SECONDS: Final = 5.0
"""Fifty periods of NVIDIA's counter, which moves every 20 to 100 ms."""

LEAST_SECONDS: Final = 1.0
"""Below it the counter's own steps are an error of several percent."""


def joules_per_call(
    stopwatch: Stopwatch, calls: int, clock: Clock, window: float = WINDOW_SECONDS
) -> float:
    """Return the joules of a call, averaged over `window` seconds of samples of `calls` calls.

    The device's idle power is part of it: nothing is subtracted.

    Raises:
        Unknown: No counter tells, the window is too short for it, or it did not move.
    """
    backend: Backend = stopwatch.backend
    if window < LEAST_SECONDS:
        raise Unknown(
            f"a window of {window * 1e3:g} ms is too short for the energy counter; it takes"
            f" {LEAST_SECONDS:g} s at least"
        )
    backend.drain()
    before, begin, made = backend.energy(), clock(), 0
    while clock() - begin < window:
        stopwatch.sample(calls)
        made += calls
    used = backend.energy() - before
    if used <= 0:
        raise Unknown("the energy counter did not move")
    return used / made
