"""From a request to cases."""

from typing import Any

import pytest

from bench import catalog
from bench.backends import backends
from bench.errors import RequestError
from bench.results.schema import CaseLine
from bench.running.plan import PRESET, RunRequest, make_plan
from bench.running.probe import Probe

ABSENT = ("no NVIDIA GPU is in this machine", "run on a machine with one")


def plan(cores: int = 2, **fields: Any) -> list[CaseLine]:
    probes = {
        name: Probe(name, absent=ABSENT if backend.device == "gpu" else None)
        for name, backend in backends().items()
    }
    asked = RunRequest(**{"suites": ["matmul"], **fields})
    return make_plan(asked, catalog.suites(), catalog.workloads(), probes, cores)


def runnable(cases: list[CaseLine]) -> list[CaseLine]:
    return [case for case in cases if case.skipped is None]


def test_the_id_names_workload_size_phase_dtype_and_backend() -> None:
    case = next(case for case in plan() if case.sizes == {"n": 1024})
    assert case.id == "matmul/n=1024/call/float32/cupy"
    assert (case.flops, case.bytes_moved) == (2147483648, 12582912)


def test_ids_are_unique_and_presets_grow() -> None:
    counts = []
    for preset in PRESET:
        cases = plan(preset=preset)
        assert len({case.key for case in cases}) == len(cases)
        counts.append(len(cases))
    assert counts == sorted(counts)
    assert counts[0] < counts[1] < counts[2]


def test_absent_backends_stay_as_skipped_cases_with_reason_and_remedy() -> None:
    cases = [case for case in plan() if case.backend == "torch-cuda"]
    assert cases
    assert all(case.skipped == "; ".join(ABSENT) for case in cases)


def test_naming_an_absent_backend_is_refused_with_the_remedy() -> None:
    with pytest.raises(RequestError, match="run on a machine with one"):
        plan(backends=["cupy"])


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"suites": ["matmull"]}, "did you mean matmul"),
        ({"backends": ["nunpy"]}, "did you mean numpy"),
        ({"dtypes": ["float23"]}, "did you mean float32"),
        ({"dtypes": ["int8"]}, "unknown dtype 'int8'"),
        ({"preset": "quik"}, "did you mean quick"),
        ({"threads": [3]}, "may use 2 cores"),
        ({"only": ["*resnet*"]}, "matches no case"),
        ({"sizes": {"q": [4]}}, "fits no workload"),
    ],
)
def test_a_bad_request_says_what_would_be_right(fields: dict[str, Any], hint: str) -> None:
    with pytest.raises(RequestError) as caught:
        plan(**fields)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_size_replaces_the_sizes_of_the_workloads_that_it_fits() -> None:
    cases = runnable(plan(sizes={"n": [100, 200]}))
    assert {case.id for case in cases} == {
        f"matmul/n={n}/call/float32/{place}" for n in (100, 200) for place in ("numpy", "torch-cpu")
    }


def test_sizes_of_several_dimensions_are_combined() -> None:
    cases = runnable(plan(sizes={"m": [3, 4], "k": [5], "n": [6]}, backends=["numpy"]))
    assert [case.sizes for case in cases] == [{"m": 3, "k": 5, "n": 6}, {"m": 4, "k": 5, "n": 6}]


def test_batch_replaces_the_batch_and_keeps_the_shape() -> None:
    cases = runnable(plan(batches=[7], backends=["numpy"], preset="quick"))
    assert [case.id for case in cases] == [
        "batched_matmul/bert_base.scores,batch=7/call/float32/numpy"
    ]
    assert cases[0].batch == cases[0].sizes["batch"] == 7


def test_only_reaches_sizes_of_every_preset() -> None:
    cases = runnable(plan(only=["*deepbench.7680x5481x2560*numpy"], preset="quick"))
    assert [case.sizes["m"] for case in cases] == [5481]


def test_other_thread_counts_are_variants_of_the_cpu_backends_only() -> None:
    cases = plan(threads=[1, 2], sizes={"n": [64]})
    places = sorted(case.id.rpartition("/")[2] for case in cases)
    assert places == [
        "cupy",
        "numpy",
        "numpy+threads=1",
        "torch-cpu",
        "torch-cpu+threads=1",
        "torch-cuda",
    ]
    assert {case.threads for case in cases if case.variant} == {1}


def test_a_dtype_that_a_library_does_not_compute_is_skipped_with_the_reason() -> None:
    cases = plan(dtypes=["bfloat16", "tf32"], sizes={"n": [64]})
    reasons = {(c.backend, c.dtype): c.skipped for c in cases}
    assert reasons["numpy", "bfloat16"] == "NumPy has no bfloat16"
    assert reasons["torch-cpu", "bfloat16"] is None
    assert "tensor cores" in str(reasons["torch-cpu", "tf32"])


def test_settings_hold_the_request_and_give_it_back() -> None:
    asked = RunRequest(
        suites=["matmul"], sizes={"n": (64, 128)}, threads=(1, 2), minutes=2.5, only=["*numpy"]
    )
    settings = asked.as_settings(cores=2)
    again = RunRequest.from_settings(settings)
    assert again.as_settings(cores=2) == settings
    assert settings["blocks"] == 6
    assert settings["budget"]["sampling_seconds"] == PRESET["standard"].budget.sampling_seconds


def test_max_seconds_bounds_the_sampling() -> None:
    budget = RunRequest(suites=["matmul"], max_seconds=0.2).budget()
    assert budget.sampling_seconds == 0.2
