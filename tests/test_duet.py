"""The order of a duet, with workers that answer from a script, and what follows from its pairs."""

import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bench import catalog
from bench.backends import backends
from bench.comparing.gate import FRESH
from bench.comparing.pairs import CONTROL, HEAD_LACKS, pairs_of, pairs_of_blocks
from bench.comparing.stored import stored
from bench.comparing.stored_gate import is_duet, judge_duet
from bench.comparing.verdicts import GateSettings
from bench.errors import CaseError, WorkerError
from bench.measuring.sampling import Budget
from bench.results.reading import read_run
from bench.results.schema import Block, BlockLine, CaseLine, OutcomeLine, Run, RunLine
from bench.running import inputs, seats
from bench.running.duet import Duet, Event, PairStarted, Record, fresh_pairs, with_controls
from bench.running.paired_cases import RETRIES, PairedCases
from bench.running.plan import RunRequest, make_plan
from bench.running.probe import Probe
from bench.running.sides import SIDES, Side, SideLine
from tests.runs import measurement
from tests.runs import run as one_run
from tests.test_execute import Script, ScriptedWorker, seen

PYTHONS: dict[Side, str] = {"base": "/base/python", "head": "/head/python"}
SETTINGS = GateSettings()


class DuetWorker(ScriptedWorker):
    """Also notes the interpreter that it was started with."""

    started: list[str | None] = []  # noqa: RUF012 - renewed by the fixture
    visited: list[tuple[str | None, int]] = []  # noqa: RUF012
    slower: dict[str, float] = {}  # noqa: RUF012

    def __init__(
        self,
        backend: str,
        threads: int,
        gpu: str | None,
        rng: random.Random,
        setup: str | None = None,
        python: str | None = None,
    ) -> None:
        super().__init__(backend, threads, gpu, rng, setup, python)
        self.started.append(python)

    def do_visit(self, message: dict[str, Any]) -> dict[str, Any]:
        order = self.begun[message["case"]]
        self.visited.append((self.python, order["dims"]["n"]))
        if ScriptedWorker.script is not None:
            answer = ScriptedWorker.script(self, order)
            if answer is not None:
                return answer
        noise = 1 + 0.01 * ((len(self.visited) * 7919) % 10) / 10
        return seen(1e-3 * noise * self.slower.get(self.python or "", 1.0))


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(seats, "WorkerProcess", DuetWorker)
    monkeypatch.setattr(inputs, "WorkerProcess", DuetWorker)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    for name, value in (("log", []), ("script", None), ("visits", 4)):
        monkeypatch.setattr(ScriptedWorker, name, value)
    for name, fresh in (("started", []), ("visited", []), ("slower", {})):
        monkeypatch.setattr(DuetWorker, name, fresh)
    yield
    assert not ScriptedWorker.alive, "a worker was left behind"


def cases(*n: int) -> list[CaseLine]:
    probes = {name: Probe(name) for name in backends()}
    request = RunRequest(suites=["matmul"], sizes={"n": n}, backends=["numpy"])
    return make_plan(request, catalog.suites(), catalog.workloads(), probes, 2)


def header(side: str) -> RunLine:
    return RunLine(
        schema=1,
        id=side,
        label=side,
        started="2026-11-21T00:00:00Z",
        bench_version="0",
        command=[],
        settings={"duet": "job"},
        machine={},
    )


def duet(
    measured: list[CaseLine],
    *,
    minutes: float = 3.0,
    folder: Path | None = None,
    clock: Any = time.monotonic,
    base: list[CaseLine] | None = None,
) -> Duet:
    request = RunRequest(suites=["matmul"])
    pairing = PairedCases(request, catalog.workloads(), 2, PYTHONS, Budget(visits=4))
    records = {
        "base": Record(header("base"), base if base is not None else measured),
        "head": Record(header("head"), measured),
    }
    for side, record in records.items():
        if folder is not None:
            record.open(folder / f"{side}.jsonl")
    by_side: dict[Side, Record] = {side: records[side] for side in SIDES}
    return Duet(pairing, by_side, SETTINGS, minutes, clock)


