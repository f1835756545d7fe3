import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.comparing.crossover import Crossover, crossover
from bench.comparing.sentences import sentences
from bench.comparing.speedup import Ratio
from bench.comparing.sweeps import sweeps
from tests.runs import gpu_matmul, layer

SIZES = [2.0**power for power in range(6, 14)]


def sure(value: float) -> Ratio:
    return Ratio(value, value, value)


def noisy(value: float, factor: float = 1.1) -> Ratio:
    return Ratio(value, value / factor, value * factor)


def found(*ratios: float, factor: float = 1.1) -> Crossover:
    """Return the crossover of these ratios at the sizes 1, 2, 4 and so on."""
    sizes = [2.0**i for i in range(len(ratios))]
    return crossover(sizes, [noisy(value, factor) for value in ratios])


@given(st.floats(80, 8000), st.floats(0.2, 4), st.randoms(use_true_random=False))
def test_the_crossing_of_power_laws_is_exact_in_any_order_of_the_sizes(
    truth: float, power: float, random: Any
) -> None:
    sizes = random.sample(SIZES, len(SIZES))
    result = crossover(sizes, [sure((n / truth) ** power) for n in sizes])
    assert result.kind == "from"
    assert result.at == pytest.approx(truth, rel=1e-9)
    assert result.low == pytest.approx(truth)
    assert result.high == pytest.approx(truth)
    assert (result.smallest, result.largest) == (64, 8192)
    # Where the GPU loses its lead, the same size is its end.
    falling = crossover(sizes, [sure((truth / n) ** power) for n in sizes])
    assert falling.kind == "until"
    assert falling.at == pytest.approx(truth, rel=1e-9)


@given(st.floats(1e-7, 1e-4), st.floats(1e-6, 1e-2), st.floats(1e9, 1e12), st.floats(2, 1e3))
def test_with_a_launch_on_both_sides_the_crossing_lies_between_the_right_neighbours(
    call: float, launch: float, rate: float, faster: float
) -> None:
    assume(launch > 1.5 * call)

    def speedup(n: float) -> float:
        return (call + 2 * n**3 / rate) / (launch + 2 * n**3 / (rate * faster))

    truth = ((launch - call) / (2 / rate - 2 / (rate * faster))) ** (1 / 3)
    assume(70 < truth < 8000)
    result = crossover(SIZES, [sure(speedup(n)) for n in SIZES])
    assert result.kind == "from"
    assert result.at is not None
    left, right = max(n for n in SIZES if n <= truth), min(n for n in SIZES if n > truth)
    assert left <= result.at <= right


@given(
    st.floats(70, 8000),
    st.floats(0.2, 4),
    st.lists(st.floats(-1, 1), min_size=8, max_size=8),
    st.floats(1.0, 2.0),
)
def test_the_truth_lies_in_the_interval_while_the_noise_lies_in_those_of_the_ratios(
    truth: float, power: float, noise: list[float], reach: float
) -> None:
    seen = [(n / truth) ** power * reach**e for n, e in zip(SIZES, noise, strict=True)]
    result = crossover(SIZES, [noisy(value, reach * (1 + 1e-9)) for value in seen])
    assert result.doubt == "between"
    assert result.low is None or result.low <= truth * (1 + 1e-9)
    assert result.high is None or result.high >= truth * (1 - 1e-9)
    if result.at is not None:
        assert (result.low or 0) <= result.at <= (result.high or math.inf)


@given(
    st.lists(st.floats(0.01, 100) | st.just(1.0), min_size=1, max_size=8),
    st.floats(1.0, 3.0),
)
def test_the_ranges_are_where_the_gpu_is_faster_and_nowhere_else(
    ratios: list[float], reach: float
) -> None:
    result = found(*ratios, factor=reach)
    for i, value in enumerate(ratios):
        inside = any(start <= 2.0**i <= end for start, end in result.faster)
        strictly = any(start < 2.0**i < end for start, end in result.faster)
        assert inside or value <= 1
        assert not strictly or value >= 1
    assert all(1 <= start <= end <= 2.0 ** len(ratios) for start, end in result.faster)
    assert (result.kind == "never") == all(value <= 1 for value in ratios)
    never_slower = all(value >= 1 for value in ratios) and max(ratios) > 1
    assert (result.kind == "always") == never_slower


