"""The gate's verdicts: what holds for any times, and the error rates where the truth is known."""

import importlib.util
import math
import random
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from bench.comparing.gate import Pair, Pairs, flagged, judge
from bench.comparing.gate_document import describe
from bench.comparing.signed_rank import bounds, p_above, walsh_averages
from bench.comparing.verdicts import CaseVerdict, GateSettings, Judgement, Key
from tests.commands import ROOT

if TYPE_CHECKING:
    from evidence import gate_synthetic as synthetic
else:
    # A script is no part of any package.
    _path = ROOT / "evidence" / "gate_synthetic.py"
    _spec = importlib.util.spec_from_file_location("gate_synthetic", _path)
    synthetic = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(synthetic)

CASE: Key = ("matmul", "matmul/n=64/call/float32/numpy")
OTHER: Key = ("matmul", "matmul/n=128/call/float32/numpy")
CONTROL: Key = ("matmul", "matmul/n=64/call/float32/numpy+control=base")
DEFAULT = GateSettings()

seconds = st.floats(1e-6, 1e3)
some_pairs = st.lists(st.tuples(seconds, seconds), min_size=1, max_size=12)
near_pairs = st.lists(
    st.tuples(st.floats(0.9e-3, 1.1e-3), st.floats(0.9e-3, 1.3e-3)), min_size=1, max_size=14
)


def pairs(count: int, change: float = 0.0, spread: float = 0.01, seed: int = 0) -> list[Pair]:
    rng = random.Random(f"{seed} {count} {change}")
    return [
        (1e-3, 1e-3 * math.exp(math.log1p(change) + rng.gauss(0, spread))) for _ in range(count)
    ]


def verdict(first: Sequence[Pair], fresh: Sequence[Pair] | None = None) -> CaseVerdict:
    found = judge({CASE: first}, DEFAULT, None if fresh is None else {CASE: fresh})
    return found.cases[0]


def exchanged(found: Sequence[Pair]) -> list[Pair]:
    return [(head, base) for base, head in found]


MIRROR = {
    "REGRESSED": "IMPROVED",
    "IMPROVED": "REGRESSED",
    "SAME": "SAME",
    "INCONCLUSIVE": "INCONCLUSIVE",
}


@given(some_pairs | near_pairs, st.none() | near_pairs)
def test_exchanged_sides_get_the_mirrored_verdict(
    first: list[Pair], fresh: list[Pair] | None
) -> None:
    one = verdict(first, fresh)
    other = verdict(exchanged(first), None if fresh is None else exchanged(fresh))
    assert other.verdict == MIRROR[one.verdict]
    assert one.change is not None
    assert other.change is not None
    assert math.log1p(other.change) == pytest.approx(-math.log1p(one.change), rel=1e-6, abs=1e-9)
    assert other.sees == one.sees or other.sees == pytest.approx(one.sees)


@given(near_pairs, near_pairs, st.floats(1e-3, 1e3))
def test_the_unit_of_time_does_not_matter(
    first: list[Pair], fresh: list[Pair], factor: float
) -> None:
    scaled = [[(base * factor, head * factor) for base, head in part] for part in (first, fresh)]
    one, other = verdict(first, fresh), verdict(*scaled)
    assert one.verdict == other.verdict
    assert one.change == pytest.approx(other.change, abs=1e-9)


@given(near_pairs, near_pairs, near_pairs, st.randoms(use_true_random=False))
def test_the_order_of_pairs_and_cases_does_not_matter(
    one: list[Pair], two: list[Pair], fresh: list[Pair], rng: random.Random
) -> None:
    def shuffled(parts: Pairs) -> Pairs:
        keys = list(parts)
        rng.shuffle(keys)
        return {key: rng.sample(list(parts[key]), len(parts[key])) for key in keys}

    first: Pairs = {CASE: one, OTHER: two}
    second: Pairs = {CASE: fresh, OTHER: fresh}
    assert repr(judge(first, DEFAULT, second)) == repr(
        judge(shuffled(first), DEFAULT, shuffled(second))
    )


