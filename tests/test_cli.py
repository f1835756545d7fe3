"""The command line: help, names, exit codes, and errors of one line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import COMMANDS
from tests.commands import ROOT, bench

HEAVY = ("numpy", "torch", "cupy", "pandas", "matplotlib", "scipy", "rich", "msgspec")
FIXTURE = ROOT / "tests" / "data" / "run_schema1.jsonl"


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom bench.cli import main\n"
        f"sys.argv = ['bench', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('heavy:', [n for n in {HEAVY!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    assert re.search(r"^  Example:\n    \w", done.stdout, re.MULTILINE)
    assert "\\b" not in done.stdout


def test_every_command_is_listed_with_one_line() -> None:
    done = bench("--help")
    assert done.returncode == 0
    for name, line in COMMANDS.items():
        assert name in done.stdout
        assert line in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["runn"], "did you mean"),
        (["run", "--suit", "matmul"], "--suite"),
        (["run", "--device", "cpu"], "did you mean --backend or --gpu?"),
        (["run"], "--suite is missing"),
        (["run", "--suite", "matmull"], "did you mean matmul?"),
        (["run", "--suite", "matmul", "--backend", "nunpy"], "did you mean numpy?"),
        (["run", "--suite", "matmul", "--dtype", "float23"], "did you mean float32?"),
        (["run", "--suite", "matmul", "--preset", "quik"], "did you mean quick?"),
        (["run", "--suite", "matmul", "--size", "n=ten"], "'ten' is not a whole number"),
        (["run", "--suite", "matmul", "--size", "n=0"], "m, k and n begin at 1"),
        (["run", "--suite", "matmul", "--size", "n=-4"], "must be from 0"),
        (["run", "--suite", "conv", "--size", "kernel=0"], "needs 'batch'"),
        (["run", "--suite", "matmul", "--size", "64"], "such as n=512,1024"),
        (["run", "--suite", "matmul", "--size", "q=4"], "fits no workload"),
        (["run", "--suite", "matmul", "--threads", "0"], "must be from 1"),
        (["run", "--suite", "matmul", "--threads", "100000"], "cores"),
        (["run", "--suite", "matmul", "--minutes", "0"], "--minutes"),
        (["run", "--suite", "matmul", "--blocks", "x"], "--blocks"),
        (["run", "--suite", "matmul", "--only", "*resnet*"], "matches no case"),
        (["run", "--suite", "matmul", "--kernels", "/nowhere"], "no such folder"),
        (["run", "--resume", "/nowhere.jsonl"], "no such file"),
        (["report", "/nowhere.jsonl"], "no such file"),
        (["report"], "missing argument"),
        (["report", str(FIXTURE), "--as", "tabel"], "did you mean table?"),
        (["report", str(FIXTURE), "--as", "plots", "--figure", "rat"], "rate"),
        (["report", str(FIXTURE), "--figure", "rate"], "--as plots"),
        (["report", str(FIXTURE), "--only", "*nothing*"], "matches no case"),
        (["report", str(FIXTURE), "--output", "/proc/none/x"], "cannot write"),
    ],
)
def test_a_bad_request_gets_one_line_and_exit_2(arguments: list[str], expected: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("bench: error: ")
    assert expected.lower() in line.lower()


def test_a_path_with_a_newline_stays_on_one_line(tmp_path: Path) -> None:
    done = bench("report", tmp_path / "a\nb\x1b[31m.jsonl")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr


def test_list_says_what_there_is_and_what_is_missing() -> None:
    done = bench("list", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    names = [suite["name"] for suite in found["suites"]]
    suites = "batch-sweep convolution latency layers matmul passes transfer"
    assert names == suites.split()
    assert all(suite["question"].endswith("?") for suite in found["suites"])
    includes = {workload["name"]: workload["includes"] for workload in found["workloads"]}
    assert set(includes["conv2d"]) == {"numpy", "cupy", "torch"}
    states = {backend["name"]: backend for backend in found["backends"]}
    untried = {name for name, state in states.items() if not state["tried"]}
    assert untried == {"torch-rocm", "torch-xpu", "torch-mps"}
    assert set(states) - untried == {"cupy", "numpy", "torch-cpu", "torch-cuda"}
    assert states["numpy"]["available"]
    for backend in states.values():
        assert backend["available"] or (backend["reason"] and backend["remedy"])


def test_list_as_text_names_each_backend_and_is_plain_when_piped() -> None:
    done = bench("list")
    assert "\x1b" not in done.stdout
    for name in ("numpy", "torch-cpu", "cupy", "torch-cuda", "matmul", "conv2d"):
        assert name in done.stdout
    assert "im2col" in done.stdout


def test_color_can_be_forced_and_is_refused_by_no_color() -> None:
    assert "\x1b" in bench("list", "--color", "always").stdout


def test_doctor_judges_every_backend() -> None:
    done = bench("doctor", "--json")
    findings = json.loads(done.stdout)
    problems = [finding for finding in findings if finding["level"] == "problem"]
    assert done.returncode == (1 if problems else 0)
    subjects = {finding["subject"] for finding in findings}
    assert {"numpy", "torch-cpu", "cupy", "torch-cuda"} <= subjects
    assert all(f["remedy"] for f in findings if f["level"] != "ok")


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_report_shows_a_run_in_every_form_as_text(form: str, tmp_path: Path) -> None:
    done = bench("report", FIXTURE, "--as", form)
    assert done.returncode == 0, done.stderr
    assert "matmul" in done.stdout
    output = tmp_path / "folder" / "report.txt"
    again = bench("report", FIXTURE, "--as", form, "--output", output)
    assert again.returncode == 0
    assert output.read_text().strip() == done.stdout.strip()


def test_report_draws_plots_into_a_folder(tmp_path: Path) -> None:
    done = bench("report", FIXTURE, "--as", "plots", "--output", tmp_path / "plots")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plots" / "rate.png").read_bytes()[:4] == b"\x89PNG"
    assert "rate.svg" in done.stdout


def test_a_run_cut_short_is_shown_and_ends_with_2(tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl"
    content = FIXTURE.read_bytes()
    cut.write_bytes(content[: content.rindex(b"\n", 0, -1) - 20])
    done = bench("report", cut)
    assert done.returncode == 2
    assert "numpy" in done.stdout
    (line,) = done.stderr.splitlines()
    assert "cut short" in line
    assert "--resume" in line


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m bench report {FIXTURE} --as csv | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == 1