@pytest.mark.parametrize(
    ("ratios", "kind", "at"),
    [
        ([0.5, 2], "from", math.sqrt(2)),
        ([2, 0.5], "until", math.sqrt(2)),
        ([2, 3, 4], "always", None),
        ([0.5, 0.6], "never", None),
        ([0.5, 2, 0.5], "several", None),
        ([2, 0.5, 2], "several", None),
        ([3], "always", None),
        ([0.3], "never", None),
    ],
)
def test_the_kinds_of_a_crossover(ratios: list[float], kind: str, at: float | None) -> None:
    result = found(*ratios)
    assert result.kind == kind
    assert result.at == (None if at is None else pytest.approx(at))


@pytest.mark.parametrize(
    ("ratios", "kind", "at"),
    [
        ([0.5, 1, 2], "from", 2.0),
        ([2, 1, 0.5], "until", 2.0),
        # From where it is no longer slower.
        ([0.5, 1, 1, 2], "from", 2.0),
        # Touching is no crossing.
        ([2, 1, 2], "always", None),
        ([2, 1, 1, 2], "always", None),
        ([0.5, 1, 0.5], "never", None),
        ([1, 2], "always", None),
        ([0.5, 1], "never", None),
        # As fast is not faster.
        ([1, 1], "never", None),
        ([1], "never", None),
    ],
)
def test_a_speedup_of_exactly_1_is_a_crossing_only_between_slower_and_faster(
    ratios: list[float], kind: str, at: float | None
) -> None:
    assert (found(*ratios).kind, found(*ratios).at) == (kind, at)


def test_several_crossings_are_told_by_their_ranges() -> None:
    result = found(0.5, 2, 0.5, 2)
    root = math.sqrt(2)
    assert [pytest.approx(r) for r in result.faster] == [(root, 2 * root), (4 * root, 8)]
    assert result.low == pytest.approx(2 ** (math.log(2 / 1.1) / math.log(4)))


def test_the_ends_of_the_interval_are_where_the_curves_of_the_ends_cross() -> None:
    ratios = [Ratio(0.25, 0.25 / 2, 0.25 * 1.1), Ratio(4.0, 4.0 / 2, 4.0 * 1.1)]
    result = crossover([1, 16], ratios)
    assert result.at == pytest.approx(4.0)
    # On logarithmic axes both are shifted lines of slope 1.
    assert result.low == pytest.approx(4.0 / 1.1)
    assert result.high == pytest.approx(8.0)


def test_an_interval_may_reach_beyond_the_sizes_measured() -> None:
    below = found(0.99, 3)
    assert (below.kind, below.low, below.doubt) == ("from", None, "between")
    assert below.high is not None
    above = found(0.3, 1.05)
    assert (above.kind, above.high, above.doubt) == ("from", None, "between")
    assert above.low is not None


def test_always_and_never_say_where_they_are_not_certain() -> None:
    certain = found(2, 3)
    assert (certain.low, certain.high, certain.doubt) == (None, None, "nowhere")
    small = found(1.05, 2)
    assert (small.kind, small.low, small.doubt) == ("always", None, "between")
    assert small.high == pytest.approx(2 ** (math.log(1.1 / 1.05) / math.log(2 / 1.05)))
    large = found(0.3, 0.95)
    assert (large.kind, large.high, large.doubt) == ("never", None, "between")
    assert large.low is not None
    assert 1 < large.low < 2
    middle = found(2, 1.05, 2)
    assert middle.low is not None
    assert middle.high is not None
    assert 1 < middle.low < 2 < middle.high < 4
    everywhere = found(1.05, 0.95, factor=1.2)
    assert (everywhere.low, everywhere.high, everywhere.doubt) == (None, None, "between")


