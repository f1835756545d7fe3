"""A duet of a project's own tests, with a pytest that answers from a script; then real ones."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.comparing.pairs import pairs_of
from bench.comparing.quiet import best_canary
from bench.comparing.stored import stored
from bench.comparing.stored_gate import judge_duet
from bench.comparing.verdicts import GateSettings
from bench.errors import RequestError
from bench.running.duet import Duet, Record, with_controls
from bench.running.environments import Environment
from bench.running.paired_tests import (
    LONGEST_TEST_SECONDS,
    SHORTEST_TEST_SECONDS,
    SUITE,
    PairedTests,
    case_id,
    learn_tests,
    make_case,
    seconds_per_test,
)
from bench.running.pytest_runner import Ran, Runner
from bench.running.sides import SIDES, Side
from tests import toy
from tests.commands import bench
from tests.test_duet import header

NAMES = ["perf/test_a.py::test_one", "perf/test_a.py::test_two[64-True]", "perf/test_b.py::test_x"]


Answers = Mapping[tuple[Side, str], Mapping[str, Any]]


class ScriptedRunner(Runner):
    """Answers like the pytest of an environment."""

    def __init__(self, answers: Answers | None = None) -> None:
        super().__init__({}, random.Random(0))
        self.answers = answers or {}
        self.runs: list[tuple[Side, list[str]]] = []

    def run(self, side: Side, tests: Sequence[str], seconds: float) -> Ran:
        self.runs.append((side, list(tests)))
        seen, times = {}, {}
        for test in tests:
            noise = 1 + 0.001 * (len(self.runs) % 7)
            seen[test] = {"outcome": "passed", "disturbances": []}
            times[test] = {"data": [1e-3 * noise] * 5, "iterations": 2}
            told = dict(self.answers.get((side, test), {}))
            times[test]["data"] = told.pop("data", times[test]["data"])
            seen[test].update(told)
            if seen[test]["outcome"] != "passed":
                del times[test]
        return Ran({"tests": seen, "errors": {}}, times)


def duet(runner: ScriptedRunner, *, controls: bool = False) -> Duet:
    tests = {(SUITE, case_id(name)): name for name in NAMES}
    cases = [make_case(key, name, 2) for key, name in tests.items()]
    if controls:
        cases = with_controls(cases, 0)
        for case in cases[len(tests) :]:
            tests[case.key] = tests[SUITE, case.id.partition("+control=")[0]]
    records: dict[Side, Record] = {side: Record(header(side), cases) for side in SIDES}
    pairing = PairedTests(runner, tests, 0.2, 0)
    return Duet(pairing, records, GateSettings(), 3.0)


def judged(one: Duet) -> Any:
    list(one.events())
    base, head = one.finish()
    return judge_duet((base, stored(base)), (head, stored(head)), one.settings)


def test_each_pair_runs_the_tests_in_both_environments_in_random_order() -> None:
    runner = ScriptedRunner()
    judged(duet(runner))
    assert len(runner.runs) == 2 * 6
    pairs = [runner.runs[i : i + 2] for i in range(0, 12, 2)]
    assert all({side for side, _ in pair} == {"base", "head"} for pair in pairs)
    assert all(pair[0][1] == pair[1][1] and set(pair[0][1]) == set(NAMES) for pair in pairs)
    assert len({pair[0][0] for pair in pairs}) == 2, "one side is always first"


def test_a_control_runs_base_twice() -> None:
    runner = ScriptedRunner()
    judged(duet(runner, controls=True))
    sides = [side for side, _ in runner.runs]
    assert sides.count("base") == 3 * sides.count("head")


def test_a_slower_test_is_found_and_named_by_pytests_own_name() -> None:
    slow: Answers = {("head", NAMES[1]): {"data": [1.3e-3] * 5}}
    judgement = judged(duet(ScriptedRunner(slow)))
    assert judgement.cases[0].verdict == "REGRESSED"
    assert (
        judgement.cases[0].name == "perf/test_a.py::test_two/64-True/call/unknown/pytest-benchmark"
    )
    assert [case.verdict for case in judgement.cases[1:]] == ["SAME", "SAME"]


@pytest.mark.parametrize(("side", "code"), [("base", 0), ("head", 1)])
def test_a_failing_test_has_a_clear_line_and_the_rest_goes_on(side: Side, code: int) -> None:
    failing: Answers = {(side, NAMES[0]): {"outcome": "failed", "reason": "no such work"}}
    judgement = judged(duet(ScriptedRunner(failing)))
    lacking = judgement.unjudged if side == "base" else judgement.missing
    assert list(lacking.values()) == [f"{side}: failed: the test failed: no such work"]
    assert len(judgement.cases) == 2
    assert judgement.exit_code == code


def test_what_ends_pytest_takes_no_other_test_along() -> None:
    class Fatal(ScriptedRunner):
        """One test ends head's process, whatever was asked for beside it."""

        def run(self, side: Side, tests: Sequence[str], seconds: float) -> Ran:
            if side == "head" and NAMES[1] in tests:
                self.runs.append((side, list(tests)))
                return Ran({}, end="exited with code -11")
            return super().run(side, tests, seconds)

    judgement = judged(duet(Fatal()))
    assert [case.verdict for case in judgement.cases] == ["SAME", "SAME"]
    assert list(judgement.missing.values()) == ["head: failed: exited with code -11"]


