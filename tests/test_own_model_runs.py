"""The user's own model and workloads through the command, as a new user tries them."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import bench as library
from bench.text import plain
from tests.commands import ROOT, bench

pytest.importorskip("torch", reason="PyTorch is not installed")

FAST = ("--preset", "quick", "--blocks", "1", "--max-seconds", "0.02", "--batch", "2")

NOISY = """
import sys
import warnings
import torch
from torch import nn

print('{"ok": 1}')


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 8)
        self.drop = nn.Dropout(0.1)
        self.inner = nn.LazyLinear(8)

    def forward(self, ids, scale):
        print('{"ok": 1}', flush=True)
        print("noise" * 100, file=sys.stderr)
        warnings.warn("careful")
        return {"y": self.inner(self.drop(self.table(ids).mean(1))) * scale}


def build():
    print("noise" * 1000)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    warnings.warn("careful")
    return Noisy()
"""


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("noisy")
    (folder / "noisy.py").write_text(NOISY)
    done = bench(
        *("run", "--suite", "passes", "--model", "noisy.py:build", *FAST),
        *("--input", "ids=6:int64", "--input", "scale=8", "--output", "run.jsonl"),
        cwd=folder,
        timeout=300,
    )
    return done, folder / "run.jsonl"


def test_a_model_that_prints_and_warns_is_measured(noisy: tuple[Any, Path]) -> None:
    done, path = noisy
    assert done.returncode == 0, done.stderr
    assert "noise" not in done.stdout + done.stderr
    assert "noisy.py:build: ids: drawn below 40" in done.stderr
    found = {m.phase: m for m in library.load(path).measurements if m.backend == "torch-cpu"}
    assert set(found) == {"forward", "training_step"}
    for m in found.values():
        assert m.status == "ok", m.reason
        assert m.model == "noisy.py:build"
        assert m.workload == "noisy.build"
        assert m.size == "batch=2"
        assert m.relative_error is not None
        assert m.relative_error < 1e-5
    assert found["forward"].verified == "full"
    assert found["training_step"].verified == "without dropout"
    assert "verified: without dropout" in done.stdout
    assert found["forward"].flops == 2 * 2 * 8 * 8


def test_only_the_model_is_measured_and_only_by_pytorch(noisy: tuple[Any, Path]) -> None:
    run = library.load(noisy[1])
    assert {m.workload for m in run.measurements} == {"noisy.build"}
    assert {m.backend for m in run.measurements} == {"torch-cpu", "torch-cuda"}
    assert run.header.settings["inputs"] == ["ids=6:int64", "scale=8"]
    assert run.header.settings["facts"]["notes"]


def test_a_run_of_a_model_can_be_resumed(noisy: tuple[Any, Path], tmp_path: Path) -> None:
    lines = noisy[1].read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["kind"] in ("run", "case")]
    path = tmp_path / "begun.jsonl"
    path.write_text("\n".join(kept) + "\n")
    done = bench("run", "--resume", path, cwd=noisy[1].parent, timeout=300)
    assert done.returncode == 0, done.stderr
    before, after = library.load(noisy[1]), library.load(path)
    digests = [{m.id: m.input_digest for m in run.measurements} for run in (before, after)]
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--suite", "passes", "--input", "3"), "--input is about the model of --model"),
        (("--suite", "matmul", "--model", "noisy.py:build"), "--suite matmul takes no --model"),
        (
            ("--suite", "passes", "--model", "noisy.py:build", "--backend", "numpy"),
            "a model runs on PyTorch",
        ),
        (
            ("--suite", "passes", "--model", "noisy.py:build", "--kernels", "."),
            "--model and --kernels exclude each other",
        ),
        (("--suite", "passes", "--model", "noisy.py:build", "--input", "3x"), "no shape"),
        (
            ("--suite", "passes", "--model", "noise.py:build", "--input", "3"),
            "no file noise.py; did you mean noisy.py?",
        ),
        (
            (
                *("--suite", "passes", "--model", "noisy.py:build"),
                *("--input", "ids=6:int64<41", "--input", "scale=8"),
            ),
            "ids reached 40; the embedding has 40 rows; write --input 'ids=6:int64<40'",
        ),
    ],
)
def test_a_bad_request_is_one_line(
    arguments: tuple[str, ...], said: str, noisy: tuple[Any, Path]
) -> None:
    done = bench("run", *arguments, cwd=noisy[1].parent)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


OWN = """
from bench.workload import Phase, Workload, calling

WORKLOAD = Workload(
    name="{name}",
    inputs=lambda rng, dims: (rng.standard_normal((32, 32), dtype="float32"),),
    phases={{"{phase}": Phase({versions})}},
)
"""


def test_a_workload_needs_no_more_than_inputs_and_functions(tmp_path: Path) -> None:
    both = "array=calling(lambda xp, x: x @ x), torch=calling(lambda torch, x: x @ x)"
    only = "torch=calling(lambda torch, x: torch.mm(x, x))"
    wrong = both.replace("torch, x: x @ x", "torch, x: x @ x * 1.01")
    for name, phase, versions in (
        ("both", "forward", both),
        ("only", "call", only),
        ("unlike", "call", wrong),
    ):
        text = OWN.format(name=name, phase=phase, versions=versions)
        (tmp_path / f"{name}.py").write_text(text)
    path = tmp_path / "run.jsonl"
    done = bench(
        *("run", "--suite", "matmul", "--suite", "layers", "--suite", "passes"),
        *("--kernels", tmp_path, *FAST[:-2], "--output", path),
        *("--only", "both/*", "--only", "only/*", "--only", "unlike/*"),
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    found = {
        (m.suite, m.workload, m.backend): m
        for m in library.load(path).measurements
        if m.status != "skipped"
    }
    expected = {(s, "both", b) for s in ("layers", "passes") for b in ("numpy", "torch-cpu")}
    expected |= {("matmul", "unlike", "numpy"), ("matmul", "unlike", "torch-cpu")}
    assert set(found) == expected | {("matmul", "only", "torch-cpu")}
    bad = found.pop(("matmul", "unlike", "torch-cpu"))
    assert bad.status == "wrong"
    for m in found.values():
        assert (m.status, m.verified, m.size) == ("ok", "backends", "only"), m.reason
    assert "verified: backends" in done.stdout


WALK = ROOT / "docs" / "own-model.md"


def test_the_walk_of_the_documentation_works(tmp_path: Path) -> None:
    text = WALK.read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "models.py").write_text(code)
    commands = re.findall(r"^\$ (bench .*)$", text, re.MULTILINE)
    assert len(commands) >= 4
    for line in commands:
        words = shlex.split(line)[1:]
        measured = words[0] == "run"
        fast = FAST[:-2] if "--batch" in words else FAST
        done = bench(*words, *(fast if measured else ()), cwd=tmp_path, timeout=300)
        said = text.partition(f"$ {line}\n")[2].partition("```")[0]
        if "bench: error" in said:
            assert done.returncode == 2
            assert plain(done.stderr.strip()) == said.strip()
        else:
            assert done.returncode == 0, done.stderr
            notes = re.findall(r"^models\.py:.*$", said, re.MULTILINE)
            assert [note for note in notes if note not in done.stderr] == []
