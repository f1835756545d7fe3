"""What a comparison says about money and energy: sentences and tables."""

import math
from collections.abc import Iterator
from typing import Final

from bench import units
from bench.comparing.cost import Crossing, Curves, Option, in_words
from bench.comparing.prices import HOURS_IN_A_MONTH, Prices
from bench.comparing.remarks import listed
from bench.comparing.side_by_side import Comparison
from bench.comparing.speed_tables import interval, record, times
from bench.comparing.speedup import Ratio
from bench.report import Table

_HOURS: Final = (0.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0, 730.0)
_ROUND_PRICE: Final = 1000.0


def money(value: float, prices: Prices) -> str:
    """Write an amount, such as `138 EUR`."""
    return f"{units.significant(value)} {prices.currency}"


def money_interval(value: Ratio, prices: Prices) -> str:
    """Write an amount with its interval, where it has one."""
    known = value.low is not None and value.high is not None and value.low < value.high
    return money(value.median, prices) + (f" {interval(value)}" if known else "")


def cost_sentences(found: Curves, prices: Prices) -> list[str]:
    """Say what costs least from how many hours on, whether to buy or rent, and what to take."""
    said = [_turn(found, turn) for turn in found.turns()]
    if not said and len(found.options) > 1:
        cheapest = found.cheapest(HOURS_IN_A_MONTH / 2)
        said = [f"{_cost(cheapest)} least at any number of hours a month."]
    said += _buy_or_rent(found)
    said += [
        f"{name} takes {times(slower)} as long: {in_words(count)} of them may be one too few."
        for name, slower, count in _doubtful_counts(found)
    ]
    if prices.use:
        said += _recommendation(found, prices)
    else:
        said.append(
            "No recommendation: the prices file does not say how many hours a month it is for"
            " (hours_per_month in [use])."
        )
    return [f"{found.title}: {text}" for text in said]


def _cost(option: Option) -> str:
    return f"{option.name} {'costs' if option.count == 1 else 'cost'}"


def _turn(found: Curves, turn: Crossing) -> str:
    above, below = turn.above, turn.below
    said = f"{_cost(above)} less than {below.name} above {_hours(turn)}"
    if above.machine == below.machine:
        return f"{said}."
    quick, slow = sorted((above, below), key=lambda option: option.slower.median)
    sooner = _over(slow.slower, quick.slower)
    return f"{said}; {quick.machine} finishes a single job {times(sooner)} sooner."


def _over(slow: Ratio, quick: Ratio) -> Ratio:
    """Divide; the fastest itself is exactly 1, else both intervals count in full."""
    median = slow.median / quick.median
    if slow.low is None or slow.high is None or quick.low is None or quick.high is None:
        return Ratio(median, None, None)
    return Ratio(median, slow.low / quick.high, slow.high / quick.low)


def _hours(crossing: Crossing) -> str:
    said = f"{units.significant(crossing.hours)} h/month"
    if crossing.low is None or crossing.high is None:
        return said
    if crossing.low == crossing.high:
        return said
    high = "never" if crossing.high > HOURS_IN_A_MONTH else units.significant(crossing.high)
    return f"{said} [{units.significant(crossing.low)}, {high}]"


def _buy_or_rent(found: Curves) -> list[str]:
    turns = found.turns()
    said = []
    for machine in dict.fromkeys(option.machine for option in found.options):
        ways = {option.way: option for option in found.options if option.machine == machine}
        if len(ways) < 2:
            continue
        crossing = next(
            (c for c in found.crossings if c.below.machine == c.above.machine == machine), None
        )
        if crossing in turns:
            continue
        if crossing:
            said.append(f"to buy {machine} costs less than to rent it above {_hours(crossing)}.")
        else:
            said.append(f"to rent {machine} costs less than to buy it at any hours of a month.")
    return said


def _doubtful_counts(found: Curves) -> list[tuple[str, Ratio, int]]:
    """Return the machines of which it might take more, with how many were taken."""
    counts = {option.machine: (option.slower, option.count) for option in found.options}
    return [
        (name, slower, count)
        for name, (slower, count) in counts.items()
        if slower.high is not None and slower.high > count and count > 1
    ]


