"""From a request to cases."""

from collections import Counter
from typing import Any

import pytest

from bench import catalog
from bench.backends import backends
from bench.errors import RequestError
from bench.results.schema import CaseLine, Layers
from bench.running.plan import PRESET, RunRequest, choose_suites, make_plan
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


def convolutions(**fields: Any) -> list[CaseLine]:
    return plan(**{"suites": ["convolution"], **fields})


def places(cases: list[CaseLine]) -> Counter[str]:
    """Count cases by backend and variant."""
    return Counter(case.id.rpartition("/")[2] for case in cases)


def test_quick_convolutions_are_the_layers_of_resnet50_forward() -> None:
    cases = convolutions(preset="quick")
    assert places(cases) == dict.fromkeys(["numpy", "torch-cpu", "cupy", "torch-cuda"], 23)
    assert len({case.size for case in cases}) == 23
    assert all(case.id.startswith("conv2d/resnet50.") for case in cases)
    assert {(case.phase, case.batch, case.variant) for case in cases} == {("forward", 8, None)}


def test_standard_convolutions_have_gradients_and_other_ways_where_a_library_has_them() -> None:
    cases = convolutions()
    layers = 3 * (23 + 9)
    assert places(cases) == {
        "numpy": layers,
        "cupy": layers,
        "torch-cpu": layers,
        "torch-cpu+channels_last": layers,
        "torch-cuda": layers,
        "torch-cuda+channels_last": layers,
        "torch-cuda+tuned": layers,
        "torch-cuda+channels_last+tuned": layers,
    }
    assert {case.variant for case in runnable(cases)} == {None, "channels_last"}
    assert Counter(case.phase for case in cases) == dict.fromkeys(
        ("forward", "input_gradient", "weight_gradient"), 8 * (23 + 9)
    )
    assert {network for case in cases for network in case.networks} == {
        *("resnet50", "vgg16", "vgg19")
    }


def test_the_problems_of_deepbench_are_thorough() -> None:
    added = {c.size for c in convolutions(preset="thorough")} - {c.size for c in convolutions()}
    assert len(added) > 80
    assert all(size.startswith("deepbench.") for size in added)


@pytest.mark.parametrize("preset", PRESET)
def test_a_glob_reaches_the_same_cases_at_any_preset(preset: str) -> None:
    cases = runnable(convolutions(only=["*resnet50*forward*"], preset=preset))
    assert places(cases) == {"numpy": 23, "torch-cpu": 23, "torch-cpu+channels_last": 23}


@pytest.mark.parametrize(
    ("glob", "count"),
    [
        ("conv2d/resnet50.3.*/weight_gradient/*/numpy", 1),
        ("*vgg16.9.*/input_gradient/*/torch-cpu", 1),
        ("*resnet50*/forward/*+channels_last", 23),
    ],
)
def test_a_glob_names_a_phase_or_a_variant_beyond_the_preset(glob: str, count: int) -> None:
    assert len(runnable(convolutions(only=[glob], preset="quick"))) == count


@pytest.mark.parametrize(
    ("threads", "cores", "place"),
    [
        ([1], 2, "torch-cpu+channels_last+threads=1"),
        ([2], 2, "torch-cpu+channels_last"),
        ([], 2, "torch-cpu+channels_last"),
        ([1], 1, "torch-cpu+channels_last"),
    ],
)
def test_the_name_of_a_variant_and_the_threads_stand_side_by_side(
    threads: list[int], cores: int, place: str
) -> None:
    only = ["*resnet50.1.*/forward/*/torch-cpu+channels_last*"]
    (case,) = convolutions(only=only, threads=threads, cores=cores)
    assert case.id.rpartition("/")[2] == place
    assert case.way == "channels_last"
    assert case.threads == (threads or [cores])[0]


def test_fewer_threads_are_no_way_of_the_workload() -> None:
    cases = convolutions(only=["*resnet50.1.*/forward/*"], threads=[1, 2])
    assert {case.variant: case.way for case in cases if case.backend == "torch-cpu"} == {
        None: None,
        "threads=1": None,
        "channels_last": "channels_last",
        "channels_last+threads=1": "channels_last",
    }
    assert {case.variant for case in cases if case.backend == "cupy"} == {None}
    ways = {"channels_last", "tuned", "channels_last+tuned"}
    assert {case.variant for case in cases if case.backend == "torch-cuda"} == {None, *ways}
    assert all(case.way == case.variant for case in cases if case.device == "gpu")


def of_network(network: str, cases: list[CaseLine]) -> list[Layers]:
    """Return the layers of a network in one phase in one place."""
    return [
        case.networks[network]
        for case in cases
        if network in case.networks and (case.backend, case.phase) == ("numpy", "forward")
    ]


def test_a_case_knows_how_many_layers_of_which_network_it_stands_for() -> None:
    cases = convolutions()
    for network, layers, distinct in (("resnet50", 53, 23), ("vgg16", 13, 9), ("vgg19", 16, 9)):
        found = of_network(network, cases)
        assert len(found) == distinct
        assert {layer.of for layer in found} == {layers}
        assert sum(layer.count for layer in found) == layers
    (sixth,) = (
        c
        for c in cases
        if c.id.startswith("conv2d/vgg16.6.") and "forward" in c.id and c.backend == "numpy"
    )
    assert sixth.networks == {"vgg16": Layers(count=2, of=13), "vgg19": Layers(count=3, of=16)}
    assert not any(case.networks for case in plan())


def test_a_part_of_a_network_still_says_how_many_layers_it_has() -> None:
    (found,) = of_network("resnet50", convolutions(only=["*resnet50.3.*"]))
    assert found == Layers(count=3, of=53)


