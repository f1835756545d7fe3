"""The prices file: what machines cost to buy or to rent, and how they will be used."""

import datetime
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.errors import RequestError
from bench.names import choose
from bench.text import plain

HOURS_IN_A_MONTH: Final = 365.25 * 24 / 12

_LIFETIME_MONTHS: Final = 36.0
"""Assumed, and said, where `[use]` does not tell: without it a purchase has no cost per month."""

_LARGEST: Final = 1e12
_TOP: Final = ("currency", "electricity_per_kwh", "cooling_factor", "use", "machines")
_USE: Final = ("hours_per_month", "lifetime_months", "jobs_at_once")
_MACHINE: Final = ("purchase", "host", "hourly", "as_of", "source")


@dataclass(frozen=True)
class Use:
    """How the machine will be used."""

    hours_per_month: float
    jobs_at_once: int
    """How many independent jobs there are to run at the same time."""


@dataclass(frozen=True)
class Price:
    """What one machine costs, in the file's currency; at least one of the two is known."""

    purchase: float | None
    """With the rest of the machine (`host`)."""
    hourly: float | None
    as_of: str | None
    source: str | None


@dataclass(frozen=True)
class Prices:
    """A prices file that has been checked."""

    currency: str
    electricity_per_kwh: float | None
    cooling_factor: float
    lifetime_months: float
    is_lifetime_assumed: bool
    use: Use | None
    machines: Mapping[str, Price]
    """By the label of a run."""


def read_prices(path: Path) -> Prices:
    """Read and check a prices file.

    Raises:
        RequestError: It cannot be read; the message names the key that is wrong.
    """
    where = plain(str(path))
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise RequestError(f"--prices {where}: {error.strerror}; give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"--prices {where}: no TOML: {plain(str(error))}; mend it") from error
    return _prices(_Table(where, "", content, _TOP))


@dataclass(frozen=True)
class _Table:
    """A table of the file: every value is taken out of it with its checks."""

    path: str
    name: str
    values: Mapping[str, Any]
    known: tuple[str, ...]

    def __post_init__(self) -> None:
        try:
            choose("key", self.values, self.known)
        except RequestError as error:
            inside = f" in [{plain(self.name)}]" if self.name else ""
            raise RequestError(f"--prices {self.path}: {plain(str(error))}{inside}") from None

    def refuse(self, key: str, problem: str) -> RequestError:
        name = f"{self.name}.{key}" if self.name and key else self.name or key
        return RequestError(f"--prices {self.path}: {plain(name)} {problem}")

    def number(self, key: str, *, above_zero: bool = False) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(key, "is not a number; write it without quotes, such as 4200")
        if not math.isfinite(value) or value > _LARGEST:
            raise self.refuse(key, "is no amount that money has; correct it")
        if value < 0:
            raise self.refuse(key, "is negative; give what is paid")
        if above_zero and value == 0:
            raise self.refuse(key, "must be above 0; correct it, or leave it out")
        return float(value)

    def table(self, key: str, known: tuple[str, ...] | None = None) -> "_Table | None":
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refuse(key, f"is not a table; write [{key}]")
        return _Table(self.path, key, value, known if known is not None else tuple(value))

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if isinstance(value, datetime.date):
            return value.isoformat()
        if value is not None and not isinstance(value, str):
            raise self.refuse(key, "is not a text; put it in quotes")
        return value


def _prices(top: _Table) -> Prices:
    currency = top.text("currency")
    if currency is None:
        raise top.refuse("currency", 'is missing; write for example currency = "EUR"')
    if not (len(currency) == 3 and currency.isascii() and currency.isalpha()):
        raise top.refuse("currency", f"is no currency: {currency!r}; give its three letters: EUR")
    cooling = top.number("cooling_factor")
    if cooling is not None and cooling < 1:
        raise top.refuse("cooling_factor", "is total power over machine power: 1 or more")
    use = top.table("use", _USE)
    lifetime = use.number("lifetime_months", above_zero=True) if use else None
    machines = top.table("machines")
    if machines is None or not machines.values:
        raise top.refuse(
            "machines", 'is missing; write [machines."LABEL"] with the label of a run, and a price'
        )
    return Prices(
        currency=currency.upper(),
        electricity_per_kwh=top.number("electricity_per_kwh"),
        cooling_factor=1.0 if cooling is None else cooling,
        lifetime_months=lifetime or _LIFETIME_MONTHS,
        is_lifetime_assumed=lifetime is None,
        use=_use(use) if use else None,
        machines={label: _price(machines, label) for label in machines.values},
    )


def _use(table: _Table) -> Use | None:
    hours = table.number("hours_per_month", above_zero=True)
    jobs = table.number("jobs_at_once", above_zero=True)
    if hours is None:
        return None
    if hours > 24 * 31:
        raise table.refuse("hours_per_month", "is more than a month has: at most 744")
    if jobs is not None and jobs != int(jobs):
        raise table.refuse("jobs_at_once", "is not a whole number; give one")
    return Use(hours, int(jobs or 1))


def _price(machines: _Table, label: str) -> Price:
    table = machines.table(label, _MACHINE)
    assert table is not None
    table = _Table(table.path, f"machines.{label}", table.values, _MACHINE)
    purchase = table.number("purchase", above_zero=True)
    hourly = table.number("hourly", above_zero=True)
    host = table.number("host")
    if purchase is None and hourly is None:
        raise table.refuse("", "has no price; give purchase or hourly")
    if purchase is None and host is not None:
        raise table.refuse("host", "is a part of a purchase; give purchase, or leave it out")
    return Price(
        purchase=None if purchase is None else purchase + (host or 0.0),
        hourly=hourly,
        as_of=table.text("as_of"),
        source=table.text("source"),
    )
