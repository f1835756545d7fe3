"""`bench check`: stored runs of one machine, a duet that is replayed, and where verdicts go."""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import pytest

from bench.comparing.annotations import annotations
from bench.comparing.gate import FRESH
from bench.comparing.gate_document import MOST_SUMMARY_BYTES, fit_summary
from bench.comparing.junit import junit
from bench.comparing.verdicts import (
    CaseVerdict,
    GateSettings,
    Judgement,
    Key,
    Verdict,
    percent,
    percent_up,
    share,
)
from bench.report import Document
from bench.results.schema import Block, Measurement, Run
from tests.commands import bench
from tests.machines import write
from tests.runs import HOSTILE, matmul, run

REGRESSED: list[Verdict] = ["REGRESSED"]
OPEN: list[Verdict] = ["INCONCLUSIVE"]
SAME: list[Verdict] = ["SAME"]
SIZES = (64, 128, 256, 512)
CPU: dict[str, Any] = {"model": "Synthetic CPU", "cores_allowed": 2, "isa": ["avx2"]}
MACHINE: dict[str, Any] = {
    "cpu": CPU,
    "gpus": [],
    "libraries": {"numpy": {"version": "2.0", "isa": "AVX2"}},
}


def blocks(
    seconds: float, name: str, *, spread: float = 0.005, count: int = 6, **fields: Any
) -> list[Block]:
    rng = random.Random(name)
    return [
        Block(
            seconds=[seconds * math.exp(rng.gauss(0, spread))] * 4,
            calls_per_sample=8,
            warmup_calls=5,
            first_call_seconds=None,
            order=0,
            **fields,
        )
        for _ in range(count)
    ]


def case(n: int, name: str, change: float = 0.0, **fields: Any) -> Measurement:
    found = matmul(n, "numpy", 10.0, input_digest=f"digest of {n}")
    assert found.seconds is not None
    own = {key: fields.pop(key) for key in ("spread", "count", "notes") if key in fields}
    found.blocks = blocks(found.seconds.median * (1 + change), f"{name} {n}", **own)
    for field, value in fields.items():
        setattr(found, field, value)
    return found


def stored(
    name: str, changes: dict[int, float] | None = None, drift: float = 0.0, **fields: Any
) -> Run:
    """Return a run of all sizes; `drift` slows every case."""
    cases = [case(n, name, (1 + drift) * (1 + (changes or {}).get(n, 0.0)) - 1) for n in SIZES]
    return named(run(*cases, label=name, **{"machine": MACHINE, **fields}), name)


def named(found: Run, name: str) -> Run:
    found.header.id = name
    return found


def duet(changes: dict[int, float], *, control: float = 0.0) -> tuple[Run, Run]:
    """Return the two runs of a duet of both stages, with a control that measures base twice."""
    sides = []
    for name in ("base", "head"):
        cases = []
        for n, variant in [*((n, None) for n in SIZES), (64, "control=base")]:
            change = 0.0
            if name == "head":
                change = control if variant else changes.get(n, 0.0)
            found = matmul(n, "numpy", 10.0, variant=variant, input_digest=f"digest of {n}")
            assert found.seconds is not None
            found.blocks = blocks(
                found.seconds.median * (1 + change), f"{name} {n} {variant}", count=20
            )
            for number, block in enumerate(found.blocks):
                block.pair = number if number < 6 else FRESH + number
            cases.append(found)
        side = named(run(*cases, label=name, machine=MACHINE), name)
        side.header.settings["duet"] = "one"
        sides.append(side)
    return sides[0], sides[1]


def check(tmp_path: Path, head: Run, *bases: Run, options: Sequence[str | Path] = ()) -> Any:
    paths = write(tmp_path, head, *bases)
    return bench("check", paths[0], "--against", *paths[1:], *options)


def test_unchanged_runs_pass_and_say_what_would_have_been_seen(tmp_path: Path) -> None:
    done = check(tmp_path, stored("head"), stored("base"))
    assert done.returncode == 0, done.stderr
    assert "bench check: 4 SAME" in done.stdout
    # The threshold upon the drift: noise of half a percent adds nothing.
    assert "4 of 4 cases measured on both sides; changes above 15.5% would" in done.stdout


