import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.comparing.sentences import sentences
from bench.comparing.speedup import Ratio, geometric_mean, ratio, speedups
from bench.results.networks import totals
from bench.results.schema import Interval, Measurement
from tests.runs import HOSTILE, gpu_matmul, gpu_run, interval, layer

TIMES = st.floats(1e-9, 1e6)
SPREADS = st.floats(1.0, 3.0)


def around(median: float, down: float, up: float) -> Interval:
    return Interval(median=median, low=median / down, high=median * up, min=median / down)


def gpu_layer(name: str, seconds: float, **fields: Any) -> Measurement:
    own: dict[str, Any] = {"device": "gpu", "end_to_end_seconds": interval(seconds * 4), **fields}
    return layer(name, own.pop("backend", "torch-cuda"), seconds, **own)


@given(TIMES, TIMES, SPREADS, SPREADS, SPREADS, SPREADS)
def test_the_reaches_of_both_sides_add_up_as_squares_in_log_space(
    slow: float, fast: float, a: float, b: float, c: float, d: float
) -> None:
    found = ratio(around(slow, a, b), around(fast, c, d))
    assert found.median == slow / fast
    assert found.low is not None
    assert found.high is not None
    down, up = math.log(found.median / found.low), math.log(found.high / found.median)
    # The ratio is low where the slow one is low or the fast one high, and the other way round.
    assert down == pytest.approx(math.hypot(math.log(a), math.log(d)), abs=1e-9)
    assert up == pytest.approx(math.hypot(math.log(b), math.log(c)), abs=1e-9)


@given(TIMES, TIMES, SPREADS, SPREADS)
def test_the_speedup_of_the_other_over_the_one_is_the_reciprocal(
    slow: float, fast: float, a: float, b: float
) -> None:
    one = ratio(around(slow, a, b), around(fast, b, a))
    other = ratio(around(fast, b, a), around(slow, a, b))
    assert one.low is not None
    assert other.high is not None
    assert one.low * other.high == pytest.approx(1.0)


@pytest.mark.parametrize(("slow", "fast"), [(None, 0.1), (0.1, None), (None, None)])
def test_one_block_on_either_side_leaves_no_interval(
    slow: float | None, fast: float | None
) -> None:
    assert ratio(interval(6.0, slow), interval(2.0, fast)) == Ratio(3.0, None, None)


def test_times_at_the_ends_of_a_run_file_give_numbers() -> None:
    longest, shortest = around(1e12, 1e300, 1.0), around(5e-324, 1.0, 1e300)
    for one, other in ((longest, shortest), (shortest, longest)):
        found = ratio(one, other)
        assert found.low is not None
        assert found.high is not None
        assert 0 < found.low <= found.median <= found.high <= sys.float_info.max


def test_a_geometric_mean_of_2_and_8_is_4_and_its_interval_is_theirs() -> None:
    mean = geometric_mean([Ratio(2.0, 1.0, 4.0), Ratio(8.0, 4.0, 16.0)])
    assert mean.median == pytest.approx(4.0)
    assert mean.low == pytest.approx(2.0)
    assert mean.high == pytest.approx(8.0)
    assert geometric_mean([Ratio(2.0, None, None), Ratio(8.0, 4.0, 16.0)]).low is None


def test_the_best_cpu_is_the_fastest_of_all_backends_variants_and_threads() -> None:
    cpus = [
        gpu_matmul(512, "numpy"),
        gpu_matmul(512, "torch-cpu"),
        gpu_matmul(512, "torch-cpu", variant="compiled", status="wrong"),
        gpu_matmul(512, "numpy", variant="threads=1", threads=1),
    ]
    cpus[2].seconds = interval(1e-7)
    cpus[3].seconds = interval(1e-6)
    (found,) = speedups([*cpus, gpu_matmul(512, "torch-cuda")])
    assert found.cpu is cpus[3]
    (found,) = speedups([*cpus[:3], gpu_matmul(512, "torch-cuda")])
    assert found.cpu is cpus[1]


