import gc
import itertools
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.backends.base import DeviceState, Unknown
from bench.errors import CaseError
from bench.measuring import measure as engine
from bench.measuring.energy import joules_per_call
from bench.measuring.exchange import HostArray
from bench.measuring.measure import Order, failure
from bench.measuring.reference import draw
from bench.measuring.sampling import Budget, Stopwatch
from bench.workload import Call, Dims, Phase, Prepare, Size, Workload
from tests.fakes import FakeCpu, FakeDevice, FakeMemoryError, whole_block

BUDGET = Budget(warmup_seconds=0.1, warmup_cap_seconds=0.5, sampling_seconds=0.3, visits=3)
N = 24


def product(
    seconds: float | Callable[[], float] = 2e-3,
    *,
    stream: str = "main",
    change: Callable[[Any], Any] = lambda array: array,
    change_inputs: Callable[[Any], Any] = lambda array: array,
) -> Prepare:
    """Return a product that takes `seconds`; `change` plants a fault in its result."""

    def prepare(device: FakeDevice, dims: Dims, a: Any, b: Any) -> Call:
        out = device.empty(len(a), b.shape[1], dtype=a.dtype)

        def call() -> Any:
            device.launch(seconds() if callable(seconds) else seconds, stream)
            out[...] = change(change_inputs(a) @ change_inputs(b))
            return out

        return call

    return prepare


def order(
    folder: Path,
    dtype: str = "float32",
    n: int = N,
    reference: Callable[..., Any] = lambda _numpy, _dims, a, b: a @ b,
    **fields: Any,
) -> Order:
    """Draw a product's inputs and its reference as the parent has them drawn."""
    workload = Workload(
        name="product",
        summary="",
        source="",
        suites=(),
        sizes=[Size(dims={"n": n})],
        inputs=lambda rng, dims: [rng.standard_normal((dims["n"], dims["n"])) for _ in "ab"],
        phases={"call": Phase(reference=reference)},
    )
    drawn = draw(np, workload, {"n": n}, "call", dtype, 0, folder)
    return Order(
        dims={"n": n},
        dtype=dtype,
        inputs=drawn.inputs,
        decoy=drawn.decoy,
        reference=drawn.reference,
        **{"budget": BUDGET, "cores": 2, **fields},
    )


def ending(prepare: Prepare, given: Order, device: FakeDevice | None = None) -> tuple[str, str]:
    """Return the status and the reason that a case ends with."""
    device = device or FakeDevice()
    with pytest.raises(CaseError) as caught:
        whole_block(device, prepare, given, device.clock)
    return caught.value.status, caught.value.reason


def block(prepare: Prepare, given: Order, device: FakeDevice | None = None) -> dict[str, Any]:
    device = device or FakeDevice()
    return whole_block(device, prepare, given, device.clock)


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "disturbances", lambda *_: [])


def test_a_call_that_waits_is_right(tmp_path: Path) -> None:
    measured = block(product(), order(tmp_path))
    assert statistics.median(measured["seconds"]) == pytest.approx(2e-3, rel=0.01)
    assert measured["calls_per_sample"] == 8
    assert measured["relative_error"] < 5e-6
    assert measured["notes"] == []
    assert measured["disturbances"] == []


def test_a_missing_synchronisation_ends_as_unsynchronised(tmp_path: Path) -> None:
    status, reason = ending(product(stream="side"), order(tmp_path))
    assert status == "unsynchronised"
    assert "synchronising its stream" in reason


def test_a_missing_synchronisation_is_seen_in_a_single_huge_call(tmp_path: Path) -> None:
    def partly(device: FakeDevice, dims: Dims, a: Any, b: Any) -> Call:
        def call() -> Any:
            device.launch(1.2)
            device.launch(3.0, "side")
            return a @ b

        return call

    assert ending(partly, order(tmp_path))[0] == "unsynchronised"


def test_on_a_cpu_the_call_is_all_there_is(tmp_path: Path) -> None:
    measured = block(product(), order(tmp_path), FakeCpu())
    assert statistics.median(measured["seconds"]) == pytest.approx(2e-3, rel=0.01)
    assert statistics.median(measured["host_seconds"]) == pytest.approx(2e-3, rel=0.01)
    assert "device_seconds" not in measured
    assert "end_to_end_seconds" not in measured


