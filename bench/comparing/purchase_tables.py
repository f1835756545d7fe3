"""What a comparison says about networks, latency bounds and budgets: sentences and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench import units
from bench.comparing.cost import in_words
from bench.comparing.cost_tables import money, money_interval
from bench.comparing.machines import Machine, Piece
from bench.comparing.prices import Prices
from bench.comparing.purchase import (
    MILLION,
    Affordable,
    Answer,
    NetworkCost,
    kwh,
    monthly_cost,
)
from bench.comparing.remarks import listed
from bench.comparing.side_by_side import Comparison
from bench.comparing.speed_tables import interval, record, times
from bench.comparing.speedup import Ratio
from bench.report import Table

MOST_SENTENCES = 8


def network_sentences(costs: Sequence[NetworkCost], prices: Prices | None) -> list[str]:
    """Say of each training that was asked for what it takes and costs."""
    said = []
    for cost in costs:
        if cost.samples == MILLION:
            continue
        hours = units.duration(cost.seconds.median)
        text = f"training {cost.network} ({cost.dtype}) on {cost.samples:,} samples takes"
        text += f" {hours} on {cost.machine} with {cost.place} at batch {cost.batch}"
        if prices and cost.costs:
            told = [f"{money_interval(c, prices)} {way}" for way, c in cost.costs.items()]
            text += f": {' or '.join(told)}"
        said.append(f"{text}.")
    return said


def network_table(costs: Sequence[NetworkCost], prices: Prices | None) -> Table:
    """Return what a million samples, and what was asked for, take and cost."""
    rows = []
    records: list[dict[str, Any]] = []
    above: tuple[object, ...] = ()
    for cost in costs:
        work = (cost.network, cost.dtype, cost.phase, cost.samples)
        named = "million" if cost.samples == MILLION else f"{cost.samples:,}"
        energy = None if cost.joules is None else kwh(cost.joules)
        rows.append(
            [
                "" if work == above else f"{cost.network} {cost.phase}, {cost.dtype}",
                cost.machine,
                cost.place,
                str(cost.batch),
                named,
                units.duration(cost.seconds.median) if cost.seconds.median >= 60
                else units.seconds(cost.seconds.median),
                "-" if energy is None else units.significant(energy),
                *_money(cost, prices),
            ]
        )  # fmt: skip
        above = work
        records += _network_records(cost, prices)
    currency = prices.currency if prices else ""
    columns = ["network", "machine", "backend", "batch", "samples", "time", "kWh"]
    if prices:
        columns += [f"bought, {currency}", f"rented, {currency}"]
    use = prices.use if prices else None
    title = "Networks, each machine in its best batch"
    if use:
        title += f"; bought: while each works {use.hours_per_month:g} h/month"
    return Table(
        name="networks",
        title=title,
        columns=columns,
        right=frozenset(range(3, len(columns))),
        rows=rows,
        records=records,
    )


def _money(cost: NetworkCost, prices: Prices | None) -> list[str]:
    if prices is None:
        return []
    cells = []
    for way in ("bought", "rented"):
        found = cost.costs.get(way)
        cells.append(f"{units.significant(found.median)} {interval(found)}" if found else "-")
    return cells


def _network_records(cost: NetworkCost, prices: Prices | None) -> list[dict[str, Any]]:
    where = {
        "machine": cost.machine,
        "id": f"{cost.network}/{cost.phase}/{cost.dtype}",
        "backend": cost.place,
        "samples": cost.samples,
        "note": f"batch {cost.batch}",
    }
    found = [record("networks", cost.seconds, metric="seconds", unit="s", **where)]
    if cost.joules is not None:
        energy = Ratio(cost.joules, None, None)
        found.append(record("networks", energy, metric="energy_joules", unit="J", **where))
    for way, value in cost.costs.items():
        unit = prices.currency if prices else None
        found.append(record("networks", value, metric=f"cost_{way}", unit=unit, **where))
    return found


def latency_sentences(
    answers: Sequence[Answer],
    bound: float,
    comparison: Comparison,
    prices: Prices | None,
    watts: Mapping[str, float | None],
) -> list[str]:
    """Say of each load which machines stay below the bound, and which of them costs least."""
    within = f"99% of answers within {units.seconds(bound)}"
    if not answers:
        return [f"{within}: not known; no latency of the same work was measured (suite latency)."]
    by_piece: dict[Piece, list[Answer]] = {}
    for answer in answers:
        by_piece.setdefault(answer.piece, []).append(answer)
    machines = {machine.name: machine for machine in comparison.machines}
    said = []
    for piece, found in by_piece.items():
        meet = [answer.machine for answer in found if answer.verdict == "meets"]
        doubt = [answer.machine for answer in found if answer.verdict == "uncertain"]
        text = f"{within}, {piece.name}: {listed(meet) if meet else 'certain on no machine'}"
        if doubt:
            text += f"; not certain: {listed(doubt)}"
        cheapest = _cheapest([machines[name] for name in meet], prices, watts)
        said.append(f"{text}{cheapest}.")
    if len(said) > MOST_SENTENCES:
        return [*said[:MOST_SENTENCES], f"{len(said) - MOST_SENTENCES} more are in the table."]
    return said


def _cheapest(
    meet: Sequence[Machine], prices: Prices | None, watts: Mapping[str, float | None]
) -> str:
    if prices is None:
        return ""
    offers = [
        (cost, machine.name, way)
        for machine in meet
        for way, cost in monthly_cost(machine, prices, watts.get(machine.name)).items()
    ]
    if not offers:
        return ""
    cost, name, way = min(offers)
    return f"; cheapest: {name} ({way}), {money(cost, prices)} a month"


def latency_table(answers: Sequence[Answer], bound: float) -> Table:
    """Return each machine's answers to each load."""
    words = {
        "meets": "yes",
        "uncertain": "not certain",
        "misses": "no",
        "unknown": "not measured",
    }
    rows = []
    records = []
    above = None
    for answer in answers:
        p99 = answer.p99
        rows.append(
            [
                "" if answer.piece == above else answer.piece.name,
                answer.machine,
                answer.place or "-",
                units.seconds(p99.median if p99 else None),
                units.seconds_interval(p99.low, p99.high) if p99 else "-",
                words[answer.verdict],
            ]
        )
        above = answer.piece
        records.append(
            record(
                "latency",
                Ratio(p99.median, p99.low, p99.high) if p99 else None,
                machine=answer.machine,
                suite=answer.piece.suite,
                id=answer.piece.name,
                backend=answer.place,
                metric="p99",
                unit="s",
                note=words[answer.verdict],
            )
        )
    return Table(
        name="latency",
        title=f"Latency: do 99% of answers come within {units.seconds(bound)}?",
        columns=("work", "machine", "backend", "p99", "95% interval", "within"),
        right=frozenset({3, 4, 5}),
        rows=rows,
        records=records,
    )


