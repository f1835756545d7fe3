"""Requests to a service: in virtual time with one server, on real threads with several."""

import random
import statistics
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import CaseError
from bench.measuring import measure as engine
from bench.measuring.serving import MOST_REQUESTS, Service
from bench.results.latency import percentile
from bench.workload import Call, Dims
from tests.fakes import FakeCpu, FakeDevice, numpy_backend, whole_block
from tests.test_measure import order, product

FOREVER = 1e12
CLOSED = {"concurrency": 1, "rate": None, "seed": 3}


class VirtualClock:
    """Stands still but for what is slept or worked; a sleep of nothing lasts 10 us."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-5)


def service(
    times: Callable[[], float], rate: float | None = None, seed: int = 1
) -> tuple[Service, VirtualClock]:
    """Return a service whose one server takes what `times` says."""
    clock = VirtualClock()

    def server() -> None:
        clock.now += times()

    return Service([server], rate, seed, clock, clock.sleep), clock


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "disturbances", lambda *_: [])


def test_in_a_closed_loop_a_request_takes_what_its_service_takes() -> None:
    draw = random.Random(7)
    times = [draw.lognormvariate(-6, 0.8) for _ in range(20_000)]
    told = service(iter(times).__next__)[0].serve(FOREVER, len(times))
    assert told.request_seconds == pytest.approx(times, abs=1e-9)
    assert told.serving_seconds == pytest.approx(sum(times))


def test_percentiles_are_those_of_the_distribution_that_was_served() -> None:
    draw = random.Random(7)
    told = service(lambda: draw.lognormvariate(-6, 0.8))[0].serve(FOREVER, 100_000)
    for share in (0.5, 0.9, 0.99, 0.999):
        true = statistics.NormalDist(-6, 0.8).inv_cdf(share)
        true = 2.718281828459045**true
        assert percentile(told.request_seconds, share) == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("busy", [0.1, 0.3, 0.5, 0.7, 0.8])
def test_waiting_under_random_arrivals_agrees_with_the_theory_of_queues(busy: float) -> None:
    seconds = 0.01
    served, clock = service(lambda: seconds, busy / seconds)
    waited: list[float] = []
    while len(waited) < 100_000:  # in visits, between which time passes
        waited += [took - seconds for took in served.serve(0.9).request_seconds]
        clock.now += 3.0
    expected = busy * seconds / (2 * (1 - busy))  # Pollaczek and Khinchine, for M/D/1
    assert statistics.fmean(waited) == pytest.approx(expected, rel=0.05)
    assert served.utilisation == pytest.approx(busy)


def test_what_arrives_has_the_rate_that_was_asked_for() -> None:
    served, _ = service(lambda: 1e-4, rate=50.0)
    told = served.serve(1000.0, 10**9)
    assert len(told.request_seconds) == pytest.approx(50 * 1000, rel=0.02)
    assert told.serving_seconds == pytest.approx(1000.0, rel=1e-3)


def test_a_slow_answer_is_seen_in_all_that_waited_behind_it() -> None:
    times = iter([1e-3] * 100 + [2.0] + [1e-3] * 1000)
    served, _ = service(times.__next__, rate=100.0)
    told = served.serve(FOREVER, 600).request_seconds
    # 2 seconds of arrivals at 100 a second wait: from the answer alone only one would be slow.
    assert 150 < sum(took > 0.1 for took in told) < 260
    slow = told.index(max(told))
    assert told[slow] == pytest.approx(2.0, rel=0.05)
    assert all(later < sooner for sooner, later in pairwise(told[slow : slow + 150 : 20]))


def test_more_than_can_be_answered_is_an_overload() -> None:
    served, _ = service(lambda: 0.01, rate=120.0)
    for _ in range(10):
        told = served.serve(1.0)
    assert served.utilisation == pytest.approx(1.2)
    # Ten seconds of work for 8.3 seconds of arrivals: who comes last waits longest.
    assert told.request_seconds[-1] == pytest.approx(10 / 6, rel=0.35)
    assert served.requests == pytest.approx(1000, abs=11)  # each visit ends with an answer


def test_a_closed_loop_is_never_overloaded_and_has_a_request_at_least() -> None:
    served, _ = service(lambda: 100.0)
    assert len(served.serve(0.0).request_seconds) == 1
    assert served.utilisation is None


def test_a_rate_too_low_for_the_time_gives_no_request_and_no_hang() -> None:
    served, _ = service(lambda: 1e-3, rate=1e-3)
    told = served.serve(0.5)
    assert told.request_seconds == []
    assert told.serving_seconds == pytest.approx(0.5, abs=1e-4)
    assert served.utilisation is None


def test_the_same_seed_gives_the_same_arrivals() -> None:
    def once(seed: int) -> Any:
        return service(lambda: 1e-3, 500.0, seed)[0].serve(1.0).request_seconds

    assert once(1) == once(1)
    assert once(1) != once(2)


@given(
    rate=st.none() | st.floats(10, 1000),
    seconds=st.floats(1e-4, 0.05),
    visits=st.lists(st.floats(0.01, 0.5), min_size=1, max_size=4),
    most=st.integers(1, 50),
)
@settings(max_examples=50, deadline=None)
def test_no_request_takes_less_than_its_service_and_none_is_counted_twice(
    rate: float | None, seconds: float, visits: list[float], most: int
) -> None:
    served, _ = service(lambda: seconds, rate)
    found = [served.serve(visit, most) for visit in visits]
    assert all(len(told.request_seconds) <= most for told in found)
    assert all(took >= seconds - 2e-9 for told in found for took in told.request_seconds)
    total = sum(len(told.request_seconds) for told in found)
    assert total == served.requests
    assert served.worked == pytest.approx(total * seconds)


def test_each_of_several_clients_has_its_answers_from_a_thread_of_its_own() -> None:
    seen: dict[int, set[int]] = {0: set(), 1: set(), 2: set(), 3: set()}
    together, most = 0, 0
    lock = threading.Lock()

    def server(number: int) -> None:
        nonlocal together, most
        seen[number].add(threading.get_ident())
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.01)
        with lock:
            together -= 1

    served = Service([lambda n=n: server(n) for n in seen])  # type: ignore[misc]
    told = served.serve(0.5)
    served.close()
    assert most == 4
    assert all(len(threads) == 1 for threads in seen.values())
    assert len(set.union(*seen.values())) == 4
    # One client alone would have had some 50 answers.
    assert 100 < len(told.request_seconds) <= 4 * 51
    assert min(told.request_seconds) >= 0.0099


def test_several_servers_share_one_queue() -> None:
    served = Service([lambda: time.sleep(0.01)] * 4, rate=200.0)
    told = served.serve(1.0)
    served.close()
    # One server would be twice overloaded; four are busy half of the time.
    assert len(told.request_seconds) > 120
    assert statistics.median(told.request_seconds) < 0.05
    assert served.utilisation is not None
    assert 0.4 < served.utilisation < 0.9


@pytest.mark.parametrize("rate", [None, 50.0, 0.001])
def test_an_error_in_a_thread_ends_all_of_them_and_is_raised(rate: float | None) -> None:
    answered = 0

    def failing() -> None:
        nonlocal answered
        answered += 1
        raise ValueError("no such word")

    served = Service([failing, failing, failing], rate)
    begin = time.monotonic()
    if rate == 0.001:  # nobody comes, so nobody is failed
        assert served.serve(0.1).request_seconds == []
    else:
        with pytest.raises(ValueError, match="no such word"):
            served.serve(30.0)
        assert answered <= 3
    assert time.monotonic() - begin < 10
    served.close()


def test_a_request_to_a_gpu_brings_its_inputs_and_takes_its_answer(tmp_path: Path) -> None:
    device = FakeDevice(bytes_per_second=1e6)
    given_order = order(tmp_path, n=50, serving=CLOSED)
    measured = whole_block(device, product(2e-3), given_order, device.clock)
    one = 50 * 50 * 4 / 1e6
    assert statistics.median(measured["request_seconds"]) == pytest.approx(3 * one + 2e-3, rel=0.01)
    assert statistics.median(measured["seconds"]) == pytest.approx(2e-3, rel=0.01)
    assert device.refills >= 2 * len(measured["request_seconds"])


def test_parameters_stay_on_the_gpu(tmp_path: Path) -> None:
    device = FakeDevice(bytes_per_second=1e6)
    given_order = order(tmp_path, n=50, serving=CLOSED, fresh_inputs=1)
    measured = whole_block(device, product(2e-3), given_order, device.clock)
    one = 50 * 50 * 4 / 1e6
    assert statistics.median(measured["request_seconds"]) == pytest.approx(2 * one + 2e-3, rel=0.01)


def test_a_request_on_a_cpu_is_the_call(tmp_path: Path) -> None:
    device = FakeCpu(bytes_per_second=1e6)
    measured = whole_block(device, product(2e-3), order(tmp_path, serving=CLOSED), device.clock)
    assert statistics.median(measured["request_seconds"]) == pytest.approx(2e-3, rel=0.01)
    assert device.refills == 0


def test_a_visit_is_mostly_requests_and_a_sample_is_one_call(tmp_path: Path) -> None:
    device = FakeCpu()
    given_order = order(tmp_path, serving=CLOSED, calls_per_sample=1)
    measured = whole_block(device, product(2e-3), given_order, device.clock)
    assert measured["calls_per_sample"] == 1
    sampled, served = sum(measured["seconds"]), measured["serving_seconds"]
    assert 0.1 < sampled / (sampled + served) <= 0.28
    assert sampled + served == pytest.approx(given_order.budget.sampling_seconds, rel=0.1)
    assert measured["first_call_seconds"] > 0


def test_a_block_has_no_more_requests_than_its_share(tmp_path: Path) -> None:
    device = FakeCpu()
    given_order = order(tmp_path, serving=CLOSED, calls_per_sample=1)
    measured = whole_block(device, product(1e-5), given_order, device.clock)
    assert MOST_REQUESTS <= len(measured["request_seconds"]) < MOST_REQUESTS + 3


def test_a_huge_call_serves_one_request_at_least(tmp_path: Path) -> None:
    device = FakeCpu()
    given_order = order(tmp_path, serving=CLOSED, calls_per_sample=1)
    measured = whole_block(device, product(4.0), given_order, device.clock)
    assert measured["seconds"] == [pytest.approx(4.0)]
    assert measured["request_seconds"] == [pytest.approx(4.0)]


@pytest.mark.parametrize(("rate", "overloaded"), [(400.0, False), (600.0, True)])
def test_a_block_says_whether_its_service_kept_up(
    tmp_path: Path, rate: float, overloaded: bool
) -> None:
    device = FakeCpu()
    given_order = order(tmp_path, serving={**CLOSED, "rate": rate}, calls_per_sample=1)
    measured = whole_block(device, product(2e-3), given_order, device.clock)
    assert ("overloaded" in measured["notes"]) is overloaded


def test_an_error_in_a_request_ends_the_case_with_its_status(tmp_path: Path) -> None:
    main = threading.get_ident()

    def prepare(_library: Any, _dims: Dims, a: Any, b: Any) -> Call:
        def call() -> Any:
            if threading.get_ident() != main:
                raise MemoryError("no more for you")
            return a @ b

        return call

    given_order = order(tmp_path, serving={**CLOSED, "concurrency": 3}, calls_per_sample=1)
    with pytest.raises(MemoryError) as caught:
        whole_block(numpy_backend(), prepare, given_order)
    error = engine.failure(numpy_backend(), caught.value)
    assert (error.status, error.reason) == ("out_of_memory", "no more for you")


def test_servers_that_disturb_each_other_are_wrong(tmp_path: Path) -> None:
    shared: list[Any] = []

    def prepare(_library: Any, _dims: Dims, a: Any, b: Any) -> Call:
        shared.append(0)
        number = len(shared)
        # The second call of the same inputs is that of the second server, whose workspace is bad.
        return lambda: a @ b + (number > 2)

    given_order = order(tmp_path, serving={**CLOSED, "concurrency": 2}, calls_per_sample=1)
    with pytest.raises(CaseError) as caught:
        whole_block(numpy_backend(), prepare, given_order)
    assert caught.value.status == "wrong"
