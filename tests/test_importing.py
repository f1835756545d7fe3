"""`bench import`: files that pytest-benchmark really wrote, and files that nobody should trust."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bench as library
from bench.errors import RunFileError
from bench.results.importing import import_pytest_benchmark
from bench.results.schema import Run
from bench.results.writing import encode
from tests.commands import ROOT, bench
from tests.runs import HOSTILE

FILES = sorted((ROOT / "tests" / "files" / "pytest_benchmark").glob("*.json"))
NEWEST = FILES[-2]
IDS = [
    "test_perf.py::test_fib/-/call/unknown/pytest-benchmark",
    "test_perf.py::test_sum/n=64/call/unknown/pytest-benchmark",
    "test_perf.py::test_sum/n=128/call/unknown/pytest-benchmark",
    "test_perf.py::test_mixed/3-list/set-0.5/call/unknown/pytest-benchmark",
    "test_perf.py::test_mixed/4-tuple,a=b-1.5/call/unknown/pytest-benchmark",
    "test_perf.py::TestGrouped::test_sort/-/call/unknown/pytest-benchmark",
    "test_perf.py::TestGrouped::test_reversed/-/call/unknown/pytest-benchmark",
]


def real() -> Any:
    return json.loads(NEWEST.read_text())


def imported(document: Any, folder: Path) -> Run:
    path = folder / "benchmarks.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return import_pytest_benchmark(path)


def test_there_are_files_of_old_versions_with_and_without_raw_data() -> None:
    names = [path.stem for path in FILES]
    assert names == [
        *("3.4.1-data", "3.4.1-stats", "4.0.0-data", "5.1.0-data", "5.3.1-data", "5.3.1-stats")
    ]
    assert NEWEST.stem == "5.3.1-data"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_real_file_becomes_a_run_file_that_reads_back(path: Path, tmp_path: Path) -> None:
    output = tmp_path / "run.jsonl"
    done = bench("import", path, "--from", "pytest-benchmark", "--output", output)
    assert done.returncode == 0, done.stderr
    assert "7 of 7 benchmarks have a time" in done.stderr
    run = library.load(output)
    assert not run.remarks
    assert [m.id for m in run.measurements] == IDS
    for m, theirs in zip(run.measurements, json.loads(path.read_text())["benchmarks"], strict=True):
        assert m.status == "ok"
        assert m.seconds is not None
        assert m.seconds.median == pytest.approx(theirs["stats"]["median"], rel=1e-9)
        assert m.seconds.min == theirs["stats"]["min"]
        assert (m.seconds.low, m.seconds.high) == (None, None)
        if "data" in theirs["stats"]:
            (block,) = m.blocks
            assert block.seconds == theirs["stats"]["data"]
            assert block.calls_per_sample == theirs["stats"]["iterations"]
            assert block.unknown["first_call_seconds"]
        else:
            assert not m.blocks
            assert "statistics only" in m.unknown["blocks"]
        for name in ("input_digest", "verified", "threads", "flops"):
            assert getattr(m, name) is None
            assert m.unknown[name]
    assert run.header.started.startswith("2026-11-21T15:")
    assert run.header.label == "AMD EPYC"
    assert run.header.machine["host"] == "build-box"
    assert run.header.machine["cpu"]["isa"][:2] == ["avx", "avx2"]
    assert run.header.machine["gpus"] is None
    assert run.header.machine["git"]["revision"] is None
    assert run.header.machine["unknown"]["git.revision"]


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_every_report_shows_an_import(form: str, tmp_path: Path) -> None:
    bench("import", NEWEST, "--from", "pytest-benchmark", "--output", tmp_path / "run.jsonl")
    done = bench("report", tmp_path / "run.jsonl", "--as", form)
    assert done.returncode == 0, done.stderr
    assert "n=128" in done.stdout
    assert len(library.load(tmp_path / "run.jsonl").table()) == 7


def test_two_versions_give_cases_that_pair() -> None:
    old, new = import_pytest_benchmark(FILES[0]), import_pytest_benchmark(NEWEST)
    assert [m.key for m in old.measurements] == [m.key for m in new.measurements]
    assert old.header.id != new.header.id


def test_the_same_file_gives_the_same_bytes() -> None:
    first, second = import_pytest_benchmark(NEWEST), import_pytest_benchmark(NEWEST)
    assert [*map(encode, (first.header, *first.measurements))] == [
        *map(encode, (second.header, *second.measurements))
    ]


def test_parameters_are_sizes_where_they_are_whole_numbers() -> None:
    sizes = {m.size: m.sizes for m in import_pytest_benchmark(NEWEST).measurements}
    assert sizes["n=64"] == {"n": 64}
    assert sizes["3-list/set-0.5"] == {"n": 3}
    assert sizes["-"] == {}


def test_group_name_and_timer_are_kept_in_the_settings() -> None:
    settings = import_pytest_benchmark(NEWEST).header.settings
    assert settings["imported_from"] == "pytest-benchmark 5.3.1"
    assert settings["benchmarks"][IDS[3]]["fullname"] == "test_perf.py::test_mixed[3-list/set-0.5]"
    assert settings["benchmarks"][IDS[5]] == {
        "fullname": "test_perf.py::TestGrouped::test_sort",
        "group": "sorting",
        "timer": "perf_counter",
    }


def test_our_own_export_comes_back(tmp_path: Path) -> None:
    source = ROOT / "tests" / "data" / "run_schema1.jsonl"
    bench("report", source, "--as", "pytest-benchmark", "--output", tmp_path / "ours.json")
    back = import_pytest_benchmark(tmp_path / "ours.json")
    medians = {
        f"{m.suite}::{m.id}": median(second for b in m.blocks for second in b.quiet_seconds())
        for m in library.load(source).measurements
        if m.status == "ok"
    }
    found = {m.workload: m.seconds.median for m in back.measurements if m.seconds}
    assert found == medians


def set_stat(name: str, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["benchmarks"][0]["stats"][name] = value

    return change


def without(*path: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return change


def add_twice(document: Any) -> None:
    document["benchmarks"].append(copy.deepcopy(document["benchmarks"][2]))


def name_it(name: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["benchmarks"][0]["fullname"] = name

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("machine_info"), "not a file of pytest-benchmark, which has `machine_info`"),
        (without("benchmarks"), "not a file of pytest-benchmark, which has `benchmarks`"),
        (lambda d: d["benchmarks"].clear(), "holds no benchmark"),
        (without("benchmarks", 0, "stats"), "benchmark 1 has no `stats`"),
        (without("benchmarks", 2, "fullname"), "benchmark 3 has no `fullname`"),
        (without("benchmarks", 0, "stats", "iterations"), "no count of `iterations`"),
        (set_stat("iterations", 0), "no count of `iterations`"),
        (set_stat("data", []), "a `data` without samples"),
        (set_stat("data", "none"), "a `data` without samples"),
        (set_stat("median", "1 ms"), "a time that is no number"),
        (set_stat("median", True), "a time that is no number"),
        (set_stat("median", None), "a time that is no number"),
        (set_stat("median", 1.0), "its `median` is not that of its `data`"),
        (set_stat("data", [1e-3] * 1_000_001), "more than 1,000,000 samples"),
        (lambda d: d.update(datetime="yesterday"), "its `datetime` is no date"),
        (add_twice, r"test_sum\[128\] stands there twice"),
        (name_it(""), "no `fullname`"),
        (name_it("x" * 600), "a name of more than 500 characters"),
        (lambda d: d["benchmarks"].append(None), "benchmark 8 has no `stats`"),
    ],
)
def test_what_pytest_benchmark_never_wrote_is_refused(
    change: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    document = real()
    change(document)
    with pytest.raises(RunFileError, match=message):
        imported(document, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty, as pytest-benchmark leaves it"),
        (b"\n", "empty, as pytest-benchmark leaves it"),
        (b"{", "cut short"),
        (NEWEST.read_bytes()[:5000], "cut short|not JSON"),
        (b"mean: 3", "not JSON"),
        (b"[]", "not a file of pytest-benchmark"),
        (b"null", "not a file of pytest-benchmark"),
        (b"\xff\x00\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"version": ' + b"9" * 5000 + b"}", "not JSON"),
        ((ROOT / "tests" / "data" / "run_schema1.jsonl").read_bytes(), "not JSON"),
    ],
)
def test_a_file_that_is_not_pytest_benchmarks_is_refused_in_one_line(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match=message) as caught:
        import_pytest_benchmark(path)
    assert "\n" not in str(caught.value)
    done = bench("import", path, "--from", "pytest-benchmark", "--output", tmp_path / "run.jsonl")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: error: ")
    assert not (tmp_path / "run.jsonl").exists()


@pytest.mark.parametrize("value", [0, 0.0, -1e-3, 1e13, 10**400, float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["data", "median"])
def test_a_time_that_is_none_is_implausible_and_never_a_number(
    value: float, place: str, tmp_path: Path
) -> None:
    document = real()
    stats = document["benchmarks"][0]["stats"]
    stats[place] = [*stats["data"], value] if place == "data" else value
    run = imported(document, tmp_path)
    first, *others = run.measurements
    assert (first.status, first.seconds, first.blocks) == ("implausible", None, [])
    assert "pytest-benchmark recorded" in str(first.reason)
    assert {m.status for m in others} == {"ok"}
    output = tmp_path / "run.jsonl"
    done = bench(
        *("import", tmp_path / "benchmarks.json", "--from", "pytest-benchmark"),
        *("--output", output),
    )
    assert done.returncode == 1
    assert "implausible" in done.stderr
    assert library.load(output).measurements[0].reason == first.reason


def test_not_a_number_elsewhere_does_no_harm(tmp_path: Path) -> None:
    document = real()
    document["benchmarks"][0]["extra_info"]["loss"] = float("nan")
    assert imported(document, tmp_path).measurements[0].status == "ok"


def test_parameters_with_equal_numbers_keep_the_names_of_pytest(tmp_path: Path) -> None:
    document = real()
    twin = copy.deepcopy(document["benchmarks"][1])
    twin["fullname"] = "test_perf.py::test_sum[64_1]"
    document["benchmarks"].append(twin)
    sizes = [m.size for m in imported(document, tmp_path).measurements]
    assert (sizes[1], sizes[2], sizes[-1]) == ("64", "n=128", "64_1")


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(RunFileError, match="cannot be read"):
            import_pytest_benchmark(path)


def test_a_run_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "run.jsonl"
    output.write_text("mine")
    done = bench("import", NEWEST, "--from", "pytest-benchmark", "--output", output)
    assert done.returncode == 2
    assert output.read_text() == "mine"


def test_a_tool_that_is_not_known_is_named_with_those_that_are(tmp_path: Path) -> None:
    done = bench("import", NEWEST, "--from", "asv")
    assert done.returncode == 2
    assert "pytest-benchmark" in done.stderr


@settings(max_examples=50, deadline=None)
@given(
    name=st.one_of(st.just(HOSTILE), st.text(min_size=1, max_size=80), st.just("a[\ud800]")),
    params=st.dictionaries(st.text(max_size=10), st.one_of(st.integers(), st.text(max_size=10))),
)
def test_hostile_names_reach_the_run_file_as_data(
    name: str, params: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = real()
    document["benchmarks"][0] |= {"fullname": name, "params": params}
    folder = tmp_path_factory.mktemp("hostile")
    run = imported(document, folder)
    path = folder / "run.jsonl"
    path.write_bytes(b"".join(map(encode, (run.header, *run.measurements))))
    assert [m.id for m in library.load(path).measurements] == [m.id for m in run.measurements]
    shown = bench("report", path).stdout if name == HOSTILE else ""
    assert "\x1b" not in shown
    assert "\u202e" not in shown
