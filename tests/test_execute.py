"""The order of a run, with workers that answer from a script instead of measuring."""

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from bench import catalog
from bench.backends import backends
from bench.errors import CaseError, RequestError, WorkerError
from bench.results.schema import BlockLine, CaseLine, LimitLine, OutcomeLine, WorkerLine
from bench.running import execute, inputs, seats
from bench.running.execute import Event, Execution, Note, Progress, Working
from bench.running.plan import RunRequest, make_plan
from bench.running.probe import Probe
from bench.suites import Suite
from bench.workload import Workload, calling

SECONDS = {"numpy": 2e-3, "torch-cpu": 1e-3}
Script = Callable[["ScriptedWorker", dict[str, Any]], dict[str, Any] | None]


class ScriptedWorker:
    """Answers like a worker; `script` may answer a `measure` instead, or raise."""

    log: ClassVar[list[tuple[str, str]]] = []
    alive: ClassVar[set["ScriptedWorker"]] = set()
    script: ClassVar[Script | None] = None
    visits: ClassVar[int] = 1

    def __init__(
        self,
        backend: str,
        threads: int,
        gpu: str | None,
        rng: random.Random,
        setup: str | None = None,
        python: str | None = None,
    ) -> None:
        self.backend = backend
        self.python = python
        self.layout = {"hash_seed": rng.randrange(100), "padding": 0}
        self.description: dict[str, Any] = {}
        self.begun: dict[str, dict[str, Any]] = {}
        ScriptedWorker.alive.add(self)
        self.log.append(("start", backend))

    def open(self, memory_limit: int | None) -> None:
        self.log.append(("open", self.backend))

    def ask(self, *, timeout: float = 600.0, **message: Any) -> Any:
        assert self in ScriptedWorker.alive
        return getattr(self, f"do_{message['do']}")(message)

    def do_load(self, message: dict[str, Any]) -> None:
        assert message["kernels"] == []

    def do_draw(self, message: dict[str, Any]) -> dict[str, Any]:
        self.log.append(("draw", str(message["dims"])))
        return {
            "inputs": "i",
            "decoy": "d",
            "reference": {"kind": "full", "path": "r"},
            "digest": "abc",
            "total_bytes": 10,
        }

    def do_peaks(self, message: dict[str, Any]) -> dict[str, float]:
        self.log.append(("peaks", self.backend))
        return {**dict.fromkeys(message["dtypes"], 100e9), "bytes": 20e9}

    def do_canary(self, message: dict[str, Any]) -> dict[str, float]:
        return {"product": 1e-3, "copy": 2e-3}

    def do_begin(self, message: dict[str, Any]) -> dict[str, Any]:
        order = message["order"]
        self.log.append(("begin", f"{self.backend} {order['dims']['n']}"))
        self.log.append(("way", f"{self.backend} {message['way']}"))
        self.begun[message["case"]] = order
        return {
            "visits": self.visits,
            "calls_per_sample": 8,
            "warmup_calls": 3,
            "first_call_seconds": 1e-3,
            "effective_batch": None,
            "peak_bytes": 100,
            "unknown": {},
        }

    def do_visit(self, message: dict[str, Any]) -> dict[str, Any]:
        order = self.begun[message["case"]]
        self.log.append(("visit", f"{self.backend} {order['dims']['n']}"))
        if ScriptedWorker.script is not None:
            answer = ScriptedWorker.script(self, order)
            if answer is not None:
                return answer
        return seen(SECONDS[self.backend])

    def do_finish(self, message: dict[str, Any]) -> dict[str, Any]:
        del self.begun[message["case"]]
        return {
            "relative_error": 1e-7,
            "worked_seconds": 0.1,
            "host_seconds": [1e-3],
            "notes": [],
        }

    def close(self) -> None:
        ScriptedWorker.alive.discard(self)

    kill = close


def seen(seconds: float, **changes: Any) -> dict[str, Any]:
    """Return the answer to a visit."""
    answer = {"seconds": [seconds] * 5, "canary": 1e-3, "notes": [], "disturbances": []}
    return {**answer, **changes}


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(seats, "WorkerProcess", ScriptedWorker)
    monkeypatch.setattr(inputs, "WorkerProcess", ScriptedWorker)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(ScriptedWorker, "log", [])
    monkeypatch.setattr(ScriptedWorker, "script", None)
    monkeypatch.setattr(ScriptedWorker, "visits", 1)
    yield
    assert not ScriptedWorker.alive, "a worker was left behind"
    ScriptedWorker.alive.clear()


