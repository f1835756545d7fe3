"""Whole runs through the command, on small sizes and on planted faults."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import bench as library
from tests.commands import ROOT, bench

PLANTED = ROOT / "tests" / "planted"
FAST = ("--blocks", "2", "--max-seconds", "0.02", "--preset", "quick")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    path = tmp_path_factory.mktemp("run") / "{label}-{gpu}.jsonl"
    done = bench(
        *("run", "--suite", "matmul", "--size", "n=32,64", *FAST),
        *("--label", "my box", "--output", path),
    )
    return done, path.with_name("my-box-no-gpu.jsonl")


def test_a_run_prints_a_table_and_leaves_a_file(small_run: tuple[Any, Path]) -> None:
    done, path = small_run
    assert done.returncode == 0, done.stderr
    assert f"run file: {path}" in done.stdout
    for text in ("my box", "n=32", "n=64", "numpy", "torch-cpu", "cupy"):
        assert text in done.stdout
    assert "\x1b" not in done.stdout
    assert "cupy is skipped" in done.stderr


def test_the_file_holds_the_run_as_the_interface_says(small_run: tuple[Any, Path]) -> None:
    lines = lines_of(small_run[1])
    kinds = [line["kind"] for line in lines]
    assert kinds[0] == "run"
    assert kinds[-1] == "end"
    assert kinds.count("block") == 2 * 2 * 2
    assert kinds.count("measurement") == kinds.count("case") == 2 * 4
    header = lines[0]
    assert header["schema"] == 1
    assert header["label"] == "my box"
    assert header["command"][:3] == ["bench", "run", "--suite"]
    assert header["machine"]["cpu"]["cores_allowed"] >= 1
    measurement = next(
        line
        for line in lines
        if line["kind"] == "measurement" and line["id"] == "matmul/n=64/call/float32/numpy"
    )
    assert measurement["status"] == "ok"
    assert measurement["sizes"] == {"n": 64}
    assert measurement["flops"] == 2 * 64**3
    assert measurement["verified"] == "full"
    assert 0 < measurement["relative_error"] < 5e-6
    assert len(measurement["blocks"]) == 2
    interval = measurement["seconds"]
    assert interval["min"] <= interval["median"]
    assert interval["low"] < interval["median"] < interval["high"]
    assert measurement["device_seconds"] is None
    assert measurement["unknown"]["device_seconds"]
    assert lines[-1]["counts"] == {"ok": 4, "skipped": 4}


def test_every_library_computes_on_the_same_bits(small_run: tuple[Any, Path]) -> None:
    digests: dict[str, set[str]] = {}
    for line in lines_of(small_run[1]):
        if line["kind"] == "block":
            digests.setdefault(line["case"].rpartition("/")[0], set()).add(line["input_digest"])
    assert len(digests) == 2
    assert all(len(found) == 1 for found in digests.values())


def test_the_threads_are_those_asked_for(small_run: tuple[Any, Path]) -> None:
    header = lines_of(small_run[1])[0]
    allowed = header["machine"]["cpu"]["cores_allowed"]
    for name in ("numpy", "torch-cpu"):
        pools = header["machine"]["libraries"][name]["threadpools"]
        assert pools
        assert all(pool["num_threads"] <= allowed for pool in pools)


def test_load_gives_a_table_with_one_row_per_case(small_run: tuple[Any, Path]) -> None:
    frame = library.load(small_run[1]).table()
    assert len(frame) == 8
    assert set(frame["status"]) == {"ok", "skipped"}
    assert (frame.loc[frame["status"] == "ok", "seconds"] > 0).all()


def test_an_existing_file_is_never_overwritten(small_run: tuple[Any, Path]) -> None:
    before = small_run[1].read_bytes()
    done = bench("run", "--suite", "matmul", "--size", "n=32", "--output", small_run[1])
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert small_run[1].read_bytes() == before


def test_standard_output_takes_the_run_file_and_stderr_the_table() -> None:
    done = bench(
        *("run", "--suite", "matmul", "--size", "n=32", "--backend", "numpy", *FAST),
        *("--output", "-"),
    )
    assert done.returncode == 0
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert kinds[0] == "run"
    assert kinds[-1] == "end"
    assert "n=32" in done.stderr


def test_a_dry_run_lists_the_cases_and_measures_none(tmp_path: Path) -> None:
    done = bench("run", "--suite", "matmul", "--preset", "quick", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert "matmul/n=1024/call/float32/numpy" in done.stdout
    assert "about" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("raising", "failed", r"ValueError: no \\x1b[31mgood (raising.py:"),
        ("dying", "crashed", "exit code 3"),
        ("hanging", "timed_out", "no answer within 3 s"),
        ("leaking", "out_of_memory", ""),
        ("scaled", "wrong", "relative error 0.001"),
        ("overclaiming", "implausible", "the declared FLOPs are wrong"),
    ],
)
def test_a_fault_costs_only_its_own_case(
    name: str, status: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    done = bench(
        *("run", "--suite", "matmul", "--kernels", PLANTED, "--backend", "numpy", *FAST),
        *("--only", f"planted_{name}/*", "--only", "planted_right/*"),
        *("--timeout", "3" if name == "hanging" else "60", "--output", path),
    )
    assert done.returncode == 1, done.stderr
    found = {m.workload: m for m in library.load(path).measurements}
    assert found[f"planted_{name}"].status == status
    assert reason.replace("\\\\", "\\").replace("\\x1b", "\x1b") in str(
        found[f"planted_{name}"].reason
    )
    assert found["planted_right"].status == "ok"
    assert "\x1b" not in done.stdout + done.stderr
    assert status.replace("_", " ") in done.stdout


def test_a_workload_that_prints_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    done = bench(
        *("run", "--suite", "matmul", "--kernels", PLANTED, "--backend", "numpy", *FAST),
        *("--only", "planted_printing/*", "--output", path),
    )
    assert done.returncode == 0, done.stderr
    assert "noise" not in done.stdout + done.stderr


def test_a_broken_kernel_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\nimport nothing_of_this_name\n")
    done = bench("run", "--suite", "matmul", "--kernels", tmp_path)
    assert done.returncode == 2
    assert "mine.py:2" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_path_that_cannot_be_written_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = bench(
        *("run", "--suite", "matmul", "--size", "n=32", "--output", tmp_path / "file" / "x.jsonl")
    )
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_full_disk_loses_nothing_that_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    arguments = [
        *("run", "--suite", "matmul", "--size", "n=32,64,96", "--backend", "numpy", *FAST),
        *("--output", str(path)),
    ]
    code = (
        "import errno, sys\nfrom bench.cli import main\n"
        "import bench.running.session as session\n"
        "class Full:\n"
        "    def __init__(self, file, room): self.file, self.room = file, room\n"
        "    def __getattr__(self, name): return getattr(self.file, name)\n"
        "    def write(self, data):\n"
        "        if not self.room: raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "        written = self.file.write(data[:self.room])\n"
        "        self.room -= written\n"
        "        return written\n"
        "whole = session.Session.measure\n"
        "def measure(self, writer):\n"
        "    writer._file = Full(writer._file, 2500)\n"  # room for about two blocks
        "    return whole(self, writer)\n"
        "session.Session.measure = measure\n"
        f"sys.argv = ['bench', *{arguments!r}]\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert "make room" in done.stderr.splitlines()[-1]
    kinds = [line["kind"] for line in lines_of(path)]
    assert kinds.count("block") >= 1
    assert "n=32" in done.stdout, "what was measured was not shown"
    resumed = bench("run", "--resume", path)
    assert resumed.returncode == 0, resumed.stderr
    assert [line["kind"] for line in lines_of(path)].count("block") == 6


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_file_valid_and_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "bench",
                "run",
                "--suite",
                "matmul",
                "--size",
                "n=32,64,96,128",
            ),
            *("--backend", "numpy", "--preset", "quick", "--blocks", "3", "--max-seconds", "0.3"),
            *("--output", str(path)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().count('"kind":"block"') >= 2:
            break
        time.sleep(0.05)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert f"--resume {path}" in errors
    assert "n=32" in output
    lines = lines_of(path)
    assert lines[-1]["kind"] == "end"
    assert lines[-1]["interrupted"] == "interrupted"
    done_before = [line for line in lines if line["kind"] == "block"]
    assert 2 <= len(done_before) < 12
    workers = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert f"worker.py {process.pid}" not in workers.stdout

    resumed = bench("run", "--resume", path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    lines = lines_of(path)
    blocks = [(line["case"], line["block"]) for line in lines if line["kind"] == "block"]
    assert len(blocks) == len(set(blocks)) == 12
    assert [line for line in lines if line["kind"] == "block"][: len(done_before)] == done_before
    assert [line["kind"] for line in lines].count("measurement") == 4
    assert lines[-1]["interrupted"] is None
