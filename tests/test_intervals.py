import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from bench.results.intervals import (
    MOST_PRIOR_FREEDOM,
    Center,
    Spread,
    common_spread,
    intervals,
    median_variance,
    shrink,
)

CASES = 16


def test_importing_the_module_imports_neither_numpy_nor_scipy() -> None:
    code = (
        "import sys, bench.results.intervals, bench.results.summary, bench.results.reading\n"
        "print({'numpy', 'scipy', 'pandas'} & set(sys.modules) or 'none')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "none"


@pytest.mark.parametrize("count", [*range(1, 13), 15, 20, 31])
def test_the_variance_of_a_median_is_that_of_normal_order_statistics(count: int) -> None:
    drawn = np.random.default_rng(count).normal(size=(200_000, count))
    assert median_variance(count) == pytest.approx(np.var(np.median(drawn, axis=1)), rel=0.02)


def of_medians(blocks: Mapping[Any, Sequence[float]]) -> dict[Any, Center]:
    """Return the intervals of blocks with a single sample each."""
    return intervals({key: [[median] for median in medians] for key, medians in blocks.items()})


def test_blocks_of_many_samples_are_known_better_than_their_median_alone() -> None:
    rng = np.random.default_rng(7)
    blocks = {case: np.exp(rng.normal(0, 0.02, 3)).tolist() for case in range(8)}
    one = of_medians(blocks)
    many = intervals({case: [[m] * 20 for m in blocks[case]] for case in blocks})
    for case, center in many.items():
        alone = one[case]
        assert center.high is not None
        assert alone.high is not None
        ratio = math.log(center.high / center.median) / math.log(alone.high / alone.median)
        assert ratio == pytest.approx(math.sqrt(1 / 3 / median_variance(3)))


@pytest.mark.parametrize("blocks", [3, 6])
def test_an_interval_from_samples_holds_what_a_repeat_prints(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    held = []
    for _ in range(150):
        # Blocks differ by 3%, samples in a block by 4%.
        logs, again = (
            rng.normal(size=(CASES, blocks, 1)) * 0.03 + rng.normal(size=(CASES, blocks, 20)) * 0.04
            for _ in range(2)
        )
        found = intervals(dict(enumerate(np.exp(logs).tolist())))
        for case, center in found.items():
            assert center.low is not None
            assert center.high is not None
            held.append(center.low <= np.median(np.exp(again[case])) <= center.high)
    assert 0.92 <= np.mean(held) <= 0.99


class Repeats:
    """Runs and their repeats, drawn; which intervals hold what the repeat printed."""

    def __init__(self, deviations: Sequence[float], blocks: int, runs: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        scale = np.array(deviations)[:, None]
        self.holds = np.zeros((runs, len(deviations)))
        self.width = np.zeros_like(self.holds)
        self.unpooled = np.zeros_like(self.holds)
        t = float(stdtrit(blocks - 1, 0.975)) * math.sqrt(2 * median_variance(blocks))
        for run in range(runs):
            logs, again = (rng.normal(size=(len(scale), blocks)) * scale for _ in range(2))
            found = of_medians(dict(enumerate(np.exp(logs).tolist())))
            repeat = np.median(np.exp(again), axis=1)
            for case, center in found.items():
                assert center.low is not None
                assert center.high is not None
                self.holds[run, case] = center.low <= repeat[case] <= center.high
                self.width[run, case] = math.log(center.high / center.median)
            self.unpooled[run] = t * logs.std(axis=1, ddof=1)


SPREAD = list(0.02 * np.exp(np.random.default_rng(3).normal(0, 0.7, CASES)))


@pytest.mark.parametrize("blocks", [3, 6])
@pytest.mark.parametrize("deviations", [[0.02] * CASES, SPREAD], ids=["alike", "unlike"])
def test_an_interval_holds_what_a_repeat_prints_in_95_of_100_runs_and_is_narrower_than_unpooled(
    deviations: Sequence[float], blocks: int
) -> None:
    repeats = Repeats(deviations, blocks, runs=300)
    assert 0.92 <= repeats.holds.mean() <= 0.99
    assert repeats.width.mean() < repeats.unpooled.mean()
    assert np.median(repeats.width) < (0.8 if blocks == 3 else 0.95) * np.median(repeats.unpooled)


@pytest.mark.parametrize("blocks", [3, 6])
def test_a_wild_case_keeps_its_own_width_and_leaves_the_quiet_ones_narrow(blocks: int) -> None:
    wild = Repeats([0.2, *[0.01] * (CASES - 1)], blocks, runs=300)
    quiet = Repeats([0.01] * CASES, blocks, runs=300)
    assert wild.holds[:, 0].mean() >= 0.92
    assert 0.92 <= wild.holds[:, 1:].mean() <= 0.99
    assert np.median(wild.width[:, 1:]) < 1.15 * np.median(quiet.width)


def test_two_wild_cases_do_not_hide_each_other() -> None:
    wild = Repeats([0.2, 0.2, *[0.01] * (CASES - 2)], blocks=3, runs=200)
    assert wild.holds[:, :2].mean() >= 0.92
    assert np.median(wild.width[:, 2:]) < 0.8 * np.median(wild.unpooled[:, 2:])


def test_equal_variances_are_pooled_as_far_as_is_allowed() -> None:
    drawn = np.random.default_rng(0).normal(scale=0.02, size=(2000, 6)).var(axis=1, ddof=1)
    common = common_spread([Spread(v, 5) for v in drawn])
    assert common.freedom > 0.8 * MOST_PRIOR_FREEDOM
    assert common.variance == pytest.approx(0.02**2, rel=0.05)


@pytest.mark.parametrize("freedom", [2.0, 4.0, 10.0])
@pytest.mark.parametrize("own", [2, 5])
def test_the_common_variance_and_its_freedom_are_found_again(freedom: float, own: int) -> None:
    rng = np.random.default_rng(1)
    true = 4e-4 * freedom / rng.chisquare(freedom, size=20_000)
    measured = true * rng.chisquare(own, size=20_000) / own
    common = common_spread([Spread(v, own) for v in measured])
    assert common.variance == pytest.approx(4e-4, rel=0.1)
    assert common.freedom == pytest.approx(freedom, rel=0.2)


def test_one_block_has_no_interval_and_does_not_touch_the_others() -> None:
    blocks = {"a": [1.0, 1.1, 1.2], "b": [2.0, 2.1, 2.3], "c": [3.0, 3.1, 3.3]}
    found = of_medians({**blocks, "one": [5.0]})
    assert found["one"] == Center(5.0, None, None)
    assert {key: found[key] for key in blocks} == of_medians(blocks)


def test_no_case_at_all_has_no_intervals() -> None:
    assert of_medians({}) == {}


@pytest.mark.parametrize("cases", [1, 2, 3])
def test_few_cases_stand_for_themselves(cases: int) -> None:
    medians = [[1.0, 1.01, 1.02], [2.0, 2.2, 2.4], [1.0, 1.5, 2.0]][:cases]
    for case, center in of_medians(dict(enumerate(medians))).items():
        logs = np.log(medians[case])
        reach = stdtrit(2, 0.975) * math.sqrt(2 * logs.var(ddof=1) * median_variance(3))
        assert center.high == pytest.approx(center.median * math.exp(reach))
        assert center.low == pytest.approx(center.median * math.exp(-reach))


def test_blocks_that_agree_exactly_have_an_interval_without_width() -> None:
    found = of_medians({case: [2.0, 2.0, 2.0] for case in range(5)})
    assert set(found.values()) == {Center(2.0, 2.0, 2.0)}


def test_a_case_whose_blocks_agree_by_chance_borrows_from_the_others() -> None:
    quiet = {i: [1.0, 1.0 + 0.01 * (i + 1), 1.0 - 0.01 * i] for i in range(8)}
    center = of_medians({**quiet, "lucky": [1.0, 1.0, 1.0]})["lucky"]
    assert center.low is not None
    assert center.low < 0.99


def test_an_interval_does_not_depend_on_the_unit_or_the_order() -> None:
    rng = np.random.default_rng(5)
    blocks = {i: np.exp(rng.normal(0, 0.01 * (i + 1), 4)).tolist() for i in range(6)}
    found = of_medians(blocks)
    scaled = of_medians({i: [1000 * m for m in blocks[i]] for i in reversed(blocks)})
    for case, center in found.items():
        assert center.low is not None
        assert scaled[case].low == pytest.approx(1000 * center.low)


def test_shrinking_never_claims_more_than_all_blocks_together_tell() -> None:
    spreads = [Spread(1e-4, 1)] * 4
    assert [s.freedom for s in shrink(spreads)] == [4, 4, 4, 4]


@given(st.lists(st.floats(1e-8, 1e-2), min_size=4, max_size=12), st.integers(1, 5))
def test_the_wilder_a_case_the_larger_its_variance_and_the_less_it_borrows(
    variances: list[float], own: int
) -> None:
    found = shrink([Spread(variance, own) for variance in sorted(variances)])
    for quieter, wilder in pairwise(found):
        assert quieter.variance <= wilder.variance * (1 + 1e-9)
        assert quieter.freedom >= wilder.freedom * (1 - 1e-9)


@given(
    st.dictionaries(
        st.integers(), st.lists(st.floats(5e-324, 1e12), min_size=1, max_size=6), max_size=8
    )
)
def test_whatever_the_times_an_interval_is_finite_positive_and_around_its_median(
    blocks: dict[int, list[float]],
) -> None:
    for case, center in of_medians(blocks).items():
        assert (center.low is None) == (center.high is None) == (len(blocks[case]) == 1)
        if center.low is not None and center.high is not None:
            assert 0 < center.low <= center.median <= center.high <= 1e12