def request(**changes: Any) -> RunRequest:
    fields: dict[str, Any] = {"suites": ["matmul"], "sizes": {"n": [32, 64, 128]}, "blocks": 2}
    return RunRequest(**{**fields, **changes})


def plan(asked: RunRequest, workloads: Mapping[str, Workload] | None = None) -> list[CaseLine]:
    probes = {name: Probe(name) for name in backends()}
    for name in (name for name, kind in backends().items() if kind.device == "gpu"):
        probes[name] = Probe(name, absent=("no GPU is here", "buy one"))
    return make_plan(asked, catalog.suites(), workloads or catalog.workloads(), probes, 2)


def execution(
    asked: RunRequest | None = None,
    progress: Progress | None = None,
    workloads: Mapping[str, Workload] | None = None,
    suites: Mapping[str, Suite] | None = None,
) -> Execution:
    asked, workloads = asked or request(), workloads or catalog.workloads()
    cases = plan(asked, workloads)
    return Execution(asked, cases, suites or catalog.suites(), workloads, 2, progress)


def matmul_with(**changes: Any) -> dict[str, Workload]:
    """Return the product of two matrices with other properties of its phase."""
    matmul = catalog.workloads()["matmul"]
    phase = dataclasses.replace(matmul.phases["call"], **changes)
    return {"matmul": dataclasses.replace(matmul, phases={"call": phase})}


def measured(events: list[Event]) -> list[BlockLine]:
    return [event for event in events if isinstance(event, BlockLine)]


def test_every_case_is_measured_once_in_every_block() -> None:
    events = list(execution().lines())
    counts = Counter((line.case, line.block) for line in measured(events))
    assert len(counts) == 3 * 2 * 2
    assert set(counts.values()) == {1}


def test_each_block_has_fresh_workers_and_the_inputs_are_drawn_once() -> None:
    list(execution().lines())
    assert Counter(ScriptedWorker.log)["start", "torch-cpu"] == 2
    assert Counter(ScriptedWorker.log)["start", "numpy"] == 2 + 1  # one more draws
    assert [what for what, _ in ScriptedWorker.log].count("draw") == 3


def test_the_backends_of_the_same_work_follow_each_other_in_random_order() -> None:
    asked = request(sizes={"n": list(range(32, 72))}, blocks=1)
    list(execution(asked).lines())
    order = [text.split() for what, text in ScriptedWorker.log if what == "visit"]
    pairs = list(zip(order[::2], order[1::2], strict=True))
    assert all(a[1] == b[1] and a[0] != b[0] for a, b in pairs)
    first = Counter(a[0] for a, _ in pairs)
    assert 8 <= first["numpy"] <= 32, "the order within a pair is not random"
    assert [int(a[1]) for a, _ in pairs] != sorted(int(a[1]) for a, _ in pairs)


def test_the_same_seed_gives_the_same_order() -> None:
    def order(seed: int) -> list[str]:
        ScriptedWorker.log.clear()
        list(execution(request(seed=seed)).lines())
        return [text for what, text in ScriptedWorker.log if what == "visit"]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_the_progress_of_a_block_only_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedWorker, "visits", 3)
    asked = request(sizes={"n": list(range(32, 52))}, blocks=1)
    shares = [e.done for e in execution(asked).lines() if isinstance(e, Working)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0.9 < shares[-1] < 1


def test_the_visits_of_a_case_lie_between_those_of_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ScriptedWorker, "visits", 4)
    lines = measured(list(execution(request(blocks=1)).lines()))
    order = [text for what, text in ScriptedWorker.log if what == "visit"]
    turns = [order[start : start + 6] for start in range(0, 24, 6)]
    assert all(len(set(turn)) == 6 for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1, "every turn has the same order"
    assert all(line.visits == [5, 5, 5, 5] for line in lines)
    assert all(len(line.seconds) == 20 and len(line.canary) == 4 for line in lines)


def test_a_worker_that_dies_of_one_case_loses_no_sample_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ScriptedWorker, "visits", 4)
    calls = Counter[int]()

    def script(worker: ScriptedWorker, order: dict[str, Any]) -> None:
        n = order["dims"]["n"]
        if worker.backend == "numpy":
            calls[n] += 1
            if n == 64 and calls[n] == 3:
                worker.kill()
                raise WorkerError("crashed", "SIGSEGV")

    ScriptedWorker.script = staticmethod(script)
    events = list(execution(request(blocks=1)).lines())
    lines = {line.case: line for line in measured(events)}
    assert "matmul/n=64/call/float32/numpy" not in lines
    assert all(line.visits == [5, 5, 5, 5] for line in lines.values())
    assert len(lines) == 5
    begun = Counter(text for what, text in ScriptedWorker.log if what == "begin")
    assert begun["numpy 32"] == begun["numpy 128"] == 2