def budget_sentences(
    found: Sequence[Affordable], budget: float, prices: Prices, baseline: str
) -> list[str]:
    """Say which is the fastest machine that the budget buys, and how to get the most done."""
    amount = money(budget, prices)
    if not found:
        return [f"{amount} buys none of the machines that were measured and have a price."]
    best = found[0]
    said = [
        f"{amount} buys at best {best.machine} for {money(best.price, prices)}:"
        f" {times(best.speed)} as fast as {baseline}."
    ]
    most = max(found, key=lambda one: one.count * one.speed.median)
    if most.count > 1:
        total = units.significant(most.count * most.speed.median)
        said.append(
            f"{in_words(most.count)} {most.machine} would do {total}x as much as {baseline}, if"
            f" there are {in_words(most.count)} jobs at once."
        )
    return said


def budget_table(found: Sequence[Affordable], prices: Prices, baseline: str) -> Table:
    """Return what the budget buys of each machine."""
    return Table(
        name="budget",
        title=f"What the budget buys (speed against {baseline})",
        columns=("machine", "price of one", "speed of one", "how many", "speed of all"),
        right=frozenset({1, 2, 3, 4}),
        rows=[
            [
                one.machine,
                money(one.price, prices),
                times(one.speed),
                str(one.count),
                f"{units.significant(one.count * one.speed.median)}x",
            ]
            for one in found
        ],
        records=[
            record(
                "budget",
                Ratio(float(one.count), None, None),
                machine=one.machine,
                metric="count",
                unit="1",
            )
            for one in found
        ],
    )
