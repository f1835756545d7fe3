"""The pytest plugin as projects use it: in a pytest of their own, on top of pytest-benchmark."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import catalog, pytest_plugin
from bench.errors import CaseError
from bench.results.schema import CaseLine
from bench.running.in_process import InProcess, why_not_here
from bench.running.plan import RunRequest
from tests.commands import ROOT
from tests.fakes import FakeClock, FakeDevice

PLANTED = ROOT / "tests" / "planted"
ONE_CASE = ("--bench-suite", "matmul", "--bench-only", "matmul/n=64/call/float32/numpy")
QUICK = ("--benchmark-max-time", "0.01", "--benchmark-warmup-iterations", "3")

FAKE_GPU = f"""
import sys
from types import SimpleNamespace

sys.path.insert(0, {str(ROOT)!r})
from tests.fakes import FakeDevice

device = FakeDevice(launch_seconds=1e-5)
cuda = SimpleNamespace(
    is_initialized=lambda: True, device_count=lambda: 1, synchronize=device.drain
)
sys.modules["torch"] = SimpleNamespace(cuda=cuda)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project of which no setting of ours is known."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -W error\n")
    return tmp_path


def pytest_in(
    project: Path, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def timed(project: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """Run pytest and return what pytest-benchmark saved, by the names of the tests."""
    done = pytest_in(project, "--benchmark-json", "saved.json", *QUICK, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = json.loads((project / "saved.json").read_text())
    return {found["name"]: found for found in saved["benchmarks"]}


def write_fake_gpu_tests(project: Path) -> None:
    (project / "gpu.py").write_text(FAKE_GPU)
    (project / "test_gpu.py").write_text(
        "import pytest\n"
        "from gpu import device\n"
        "pytestmark = pytest.mark.benchmark(group='kernels', timer=device.clock)\n"
        "def test_naive(benchmark):\n"
        "    benchmark(device.launch, 2e-3)\n"
        "def test_waited_for(device_benchmark):\n"
        "    device_benchmark(device.launch, 2e-3)\n"
        "def test_rounds(device_benchmark):\n"
        "    device_benchmark.pedantic(device.launch, args=(2e-3,), rounds=7, iterations=3)\n"
    )


def test_the_work_of_an_asynchronous_device_is_timed_and_not_its_launch(project: Path) -> None:
    write_fake_gpu_tests(project)
    found = timed(project)
    # The naive round ends with the launch: this is what the fixture is for.
    assert found["test_naive"]["stats"]["median"] == pytest.approx(1e-5, rel=0.05)
    for name in ("test_waited_for", "test_rounds"):
        # The first launch of a round is not hidden behind the work of another one.
        assert 2e-3 <= found[name]["stats"]["min"] <= 2e-3 + 1.1e-5
        assert found[name]["stats"]["max"] <= 2e-3 + 1.1e-5
    assert found["test_rounds"]["stats"]["rounds"] == 7


def test_what_a_mark_says_itself_holds_and_the_rest_is_added(project: Path) -> None:
    write_fake_gpu_tests(project)
    (project / "test_own.py").write_text(
        "import pytest\n"
        "@pytest.mark.benchmark(group='mine', warmup=False, min_rounds=9)\n"
        "def test_own(device_benchmark):\n"
        "    device_benchmark(sum, [1])\n"
    )
    found = timed(project)
    assert found["test_waited_for"]["group"] == "kernels"
    assert found["test_waited_for"]["options"]["warmup"] == 3
    assert found["test_own"]["group"] == "mine"
    assert not found["test_own"]["options"]["warmup"]
    assert found["test_own"]["options"]["min_rounds"] == 9
    assert found["test_own"]["options"]["timer"] == "synchronised_perf_counter"


def test_the_timer_of_the_command_line_is_the_one_that_is_synchronised(project: Path) -> None:
    (project / "test_it.py").write_text("def test_it(device_benchmark): device_benchmark(sum, [])")
    found = timed(project, "--benchmark-timer", "time.process_time")
    assert found["test_it"]["options"]["timer"] == "synchronised_process_time"


def test_numpy_and_torch_on_a_cpu_are_timed_as_they_are(project: Path) -> None:
    (project / "test_cpu.py").write_text(
        "import numpy, pytest\n"
        "def test_numpy(device_benchmark):\n"
        "    x = numpy.ones((64, 64), 'float32')\n"
        "    assert device_benchmark(numpy.matmul, x, x)[0, 0] == 64\n"
        "def test_torch(device_benchmark):\n"
        "    torch = pytest.importorskip('torch')\n"
        "    x = torch.ones(64, 64)\n"
        "    assert device_benchmark(torch.matmul, x, x)[0, 0] == 64\n"
    )
    found = timed(project, "-p", "no:warnings")
    assert 0 < found["test_numpy"]["stats"]["min"] < 0.1
    assert set(found) <= {"test_numpy", "test_torch"}


def test_benchmark_only_does_not_leave_the_fixture_out(project: Path) -> None:
    (project / "test_it.py").write_text(
        "def test_it(device_benchmark): device_benchmark(sum, [])\ndef test_plain(): pass\n"
    )
    done = pytest_in(project, "--benchmark-only", *QUICK)
    assert "1 passed, 1 skipped" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["--benchmark-disable"], {}), ([], {"PYTEST_XDIST_WORKER": "gw1"})],
)
def test_where_benchmarks_are_disabled_the_test_runs_once(
    project: Path, arguments: list[str], environment: dict[str, str]
) -> None:
    (project / "test_it.py").write_text(
        "calls = []\n"
        "def test_it(device_benchmark):\n"
        "    device_benchmark(calls.append, 1)\n"
        "    assert calls == [1]\n"
    )
    done = pytest_in(project, "-p", "no:warnings", *arguments, **environment)
    assert "1 passed" in done.stdout, done.stdout