def test_what_was_measured_before_pytest_ended_in_an_odd_way_counts() -> None:
    class Odd(ScriptedRunner):
        """A plugin of the project makes it exit with a code of its own."""

        def run(self, side: Side, tests: Sequence[str], seconds: float) -> Ran:
            return replace(super().run(side, tests, seconds), end="exited with code 7")

    runner = Odd()
    judgement = judged(duet(runner))
    assert [case.verdict for case in judgement.cases] == ["SAME"] * 3
    assert len(runner.runs) == 2 * 6


def test_a_disturbed_test_is_run_again_on_both_sides_and_the_others_are_not() -> None:
    noisy: Answers = {("head", NAMES[2]): {"disturbances": ["steal"]}}
    runner = ScriptedRunner(noisy)
    one = duet(runner)
    list(one.events())
    base, head = one.finish()
    again = [tests for _, tests in runner.runs if tests == [NAMES[2]]]
    assert len(again) == 2 * 6
    assert all(
        m.flags == ([] if NAMES[2] not in m.id else ["disturbed"]) for m in head.measurements
    )
    assert all(len(pairs) == 6 for pairs in pairs_of(base, head).first.values())


def test_a_test_whose_core_was_slow_is_run_again_and_quiet_rounds_count() -> None:
    def rounds(slow: int, seconds: float) -> Mapping[str, Any]:
        factors = [1.8] * slow + [1.0] * (10 - slow)
        data, canary = ([unit * factor for factor in factors] for unit in (seconds, 5e-5))
        return {"data": data, "canary": canary}

    class Neighbour(ScriptedRunner):
        """Half of head's rounds are slow, and all of them in its third process."""

        def run(self, side: Side, tests: Sequence[str], seconds: float) -> Ran:
            is_slow = side == "head" and [s for s, _ in self.runs].count("head") == 2
            told = rounds(10 if is_slow else 5 * (side == "head"), 1e-3)
            self.answers = {(side, test): told for test in tests}
            return super().run(side, tests, seconds)

    runner = Neighbour()
    judgement = judged(duet(runner))
    assert [case.verdict for case in judgement.cases] == ["SAME"] * 3
    assert all(case.change == pytest.approx(0) for case in judgement.cases)
    assert len(runner.runs) == 2 * 6 + 2, "only one pair was noisy"


def test_the_time_of_a_test_follows_the_minutes_within_bounds() -> None:
    usual = seconds_per_test(3.0, 18, 6, 0.8)
    assert SHORTEST_TEST_SECONDS < usual < LONGEST_TEST_SECONDS
    assert seconds_per_test(0.5, 18, 6, 0.8) == SHORTEST_TEST_SECONDS
    assert seconds_per_test(60.0, 18, 6, 0.8) == LONGEST_TEST_SECONDS


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with two environments: in head `work` is 10% slower."""
    folder = tmp_path_factory.mktemp("project")
    toy.environment(folder / "base", toy.SOURCE, "pytest-benchmark")
    toy.environment(folder / "head", toy.slowed(0.1), "pytest-benchmark")
    (folder / "perf").mkdir()
    (folder / "perf/test_toy.py").write_text(toy.TESTS)
    return folder


def runner_of(project: Path) -> Runner:
    environments: dict[Side, Environment] = {
        side: Environment(side=side, python=toy.interpreter(project / side), version="3.11")
        for side in SIDES
    }
    return Runner(environments, random.Random(0))


def test_only_tests_with_a_benchmark_are_learned_and_broken_files_are_told(project: Path) -> None:
    broken = project / "perf/test_broken.py"
    broken.write_text("import nothing_of_that_name\n")
    runner = runner_of(project)
    try:
        learned = learn_tests(runner, str(project / "perf"))
    finally:
        runner.close()
        broken.unlink()
    names = {name.rpartition("::")[2] for name in learned.tests.values()}
    assert names == {"test_work", "test_other[5000]", "test_other[20000]"}
    assert len(learned.problems) == 1
    assert "test_broken.py cannot be collected" in learned.problems[0]
    assert "No module named 'nothing_of_that_name'" in learned.problems[0]


def test_tests_are_found_on_both_sides_wherever_pytest_has_its_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = project / "perf/pytest.ini"
    inner.write_text("[pytest]\n")
    monkeypatch.chdir(project)
    runner = runner_of(project)
    try:
        learned = learn_tests(runner, "perf")
    finally:
        runner.close()
        inner.unlink()
    assert runner.root == project / "perf"
    assert "test_toy.py::test_work" in learned.tests.values()
    assert not any(learned.absent.values())


def test_tests_that_one_side_lacks_are_told_and_the_others_measured(project: Path) -> None:
    source = """
