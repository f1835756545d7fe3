"""What machines cost for the same work, against hours per month: curves and where they cross.

The hours are those that the fastest machine works. A slower one stands there several times over,
so that together they do as much; each of its hours counts. Costs per month are straight lines over
the hours: a purchase spread over its lifetime, then what every hour costs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

from bench.comparing.machines import Machine, Piece
from bench.comparing.prices import HOURS_IN_A_MONTH, Price, Prices
from bench.comparing.side_by_side import Comparison
from bench.comparing.speedup import Ratio, geometric_mean, ratio

Way = Literal["bought", "rented"]
JOULES_PER_KWH: Final = 3.6e6
_WORDS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Option:
    """So many of one machine, bought or rented, that do what the fastest does."""

    machine: str
    way: Way
    count: int
    per_month: float
    """What all of them cost whether they work or not."""
    per_machine_hour: float
    """What an hour of work of one of them costs besides."""
    slower: Ratio
    """How many times as long as the fastest one takes."""

    @property
    def name(self) -> str:
        """Name it for people, such as `four A (bought)`."""
        return f"{in_words(self.count)} {self.machine} ({self.way})"

    @property
    def per_hour(self) -> Ratio:
        """What an hour of the fastest machine's work costs besides."""
        return _scaled(self.slower, self.per_machine_hour)

    def cost(self, hours: float) -> Ratio:
        """Return the cost of a month in which the fastest machine would work so many hours."""
        per_hour = self.per_hour

        def at(end: float | None) -> float | None:
            return None if end is None else self.per_month + hours * end

        return Ratio(self.per_month + hours * per_hour.median, at(per_hour.low), at(per_hour.high))


@dataclass(frozen=True)
class Crossing:
    """From `hours` a month on `above` costs less, before it `below` does.

    `low` and `high` are where a repeat of the runs may find it; `high` is infinite if that may
    find none. They are None where an interval is not known.
    """

    below: Option
    above: Option
    hours: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Curves:
    """The costs of the same work on every machine that has a price."""

    title: str
    fastest: str
    pieces: int
    options: Sequence[Option]
    crossings: Sequence[Crossing]
    """Those within a month, of any two options."""
    slower: Mapping[str, Ratio]
    """How many times as long as the fastest each machine takes."""
    watts: Mapping[str, float | None]
    """The mean power while it worked, of machines whose counter told."""

    def cheapest(self, hours: float, among: Sequence[Option] | None = None) -> Option:
        """Return the option of least cost; of equal ones the first."""
        found = self.options if among is None else among
        return min(found, key=lambda option: option.cost(hours).median)

    def turns(self) -> list[Crossing]:
        """Return the crossings at which the cheapest of all options changes."""
        return [
            crossing
            for crossing in self.crossings
            if all(
                crossing.above.cost(crossing.hours).median
                <= option.cost(crossing.hours).median * (1 + 1e-9)
                for option in self.options
            )
        ]


def curves(
    comparison: Comparison, prices: Prices, pieces: Sequence[Piece], title: str
) -> Curves | None:
    """Return the costs of the machines that have a price and all of `pieces`; None if none has."""
    machines = [
        machine
        for machine in comparison.machines
        if machine.label in prices.machines
        and pieces
        and all(piece in comparison.best[machine.name] for piece in pieces)
    ]
    if not machines:
        return None
    best = comparison.best
    # The baseline's own times cancel; a slip of rounding must not decide.
    fastest = min(
        machines,
        key=lambda m: sum(math.log(best[m.name][piece].seconds.median) for piece in pieces),
    )
    slower = {machine.name: _slower(comparison, machine, fastest, pieces) for machine in machines}
    watts = {machine.name: mean_watts(comparison, machine, pieces) for machine in machines}
    options = [
        option
        for machine in machines
        for option in _options(
            machine.name,
            prices.machines[machine.label],
            prices,
            slower[machine.name],
            watts[machine.name],
        )
    ]
    found = [crossing(one, other) for one, other in combinations(options, 2)]
    crossings = sorted(
        (c for c in found if c and c.hours <= HOURS_IN_A_MONTH), key=lambda c: c.hours
    )
    return Curves(title, fastest.name, len(pieces), options, crossings, slower, watts)


def _slower(
    comparison: Comparison, machine: Machine, fastest: Machine, pieces: Sequence[Piece]
) -> Ratio:
    if machine is fastest:
        return Ratio(1.0, 1.0, 1.0)
    own, best = comparison.best[machine.name], comparison.best[fastest.name]
    return geometric_mean([ratio(own[p].seconds, best[p].seconds) for p in pieces])


def mean_watts(comparison: Comparison, machine: Machine, pieces: Sequence[Piece]) -> float | None:
    """Return the power over the pieces whose energy was measured; None without any."""
    known = [
        (result.energy_joules, result.seconds.median)
        for piece in pieces
        if (result := comparison.best[machine.name].get(piece)) and result.energy_joules
    ]
    return sum(joules for joules, _ in known) / sum(time for _, time in known) if known else None


def electricity_per_hour(prices: Prices, watts: float | None) -> float:
    """Return what an hour at this power costs with its cooling; 0 where either is unknown."""
    if watts is None or prices.electricity_per_kwh is None:
        return 0.0
    return watts / 1000 * prices.cooling_factor * prices.electricity_per_kwh


def _options(
    name: str, price: Price, prices: Prices, slower: Ratio, watts: float | None
) -> list[Option]:
    # Rounding must not ask for one more of two machines that are as fast as each other.
    count = max(1, math.ceil(slower.median - 1e-9))
    found = []
    if price.purchase is not None:
        monthly = count * price.purchase / prices.lifetime_months
        hourly = electricity_per_hour(prices, watts)
        found.append(Option(name, "bought", count, monthly, hourly, slower))
    if price.hourly is not None:
        found.append(Option(name, "rented", count, 0.0, price.hourly, slower))
    return found


def crossing(one: Option, other: Option) -> Crossing | None:
    """Return where two costs are the same, if that is after the first hour; None if nowhere."""
    below, above = sorted((one, other), key=lambda option: option.per_month)
    first = above.per_month - below.per_month
    gain = below.per_hour.median - above.per_hour.median
    if first <= 0 or gain <= 0 or not math.isfinite(hours := first / gain):
        return None
    least, most = _gains(below, above)
    if least is None or most is None:
        return Crossing(below, above, hours, None, None)
    return Crossing(
        below,
        above,
        hours,
        min(hours, first / most),
        max(hours, first / least) if least > 0 else math.inf,
    )


def _gains(below: Option, above: Option) -> tuple[float | None, float | None]:
    """Return the least and the most that an hour may be cheaper."""
    if below.machine == above.machine:
        # They are slower together, whatever the interval of that is.
        saved = _scaled(below.slower, below.per_machine_hour - above.per_machine_hour)
        return saved.low, saved.high
    dear, cheap = below.per_hour, above.per_hour
    if dear.low is None or dear.high is None or cheap.low is None or cheap.high is None:
        return None, None
    return dear.low - cheap.high, dear.high - cheap.low


def _scaled(value: Ratio, factor: float) -> Ratio:
    return Ratio(
        value.median * factor,
        None if value.low is None else value.low * factor,
        None if value.high is None else value.high * factor,
    )


def in_words(count: int) -> str:
    """Write a small number as a word."""
    return _WORDS[count] if count < len(_WORDS) else str(count)
