from typing import Any

import msgspec
import pytest

from bench.results.networks import totals, unsummed
from bench.results.schema import Layers, Measurement
from bench.results.table import table
from tests.runs import interval, layer, measurement, network_run, run


def total(*layers: Measurement) -> Measurement:
    """Return the only total of the layers."""
    (found,) = totals(layers)
    return found


def refused(*layers: Measurement) -> str:
    """Return why there is no total of the layers."""
    assert not totals(layers)
    (remark,) = unsummed(layers)
    return remark


def two(**fields: Any) -> list[Measurement]:
    """Return the layers of a network of three, two of which are alike."""
    return [layer("1", count=1, of=3, **fields), layer("2", count=2, of=3, **fields)]


def test_each_layer_counts_as_often_as_the_network_has_it() -> None:
    first = layer("1", seconds=0.010, count=1, of=3, flops=100, bytes_moved=7)
    second = layer("2", seconds=0.020, count=2, of=3, flops=1000, bytes_moved=70)
    found = total(first, second)
    assert found.seconds is not None
    assert found.seconds.median == pytest.approx(0.050)
    assert found.seconds.min == pytest.approx(0.0099 + 2 * 0.0198)
    assert (found.flops, found.bytes_moved) == (2100, 147)
    assert found.flops_per_second == pytest.approx(2100 / 0.050)


def test_a_total_has_the_identity_of_its_layers_and_its_own_size() -> None:
    found = total(*two(variant="channels_last", backend="torch-cpu"))
    assert found.key == (
        "convolution",
        "conv2d/tiny,batch=8/forward/float32/torch-cpu+channels_last",
    )
    assert (found.workload, found.workload_version, found.phase) == ("conv2d", 1, "forward")
    assert (found.size, found.sizes, found.batch) == ("tiny,batch=8", {"batch": 8}, 8)
    assert (found.backend, found.variant) == ("torch-cpu", "channels_last")
    assert (found.threads, found.device, found.status) == (2, "cpu", "ok")
    assert (found.flags, found.reason) == (["sum_of_layers"], "sum of 3 layers")
    assert not found.networks
    assert not totals([found])


def test_without_a_batch_the_size_is_the_name_of_the_network() -> None:
    found = total(*two(batch=None))
    assert found.id == "conv2d/tiny/forward/float32/numpy"
    assert (found.size, found.sizes, found.batch) == ("tiny", {}, None)


def test_the_interval_is_that_of_layers_which_all_drift_together() -> None:
    layers = [
        layer("1", seconds=0.010, count=1, of=3, spread=0.1),
        layer("2", seconds=0.020, count=2, of=3, spread=0.2),
    ]
    seconds = total(*layers).seconds
    assert seconds is not None
    assert seconds.low == pytest.approx(0.010 * 0.9 + 2 * 0.020 * 0.8)
    assert seconds.high == pytest.approx(0.010 * 1.1 + 2 * 0.020 * 1.2)


def test_a_layer_of_one_block_leaves_the_total_without_an_interval() -> None:
    seconds = total(layer("1", of=2), layer("2", of=2, spread=None)).seconds
    assert seconds is not None
    assert (seconds.low, seconds.high) == (None, None)
    assert seconds.median == pytest.approx(2e-3)


@pytest.mark.parametrize("metric", ["host_seconds", "device_seconds", "end_to_end_seconds"])
def test_the_other_clocks_are_summed_where_every_layer_has_them(metric: str) -> None:
    layers = two()
    setattr(layers[0], metric, interval(0.5))
    setattr(layers[1], metric, interval(0.25))
    assert getattr(total(*layers), metric).median == pytest.approx(1.0)
    setattr(layers[1], metric, None)
    assert getattr(total(*layers), metric) is None


@pytest.mark.parametrize("name", ["flops", "bytes_moved", "peak_bytes", "relative_error"])
def test_what_one_layer_does_not_know_the_total_does_not_know(name: str) -> None:
    layers = [layer("1", of=2), layer("2", of=2)]
    setattr(layers[0], name, 7)
    setattr(layers[1], name, None)
    assert getattr(total(*layers), name) is None
    setattr(layers[1], name, 0)
    assert getattr(total(*layers), name) == 7


def test_memory_and_error_are_those_of_the_worst_layer() -> None:
    layers = [
        layer("1", of=3, count=2, peak_bytes=10, relative_error=1e-7),
        layer("2", of=3, peak_bytes=30, relative_error=1e-8),
    ]
    found = total(*layers)
    assert (found.peak_bytes, found.relative_error) == (30, 1e-7)


def test_a_network_without_a_layer_has_no_sum_but_a_remark() -> None:
    assert refused(layer("1", of=3, count=1)) == (
        "tiny,batch=8, conv2d forward, float32 on numpy: no sum,"
        " only 1 of its 3 layers have a number here"
    )


@pytest.mark.parametrize("status", ["skipped", "wrong", "crashed", "implausible"])
def test_a_layer_that_went_wrong_leaves_the_network_without_a_sum(status: Any) -> None:
    # A case that failed its verification may still have a time in the file.
    bad = layer("2", count=2, of=3, status=status, reason="because")
    assert "only 1 of its 3 layers" in refused(layer("1", count=1, of=3), bad)


def test_a_place_where_no_layer_has_a_number_is_not_remarked_on() -> None:
    absent = [layer(n, "cupy", None, of=2, status="skipped") for n in "12"]
    assert not totals(absent)
    assert not unsummed(absent)