def run(one: Duet) -> tuple[list[Event], Run, Run]:
    events = list(one.events())
    base, head = one.finish()
    return events, base, head


def blocks(events: list[Event], side: Side) -> list[BlockLine]:
    found = [e.line for e in events if isinstance(e, SideLine) and e.side == side]
    return [line for line in found if isinstance(line, BlockLine)]


def test_each_pair_has_a_fresh_process_of_each_side_and_the_inputs_are_drawn_once() -> None:
    run(duet(cases(32, 64)))
    assert Counter(DuetWorker.started) == {"/base/python": 6, "/head/python": 6, None: 1}
    assert [what for what, _ in ScriptedWorker.log].count("draw") == 2


def test_the_sides_of_a_case_alternate_in_an_order_that_is_balanced_and_random() -> None:
    run(duet(cases(32, 64, 128)))
    visited = DuetWorker.visited
    turns = [visited[i : i + 2] for i in range(0, len(visited), 2)]
    assert len(turns) == 6 * 3 * 4
    assert all({python for python, _ in turn} == set(PYTHONS.values()) for turn in turns)
    assert all(len({n for _, n in turn}) == 1 for turn in turns)
    first = [turn[0][0] for turn in turns]
    assert 0.4 < first.count("/base/python") / len(first) < 0.6
    assert len({tuple(first[i : i + 4]) for i in range(0, len(first), 4)}) > 2, "not random"


def test_the_blocks_of_a_pair_share_its_number() -> None:
    events, base, head = run(duet(cases(32)))
    assert [b.pair for b in blocks(events, "base")] == list(range(6))
    assert [b.pair for m in base.measurements for b in m.blocks] == [
        b.pair for m in head.measurements for b in m.blocks
    ]


@pytest.mark.parametrize("noisy", ["/base/python", "/head/python"])
def test_a_disturbed_turn_is_discarded_on_both_sides_whichever_was_hit(noisy: str) -> None:
    hits = iter([True])

    def script(worker: ScriptedWorker, _order: dict[str, Any]) -> dict[str, Any] | None:
        if worker.python == noisy and next(hits, False):
            return seen(9.0, disturbances=["steal"])
        return None

    ScriptedWorker.script = staticmethod(script)
    events, _, _ = run(duet(cases(32)))
    for side in SIDES:
        first = blocks(events, side)[0]
        assert max(first.seconds) < 1.0
        assert first.notes == ["discarded: steal"]
        assert first.visits == [5, 5, 5, 5]


def test_noise_that_stays_is_measured_again_later_in_the_pair_then_kept_and_named() -> None:
    def script(_worker: ScriptedWorker, order: dict[str, Any]) -> dict[str, Any] | None:
        return seen(1e-3, disturbances=["steal"]) if order["dims"]["n"] == 64 else None

    ScriptedWorker.script = staticmethod(script)
    events, base, _ = run(duet(cases(32, 64)))
    lines = blocks(events, "base")
    assert all("disturbed: steal" in line.notes for line in lines if "n=64" in line.case)
    assert all(not line.notes for line in lines if "n=32" in line.case)
    begun = Counter(text for what, text in ScriptedWorker.log if what == "begin")
    assert begun["numpy 64"] == 2 * begun["numpy 32"], "not measured again once in each pair"
    assert all(m.status == "ok" for m in base.measurements)
    most = 4 * 2 + 2 * (round(0.25 * 4 * 2) + RETRIES)  # turns, and those that may be repeated
    visited = Counter(n for _, n in DuetWorker.visited)
    assert visited[64] / 6 <= 2 * most