def test_without_intervals_a_crossover_is_known_and_its_interval_is_not() -> None:
    result = crossover([1, 4], [Ratio(0.5, None, None), Ratio(2.0, 1.9, 2.1)])
    assert result.kind == "from"
    assert result.at == pytest.approx(2.0)
    assert (result.low, result.high, result.doubt) == (None, None, "unknown")


def test_the_ratios_of_a_size_that_comes_twice_are_averaged() -> None:
    twice = crossover([1, 4, 1], [sure(0.25), sure(2.0), sure(1.0)])
    assert twice == crossover([1, 4], [sure(0.5), sure(2.0)])


def timed(speedup: Callable[[int], float], sizes: list[int]) -> list[str]:
    """Return the sentences about GPU cases of this speedup, alone and with transfers."""
    cases = []
    for n in sizes:
        cpu = gpu_matmul(n, "numpy", end_to_end_seconds=None)
        gpu = gpu_matmul(n, "cupy", end_to_end_seconds=None)
        assert cpu.seconds is not None
        assert gpu.seconds is not None
        for part in ("median", "low", "high"):
            setattr(gpu.seconds, part, getattr(cpu.seconds, part) / speedup(n))
        cases += [cpu, gpu]
    return sentences(cases)


@pytest.mark.parametrize(
    ("speedup", "words"),
    [
        (lambda n: 5.0, "always beats the best CPU (numpy) from n = 64, the smallest measured;"),
        (lambda n: 0.2, "never beats the best CPU (numpy) up to n = 1024;"),
        (lambda n: n / 200, "cupy beats the best CPU (numpy) from n = 200 [194, 206];"),
        (lambda n: 200 / n, "cupy beats the best CPU (numpy) up to n = 200 [194, 206];"),
        (lambda n: n / 64.5, "from n = 65 [below 64, 67];"),
        (lambda n: n / 1020, "from n = 1020 [992, above 1024];"),
        (lambda n: n / 63.5, "n = 64, the smallest measured (not certain below 66);"),
        (lambda n: n / 1030, "never beats the best CPU (numpy) up to n = 1024 (not certain above"),
        (lambda n: 1.01, "from n = 64, the smallest measured (not certain at any size);"),
        (
            lambda n: 4 if n in (64, 512) else 0.25,
            "beats the best CPU (numpy) from n = 64 to 91 and from n = 362 to 724;",
        ),
        (
            lambda n: 1.01 if n == 256 else 4,
            "the smallest measured (not certain from 254 to 258);",
        ),
    ],
)
def test_a_crossover_in_words(speedup: Callable[[int], float], words: str) -> None:
    (said,) = timed(speedup, [64, 128, 256, 512, 1024])
    assert words in said


def test_a_sweep_is_of_one_dimension_and_a_named_one_of_three_batches() -> None:
    two = [layer("1", batch=batch) for batch in (1, 8)]
    assert sweeps(two) == []
    (named,) = sweeps([*two, layer("1", batch=64), layer("2", batch=1)])
    assert (named.name, named.dimension, len(named.measurements)) == ("tiny.1", "batch", 3)
    square = [gpu_matmul(n, "numpy") for n in (64, 128)]
    (plain,) = sweeps(square)
    assert (plain.name, plain.dimension, list(plain.measurements)) == ("", "n", square)
    assert sweeps([gpu_matmul(n, "numpy", sizes={"n": n, "k": n}) for n in (64, 128)]) == []


def test_rounding_carries_no_crossing_out_of_the_sizes_or_of_its_interval() -> None:
    result = crossover([7437, 7855], [sure(1 / 3), sure(1 + 2.3e-16)])
    assert result.at is not None
    assert result.at <= 7855
    # Intervals of a single float's width.
    first = Ratio(0.1557968413378252, 0.1557968413378252, 0.15579684133782523)
    last = Ratio(11.8986333904154, 11.898633390415402, 11.898633390415403)
    narrow = crossover([64, 128], [first, last])
    assert narrow.at is not None
    assert narrow.doubt == "between"
    assert (narrow.low or 0) <= narrow.at <= (narrow.high or math.inf)