def test_what_a_caller_waits_for_includes_launching_and_waiting(tmp_path: Path) -> None:
    device = FakeDevice(launch_seconds=100e-6, synchronize_seconds=300e-6)
    measured = block(product(1e-3), order(tmp_path), device)
    assert statistics.median(measured["host_seconds"]) == pytest.approx(1.4e-3, rel=0.01)
    assert statistics.median(measured["seconds"]) < 1.2e-3, "calls overlap in a row"


def test_the_devices_own_time_comes_from_its_events(tmp_path: Path) -> None:
    device = FakeDevice(synchronize_seconds=500e-6)
    measured = block(product(), order(tmp_path), device)
    assert measured["device_seconds"] == [pytest.approx(2e-3, rel=0.01)] * 20


def in_pieces(pieces: int, seconds: float) -> Prepare:
    """Return a product whose call launches several kernels."""

    def prepare(device: FakeDevice, dims: Dims, a: Any, b: Any) -> Call:
        out = device.empty(len(a), b.shape[1], dtype=a.dtype)

        def call() -> Any:
            for _ in range(pieces):
                device.launch(seconds)
            out[...] = a @ b
            return out

        return call

    return prepare


def test_the_devices_own_time_holds_no_launches(tmp_path: Path) -> None:
    device = FakeDevice(launch_seconds=100e-6)
    measured = block(in_pieces(10, 5e-6), order(tmp_path), device)
    assert statistics.median(measured["device_seconds"]) == pytest.approx(50e-6, rel=0.01)
    assert statistics.median(measured["seconds"]) == pytest.approx(1e-3, rel=0.02)
    assert "launch_bound" in measured["notes"]


class CachedDevice(FakeDevice):
    """A product takes 1 ms, and 3 ms once a large copy has taken its place in the cache."""

    cached = True

    def copy(self, length: int) -> Call:
        flush = super().copy(length)

        def call() -> None:
            self.cached = length < 2**20
            flush()

        return call

    def work(self) -> float:
        was, self.cached = self.cached, True
        return 1e-3 if was else 3e-3


class CachedCpu(CachedDevice, FakeCpu):
    """The same on a CPU."""


@pytest.mark.parametrize("kind", [CachedDevice, CachedCpu])
def test_a_cold_call_finds_its_data_in_no_cache(kind: type[CachedDevice], tmp_path: Path) -> None:
    found = {}
    for cold in (False, True):
        device = kind(launch_seconds=10e-6)
        asked = order(tmp_path / str(cold), cold=cold)
        found[cold] = block(product(device.work), asked, device)
    assert statistics.median(found[False]["seconds"]) == pytest.approx(1e-3, rel=0.02)
    assert all(second == pytest.approx(3e-3, rel=0.01) for second in found[True]["seconds"])
    assert found[True]["calls_per_sample"] == 1
    assert statistics.median(found[True]["host_seconds"]) == pytest.approx(3e-3, rel=0.02)
    assert found[True]["peak_bytes"] in (None, found[False]["peak_bytes"]), "without the flush"


def test_a_cold_call_on_a_device_holds_neither_launch_nor_flush(tmp_path: Path) -> None:
    device = FakeDevice(launch_seconds=500e-6)
    measured = block(product(1e-3), order(tmp_path, cold=True), device)
    assert statistics.median(measured["seconds"]) == pytest.approx(1e-3, rel=0.01)
    assert statistics.median(measured["host_seconds"]) == pytest.approx(1.5e-3, rel=0.01)


def test_a_cold_call_of_many_kernels_holds_no_launch_though_the_flush_is_short(
    tmp_path: Path,
) -> None:
    device = FakeDevice(launch_seconds=100e-6, bytes_per_second=4e12)
    measured = block(in_pieces(10, 5e-6), order(tmp_path, cold=True), device)
    assert statistics.median(measured["seconds"]) == pytest.approx(50e-6, rel=0.01)


def test_a_cold_call_that_nobody_waits_for_is_unsynchronised(tmp_path: Path) -> None:
    asked = order(tmp_path, cold=True)
    assert ending(product(stream="side"), asked)[0] == "unsynchronised"