def test_the_best_cpu_with_transfers_may_be_another_one() -> None:
    numpy = gpu_matmul(512, "numpy", host_seconds=interval(1e-3))
    torch = gpu_matmul(512, "torch-cpu", host_seconds=interval(5e-3))
    gpu = gpu_matmul(512, "torch-cuda", end_to_end_seconds=interval(2e-3))
    (found,) = speedups([numpy, torch, gpu])
    assert (found.cpu, found.cpu_host) == (torch, numpy)
    assert found.with_transfers is not None
    assert found.with_transfers.median == pytest.approx(0.5)
    assert torch.seconds is not None
    assert gpu.seconds is not None
    assert found.alone.median == torch.seconds.median / gpu.seconds.median


@pytest.mark.parametrize("absent", ["cpu", "gpu"])
def test_without_a_time_on_either_side_the_speedup_with_transfers_is_unknown(absent: str) -> None:
    cpu, gpu = gpu_matmul(512, "numpy"), gpu_matmul(512, "cupy")
    if absent == "cpu":
        cpu.host_seconds = None
    else:
        gpu.end_to_end_seconds = None
    (found,) = speedups([cpu, gpu])
    assert (found.cpu_host, found.with_transfers) == (None, None)
    assert "with transfers unknown" in sentences([cpu, gpu])[0]


DIFFERENT: dict[str, Any] = {
    "suite": "passes",
    "workload": "conv2d",
    "workload_version": 2,
    "size": "n=513",
    "phase": "forward",
    "dtype": "float64",
    "input_digest": "another",
    "variant": "cache=cold",
    "status": "wrong",
    "seconds": None,
}


@pytest.mark.parametrize("field", DIFFERENT)
@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_what_is_not_the_same_work_is_never_compared(field: str, backend: str) -> None:
    pair = [gpu_matmul(512, "numpy"), gpu_matmul(512, "cupy")]
    assert len(speedups(pair)) == 1
    changed = next(m for m in pair if m.backend == backend)
    setattr(changed, field, DIFFERENT[field])
    assert speedups(pair) == []
    assert sentences(pair) == []


def test_inputs_of_which_one_is_unknown_may_be_the_same() -> None:
    pair = [gpu_matmul(512, "numpy"), gpu_matmul(512, "cupy", input_digest=None)]
    assert len(speedups(pair)) == 1


def test_a_variant_is_the_same_work_unless_it_empties_the_caches() -> None:
    cpus = [gpu_matmul(512, "numpy"), gpu_matmul(512, "numpy", variant="tuned+cache=cold")]
    ways = ["compiled", "cache=cold", "compiled+cache=cold"]
    gpus = [gpu_matmul(512, "torch-cuda", variant=way) for way in ways]
    assert [found.cpu for found in speedups([*cpus, *gpus])] == [cpus[0], cpus[1], cpus[1]]


def test_tf32_is_compared_with_float32_on_the_cpu_and_says_so() -> None:
    cpu, gpu = gpu_matmul(512, "numpy"), gpu_matmul(512, "torch-cuda", dtype="tf32")
    (found,) = speedups([cpu, gpu])
    assert found.cpu is cpu
    assert sentences([cpu, gpu])[0].startswith("matmul, tf32 against float32: ")
    reverse = [gpu_matmul(512, "numpy", dtype="tf32"), gpu_matmul(512, "torch-cuda")]
    assert speedups(reverse) == []


def test_the_speedups_stand_in_the_order_of_the_gpu_measurements() -> None:
    cases = gpu_run().measurements[::-1]
    assert [f.gpu for f in speedups(cases)] == [m for m in cases if m.device != "cpu"]


def test_a_network_has_a_speedup_but_none_with_the_transfers_of_its_layers() -> None:
    layers = [
        *(layer(str(i), "numpy", 0.010, count=2) for i in (1, 2)),
        *(gpu_layer(str(i), 0.001, count=2) for i in (1, 2)),
    ]
    (found,) = speedups(totals(layers))
    assert found.alone.median == pytest.approx(10.0)
    assert found.with_transfers is None
    assert all(found.with_transfers is not None for found in speedups(layers))
    assert sentences(totals(layers)) == [
        "tiny, conv2d forward, float32: torch-cuda is 10.0x [9.72, 10.3] as fast as the best CPU"
        " (numpy) at batch=8, with transfers unknown."
    ]


