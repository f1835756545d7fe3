"""`bench history`: a folder of run files, its trends, and slow creep against a release."""

import csv
import io
import json
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from bench import catalog
from bench.comparing.creep import blind_duets, find_creep
from bench.comparing.history import History, read_history
from bench.comparing.history_document import history_document
from bench.comparing.verdicts import GateSettings
from bench.errors import RequestError, RunFileError
from bench.report import Request
from bench.results.reading import read_run
from bench.results.schema import Run, RunLine
from bench.results.store import add_run, file_name, read_store
from tests.commands import ROOT, bench
from tests.histories import SIZES, content, fill, nightly, nights
from tests.runs import HOSTILE, MACHINE, hostile_run, matmul, measurement, run

GATE = GateSettings()
FIXTURE = ROOT / "tests" / "data" / "run_schema1.jsonl"


def creeping(percent: float, size: int = 256, release: int = 5) -> Any:
    """Return a drift of so many percent a night in one case, after the release."""

    def slower(n: int, night: int) -> float:
        return max(0, night - release + 1) * math.log1p(percent / 100) if n == size else 0.0

    return slower


def verdicts(history: History, name: str | None = None, **options: Any) -> dict[str, str]:
    found = find_creep(history, name, GATE, **options).judgement
    return {case.name.split("/")[1]: case.verdict for case in found.cases}


def told(history: History, name: str | None = None, **options: Any) -> str:
    found = find_creep(history, name, GATE, **options)
    return "\n".join([*found.blind, *found.remarks])


# The store


def test_a_run_is_kept_to_the_byte_under_time_label_and_id(tmp_path: Path) -> None:
    store = tmp_path / "history"
    added = add_run(FIXTURE, store)
    assert added.is_new
    assert added.path.read_bytes() == FIXTURE.read_bytes()
    header = added.run.header
    assert added.path.name.startswith(header.started.replace("-", "").replace(":", ""))
    assert header.id[:12] in added.path.name
    assert [path.name for path in store.iterdir()] == [added.path.name], "nothing else is left"


def test_what_lies_in_the_store_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    one = nightly(1)
    file.write_bytes(content(one))
    first = add_run(file, tmp_path / "history")
    assert not add_run(file, tmp_path / "history").is_new
    other = nightly(1, rng=random.Random(99))
    file.write_bytes(content(other))
    with pytest.raises(RequestError, match="holds the same run with another content"):
        add_run(file, tmp_path / "history")
    assert first.path.read_bytes() == content(one)


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_a_file_name_is_one_whatever_a_run_is_called(started: str, label: str, name: str) -> None:
    header = RunLine(
        schema=1,
        id=name,
        label=label,
        started=started,
        bench_version="0",
        command=[],
        settings={},
        machine={},
    )
    found = file_name(header)
    assert Path(found).name == found
    assert found.isascii()
    assert found.isprintable()
    assert found.endswith(".jsonl")
    assert len(found) < 160
    assert not found.startswith(".")


def test_a_run_that_is_cut_short_is_not_added(tmp_path: Path) -> None:
    file = tmp_path / "cut.jsonl"
    file.write_bytes(content(nightly(1))[:-40])
    with pytest.raises(RunFileError, match="cut short"):
        add_run(file, tmp_path / "history")
    assert not (tmp_path / "history").exists()