def test_calls_per_sample_is_fixed_by_the_first_block() -> None:
    given: list[int | None] = []

    def script(_worker: ScriptedWorker, order: dict[str, Any]) -> None:
        given.append(order["calls_per_sample"])

    ScriptedWorker.script = staticmethod(script)
    list(execution().lines())
    assert given[:6] == [None] * 6
    assert given[6:] == [8] * 6


def test_a_throttled_device_discards_the_pair_blind_to_which_side_it_hit() -> None:
    hits = {"left": 1}

    def script(worker: ScriptedWorker, order: dict[str, Any]) -> dict[str, Any] | None:
        if worker.backend == "numpy" and order["dims"]["n"] == 64 and hits["left"]:
            hits["left"] -= 1
            return seen(9.0, disturbances=["throttled: hardware slowdown"])
        return None

    ScriptedWorker.script = staticmethod(script)
    lines = measured(list(execution(request(blocks=1)).lines()))
    pair = {line.case.rpartition("/")[2]: line for line in lines if "n=64" in line.case}
    assert pair["numpy"].seconds == [2e-3] * 5, "the throttled samples were kept"
    for line in pair.values():
        assert line.notes == ["discarded: throttled: hardware slowdown"]
    times = Counter(text for what, text in ScriptedWorker.log if what == "visit")
    assert times["numpy 64"] == times["torch-cpu 64"] == 2
    assert times["numpy 32"] == times["torch-cpu 32"] == 1


def test_a_case_whose_samples_disagree_says_so() -> None:
    def script(_worker: ScriptedWorker, order: dict[str, Any]) -> dict[str, Any]:
        uneven = [1e-3, 3e-3, 3e-3, 1e-3, 1e-3] * 4
        return {**seen(1e-3), "seconds": uneven if order["dims"]["n"] == 64 else [1e-3] * 20}

    ScriptedWorker.script = staticmethod(script)
    lines = measured(list(execution(request(blocks=1)).lines()))
    assert {line.case for line in lines if "imprecise" in line.notes} == {
        "matmul/n=64/call/float32/numpy",
        "matmul/n=64/call/float32/torch-cpu",
    }


def test_a_disturbance_that_does_not_end_is_kept_and_named() -> None:
    def script(worker: ScriptedWorker, order: dict[str, Any]) -> dict[str, Any] | None:
        disturbed = order["dims"]["n"] == 64 and worker.backend == "numpy"
        return seen(1e-3, disturbances=["steal"]) if disturbed else None

    ScriptedWorker.script = staticmethod(script)
    lines = measured(list(execution(request(blocks=1)).lines()))
    notes = {line.case: line.notes for line in lines if "n=64" in line.case}
    assert notes["matmul/n=64/call/float32/numpy"] == [
        "discarded: steal",
        "discarded: steal",
        "disturbed: steal",
    ]
    times = Counter(text for what, text in ScriptedWorker.log if what == "visit")
    assert times["numpy 64"] == 1 + execute.RETRIES


def test_measuring_again_is_bounded_for_the_whole_block() -> None:
    def script(_worker: ScriptedWorker, _order: dict[str, Any]) -> dict[str, Any]:
        return seen(1e-3, disturbances=["a neighbour"])

    ScriptedWorker.script = staticmethod(script)
    asked = request(sizes={"n": list(range(40, 80))}, blocks=1)
    list(execution(asked).lines())
    times = sum(what == "visit" for what, _ in ScriptedWorker.log)
    batches = 40 / execute.BATCH_GROUPS
    repeated = round(execute.RETRY_SHARE * execute.BATCH_GROUPS) + execute.RETRIES
    assert times == 2 * (40 + batches * repeated)