def test_other_batches_rename_the_layers_and_keep_their_networks() -> None:
    cases = runnable(convolutions(batches=[1, 2], preset="quick", backends=["numpy"]))
    assert Counter(case.batch for case in cases) == {1: 23, 2: 23}
    assert cases[0].id == "conv2d/resnet50.1.7x7s2,batch=1/forward/float32/numpy"
    for batch in (1, 2):
        layers = of_network("resnet50", [case for case in cases if case.batch == batch])
        assert sum(layer.count for layer in layers) == 53
        assert {layer.of for layer in layers} == {53}
    one, two = (case.flops for case in cases[:2])
    assert one is not None
    assert two == 2 * one


def test_a_size_of_ones_own_belongs_to_no_network() -> None:
    layer = {"batch": [4], "in_channels": [3], "height": [8], "out_channels": [5], "kernel": [3]}
    cases = runnable(convolutions(sizes=layer, preset="quick", backends=["numpy"]))
    assert [case.size for case in cases] == [
        "batch=4,in_channels=3,height=8,out_channels=5,kernel=3"
    ]
    assert cases[0].networks == {}


def test_a_size_that_is_no_convolution_is_refused_with_the_reason() -> None:
    layer = {"batch": [4], "in_channels": [3], "height": [2], "out_channels": [5], "kernel": [3]}
    with pytest.raises(RequestError, match="the kernel is larger than the padded input"):
        convolutions(sizes=layer)


def test_a_suite_has_an_alias() -> None:
    (suite,) = choose_suites(["conv"], catalog.suites())
    assert suite.name == "convolution"
    assert choose_suites(["conv", "convolution"], catalog.suites()) == [suite]
    ids = [case.id for case in plan(suites=["conv"], preset="quick")]
    assert ids == [case.id for case in convolutions(preset="quick")]


@pytest.mark.parametrize("preset", PRESET)
def test_a_suites_share_scales_warm_up_and_sampling(preset: str) -> None:
    asked, whole = RunRequest(suites=["conv"], preset=preset), PRESET[preset].budget
    assert asked.budget() == asked.budget(1.0) == whole
    less = asked.budget(0.25)
    for name in ("warmup_seconds", "warmup_cap_seconds", "sampling_seconds"):
        assert getattr(less, name) == pytest.approx(getattr(whole, name) / 4)
    assert 4 <= less.visits < whole.visits
    assert less.precision == whole.precision


def test_a_suites_share_leaves_alone_what_the_user_said() -> None:
    asked = RunRequest(suites=["conv"], max_seconds=0.2)
    assert asked.budget(0.25).sampling_seconds == 0.2
    assert asked.budget(0.25).warmup_seconds == asked.budget().warmup_seconds / 4


def test_a_suite_of_many_layers_takes_a_share_of_the_time() -> None:
    suites = catalog.suites()
    assert suites["matmul"].share == 1.0
    assert 0 < suites["convolution"].share < 1


def with_gpus(*gpus: int, **fields: Any) -> list[CaseLine]:
    """Plan on a machine where every backend that has been tried is there."""
    probes = {
        name: Probe(name, absent=None if b.tried else ABSENT) for name, b in backends().items()
    }
    asked = RunRequest(**{"suites": ["matmul"], "sizes": {"n": [64]}, **fields})
    return make_plan(asked, catalog.suites(), catalog.workloads(), probes, 2, gpus)


def test_of_several_gpus_each_has_rows_of_its_own() -> None:
    cases = with_gpus(0, 3)
    assert {case.id.rpartition("/")[2]: case.gpu for case in cases} == {
        "numpy": None,
        "torch-cpu": None,
        "cupy+gpu=0": 0,
        "cupy+gpu=3": 3,
        "torch-cuda+gpu=0": 0,
        "torch-cuda+gpu=3": 3,
    }
    assert {case.way for case in cases} == {None}


def test_a_single_gpu_needs_no_name() -> None:
    cases = with_gpus(3)
    assert {case.id.rpartition("/")[2]: case.gpu for case in cases if case.device == "gpu"} == {
        "cupy": 3,
        "torch-cuda": 3,
    }


def test_hot_and_cold_caches_are_cases_of_their_own() -> None:
    assert {case.is_cold for case in with_gpus()} == {False}
    cold = with_gpus(cache="cold")
    assert {case.variant for case in cold} == {"cache=cold"}
    assert all(case.is_cold and case.way is None for case in cold)
    both = with_gpus(cache="both", threads=[1, 2])
    assert {case.variant for case in both if case.backend == "numpy"} == {
        *(None, "cache=cold", "threads=1", "threads=1+cache=cold"),
    }
    with pytest.raises(RequestError, match="unknown cache 'warm'"):
        with_gpus(cache="warm")


def test_transfers_are_about_gpus_only() -> None:
    cases = with_gpus(suites=["transfer"], sizes={}, preset="quick", dtypes=["float16"])
    assert {case.backend for case in cases} == {"cupy", "torch-cuda"}
    assert {case.dtype for case in cases} == {"float32"}
    with pytest.raises(RequestError, match="suite transfer is about a GPU"):
        with_gpus(suites=["transfer"], sizes={}, backends=["numpy"])


def test_a_backend_that_nobody_has_tried_is_planned_where_it_is_there_or_asked_for() -> None:
    probes = {name: Probe(name) for name in backends()}
    probes["torch-xpu"] = Probe("torch-xpu", absent=ABSENT)
    asked = RunRequest(suites=["matmul"], sizes={"n": [64]})
    cases = make_plan(asked, catalog.suites(), catalog.workloads(), probes, 2)
    assert "torch-mps" in {case.backend for case in cases}
    assert "torch-xpu" not in {case.backend for case in cases}