def test_bad_files_among_good_ones_get_a_line_each_and_the_rest_is_added(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("not a run\n")
    good = tmp_path / "good.jsonl"
    good.write_bytes(content(nightly(3)))
    store = tmp_path / "history"
    done = bench("history", "add", tmp_path / "bad.jsonl", "/nowhere.jsonl", good, "--store", store)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert all(line.startswith("bench: error: ") for line in done.stderr.splitlines())
    (kept,) = store.iterdir()
    assert done.stdout == f"{kept}\n"
    again = bench("history", "add", good, "--store", store)
    assert again.returncode == 0
    assert "was there already" in again.stdout


def test_a_corrupt_file_in_the_store_is_named_and_the_others_count(tmp_path: Path) -> None:
    fill(tmp_path, nights(10))
    (tmp_path / "broken.jsonl").write_bytes(b'{"kind":"run"')
    (tmp_path / "cut.jsonl").write_bytes(content(nightly(11))[:-40])
    (tmp_path / "notes.txt").write_text("no run")
    for arguments in (["show"], ["check"]):
        done = bench("history", *arguments, "--store", tmp_path)
        assert done.returncode == 2
        assert "broken.jsonl, line 1" in done.stderr
        assert "cut.jsonl" in done.stderr
        assert "Traceback" not in done.stderr
        assert "matmul/n=64/call/float32/numpy" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "--store", "/nowhere"], "no such folder"),
        (["check", "--store", "/nowhere"], "no such folder"),
        (["check", "--against", "v9"], "there are v1.0, feedfeedfe, nightly"),
        (["check", "--threshold", "much"], "write it as 5%"),
        (["show", "--as", "tabel"], "did you mean table?"),
        (["show", "--only", "*nothing*"], "matches no case"),
        (["show", "--output", "STORE/x.csv"], "that is in the store"),
        (["add"], "missing argument"),
    ],
)
def test_a_bad_request_gets_one_line_and_exit_2(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    fill(tmp_path, nights(7))
    arguments = [text.replace("STORE", str(tmp_path)) for text in arguments]
    if "--store" not in arguments and arguments[0] != "add":
        arguments += ["--store", str(tmp_path)]
    done = bench("history", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert expected.lower() in line.lower()


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="bench history add"):
        list(read_store(tmp_path))


# Series


def test_runs_are_sorted_by_machine_and_time_whatever_the_order_of_the_files() -> None:
    runs = nights(6)
    other = [nightly(n, machine={"cpu": {"model": "Other CPU"}}, label="b") for n in (3, 1)]
    history = read_history([*reversed(runs), *other])
    names = [machine.name for machine in history.machines]
    assert sorted(names) == ["AMD EPYC 7763 64-Core Processor", "Other CPU"]
    for machine in history.machines:
        started = [entry.started for entry in machine.entries]
        assert started == sorted(started)
    assert sum(len(machine.entries) for machine in history.machines) == 8


def test_another_number_of_cores_or_another_gpu_is_another_machine() -> None:
    four = {"cpu": {**MACHINE["cpu"], "cores_allowed": 4}}
    eight = {"cpu": {**MACHINE["cpu"], "cores_allowed": 8}}
    with_gpu = {**eight, "gpus": [{"name": "Synthetic GPU"}]}
    found = read_history(
        [nightly(1, machine=four), nightly(2, machine=eight), nightly(3, machine=with_gpu)]
    )
    assert [machine.name.partition("(")[2] for machine in found.machines] == [
        "4 cores)",
        "8 cores)",
        "8 cores) + Synthetic GPU",
    ]


def test_a_library_that_changes_is_marked_where_it_does() -> None:
    runs = nights(6)
    for night, found in enumerate(runs):
        found.header.machine["packages"] = {"numpy": "2.3.1" if night < 3 else "2.4.0"}
    (machine,) = read_history(runs).machines
    marked = [entry.started[:10] for entry in machine.entries if entry.changes]
    assert marked == ["2026-01-04"]
    points = machine.series()["matmul", "matmul/n=64/call/float32/numpy"]
    assert [point.note for point in points] == ["", "", "", "numpy 2.3.1 to 2.4.0", "", ""]


def test_a_series_begins_anew_where_the_work_is_not_the_same() -> None:
    runs = nights(4)
    for found in runs[2:]:
        for m in found.measurements:
            m.workload_version = 2
    (machine,) = read_history(runs).machines
    points = machine.series()["matmul", "matmul/n=64/call/float32/numpy"]
    assert [point.is_start for point in points] == [True, False, True, False]
    assert "workload version 2 against 1" in points[2].note
    history = read_history(runs)
    document = history_document(history, Request())
    overview = document.tables[0]
    assert [row[1] for row in overview.rows] == ["2"] * len(SIZES)
    assert find_creep(history, "v1.0", GATE).judgement.exit_code == 4


def test_a_case_without_a_number_is_shown_with_its_reason() -> None:
    runs = nights(6)
    key = runs[3].measurements[0].id
    runs[3].measurements[0] = measurement(
        sizes={"n": 64}, seconds=None, status="crashed", reason="signal 11"
    )
    assert runs[3].measurements[0].id == key
    document = history_document(read_history(runs), Request(only=["*n=64/*"]))
    rows = [row for table in document.tables if table.name == "runs" for row in table.rows]
    assert len(rows) == 6
    assert list(rows[3][4:]) == ["-", "-", "-", "crashed: signal 11"]


def test_the_same_run_under_two_names_counts_once() -> None:
    runs = nights(3)
    history = read_history([*runs, runs[1]])
    assert sum(len(machine.entries) for machine in history.machines) == 3
    assert any("the same run" in remark for remark in history.remarks)


# Forms


def test_the_flat_export_has_one_row_per_case_run_and_metric(tmp_path: Path) -> None:
    fill(tmp_path, nights(4))
    done = bench("history", "show", "--as", "csv", "--only", "*n=64/*", "--store", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len({(row["run_id"], row["suite"], row["id"], row["metric"]) for row in rows}) == len(
        rows
    )
    seconds = [row for row in rows if row["metric"] == "seconds"]
    assert len(seconds) == 4
    assert {row["revision"] for row in seconds} == {"feed" * 10}
    assert all(float(row["low"]) < float(row["value"]) < float(row["high"]) for row in seconds)
    assert {row["machine"] for row in seconds} == {"AMD EPYC 7763 64-Core Processor"}


def test_json_holds_the_same_records_and_names_the_bad_files(tmp_path: Path) -> None:
    fill(tmp_path, nights(3))
    (tmp_path / "bad.jsonl").write_text("{}")
    done = bench("history", "show", "--as", "json", "--store", tmp_path)
    content = json.loads(done.stdout)
    assert len(content["problems"]) == 1
    seconds = [r for r in content["records"] if r["metric"] == "seconds"]
    assert len(seconds) == 3 * len(SIZES)


def test_trends_are_drawn_and_the_same_history_gives_the_same_bytes(tmp_path: Path) -> None:
    history = read_history(nights(9, slower=creeping(2.0)))
    render = catalog.history_reports()["plots"].render
    files = render(history, Request(only=["*n=256/*", "*n=64/*"]))
    assert isinstance(files, dict)
    assert set(files) == {"trend-1.svg", "trend-1.png"}
    assert files == render(history, Request(only=["*n=256/*", "*n=64/*"]))
    svg = files["trend-1.svg"].decode()
    assert "matmul/n=256/call/float32" in svg
    assert "n=512" not in svg
    assert "<desc" in svg


def test_a_long_suite_is_drawn_on_several_pages() -> None:
    many = tuple(range(64, 64 + 10))
    files = catalog.history_reports()["plots"].render(
        read_history(nights(3, sizes=many)), Request()
    )
    assert {"trend-1.svg", "trend-2.svg"} <= set(files)


def test_what_a_file_says_stays_text_in_every_form() -> None:
    hostile = hostile_run()
    hostile.header.machine["git"] = {"revision": HOSTILE, "dirty": True}
    hostile.header.machine["packages"] = {HOSTILE: HOSTILE}
    other = hostile_run()
    other.header.id, other.header.started = "other", HOSTILE
    other.header.machine["packages"] = {HOSTILE: "2"}
    history = read_history([hostile, other])
    for name, report in catalog.history_reports().items():
        rendered = report.render(history, Request())
        texts = (
            [rendered]
            if isinstance(rendered, str)
            else [content.decode() for file, content in rendered.items() if file.endswith("svg")]
        )
        assert texts
        for text in texts:
            assert "\x1b" not in text, name
            assert "\u202e" not in text, name
            if name in ("markdown", "plots"):
                assert "<b>" not in text, name


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_the_history_reads_from_first_to_newest(tmp_path: Path, form: str) -> None:
    fill(tmp_path, nights(7, slower=creeping(3.0, size=128)))
    done = bench("history", "show", "--as", form, "--only", "*n=128/*", "--store", tmp_path)
    assert done.returncode == 0
    assert "7 runs from 2026-01-01T02:00:00Z to 2026-01-07T02:00:00Z, 1 case" in done.stdout
    assert done.stdout.count("feedfeedfe") == 5


# Creep


def test_one_percent_a_night_is_found_against_the_release_though_no_night_shows_it() -> None:
    history = read_history(nights(25, slower=creeping(1.0)))
    found = verdicts(history, "v1.0")
    assert found.pop("n=256") == "REGRESSED"
    assert set(found.values()) == {"SAME"}
    faster = read_history(nights(25, slower=creeping(-1.0)))
    judgement = find_creep(faster, "v1.0", GATE).judgement
    assert [case.name.split("/")[1] for case in judgement.of("IMPROVED")] == ["n=256"]
    assert judgement.exit_code == 0


def test_unchanged_code_hardly_ever_alarms() -> None:
    alarms = sum(
        find_creep(read_history(nights(12, seed)), "v1.0", GATE).judgement.exit_code == 1
        for seed in range(60)
    )
    # At most one job in twenty has an alarm of either direction: 60 have 3, and 7 are improbable.
    assert alarms <= 7


def test_two_bad_nights_among_the_newest_are_forgiven() -> None:
    runs = nights(12)
    for found in runs[-2:]:
        for m in found.measurements:
            for block in m.blocks:
                block.seconds = [2 * second for second in block.seconds]
    assert "REGRESSED" not in verdicts(read_history(runs), "v1.0").values()


def test_below_five_runs_of_the_release_the_machines_drift_is_allowed_for() -> None:
    def step(_n: int, night: int) -> float:
        return math.log1p(0.09) if night else 0.0

    few = read_history(nights(9, release=1, slower=step))
    assert set(verdicts(few, "v1.0").values()) == {"INCONCLUSIVE"}
    far = read_history(nights(9, release=1, slower=lambda n, night: 2 * step(n, night) + 0.2))
    assert "SAME" not in verdicts(far, "v1.0").values()
    much = read_history(nights(9, release=1, slower=lambda _n, night: 0.4 if night else 0.0))
    assert set(verdicts(much, "v1.0").values()) == {"REGRESSED"}


def test_a_single_block_on_each_side_tells_nothing() -> None:
    runs = nights(2, release=1, blocks=1)
    assert set(verdicts(read_history(runs), "v1.0").values()) == {"INCONCLUSIVE"}


def test_the_newest_runs_are_judged_and_not_the_way_there() -> None:
    def spike(_n: int, night: int) -> float:
        return 0.5 if 5 <= night < 12 else 0.0

    history = read_history(nights(20, slower=spike))
    assert set(verdicts(history, "v1.0").values()) == {"SAME"}
    assert "REGRESSED" in verdicts(read_history(nights(12, slower=spike)), "v1.0").values()


@pytest.mark.parametrize("name", ["v1.0", "feedfeed", "feed" * 10, None])
def test_a_release_is_named_by_label_or_revision(name: str | None) -> None:
    history = read_history(nights(10, slower=creeping(6.0)))
    assert verdicts(history, name)["n=256"] == "REGRESSED"
    assert "against 5 runs of v1.0" in told(history, name)


def test_a_release_may_be_measured_beside_what_came_after_it_night_after_night() -> None:
    def slower(_n: int, night: int) -> float:
        return 0.3 if night >= 5 else 0.0

    runs = nights(10, slower=slower)
    for night, both in enumerate(zip(runs[:5], runs[5:], strict=True)):
        for minute, found in enumerate(both):
            found.header.started = f"2026-01-{1 + night:02d}T02:{minute:02d}:00Z"
    history = read_history(runs)
    assert set(verdicts(history, "v1.0").values()) == {"REGRESSED"}
    assert "5 runs up to" in told(history, "v1.0")
    assert "against 5 runs of v1.0" in told(history, "v1.0")


def test_a_tag_of_the_repository_is_its_revision() -> None:
    history = read_history(nights(10))
    assert verdicts(history, "some-tag", revision="feed" * 10)
    assert not verdicts(history, "some-tag", revision="beef" * 10)


def test_nothing_after_the_release_is_nothing_comparable(tmp_path: Path) -> None:
    fill(tmp_path, nights(5))
    done = bench("history", "check", "--against", "v1.0", "--store", tmp_path)
    assert done.returncode == 4
    assert "no run after the release" in done.stdout


def test_a_case_that_is_gone_fails_unless_that_is_allowed(tmp_path: Path) -> None:
    runs = nights(8)
    for found in runs[5:]:
        found.measurements[0] = measurement(
            sizes={"n": 64}, seconds=None, status="skipped", reason="no driver"
        )
    fill(tmp_path, runs)
    options = ("history", "check", "--against", "v1.0", "--store", str(tmp_path))
    failing = bench(*options)
    assert failing.returncode == 1
    assert "skipped: no driver" in failing.stdout
    assert bench(*options, "--allow-missing", "matmul/n=64/*").returncode == 0


def test_machines_are_judged_each_by_itself_and_told_together() -> None:
    other = {"cpu": {"model": "Other CPU"}}
    slow = nights(10, slower=creeping(6.0), machine=other)
    for found in slow:
        found.header.id += "-other"
    creep = find_creep(read_history([*nights(10), *slow]), "v1.0", GATE)
    (regressed,) = creep.judgement.of("REGRESSED")
    assert regressed.name == "matmul/n=256/call/float32/numpy on Other CPU"
    assert len(creep.judgement.cases) == 2 * len(SIZES)
    alone = read_history([*nights(10), *slow[:5]])
    assert "Other CPU: no run after the release" in told(alone, "v1.0")


def test_cases_that_move_together_point_at_the_machine() -> None:
    history = read_history(nights(12, slower=lambda _n, night: 0.1 if night > 4 else 0.0))
    assert "6 of 6 cases moved the same way, by +" in told(history, "v1.0")
    assert "moved the same way" not in told(read_history(nights(12)), "v1.0")


def test_libraries_that_changed_since_the_release_are_named() -> None:
    runs = nights(8)
    for night, found in enumerate(runs):
        found.header.machine["packages"] = {"numpy": "2.3.1" if night < 5 else "2.4.0"}
    assert "besides the code: numpy 2.3.1 to 2.4.0" in told(read_history(runs), "v1.0")


def test_a_gate_that_stays_open_five_jobs_running_is_called_blind() -> None:
    def step(n: int, night: int) -> float:
        return 0.08 if night and n == 64 else 0.0

    blind = told(read_history(nights(9, release=1, slower=step)), "v1.0")
    assert "n=64/call/float32/numpy on" in blind
    assert "inconclusive five jobs running: this gate is blind; use --threshold" in blind
    assert "5 runs of the release" in blind
    early = told(read_history(nights(5, release=1, slower=step)), "v1.0")
    assert "blind" not in early


def duet(number: int, changes: Sequence[float]) -> list[Run]:
    """Return both runs of a duet: head is slower by each of the logarithms in turn, 20 pairs."""
    sides = []
    for side in ("base", "head"):
        found = nightly(number, label=side, sizes=(64,), blocks=1)
        (m,) = found.measurements
        m.blocks = [
            structs.replace(
                m.blocks[0],
                seconds=[1e-3 * math.exp(changes[i % len(changes)] if side == "head" else 0)] * 4,
                pair=i if i < 6 else 1000 + i - 6,
            )
            for i in range(20)
        ]
        found.header.id = f"duet{number}-{side}"
        found.header.settings |= {"duet": f"duet{number}", "minutes": 3}
        sides.append(found)
    return sides


def test_duets_belong_to_no_series_and_tell_a_blind_gate_with_what_would_help() -> None:
    noisy = [side for number in range(5) for side in duet(number, [0.25, -0.05])]
    history = read_history([*nights(8), *noisy])
    assert len(history.duets) == 5
    assert all(len(machine.entries) == 8 for machine in history.machines)
    (line,) = blind_duets(history, GATE)
    assert line.startswith("duet: matmul/n=64/call/float32/numpy: inconclusive five jobs running")
    assert re.search(r"use --minutes \d+ or --threshold \d+%$", line)
    assert line in told(history, "v1.0")
    assert blind_duets(read_history(noisy[2:]), GATE) == [], "four jobs may be bad luck"
    settled = [*noisy[:-2], *duet(4, [0.001, -0.001])]
    assert blind_duets(read_history(settled), GATE) == []


def test_the_exit_code_the_summary_and_junit_are_those_of_a_gate(tmp_path: Path) -> None:
    store = fill(tmp_path / "history", nights(12, slower=creeping(4.0)))
    options = ("history", "check", "--against", "v1.0", "--store", str(store))
    done = bench(
        *options, "--summary", tmp_path / "summary.md", "--junit", tmp_path / "verdicts.xml"
    )
    assert done.returncode == 1
    assert "1 REGRESSED, 5 SAME" in done.stdout
    assert "REGRESSED" in (tmp_path / "summary.md").read_text()
    assert "<failure" in (tmp_path / "verdicts.xml").read_text()
    assert bench(*options).stdout == done.stdout
    assert bench(*options, "--threshold", "60%").returncode == 0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=2, max_size=12, unique=True), st.randoms())
def test_the_order_of_the_files_changes_nothing(chosen: list[int], rng: random.Random) -> None:
    runs = [nightly(night, code="feed" * 10 if night < 4 else None) for night in chosen]
    shuffled = rng.sample(runs, len(runs))
    one, other = read_history(runs), read_history(shuffled)
    assert history_document(one, Request()) == history_document(other, Request())
    assert find_creep(one, None, GATE) == find_creep(other, None, GATE)


def test_a_real_run_goes_through_the_whole_story(tmp_path: Path) -> None:
    store = tmp_path / "history"
    assert bench("history", "add", FIXTURE, "--store", store).returncode == 0
    assert bench("history", "show", "--store", store).returncode == 0
    assert bench("history", "check", "--store", store).returncode == 4
    (kept,) = store.iterdir()
    assert read_run(kept).header == read_run(FIXTURE).header


def test_a_run_of_faults_alone_harms_nobody() -> None:
    bad = run(
        measurement(seconds=None, status="failed", reason="no"), matmul(64, "numpy", 1.0), label="x"
    )
    history = read_history([bad])
    assert "1 cases never had a number" in "\n".join(history_document(history, Request()).remarks)
    assert find_creep(history, None, GATE).judgement.exit_code == 4