import sys
assert "SIDE" not in sys.prefix.replace("\\\\", "/").split("/"), "this version has no such thing"


def test_NAME(benchmark):
    benchmark(sum, range(1000))
"""
    files = {name: project / f"perf/test_{name}.py" for name in ("new", "gone", "broken")}
    for (name, path), side in zip(files.items(), ("base", "head", "perf"), strict=True):
        path.write_text(source.replace("SIDE", side).replace("NAME", name))
    files["broken"].write_text("def test_broken(benchmark):\n    assert benchmark(sum, []) == 1\n")
    try:
        done = bench(
            *("duet", "--base-python", toy.interpreter(project / "base")),
            *("--head-python", toy.interpreter(project / "head"), "--pytest", "perf"),
            *("--only", "*test_new*", "--only", "*test_gone*", "--only", "*test_broken*"),
            *("--only", "*test_other*", "--threshold", "400%", "--minutes", "2"),
            *("--output", project / "lacking"),
            cwd=project,
            timeout=400,
        )
    finally:
        for path in files.values():
            path.unlink()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "bench duet: 1 missing, 2 SAME, 2 n/a\n" in done.stdout
    why = "cannot be collected: AssertionError: this version has no such thing"
    assert f"missing: head: skipped: perf/test_gone.py {why}" in done.stdout
    assert f"n/a: base: skipped: perf/test_new.py {why}" in done.stdout
    assert "n/a: base: failed: the test failed: assert 0 == 1" in done.stdout


def test_a_folder_without_benchmarks_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text("def test_nothing():\n    pass\n")
    runner = runner_of(project)
    with pytest.raises(RequestError, match="no test there uses the fixture `benchmark`"):
        learn_tests(runner, str(tmp_path))
    with pytest.raises(RequestError, match="no such file or folder"):
        learn_tests(runner, "nowhere")
    runner.close()


def test_each_environments_own_package_is_timed_even_beside_its_sources(project: Path) -> None:
    # Where the user stands lies a third version, which neither side may import.
    (project / "toy.py").write_text("raise RuntimeError('imported from where the user stands')\n")
    runner = runner_of(project)
    runner.root = project
    tests = ["perf/test_toy.py::test_work"]
    try:
        ran = {side: runner.run(side, tests, 0.1) for side in SIDES}
    finally:
        (project / "toy.py").unlink()
        runner.close()
    for side in SIDES:
        assert ran[side].end == ""
        seen = ran[side].found["tests"][tests[0]]
        assert seen["outcome"] == "passed"
        assert len(seen["canary"]) == len(ran[side].times[tests[0]]["data"])
        assert runner.canary[side] == best_canary(seen["canary"])


def test_the_story_of_a_slow_function_from_its_finding_to_its_revert(project: Path) -> None:
    def gate(name: str) -> tuple[Any, Path]:
        for minutes in ("1", "2", "4"):  # once inconclusive: again, with more of them
            folder = project / name / minutes
            done = bench(
                *("duet", "--base-python", toy.interpreter(project / "base")),
                *("--head-python", toy.interpreter(project / "head")),
                *("--pytest", "perf", "--only", "*test_work*", "--minutes", minutes),
                *("--output", folder, "--summary", f"{name}.md", "--junit", f"{name}.xml"),
                cwd=project,
                timeout=400,
            )
            if done.returncode != 3:
                break
        return done, folder

    slow, runs = gate("slow")
    assert slow.stderr.startswith("toy 1.0: the same version, other files\n")
    assert slow.returncode == 1, slow.stdout + slow.stderr
    assert slow.stdout.startswith("bench duet: 1 REGRESSED\n")
    assert "perf/test_toy.py::test_work/-/call/unknown/pytest-benchmark: +" in slow.stdout
    assert "1 of 1 cases measured on both sides" in slow.stdout
    assert "REGRESSED" in (project / "slow.md").read_text()
    assert "test_work" in (project / "slow.xml").read_text()
    replayed = bench("check", runs / "head.jsonl", "--against", runs / "base.jsonl")
    assert replayed.returncode == 1
    assert slow.stdout.splitlines()[2] == replayed.stdout.splitlines()[2]
    site = next((project / "head").rglob("toy.py")).parent
    toy.install(site, toy.SOURCE)
    reverted, _ = gate("reverted")
    assert reverted.stderr.startswith("the environments hold the same packages\n")
    assert reverted.returncode == 0, reverted.stdout + reverted.stderr
    assert "REGRESSED" not in reverted.stdout