def test_ten_times_the_declared_flops_ends_as_implausible() -> None:
    def script(worker: ScriptedWorker, order: dict[str, Any]) -> dict[str, Any] | None:
        n = order["dims"]["n"]
        return seen(2 * n**3 / 1e12) if worker.backend == "numpy" and n == 128 else None

    ScriptedWorker.script = staticmethod(script)
    events = list(execution().lines())
    (outcome,) = [event for event in events if isinstance(event, OutcomeLine)]
    assert outcome.status == "implausible"
    assert outcome.case == "matmul/n=128/call/float32/numpy"
    assert "1000 GFLOP/s" in outcome.reason
    assert not [line for line in measured(events) if line.case == outcome.case]


def at(flops_per_second: float) -> Script:
    """Script NumPy to be so fast: 100 GFLOP/s is the peak, and 10% are granted."""

    def script(worker: ScriptedWorker, order: dict[str, Any]) -> dict[str, Any] | None:
        seconds = 2 * order["dims"]["n"] ** 3 / flops_per_second
        return seen(seconds) if worker.backend == "numpy" else None

    return script


@pytest.mark.parametrize(
    ("saved", "flops_per_second", "believed"),
    [
        (None, 109e9, True),
        (None, 111e9, False),
        (1.0, 111e9, False),
        (4.0, 435e9, True),
        (4.0, 445e9, False),
    ],
)
def test_an_algorithm_that_needs_fewer_flops_may_be_so_much_faster_and_no_more(
    saved: float | None, flops_per_second: float, believed: bool
) -> None:
    shortcut = None if saved is None else lambda dims: saved if dims["n"] == 64 else 1.0
    ScriptedWorker.script = staticmethod(at(flops_per_second))
    asked = request(sizes={"n": [64]}, blocks=1, backends=["numpy"])
    workloads = matmul_with(shortcut=shortcut)
    (event,) = (
        event
        for event in execution(asked, workloads=workloads).lines()
        if isinstance(event, (BlockLine, OutcomeLine))
    )
    if believed:
        assert isinstance(event, BlockLine)
    else:
        assert isinstance(event, OutcomeLine)
        assert event.status == "implausible"


def test_a_shortcut_is_that_of_the_case_and_not_of_its_neighbours() -> None:
    ScriptedWorker.script = staticmethod(at(200e9))
    workloads = matmul_with(shortcut=lambda dims: 4.0 if dims["n"] == 64 else 1.0)
    events = list(execution(request(blocks=1), workloads=workloads).lines())
    refused = {event.case for event in events if isinstance(event, OutcomeLine)}
    assert refused == {f"matmul/n={n}/call/float32/numpy" for n in (32, 128)}
    assert "matmul/n=64/call/float32/numpy" in {line.case for line in measured(events)}


def test_a_worker_is_told_which_way_to_use_its_library() -> None:
    only_torch = {"swift": {"torch": calling(lambda torch, a, b: a @ b)}}
    asked = request(sizes={"n": [64]}, threads=[1, 2])
    events = list(execution(asked, workloads=matmul_with(variants=only_torch)).lines())
    places = Counter(line.case.rpartition("/")[2] for line in measured(events))
    variants = ("", "+swift", "+threads=1", "+swift+threads=1")
    assert places == {
        **{f"torch-cpu{variant}": 2 for variant in variants},
        **dict.fromkeys(("numpy", "numpy+threads=1"), 2),
    }
    told = Counter(text for what, text in ScriptedWorker.log if what == "way")
    assert told == {"numpy None": 4, "torch-cpu None": 4, "torch-cpu swift": 4}
    assert [what for what, _ in ScriptedWorker.log].count("draw") == 1, "of the same inputs"


def test_a_case_has_its_suites_share_of_the_time() -> None:
    given: list[dict[str, float]] = []

    def script(_worker: ScriptedWorker, order: dict[str, Any]) -> None:
        given.append(order["budget"])

    ScriptedWorker.script = staticmethod(script)
    suites = catalog.suites()
    less = {**suites, "matmul": dataclasses.replace(suites["matmul"], share=0.25)}
    list(execution(request(blocks=1), suites=less).lines())
    assert given
    whole = dataclasses.asdict(request().budget())
    for name in ("warmup_seconds", "warmup_cap_seconds", "sampling_seconds"):
        assert {budget[name] for budget in given} == {whole[name] / 4}


