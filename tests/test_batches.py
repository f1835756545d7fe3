import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.comparing.batch_sentences import batch_sentences
from bench.comparing.batches import BatchSweep, batch_sweeps, saturation, throughput
from bench.comparing.sentences import sentences
from bench.comparing.speedup import Ratio
from bench.results.schema import LimitLine, Measurement
from tests.runs import BATCHES, batch_run, batch_sweep, limit, measurement


def rates(*values: float, spread: float | None = 0.0) -> list[Ratio]:
    if spread is None:
        return [Ratio(value, None, None) for value in values]
    return [Ratio(value, value / (1 + spread), value * (1 + spread)) for value in values]


def found(*values: float, spread: float | None = 0.0) -> Any:
    """Return where these throughputs saturate, at batches 1, 2, 4, ..."""
    return saturation([2**i for i in range(len(values))], rates(*values, spread=spread))


def swept(*values: float, spread: float | None = 0.001) -> BatchSweep:
    """Return a sweep with these throughputs at batches 1, 2, 4, ..."""
    cases: list[Measurement] = []
    for i, value in enumerate(values):
        cases += batch_sweep(batches=(2**i,), launch=2**i / value, sample=0, spread=spread)
    (sweep,) = batch_sweeps(cases, [])
    return sweep


def said(cases: Sequence[Measurement], limits: Sequence[LimitLine] = ()) -> str:
    (sentence,) = batch_sentences(cases, limits)
    return sentence


@given(
    launch=st.floats(1e-6, 1.0),
    sample=st.floats(1e-7, 1e-2),
    powers=st.integers(1, 20),
)
def test_a_launch_and_a_time_per_sample_saturate_where_algebra_says(
    launch: float, sample: float, powers: int
) -> None:
    batches = [2**power for power in range(powers + 1)]
    largest = batches[-1]
    # b / (a + c b) >= 0.95 B / (a + c B), solved for b; as B grows it is 19 a / c.
    exact = 0.95 * launch * largest / (launch + 0.05 * sample * largest)
    assume(all(abs(batch / exact - 1) > 1e-6 for batch in batches))
    measured = rates(*(batch / (launch + sample * batch) for batch in batches))
    result = saturation(batches, measured)
    assert result.batch == min(batch for batch in batches if batch > exact)
    assert result.is_rising == (result.batch == largest)
    assert result.candidates == [result.batch]


def test_a_long_sweep_saturates_at_19_launches_worth_of_samples() -> None:
    cases = batch_sweep(launch=19e-3, sample=19e-3 / 100, batches=range(1, 5000))
    (sweep,) = batch_sweeps(cases, [])
    assert sweep.saturation is not None
    # 19 a / c is 1,900; the largest of the batches falls short of the limit by 2%.
    assert sweep.saturation.batch == math.ceil(0.95 * 100 * 4999 / (100 + 0.05 * 4999))


curves = st.lists(
    st.tuples(st.floats(1, 100), st.floats(0, 1.0), st.floats(0, 1.0)), min_size=1, max_size=7
)


@given(curves, st.data())
def test_what_a_repeat_finds_is_a_candidate(
    curve: list[tuple[float, float, float]], data: st.DataObject
) -> None:
    batches = [2**i for i in range(len(curve))]
    measured = [Ratio(v, v / (1 + down), v * (1 + up)) for v, down, up in curve]
    candidates = saturation(batches, measured).candidates
    repeat = [data.draw(st.floats(r.low or 0, r.high)) for r in measured]
    again = saturation(batches, [Ratio(value, value, value) for value in repeat])
    assert candidates is not None
    assert again.batch in candidates


