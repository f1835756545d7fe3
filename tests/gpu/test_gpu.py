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
from bench.backends.base import Backend, Unknown
from bench.errors import BackendAbsent, CaseError
from bench.gpus import present_gpus
from bench.measuring.energy import joules_per_call
from bench.measuring.exchange import read_arrays
from bench.measuring.measure import FLUSHED_BYTES, Order
from bench.measuring.plausibility import canary_product
from bench.measuring.reference import Drawn, draw
from bench.measuring.sampling import Budget, ColdStopwatch, Stopwatch
from bench.measuring.verification import LIMITS, relative_error
from bench.results.reading import read_run
from bench.running.worker_process import WorkerProcess
from bench.workload import Call, Dims, Prepare
from tests.commands import bench
from tests.fakes import whole_block

# What a library of another version warns of is no failure of ours.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

MODEL = """
from torch import nn


def build():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 8))
"""
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


def device_seconds(backend: Backend, call: Call, *, cold: bool) -> float:
    """Return the median by the device's own clock, with hot caches or with cold ones."""
    if cold:
        watch = ColdStopwatch(backend, call, time.perf_counter, flush=backend.copy(FLUSHED_BYTES))
        return statistics.median(watch.sample(1) for _ in range(30))
    times = []
    for _ in range(30):
        backend.hold(100e-6)
        start = backend.record()
        call()
        stop = backend.record()
        backend.synchronize()
        times.append(backend.elapsed(start, stop))
    return statistics.median(times)


def test_a_cold_cache_shows_where_the_data_would_fit_and_only_there(backend: Backend) -> None:
    small, large = backend.copy(8 * 2**20), backend.copy(2**29)  # read and written: 16 MB and 1 GB
    for call in (small, large):
        call()
    assert device_seconds(backend, small, cold=True) > 1.2 * device_seconds(
        backend, small, cold=False
    )
    hot = device_seconds(backend, large, cold=False)
    assert device_seconds(backend, large, cold=True) == pytest.approx(hot, rel=0.03)


def test_a_held_device_keeps_launches_out_of_its_own_time(backend: Backend) -> None:
    tiny = backend.copy(64)

    def call() -> None:
        for _ in range(20):
            tiny()

    call()
    times = {}
    for held in (0.0, 2e-3):
        backend.drain()
        if held:
            backend.hold(held)
        start = backend.record()
        call()
        stop = backend.record()
        backend.synchronize()
        times[held] = backend.elapsed(start, stop)
    assert times[2e-3] < 0.8 * times[0.0]


def test_a_hold_lasts_about_as_long_as_it_is_asked_to(backend: Backend) -> None:
    backend.hold(1e-3)  # the first one compiles or calibrates
    start = backend.record()
    backend.hold(5e-3)
    stop = backend.record()
    backend.synchronize()
    assert backend.elapsed(start, stop) == pytest.approx(5e-3, rel=0.3)


def test_the_energy_of_a_long_window_repeats_and_a_short_one_is_refused(backend: Backend) -> None:
    watch = Stopwatch(backend, backend.gemm(4096, "float32"), time.perf_counter)
    try:
        backend.energy()
    except Unknown as unknown:
        pytest.skip(str(unknown))
    joules_per_call(watch, 10, time.perf_counter)  # the GPU has its temperature
    first, second = (joules_per_call(watch, 10, time.perf_counter) for _ in range(2))
    assert second == pytest.approx(first, rel=0.02)
    with pytest.raises(Unknown, match="too short"):
        joules_per_call(watch, 1, time.perf_counter, window=0.02)


CONVOLUTIONS = [
    {"batch": 2, "in_channels": 8, "out_channels": 16, "height": 14, "kernel": 3, "padding": 1},
    {"batch": 3, "in_channels": 3, "out_channels": 8, "height": 23, "kernel": 7, "stride": 2},
    {"batch": 2, "in_channels": 8, "out_channels": 8, "height": 9, "kernel": 3, "groups": 4},
    {"batch": 1, "in_channels": 16, "out_channels": 4, "height": 7, "kernel": 1},
]