@given(some_pairs, st.none() | some_pairs, st.booleans())
def test_any_times_get_a_verdict_and_an_exit_code(
    first: list[Pair], fresh: list[Pair] | None, strict: bool
) -> None:
    asked = GateSettings(strict=strict, sentinels=frozenset({CONTROL}))
    stage: Pairs = {CASE: first, CONTROL: first}
    found = judge(stage, asked, None if fresh is None else {CASE: fresh, CONTROL: fresh})
    assert found.exit_code in (0, 1, 3)
    assert "cases measured on both sides" in found.sentence
    assert (found.void is not None) == (found.sentinels[0].verdict in ("REGRESSED", "IMPROVED"))


def test_a_slower_case_is_regressed_and_a_faster_one_improved() -> None:
    slower = verdict(pairs(6, 0.10), pairs(14, 0.10))
    assert slower.verdict == "REGRESSED"
    assert slower.change == pytest.approx(0.10, abs=0.01)
    assert slower.low is not None
    assert slower.change is not None
    assert slower.high is not None
    assert 0.08 < slower.low < slower.change < slower.high < 0.12
    faster = judge({CASE: pairs(6, -0.10)}, DEFAULT, {CASE: pairs(14, -0.10)})
    assert faster.cases[0].verdict == "IMPROVED"
    assert faster.exit_code == 0


def test_fresh_pairs_alone_decide() -> None:
    assert verdict(pairs(6, 0.30), pairs(14, 0.0)).verdict == "SAME"
    assert verdict(pairs(6, 0.30), []).verdict == "INCONCLUSIVE"
    unsuspected = judge({CASE: pairs(6, 0.0)}, DEFAULT, {CASE: pairs(14, 0.30)})
    assert flagged({CASE: pairs(6, 0.0)}, DEFAULT) == []
    assert unsuspected.cases[0].verdict == "SAME"


def test_a_real_change_below_the_threshold_passes_and_is_told() -> None:
    found = verdict(pairs(6, 0.035, 0.002), pairs(14, 0.035, 0.002))
    assert found.verdict == "SAME"
    assert found.reason == "changed, by less than 5%"


def test_constant_times_are_the_same() -> None:
    found = verdict([(1e-3, 1e-3)] * 6)
    assert (found.verdict, found.change) == ("SAME", 0.0)
    assert flagged({CASE: [(1e-3, 1e-3)] * 6}, DEFAULT) == []


def test_times_in_ticks_of_a_coarse_clock_are_judged() -> None:
    def ticks(found: Sequence[Pair]) -> list[Pair]:
        return [(round(base, 4), round(head, 4)) for base, head in found]

    assert verdict(ticks(pairs(6, 0.0)), []).verdict == "SAME"
    assert verdict(ticks(pairs(6, 0.2)), ticks(pairs(14, 0.2))).verdict == "REGRESSED"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_so_few_pairs_prove_nothing(count: int) -> None:
    for change in (0.0, 0.5):
        found = judge({CASE: pairs(count, change)}, DEFAULT)
        assert found.cases[0].verdict == "INCONCLUSIVE"
        assert found.cases[0].sees is None
        assert found.exit_code == 3
        assert "more --minutes" in found.cases[0].reason


@pytest.mark.parametrize("count", [1, 2, 3])
def test_so_few_fresh_pairs_settle_nothing(count: int) -> None:
    for change in (0.0, 0.3):
        found = judge({CASE: pairs(6, 0.3)}, DEFAULT, {CASE: pairs(count, change)})
        assert found.cases[0].verdict == "INCONCLUSIVE"
        assert f"{count} pair" in found.cases[0].reason
        assert "of 4 needed; give it more --minutes" in found.cases[0].reason
        assert found.exit_code == 3


@pytest.mark.parametrize("outlier", [10.0, 0.1])
def test_an_outlier_in_either_stage_changes_no_verdict(outlier: float) -> None:
    for change, expected in ((0.0, "SAME"), (0.10, "REGRESSED")):
        first, fresh = pairs(6, change), pairs(14, change)
        first[2] = (1e-3, 1e-3 * outlier)
        fresh[5] = (1e-3, 1e-3 * outlier)
        assert verdict(first, fresh).verdict == expected