def test_the_peak_is_measured_again_before_a_number_is_refused() -> None:
    readings = iter([50e9, 50e9, 60e9, 70e9, 100e9])

    def peaks(self: ScriptedWorker, message: dict[str, Any]) -> dict[str, float]:
        return {"float32": next(readings), "bytes": 20e9}

    def script(_worker: ScriptedWorker, order: dict[str, Any]) -> dict[str, Any]:
        return seen(2 * order["dims"]["n"] ** 3 / 90e9)

    ScriptedWorker.script = staticmethod(script)
    original = ScriptedWorker.do_peaks
    ScriptedWorker.do_peaks = peaks  # type: ignore[method-assign]
    try:
        events = list(execution(request(blocks=1)).lines())
    finally:
        ScriptedWorker.do_peaks = original  # type: ignore[method-assign]
    assert len(measured(events)) == 6
    assert next(readings, None) is None


@pytest.mark.parametrize(
    "error",
    [
        CaseError("failed", "ValueError: no"),
        CaseError("out_of_memory", "no memory"),
        WorkerError("crashed", "SIGSEGV"),
        WorkerError("timed_out", "no answer within 5 s"),
    ],
)
def test_a_case_that_fails_costs_only_itself(error: CaseError) -> None:
    def script(worker: ScriptedWorker, order: dict[str, Any]) -> None:
        if worker.backend == "numpy" and order["dims"]["n"] == 64:
            if isinstance(error, WorkerError):
                worker.kill()
            raise error

    ScriptedWorker.script = staticmethod(script)
    events = list(execution().lines())
    (outcome,) = [event for event in events if isinstance(event, OutcomeLine)]
    assert (outcome.case, outcome.status) == ("matmul/n=64/call/float32/numpy", error.status)
    assert len(measured(events)) == 2 * 5
    times = Counter(text for what, text in ScriptedWorker.log if what == "visit")
    assert times["numpy 64"] == 1, "it was tried again in the next block"


def test_inputs_that_cannot_be_drawn_fail_the_work_on_every_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def draw(self: ScriptedWorker, message: dict[str, Any]) -> dict[str, Any]:
        if message["dims"] == {"n": 64}:
            raise CaseError("failed", "ValueError: inputs")
        return original(self, message)

    original = ScriptedWorker.do_draw
    monkeypatch.setattr(ScriptedWorker, "do_draw", draw)
    events = list(execution().lines())
    outcomes = [event for event in events if isinstance(event, OutcomeLine)]
    assert len(outcomes) == 2
    assert len(measured(events)) == 2 * 4


SWEEP: Mapping[str, Any] = {
    "suites": ["batch-sweep"],
    "backends": ["numpy"],
    "only": ["mlp/mnist,*/forward/*"],
    "sizes": {},
    "batches": [1, 2, 4],
}