def test_a_turn_with_a_slow_canary_on_either_side_is_repeated_not_called_disturbed() -> None:
    calls = Counter[str | None]()

    def script(worker: ScriptedWorker, _order: dict[str, Any]) -> dict[str, Any]:
        calls[worker.python] += 1
        slow = worker.python == "/head/python" and calls[worker.python] == 15
        # The head's library computes the canary 30% slower, always: each side has its own best.
        usual = 1.3e-3 if worker.python == "/head/python" else 1e-3
        return seen(1e-3, canary=1.5 * usual if slow else usual)

    ScriptedWorker.script = staticmethod(script)
    events, _, _ = run(duet(cases(32)))
    for side in SIDES:
        notes = [note for block in blocks(events, side) for note in block.notes]
        assert notes == ["discarded: the canary was slow"]


def test_where_most_turns_stay_slow_the_case_is_measured_again_later_in_the_pair() -> None:
    def script(_worker: ScriptedWorker, order: dict[str, Any]) -> dict[str, Any]:
        begun = [text for what, text in ScriptedWorker.log if what == "begin"]
        # Quiet at first, in the first pair; then a neighbour comes whenever 64 is measured.
        slow = order["dims"]["n"] == 64 and begun.count("numpy 64") > 2
        return seen(1e-3, canary=1.8e-3 if slow else 1e-3)

    ScriptedWorker.script = staticmethod(script)
    events, base, _ = run(duet(cases(32, 64)))
    begun = Counter(text for what, text in ScriptedWorker.log if what == "begin")
    assert begun["numpy 32"] == 6 * 2
    assert begun["numpy 64"] == 2 + 5 * 4
    assert not any("disturbed" in note for block in blocks(events, "base") for note in block.notes)
    assert all(m.status == "ok" for m in base.measurements)


def test_without_a_change_the_job_ends_after_its_first_stage() -> None:
    one = duet(cases(32, 64))
    events, base, head = run(one)
    assert {e.stage for e in events if isinstance(e, PairStarted)} == {1}
    judgement = judge_duet((base, stored(base)), (head, stored(head)), one.settings)
    assert [case.verdict for case in judgement.cases] == ["SAME", "SAME"]
    assert judgement.exit_code == 0


def slower_at(n: int, factor: float) -> Script:
    def script(worker: ScriptedWorker, order: dict[str, Any]) -> dict[str, Any] | None:
        is_slow = worker.python == "/head/python" and order["dims"]["n"] == n
        noise = 1 + 0.01 * ((len(DuetWorker.visited) * 7919) % 10) / 10
        return seen(1e-3 * noise * factor) if is_slow else None

    return staticmethod(script)


def test_only_what_looks_changed_gets_fresh_pairs_and_they_decide() -> None:
    ScriptedWorker.script = slower_at(64, 1.2)
    one = duet(cases(32, 64))
    events, base, head = run(one)
    assert one.suspects == [("matmul", "matmul/n=64/call/float32/numpy")]
    fresh = [b for b in blocks(events, "head") if b.pair is not None and b.pair >= FRESH]
    assert {b.case for b in fresh} == {"matmul/n=64/call/float32/numpy"}
    assert [b.pair for b in fresh] == list(range(FRESH, FRESH + SETTINGS.second_pairs))
    judgement = judge_duet((base, stored(base)), (head, stored(head)), one.settings)
    assert {c.key[1].split("/")[1]: c.verdict for c in judgement.cases} == {
        "n=32": "SAME",
        "n=64": "REGRESSED",
    }
    assert judgement.exit_code == 1


def test_an_improvement_is_told_and_is_no_fault() -> None:
    ScriptedWorker.script = slower_at(64, 0.85)
    one = duet(cases(64))
    _, base, head = run(one)
    judgement = judge_duet((base, stored(base)), (head, stored(head)), one.settings)
    assert [c.verdict for c in judgement.cases] == ["IMPROVED"]
    assert judgement.exit_code == 0