def test_an_open_case_says_what_would_settle_it() -> None:
    noise = [-0.19, -0.11, -0.03, 0.01, 0.04, 0.07, 0.09, 0.12, 0.15, 0.18, 0.2, 0.25, 0.3, -0.06]
    fresh = [(1e-3, 1e-3 * math.exp(value)) for value in noise]
    found = judge({CASE: pairs(6, 0.10)}, DEFAULT, {CASE: fresh})
    assert found.cases[0].verdict == "INCONCLUSIVE"
    assert "perhaps slower: 14 pairs leave it open; about " in found.cases[0].reason
    assert "or --threshold " in found.cases[0].reason
    assert found.exit_code == 3
    warned = judge({CASE: pairs(6, 0.10)}, GateSettings(inconclusive="warn"), {CASE: fresh})
    assert warned.exit_code == 0


def test_a_case_that_may_only_be_faster_does_not_fail() -> None:
    found = judge({CASE: pairs(6, -0.10)}, DEFAULT, {CASE: []})
    assert found.cases[0].verdict == "INCONCLUSIVE"
    assert found.exit_code == 0


def test_strict_asks_for_proof_that_nothing_changed() -> None:
    wild = pairs(6, 0.0, 0.05)
    strict = GateSettings(strict=True)
    assert judge({CASE: wild}, DEFAULT, {}).exit_code == 0
    assert flagged({CASE: wild}, strict) == [CASE]
    assert judge({CASE: wild}, strict, {}).exit_code == 3
    quiet = judge({CASE: wild}, strict, {CASE: pairs(14, 0.0, 0.005)})
    assert quiet.cases[0].verdict == "SAME"


def test_a_control_that_alarms_voids_the_job() -> None:
    asked = GateSettings(sentinels=frozenset({CONTROL}))
    first: Pairs = {CASE: pairs(6, 0.2), CONTROL: pairs(6, 0.1)}
    assert flagged(first, asked) == sorted([CASE, CONTROL])
    found = judge(first, asked, {CASE: pairs(14, 0.2), CONTROL: pairs(14, 0.1)})
    assert found.exit_code == 3
    assert [case.verdict for case in found.cases] == ["INCONCLUSIVE"]
    assert "the job is void: the A/A control found a change" in found.sentence
    silent = judge({**first, CONTROL: pairs(6, 0.0)}, asked, {CASE: pairs(14, 0.2)})
    assert silent.exit_code == 1
    assert silent.sentence.endswith("; the A/A control stayed silent.")


def test_the_sentence_says_how_many_and_what_would_have_been_seen() -> None:
    quiet = judge({CASE: pairs(6), OTHER: pairs(6)}, DEFAULT, {})
    assert quiet.sentence == (
        "2 of 2 cases measured on both sides; changes above 5% would have been seen."
    )
    noisy_case = judge({CASE: pairs(6), OTHER: pairs(6, 0.0, 0.3)}, DEFAULT, {OTHER: pairs(14)})
    assert "would have been seen in 1 of them, the others are noisier" in noisy_case.sentence
    absent = judge({CASE: pairs(6)}, DEFAULT, {}, missing={OTHER: "crashed: signal 11"})
    assert absent.sentence.startswith("1 of 2 cases measured on both sides")
    assert absent.exit_code == 1
    assert judge({}, DEFAULT, {}).exit_code == 4


def test_a_case_that_was_not_reached_stays_open_and_is_not_counted_as_measured() -> None:
    found = judge({CASE: pairs(6), OTHER: []}, DEFAULT, {})
    assert found.cases[0].key == OTHER
    assert (found.cases[0].verdict, found.cases[0].change) == ("INCONCLUSIVE", None)
    assert found.sentence.startswith("1 of 2 cases measured on both sides; changes above 5% would")
    assert found.exit_code == 3
    assert describe(found.cases[0]).endswith(": no pair was measured; give it more --minutes")
    warn = GateSettings(inconclusive="warn")
    assert judge({CASE: pairs(6), OTHER: []}, warn, {}).exit_code == 0
    assert judge({OTHER: []}, warn, {}).exit_code == 4, "a gate that looks at nothing"


