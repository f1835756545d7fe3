"""Whole networks: the time of all layers, each counted as often as the network has it.

The totals are derived from the measurements of the layers whenever a report shows them; no run
file holds them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from bench.results.schema import Interval, Measurement

SUM_OF_LAYERS: Final = "sum_of_layers"
"""The flag of a total; its `reason` says how many layers it is the sum of."""

_CONTRADICTION: Final = "the run contradicts itself about its layers"


class Network(NamedTuple):
    """What a total stands for: one network in one batch, phase and dtype, wherever it ran."""

    suite: str
    workload: str
    workload_version: int
    name: str
    batch: int | None
    phase: str
    dtype: str

    @property
    def size(self) -> str:
        """The size of the total, such as `resnet50,batch=8`."""
        return self.name if self.batch is None else f"{self.name},batch={self.batch}"

    def in_words(self) -> str:
        """Name it for people, such as `resnet50,batch=8, conv2d forward, float32`."""
        # `call` is the only phase of an operation, unless another one is named.
        phase = "" if self.phase == "call" else f" {self.phase}"
        return f"{self.size}, {self.workload}{phase}, {self.dtype}"


def totals(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Return the sum of each network at each place where all of its layers have a number.

    The interval is the sum of the layers' intervals, as if all layers drifted together: the
    independent part of their errors would partly cancel, so it is rather too wide. What one layer
    does not know, the total does not know either.
    """
    return [found for *_, found in _sums(measurements) if isinstance(found, Measurement)]


def unsummed(measurements: Sequence[Measurement]) -> list[str]:
    """Say which networks have layers with a number and yet no total, and why.

    Places that lack it for the same reason are named together.
    """
    places: dict[tuple[Network, str], list[str]] = {}
    for network, place, found in _sums(measurements):
        if isinstance(found, str):
            places.setdefault((network, found), []).append(place)
    remarks = [
        f"{network.in_words()} on {', '.join(where)}: no sum, {why}"
        for (network, why), where in places.items()
    ]
    return list(dict.fromkeys(remarks))


def _sums(measurements: Sequence[Measurement]) -> Iterator[tuple[Network, str, Measurement | str]]:
    """Yield each network and place where a layer has a number: the total, or why there is none."""
    taken = {m.key for m in measurements}
    for network, layers in _networks(measurements).items():
        sound = _agree(layers, network.name)
        places: dict[str, list[Measurement]] = {}
        for m in layers:
            places.setdefault(m.place, []).append(m)
        for place, own in places.items():
            if all(m.seconds is None or m.status != "ok" for m in own):
                continue
            found = _total(network, place, own) if sound else _CONTRADICTION
            if isinstance(found, Measurement):
                if found.key in taken:
                    found = "a case has its name"
                else:
                    taken.add(found.key)
            yield network, place, found


def _networks(measurements: Sequence[Measurement]) -> dict[Network, list[Measurement]]:
    found: dict[Network, list[Measurement]] = {}
    for m in measurements:
        for name in m.networks:
            network = Network(
                m.suite, m.workload, m.workload_version, name, m.batch, m.phase, m.dtype
            )
            found.setdefault(network, []).append(m)
    return found


def _agree(layers: Sequence[Measurement], name: str) -> bool:
    """Tell whether the places mean the same network: they are compared with each other."""
    lengths = {m.networks[name].of for m in layers}
    counts = {(m.size, m.networks[name].count) for m in layers}
    return len(lengths) == 1 and sum(count for _, count in counts) <= min(lengths)


def _total(network: Network, place: str, layers: Sequence[Measurement]) -> Measurement | str:
    """Return the sum over the layers at one place, or the reason why there is none."""
    first = layers[0]
    same = {(m.backend, m.variant, m.threads, m.device) for m in layers}
    if len(same) > 1 or len({m.size for m in layers}) < len(layers):
        return _CONTRADICTION
    of = first.networks[network.name].of
    known = sum(m.networks[network.name].count for m in layers if m.status == "ok" and m.seconds)
    if known < of:
        return f"only {known} of its {of} layers have a number here"
    counts = [m.networks[network.name].count for m in layers]

    def of_each(name: str) -> list[Any]:
        return [getattr(m, name) for m in layers]

    identity = ("suite", "workload", "workload_version", "batch", "phase", "dtype")
    fields = {
        **{name: getattr(network, name) for name in identity},
        **{name: getattr(first, name) for name in ("backend", "variant", "threads", "device")},
        **{name: _summed_interval(of_each(name), counts) for name in Measurement.metrics},
        **{name: _summed(of_each(name), counts) for name in ("flops", "bytes_moved")},
        **{name: _largest(of_each(name)) for name in ("peak_bytes", "relative_error")},
        "id": "/".join([network.workload, network.size, network.phase, network.dtype, place]),
        "size": network.size,
        "sizes": {} if network.batch is None else {"batch": network.batch},
        "status": "ok",
        "reason": f"sum of {of} layer{'s' * (of != 1)}",
        "flags": [SUM_OF_LAYERS],
    }
    try:
        return msgspec.convert(fields, Measurement)
    except msgspec.ValidationError:
        return "it is larger than any number of a run file"


def _summed_interval(
    intervals: Sequence[Interval | None], counts: Sequence[int]
) -> Mapping[str, Any] | None:
    known = [interval for interval in intervals if interval is not None]
    if len(known) < len(intervals):
        return None
    return {
        part: _summed([getattr(interval, part) for interval in known], counts)
        for part in Interval.__struct_fields__
    }


def _summed(values: Sequence[Any], counts: Sequence[int]) -> Any:
    if None in values:
        return None
    return sum(count * value for count, value in zip(counts, values, strict=True))


def _largest(values: Sequence[Any]) -> Any:
    return None if None in values else max(values)
