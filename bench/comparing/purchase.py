"""Which machine to take: for a network, for a bound on latency, for a budget."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.comparing.cost import JOULES_PER_KWH, Way, electricity_per_hour
from bench.comparing.machines import Machine, Piece, Result
from bench.comparing.prices import Prices
from bench.comparing.side_by_side import Comparison
from bench.comparing.speedup import Ratio
from bench.errors import RequestError
from bench.names import choose
from bench.results.schema import Interval

_NETWORK_SUITES: Final = ("passes", "batch-sweep", "training")
"""The suites in which a case is a whole network."""

MILLION: Final = 10**6

Task = Literal["inference", "training"]
Verdict = Literal["meets", "uncertain", "misses", "unknown"]


@dataclass(frozen=True)
class Wanted:
    """A training that was asked for: a network, and how many samples it sees."""

    network: str
    samples: int


@dataclass(frozen=True)
class NetworkCost:
    """What samples through a network take and cost on a machine, in its best batch."""

    machine: str
    network: str
    dtype: str
    task: Task
    phase: str
    samples: int
    """So many samples take `seconds` and cost what `costs` says."""
    place: str
    batch: int
    seconds: Ratio
    joules: float | None
    """None where no counter told."""
    costs: dict[Way, Ratio]
    """Empty without a price; a purchase without its use has none."""


@dataclass(frozen=True)
class Answer:
    """Whether a machine's 99th percentile of latency stays below a bound, for a piece of work."""

    machine: str
    piece: Piece
    place: str | None
    p99: Interval | None
    verdict: Verdict


@dataclass(frozen=True)
class Affordable:
    """What a budget buys of a machine."""

    machine: str
    count: int
    price: float
    """Of one."""
    speed: Ratio
    """Of one, against the baseline."""


def parse_training(text: str) -> Wanted:
    """Read NETWORK:SAMPLES or NETWORK:SAMPLESxEPOCHS, such as `resnet50:1281167x90`.

    Raises:
        RequestError: It is something else.
    """
    network, _, amount = text.rpartition(":")
    samples = 1
    for factor in amount.split("x"):
        digits = factor.replace("_", "")
        if not (network and digits.isascii() and digits.isdigit() and len(digits) < 16):
            raise RequestError(
                f"--train {text!r}: give NETWORK:IMAGES, or with epochs NETWORK:1281167x90"
            )
        samples *= int(digits)
    if not 0 < samples <= 10**15:
        raise RequestError(f"--train {text!r}: from 1 image to 10^15; correct the number")
    return Wanted(network, samples)


def parse_seconds(text: str) -> float:
    """Read a duration such as `20ms`, `0.5s` or `800us`.

    Raises:
        RequestError: It is something else.
    """
    for unit, parts in (("ms", 1e3), ("us", 1e6), ("s", 1.0)):
        if text.endswith(unit):
            try:
                value = float(text.removesuffix(unit)) / parts
            except ValueError:
                break
            if math.isfinite(value) and value > 0:
                return value
    raise RequestError(f"--latency-bound {text!r}: give a time with its unit, such as 20ms")


def network_costs(
    comparison: Comparison, prices: Prices | None, wanted: Sequence[Wanted]
) -> list[NetworkCost]:
    """Return what each network costs on each machine: a million samples, and what is `wanted`.

    Machines are compared over the batches that all have which measured the network at all; each
    takes the best of these.

    Raises:
        RequestError: A network that is wanted was not trained in these runs.
    """
    groups = _networks(comparison)
    trained = {network for network, _, task, _ in groups if task == "training"}
    names = {network.partition("/")[0] for network in trained} | trained
    if wanted and not names:
        raise RequestError(
            "--train: no training step was measured on the same work; run --suite passes"
        )
    choose("network (--train)", [want.network for want in wanted], names)
    found = []
    for (network, dtype, task, phase), pieces in groups.items():
        amounts = [
            want.samples
            for want in wanted
            if task == "training" and want.network in (network, network.partition("/")[0])
        ]
        for samples in (MILLION, *amounts):
            for machine in comparison.machines:
                own = comparison.best[machine.name]
                results = [own[piece] for piece in pieces if piece in own]
                if results:
                    best = max(results, key=lambda result: result.samples_per_second or 0.0)
                    identity = (machine.name, network, dtype, task, phase, samples)
                    costs = _cost(machine, prices, best, samples)
                    found.append(NetworkCost(*identity, *costs))
    return found