@pytest.mark.parametrize("given", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("phase", ["forward", "input_gradient", "weight_gradient"])
def test_a_convolution_agrees_with_float64(
    phase: str, given: dict[str, int], backend: Backend, tmp_path: Path
) -> None:
    workload = catalog.workloads()["conv2d"]
    assert workload.resize is not None
    dims = workload.resize(given)
    files = draw(np, workload, dims, phase, "float32", 0, tmp_path)
    inputs = [backend.to_device(array) for array in read_arrays(Path(files.inputs))]
    part = workload.phases[phase]
    ways = [None, *(way for way in part.variants if part.implementation(backend.name, way))]
    for way in ways:
        prepare = part.implementation(backend.name, way)
        assert prepare is not None
        call = prepare(backend.namespace, dims, *inputs)
        call()
        error = relative_error(backend, call(), files.reference)
        assert error <= part.error_factor * LIMITS["float32"], way


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_an_array_is_refilled_in_place(backend: Backend, dtype: str, tmp_path: Path) -> None:
    if backend.unsupported(dtype):
        pytest.skip(str(backend.unsupported(dtype)))
    workload = catalog.workloads()["matmul"]
    files = draw(np, workload, {"m": 8, "n": 8, "k": 8}, "call", dtype, 0, tmp_path)
    one, other = (read_arrays(Path(name))[0] for name in (files.inputs, files.decoy))
    there = backend.to_device(one)
    backend.refill(there, other)
    backend.synchronize()
    expected = np.asarray(backend.to_float64(backend.to_device(other)))
    assert (np.asarray(backend.to_float64(there)) == expected).all()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_requests_are_served_with_their_transfers(
    backend: Backend, concurrency: int, tmp_path: Path
) -> None:
    workload = catalog.workloads()["lenet5"]
    part, size = workload.phases["forward"], workload.sizes[0]
    files = draw(np, workload, size.dims, "forward", "float32", 0, tmp_path)
    serving = {"concurrency": concurrency, "rate": None, "seed": 0}
    given = Order(
        dims=size.dims,
        dtype="float32",
        inputs=files.inputs,
        decoy=files.decoy,
        reference=files.reference,
        budget=Budget(warmup_seconds=0.1, warmup_cap_seconds=0.2, sampling_seconds=0.4, visits=2),
        cores=2,
        calls_per_sample=1,
        fresh_inputs=part.fresh_inputs,
        answers=part.answers,
        serving=serving,
    )
    prepare = part.implementation(backend.name)
    assert prepare is not None
    found = whole_block(backend, prepare, given)
    assert len(found["request_seconds"]) > 20
    if concurrency == 1:  # a request is a call and its transfers
        assert np.median(found["request_seconds"]) > np.median(found["seconds"])


def test_every_layer_agrees_with_float64(backend: Backend, tmp_path: Path) -> None:
    suites = catalog.suites()
    for workload in catalog.workloads().values():
        if "layers" not in workload.suites or "layers" not in suites:
            continue
        dims = workload.sizes[0].dims
        for name, part in workload.phases.items():
            prepare = part.implementation(backend.name)
            assert prepare is not None
            files = draw(np, workload, dims, name, "float32", 0, tmp_path / workload.name / name)
            inputs = [backend.to_device(array) for array in read_arrays(Path(files.inputs))]
            error = relative_error(
                backend, prepare(backend.namespace, dims, *inputs)(), files.reference
            )
            assert error <= part.error_factor * LIMITS["float32"], (workload.name, name)


@pytest.mark.parametrize("variant", [None, "pinned"])
@pytest.mark.parametrize("phase", ["to_device", "to_host"])
def test_a_transfer_moves_every_bit(
    phase: str, variant: str | None, backend: Backend, tmp_path: Path
) -> None:
    workload = catalog.workloads()["transfer"]
    dims = {"bytes": 2**20}
    files = draw(np, workload, dims, phase, "float32", 0, tmp_path)
    x = backend.to_device(read_arrays(Path(files.inputs))[0])
    prepare = workload.phases[phase].implementation(backend.name, variant)
    assert prepare is not None
    call = prepare(backend.namespace, dims, x)
    backend.poison(call())
    backend.synchronize()
    output = call()
    backend.synchronize()
    assert relative_error(backend, output, files.reference) == 0.0


def started(name: str, setup: str | None = None, gpu: str | None = None) -> WorkerProcess:
    """Start a worker, or skip with the reason that `bench doctor` gives."""
    worker = WorkerProcess(name, 1, gpu, random.Random(0), setup)
    try:
        worker.open(None)
    except BackendAbsent as absent:
        worker.close()
        pytest.skip(f"{absent.reason}; {absent.remedy}")
    worker.ask(do="load", kernels=[])
    return worker


def begin(worker: WorkerProcess, files: dict[str, Any], n: int, dtype: str) -> dict[str, Any]:
    order = {key: files[key] for key in ("inputs", "decoy", "reference")}
    order |= {"dims": {"n": n}, "dtype": dtype, "budget": asdict(BUDGET), "cores": 1}
    begun: dict[str, Any] = worker.ask(
        do="begin", case="c", workload="matmul", phase="call", way=None, order=order
    )
    return begun


def draw_product(drawer: WorkerProcess, n: int, dtype: str, folder: Path) -> dict[str, Any]:
    files: dict[str, Any] = drawer.ask(
        do="draw",
        workload="matmul",
        dims={"n": n},
        phase="call",
        dtype=dtype,
        seed=0,
        folder=str(folder),
    )
    return files


def test_two_libraries_take_turns_without_disturbing_each_others_memory(
    drawer: WorkerProcess, tmp_path: Path
) -> None:
    files = draw_product(drawer, 2048, "float32", tmp_path)
    workers = [started(name) for name in GPU_BACKENDS]
    try:
        peaks: dict[str, list[int]] = {name: [] for name in GPU_BACKENDS}
        for _ in range(2):
            for worker in workers:
                peaks[worker.backend].append(begin(worker, files, 2048, "float32")["peak_bytes"])
                assert worker.ask(do="visit", case="c")["seconds"]
                worker.ask(do="finish", case="c")
        for first, second in peaks.values():
            # The first time the library's workspace, 32 MiB on a current GPU, is part of it.
            assert 0 <= first - second <= 2**26
    finally:
        for worker in workers:
            worker.close()


def test_cudnns_tuner_is_on_in_a_process_of_its_own() -> None:
    for setup, on in ((None, False), ("tuned", True)):
        worker = started("torch-cuda", setup)
        assert worker.description["cudnn_benchmark"] is on
        worker.close()


def test_a_gpu_is_the_same_to_cuda_and_to_the_driver() -> None:
    opened("torch-cuda")
    for gpu in present_gpus():
        worker = started("torch-cuda", gpu=gpu.uuid)
        assert worker.description["gpu"] == gpu.name
        worker.close()


@pytest.fixture(scope="module")
def drawer() -> Iterator[WorkerProcess]:
    worker = WorkerProcess("numpy", 1, None, random.Random(0))
    worker.open(None)
    worker.ask(do="load", kernels=[])
    yield worker
    worker.close()


@pytest.mark.parametrize("name", GPU_BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "tf32", "float16", "bfloat16"])
def test_a_worker_measures_the_product_in_every_dtype(
    dtype: str, name: str, drawer: WorkerProcess, tmp_path: Path
) -> None:
    kind = backends()[name]
    worker = started(name, kind.setup_of(dtype, None))
    try:
        reason = kind().unsupported(dtype)
        if reason is not None:
            pytest.skip(reason)
        files = draw_product(drawer, 512, dtype, tmp_path)
        begin(worker, files, 512, dtype)
        assert min(worker.ask(do="visit", case="c")["seconds"]) > 0
        assert 0 < worker.ask(do="finish", case="c")["relative_error"] < LIMITS[dtype]
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


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
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


