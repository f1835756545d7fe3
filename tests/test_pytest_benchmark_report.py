"""`bench report --as pytest-benchmark`: what other tools read of it, the real one among them."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bench.reports.pytest_benchmark import stats
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark.stats import Stats

from bench import catalog
from bench.errors import RequestError
from bench.report import Request
from bench.results.schema import Run
from tests.commands import ROOT, bench
from tests.runs import HOSTILE, gpu_run, hostile_run, small_run

REAL = ROOT / "tests" / "data" / "run_schema1.jsonl"


def exported(run: Run, **request: Any) -> dict[str, Any]:
    report = catalog.reports()["pytest-benchmark"]
    text = report.render([run], Request(**request))
    assert isinstance(text, str)
    found: dict[str, Any] = json.loads(text)
    return found


def compare(*arguments: str | Path) -> str:
    """Run the real `pytest-benchmark compare`; it warns on stderr of files that it cannot load."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Failed to load" not in done.stderr + done.stdout
    return done.stdout


def write(run: Run, path: Path) -> Path:
    path.write_text(json.dumps(exported(run)))
    return path


def read_as_github_action(document: Mapping[str, Any]) -> list[tuple[str, float, str, str]]:
    """Read the fields that github-action-benchmark's `extractPytestResult` reads."""
    return [
        (
            one["fullname"],
            one["stats"]["ops"],
            f"stddev: {one['stats']['stddev']}",
            f"mean: {one['stats']['mean']} sec rounds: {one['stats']['rounds']}",
        )
        for one in document["benchmarks"]
    ]


def read_as_bencher(document: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Read the fields that Bencher's adapter `python_pytest` reads, with its limits."""
    assert isinstance(document["machine_info"], dict)
    assert isinstance(document["commit_info"], dict)
    found = []
    for one in document["benchmarks"]:
        assert 0 < len(one["fullname"].encode()) <= 1024
        found.append((one["fullname"], one["stats"]["median"], one["stats"]["iqr"]))
    return found


def test_the_real_pytest_benchmark_compares_two_machines(tmp_path: Path) -> None:
    ours = write(gpu_run(label="ours"), tmp_path / "ours.json")
    theirs = write(gpu_run(label="theirs"), tmp_path / "theirs.json")
    shown = compare(ours, theirs, f"--csv={tmp_path / 'both.csv'}")
    group = "benchmark 'matmul: matmul/n=64/call/float32': 8 tests"
    assert group in shown
    for backend in ("numpy", "torch-cuda"):
        assert shown.count(f"matmul/n=64/call/float32/{backend} (") == 2
    assert len((tmp_path / "both.csv").read_text().splitlines()) == 1 + 2 * 32


@pytest.mark.parametrize("grouping", ["group", "name", "fullname", "func", "param:backend"])
def test_the_real_pytest_benchmark_groups_in_every_way(grouping: str, tmp_path: Path) -> None:
    shown = compare(f"--group-by={grouping}", write(gpu_run(), tmp_path / "run.json"))
    assert "torch-cuda" in shown


def test_a_run_file_becomes_a_file_of_pytest_benchmark(tmp_path: Path) -> None:
    output = tmp_path / "real.json"
    done = bench("report", REAL, "--as", "pytest-benchmark", "--output", output)
    assert done.returncode == 0, done.stderr
    assert "torch-cpu" in compare(output)


def test_other_tools_find_the_fields_that_they_read() -> None:
    document = exported(small_run())
    assert all(value > 0 for _, value, _, _ in read_as_github_action(document))
    medians = {name: median for name, median, _ in read_as_bencher(document)}
    run = small_run()
    expected = {f"{m.suite}::{m.id}": m.seconds.median for m in run.measurements if m.seconds}
    assert medians == pytest.approx(expected)
    assert len({one["fullname"] for one in document["benchmarks"]}) == len(medians)


def test_a_case_without_a_number_is_named_and_no_benchmark() -> None:
    document = exported(small_run())
    left_out = {one["status"]: one for one in document["bench"]["left_out"]}
    assert set(left_out) == {"wrong", "skipped"}
    assert left_out["skipped"]["reason"] == "not installed: pip install cupy-cuda12x"
    names = {one["name"] for one in document["benchmarks"]}
    assert not names & {one["id"] for one in left_out.values()}


def test_only_what_was_asked_for_is_there() -> None:
    document = exported(small_run(), only=["batch_norm/*"])
    assert [one["name"].split("/")[0] for one in document["benchmarks"]] == ["batch_norm"]


def test_two_runs_are_two_files() -> None:
    report = catalog.reports()["pytest-benchmark"]
    with pytest.raises(RequestError, match=r"2 runs, but such a file holds one; write each"):
        report.render([small_run(), small_run()], Request())


def test_hostile_texts_are_escaped_and_the_host_is_not_told(tmp_path: Path) -> None:
    run = hostile_run()
    run.header.machine["host"] = "secret-host"
    text = json.dumps(exported(run), ensure_ascii=False)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "secret-host" not in text
    shown = compare(write(run, tmp_path / "hostile.json"))
    assert HOSTILE not in shown
    assert "\x1b[31m" not in shown


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=30))
def test_statistics_are_those_of_pytest_benchmark(samples: list[float]) -> None:
    real: Any = Stats  # has no types
    theirs = real()
    for sample in samples:
        theirs.update(sample)
    ours = stats(samples)
    assert set(ours) == set(Stats.fields)
    for name in Stats.fields:
        try:
            expected = getattr(theirs, name)
        except IndexError:  # rounding has put a quartile of equal samples above them all
            expected = samples[0]
        assert ours[name] == (expected if isinstance(expected, str) else pytest.approx(expected))


@given(st.lists(st.floats(math.ulp(0.0), 1e12), min_size=1, max_size=20))
def test_every_time_that_a_run_file_holds_gives_finite_statistics(samples: list[float]) -> None:
    json.dumps(stats(samples), allow_nan=False)
