import math
import random
import statistics
from collections.abc import Callable, Iterator
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import CaseError
from bench.measuring.sampling import (
    LONG_CALL_SECONDS,
    MIN_SAMPLE_SECONDS,
    MOST_SAMPLES,
    Budget,
    Stopwatch,
    autocorrelation,
    choose_calls,
    choose_visits,
    is_steady,
    relative_half_width,
    take_samples,
    warm_up,
)
from tests.fakes import FakeClock, FakeCpu, FakeDevice

SHORT = Budget(warmup_seconds=0.05, warmup_cap_seconds=0.5, sampling_seconds=0.2)


def watch(device: FakeDevice, *durations: float) -> Stopwatch:
    """Time calls that take these durations, over and over."""
    return watch_all(device, cycle(durations))


def watch_all(device: FakeDevice, durations: Iterator[float]) -> Stopwatch:
    return Stopwatch(device, lambda: device.launch(next(durations)), device.clock)


def measured(stopwatch: Stopwatch, budget: Budget = SHORT) -> tuple[float, int]:
    """Return the median and the calls per sample, as one block comes to them."""
    calls = choose_calls(warm_up(stopwatch, budget).estimate)
    samples = take_samples(stopwatch, calls, budget.sampling_seconds)
    return statistics.median(samples), calls


KINDS = [FakeCpu, lambda: FakeDevice(launch_seconds=0.2e-6)]


@pytest.mark.parametrize("kind", KINDS, ids=["synchronous", "asynchronous"])
@pytest.mark.parametrize("seconds", [1e-6, 30e-6, 1e-3, 7e-3, 15e-3, 200e-3, 1.5, 10.0])
def test_a_known_duration_comes_back(kind: Callable[[], FakeDevice], seconds: float) -> None:
    median, calls = measured(watch(kind(), seconds))
    assert abs(median - seconds) <= 0.01 * seconds + 1e-6
    assert calls * median >= MIN_SAMPLE_SECONDS


def test_reading_the_clock_is_a_thousandth_of_a_sample_at_most() -> None:
    device = FakeCpu(FakeClock(cost=1e-6))
    median, _ = measured(watch(device, 2e-6))
    assert median == pytest.approx(2e-6, rel=1e-3)


@settings(deadline=None)
@given(st.floats(1e-9, 20.0))
def test_a_sample_has_the_fewest_calls_in_powers_of_two_that_last_long_enough(
    estimate: float,
) -> None:
    calls = choose_calls(estimate)
    assert calls & (calls - 1) == 0
    assert calls * estimate >= MIN_SAMPLE_SECONDS * (1 - 1e-12)
    assert calls == 1 or calls / 2 * estimate < MIN_SAMPLE_SECONDS


@pytest.mark.parametrize("seconds", [1e-6, 370e-6, 1.3e-3, 33e-3])
def test_a_coarse_clock_errs_by_a_tick_in_a_sample_at_most(seconds: float) -> None:
    device = FakeCpu(FakeClock(resolution=1e-3))
    median, calls = measured(watch(device, seconds))
    assert abs(median - seconds) * calls <= 1e-3 + 1e-9


def test_the_first_slow_calls_are_warmed_away() -> None:
    slow_then_steady = iter([*[0.02] * 5, *[0.001] * 10_000])
    stopwatch = watch_all(FakeCpu(), slow_then_steady)
    warmed = warm_up(stopwatch, SHORT)
    assert warmed.steady
    assert stopwatch.calls > 5
    assert warmed.estimate == pytest.approx(0.001, rel=1e-3)


def test_the_warm_up_lasts_as_long_as_it_should() -> None:
    device = FakeCpu()
    warm_up(watch(device, 1e-3), Budget(warmup_seconds=0.4))
    assert 0.4 <= device.clock.now < 0.45


def test_a_case_that_gets_slower_with_each_call_is_not_steady() -> None:
    slower = (0.001 * 1.01**number for number in range(100_000))
    stopwatch = watch_all(FakeCpu(), slower)
    assert not warm_up(stopwatch, Budget()).steady
    assert 2.0 <= stopwatch.clock() < 2.5, "it gives up at its cap"


def test_a_case_that_settles_late_is_steady_in_the_end() -> None:
    settling = (0.001 * max(1.0, 3 - number / 100) for number in range(100_000))
    warmed = warm_up(watch_all(FakeCpu(), settling), Budget())
    assert warmed.steady
    assert warmed.estimate == pytest.approx(0.001, rel=0.02)


def test_a_call_over_a_second_warms_up_once() -> None:
    stopwatch = watch(FakeCpu(), 1.01)
    assert warm_up(stopwatch, Budget(warmup_seconds=5.0)).steady
    assert stopwatch.calls == 1


def test_a_long_call_warms_up_for_the_time_given_whether_it_is_steady_or_not() -> None:
    stopwatch = watch(FakeCpu(), 0.2, 0.3)
    assert warm_up(stopwatch, Budget(warmup_seconds=0.5)).steady
    assert stopwatch.calls == 2