def _networks(comparison: Comparison) -> dict[tuple[str, str, Task, str], list[Piece]]:
    """Return the pieces of each network that all have which have any of it."""
    groups: dict[tuple[str, str, Task, str], list[Piece]] = {}
    base = comparison.best[comparison.baseline.name]
    for suite in _NETWORK_SUITES:
        for piece in (piece for piece in base if piece.suite == suite and not piece.is_cold):
            result = base[piece]
            if result.batch is None:
                continue
            if result.phase == "forward":
                task: Task = "inference"
            elif result.phase.startswith("training_step"):
                task = "training"
            else:
                continue
            groups.setdefault((result.network, piece.dtype, task, result.phase), []).append(piece)
    found = {}
    for key, pieces in sorted(groups.items()):
        owners = [own for own in comparison.best.values() if any(p in own for p in pieces)]
        common = [piece for piece in pieces if all(piece in own for own in owners)]
        if common:
            found[key] = common
    return found


def _cost(
    machine: Machine, prices: Prices | None, best: Result, samples: int
) -> tuple[str, int, Ratio, float | None, dict[Way, Ratio]]:
    assert best.batch is not None
    steps = samples / best.batch
    ends = best.seconds.low, best.seconds.high
    seconds = Ratio(
        best.seconds.median * steps, *(None if end is None else end * steps for end in ends)
    )
    joules = None if best.energy_joules is None else best.energy_joules * steps
    costs: dict[Way, Ratio] = {}
    price = prices.machines.get(machine.label) if prices else None
    if prices and price:
        watts = None if joules is None else joules / seconds.median
        if price.purchase is not None and prices.use:
            hours = prices.lifetime_months * prices.use.hours_per_month
            per_hour = price.purchase / hours + electricity_per_hour(prices, watts)
            costs["bought"] = _times(seconds, per_hour / 3600)
        if price.hourly is not None:
            costs["rented"] = _times(seconds, price.hourly / 3600)
    return best.place, best.batch, seconds, joules, costs


def _times(value: Ratio, factor: float) -> Ratio:
    low, high = (None if end is None else end * factor for end in (value.low, value.high))
    return Ratio(value.median * factor, low, high)


def kwh(joules: float) -> float:
    """Return an energy as electricity is sold."""
    return joules / JOULES_PER_KWH


def latencies(comparison: Comparison, bound: float) -> list[Answer]:
    """Judge every machine's answers to every load of the latency suite that the baseline has."""
    return [
        _answer(comparison, machine, piece, bound)
        for piece in _latency_pieces(comparison)
        for machine in comparison.machines
    ]


def _latency_pieces(comparison: Comparison) -> Iterator[Piece]:
    base = comparison.baseline.results
    for piece in comparison.best[comparison.baseline.name]:
        if any(result.p99 for result in base[piece]) or piece.suite == "latency":
            yield piece


def _answer(comparison: Comparison, machine: Machine, piece: Piece, bound: float) -> Answer:
    results = [own[piece] for own in comparison.backends[machine.name].values() if piece in own]
    known = [(result.p99, result.place) for result in results if result.p99]
    if not known:
        return Answer(machine.name, piece, None, None, "unknown")
    p99, place = min(known, key=lambda pair: (pair[0].median, pair[1]))
    if p99.low is None or p99.high is None:
        verdict: Verdict = "uncertain" if p99.median <= bound else "misses"
    elif p99.high <= bound:
        verdict = "meets"
    else:
        verdict = "misses" if p99.low > bound else "uncertain"
    return Answer(machine.name, piece, place, p99, verdict)


def monthly_cost(machine: Machine, prices: Prices, watts: float | None) -> dict[Way, float]:
    """Return what one machine costs a month that works as `[use]` says; empty without it."""
    price = prices.machines.get(machine.label)
    if price is None or prices.use is None:
        return {}
    hours = prices.use.hours_per_month
    found: dict[Way, float] = {}
    if price.purchase is not None:
        electricity = hours * electricity_per_hour(prices, watts)
        found["bought"] = price.purchase / prices.lifetime_months + electricity
    if price.hourly is not None:
        found["rented"] = price.hourly * hours
    return found


def affordable(
    comparison: Comparison, prices: Prices, budget: float, pieces: Sequence[Piece]
) -> list[Affordable]:
    """Return how many of each machine the budget buys, the fastest machine first."""
    found = []
    for machine in comparison.machines:
        price = prices.machines.get(machine.label)
        speed = comparison.speed(machine, pieces)
        if price is None or price.purchase is None or speed is None:
            continue
        count = math.floor(budget / price.purchase)
        if count:
            found.append(Affordable(machine.name, count, price.purchase, speed))
    return sorted(found, key=lambda one: (-one.speed.median, one.price))