@given(st.lists(st.integers(-40, 40).filter(bool), min_size=3, max_size=10, unique_by=abs))
def test_signed_ranks_are_those_of_scipy(values: list[int]) -> None:
    expected = wilcoxon(values, alternative="greater", method="exact").pvalue
    assert p_above([value / 100 for value in values], 0.0) == pytest.approx(expected)


def test_tied_signed_ranks_are_exact() -> None:
    values = [0.02, 0.02, -0.02, 0.05, 0.05, 0.1]
    ranks = [2, 2, 2, 4.5, 4.5, 6]
    reached = sum(rank for rank, value in zip(ranks, values, strict=True) if value > 0)
    signs = list(product((0, 1), repeat=6))
    ways = sum(
        sum(r for r, is_up in zip(ranks, up, strict=True) if is_up) >= reached for up in signs
    )
    assert p_above(values, 0.0) == pytest.approx(ways / len(signs))


@pytest.mark.parametrize("count", [5, 8, 14, 70])
def test_bounds_cover_as_often_as_they_say(count: int) -> None:
    rng = np.random.default_rng(count)
    below = 0
    trials = 400
    for values in rng.normal(0, 1, (trials, count)):
        low, high = bounds(walsh_averages(values.tolist()), count, 0.05)
        assert low <= high
        below += low > 0
    assert below <= 0.05 * trials + 3 * math.sqrt(0.05 * 0.95 * trials)


def test_many_pairs_are_judged_in_good_time() -> None:
    assert verdict(pairs(200, 0.2)).verdict == "REGRESSED"
    assert p_above([0.01 * (-1) ** i * i for i in range(1, 201)], 0.0) == pytest.approx(
        0.5, abs=0.1
    )


KINDS = {
    "model": synthetic.noisy(),
    "shared": synthetic.noisy(is_shared=True),
    "drift": synthetic.noisy(is_drifting=True),
    "order": synthetic.noisy(second=0.02),
    "processes": synthetic.pseudo_replicated,
}


@pytest.mark.parametrize("kind", KINDS)
def test_unchanged_code_is_called_changed_in_few_jobs(kind: str) -> None:
    rng = np.random.default_rng([8, len(kind)])
    jobs = [synthetic.run_job(rng, 60, KINDS[kind]) for _ in range(25)]
    alarms = sum(synthetic.false_alarms(judgement) > 0 for judgement in jobs)
    assert alarms <= synthetic.MOST_JOBS_WITH_ALARM * len(jobs)


def outcomes(
    spread: float, change: float, jobs: int, cases: int = 16
) -> list[tuple[str, float | None]]:
    rng = np.random.default_rng([4, round(1000 * spread), round(1000 * change) + 1000])
    measure = synthetic.gaussian(spread)
    return [
        synthetic.verdict_of_first(synthetic.run_job(rng, cases, measure, change))
        for _ in range(jobs)
    ]


@pytest.mark.parametrize(
    ("spread", "change", "expected"),
    [
        (0.01, 0.05, "REGRESSED"),
        (0.02, 0.10, "REGRESSED"),
        (0.05, 0.20, "REGRESSED"),
        (0.02, -0.10, "IMPROVED"),
    ],
)
def test_a_true_change_is_found(spread: float, change: float, expected: str) -> None:
    found = [verdict for verdict, _ in outcomes(spread, change, 40)]
    assert found.count(expected) >= 34


def test_what_would_have_been_seen_is_seen() -> None:
    for spread in (0.03, 0.06, 0.10):
        told = [sees for _, sees in outcomes(spread, 0.0, 40, cases=4) if sees is not None]
        found = [v for v, _ in outcomes(spread, float(np.median(told)), 100, cases=4)]
        assert found.count("REGRESSED") >= 65


def test_one_change_among_many_cases_is_the_only_one_named() -> None:
    rng = np.random.default_rng(5)
    found: Judgement = synthetic.run_job(rng, 300, synthetic.gaussian(0.02), 0.20)
    assert [case.name for case in found.of("REGRESSED")] == ["case=0"]
    assert found.exit_code == 1


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_the_same_seed_gives_the_same_bytes(seed: int) -> None:
    one, two = (
        synthetic.run_job(np.random.default_rng(seed), 5, synthetic.noisy(), 0.1) for _ in range(2)
    )
    assert repr(one) == repr(two)
