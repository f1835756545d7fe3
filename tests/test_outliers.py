"""The slow ones among like machines: found, and not invented."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.comparing.document import outlier_document
from bench.comparing.machines import machines
from bench.comparing.outliers import FEWEST, find_outliers, limit_of
from bench.results.schema import Run
from tests.commands import bench
from tests.machines import describe, write
from tests.runs import measurement, run

SIZES = (64, 128, 256, 512, 1024)


def node(
    number: int,
    *,
    cpu: float = 1.0,
    gpu: float = 1.0,
    noise: float = 0.01,
    name: str = "Synthetic GPU",
) -> Run:
    """Return a node of a cluster, whose CPU and GPU take so many times as long as the others'."""
    rng = random.Random(number)
    cases = [
        measurement(
            "matmul",
            backend,
            n * 1e-6 * factor * rng.lognormvariate(0, noise),
            sizes={"n": n},
            device=device,
            input_digest=str(n),
        )
        for n in SIZES
        for backend, device, factor in (("numpy", "cpu", cpu), ("cupy", "gpu", gpu))
    ]
    return run(*cases, label=f"node{number:02}", machine=describe(name))


def test_a_slow_gpu_is_found_and_its_cases_are_named() -> None:
    runs = [node(i, gpu=1.25 if i == 7 else 1.0) for i in range(12)]
    document, verdict = outlier_document(machines(runs))
    assert [(slow.machine, slow.device) for slow in verdict.slow] == [("node07", "gpu")]
    assert verdict.slow[0].times == pytest.approx(1.25, rel=0.03)
    assert len(verdict.slow[0].cases) == len(SIZES)
    assert "node07 takes 2" in document.sentences[0]
    assert "longer than its like in matmul on the GPU" in document.sentences[0]
    assert "call/float32/cupy" in document.sentences[0]


def test_machines_that_are_alike_have_no_outlier() -> None:
    document, verdict = outlier_document(machines([node(i) for i in range(20)]))
    assert not verdict.slow
    assert document.sentences == [
        "None of 20 machines is slower than its like (Synthetic CPU, Synthetic GPU)."
    ]


def test_a_fast_machine_is_no_outlier() -> None:
    assert not find_outliers(machines([node(i, gpu=0.5 if i == 3 else 1) for i in range(12)])).slow


def test_two_kinds_of_machine_are_judged_apart() -> None:
    quick = [node(i) for i in range(6)]
    slow = [node(i, gpu=3.0, name="Old GPU") for i in range(6, 12)]
    verdict = find_outliers(machines([*quick, *slow]))
    assert not verdict.slow
    assert [count for _, count in verdict.judged] == [6, 6]


def test_three_machines_are_too_few_and_that_is_said(tmp_path: Path) -> None:
    runs = [node(i, gpu=9.0 if i == 0 else 1.0) for i in range(FEWEST - 1)]
    done = bench("compare", *write(tmp_path, *runs), "--outliers")
    assert done.returncode == 4
    assert "too few to judge: 3 of Synthetic CPU, Synthetic GPU" in done.stdout


def test_outliers_end_with_1_and_none_with_0(tmp_path: Path) -> None:
    paths = write(tmp_path, *(node(i, cpu=2.0 if i == 0 else 1.0) for i in range(8)))
    done = bench("compare", *paths, "--outliers")
    assert done.returncode == 1
    assert "node00 takes" in done.stdout
    assert "on the CPU" in done.stdout
    assert bench("compare", *paths[1:], "--outliers").returncode == 0


def test_other_work_is_not_set_beside_it() -> None:
    runs = [node(i) for i in range(8)]
    for case in runs[0].measurements:
        case.workload_version = 2
        assert case.seconds is not None
        case.seconds.median *= 5
        case.seconds.low = case.seconds.high = None
    assert not find_outliers(machines(runs)).slow


@settings(deadline=None)
@given(st.permutations(range(8)), st.floats(1e-3, 1e3))
def test_neither_order_nor_unit_matters(order: list[int], unit: float) -> None:
    def found(numbers: list[int], scale: float) -> list[tuple[str, str]]:
        runs = [node(i, gpu=scale * (1.5 if i == 2 else 1.0), cpu=scale) for i in numbers]
        return [(slow.machine, slow.device) for slow in find_outliers(machines(runs)).slow]

    assert found(order, unit) == found(list(range(8)), 1.0) == [("node02", "gpu")]


@pytest.mark.parametrize("count", [4, 5, 8, 20, 100])
def test_false_alarms_are_rare(count: int) -> None:
    alarms = 0
    groups = 100
    for group in range(groups):
        rng = random.Random(group)
        # Machines that truly differ, by far more than 3%: only the limit protects them.
        runs = [
            run(
                measurement(seconds=1e-3 * rng.lognormvariate(0, 0.2), sizes={"n": 64}),
                label=f"node{i}",
                machine=describe(),
            )
            for i in range(count)
        ]
        alarms += bool(find_outliers(machines(runs)).slow)
    # One of 100 is expected; above 5 the chance is below 0.1%.
    assert alarms <= 5


def test_limits_are_known_for_any_number() -> None:
    assert [limit_of(n) for n in (4, 5, 7, 50, 10_000)] == [11.1, 13.5, 8.8, 4.3, 4.3]