def test_the_files_say_the_same_as_the_job(tmp_path: Path) -> None:
    ScriptedWorker.script = slower_at(64, 1.2)
    one = duet(with_controls(cases(32, 64, 128, 256), 0), folder=tmp_path)
    _, base, head = run(one)
    files = [read_run(tmp_path / f"{side}.jsonl") for side in SIDES]
    assert is_duet(*files)
    replayed = judge_duet((files[0], stored(files[0])), (files[1], stored(files[1])), one.settings)
    assert replayed == judge_duet((base, stored(base)), (head, stored(head)), one.settings)
    assert replayed.sentinels, "the controls were lost"


def test_a_control_measures_the_base_with_two_processes_of_it() -> None:
    measured = with_controls(cases(32, 64, 128, 256), 0)
    assert sum(CONTROL in case.id for case in measured) == 2
    DuetWorker.slower["/head/python"] = 3.0
    one = duet(measured)
    events, _, _ = run(one)
    control = [b for b in blocks(events, "head") if CONTROL in b.case]
    assert control
    assert all(max(b.seconds) < 2e-3 for b in control), "measured in head"
    stages = 2 * 6 + 14  # no control was suspected
    assert Counter(DuetWorker.started)["/base/python"] == stages
    assert not any(CONTROL in key[1] for key in one.suspects)


@pytest.mark.parametrize(("side", "code"), [("base", 0), ("head", 1)])
def test_a_case_that_fails_counts_against_the_head_alone(side: Side, code: int) -> None:
    def script(worker: ScriptedWorker, order: dict[str, Any]) -> None:
        if worker.python == PYTHONS[side] and order["dims"]["n"] == 64:
            raise CaseError("failed", "no such function")

    ScriptedWorker.script = staticmethod(script)
    one = duet(cases(32, 64))
    events, base, head = run(one)
    outcomes = [e for e in events if isinstance(e, SideLine) and isinstance(e.line, OutcomeLine)]
    assert [(e.side, e.line.block) for e in outcomes if isinstance(e.line, OutcomeLine)] == [
        (side, 0)
    ]
    judgement = judge_duet((base, stored(base)), (head, stored(head)), one.settings)
    lacking = judgement.unjudged if side == "base" else judgement.missing
    assert list(lacking.values()) == [f"{side}: failed: no such function"]
    assert judgement.exit_code == code
    assert [c.verdict for c in judgement.cases] == ["SAME"]


def test_a_worker_that_dies_costs_its_case_alone() -> None:
    def script(worker: ScriptedWorker, order: dict[str, Any]) -> None:
        if worker.python == "/head/python" and order["dims"]["n"] == 64:
            worker.kill()
            raise WorkerError("crashed", "SIGSEGV")

    ScriptedWorker.script = staticmethod(script)
    one = duet(cases(32, 64, 128))
    _, base, head = run(one)
    assert {m.sizes["n"]: m.status for m in head.measurements} == {
        32: "ok",
        64: "crashed",
        128: "ok",
    }
    found = pairs_of(base, head)
    assert list(found.missing.values()) == ["head: crashed: SIGSEGV"]


def test_what_the_head_lacks_is_missing_and_what_neither_reached_is_not_forgotten() -> None:
    known = cases(32, 64)
    lacking = [structs.replace(known[0], skipped="PyTorch is not installed"), known[1]]
    waiting = [structs.replace(known[0], skipped=HEAD_LACKS), known[1]]
    one = duet(lacking, base=waiting, minutes=1e-9)
    _, base, head = run(one)
    found = pairs_of(base, head)
    assert list(found.missing.values()) == ["head: skipped: PyTorch is not installed"]
    assert found.first == {known[1].key: []}
    judgement = judge_duet((base, stored(base)), (head, stored(head)), one.settings)
    assert judgement.exit_code == 1
    assert set(judgement.missing) == {known[0].key}
    assert [(case.key, case.verdict) for case in judgement.cases] == [
        (known[1].key, "INCONCLUSIVE")
    ]