@settings(deadline=None)
@given(st.floats(0.011, 5.0), st.floats(0.05, 4.0))
def test_there_are_as_many_samples_as_leave_room_for_one_more_and_one_at_least(
    seconds: float, given: float
) -> None:
    device = FakeCpu(FakeClock(cost=0.0))
    samples = take_samples(watch(device, seconds), 1, given)
    assert len(samples) == 1 or (len(samples) + 1) * seconds <= given * (1 + 1e-9)
    assert len(samples) == MOST_SAMPLES or (len(samples) + 2) * seconds > given * (1 - 1e-9)


def test_there_is_an_end_to_the_samples() -> None:
    assert len(take_samples(watch(FakeCpu(), 0.01), 1, math.inf)) == MOST_SAMPLES


def test_one_slow_sample_in_twenty_moves_the_median_by_less_than_a_percent() -> None:
    noise = random.Random(2)
    durations = (
        noise.gauss(0.012, 0.0001) * (10 if number % 20 == 7 else 1) for number in range(10_000)
    )
    samples = take_samples(watch_all(FakeCpu(), durations), 1, 1.0)
    assert sum(sample > 0.1 for sample in samples) >= 1, "nothing is dropped"
    assert statistics.median(samples) == pytest.approx(0.012, rel=0.01)


def test_an_outlier_does_not_pass_for_a_long_call() -> None:
    durations = cycle([0.02] * 17 + [0.2])
    assert len(take_samples(watch_all(FakeCpu(), durations), 1, 1.0)) >= 20


@given(st.floats(1e-3, 20.0), st.floats(0.05, 4.0), st.integers(1, 12))
def test_visits_are_as_many_as_leave_two_samples_to_each(
    seconds: float, given: float, most: int
) -> None:
    visits = choose_visits(seconds, Budget(sampling_seconds=given, visits=most))
    assert 1 <= visits <= most
    assert visits == 1 or 2 * seconds * visits <= given * (1 + 1e-9)
    assert visits == 1 or seconds < LONG_CALL_SECONDS


# 101 to 121 with neighbours unlike each other: the median is the 11th, 111, and the 95% interval
# of 21 samples goes from the 6th to the 16th.
APART = [value for pair in zip(range(101, 111), range(121, 111, -1), strict=True) for value in pair]
APART.append(111)


def test_the_interval_goes_from_the_sixth_to_the_sixteenth_of_21_samples() -> None:
    assert sorted(APART) == list(range(101, 122))
    assert relative_half_width(APART) == pytest.approx((116 - 106) / 2 / 111)


def test_samples_that_resemble_their_neighbours_widen_the_interval() -> None:
    # In ascending order the lag-1 autocorrelation is 660/770, and sqrt((1 + 6/7) / (1 - 6/7)) is
    # the root of 13.
    ascending = sorted(APART)
    assert autocorrelation(ascending) == pytest.approx(6 / 7)
    assert relative_half_width(ascending) == pytest.approx(math.sqrt(13) * 5 / 111)


def test_there_is_no_interval_below_six_samples() -> None:
    assert relative_half_width([1.0] * 5) == math.inf
    assert relative_half_width([1.0] * 6) == 0.0


@pytest.mark.parametrize("count", [20, 27, 40])
def test_the_interval_of_the_median_covers_the_truth(count: int) -> None:
    rng = random.Random(count)
    covered = 0
    for _ in range(1000):
        samples = [rng.lognormvariate(0.0, 0.1) for _ in range(count)]
        median = statistics.median(samples)
        covered += abs(median - 1.0) <= relative_half_width(samples) * median
    assert 930 <= covered <= 990


def test_the_interval_of_correlated_samples_covers_the_truth() -> None:
    rng = random.Random(3)
    covered = 0
    for _ in range(1000):
        level, samples = rng.gauss(0, 1), []
        for _ in range(40):
            level = 0.5 * level + math.sqrt(0.75) * rng.gauss(0, 1)
            samples.append(math.exp(0.05 * level))
        median = statistics.median(samples)
        covered += abs(median - 1.0) <= relative_half_width(samples) * median
    assert covered >= 920


def test_two_windows_are_steady_within_two_percent_of_the_median() -> None:
    flat = [1.0, 1.001, 0.999, 1.0, 1.002]
    assert is_steady(flat + [s * 1.015 for s in flat])
    assert not is_steady(flat + [s * 1.025 for s in flat])
    assert not is_steady([*flat, 1.0, 1.0, 1.0, 1.2, 1.2]), "a quartile moved"
    assert not is_steady(flat)


def side_stream(device: FakeDevice, late: Iterator[bool]) -> Stopwatch:
    return Stopwatch(
        device, lambda: device.launch(2e-3, "side" if next(late) else "main"), device.clock
    )


def test_work_that_nobody_waits_for_is_unsynchronised() -> None:
    stopwatch = side_stream(FakeDevice(), cycle([True]))
    stopwatch.sample(1)
    with pytest.raises(CaseError, match=r"worked on for 2 ms") as caught:
        stopwatch.require_drained()
    assert caught.value.status == "unsynchronised"


def test_a_single_late_return_is_forgiven_but_not_half_of_them() -> None:
    stopwatch = side_stream(FakeDevice(), iter([True, False, False, True, True]))
    for _ in range(3):
        stopwatch.sample(1)
    stopwatch.require_drained()
    for _ in range(2):
        stopwatch.sample(1)
    with pytest.raises(CaseError):
        stopwatch.require_drained()
