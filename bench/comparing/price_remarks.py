"""What readers of a cost must know: what it leaves out, and on which prices it rests."""

from collections.abc import Sequence

from bench.comparing.cost import Curves
from bench.comparing.machines import Machine
from bench.comparing.prices import Prices
from bench.comparing.remarks import listed


def price_remarks(
    measured: Sequence[Machine], found: Sequence[Curves], prices: Prices
) -> list[str]:
    """Say what the costs leave out, and on which prices they rest."""
    labels = {machine.label for machine in measured}
    said = [
        f"{label} was not measured: no cost of it is known"
        for label in sorted(prices.machines)
        if label not in labels
    ]
    without = sorted({m.name for m in measured if m.label not in prices.machines})
    if without:
        said.append(f"no price, and so no cost: {listed(without)}")
    priced = {m.name for m in measured if m.label in prices.machines}
    for curve in found:
        gone = sorted(priced - set(curve.slower))
        if gone:
            said.append(f"{curve.title}: no cost of {listed(gone)}: not all of the work is known")
    bought = {o.machine for curve in found for o in curve.options if o.way == "bought"}
    dark = sorted(
        {name for curve in found for name, watts in curve.watts.items() if watts is None} & bought
    )
    if prices.electricity_per_kwh is None:
        said.append("electricity is left out: the prices file has no electricity_per_kwh")
    elif dark:
        said.append(
            f"electricity of {listed(dark)} is left out: no energy was measured (bench run --energy"
            " measures it where a counter exists); the true cost is higher"
        )
    if prices.electricity_per_kwh is not None and bought - set(dark):
        said.append(
            "electricity is that of the device alone, as its counter told while it worked; the rest"
            " of the machine, and hours without work, use more"
        )
    if any(option.way == "rented" for curve in found for option in curve.options):
        said.append("electricity and cooling of rented machines are taken to be in the rent")
    if prices.is_lifetime_assumed and bought:
        said.append(
            f"purchases are spread over {prices.lifetime_months:g} months, which is assumed: the"
            " prices file has no lifetime_months in [use]"
        )
    for label, price in sorted(prices.machines.items()):
        told = ", ".join(
            filter(None, [f"as of {price.as_of}" if price.as_of else "", price.source or ""])
        )
        if told and label in labels:
            said.append(f"price of {label}: {told}")
    return said