@pytest.mark.parametrize(("minutes", "pairs"), [(0.5, 14), (3.0, 14), (15.0, 70), (600.0, 100)])
def test_more_minutes_are_more_fresh_pairs_settled_before_any_is_measured(
    minutes: float, pairs: int
) -> None:
    assert fresh_pairs(minutes, 16, SETTINGS.second_pairs) == pairs
    ScriptedWorker.script = slower_at(64, 1.3)
    one = duet(cases(32, 64))
    for record in one.records.values():
        record.header.settings["fresh_pairs"] = pairs
    events, base, head = run(one)
    assert [e.stage for e in events if isinstance(e, PairStarted)].count(2) == pairs
    judgement = judge_duet((base, stored(base)), (head, stored(head)), one.settings)
    assert judgement.settings.second_pairs == pairs, "what a case would have seen follows"


class Clock:
    """Advances with every visit."""

    def __call__(self) -> float:
        return 0.5 * len(DuetWorker.visited)


def test_the_minutes_end_the_job_and_it_says_how_far_it_came() -> None:
    # A pair of two cases takes 2 * 4 * 2 visits of half a second.
    one = duet(cases(32, 64), minutes=0.5, clock=Clock())
    run(one)
    assert len(DuetWorker.visited) <= 2 * 30
    assert one.unreached is not None
    assert "pairs of stage 1 were begun within 0.5 minutes" in one.unreached
    assert "--minutes" in one.unreached


def test_the_first_stage_leaves_time_for_the_second() -> None:
    ScriptedWorker.script = slower_at(64, 1.3)
    one = duet(cases(32, 64), minutes=50 / 60, clock=Clock())
    events, _, _ = run(one)
    stages = Counter(e.stage for e in events if isinstance(e, PairStarted))
    assert stages[1] < SETTINGS.first_pairs
    assert stages[2] >= 1


def test_the_same_seed_gives_the_same_order() -> None:
    orders = []
    for _ in range(2):
        DuetWorker.visited.clear()
        run(duet(cases(32, 64, 128)))
        orders.append(list(DuetWorker.visited))
    assert orders[0] == orders[1]


def block(pair: int, seconds: float, *, canary: list[float] | None = None, note: str = "") -> Block:
    return Block(
        seconds=[seconds, 2 * seconds, 3 * seconds, 4 * seconds],
        calls_per_sample=1,
        warmup_calls=1,
        first_call_seconds=None,
        order=0,
        pair=pair,
        visits=[1, 1, 1, 1] if canary else [],
        canary=canary or [],
        notes=[note] if note else [],
    )


def test_only_quiet_visits_count_each_side_by_its_own_canary() -> None:
    # The last two visits of base and the first of head were slow, by their canaries.
    base = [block(n, 1.0, canary=[1.0, 1.0, 1.8, 1.8]) for n in range(6)]
    head = [block(n, 1.0, canary=[5.0, 3.0, 3.0, 3.1]) for n in range(6)]
    assert set(pairs_of_blocks(base, head).values()) == {(1.5, 3.0)}


def blocks_of_moods(seconds: float, canary: float, moods: Sequence[float]) -> list[Block]:
    """Return a side whose visits and canaries follow the machine's mood alike."""
    rng = random.Random(seconds)
    drawn = [[rng.choice(moods) for _ in range(20)] for _ in range(6)]
    return [
        Block(
            seconds=[seconds * mood for mood in own],
            calls_per_sample=1,
            warmup_calls=1,
            first_call_seconds=None,
            order=0,
            pair=n,
            visits=[1] * 20,
            canary=[canary * mood for mood in own],
        )
        for n, own in enumerate(drawn)
    ]


def test_what_the_canary_explains_is_taken_out_if_it_is_the_same_work_on_both_sides() -> None:
    moods = [1.0, 1.02, 1.06, 1.1, 1.8]
    sides = [blocks_of_moods(seconds, 1e-5, moods) for seconds in (1.0, 1.05)]
    same = pairs_of_blocks(*sides, is_same_canary=True)
    assert [head / base for base, head in same.values()] == pytest.approx([1.05] * 6)
    other = pairs_of_blocks(*sides)
    assert [head / base for base, head in other.values()] != pytest.approx([1.05] * 6)