def test_energy_is_that_of_one_call(tmp_path: Path) -> None:
    measured = block(product(2e-3), order(tmp_path, energy=True))
    assert measured["energy_joules"] == pytest.approx(0.2, rel=0.02), "100 W for 2 ms"
    assert "energy_joules" not in block(product(2e-3), order(tmp_path / "not_asked"))


def test_the_energy_of_emptying_the_caches_is_nobodys(tmp_path: Path) -> None:
    measured = block(product(2e-3), order(tmp_path, energy=True, cold=True))
    assert "energy_joules" not in measured
    assert "emptying them uses energy" in measured["unknown_at_last"]["energy_joules"]


def test_energy_that_no_counter_tells_has_a_reason(tmp_path: Path) -> None:
    class Uncounted(FakeDevice):
        def energy(self) -> float:
            raise Unknown("no counter")

    class Stuck(FakeDevice):
        def energy(self) -> float:
            return 5.0

    for kind, reason in [(Uncounted, "no counter"), (Stuck, "the energy counter did not move")]:
        measured = block(product(), order(tmp_path / kind.__name__, energy=True), kind())
        assert measured["unknown_at_last"] == {"energy_joules": reason}


def test_a_window_that_is_too_short_for_the_counter_is_refused() -> None:
    device = FakeDevice()
    stopwatch = Stopwatch(device, lambda: device.launch(1e-3), device.clock)
    with pytest.raises(Unknown, match="20 ms is too short for the energy counter"):
        joules_per_call(stopwatch, 8, device.clock, window=0.02)
    assert device.launches == 0
    used = joules_per_call(stopwatch, 8, device.clock)
    assert used == pytest.approx(0.1, rel=0.02)


def test_a_device_that_nobody_has_tried_says_so(tmp_path: Path) -> None:
    class Untried(FakeDevice):
        tried = False

    assert "untried" in block(product(), order(tmp_path), Untried())["notes"]


def test_a_one_element_kernel_is_launch_bound_and_a_long_one_is_not(tmp_path: Path) -> None:
    small = block(product(1e-6), order(tmp_path / "small", n=1))
    assert "launch_bound" in small["notes"]
    assert statistics.median(small["seconds"]) == pytest.approx(3e-6, rel=0.01)
    assert "launch_bound" not in block(product(20e-6), order(tmp_path / "long"))["notes"]


@pytest.mark.parametrize("seconds", [1e-3, 30e-3, 0.3])
def test_a_call_that_waits_for_the_device_itself_is_not_launch_bound(
    seconds: float, tmp_path: Path
) -> None:
    def prepare(device: FakeDevice, dims: Dims, a: Any, b: Any) -> Call:
        def call() -> Any:
            device.launch(seconds)
            device.synchronize()
            return a @ b

        return call

    device = FakeDevice()
    assert "launch_bound" not in block(prepare, order(tmp_path), device)["notes"]
    assert max(device.held) <= max(0.4, 2.1 * seconds), "no hold doubles the one before"


@pytest.mark.parametrize("launches", [0.015, 0.06, 0.4])
def test_a_call_that_launches_for_long_is_launch_bound(launches: float, tmp_path: Path) -> None:
    device = FakeDevice(launch_seconds=launches / 10)
    assert "launch_bound" in block(in_pieces(10, 5e-6), order(tmp_path), device)["notes"]


def test_the_time_of_a_user_includes_both_transfers(tmp_path: Path) -> None:
    device = FakeDevice(bytes_per_second=1e6)
    measured = block(product(), order(tmp_path), device)
    transfers = 3 * 4 * N * N / 1e6
    assert measured["end_to_end_seconds"] == [pytest.approx(2e-3 + transfers, rel=0.01)] * 5


def test_parameters_and_gradients_stay_on_the_device(tmp_path: Path) -> None:
    device = FakeDevice(bytes_per_second=1e6)

    def step(library: FakeDevice, _dims: Dims, x: Any, w: Any) -> Call:
        loss, gradient = library.empty(1), library.empty(N, N)

        def call() -> Any:
            device.launch(2e-3)
            gradient[...] = x @ w
            loss[...] = gradient.sum()
            return loss, gradient

        return call

    def right(_numpy: Any, _dims: Dims, x: Any, w: Any) -> Any:
        return (x @ w).sum().reshape(1), x @ w

    given = order(tmp_path, reference=right, fresh_inputs=1, answers=1)
    measured = block(step, given, device)
    transfers = (4 * N * N + 4) / 1e6  # x there, the loss back
    assert measured["end_to_end_seconds"] == [pytest.approx(2e-3 + transfers, rel=0.01)] * 5


