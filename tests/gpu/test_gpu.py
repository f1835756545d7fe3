"""What only a GPU can show: its events, its streams, its precision and its memory."""

import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import catalog
from bench.backends import backends
from bench.backends.base import Backend
from bench.errors import BackendAbsent, CaseError
from bench.measuring.exchange import read_arrays
from bench.measuring.measure import Order
from bench.measuring.plausibility import canary_product
from bench.measuring.reference import Drawn, draw
from bench.measuring.sampling import Budget
from bench.measuring.verification import LIMITS, relative_error
from bench.running.worker_process import WorkerProcess
from bench.workload import Call, Dims, Prepare
from tests.fakes import whole_block

pytestmark = pytest.mark.gpu

GPU_BACKENDS = ["torch-cuda", "cupy"]
MATMUL, CONV2D = (catalog.workloads()[name] for name in ("matmul", "conv2d"))
BUDGET = Budget(warmup_seconds=0.1, warmup_cap_seconds=0.5, sampling_seconds=0.2, visits=2)


def opened(name: str) -> Backend:
    """Open a backend in this process, or skip with the reason that `bench doctor` gives."""
    backend = backends()[name]()
    try:
        backend.open(1, None)
    except BackendAbsent as absent:
        pytest.skip(f"{absent.reason}; {absent.remedy}")
    return backend