def test_what_the_second_stage_sees_changes_nothing_that_the_first_one_said() -> None:
    first = [block(n, 1.0 + n / 10, canary=[1.25, 1.3, 1.25, 1.3]) for n in range(6)]
    fresh = [block(FRESH + n, 1.0, canary=[1.0] * 4) for n in range(14)]
    alone = pairs_of_blocks(first, first)
    both = pairs_of_blocks([*first, *fresh], [*first, *fresh])
    assert {number: pair for number, pair in both.items() if number < FRESH} == alone


def test_a_library_of_the_same_version_with_other_files_has_another_canary() -> None:
    def change(files: str) -> float:
        sides = []
        moods = [1.0, 1.02, 1.06, 1.1]
        for side, seconds in (("base", 1.0), ("head", 1.05)):
            found = measurement(sizes={"n": 1}, seconds=seconds)
            found.blocks = blocks_of_moods(seconds, 1e-5 * seconds, moods)
            libraries = {"numpy": {"version": "2.0"}}
            own = {"numpy": files if side == "head" else "aa"}
            machine = {"libraries": libraries, "package_files": own}
            sides.append(one_run(found, label=side, machine=machine))
        ((_, pairs),) = pairs_of(*sides).first.items()
        return statistics.median(head / base for base, head in pairs)

    assert change("aa") == pytest.approx(1.0, abs=0.01), "the canary is no longer the same work"
    assert change("bb") > 1.03, "a slower library was taken for a slow machine"


def test_a_canary_that_the_code_itself_slows_takes_nothing_away() -> None:
    moods = [1.0, 1.02, 1.05]
    sides = [blocks_of_moods(*side, moods) for side in ((1.0, 1e-5), (1.3, 1.5e-5))]
    pairs = pairs_of_blocks(*sides, is_same_canary=True)
    assert [head / base for base, head in pairs.values()] == pytest.approx([1.3] * 6, rel=0.06)


def test_noisy_pairs_are_left_out_while_enough_others_remain_of_their_stage() -> None:
    def pairs(noisy: int, fresh: int = 0) -> int:
        numbers = [*range(6), *range(FRESH, FRESH + fresh)]
        head = [block(n, 1.0, note="disturbed: x" if n % FRESH < noisy else "") for n in numbers]
        return len(pairs_of_blocks([block(n, 1.0) for n in numbers], head))

    assert [pairs(n) for n in (0, 1, 2, 3, 6)] == [6, 5, 4, 6, 6]
    assert [pairs(n, fresh=14) for n in (2, 5, 6)] == [4 + 12, 6 + 9, 6 + 14]


def test_a_pair_whose_canary_never_was_quiet_is_noisy() -> None:
    slow = [block(n, 1.0, canary=[(1.8 if n < 2 else 1.0)] * 4) for n in range(6)]
    assert set(pairs_of_blocks(slow, [block(n, 1.0, canary=[1.0] * 4) for n in range(6)])) == {
        2,
        3,
        4,
        5,
    }


def test_a_block_without_its_like_counts_for_none() -> None:
    alone = replace_pair(block(3, 1.0), None)
    assert list(pairs_of_blocks([block(1, 1.0), block(2, 2.0), alone], [block(2, 4.0)])) == [2]


def replace_pair(one: Block, pair: int | None) -> Block:
    one.pair = pair
    return one


def test_a_threshold_in_the_settings_reaches_the_search_for_suspects() -> None:
    ScriptedWorker.script = slower_at(32, 1.08)
    strict, mild = duet(cases(32)), duet(cases(32))
    mild.settings = replace(mild.settings, threshold=0.3)
    run(strict)
    run(mild)
    assert strict.suspects
    assert not mild.suspects