def test_the_peak_of_memory_is_the_devices(tmp_path: Path) -> None:
    measured = block(product(), order(tmp_path))
    assert measured["peak_bytes"] == 3 * 4 * N * N
    assert measured["unknown"] == {}


def test_the_peak_of_memory_includes_the_workspace_of_a_huge_call(tmp_path: Path) -> None:
    def wasteful(device: FakeDevice, dims: Dims, a: Any, b: Any) -> Call:
        def call() -> Any:
            workspace = device.empty(1000, dtype="uint8")
            device.launch(1.5)
            return a @ b if len(workspace) else None

        return call

    assert block(wasteful, order(tmp_path))["peak_bytes"] == 2 * 4 * N * N + 1000


def test_too_little_memory_is_told_as_such(tmp_path: Path) -> None:
    device = FakeDevice(memory_bytes=5000)
    with pytest.raises(FakeMemoryError) as caught:
        whole_block(device, product(), order(tmp_path), device.clock)
    error = failure(device, caught.value)
    assert (error.status, error.reason) == ("out_of_memory", "cannot allocate 2304 bytes")


def test_an_error_of_the_workload_is_told_with_its_place() -> None:
    try:
        raise KeyError("weights")
    except KeyError as caught:
        error = failure(FakeDevice(), caught)
    assert error.status == "failed"
    assert error.reason.startswith("KeyError: 'weights' (test_measure.py:")
    assert failure(None, MemoryError()).reason == "memory ran out"


def test_the_first_call_is_told_apart_from_the_steady_ones(tmp_path: Path) -> None:
    durations = itertools.chain([0.04] * 5, itertools.repeat(0.002))
    measured = block(product(lambda: next(durations)), order(tmp_path))
    assert measured["first_call_seconds"] == pytest.approx(0.04, rel=0.01)
    assert statistics.median(measured["seconds"]) == pytest.approx(0.002, rel=0.01)
    assert max(measured["seconds"]) < 0.003
    assert measured["warmup_calls"] > 5
    assert measured["notes"] == []


def test_a_first_call_of_a_second_does_not_make_a_short_call_huge(tmp_path: Path) -> None:
    durations = itertools.chain([3.0], itertools.repeat(0.002))
    measured = block(product(lambda: next(durations)), order(tmp_path))
    assert measured["first_call_seconds"] == pytest.approx(3.0, rel=0.01)
    assert measured["calls_per_sample"] == 8
    assert measured["warmup_calls"] > 5


def test_a_huge_call_is_made_twice_and_verified_on_the_timed_output(tmp_path: Path) -> None:
    device = FakeCpu()
    measured = block(product(1.5), order(tmp_path, budget=Budget()), device)
    assert device.launches == 2
    assert measured["seconds"] == [pytest.approx(1.5)]
    assert measured["host_seconds"] == measured["seconds"]
    assert measured["first_call_seconds"] == pytest.approx(1.5)
    assert (measured["calls_per_sample"], measured["warmup_calls"]) == (1, 1)
    assert measured["notes"] == []
    wrong = product(1.5, change=lambda array: 1.001 * array)
    assert ending(wrong, order(tmp_path), FakeCpu())[0] == "wrong"


def test_a_huge_call_on_a_device_is_made_once_more_for_each_of_its_times(tmp_path: Path) -> None:
    device = FakeDevice()
    measured = block(product(1.5), order(tmp_path), device)
    assert device.launches == 4
    assert len(measured["device_seconds"]) == len(measured["end_to_end_seconds"]) == 1


def test_huge_calls_fill_a_budget_that_has_room_for_several(tmp_path: Path) -> None:
    measured = block(product(1.5), order(tmp_path, budget=Budget(sampling_seconds=5.0)))
    assert measured["seconds"] == [pytest.approx(1.5, rel=0.001)] * 3


