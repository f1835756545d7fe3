import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import catalog
from bench.errors import BackendAbsent, CaseError
from bench.running.worker_process import WorkerProcess
from bench.worker import Worker
from bench.workload import Phase, calling
from tests.fakes import FakeDevice

WORKER = catalog.PACKAGE / "worker.py"
BUDGET = {
    "warmup_seconds": 0.01,
    "warmup_cap_seconds": 0.02,
    "sampling_seconds": 0.01,
    "visits": 2,
}
GIB = 2**30

KERNEL = '''
import json
import os
import sys
from pathlib import Path

from bench.workload import Phase, Size, Workload


def inputs(rng, dims):
    return [rng.standard_normal((dims["n"], dims["n"]))]


def watching(library, dims, x):
    """Write down what is imported; talk while it works, as models do."""
    Path(__file__).with_suffix(".modules").write_text(json.dumps(sorted(sys.modules)))

    def call():
        print('{"ok": "not from the worker"}', flush=True)
        os.write(1, b"nor this\\n")
        os.write(2, b"progress\\n")
        assert not sys.stdin.read(), "nobody may read what is for the worker"
        return library.matmul(x, x)

    return call


def greedy(library, dims, x):
    def call():
        return [library.empty(4 * 2**30 // 8) for _ in range(64)]

    return call


def square(library, dims, x):
    return lambda: library.matmul(x, x)


def doubled(library, dims, x):
    return lambda: 2 * library.matmul(x, x)


def row(rng, dims):
    return [rng.standard_normal((1, dims["n"]))]


def turned(library, dims, x):
    return lambda: library.matmul(x, x.T)


def workload(name, prepare, reference=None):
    """The variant is another function, the second phase has other inputs."""
    call = Phase(
        array=prepare,
        torch=prepare,
        reference=reference,
        variants={"doubled": {"torch": doubled, "numpy": doubled}, "same": {"torch": square}},
    )
    return Workload(
        name=name,
        summary="",
        source="",
        suites=(),
        sizes=[Size(dims={"n": 8})],
        inputs=inputs,
        phases={"call": call, "row": Phase(array=turned, torch=turned, inputs=row)},
    )
'''


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")
    square = "reference=lambda numpy, dims, x: x @ x"
    for name in ("watching", "greedy", "square"):
        declaration = f'WORKLOAD = workload("{name}", {name}, {square})\n'
        (folder / f"{name}.py").write_text(KERNEL + declaration)
    return folder


def started(backend: str, kernels: Path, memory_limit: int | None = None) -> WorkerProcess:
    worker = WorkerProcess(backend, 1, None, random.Random(0))
    worker.open(memory_limit)
    worker.ask(do="load", kernels=[str(kernels)])
    return worker


@pytest.fixture(scope="module")
def numpy_worker(kernels: Path) -> Iterator[WorkerProcess]:
    worker = started("numpy", kernels, GIB)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def torch_worker(kernels: Path) -> Iterator[WorkerProcess]:
    pytest.importorskip("torch")
    worker = started("torch-cpu", kernels)
    yield worker
    worker.close()


def measured(
    worker: WorkerProcess,
    drawer: WorkerProcess,
    workload: str,
    folder: Path,
    dtype: str = "float64",
    dims: dict[str, int] | None = None,
    phase: str = "call",
    way: str | None = None,
) -> dict[str, Any]:
    """Have one process draw and another one measure, as the parent does."""
    dims = dims or {"n": 8}
    drawn = drawer.ask(
        do="draw",
        workload=workload,
        dims=dims,
        phase=phase,
        dtype=dtype,
        seed=0,
        folder=str(folder),
    )
    order = {name: drawn[name] for name in ("inputs", "decoy", "reference")}
    order |= {"dims": dims, "dtype": dtype, "budget": BUDGET, "cores": 1}
    begun = worker.ask(do="begin", case="c", workload=workload, phase=phase, way=way, order=order)
    seen = [worker.ask(do="visit", case="c") for _ in range(begun["visits"])]
    return {**begun, **seen[-1], **worker.ask(do="finish", case="c")}


def modules(kernels: Path) -> set[str]:
    written = json.loads((kernels / "watching.modules").read_text())
    return {name.partition(".")[0] for name in written}


OURS = {"click", "rich", "msgspec", "pandas", "matplotlib"}