@pytest.mark.parametrize(
    "error", [CaseError("out_of_memory", "MemoryError"), CaseError("crashed", "SIGKILL")]
)
def test_memory_that_ends_where_inputs_are_drawn_is_no_limit_of_the_device(
    error: CaseError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(self: ScriptedWorker, message: dict[str, Any]) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(ScriptedWorker, "do_draw", draw)
    events = list(execution(request(**SWEEP)).lines())
    assert not [event for event in events if isinstance(event, LimitLine)]
    reasons = [event.reason for event in events if isinstance(event, OutcomeLine)]
    assert reasons == [error.reason] * 3, "each says so itself"


@pytest.mark.parametrize("is_repeatable", [True, False])
def test_samples_are_repeated_to_a_batch_only_where_the_workload_says_how(
    is_repeatable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[dict[str, Any]] = []

    def attempt(_self: ScriptedWorker, message: dict[str, Any]) -> dict[str, Any]:
        tried.append(message["work"])
        if message["work"]["dims"]["batch"] > 2:
            raise CaseError("out_of_memory", "no room")
        return {"seconds": 1e-3, "peak_bytes": 100}

    monkeypatch.setattr(ScriptedWorker, "do_try", attempt, raising=False)
    monkeypatch.setattr(ScriptedWorker, "do_begin", lambda _self, _message: 1 / 0)
    mlp = catalog.workloads()["mlp"]
    workloads = {"mlp": mlp if is_repeatable else dataclasses.replace(mlp, parameters=None)}
    one = execution(request(**SWEEP), workloads=workloads)
    limits = []
    for event in one.lines():
        limits += [event] if isinstance(event, LimitLine) else []
        if isinstance(event, Working) and limits:
            break
    assert [work["batch"] for work in tried] == (
        [1, 2, 4, 3] if is_repeatable else [None, None, None]
    )
    assert [(line.largest_batch, line.failing_batch) for line in limits] == [
        (2, 3) if is_repeatable else (2, 4)
    ]


def test_a_resumed_run_measures_only_what_is_missing() -> None:
    whole = measured(list(execution().lines()))
    progress = Progress()
    for line in whole[:7]:
        progress.add(line)
    ScriptedWorker.log.clear()
    rest = measured(list(execution(progress=progress).lines()))
    together = Counter((line.case, line.block) for line in [*whole[:7], *rest])
    assert set(together.values()) == {1}
    assert len(together) == 12


def test_a_resumed_run_refuses_other_inputs() -> None:
    whole = measured(list(execution().lines()))
    progress = Progress()
    for line in whole[:6]:
        line.input_digest = "other"
        progress.add(line)
    with pytest.raises(RequestError, match="start a new run"):
        list(execution(progress=progress).lines())


def test_minutes_go_through_every_case_before_the_second_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def script(_worker: ScriptedWorker, _order: dict[str, Any]) -> None:
        now[0] += 10.0

    ScriptedWorker.script = staticmethod(script)
    run = execution(request(minutes=3.0, blocks=None))
    lines = measured(list(run.lines()))
    assert {line.block for line in lines} == {0, 1, 2}
    assert Counter(line.block for line in lines) == {0: 6, 1: 6, 2: 6}
    assert run.unreached is None
    assert now[0] == 180.0


def test_minutes_too_short_for_one_pass_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    begin = ScriptedWorker.do_begin

    def slowly(self: ScriptedWorker, message: dict[str, Any]) -> dict[str, Any]:
        now[0] += 50.0
        return begin(self, message)

    monkeypatch.setattr(ScriptedWorker, "do_begin", slowly)
    run = execution(request(minutes=1.0, blocks=None))
    assert len(measured(list(run.lines()))) == 2
    assert run.unreached == "not reached within --minutes 1"


def test_a_block_ends_with_the_canary_of_each_worker() -> None:
    events = list(execution().lines())
    lines = [event for event in events if isinstance(event, WorkerLine)]
    assert Counter(line.backend for line in lines) == {"numpy": 2, "torch-cpu": 2}
    assert all(len(line.canary) == 2 for line in lines)


def test_a_backend_that_does_not_open_is_told_and_its_cases_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: ScriptedWorker, memory_limit: int | None) -> None:
        if self.backend == "torch-cpu":
            raise CaseError("failed", "libgomp runs 64 threads where 2 were asked for")

    monkeypatch.setattr(ScriptedWorker, "open", refuse)
    events = list(execution().lines())
    assert any(isinstance(event, Note) and "64 threads" in event.text for event in events)
    outcomes = [event for event in events if isinstance(event, OutcomeLine)]
    assert {outcome.case.rpartition("/")[2] for outcome in outcomes} == {"torch-cpu"}
    assert len(outcomes) == 3


def test_the_workers_end_when_the_reader_goes_away() -> None:
    lines = execution().lines()
    for event in lines:
        if isinstance(event, Working):
            break
    lines.close()  # type: ignore[attr-defined]
    assert not ScriptedWorker.alive


def test_what_a_process_is_set_up_with_for_good_needs_a_process_of_its_own() -> None:
    def case(**fields: Any) -> CaseLine:
        plain: dict[str, Any] = {
            "id": "w/n=1/call/float32/b",
            "suite": "s",
            "workload": "w",
            "size": "n=1",
            "workload_version": 1,
            "sizes": {"n": 1},
            "phase": "call",
            "dtype": "float32",
            "backend": "torch-cuda",
            "threads": 2,
            "device": "gpu",
        }
        return CaseLine(**{**plain, **fields})

    plain = seats.seat_of(case())
    assert plain == seats.Seat("torch-cuda", 2, None, None)
    assert seats.seat_of(case(dtype="tf32")) == plain, "PyTorch switches at run time"
    assert seats.seat_of(case(variant="channels_last+cache=cold")) == plain
    assert seats.seat_of(case(variant="tuned")).setup == "tuned"
    tuned = case(variant="channels_last+tuned+gpu=1", gpu=1)
    assert seats.seat_of(tuned) == seats.Seat("torch-cuda", 2, 1, "tuned")
    assert seats.seat_of(case(backend="cupy", dtype="tf32")).setup == "tf32"
    assert seats.seat_of(case(backend="cupy")).setup is None


def test_a_worker_sees_the_gpu_of_its_seat_and_is_set_up_as_its_cases_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[tuple[str, str | None, str | None]] = []
    original = ScriptedWorker.__init__

    def watched(
        self: ScriptedWorker,
        backend: str,
        threads: int,
        gpu: str | None,
        rng: random.Random,
        setup: str | None = None,
        python: str | None = None,
    ) -> None:
        started.append((backend, gpu, setup))
        original(self, backend, threads, gpu, rng, setup)

    monkeypatch.setattr(ScriptedWorker, "__init__", watched)
    taken = seats.Seats(request(), random.Random(0), {1: "GPU-b"})
    taken.take(
        {
            seats.Seat("torch-cuda", 2, 1, "tuned"): ["float32"],
            seats.Seat("numpy", 2): ["float32"],
        }
    )
    taken.close()
    assert started == [("torch-cuda", "GPU-b", "tuned"), ("numpy", None, None)]


@pytest.mark.parametrize("kind", [CaseError, WorkerError])
def test_a_peak_that_cannot_be_measured_is_told_and_ends_nothing(
    kind: type[CaseError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_worker: ScriptedWorker, message: dict[str, Any]) -> dict[str, float]:
        if kind is WorkerError:
            _worker.close()
        raise kind("out_of_memory", "8192 is too large for this GPU")

    monkeypatch.setattr(ScriptedWorker, "do_peaks", fail)
    lines = list(execution().lines())
    notes = [line.text for line in lines if isinstance(line, Note)]
    assert any(note.endswith("peak is not known: 8192 is too large for this GPU") for note in notes)
    assert any(isinstance(line, BlockLine) for line in lines)


def test_a_worker_line_holds_the_peaks_in_the_block_that_measured_them() -> None:
    lines = [line for line in execution().lines() if isinstance(line, WorkerLine)]
    told = {(line.backend, line.block): line.peaks for line in lines}
    assert told["numpy", 0] == {"float32": 100e9, "bytes": 20e9}
    assert told["numpy", 1] == {}


def test_requests_are_collected_over_the_visits_and_none_is_discarded() -> None:
    orders: list[dict[str, Any]] = []

    def script(_worker: ScriptedWorker, order: dict[str, Any]) -> dict[str, Any]:
        orders.append(order)
        number = len(orders)
        requests = {"request_seconds": [0.1 * number], "serving_seconds": 0.5}
        return seen(1e-3, disturbances=["a neighbour"], **requests)

    ScriptedWorker.script = script
    ScriptedWorker.visits = 3
    suites = catalog.suites()
    suites = {**suites, "matmul": dataclasses.replace(suites["matmul"], serves=True)}
    asked = request(sizes={"n": [64]}, backends=["numpy"])
    first, second = measured(list(execution(asked, suites=suites).lines()))
    assert first.request_seconds == pytest.approx([0.1, 0.2, 0.3])
    assert second.request_seconds == pytest.approx([0.4, 0.5, 0.6])
    assert first.serving_seconds == 1.5
    assert any(note.startswith("disturbed") for note in first.notes)
    assert not any(note.startswith("discarded") for note in first.notes)
    assert {order["calls_per_sample"] for order in orders} == {1}
    assert {order["budget"]["visits"] for order in orders} == {4}
    seeds = {order["serving"]["seed"] for order in orders}
    assert len(seeds) == 2, "each block has arrivals of its own"


def test_a_suite_that_does_not_serve_orders_no_requests() -> None:
    orders: list[dict[str, Any]] = []
    ScriptedWorker.script = lambda _worker, order: orders.append(order)
    (line, *_) = measured(list(execution().lines()))
    assert all("serving" not in order for order in orders)
    assert line.request_seconds == []