@given(curves)
def test_every_candidate_is_what_some_repeat_finds(
    curve: list[tuple[float, float, float]],
) -> None:
    batches = [2**i for i in range(len(curve))]
    measured = [Ratio(v, v / (1 + down), v * (1 + up)) for v, down, up in curve]
    for batch in saturation(batches, measured).candidates or []:
        i = batches.index(batch)
        tops = [rate.high or 0 for rate in measured]
        best = min(max(tops[i:]), tops[i] / 0.95)
        repeat = [
            # Those before stay as low, those from here rise as high as that best allows.
            (rate.low or 0) if j < i else max(rate.low or 0, min(rate.high or 0, best))
            for j, rate in enumerate(measured)
        ]
        # Rounding may turn a batch that is exactly at 95%.
        repeat[i] *= 1 + 1e-12
        assert saturation(batches, rates(*repeat)).batch == batch


def test_wide_intervals_name_the_neighbours_and_narrow_ones_do_not() -> None:
    curve = 50, 80, 94, 98, 100
    assert found(*curve, spread=0.001).candidates == [8]
    assert found(*curve, spread=0.05).candidates == [4, 8, 16]
    assert found(*curve, spread=0.5).candidates == [1, 2, 4, 8, 16]
    assert found(*curve, spread=None).candidates is None
    assert {found(*curve, spread=s).batch for s in (0.001, 0.5, None)} == {8}


def test_of_equal_batches_the_smallest_is_enough() -> None:
    assert found(7, 7, 7).batch == 1
    assert not found(7, 7, 7).is_rising
    assert found(50, 95, 100).batch == 2
    assert found(50, 94.9, 100).batch == 4


def test_a_curve_whose_largest_batch_is_far_the_best_still_rises() -> None:
    assert found(10, 20, 40).is_rising
    assert not found(10, 39, 40).is_rising
    assert not found(10).is_rising
    # An earlier batch was as good: what lies between is a dip.
    assert not found(100, 50, 101).is_rising


def test_throughput_that_falls_is_told_from_its_best() -> None:
    fall = swept(100, 600, 500, 100, 150).fall
    assert fall is not None
    assert (fall.best, fall.batch) == (2, 8)
    assert fall.times.median == pytest.approx(6)
    assert fall.times.low is not None
    assert fall.times.low < 6
    assert swept(100, 600, 590).fall is None
    assert swept(100, 600).fall is None
    assert swept(100).fall is None


def test_a_fall_that_a_repeat_may_not_find_is_not_told() -> None:
    assert swept(100, 80, spread=0.01).fall is not None
    assert swept(100, 80, spread=0.3).fall is None
    assert swept(100, 80, spread=None).fall is not None


def test_throughput_is_the_batch_over_the_time_with_its_interval() -> None:
    (case,) = batch_sweep(batches=(100,), launch=0.05, sample=0, spread=0.25)
    rate = throughput(case)
    assert rate is not None
    assert (rate.low, rate.median, rate.high) == pytest.approx((1600, 2000, 2000 / 0.75))
    assert throughput(measurement()) is None
    too_short = batch_sweep(batches=(2**40,), launch=1e-300, sample=0)
    assert throughput(too_short[0]) is None
    assert throughput(batch_sweep(batches=(1,), failing=1)[0]) is None


def test_each_place_and_size_of_the_suite_has_a_sweep() -> None:
    other = batch_sweep(workload="mlp", backend="numpy", name=None)
    outside = batch_sweep(suite="layers")
    sweeps = batch_sweeps([*batch_run().measurements, *other, *outside], batch_run().limits)
    assert [(s.title, s.place, s.limit and s.limit.largest_batch) for s in sweeps] == [
        ("lenet5/mnist training_step, float32", "numpy", 777),
        ("lenet5/mnist training_step, float32", "torch-cpu", 4096),
        ("lenet5/mnist training_step, float32", "torch-cuda", 2100),
        ("mlp training_step, float32", "numpy", None),
    ]
    assert [m.batch for m in sweeps[0].cases] == BATCHES