def test_a_change_beyond_drift_is_found_with_one_baseline(tmp_path: Path) -> None:
    done = check(tmp_path, stored("head", {128: 0.30}), stored("base"))
    assert done.returncode == 1
    assert "1 REGRESSED, 3 SAME" in done.stdout
    assert "matmul/n=128/call/float32/numpy: +29." in done.stdout
    faster = check(tmp_path, stored("head", {128: -0.30}), stored("base"))
    assert faster.returncode == 0
    assert "1 IMPROVED" in faster.stdout


def test_a_change_that_drift_may_explain_stays_open(tmp_path: Path) -> None:
    paths = write(tmp_path, stored("head", {128: 0.09}), stored("base"))
    done = bench("check", paths[0], "--against", paths[1])
    assert done.returncode == 3
    assert "perhaps slower, or the machine drifted by up to 10%: 1 baseline cannot" in done.stdout
    warned = bench("check", paths[0], "--against", paths[1], "--inconclusive", "warn")
    assert warned.returncode == 0
    assert "1 INCONCLUSIVE" in warned.stdout
    trusted = bench("check", paths[0], "--against", paths[1], "--drift", "1%")
    assert trusted.returncode == 1


def test_many_baselines_tell_the_drift_themselves(tmp_path: Path) -> None:
    drifts = (0.0, 0.01, -0.01, 0.005, -0.005, 0.012, -0.012, 0.0)
    bases = [stored(f"base {i}", drift=drift) for i, drift in enumerate(drifts)]
    done = check(tmp_path, stored("head", {256: 0.10}), *bases)
    assert done.returncode == 1
    assert "1 REGRESSED, 3 SAME" in done.stdout
    wild = [stored(f"base {i}", drift=10 * drift) for i, drift in enumerate(drifts)]
    assert check(tmp_path, stored("head", {256: 0.10}), *wild).returncode == 3


