import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.units import (
    count,
    count_interval,
    duration,
    grouped,
    rate,
    seconds,
    seconds_interval,
    significant,
    size,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.2345, "1.23"),
        (12.345, "12.3"),
        (123.45, "123"),
        (1234.5, "1234"),
        (0.012345, "0.0123"),
        (9.996, "10.0"),
        (99.96, "100"),
        (-0.5, "-0.500"),
        (0, "0"),
        (1e22, "10000000000000000000000"),
        (math.inf, "inf"),
    ],
)
def test_significant_digits_are_kept_without_an_exponent(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (1.5, "1.50 s"),
        (1234.5, "1234 s"),
        (0.00123, "1.23 ms"),
        (4.5e-6, "4.50 us"),
        (0.25e-9, "0.250 ns"),
        (0.0009996, "1.00 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (0.0, "0 ns"),
    ],
)
def test_a_duration_has_the_unit_that_leaves_it_at_least_1(value: float | None, text: str) -> None:
    assert seconds(value) == text


@given(st.floats(1e-9, 1e3))
def test_a_duration_never_shows_1000_of_a_unit_nor_loses_a_percent(value: float) -> None:
    number, unit = seconds(value).split()
    assert 1 <= float(number) < 1000 or unit == "s"
    scale = {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]
    assert float(number) * scale == pytest.approx(value, rel=0.0051)


def test_both_ends_of_an_interval_have_the_unit_of_the_upper_one() -> None:
    assert seconds_interval(0.0009, 0.0011) == "[0.900, 1.10] ms"
    assert seconds_interval(None, None) == "-"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (197e9, "197 GFLOP/s"),
        (1.5e15, "1.50 PFLOP/s"),
        (999.7e9, "1.00 TFLOP/s"),
        (12.0, "12.0 FLOP/s"),
        (0.5, "0.500 FLOP/s"),
    ],
)
def test_a_rate_has_a_decimal_prefix(value: float | None, text: str) -> None:
    assert rate(value, "FLOP") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (192 * 2**20, "192 MiB"),
        (2**20 - 1, "1.00 MiB"),
        (1000 * 2**10, "1000 KiB"),
        (2**53, "8192 TiB"),
    ],
)
def test_bytes_have_a_binary_prefix(value: int | None, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3599.6, "1 h"),
        (7500, "2 h 5 min"),
        (90_000, "25 h"),
    ],
)
def test_a_waiting_time_is_written_for_somebody_who_waits(value: float, text: str) -> None:
    assert duration(value) == text


@given(st.floats(0, 1e6))
def test_a_waiting_time_says_at_most_59_minutes_and_seconds(value: float) -> None:
    assert all(int(part) < 60 for part in re.findall(r"(\d+) (?:s|min)\b", duration(value)))


def test_a_count_has_a_prefix_or_its_thousands_apart() -> None:
    written = [(count(v), grouped(v)) for v in (0.5, 12.34, 999.6, 12345.0, 1.5e6)]
    assert written == [
        ("0.500", "0.500"),
        ("12.3", "12.3"),
        ("1.00 k", "1,000"),
        ("12.3 k", "12,300"),
        ("1.50 M", "1,500,000"),
    ]
    assert count_interval(980, 1020) == "[0.980, 1.02] k"
    assert count_interval(3, 5) == "[3.00, 5.00]"
