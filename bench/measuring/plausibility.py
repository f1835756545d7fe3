"""Nothing is faster than the machine: numbers above its peak are refused.

A missing synchronisation, a wrong count of FLOPs or of calls, and a lower precision all show up as
a rate that the device cannot have. Peaks are measured at the start of a run; for known devices
the datasheet's are taken if they are higher.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.backends.base import Backend
from bench.measuring.exchange import HostArray
from bench.measuring.sampling import Clock
from bench.workload import Call

FLOPS_MARGIN: Final = 1.10
BYTES_MARGIN: Final = 1.10
CACHE_BYTES: Final = 512 * 2**20
"""Below this working set traffic may stay in a cache; a virtual machine's word on its cache's
size is not to be believed."""
COPY_BYTES: Final = 256 * 2**20
PEAK_SECONDS: Final = 0.3
FLOOR_CALLS: Final = 200
FLOOR_BYTES: Final = 64
LINK_BYTES: Final = 64 * 2**20
CANARY_N: Final = 512
CANARY_BYTES: Final = 32 * 2**20

_H100_SXM: Final = {"float32": 67e12, "tf32": 494.5e12, "float16": 989e12, "bfloat16": 989e12}
DATASHEET: Final[Mapping[str, Mapping[str, float]]] = {
    # Dense FLOP/s and bytes/s, by a part of the name the driver gives.
    # Sources: NVIDIA's data sheets of H100 (2023), H200 (2024), A100 (2021).
    "H200": {**_H100_SXM, "float64": 67e12, "bytes": 4.8e12},
    "H100 80GB HBM3": {**_H100_SXM, "float64": 67e12, "bytes": 3.35e12},
    "H100 PCIe": {
        "float64": 51e12,
        "float32": 51e12,
        "tf32": 378e12,
        "float16": 756e12,
        "bfloat16": 756e12,
        "bytes": 2.0e12,
    },
    "A100": {
        "float64": 19.5e12,
        "float32": 19.5e12,
        "tf32": 156e12,
        "float16": 312e12,
        "bfloat16": 312e12,
        "bytes": 2.04e12,
    },
}


@dataclass(frozen=True)
class Ceiling:
    """The highest rates that a device is known to reach, per second; `source` says how."""

    flops: float | None
    bytes: float | None
    source: str


def measure_peaks(backend: Backend, dtypes: list[str], clock: Clock) -> dict[str, float]:
    """Return what `bench.results.schema.WorkerLine.peaks` holds, each at its best."""
    peaks = {}
    for dtype in dtypes:
        backend.use(dtype)
        stored = "float32" if dtype == "tf32" else dtype
        peaks[dtype] = max(
            2 * n**3 / best_seconds(backend, backend.gemm(n, stored), clock)
            for n in backend.ceiling_sizes
        )
    peaks["bytes"] = 2 * COPY_BYTES / best_seconds(backend, backend.copy(COPY_BYTES), clock)
    tiny = backend.copy(FLOOR_BYTES)

    def calls() -> None:
        for _ in range(FLOOR_CALLS):
            tiny()

    peaks["call"] = best_seconds(backend, calls, clock) / FLOOR_CALLS
    if backend.asynchronous:
        peaks |= _measure_link(backend, clock)
    return peaks


def _measure_link(backend: Backend, clock: Clock) -> dict[str, float]:
    """Copy pageable host memory to the device, as the end-to-end time of a case does."""

    def copying(length: int) -> float:
        array = HostArray((length // 4,), "float32", bytearray(length))
        return best_seconds(backend, lambda: backend.to_device(array), clock)

    shortest = copying(FLOOR_BYTES)
    rest = max(copying(LINK_BYTES) - shortest, 1e-9)
    return {"link_call": shortest, "link_bytes": LINK_BYTES / rest}


def best_of(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Combine two readings of the same device's peaks: the higher rates, the shorter times."""
    both = {**one, **other}
    return {
        name: (min if name.endswith("call") else max)(one.get(name, value), value)
        for name, value in both.items()
    }


def read_canary(backend: Backend, clock: Clock) -> dict[str, float]:
    """Time a fixed product and a fixed copy: the state of the machine, not of the code."""
    backend.use("float32")
    return {
        "product": _median_seconds(backend, canary_product(backend), clock),
        "copy": _median_seconds(backend, backend.copy(CANARY_BYTES), clock),
    }


def canary_product(backend: Backend) -> Call:
    """Return the fixed product whose time tells how fast the machine is at the moment."""
    return backend.gemm(CANARY_N, "float32")


def ceiling(peaks: Sequence[Mapping[str, float]], dtype: str, device_name: str) -> Ceiling:
    """Combine the peaks of all backends of a device with its data sheet."""
    known = next((v for k, v in DATASHEET.items() if k in device_name), {})
    flops = max((p[dtype] for p in peaks if dtype in p), default=None)
    traffic = max((p["bytes"] for p in peaks if "bytes" in p), default=None)
    source = "measured"
    if known.get(dtype, 0) > (flops or 0):
        flops, source = known[dtype], "data sheet"
    if known.get("bytes", 0) > (traffic or 0):
        traffic = known["bytes"]
    return Ceiling(flops, traffic, source)


def why_implausible(
    seconds: float,
    flops: int | None,
    bytes_moved: int | None,
    limit: Ceiling,
    shortcut: float = 1.0,
) -> str | None:
    """Return what is beyond the ceiling, or None.

    `shortcut`: how many times fewer FLOPs than counted a known algorithm needs.
    """
    if flops and limit.flops and flops / seconds > FLOPS_MARGIN * limit.flops * shortcut:
        known = f", of which a known algorithm makes {shortcut:g} times" if shortcut > 1 else ""
        return (
            f"{flops / seconds / 1e9:.4g} GFLOP/s, but this device's peak is"
            f" {limit.flops / 1e9:.4g} ({limit.source}){known}: the declared FLOPs are wrong, or"
            " the work was not done in full"
        )
    large = bytes_moved is not None and bytes_moved > CACHE_BYTES
    if large and limit.bytes and bytes_moved and bytes_moved / seconds > BYTES_MARGIN * limit.bytes:
        return (
            f"{bytes_moved / seconds / 1e9:.4g} GB/s, but this device's memory moves"
            f" {limit.bytes / 1e9:.4g} ({limit.source})"
        )
    return None


def best_seconds(backend: Backend, call: Call, clock: Clock) -> float:
    """Return the shortest of at least three calls after one that warms up."""
    _timed(backend, call, clock)
    begin, times = clock(), [_timed(backend, call, clock)]
    while len(times) < 3 or clock() - begin < PEAK_SECONDS:
        times.append(_timed(backend, call, clock))
    return min(times)


def _median_seconds(backend: Backend, call: Call, clock: Clock) -> float:
    for _ in range(3):
        _timed(backend, call, clock)
    return statistics.median(_timed(backend, call, clock) for _ in range(9))


def _timed(backend: Backend, call: Call, clock: Clock) -> float:
    start = clock()
    call()
    backend.synchronize()
    return clock() - start


def device_name(description: Mapping[str, Any]) -> str:
    """Return the name of the device that a backend described."""
    return str(description.get("gpu", "cpu"))