def test_strict_asks_stored_runs_for_proof(tmp_path: Path) -> None:
    done = check(tmp_path, stored("head"), stored("base"), options=["--strict"])
    assert done.returncode == 3
    assert "4 INCONCLUSIVE" in done.stdout


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ({"cpu": {**CPU, "model": "Other"}}, "CPU Synthetic CPU against Other"),
        ({"cpu": {**CPU, "cores_allowed": 4}}, "cores 2 against 4"),
        ({"cpu": {**CPU, "isa": ["avx512f"]}}, "ISA avx2 against avx512f"),
        ({"libraries": {"numpy": {"isa": "AVX512"}}}, "ISA of numpy AVX2 against AVX512"),
    ],
)
def test_another_machine_is_void(tmp_path: Path, machine: dict[str, Any], reason: str) -> None:
    base = stored("base", machine={**MACHINE, **machine})
    done = check(tmp_path, stored("head"), base)
    assert done.returncode == 4
    assert f"another machine: {reason}" in done.stderr
    assert "bench check: no case in common" in done.stdout
    beside = check(tmp_path, stored("head"), base, stored("good"))
    assert beside.returncode == 0
    assert f"another machine: {reason}" in beside.stdout


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"threads": 4}, "2 threads against 4"),
        ({"workload_version": 2}, "workload version 1 against 2"),
        ({"input_digest": "other"}, "different inputs"),
    ],
)
def test_other_work_is_void(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    head = named(run(case(64, "head"), machine=MACHINE), "head")
    base = named(run(case(64, "base", **fields), machine=MACHINE), "base")
    done = check(tmp_path, head, base)
    assert done.returncode == 4
    assert f"n/a: void: {reason}: matmul/n=64/call/float32/numpy\n" in done.stdout


def test_another_gpu_is_void_for_what_ran_on_it(tmp_path: Path) -> None:
    def side(name: str, gpu: str) -> Run:
        cases = [case(64, name), case(128, name, device="gpu")]
        return named(run(*cases, machine={**MACHINE, "gpus": [{"name": gpu}]}), name)

    done = check(tmp_path, side("head", "New GPU"), side("base", "Old GPU"))
    assert done.returncode == 0
    assert "void: another machine: GPU New GPU against Old GPU: matmul/n=128/" in done.stdout
    assert "1 of 2 cases measured on both sides" in done.stdout


def test_other_precision_is_void(tmp_path: Path) -> None:
    def flagged(name: str, precision: str) -> Run:
        libraries = {"numpy": {"float32_matmul_precision": precision}}
        return stored(name, machine={**MACHINE, "libraries": libraries})

    done = check(tmp_path, flagged("head", "high"), flagged("base", "highest"))
    assert done.returncode == 4
    assert "void: precision: float32_matmul_precision high against highest" in done.stdout


def test_a_missing_case_fails_unless_it_is_allowed(tmp_path: Path) -> None:
    crashed = matmul(128, "numpy", 10.0)
    crashed.status, crashed.reason, crashed.seconds = "crashed", "signal 11", None
    head = named(run(case(64, "head"), crashed, machine=MACHINE), "head")
    paths = write(tmp_path, head, stored("base"))
    done = bench("check", paths[0], "--against", paths[1])
    assert done.returncode == 1
    assert "missing: crashed: signal 11: matmul/n=128/call/float32/numpy\n" in done.stdout
    assert "missing: not in the run: matmul/n=256/call/float32/numpy, matmul/n=512/" in done.stdout
    some = bench("check", paths[0], "--against", paths[1], "--allow-missing", "*n=128*")
    assert some.returncode == 1
    options = ["--allow-missing", "*n=128*", "--allow-missing", "*/n=[25]*"]
    allowed = bench("check", paths[0], "--against", paths[1], *options)
    assert allowed.returncode == 0
    assert "n/a: allowed: crashed: signal 11: matmul/n=128/call/float32/numpy\n" in allowed.stdout


def test_a_case_that_the_base_lacks_is_told_and_passes(tmp_path: Path) -> None:
    base = named(run(case(64, "base"), machine=MACHINE), "base")
    done = check(tmp_path, stored("head"), base)
    assert done.returncode == 0
    assert "n/a: base: not in the run: matmul/n=64/call" not in done.stdout
    assert "n/a: base: not in the run: matmul/n=128/call/float32/numpy, matmul/" in done.stdout


def test_one_block_on_each_side_is_inconclusive(tmp_path: Path) -> None:
    sides = [
        named(run(case(64, name, count=1), machine=MACHINE), name) for name in ("head", "base")
    ]
    done = check(tmp_path, *sides)
    assert done.returncode == 3
    assert "one block on each side tells no spread" in done.stdout


def test_no_change_is_believed_while_others_were_on_the_cores(tmp_path: Path) -> None:
    cases = [case(n, "head", 0.5) for n in SIZES]
    for measured in cases:
        for block in measured.blocks:
            block.notes = ["disturbed: threads waited for a core 60% of the time"]
    done = check(tmp_path, named(run(*cases, machine=MACHINE), "head"), stored("base"))
    assert done.returncode == 3
    assert "other processes were on the cores" in done.stdout


def test_a_slower_canary_is_a_slower_machine(tmp_path: Path) -> None:
    def with_canary(name: str, change: float, canary: float) -> Run:
        cases = [case(n, name, change) for n in SIZES]
        for block in (block for measured in cases for block in measured.blocks):
            block.canary = [canary]
        return named(run(*cases, machine=MACHINE), name)

    base = with_canary("base", 0.0, 1e-3)
    assert check(tmp_path, with_canary("head", 0.4, 1e-3), base).returncode == 1
    assert check(tmp_path, with_canary("head", 0.4, 1.4e-3), base).returncode == 3


def test_a_duet_is_replayed_from_its_two_files(tmp_path: Path) -> None:
    base, head = duet({256: 0.08})
    done = check(tmp_path, head, base)
    assert done.returncode == 1, done.stdout
    assert "1 REGRESSED, 3 SAME" in done.stdout
    assert "4 of 4 cases measured on both sides; changes above 5% would have" in done.stdout
    assert "the A/A control stayed silent." in done.stdout
    assert "matmul/n=256/call/float32/numpy: +8." in done.stdout
    again = check(tmp_path, head, base)
    assert again.stdout == done.stdout


def test_a_control_that_alarms_voids_the_replayed_duet(tmp_path: Path) -> None:
    base, head = duet({256: 0.08}, control=0.10)
    done = check(tmp_path, head, base)
    assert done.returncode == 3
    assert "the job is void: the A/A control found a change where there is none" in done.stdout


def test_the_sides_of_a_duet_cannot_be_swapped(tmp_path: Path) -> None:
    base, head = duet({256: 0.08})
    base.header.id, head.header.id = "one-base", "one-head"
    done = check(tmp_path, base, head)
    assert done.returncode == 2
    assert " is the base of that duet: give " in done.stderr


def test_sides_of_two_duets_are_no_pairs(tmp_path: Path) -> None:
    base, head = duet({256: 0.08})
    base.header.settings["duet"] = "another"
    done = check(tmp_path, head, base)
    assert done.returncode == 3
    assert "1 baseline cannot tell" in done.stdout


def test_what_differs_between_the_sides_is_told(tmp_path: Path) -> None:
    other = {**MACHINE, "libraries": {"numpy": {"version": "2.1", "isa": "AVX2"}}}
    done = check(tmp_path, stored("head", machine=other), stored("base"))
    assert "different version of numpy: 2.0 on base; 2.1 on head" in done.stdout


def test_bad_requests_are_one_line_each(tmp_path: Path) -> None:
    paths = write(tmp_path, stored("head"), stored("base"))
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{]\n")
    for arguments, expected in (
        ([paths[0], "--against", paths[0]], "is the run that is checked"),
        ([paths[0], "--against", tmp_path / "none.jsonl"], "none.jsonl"),
        ([paths[0], "--against", broken], "broken.jsonl"),
        ([paths[0]], "--against"),
        ([paths[0], "--against"], "--against"),
        (["--against", *paths], "FILE"),
        ([paths[0], "--against", paths[1], "--threshold", "much"], "is no share; write it as 5%"),
        ([paths[0], "--against", paths[1], "--threshold", "5"], "is no share; write it as 5%"),
        ([paths[0], "--against", paths[1], "--drift", "nan"], "is no share; write it as 5%"),
        ([paths[0], "--against", paths[1], "--junit", paths[1]], "is a run file"),
        ([paths[0], "--against", paths[1], "--summary", tmp_path], "cannot write"),
    ):
        done = bench("check", *arguments)
        assert done.returncode == 2, done.stdout
        assert expected in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert "Traceback" not in done.stderr


def test_a_run_that_is_cut_short_is_judged_and_reported(tmp_path: Path) -> None:
    paths = write(tmp_path, stored("head"), stored("base"))
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: content.rindex(b'{"kind":"measurement"') + 40])
    done = bench("check", paths[0], "--against", paths[1])
    assert done.returncode == 2
    assert "3 SAME" in done.stdout
    assert "cut short" in done.stderr


