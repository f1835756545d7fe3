"""Reference runs: found by name, listed, carried by the wheel, and fit to be passed on."""

import json
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from click.testing import CliRunner

import bench as library
from bench.cli import bench as command_line
from bench.errors import RequestError
from bench.results import reference_runs
from bench.results.sharing import share
from tests.commands import ROOT, bench

REAL = ROOT / "tests" / "data" / "run_schema1.jsonl"
OURS = sorted((ROOT / "bench" / "reference").glob("*.jsonl"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that stands in for the one in the package, with two runs."""
    (tmp_path / "h200.jsonl").write_bytes(REAL.read_bytes())
    lines = REAL.read_text().replace('"label":"AMD EPYC 7763"', '"label":"two of them"')
    lines = lines.replace('"gpus":[]', '"gpus":[{"name":"NVIDIA L4"},{"name":"NVIDIA L4"}]')
    (tmp_path / "l4.jsonl").write_text(lines)
    (tmp_path / "README.md").write_text("no run")
    monkeypatch.setattr(reference_runs, "FOLDER", tmp_path)
    return tmp_path


def test_a_reference_run_is_read_by_its_name(folder: Path) -> None:
    run = library.load("reference:l4")
    assert run.header.label == "two of them"
    assert run.path == str(folder / "l4.jsonl")


def test_a_report_takes_a_reference_run_beside_a_file(folder: Path) -> None:
    done = CliRunner().invoke(command_line, ["report", str(REAL), "reference:l4", "--as", "csv"])
    assert done.exit_code == 0, done.output
    assert "two of them" in done.output
    assert "AMD EPYC 7763" in done.output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h20", r"unknown reference run 'h20'; did you mean h200\? known are: h200, l4"),
        ("nothing like it", r"known are: h200, l4"),
        ("", "known are: h200, l4"),
        ("../l4", "known are: h200, l4"),
        ("README", "known are: h200, l4"),
        ("h200.jsonl", r"did you mean h200\?"),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(
    name: str, message: str, folder: Path
) -> None:
    (folder.parent / "l4.jsonl").write_text("not a reference run")
    with pytest.raises(RequestError, match=message):
        library.load(f"reference:{name}")


def test_without_any_reference_run_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_runs, "FOLDER", tmp_path / "none")
    with pytest.raises(RequestError, match="this bench comes with none: give a run file"):
        library.load("reference:h200")
    assert reference_runs.reference_files() == {}


def test_an_unknown_name_ends_with_one_line_and_code_2() -> None:
    done = bench("report", "reference:no-such-machine")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: error: unknown reference run 'no-such-machine'; ")
    assert done.stderr.count("\n") == 1


def test_list_shows_them_with_machine_date_and_suites(folder: Path) -> None:
    shown = CliRunner().invoke(command_line, ["list"]).output
    (line,) = [line for line in shown.splitlines() if "reference:l4" in line]
    for part in ("two of them", "2 x NVIDIA L4, AMD EPYC 7763", "2026-11-20", "matmul, layers"):
        assert part in line
    listed = json.loads(CliRunner().invoke(command_line, ["list", "--json"]).output)
    assert [run["name"] for run in listed["reference_runs"]] == ["h200", "l4"]
    assert listed["reference_runs"][0]["suites"] == ["matmul", "layers"]


def test_the_wheel_carries_every_reference_run() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    globs = settings["tool"]["setuptools"]["package-data"]["bench"]
    assert any(fnmatch("reference/h200.jsonl", glob) for glob in globs)
    assert all(any(fnmatch(f"reference/{path.name}", glob) for glob in globs) for path in OURS)
    assert not list((ROOT / "bench" / "reference").glob("*.py"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_a_reference_run_is_whole_and_tells_nothing_of_anybody(path: Path) -> None:
    run = library.load(path)
    assert not run.remarks
    assert run.end is not None
    assert {m.status for m in run.measurements} <= {"ok", "skipped", "out_of_memory"}
    assert share(path).content == path.read_bytes()