def test_the_calls_of_a_sample_are_those_of_the_first_block(tmp_path: Path) -> None:
    measured = block(product(), order(tmp_path, calls_per_sample=37))
    assert measured["calls_per_sample"] == 37
    assert statistics.median(measured["seconds"]) == pytest.approx(2e-3, rel=0.01)


def test_a_case_that_never_settles_says_so(tmp_path: Path) -> None:
    slower = (0.001 * 1.01**number for number in itertools.count())
    measured = block(product(lambda: next(slower)), order(tmp_path), FakeCpu())
    assert "no_steady_state" in measured["notes"]


def test_twice_the_calls_that_do_not_take_twice_the_time_are_noted(tmp_path: Path) -> None:
    device = FakeDevice(synchronize_seconds=3e-3)
    assert block(product(20e-6), order(tmp_path), device)["notes"] == ["nonlinear"]


def rounded_to_tf32(array: Any) -> Any:
    """Round a float32 to the 10 bits of mantissa that TF32 keeps."""
    if array.dtype != np.float32:
        return array
    bits = array.view("uint32")
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view("float32")


def test_a_thousandth_too_much_is_wrong(tmp_path: Path) -> None:
    status, reason = ending(product(change=lambda array: 1.001 * array), order(tmp_path))
    assert status == "wrong"
    assert reason.startswith("relative error 0.001 against float64; the limit of float32 is 5e-06")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_wrong(tmp_path: Path, value: float) -> None:
    def spoil(array: Any) -> Any:
        array[3, 4] = value
        return array

    status, reason = ending(product(change=spoil), order(tmp_path))
    assert status == "wrong"
    assert "NaN or infinity" in reason


def test_zeros_are_wrong(tmp_path: Path) -> None:
    status, reason = ending(product(change=np.zeros_like), order(tmp_path))
    assert status == "wrong"
    assert "relative error 1 " in reason


def test_tf32_under_the_name_of_float32_is_wrong(tmp_path: Path) -> None:
    status, reason = ending(product(change_inputs=rounded_to_tf32), order(tmp_path))
    assert status == "wrong"
    assert "TF32" in reason


def test_tf32_under_its_own_name_is_right(tmp_path: Path) -> None:
    device = FakeDevice()
    measured = block(product(change_inputs=rounded_to_tf32), order(tmp_path, "tf32"), device)
    assert 5e-6 < measured["relative_error"] < 1e-3
    assert set(device.used) == {"tf32"}, "the device was told which precision to use"


def test_the_output_of_the_call_before_is_wrong(tmp_path: Path) -> None:
    before: list[Any] = []

    def late(array: Any) -> Any:
        before.append(array)
        return before[max(0, len(before) - 2)]

    status, reason = ending(product(change=late), order(tmp_path))
    assert status == "wrong"
    assert "relative error 1.4 " in reason, "inputs unlike those of the call before"


def test_a_result_of_the_first_call_that_is_kept_is_wrong(tmp_path: Path) -> None:
    kept: dict[str, Any] = {}

    def memoised(device: FakeDevice, dims: Dims, a: Any, b: Any) -> Call:
        def call() -> Any:
            device.launch(2e-3)
            return kept.setdefault("product", a @ b)

        return call

    assert ending(memoised, order(tmp_path))[0] == "wrong"


def test_a_buffer_that_is_never_written_is_wrong(tmp_path: Path) -> None:
    def idle(device: FakeDevice, dims: Dims, a: Any, b: Any) -> Call:
        out = device.empty(N, N)

        def call() -> Any:
            device.launch(2e-3)
            return out

        return call

    assert ending(idle, order(tmp_path))[0] == "wrong"


def test_a_buffer_that_is_written_only_at_first_is_wrong(tmp_path: Path) -> None:
    def lazy(device: FakeDevice, dims: Dims, a: Any, b: Any) -> Call:
        out = a @ b

        def call() -> Any:
            device.launch(2e-3)
            return out

        return call

    status, reason = ending(lazy, order(tmp_path))
    assert status == "wrong"
    assert "not written" in reason