def test_without_pytest_benchmark_the_plugin_is_silent(project: Path) -> None:
    (project / "test_it.py").write_text("def test_it(): pass")
    done = pytest_in(project, "-p", "no:benchmark")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 passed" in done.stdout


def test_pytest_does_not_warn_where_bench_is_imported_before_it(project: Path) -> None:
    # What pytest does to each package that comes with a plugin.
    (project / "conftest.py").write_text(
        "import bench\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.rewrite_hook.mark_rewrite('bench')\n"
    )
    (project / "test_it.py").write_text("def test_it(): pass")
    done = pytest_in(project)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_suite_without_pytest_benchmark_says_what_to_do(project: Path) -> None:
    done = pytest_in(project, "-p", "no:benchmark", *ONE_CASE)
    assert done.returncode == 4
    assert "pip install pytest-benchmark" in done.stderr


def test_the_plugin_imports_nothing_that_pytest_would_have_to_wait_for() -> None:
    heavy = ("numpy", "torch", "msgspec", "click", "rich", "scipy", "pandas", "pytest_benchmark")
    code = f"import sys, bench.pytest_plugin\nprint([n for n in {heavy!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the log of a fake PyTorch with three GPUs, of which two are used, and a fake CuPy."""
    log: list[str] = []
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 3,
        synchronize=lambda index: log.append(f"cuda:{index}"),
    )
    xpu = SimpleNamespace(is_initialized=lambda: False)
    used = SimpleNamespace(_cuda_hasPrimaryContext=lambda index: index != 1)
    device = SimpleNamespace(synchronize=lambda: log.append("cupy"))
    cupy = SimpleNamespace(is_available=lambda: True, cuda=SimpleNamespace(Device=lambda: device))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, xpu=xpu, _C=used))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return log


def test_every_gpu_that_is_used_is_waited_for_and_no_other(modules: list[str]) -> None:
    pytest_plugin.synchronize()
    assert modules == ["cuda:0", "cuda:2", "cupy"]