@pytest.mark.parametrize("name", GPU_BACKENDS)
def test_a_sweep_ends_where_the_memory_of_the_gpu_does(name: str, tmp_path: Path) -> None:
    opened(name).free()
    output = tmp_path / "sweep.jsonl"
    done = bench(
        *("run", "--suite", "batch-sweep", "--preset", "standard", "--backend", name),
        # A training step of ResNet-50 takes some 90 MB a sample.
        *("--only", "resnet50/imagenet,*/training_step/*", "--batch", "8,4096"),
        *("--blocks", "1", "--max-seconds", "0.1", "--output", output),
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    (limit,) = read_run(output).limits
    assert limit.largest_batch is not None
    assert limit.failing_batch is not None
    assert 8 <= limit.largest_batch < limit.failing_batch <= 4096


def test_a_model_of_ones_own_is_the_same_on_the_gpu(tmp_path: Path) -> None:
    opened("torch-cuda").free()
    (tmp_path / "models.py").write_text(MODEL)
    done = bench(
        *("run", "--suite", "passes", "--model", "models.py:build", "--input", "64"),
        *("--preset", "quick", "--batch", "8", "--blocks", "1", "--max-seconds", "0.1"),
        *("--compile", "--dtype", "float32", "--dtype", "float16", "--output", "run.jsonl"),
        cwd=tmp_path,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run.jsonl")
    places = {m.backend for m in run.measurements if m.status == "ok"}
    assert places == {"torch-cpu", "torch-cuda"}