def test_a_sweep_is_told_by_its_crossings_and_its_largest_size() -> None:
    said = sentences(gpu_run().measurements)
    assert said == [
        "matmul, float32: cupy beats the best CPU (numpy or torch-cpu) from n = 209 [206, 211],"
        " with transfers from n = 432 [424, 440]; 37.5x [36.4, 38.5] at n = 8192,"
        " 16.6x [16.1, 17.1] with transfers.",
        "matmul, float32: torch-cuda beats the best CPU (numpy or torch-cpu) from n = 157"
        " [155, 159], with transfers from n = 410 [402, 417]; 41.6x [40.5, 42.8] at n = 8192,"
        " 17.4x [16.9, 17.9] with transfers.",
    ]


def test_one_block_is_told_in_place_of_intervals() -> None:
    (cupy, _) = sentences(gpu_run(spread=None).measurements)
    assert cupy == (
        "matmul, float32: cupy beats the best CPU (numpy or torch-cpu) from n = 209, with transfers"
        " from n = 432; 37.5x at n = 8192, 16.6x with transfers; one block: no interval."
    )


def test_named_sizes_are_told_by_their_mean_and_their_range() -> None:
    cases = [layer("1", seconds=0.008), layer("2", seconds=0.008)]
    cases += [gpu_layer("1", 0.004), gpu_layer("2", 0.001)]
    assert sentences(cases) == [
        "conv2d forward, float32: torch-cuda is 4.00x [3.89, 4.11] as fast as the best CPU (numpy)"
        " over 2 sizes (2.00x to 8.00x), 1.10x [1.07, 1.13] with transfers (0.550x to 2.20x)."
    ]


def test_of_many_variants_only_the_best_and_the_plain_one_are_told() -> None:
    cases = [layer("1", seconds=0.008)]
    ways = {None: 0.004, "tuned": 0.002, "channels_last": 0.003}
    cases += [gpu_layer("1", seconds, variant=way) for way, seconds in ways.items()]
    (said,) = sentences(cases)
    assert "torch-cuda+tuned is 4.00x" in said
    assert "; plain 2.00x" in said
    assert "channels_last" not in said
    assert "plain" not in sentences(cases[:2])[0]


def test_variants_are_compared_by_the_sizes_that_all_of_them_have() -> None:
    cases = [layer(name, seconds=0.008) for name in "12"]
    cases += [gpu_layer("1", 0.004), gpu_layer("2", 0.0001)]
    # It is the faster one wherever both were measured.
    cases.append(gpu_layer("1", 0.002, variant="tuned"))
    (said,) = sentences(cases)
    assert "torch-cuda+tuned is 4.00x" in said
    assert " at tiny.1,batch=8" in said


@pytest.mark.parametrize("layers", ["1", "123"])
def test_only_a_single_named_size_is_told_as_a_sweep_over_batches(layers: str) -> None:
    cases = [
        m
        for name in layers
        for batch in (1, 8, 64)
        for m in (
            layer(name, seconds=batch * 1e-3, batch=batch),
            gpu_layer(name, 4e-3 + batch * 1e-4, batch=batch),
        )
    ]
    (said,) = sentences(cases)
    if layers == "1":
        assert said.startswith("tiny.1, conv2d forward, float32: torch-cuda beats")
        assert "from batch = " in said
    else:
        assert said.startswith("conv2d forward, float32: torch-cuda is")
        assert "over 9 sizes" in said


def test_the_same_work_in_two_suites_is_told_apart() -> None:
    cases = [gpu_matmul(512, name, suite=s) for s in ("a", "b") for name in ("numpy", "cupy")]
    assert [text.partition(",")[0] for text in sentences(cases)] == ["a: matmul", "b: matmul"]
    assert sentences(cases[:2])[0].startswith("matmul, ")


def test_names_from_a_file_do_not_break_the_sentences() -> None:
    cases = [
        gpu_matmul(n, backend, variant=HOSTILE, sizes={HOSTILE: n})
        for n in (64, 512)
        for backend in ("numpy", "cupy")
    ]
    (said,) = sentences(cases)
    assert f"from {HOSTILE} = " in said


@pytest.mark.parametrize("value", [0, -5])
def test_a_size_below_1_is_no_place_on_an_axis(value: int) -> None:
    cases = [
        gpu_matmul(512, backend, sizes={"n": n})
        for n in (value, 512)
        for backend in ("numpy", "cupy")
    ]
    (said,) = sentences(cases)
    assert "over 2 sizes" in said
