"""`device_benchmark` on a real GPU; skips where there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# What a library of another version warns of is no failure of ours.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

LIBRARIES = {
    "torch": "x = library.randn(4096, 4096, device='cuda'); call = lambda: x @ x\n",
    "cupy": "x = library.random.standard_normal((4096, 4096), dtype='f'); call = lambda: x @ x\n",
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_work_is_waited_for_on_a_gpu(name: str, tmp_path: Path) -> None:
    library = pytest.importorskip(name)
    pytest.importorskip("pytest_benchmark")
    present = library.cuda.is_available() if name == "torch" else library.is_available()
    if not present:
        pytest.skip(f"{name} sees no GPU")
    (tmp_path / "test_it.py").write_text(
        f"import {name} as library\n"
        f"{LIBRARIES[name]}"
        "def test_naive(benchmark): benchmark.pedantic(call, rounds=20, warmup_rounds=3)\n"
        "def test_waited(device_benchmark): device_benchmark(call)\n"
    )
    plugins = ["-p", "pytest_benchmark.plugin", "-p", "bench.pytest_plugin"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "--benchmark-json", "saved.json"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {b["name"]: b for b in json.loads((tmp_path / "saved.json").read_text())["benchmarks"]}
    # 137 GFLOP take a millisecond on the fastest of GPUs; launching them takes microseconds.
    assert found["test_waited"]["stats"]["min"] > 5e-4
    assert found["test_waited"]["stats"]["min"] > 2 * found["test_naive"]["stats"]["min"]
