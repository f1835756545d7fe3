"""Numbers for people. Everything stored is in SI base units; only this file scales."""

import math
from collections.abc import Sequence

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_DECIMAL = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BINARY = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


def significant(value: float, digits: int = 3) -> str:
    """Write `value` with `digits` significant digits and no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def _scale(value: float, scales: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """Choose the largest unit of which `value` is at least 1, as it will be written."""
    return next((s for s in scales if float(significant(value / s[0])) >= 1), scales[-1])


def seconds(value: float | None) -> str:
    """Write a duration given in seconds, such as `1.23 ms`."""
    if value is None:
        return "-"
    scale, unit = _scale(value, _SECONDS)
    return f"{significant(value / scale)} {unit}"


def seconds_interval(low: float | None, high: float | None) -> str:
    """Write `[low, high]`, both in seconds, in the unit of `high`."""
    if low is None or high is None:
        return "-"
    scale, unit = _scale(high, _SECONDS)
    return f"[{significant(low / scale)}, {significant(high / scale)}] {unit}"


def rate(value: float | None, unit: str) -> str:
    """Write a rate per second, such as `197 GFLOP/s`; `unit` is `FLOP` or `B`."""
    if value is None:
        return "-"
    scale, prefix = _scale(value, _DECIMAL)
    return f"{significant(value / scale)} {prefix}{unit}/s"


def count(value: float) -> str:
    """Write a number of something with its prefix, such as `12.3 k`."""
    scale, prefix = _scale(value, _DECIMAL)
    return f"{significant(value / scale)} {prefix}".rstrip(" ")


def count_interval(low: float, high: float) -> str:
    """Write `[low, high]` with the prefix of `high`."""
    scale, prefix = _scale(high, _DECIMAL)
    return f"[{significant(low / scale)}, {significant(high / scale)}] {prefix}".rstrip(" ")


def grouped(value: float) -> str:
    """Write a count or a rate with three significant digits, thousands apart: `12,300`."""
    return f"{float(f'{value:.2e}'):,.0f}" if value >= 100 else significant(value)


def size(value: int | None) -> str:
    """Write a number of bytes, such as `192 MiB`."""
    if value is None:
        return "-"
    if value < 1024:
        return f"{value} B"
    scale, unit = _scale(value, _BINARY)
    return f"{significant(value / scale)} {unit}"


def duration(value: float) -> str:
    """Write how long something takes for somebody who waits: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