def test_a_fault_that_begins_after_some_calls_is_caught_in_the_end(tmp_path: Path) -> None:
    number = itertools.count()
    device = FakeDevice()

    def tire(array: Any) -> Any:
        return array * (1.01 if next(number) > 60 else 1)

    assert ending(product(change=tire), order(tmp_path), device)[0] == "wrong"
    assert device.launches > 60


def test_an_output_of_another_shape_is_wrong(tmp_path: Path) -> None:
    def narrow(device: FakeDevice, dims: Dims, a: Any, b: Any) -> Call:
        return lambda: (a @ b)[:, :-1]

    status, reason = ending(narrow, order(tmp_path))
    assert status == "wrong"
    assert "(24, 23)" in reason
    assert "(24, 24)" in reason


def test_a_second_output_that_nobody_expects_is_wrong(tmp_path: Path) -> None:
    def double(device: FakeDevice, dims: Dims, a: Any, b: Any) -> Call:
        return lambda: (a @ b, a)

    assert ending(double, order(tmp_path))[0] == "wrong"


def test_a_workload_may_allow_itself_a_larger_error(tmp_path: Path) -> None:
    change = product(change=lambda array: (1 + 2e-5) * array)
    assert ending(change, order(tmp_path))[0] == "wrong"
    assert block(change, order(tmp_path, error_factor=8))["relative_error"] > 1e-5


HOT = DeviceState(throttled=("hardware thermal slowdown",))


@pytest.mark.parametrize(
    "states",
    [{0.0: HOT}, {0.0: HOT, 0.3: DeviceState()}, {0.4: HOT}],
    ids=["throughout", "until some samples were taken", "from then on"],
)
def test_a_throttled_clock_disturbs_a_block(tmp_path: Path, states: Any) -> None:
    measured = block(product(), order(tmp_path), FakeDevice(states=states))
    assert measured["disturbances"] == ["throttled: hardware thermal slowdown"]


def test_a_clock_that_was_throttled_before_warming_up_disturbs_nothing(tmp_path: Path) -> None:
    device = FakeDevice(states={0.0: HOT, 0.1: DeviceState()})
    assert block(product(), order(tmp_path), device)["disturbances"] == []


def test_a_throttled_clock_disturbs_a_huge_call(tmp_path: Path) -> None:
    device = FakeDevice(states={0.0: HOT, 2.0: DeviceState()})
    assert block(product(1.5), order(tmp_path), device)["disturbances"]


def test_a_power_cap_is_noted_and_disturbs_nothing(tmp_path: Path) -> None:
    device = FakeDevice(states={0.4: DeviceState(labels=("power_capped",))})
    measured = block(product(), order(tmp_path), device)
    assert measured["notes"] == ["power_capped"]
    assert measured["disturbances"] == []


def test_the_counters_of_the_machine_are_read_around_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "disturbances", lambda before, after, cores: [f"{cores} busy"])
    assert block(product(), order(tmp_path))["disturbances"] == ["2 busy"]


def test_garbage_is_collected_again_after_a_case_however_it_ends(tmp_path: Path) -> None:
    collecting: list[bool] = []

    def look(array: Any) -> Any:
        collecting.append(gc.isenabled())
        return array

    block(product(change=look), order(tmp_path))
    assert gc.isenabled()
    assert collecting[0], "what is not timed may collect"
    assert not all(collecting), "what is timed must not"
    ending(product(stream="side"), order(tmp_path))
    assert gc.isenabled()


def test_an_order_comes_as_json(tmp_path: Path) -> None:
    given = order(tmp_path)
    fields = {
        **{name: getattr(given, name) for name in ("dims", "dtype", "inputs", "decoy", "cores")},
        "reference": {"kind": given.reference.kind, "path": given.reference.path},
        "budget": {name: getattr(BUDGET, name) for name in BUDGET.__dataclass_fields__},
    }
    assert Order.from_dict(fields) == given


def test_work_is_counted_for_the_time_limit(tmp_path: Path) -> None:
    device = FakeCpu()
    measured = block(product(), order(tmp_path), device)
    assert measured["worked_seconds"] == pytest.approx(device.launches * 2e-3, rel=0.01)


def test_empty_inputs_reach_the_device() -> None:
    array = HostArray((0, 3), "float32", b"")
    assert FakeDevice().to_device(array).shape == (0, 3)