def test_the_batch_may_stand_anywhere_in_a_size() -> None:
    cases = [
        measurement("mlp", sizes={"batch": b, "width": 64}, suite="batch-sweep", phase="forward")
        for b in (1, 2, 4)
    ]
    (sweep,) = batch_sweeps(cases, [])
    assert sweep.title == "mlp/width=64 forward, float32"
    assert {m.sweep for m in cases} == {"mlp/width=64/forward/float32/numpy"}


def test_one_sentence_has_the_places_side_by_side() -> None:
    assert said(batch_run().measurements, batch_run().limits) == (
        "lenet5/mnist training_step, float32: of the batches measured, numpy saturates from 16"
        " [8, 64] (2,420 samples/s [2,380, 2,470]); torch-cpu saturates from 256 [128, 1,024]"
        " (12,100 samples/s [11,900, 12,400]); torch-cuda still rises at 2,048, the largest"
        " (406,000 samples/s [398,000, 414,000]); memory ends after batch 777 on numpy;"
        " memory ends after batch 2,100 on torch-cuda."
    )


def test_one_block_has_no_interval_and_says_so() -> None:
    text = said(batch_run(spread=None).measurements)
    assert text.endswith("; one block: no interval.")
    assert "[" not in text


def test_places_that_end_alike_are_named_together() -> None:
    cases = [*batch_sweep(backend="numpy"), *batch_sweep()]
    text = said(cases, [limit("numpy"), limit("torch-cpu")])
    assert text.endswith("; memory ends after batch 4,113 on numpy, torch-cpu.")


def test_a_search_that_was_cut_short_says_between_which_batches_memory_ends() -> None:
    text = said(batch_sweep(), [limit(largest=4100, failing=4200)])
    assert text.endswith("; memory ends between batch 4,100 and 4,200 on torch-cpu.")


def test_a_sweep_that_no_batch_fits_has_an_end_and_no_throughput() -> None:
    text = said(batch_sweep(failing=1), [limit(largest=None, failing=1)])
    assert text == (
        "lenet5/mnist training_step, float32: not even batch 1 fits in memory on torch-cpu."
    )
    assert not batch_sentences(batch_sweep(failing=1), [])


def test_a_single_batch_and_a_fall_are_told() -> None:
    assert "torch-cpu has batch 8 only (4,440 samples/s" in said(batch_sweep(batches=(8,)))
    falling = swept(100, 600, 100).cases
    assert "(600 samples/s [599, 601]), falls beyond 2, at 4 6.0x slower" in said(falling)


def test_a_rise_that_may_have_ended_says_from_where() -> None:
    text = said(swept(50, 94, 100, spread=0.02).cases)
    assert "still rises at 4, the largest (perhaps saturated from 2)" in text


@pytest.mark.parametrize("phase", ["forward", "training_step"])
@pytest.mark.parametrize("name", [None, "mnist"])
@pytest.mark.parametrize("batches", [(1, 64), (1, 8, 64)])
def test_the_crossover_is_said_of_any_sweep_over_batches(
    phase: str, name: str | None, batches: tuple[int, ...]
) -> None:
    common: dict[str, Any] = {"phase": phase, "name": name, "batches": batches}
    cpu = batch_sweep("model", launch=0, sample=1e-3, **common)
    gpu = batch_sweep("model", "torch-cuda", launch=8e-3, sample=1e-6, **common)
    (text,) = sentences([*cpu, *gpu])
    assert f"model {phase}, float32: torch-cuda beats the best CPU (torch-cpu) from batch" in text
    assert "[" in text
    assert ", with transfers from batch = " in text


def test_each_named_size_has_a_crossover_of_its_own() -> None:
    cases = [
        case
        for name, launch in (("small", 8e-3), ("large", 2e-3))
        for case in (
            *batch_sweep(name=name, launch=0, sample=1e-3),
            *batch_sweep(name=name, backend="torch-cuda", launch=launch, sample=1e-6),
        )
    ]
    texts = sentences(cases)
    assert [text.partition(",")[0] for text in texts] == ["small", "large"]
    assert all("from batch = " in text for text in texts)