def test_a_numpy_worker_imports_nothing_but_numpy(
    numpy_worker: WorkerProcess, kernels: Path, tmp_path: Path
) -> None:
    block = measured(numpy_worker, numpy_worker, "watching", tmp_path)
    assert block["relative_error"] < 1e-12
    assert "numpy" in modules(kernels)
    assert not modules(kernels) & {*OURS, "torch", "cupy", "scipy"}


def test_a_torch_worker_imports_nothing_of_the_parent(
    torch_worker: WorkerProcess, numpy_worker: WorkerProcess, kernels: Path, tmp_path: Path
) -> None:
    measured(torch_worker, numpy_worker, "watching", tmp_path)
    assert "torch" in modules(kernels)
    assert not modules(kernels) & OURS


def test_a_model_that_prints_does_not_disturb_the_answers(
    numpy_worker: WorkerProcess, tmp_path: Path
) -> None:
    for number in range(2):
        block = measured(numpy_worker, numpy_worker, "watching", tmp_path / str(number))
        assert len(block["seconds"]) >= 2


def test_bits_that_numpy_drew_are_right_in_torch(
    torch_worker: WorkerProcess, numpy_worker: WorkerProcess, tmp_path: Path
) -> None:
    for dtype, limit in {"float32": 5e-6, "bfloat16": 1.2e-2}.items():
        block = measured(torch_worker, numpy_worker, "matmul", tmp_path / dtype, dtype, {"n": 64})
        assert limit / 1000 < block["relative_error"] < limit


def test_a_variant_is_what_is_measured(
    torch_worker: WorkerProcess, numpy_worker: WorkerProcess, tmp_path: Path
) -> None:
    for worker in (numpy_worker, torch_worker):
        block = measured(worker, numpy_worker, "square", tmp_path)
        assert block["relative_error"] < 1e-12
        with pytest.raises(CaseError, match="relative error 1 against") as caught:
            measured(worker, numpy_worker, "square", tmp_path, way="doubled")
        assert caught.value.status == "wrong"
    block = measured(torch_worker, numpy_worker, "square", tmp_path, way="same")
    assert block["relative_error"] < 1e-12


@pytest.mark.parametrize("way", ["same", "unheard_of"])
def test_a_variant_that_the_library_lacks_is_skipped_and_not_replaced(
    numpy_worker: WorkerProcess, way: str, tmp_path: Path
) -> None:
    with pytest.raises(CaseError, match="square has no version for numpy") as caught:
        measured(numpy_worker, numpy_worker, "square", tmp_path, way=way)
    assert caught.value.status == "skipped"


def test_a_phase_is_measured_on_inputs_of_its_own(
    torch_worker: WorkerProcess, numpy_worker: WorkerProcess, tmp_path: Path
) -> None:
    for worker in (numpy_worker, torch_worker):
        # The product of a matrix with itself transposed would have passed as well: the size tells.
        block = measured(worker, numpy_worker, "square", tmp_path, phase="row", dims={"n": 4096})
        assert block["relative_error"] < 1e-12
        assert (tmp_path / "inputs").stat().st_size < 2 * 8 * 4096


def test_a_convolution_with_the_channels_last_is_right_in_torch(
    torch_worker: WorkerProcess, numpy_worker: WorkerProcess, tmp_path: Path
) -> None:
    dims = {"batch": 2, "in_channels": 8, "height": 9, "out_channels": 8, "kernel": 3}
    for phase in ("forward", "input_gradient", "weight_gradient"):
        for way in (None, "channels_last"):
            block = measured(
                torch_worker, numpy_worker, "conv2d", tmp_path, "float32", dims, phase, way
            )
            assert 0 < block["relative_error"] < 5e-6


def test_threads_are_as_given(numpy_worker: WorkerProcess, torch_worker: WorkerProcess) -> None:
    for worker in (numpy_worker, torch_worker):
        pools = worker.description["threadpools"]
        assert {pool["num_threads"] for pool in pools} == {1}


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_beyond_the_limit_ends_the_case_and_not_the_worker(
    numpy_worker: WorkerProcess, tmp_path: Path
) -> None:
    with pytest.raises(CaseError) as caught:
        measured(numpy_worker, numpy_worker, "greedy", tmp_path / "greedy")
    assert caught.value.status == "out_of_memory"
    assert "Unable to allocate 4.00 GiB" in caught.value.reason
    block = measured(numpy_worker, numpy_worker, "matmul", tmp_path / "next")
    assert block["relative_error"] < 1e-12