def _recommendation(found: Curves, prices: Prices) -> list[str]:
    assert prices.use is not None
    hours, jobs = prices.use.hours_per_month, prices.use.jobs_at_once
    # Those that do one job after the other: more of them than jobs would stand idle.
    able = [option for option in found.options if option.count <= jobs]
    at = f"at {hours:g} h/month with {in_words(jobs)} job{'s' * (jobs != 1)} at once"
    if not able:
        return [f"{at}, nothing that has a price does the work of {found.fastest} in its time."]
    best = found.cheapest(hours, able)
    cost = best.cost(hours)
    said = f"{at}, {_cost(best)} least, {money_interval(cost, prices)} a month"
    rivals = [option for option in able if option is not best and _overlap(option, best, hours)]
    if rivals:
        told = [f"{o.name} {money_interval(o.cost(hours), prices)}" for o in rivals]
        said += f"; not certain: {listed(told)}"
    sentences = [f"{said}."]
    cheaper = [
        option
        for option in found.options
        if option not in able and option.cost(hours).median < cost.median
    ]
    for option in sorted(cheaper, key=lambda o: o.cost(hours).median)[:3]:
        sentences.append(
            f"{option.name} would cost {money_interval(option.cost(hours), prices)}, but only"
            f" {in_words(option.count)} jobs at once keep them busy."
        )
    return sentences


def _overlap(one: Option, best: Option, hours: float) -> bool:
    low, high = one.cost(hours).low, best.cost(hours).high
    return low is not None and high is not None and low <= high


def cost_tables(comparison: Comparison, found: Curves, prices: Prices) -> Iterator[Table]:
    """Yield the curve, its crossings, and performance per price and per watt."""
    yield _curve(found, prices)
    yield _crossings(found)
    yield _value(comparison, found, prices)


def _curve(found: Curves, prices: Prices) -> Table:
    rows = []
    records = []
    hours = sorted({*_HOURS, *([prices.use.hours_per_month] if prices.use else [])})
    for option in found.options:
        costs = [option.cost(h) for h in hours]
        rows.append(
            [
                option.name,
                times(option.slower),
                *(units.significant(cost.median) for cost in costs),
            ]
        )
        where = {"machine": option.machine, "note": option.name}
        for h, cost in zip(hours, costs, strict=True):
            records.append(
                record(
                    "cost_curve",
                    cost,
                    **where,
                    hours_per_month=h,
                    metric="cost_per_month",
                    unit=prices.currency,
                )
            )
    return Table(
        name="cost_curve",
        title=(
            f"{found.title}: cost in {prices.currency} a month, by the hours that {found.fastest}"
            " would work"
        ),
        columns=("what", "time of a job", *(f"{h:g} h" for h in hours)),
        right=frozenset(range(1, 2 + len(hours))),
        rows=rows,
        records=records,
    )


def _crossings(found: Curves) -> Table:
    rows = []
    records = []
    for crossing in found.crossings:
        rows.append([crossing.below.name, crossing.above.name, _hours(crossing)])
        high = crossing.high
        value = Ratio(
            crossing.hours, crossing.low, None if high is None or math.isinf(high) else high
        )
        records.append(
            record(
                "crossings",
                value,
                machine=crossing.above.machine,
                against=crossing.below.machine,
                metric="hours_per_month",
                unit="h",
                note=f"{crossing.above.name} against {crossing.below.name}",
            )
        )
    return Table(
        name="crossings",
        title=f"{found.title}: where one begins to cost less than another",
        columns=("costs less before", "costs less after", "from (95% interval)"),
        right=frozenset({2}),
        rows=rows,
        records=records,
    )


def _value(comparison: Comparison, found: Curves, prices: Prices) -> Table:
    rows = []
    records = []
    for machine in comparison.machines:
        slower = found.slower.get(machine.name)
        if slower is None:
            continue
        price = prices.machines[machine.label]
        speed = 1 / slower.median
        watts = found.watts[machine.name]
        per_price = None if price.purchase is None else speed / price.purchase * _ROUND_PRICE
        per_rent = None if price.hourly is None else speed / price.hourly
        per_kilowatt = None if watts is None else speed / watts * 1000
        cells = (
            (speed, "speed", "1"),
            (per_price, f"speed_per_{_ROUND_PRICE:g}", f"1/{prices.currency}"),
            (per_rent, "speed_per_hourly", f"1/{prices.currency}"),
            (watts, "power", "W"),
            (per_kilowatt, "speed_per_kilowatt", "1/kW"),
        )
        rows.append(
            [
                machine.name,
                "-" if price.purchase is None else money(price.purchase, prices),
                "-" if price.hourly is None else money(price.hourly, prices),
                *("-" if value is None else units.significant(value) for value, *_ in cells),
            ]
        )
        records += [
            record(
                "value",
                Ratio(value, None, None),
                machine=machine.name,
                against=found.fastest,
                metric=metric,
                unit=unit,
                note=found.title,
            )
            for value, metric, unit in cells
            if value is not None
        ]
    return Table(
        name="value",
        title=f"{found.title}: performance per price and per watt (speed: {found.fastest} = 1)",
        columns=(
            *("machine", "purchase", "an hour", "speed", f"per {_ROUND_PRICE:g} {prices.currency}"),
            *(f"per {prices.currency} an hour", "W measured", "per kW"),
        ),
        right=frozenset(range(1, 8)),
        rows=rows,
        records=records,
    )
