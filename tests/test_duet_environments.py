"""What is known of two environments before anything is measured."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.comparing.pairs import pairs_of
from bench.errors import RequestError
from bench.results.reading import read_run
from bench.results.schema import RunLine
from bench.results.writing import encode
from bench.running.environments import Environment, changes, examine
from bench.running.probe import Probe
from tests import toy
from tests.commands import bench

BASE = Environment(side="base", python="b", version="3.12.1", described={"version": "3.12.1"})
HEAD = replace(BASE, side="head", python="h")


def test_an_interpreter_describes_its_environment() -> None:
    found = examine("base", sys.executable)
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.packages["numpy"][0]
    assert {"numpy", "pytest", "pytest_benchmark"} <= found.modules
    found.require("numpy")
    found.require_worker()


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("nowhere/bin/python", "does not start: No such file or directory"),
        (".", "is a folder"),
        ("false", "does not start as a Python: exit code 1"),
    ],
)
def test_what_is_no_interpreter_is_refused_in_one_line(python: str, said: str) -> None:
    done = bench(
        "duet", "--base-python", python, "--head-python", sys.executable, "--suite", "matmul"
    )
    assert done.returncode == 2
    assert f"--base-python {python} " in done.stderr
    assert said in done.stderr
    assert "such as base/bin/python" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_environment_without_numpy_is_refused_with_the_mending_command(tmp_path: Path) -> None:
    python = toy.environment(tmp_path / "bare", toy.SOURCE)
    done = bench(
        "duet", "--base-python", sys.executable, "--head-python", python, "--suite", "matmul"
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"bench: error: --head-python {python}: numpy cannot be imported there;"
        f" {python} -m pip install numpy"
    )


def test_an_environment_without_pytest_benchmark_is_refused_with_the_command(
    tmp_path: Path,
) -> None:
    python = toy.environment(tmp_path / "bare", toy.SOURCE)
    done = bench("duet", "--base-python", sys.executable, "--head-python", python, "--pytest", ".")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"bench: error: --head-python {python}: pytest and pytest_benchmark cannot be imported"
        f" there; {python} -m pip install pytest pytest-benchmark"
    )


def test_a_python_too_old_for_the_worker_is_refused() -> None:
    with pytest.raises(RequestError, match=r"--base-python b is Python 3\.10\.4.*needs 3\.11"):
        replace(BASE, version="3.10.4").require_worker()
    replace(BASE, version="3.14.0rc1").require_worker()


def test_nothing_to_measure_or_two_things_at_once_is_a_bad_request() -> None:
    both = ("duet", "--base-python", sys.executable, "--head-python", sys.executable)
    for arguments, said in [
        ((), "nothing to measure was named"),
        (("--pytest", "tests", "--suite", "matmul"), "--pytest measures tests alone"),
        (("--pytest", "tests", "--batch", "2"), "as they are, without --batch: choose with --only"),
        (("--pytest", "tests", "--dtype", "float16"), "as they are, without --dtype"),
        (("--suite", "latency"), "a duet compares times of single cases"),
    ]:
        done = bench(*both, *arguments)
        assert done.returncode == 2
        assert said in done.stderr


def test_changed_versions_commits_and_files_are_named_one_by_one() -> None:
    base = replace(
        BASE,
        packages={
            "numpy": ("2.3.5", "", "a"),
            "toy": ("1.0", "", "a"),
            "ours": ("0.1", "1111111111222", ""),
            "gone": ("7", "", ""),
            "same": ("1", "", "x"),
        },
    )
    head = replace(
        HEAD,
        described={"version": "3.13.0"},
        packages={
            "numpy": ("2.4.6", "", "b"),
            "toy": ("1.0", "", "b"),
            "ours": ("0.1", "2222222222333", ""),
            "same": ("1", "", "x"),
        },
    )
    assert changes(base, head) == [
        "Python 3.12.1 to 3.13.0",
        "numpy 2.3.5 to 2.4.6",
        "ours 0.1 (1111111111) to 0.1 (2222222222)",
        "toy 1.0: the same version, other files",
        "only in base: gone 7",
    ]
    assert changes(base, replace(base, side="head")) == []


def test_a_library_inside_a_package_is_named_where_it_changed() -> None:
    old = {"numpy": Probe("numpy", description={"blas": "OpenBLAS 0.3.28"})}
    new = {"numpy": Probe("numpy", description={"blas": "OpenBLAS 0.3.30"})}
    assert changes(BASE, HEAD, old, new) == ["blas of numpy: OpenBLAS 0.3.28 to 0.3.30"]


def test_the_same_version_with_other_files_is_seen_in_real_environments(tmp_path: Path) -> None:
    base = examine("base", toy.environment(tmp_path / "base", toy.SOURCE))
    head = examine("head", toy.environment(tmp_path / "head", toy.slowed(0.5)))
    assert changes(base, head) == ["toy 1.0: the same version, other files"]


KERNELS = """
from bench.workload import Phase, Size, Workload


def inputs(rng, dims):
    return (rng.standard_normal(dims["n"]),)


def prepare(name):
    def ready(numpy, dims, x):
        import toy  # of the environment that measures

        function = getattr(toy, name)

        def call():
            function(dims["n"])
            return x * 2

        return call

    return ready


def reference(numpy, dims, x):
    return x * 2


WORKLOAD = Workload(
    name="NAME",
    summary="what the toy does",
    source="the toy",
    suites=("matmul",),
    sizes=[Size(dims={"n": 3000})],
    inputs=inputs,
    phases={"call": Phase(array=prepare("NAME"), reference=reference)},
)
"""


def test_kernels_are_measured_where_bench_is_not_and_what_base_lacks_is_told(
    tmp_path: Path,
) -> None:
    newer = toy.SOURCE + "\n\ndef brand_new(n):\n    return work(n)\n"
    base = toy.environment(tmp_path / "base", toy.SOURCE, "numpy")
    head = toy.environment(tmp_path / "head", newer, "numpy")
    for python in (base, head):
        assert "nn-bench" not in examine("base", python).packages
    for name in ("work", "brand_new"):
        path = tmp_path / "kernels" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(KERNELS.replace("NAME", name))
    done = bench(
        *("duet", "--base-python", base, "--head-python", head, "--kernels", tmp_path / "kernels"),
        *("--minutes", "0.4", "--output", tmp_path / "out", "--inconclusive", "warn"),
        *("--threshold", "400%"),
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 2 cases measured on both sides" in done.stdout
    assert "  base: brand_new/n=3000/call/float32/numpy: failed: AttributeError" in done.stderr
    assert "module 'toy' has no attribute 'brand_new'" in done.stdout
    runs = [read_run(tmp_path / "out" / f"{side}.jsonl") for side in ("base", "head")]
    pairs = pairs_of(*runs).first["matmul", "work/n=3000/call/float32/numpy"]
    assert pairs
    measured = [m for run in runs for m in run.measurements if m.workload == "work"]
    assert {m.verified for m in measured} == {"full"}
    assert len({m.input_digest for m in measured}) == 1


def test_a_side_of_a_duet_cannot_be_resumed_as_a_run(tmp_path: Path) -> None:
    line = RunLine(
        schema=1,
        id="job-base",
        label="base",
        started="2026-11-21T00:00:00Z",
        bench_version="0",
        command=[],
        settings={"duet": "job"},
        machine={},
    )
    path = tmp_path / "base.jsonl"
    path.write_bytes(encode(line))
    done = bench("run", "--resume", path)
    assert done.returncode == 2
    assert "one side of a duet; make the duet anew" in done.stderr