def test_summary_junit_and_annotations_are_written(tmp_path: Path) -> None:
    step = tmp_path / "step.md"
    step.write_text("before\n")
    summary, xml = tmp_path / "summary.md", tmp_path / "verdicts.xml"
    base, head = duet({256: 0.08})
    paths = write(tmp_path, head, base)
    done = bench(
        *("check", paths[0], "--against", paths[1], "--summary", summary, "--junit", xml, "-q"),
        env={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(step), "PATH": ""},
    )
    assert done.returncode == 1
    text = summary.read_text()
    assert text.startswith("## bench check: 1 REGRESSED, 3 SAME")
    assert "| REGRESSED | matmul/n=256/call/float32/numpy | +8." in text
    assert step.read_text() == f"before\n{text}"
    lines = done.stdout.splitlines()
    assert lines[0] == "bench check: 1 REGRESSED, 3 SAME"
    assert re.match(
        r"::error title=REGRESSED::matmul/n=256/call/float32/numpy: \+8\.\d%25", lines[2]
    )
    assert len(lines) == 3
    suite = ET.fromstring(xml.read_text()).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("5", "1")
    failed = suite.find("testcase/failure/..")
    assert failed is not None
    assert failed.get("name") == "matmul/n=256/call/float32/numpy"


def judged(*verdicts: Verdict, name: str = "case", **fields: Any) -> Judgement:
    cases = [
        CaseVerdict(
            key=("suite", f"{name} {number}"),
            verdict=verdict,
            base_seconds=1e-3,
            head_seconds=2e-3,
            change=1.0,
            low=0.9,
            high=1.1,
            sees=0.05,
            pairs=14,
        )
        for number, verdict in enumerate(verdicts)
    ]
    return Judgement(cases=cases, sentinels=[], **{"settings": GateSettings(), **fields})