def test_places_that_lack_the_same_layers_share_a_remark() -> None:
    layers = [
        layer("1", place, of=9, phase=phase)
        for phase in ("forward", "input_gradient")
        for place in ("numpy", "torch-cpu")
    ]
    layers.append(layer("2", "torch-cpu", of=9))
    assert unsummed(layers) == [
        "tiny,batch=8, conv2d forward, float32 on numpy: no sum,"
        " only 1 of its 9 layers have a number here",
        "tiny,batch=8, conv2d forward, float32 on torch-cpu: no sum,"
        " only 2 of its 9 layers have a number here",
        "tiny,batch=8, conv2d input_gradient, float32 on numpy, torch-cpu: no sum,"
        " only 1 of its 9 layers have a number here",
    ]


def test_an_incomplete_place_takes_no_total_from_the_others() -> None:
    cases = network_run().measurements
    assert [m.place for m in totals(cases)] == ["numpy", "torch-cpu"]
    (remark,) = unsummed(cases)
    assert "on cupy: no sum, only 3 of its 4 layers" in remark


def test_what_differs_is_never_added_up() -> None:
    layers = [
        *two(batch=8),
        *two(batch=16),
        *two(phase="input_gradient"),
        *two(dtype="float64"),
        *two(suite="other"),
        *two(variant="threads=1", threads=1),
        *two(network="other"),
    ]
    found = totals(layers)
    assert [(m.suite, m.id) for m in found] == [
        ("convolution", "conv2d/tiny,batch=8/forward/float32/numpy"),
        ("convolution", "conv2d/tiny,batch=8/forward/float32/numpy+threads=1"),
        ("convolution", "conv2d/tiny,batch=16/forward/float32/numpy"),
        ("convolution", "conv2d/tiny,batch=8/input_gradient/float32/numpy"),
        ("convolution", "conv2d/tiny,batch=8/forward/float64/numpy"),
        ("other", "conv2d/tiny,batch=8/forward/float32/numpy"),
        ("convolution", "conv2d/other,batch=8/forward/float32/numpy"),
    ]
    assert {m.flops for m in found} == {3 * 10**6}
    assert [m.threads for m in found] == [2, 1, 2, 2, 2, 2, 2]
    new, old = layer("1", of=2), layer("2", of=2)
    new.workload_version = 2
    assert not totals([old, new])


def test_a_layer_of_two_networks_counts_in_each() -> None:
    shared = layer("1", seconds=0.5)
    shared.networks = {"vgg16": Layers(count=3, of=3), "vgg19": Layers(count=4, of=4)}
    found = {m.size: m.seconds.median for m in totals([shared]) if m.seconds}
    assert found == {"vgg16,batch=8": 1.5, "vgg19,batch=8": 2.0}


def test_cases_that_are_no_layers_have_no_total_and_no_remark() -> None:
    assert not totals([measurement()])
    assert not unsummed([measurement()])
    assert not totals([])


def contradictions() -> dict[str, list[Measurement]]:
    twice = layer("1", of=2)
    twice.id = twice.id.replace("tiny.1", "tiny.9")
    return {
        "two lengths": [layer("1", of=1), layer("2", of=2)],
        "another length elsewhere": [*two(), layer("2", "cupy", count=2, of=9)],
        "more layers than it has": [layer("1", of=2, count=2), layer("2", of=2)],
        "a layer too many without a number": [
            *two(),
            layer("3", of=3, seconds=None, status="failed"),
        ],
        "the same size twice": [layer("1", of=2), twice],
        "two numbers of threads at one place": [layer("1", of=2), layer("2", of=2, threads=1)],
        "another count elsewhere": [*two(), layer("1", "cupy", count=3, of=3)],
        "other layers elsewhere": [*two(), layer("9", "cupy", count=3, of=3)],
    }


@pytest.mark.parametrize("name", contradictions())
def test_a_run_that_contradicts_itself_has_no_total(name: str) -> None:
    assert "no sum, the run contradicts itself" in refused(*contradictions()[name])


@pytest.mark.parametrize(
    "large",
    [
        {"seconds": 1e12},
        {"flops": 2**62},
        {"bytes_moved": 2**62},
        {"device_seconds": interval(9e11, None)},
    ],
    ids=lambda large: next(iter(large)),
)
def test_a_sum_beyond_what_a_run_file_holds_is_no_total(large: dict[str, Any]) -> None:
    layers = [layer(n, of=4, count=2, spread=None, **large) for n in "12"]
    assert "no sum, it is larger than any number" in refused(*layers)


def test_a_total_never_takes_the_name_of_a_case() -> None:
    case = measurement("conv2d", name="tiny", sizes={"batch": 8}, phase="forward")
    case.suite = "convolution"
    assert "no sum, a case has its name" in refused(case, *two())
    # Two networks whose names and batches read the same.
    other = two(network="tiny,batch=8", batch=None)
    assert len(totals([*two(), *other])) == 1
    assert len(unsummed([*two(), *other])) == 1


def test_a_total_could_stand_in_a_run_file() -> None:
    for found in totals(network_run().measurements):
        text = msgspec.json.encode(found)
        assert msgspec.json.decode(text, type=Measurement) == found


def test_the_table_for_pandas_has_cases_only() -> None:
    cases = network_run()
    assert list(table([cases])["id"]) == [m.id for m in cases.measurements]
    assert list(table([cases]).columns) == list(table([run(layer("1"))]).columns)
