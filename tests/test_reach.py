"""Where sweeps over batches end: by memory, by patience, or because no more was asked for."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import CaseError
from bench.measuring.exchange import HostArray, write_arrays
from bench.measuring.measure import failure
from bench.measuring.trial import try_once
from bench.measuring.work import Work
from bench.results.reading import read_run
from bench.results.schema import CaseLine, LimitLine, OutcomeLine
from bench.running import reach
from bench.running.plan import RunRequest
from bench.running.reach import Reach, sweeps
from bench.running.seats import Seat
from bench.workload import Call
from tests.fakes import FakeDevice

REQUEST = RunRequest(suites=["batch-sweep"])
PATIENCE = reach.LONGEST_CALL_SECONDS["standard"]
POWERS = [2**power for power in range(13)]


def case(batch: int, backend: str = "torch-cuda", **changes: Any) -> CaseLine:
    fields: dict[str, Any] = {
        "id": f"mlp/mnist,batch={batch}/forward/float32/{backend}",
        "suite": "batch-sweep",
        "workload": "mlp",
        "workload_version": 1,
        "size": f"mnist,batch={batch}",
        "sizes": {"batch": batch},
        "batch": batch,
        "phase": "forward",
        "dtype": "float32",
        "backend": backend,
        "threads": 2,
        "device": "gpu",
    }
    return CaseLine(**{**fields, **changes})


def host(array: Any) -> HostArray:
    return HostArray(array.shape, array.dtype.name, array.reshape(-1).view("uint8").data)


class Device:
    """Holds up to `room` samples and takes `seconds` for each."""

    def __init__(self, room: int, seconds: float = 0.0, ending: str = "out_of_memory") -> None:
        self.room, self.seconds, self.ending = room, seconds, ending
        self.tried: list[int] = []

    def __call__(self, seat: Seat, case: CaseLine, batch: int, patience: float) -> dict[str, Any]:
        self.tried.append(batch)
        if batch > self.room:
            reason = "ended by SIGKILL" if self.ending == "crashed" else "no room"
            raise CaseError(self.ending, reason)
        return {"seconds": self.seconds * batch, "peak_bytes": 1000 * batch}


def walk(
    device: Callable[..., dict[str, Any]], batches: Sequence[int] = POWERS
) -> tuple[LimitLine | None, Mapping[int, OutcomeLine]]:
    """Return the limit, and what the sweep leaves out by its batch."""
    lines = list(Reach(REQUEST, device).sweep([case(batch) for batch in batches]))
    limits = [line for line in lines if isinstance(line, LimitLine)]
    outcomes = {
        int(line.case.partition("batch=")[2].partition("/")[0]): line
        for line in lines
        if isinstance(line, OutcomeLine)
    }
    return (limits[0] if limits else None), outcomes


def test_the_largest_batch_that_fits_is_found_exactly() -> None:
    for room in range(1, POWERS[-1]):
        limit, outcomes = walk(Device(room))
        assert limit is not None
        assert (limit.largest_batch, limit.failing_batch) == (room, room + 1)
        first = next(batch for batch in POWERS if batch > room)
        assert outcomes[first].status == "out_of_memory"
        assert f"the largest batch that fits is {room:,}" in outcomes[first].reason
        assert {batch for batch in POWERS if batch > first} == {
            batch for batch, line in outcomes.items() if line.status == "skipped"
        }
        assert min(outcomes) > room, "a batch that fits must be measured"


@given(
    room=st.integers(0, 10_000),
    batches=st.lists(st.integers(1, 10_000), min_size=1, max_size=8, unique=True).map(sorted),
)
def test_whatever_batches_are_asked_for_the_limit_is_right(room: int, batches: list[int]) -> None:
    limit, outcomes = walk(Device(room), batches)
    assert limit is not None
    if room >= batches[-1]:
        assert (limit.largest_batch, limit.failing_batch) == (batches[-1], None)
        assert not outcomes
        assert "no larger batch" in limit.reason
    else:
        assert (limit.largest_batch, limit.failing_batch) == (room or None, room + 1)
        assert set(outcomes) == {batch for batch in batches if batch > room}


def test_nothing_fits_is_said_so() -> None:
    limit, outcomes = walk(Device(0))
    assert limit is not None
    assert (limit.largest_batch, limit.failing_batch) == (None, 1)
    assert "not even one fits" in outcomes[1].reason


def test_a_call_that_takes_too_long_ends_a_sweep_and_is_measured_itself() -> None:
    limit, outcomes = walk(Device(10**6, seconds=PATIENCE / 100))
    assert limit is not None
    assert (limit.largest_batch, limit.failing_batch) == (128, None)
    assert set(outcomes) == {batch for batch in POWERS if batch > 128}
    assert {line.status for line in outcomes.values()} == {"skipped"}
    assert "a call takes 2.56 s already" in limit.reason


def test_a_kill_by_the_kernel_is_memory_that_ran_out() -> None:
    limit, outcomes = walk(Device(100, ending="crashed"))
    assert limit is not None
    assert limit.largest_batch == 100
    assert outcomes[128].status == "out_of_memory"


def test_any_other_fault_is_left_to_the_measurement() -> None:
    limit, outcomes = walk(Device(100, ending="failed"))
    assert limit is None
    assert not outcomes


def test_a_search_that_takes_too_long_says_how_far_it_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    limit, _ = walk(Device(1000))
    assert limit is not None
    assert limit.largest_batch is not None
    assert limit.failing_batch is not None
    assert limit.largest_batch <= 1000 < limit.failing_batch
    assert limit.failing_batch - limit.largest_batch > 1


def test_what_was_seen_to_be_needed_is_remembered() -> None:
    found = Reach(REQUEST, Device(64))
    list(found.sweep([case(batch) for batch in (1, 64, 128)]))
    assert found.needs == {case(1).key: 1000, case(64).key: 64_000}


def test_sweeps_begin_with_the_smallest_batch_and_keep_seats_together() -> None:
    cases = [case(batch, backend) for batch in (8, 1) for backend in ("torch-cuda", "cupy")]
    found = sweeps([*cases, case(2, "cupy", skipped="no GPU is here")])
    assert [[(c.backend, c.batch) for c in cases] for cases in found] == [
        [("cupy", 1), ("cupy", 8)],
        [("torch-cuda", 1), ("torch-cuda", 8)],
    ]


@settings(max_examples=25, deadline=None)
@given(room=st.integers(2, 300))
def test_on_a_device_with_a_known_memory_the_largest_batch_is_exact(
    tmp_path_factory: pytest.TempPathFactory, room: int
) -> None:
    features, weights = 50, np.ones((50, 50), "float32")
    folder = tmp_path_factory.mktemp("drawn")
    drawn = np.random.default_rng(0).standard_normal((1, features)).astype("float32")
    hosts = [
        HostArray(a.shape, "float32", a.reshape(-1).view("uint8").data) for a in (drawn, weights)
    ]
    write_arrays(folder / "inputs", hosts)
    # x and y for each sample; the weights, once.
    device = FakeDevice(memory_bytes=weights.nbytes + room * 2 * features * 4)

    def prepare(_library: Any, _dims: Any, x: Any, w: Any) -> Call:
        y = device.empty(x.shape[0], features)

        def call() -> Any:
            device.launch(1e-6 * x.shape[0])
            np.matmul(x, w, out=y)
            return y

        return call

    def ask(seat: Seat, case: CaseLine, batch: int, patience: float) -> dict[str, Any]:
        work = Work(
            dims={"batch": batch},
            dtype="float32",
            inputs=str(folder / "inputs"),
            batch=batch,
            drawn_batch=1,
            parameters=1,
        )
        try:
            return try_once(device, prepare, work, patience, device.clock)
        except Exception as error:
            raise failure(device, error) from None

    limit, _ = walk(ask)
    assert limit is not None
    assert (limit.largest_batch, limit.failing_batch) == (room, room + 1)


def test_a_call_that_computes_fewer_samples_than_asked_for_is_wrong(tmp_path: Path) -> None:
    drawn = np.ones((2, 3), "float32")
    write_arrays(
        tmp_path / "x", [HostArray((2, 3), "float32", drawn.reshape(-1).view("uint8").data)]
    )
    work = Work(dims={}, dtype="float32", inputs=str(tmp_path / "x"), batch=16, drawn_batch=2)
    device = FakeDevice()
    assert try_once(device, lambda _l, _d, x: lambda: x, work, 1.0, device.clock)
    with pytest.raises(CaseError) as caught:
        # The label says 16, as in a well-known profile of networks that runs 2.
        try_once(device, lambda _l, _d, x: lambda: x[:2], work, 1.0, device.clock)
    assert (caught.value.status, caught.value.reason) == (
        "wrong",
        "2 samples were computed, not 16",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process as Linux can")
def test_memory_ends_a_sweep_on_the_cpu_and_the_run_ends_well(tmp_path: Path) -> None:
    output = tmp_path / "run.jsonl"
    limit = 5 * 2**28
    command = [sys.executable, "-m", "bench", "run", "--suite", "batch-sweep"]
    command += ["--output", str(output)]
    command += ["--preset", "quick", "--backend", "torch-cpu", "--only", "lenet5/*/forward/*"]
    command += ["--batch", "16,16384,32768", "--blocks", "1", "--max-seconds", "0.1"]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr
    run = read_run(output)
    (found,) = run.limits
    assert found.failing_batch is not None
    assert 16 <= (found.largest_batch or 0) < found.failing_batch <= 16384
    statuses = {m.batch: m.status for m in run.measurements}
    assert statuses == {16: "ok", 16384: "out_of_memory", 32768: "skipped"}
    small = next(m for m in run.measurements if m.batch == 16)
    assert small.effective_batch == 16
    assert not run.faults()
