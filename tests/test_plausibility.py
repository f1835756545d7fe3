from typing import Any

import pytest

from bench.measuring.plausibility import (
    CACHE_BYTES,
    Ceiling,
    best_of,
    best_seconds,
    ceiling,
    device_name,
    measure_peaks,
    read_canary,
    why_implausible,
)
from tests.fakes import FakeCpu, FakeDevice

PEAK = Ceiling(flops=1e12, bytes=100e9, source="measured")
FLOPS = 2 * 1024**3
AT_THE_PEAK = FLOPS / 1e12


def test_the_true_flops_pass_and_ten_times_as_many_are_refused() -> None:
    assert why_implausible(AT_THE_PEAK, FLOPS, None, PEAK) is None
    assert why_implausible(AT_THE_PEAK, 10 * FLOPS, None, PEAK) == (
        "1e+04 GFLOP/s, but this device's peak is 1000 (measured): the declared FLOPs are wrong,"
        " or the work was not done in full"
    )


def test_a_good_day_is_no_offence() -> None:
    assert why_implausible(AT_THE_PEAK / 1.09, FLOPS, None, PEAK) is None
    assert why_implausible(AT_THE_PEAK / 1.11, FLOPS, None, PEAK) is not None


def test_memory_is_judged_only_where_no_cache_can_help() -> None:
    assert why_implausible(1e-9, None, CACHE_BYTES, PEAK) is None
    large = 2 * CACHE_BYTES
    assert why_implausible(large / 100e9, None, large, PEAK) is None
    why = why_implausible(large / 200e9, None, large, PEAK)
    assert why == "200 GB/s, but this device's memory moves 100 (measured)"


def test_what_is_not_known_is_not_judged() -> None:
    nothing = Ceiling(None, None, "measured")
    assert why_implausible(1e-12, FLOPS, 2 * CACHE_BYTES, nothing) is None
    assert why_implausible(1e-12, None, None, PEAK) is None


def test_the_ceiling_is_the_best_of_all_backends_of_the_device() -> None:
    peaks = [{"float32": 2e11, "bytes": 5e10}, {"float32": 3e11, "bytes": 4e10}, {"float64": 1e11}]
    assert ceiling(peaks, "float32", "cpu") == Ceiling(3e11, 5e10, "measured")
    assert ceiling(peaks, "float16", "cpu") == Ceiling(None, 5e10, "measured")
    assert ceiling([], "float32", "cpu") == Ceiling(None, None, "measured")


def test_a_data_sheet_counts_where_it_promises_more() -> None:
    cool: list[dict[str, float]] = [{"float32": 40e12, "bytes": 2e12}]
    assert ceiling(cool, "float32", "NVIDIA H200") == Ceiling(67e12, 4.8e12, "data sheet")
    fast: list[dict[str, float]] = [{"float32": 70e12, "bytes": 5e12}]
    assert ceiling(fast, "float32", "NVIDIA H200") == Ceiling(70e12, 5e12, "measured")
    assert ceiling(cool, "float32", "NVIDIA Unheard Of").source == "measured"


def test_peaks_are_those_of_the_device() -> None:
    device = FakeDevice(flops_per_second=3e9, bytes_per_second=7e10)
    peaks = measure_peaks(device, ["float32", "float64", "tf32"], device.clock)
    # The launch takes 3 us beside 0.17 ms of work.
    assert peaks == {
        "float32": pytest.approx(3e9, rel=0.03),
        "float64": pytest.approx(1.5e9, rel=0.03),
        "tf32": pytest.approx(3e9, rel=0.03),
        "bytes": pytest.approx(7e10, rel=0.03),
        "call": pytest.approx(3e-6, rel=0.03),
        "link_bytes": pytest.approx(7e10, rel=0.03),
        "link_call": pytest.approx(64 / 7e10 + device.clock.cost, rel=0.03),
    }
    assert device.used == ["float32", "float64", "tf32"]


def test_a_peak_is_the_best_of_several_calls_after_one_that_warms_up() -> None:
    device = FakeDevice(launch_seconds=0.0)
    durations = iter([0.001, 0.5, 0.3, 0.4])
    best = best_seconds(device, lambda: device.launch(next(durations)), device.clock)
    assert best == pytest.approx(0.3, rel=1e-3)
    assert next(durations, None) is None, "at least three"


def test_a_cpu_has_no_link() -> None:
    device = FakeCpu()
    assert set(measure_peaks(device, ["float32"], device.clock)) == {"float32", "bytes", "call"}


def test_of_two_readings_the_higher_rate_and_the_shorter_time_count() -> None:
    one, other = {"float32": 2.0, "call": 1.0, "bytes": 5.0}, {"float32": 3.0, "call": 2.0}
    assert best_of(one, other) == {"float32": 3.0, "call": 1.0, "bytes": 5.0}


def test_the_canary_is_not_moved_by_a_single_hiccup() -> None:
    device = FakeDevice()
    quiet = read_canary(device, device.clock)
    assert quiet["product"] == pytest.approx(2 * 512**3 / 1e12, rel=0.05)
    original = device.launch
    calls: list[Any] = []

    def hiccup(seconds: float, stream: str = "main") -> None:
        calls.append(seconds)
        original(seconds * (50 if len(calls) == 6 else 1), stream)

    device.launch = hiccup  # type: ignore[method-assign]
    assert read_canary(device, device.clock)["product"] == pytest.approx(quiet["product"])


def test_a_device_has_the_name_that_its_backend_gives() -> None:
    assert device_name({"gpu": "NVIDIA H200", "version": "2"}) == "NVIDIA H200"
    assert device_name({"version": "2"}) == "cpu"