@pytest.fixture(params=GPU_BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    gpu = opened(request.param)
    gpu.use("float32")
    yield gpu
    gpu.use("float32")
    gpu.free()


def drawn(folder: Path, n: int, dtype: str = "float32") -> Drawn:
    return draw(np, MATMUL, {"n": n}, "call", dtype, 0, folder)


def measured(
    backend: Backend, folder: Path, n: int, prepare: Prepare | None = None
) -> dict[str, Any]:
    """Measure a float32 product, of the workload itself unless `prepare` is another one."""
    files = drawn(folder, n)
    prepare = prepare or MATMUL.phases["call"].implementation(backend.library)
    assert prepare is not None
    order = Order(
        dims={"n": n},
        dtype="float32",
        inputs=files.inputs,
        decoy=files.decoy,
        reference=files.reference,
        budget=BUDGET,
        cores=1,
    )
    return whole_block(backend, prepare, order, canary=canary_product(backend))


def has_tf32(backend: Backend) -> bool:
    library = backend.namespace
    if backend.library == "torch":
        return bool(library.cuda.get_device_capability()[0] >= 8)
    return int(library.cuda.Device().compute_capability) >= 80


def test_events_agree_with_the_clock_of_the_host(backend: Backend) -> None:
    product = backend.gemm(4096, "float32")
    ratios = []
    for _ in range(7):
        backend.drain()
        begin, start = time.perf_counter(), backend.record()
        for _ in range(10):
            product()
        stop = backend.record()
        backend.synchronize()
        host = time.perf_counter() - begin
        ratios.append(backend.elapsed(start, stop) / host)
    assert statistics.median(ratios) == pytest.approx(1.0, abs=0.05)


def on_a_side_stream(library: Any, dims: Dims, a: Any, b: Any) -> Call:
    """Multiply where the current stream does not wait for it."""
    if library.__name__ == "torch":
        side = library.cuda.Stream()
        within = library.cuda.stream(side)
        product = library.empty_like(a)
    else:
        within = library.cuda.Stream(non_blocking=True)
        product = library.empty_like(a)

    def call() -> Any:
        with within:
            library.matmul(a, b, out=product)
        return product

    return call


def test_work_on_a_side_stream_ends_as_unsynchronised(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(CaseError) as caught:
        measured(backend, tmp_path, 2048, on_a_side_stream)
    assert caught.value.status == "unsynchronised"


def under_tf32(library: Any, dims: Dims, a: Any, b: Any) -> Call:
    """Multiply as a library does that somebody has switched to TF32."""

    def call() -> Any:
        if library.__name__ == "torch":
            library.backends.cuda.matmul.allow_tf32 = True
            return library.matmul(a, b)
        from cupy._core import _routines_linalg as linalg

        before = linalg.get_compute_type(np.float32)
        linalg.set_compute_type(np.float32, linalg.COMPUTE_TYPE_TF32)
        try:
            return library.matmul(a, b)
        finally:
            linalg.set_compute_type(np.float32, before)

    return call


def test_a_float32_product_computed_under_tf32_is_wrong(backend: Backend, tmp_path: Path) -> None:
    if not has_tf32(backend):
        pytest.skip("this GPU has no TF32")
    with pytest.raises(CaseError) as caught:
        measured(backend, tmp_path, 1024, under_tf32)
    assert caught.value.status == "wrong"
    assert "TF32" in caught.value.reason


def test_a_one_element_kernel_is_launch_bound_and_a_large_one_is_not(
    backend: Backend, tmp_path: Path
) -> None:
    assert "launch_bound" in measured(backend, tmp_path / "small", 1)["notes"]
    assert "launch_bound" not in measured(backend, tmp_path / "large", 2048)["notes"]


def test_a_block_has_the_times_of_the_device_and_of_the_user(
    backend: Backend, tmp_path: Path
) -> None:
    block = measured(backend, tmp_path, 2048)
    calls, device, user = (
        statistics.median(block[name])
        for name in ("seconds", "device_seconds", "end_to_end_seconds")
    )
    assert device == pytest.approx(calls, rel=0.25)
    assert user > calls
    assert block["relative_error"] < LIMITS["float32"]


def test_the_peak_of_memory_holds_the_data_and_little_more(
    backend: Backend, tmp_path: Path
) -> None:
    data = 3 * 4 * 2048**2
    peak = measured(backend, tmp_path, 2048)["peak_bytes"]
    # On top come the library's workspace, 32 MiB on a current GPU, and rounding.
    assert data <= peak <= data + 2**27


def test_memory_beyond_the_device_is_recognised(backend: Backend) -> None:
    where = {"device": "cuda"} if backend.library == "torch" else {}
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
        backend.namespace.empty(2**45, **where)
    assert backend.is_out_of_memory(caught.value)


def test_the_driver_tells_the_clock(backend: Backend) -> None:
    pytest.importorskip("pynvml")
    clock = backend.state().clock_hertz
    assert clock is not None
    assert 1e8 < clock < 5e9


@pytest.fixture(scope="module")
def drawer() -> Iterator[WorkerProcess]:
    worker = WorkerProcess("numpy", 1, None, random.Random(0))
    worker.open(None)
    worker.ask(do="load", kernels=[])
    yield worker
    worker.close()


DTYPES = {
    "torch-cuda": ["float64", "float32", "tf32", "float16", "bfloat16"],
    "cupy": ["float64", "float32", "float16"],
}


@pytest.mark.parametrize("name", GPU_BACKENDS)
def test_a_worker_measures_the_product_in_every_dtype(
    name: str, drawer: WorkerProcess, tmp_path: Path
) -> None:
    worker = WorkerProcess(name, 1, None, random.Random(0))
    try:
        worker.open(None)
        worker.ask(do="load", kernels=[])
        for dtype in DTYPES[name]:
            files = drawer.ask(
                do="draw",
                workload="matmul",
                dims={"n": 512},
                phase="call",
                dtype=dtype,
                seed=0,
                folder=str(tmp_path / dtype),
            )
            order = {key: files[key] for key in ("inputs", "decoy", "reference")}
            order |= {"dims": {"n": 512}, "dtype": dtype, "budget": asdict(BUDGET), "cores": 1}
            worker.ask(do="begin", case="c", workload="matmul", phase="call", way=None, order=order)
            assert min(worker.ask(do="visit", case="c")["seconds"]) > 0
            assert 0 < worker.ask(do="finish", case="c")["relative_error"] < LIMITS[dtype]
    except BackendAbsent as absent:
        pytest.skip(f"{absent.reason}; {absent.remedy}")
    finally:
        worker.close()


LAYERS = {
    "padded": {"kernel": 3, "padding": 1},
    "strided": {"kernel": 3, "padding": 1, "stride": 2},
    "stem": {"in_channels": 3, "kernel": 7, "padding": 3, "stride": 2},
    "pointwise": {"kernel": 1},
    "strided_point": {"kernel": 1, "stride": 2},
    "dilated": {"kernel": 3, "padding": 2, "dilation": 2},
    "grouped": {"kernel": 3, "padding": 1, "groups": 4},
    "one_image": {"batch": 1, "kernel": 3, "padding": 1},
}


@pytest.mark.parametrize("dtype", DTYPES["cupy"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", CONV2D.phases)
def test_the_convolutions_written_for_cupy_agree_with_float64(
    name: str, layer: str, dtype: str, tmp_path: Path
) -> None:
    backend = opened("cupy")
    phase = CONV2D.phases[name]
    prepare = phase.implementation("cupy")
    assert prepare is not None
    dims = {"batch": 8, "in_channels": 16, "out_channels": 32, "height": 28, **LAYERS[layer]}
    files = draw(np, CONV2D, dims, name, dtype, 0, tmp_path)
    inputs = [backend.to_device(array) for array in read_arrays(Path(files.inputs))]
    call = prepare(backend.namespace, dims, *inputs)
    backend.poison(call())
    error = relative_error(backend, call(), files.reference)
    assert 0 < error <= LIMITS[dtype] * phase.error_factor