@pytest.mark.skipif(sys.platform != "linux", reason="the counters are Linux's")
def test_on_a_cpu_the_peak_is_what_the_case_itself_needs(
    numpy_worker: WorkerProcess, tmp_path: Path
) -> None:
    n = 1024
    block = measured(numpy_worker, numpy_worker, "matmul", tmp_path, dims={"n": n})
    data = 3 * 8 * n * n
    # A fifth on top is for what the BLAS packs; the mapped files would be two thirds more.
    assert data * 0.99 < block["peak_bytes"] < data * 1.2


def test_what_is_asked_wrongly_is_answered(numpy_worker: WorkerProcess) -> None:
    with pytest.raises(CaseError, match="do_nonsense"):
        numpy_worker.ask(do="nonsense")
    with pytest.raises(CaseError, match="nowhere"):
        numpy_worker.ask(do="load", kernels=["/nowhere"])


def test_a_canary_and_peaks_are_numbers_of_this_machine(numpy_worker: WorkerProcess) -> None:
    canary = numpy_worker.ask(do="canary")
    assert set(canary) == {"product", "copy"}
    assert all(seconds > 0 for seconds in canary.values())


def test_an_absent_backend_is_answered_with_its_remedy() -> None:
    class Absent(FakeDevice):
        def open(self, threads: int, setup: str | None = None) -> None:
            raise BackendAbsent("no such device", "buy one")

    worker = Worker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.worker.backends", lambda: {"absent": Absent})
        message = {"backend": "absent", "threads": 1, "setup": None, "memory_limit": None}
        reply = worker.answer({"do": "open", **message})
    assert reply == {"absent": {"reason": "no such device", "remedy": "buy one"}}
    assert worker.backend is None


def test_a_workload_without_a_version_for_the_library_is_skipped() -> None:
    worker = Worker()
    worker.backend = FakeDevice()
    only_torch = Phase(torch=calling(lambda torch: None))
    matmul = catalog.workloads()["matmul"]
    worker.workloads = {"matmul": dataclasses.replace(matmul, phases={"call": only_torch})}
    reply = worker.answer(
        {
            "do": "begin",
            "case": "c",
            "workload": "matmul",
            "phase": "call",
            "way": None,
            "order": {},
        }
    )
    assert reply == {"error": {"status": "skipped", "reason": "matmul has no version for fake"}}


def test_a_device_that_an_error_has_left_unusable_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Lost(FakeDevice):
        def drain(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    worker = Worker()
    for device, expected in [(FakeDevice(), []), (Lost(), [1])]:
        worker.backend = device
        reply = worker.answer({"do": "visit", "case": "nobody began"})
        assert reply["error"]["status"] == "failed"
        assert ended == expected
    assert "KeyError: 'nobody began'" in capsys.readouterr().err


def test_the_end_of_its_input_ends_a_worker() -> None:
    worker = WorkerProcess("numpy", 1, None, random.Random(0))
    worker.open(None)
    worker.close()
    assert worker._process.returncode == 0


def is_gone(process: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def wait_for(claim: Any, seconds: float = 20.0) -> bool:
    """Wait until `claim()` holds; how long it took is no part of any test."""
    deadline = time.monotonic() + seconds
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(claim())


PARENT = """
import random, sys, time
from bench.running.worker_process import WorkerProcess
worker = WorkerProcess("numpy", 1, None, random.Random(0))
worker.send(do="load", kernels=[sys.argv[1]])
print(worker._process.pid, flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the request to the kernel is Linux's")
def test_a_busy_worker_dies_with_its_parent(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "busy.py").write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(120)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        try:
            assert wait_for(begun.exists)
            assert not is_gone(worker)
        finally:
            parent.kill()
    try:
        assert wait_for(lambda: is_gone(worker), 10.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="the request to the kernel is Linux's")
def test_a_worker_whose_parent_is_gone_already_does_not_begin() -> None:
    orphan = subprocess.run(
        [sys.executable, "-P", str(WORKER), "1"], stdin=subprocess.DEVNULL, check=False
    )
    assert orphan.returncode == 1