def test_the_clock_is_read_after_the_device_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(cost=0.0)
    device = FakeDevice(clock)
    monkeypatch.setattr(pytest_plugin, "synchronize", device.drain)
    timer = pytest_plugin.synchronised(clock)
    start = timer()
    device.launch(0.5)
    assert timer() - start == pytest.approx(0.5 + device.launch_seconds)


def test_a_suite_is_collected_as_tests_that_can_be_saved_and_compared(project: Path) -> None:
    (project / "test_own.py").write_text("raise SystemExit('is not collected')")
    first = pytest_in(project, *ONE_CASE, *QUICK, "--benchmark-autosave")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "collected 1 item" in first.stdout
    (saved,) = (project / ".benchmarks").rglob("0001_*.json")
    (found,) = json.loads(saved.read_text())["benchmarks"]
    assert found["fullname"] == "bench::matmul::matmul/n=64/call/float32/numpy"
    assert found["group"] == "matmul: matmul/n=64/call/float32"
    assert found["extra_info"]["relative_error"] < 5e-6
    assert found["stats"]["rounds"] >= 5
    second = pytest_in(
        project, *ONE_CASE, *QUICK, "--benchmark-compare", "--benchmark-compare-fail=min:90000%"
    )
    assert second.returncode == 0, second.stdout + second.stderr
    assert "(NOW)" in second.stdout
    assert "(0001_" in second.stdout


def test_paths_bring_the_projects_own_tests_along_and_k_chooses(project: Path) -> None:
    (project / "test_own.py").write_text("def test_own(): pass")
    done = pytest_in(project, *ONE_CASE, "--collect-only", "-q", "test_own.py")
    assert "test_own.py::test_own" in done.stdout
    assert "bench::matmul::matmul/n=64/call/float32/numpy" in done.stdout
    chosen = pytest_in(project, *ONE_CASE, "--collect-only", "-q", "-k", "torch")
    assert "1 deselected" in chosen.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--bench-suite", "matmull"], "did you mean matmul?"),
        (["--bench-suite", "matmul", "--bench-preset", "quik"], "did you mean quick?"),
        (["--bench-suite", "matmul", "--bench-only", "*nothing*"], "matches no case"),
    ],
)
def test_a_mistyped_suite_is_an_error_of_use(
    project: Path, arguments: list[str], expected: str
) -> None:
    done = pytest_in(project, *arguments)
    assert done.returncode == 4
    assert expected in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def case(workload: str, backend: str = "numpy", **fields: Any) -> CaseLine:
    return CaseLine(
        id=f"{workload}/n=64/call/float32/{backend}",
        suite="matmul",
        workload=workload,
        workload_version=1,
        size="n=64",
        sizes={"n": 64},
        phase="call",
        dtype="float32",
        backend=backend,
        threads=1,
        device="cpu",
        **fields,
    )


@pytest.fixture
def process() -> Iterator[InProcess]:
    request = RunRequest(suites=["matmul"], kernels=[str(PLANTED)])
    opened = InProcess(request, catalog.workloads((str(PLANTED),)), 1)
    yield opened
    opened.close()


def test_a_wrong_case_is_never_timed(process: InProcess) -> None:
    call, error = process.open(case("planted_right"))
    assert error < 5e-6
    assert call().shape == (64, 64)
    with pytest.raises(CaseError, match="relative error") as caught:
        process.open(case("planted_scaled"))
    assert caught.value.status == "wrong"
    with pytest.raises(CaseError) as caught:
        process.open(case("planted_raising"))
    assert caught.value.status == "failed"


def test_what_needs_a_process_of_its_own_is_left_to_bench_run() -> None:
    suites = catalog.suites()
    plain = case("matmul")
    assert why_not_here(plain, suites["matmul"]) is None
    assert why_not_here(case("matmul", skipped="no GPU"), suites["matmul"]) == "no GPU"
    assert "latency" in str(why_not_here(plain, suites["latency"]))
    assert "bench run" in str(why_not_here(plain, suites["batch-sweep"]))
    tuned = case("conv2d", "torch-cuda", variant="tuned")
    assert "tuned" in str(why_not_here(tuned, suites["matmul"]))