def test_annotations_stay_within_their_limits() -> None:
    missing: dict[Key, str] = {("suite", f"gone {i}"): "skipped: no driver" for i in range(30)}
    lines = annotations(judged(*REGRESSED * 12, *OPEN * 5, missing=missing))
    assert len(lines) == 10
    # One for all cases of a reason: they must not crowd out what regressed.
    assert lines[0].startswith("::error title=missing::skipped: no driver: gone 0, gone 1, gone 2")
    assert lines[1].startswith("::error title=REGRESSED::case 0: +100%25 [")
    assert lines[-1] == "::error title=bench::and 9 more"
    warn = GateSettings(inconclusive="warn")
    lines = annotations(judged(*REGRESSED, *OPEN * 11, settings=warn))
    assert [line.split(" ")[0] for line in lines] == ["::error"] + ["::warning"] * 10
    assert annotations(judged())[0].startswith("::error title=bench::nothing comparable")
    assert annotations(judged("SAME")) == []


def test_annotations_cannot_be_forged() -> None:
    found = judged("REGRESSED", name="x\r\n::error title=a,b:c::100%")
    (line,) = annotations(found)
    assert "\n" not in line
    assert "\r" not in line
    assert "x%0D%0A::error title=a,b:c::100%25" in line


def test_junit_says_what_fails_what_is_open_and_what_was_left_out() -> None:
    found = judged(
        *("REGRESSED", "INCONCLUSIVE", "IMPROVED", "SAME"),
        missing={("suite", "gone"): "crashed"},
        unjudged={("suite", "new"): "base: not in the run"},
    )
    suite = ET.fromstring(junit(found, "bench check")).find("testsuite")
    assert suite is not None
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "2", "errors": "1", "skipped": "1"}


@pytest.mark.parametrize(("inconclusive", "kind"), [("fail", "error"), ("warn", "skipped")])
def test_a_void_job_is_in_junit_what_it_is_for_the_exit_code(
    inconclusive: Literal["fail", "warn"], kind: str
) -> None:
    settings = GateSettings(inconclusive=inconclusive)
    control = judged("REGRESSED").cases
    found = replace(judged("INCONCLUSIVE", settings=settings, void="why"), sentinels=control)
    root = ET.fromstring(junit(found, "bench duet"))
    told = root.find(f"testsuite/testcase[@name='A/A control']/{kind}")
    assert told is not None
    assert told.get("message") == "why"
    assert found.exit_code == (3 if kind == "error" else 0)


def test_hostile_names_stay_text_everywhere() -> None:
    found = judged("REGRESSED", name=HOSTILE + "\x00\ufffe")
    root = ET.fromstring(junit(found, HOSTILE))
    test = root.find("testsuite/testcase")
    assert test is not None
    assert "\\x00" in (test.get("name") or "")
    assert "\x1b" not in junit(found, HOSTILE).decode()


def test_a_summary_keeps_the_most_severe_cases_within_its_limit() -> None:
    def render(document: Document) -> str:
        return "\n".join(" ".join(row) for table in document.tables for row in table.rows)

    found = judged(*REGRESSED * 3, *SAME * 30_000, name="x" * 60)
    text = fit_summary(render, found, "bench check", [])
    assert len(text.encode()) <= MOST_SUMMARY_BYTES
    assert text.count("REGRESSED") == 3
    assert "more" in text.splitlines()[-1]
    assert fit_summary(render, found, "bench check", [], 10) == ""


def test_changes_are_written_as_people_read_them() -> None:
    assert [percent(value) for value in (0.042, -0.1, 22.4, None)] == [
        "+4.2%",
        "-10.0%",
        "+2240%",
        "-",
    ]
    assert [percent_up(value) for value in (0.05, 0.0581, 8.6, None)] == [
        "5%",
        "5.9%",
        "860%",
        "-",
    ]
    assert share(math.log(1.5)) == pytest.approx(0.5)
    assert share(99.0) is None
