"""Synthetic runs for the tests, built from the types of the run file."""

from collections.abc import Sequence
from typing import Any

from bench.results.schema import (
    Block,
    EndLine,
    Interval,
    Latency,
    Layers,
    LimitLine,
    Measurement,
    Run,
    RunLine,
    Status,
)

MACHINE: dict[str, Any] = {
    "cpu": {"model": "AMD EPYC 7763 64-Core Processor"},
    "gpus": [],
}

HOSTILE = "=1|`x`<b>\n\x1b[31m\u202e@team **b** [a](https://e.example) www.e.example $x$"


def interval(median: float, spread: float | None = 0.02) -> Interval:
    """Return an interval of `spread` to both sides; None: one block, no interval."""
    if spread is None:
        return Interval(median=median, low=None, high=None, min=median * 0.99)
    return Interval(
        median=median,
        low=median * (1 - spread),
        high=median * (1 + spread),
        min=median * (1 - spread / 2),
    )


def measurement(
    workload: str = "matmul",
    backend: str = "numpy",
    seconds: float | None = 1e-3,
    *,
    sizes: dict[str, int] | None = None,
    name: str | None = None,
    phase: str = "call",
    dtype: str = "float32",
    variant: str | None = None,
    threads: int = 2,
    suite: str | None = None,
    spread: float | None = 0.02,
    status: Status = "ok",
    reason: str | None = None,
    **fields: Any,
) -> Measurement:
    """Return one case; without `spread` it has one block, without `seconds` no number at all."""
    dims = {"n": 1024} if sizes is None else sizes
    size = name or ",".join(f"{dim}={value}" for dim, value in dims.items())
    if name and "batch" in dims:
        size = f"{name},batch={dims['batch']}"
    place = f"{backend}+{variant}" if variant else backend
    measured: dict[str, Any] = {}
    if seconds is not None:
        block = Block(
            seconds=[seconds] * 4,
            calls_per_sample=8,
            warmup_calls=5,
            first_call_seconds=seconds * 10,
            order=0,
        )
        measured = {
            "seconds": interval(seconds, spread),
            "host_seconds": interval(seconds * 1.1, spread),
            "end_to_end_seconds": interval(seconds * 1.1, spread),
            "blocks": [block] * (1 if spread is None else 6),
            "relative_error": 3.1e-7,
            "verified": "full",
        }
    return Measurement(
        id=f"{workload}/{size}/{phase}/{dtype}/{place}",
        suite=suite or workload,
        workload=workload,
        workload_version=1,
        size=size,
        sizes=dims,
        batch=dims.get("batch"),
        phase=phase,
        dtype=dtype,
        backend=backend,
        variant=variant,
        threads=threads,
        status=status,
        reason=reason,
        **{"device": "cpu", **measured, **fields},
    )


def matmul(
    n: int, backend: str, gigaflops: float, *, dtype: str = "float32", **fields: Any
) -> Measurement:
    """Return a square matmul that runs at `gigaflops`."""
    item = 8 if dtype == "float64" else 4
    return measurement(
        "matmul",
        backend,
        2 * n**3 / (gigaflops * 1e9),
        sizes={"n": n},
        dtype=dtype,
        **{"flops": 2 * n**3, "bytes_moved": 3 * n * n * item, **fields},
    )


def layer(
    name: str,
    backend: str = "numpy",
    seconds: float | None = 1e-3,
    *,
    count: int = 1,
    of: int = 4,
    network: str = "tiny",
    batch: int | None = 8,
    **fields: Any,
) -> Measurement:
    """Return a convolution of which `network` has `count` among its `of` layers."""
    sizes = {"kernel": 3} if batch is None else {"batch": batch, "kernel": 3}
    case: dict[str, Any] = {
        "phase": "forward",
        "suite": "convolution",
        "flops": 10**6,
        "bytes_moved": 10**5,
        "networks": {network: Layers(count=count, of=of)},
        **fields,
    }
    return measurement("conv2d", backend, seconds, name=f"{network}.{name}", sizes=sizes, **case)


def run(
    *measurements: Measurement,
    label: str = "build box",
    preset: str = "standard",
    blocks: int = 6,
    machine: dict[str, Any] | None = None,
    remarks: list[str] | None = None,
    interrupted: str | None = None,
    limits: Sequence[LimitLine] = (),
) -> Run:
    """Return a run of `measurements` that ended well, unless `interrupted` says otherwise."""
    counts: dict[str, int] = {}
    for m in measurements:
        counts[m.status] = counts.get(m.status, 0) + 1
    return Run(
        RunLine(
            schema=1,
            id=f"run-{label}",
            label=label,
            started="2026-11-20T14:45:00Z",
            bench_version="0.1.0",
            command=["bench", "run"],
            settings={"preset": preset, "blocks": blocks, "threads": 2, "seed": 0},
            machine=MACHINE if machine is None else machine,
        ),
        list(measurements),
        limits=list(limits),
        end=EndLine(finished="2026-11-20T14:55:00Z", counts=counts, interrupted=interrupted),
        remarks=remarks,
    )


def small_run(**fields: Any) -> Run:
    """Return a run with every kind of row that a reader meets."""
    return run(
        matmul(1024, "torch-cpu", 302.0),
        matmul(64, "numpy", 12.0, flags=["launch_bound"]),
        matmul(64, "torch-cpu", 8.0, spread=None),
        matmul(1024, "numpy", 175.0),
        measurement(
            sizes={"n": 2048},
            status="wrong",
            reason="relative error 0.3, limit 1e-05",
            seconds=None,
            relative_error=0.3,
        ),
        matmul(2048, "torch-cpu", 310.0),
        measurement(
            backend="cupy",
            seconds=None,
            status="skipped",
            reason="not installed: pip install cupy-cuda12x",
        ),
        measurement(
            "batch_norm",
            "torch-cpu",
            2e-4,
            suite="layers",
            phase="forward",
            name="resnet50.3",
            sizes={"batch": 8, "channels": 256},
            bytes_moved=51_380_224,
        ),
        **fields,
    )


def realistic_run(label: str = "AMD EPYC 7763") -> Run:
    """Return a sweep over square sizes and named GEMMs as two CPU backends would measure them."""
    cases = []
    peaks = {("numpy", "float32"): 260.0, ("torch-cpu", "float32"): 285.0}
    peaks |= {("numpy", "float64"): 128.0, ("torch-cpu", "float64"): 137.0}
    for (backend, dtype), peak in peaks.items():
        half = 60 if backend == "numpy" else 140
        for power in range(6, 14):
            n = 2**power
            if dtype == "float64" and n > 4096:
                continue
            if (backend, n) == ("numpy", 8192):
                cases.append(
                    measurement(
                        sizes={"n": n}, seconds=None, status="timed_out", reason="killed after 60 s"
                    )
                )
                continue
            rate = peak * n**1.6 / (n**1.6 + half**1.6)
            cases.append(matmul(n, backend, rate, dtype=dtype, spread=0.25 if n < 200 else 0.03))
    named = {
        "bert_base.projection": (512, 768, 768),
        "bert_base.feed_forward": (512, 3072, 768),
        "gpt2.head": (1024, 50257, 768),
        "vgg16.fc6": (8, 4096, 25088),
        "llama_7b.decode": (1, 4096, 4096),
    }
    for backend, share in (("numpy", 0.8), ("torch-cpu", 0.95), ("torch-cpu+compiled", 0.97)):
        library, _, variant = backend.partition("+")
        for name, (m, n, k) in named.items():
            rate = 260e9 * share * m / (m + 60)
            cases.append(
                measurement(
                    "matmul",
                    library,
                    2 * m * n * k / rate,
                    variant=variant or None,
                    name=name,
                    sizes={"m": m, "n": n, "k": k},
                    spread=0.05,
                    flops=2 * m * n * k,
                    bytes_moved=4 * (m * k + k * n + m * n),
                )
            )
    skipped = [
        measurement(
            backend="cupy",
            seconds=None,
            sizes={"n": 2**power},
            status="skipped",
            reason="not installed: pip install cupy-cuda12x",
        )
        for power in range(6, 14)
    ]
    return run(*cases, *skipped, label=label)


def network_run(**fields: Any) -> Run:
    """Return a run of a network of four layers, two of them alike, which CuPy has in part."""
    missing: dict[str, Any] = {"status": "out_of_memory", "reason": "needs 99 GiB"}
    return run(
        layer("1", "numpy", 0.010, count=1),
        layer("2", "numpy", 0.020, count=2),
        layer("3", "numpy", 0.030, count=1),
        layer("1", "torch-cpu", 0.005, count=1),
        layer("2", "torch-cpu", 0.010, count=2),
        layer("3", "torch-cpu", 0.015, count=1),
        layer("1", "cupy", 0.001, count=1),
        layer("2", "cupy", 0.002, count=2),
        layer("3", "cupy", None, count=1, **missing),
        **fields,
    )


GPU_MACHINE: dict[str, Any] = {**MACHINE, "gpus": [{"name": "Synthetic GPU"}]}


def gpu_matmul(
    n: int, backend: str, *, dtype: str = "float32", spread: float | None = 0.02, **fields: Any
) -> Measurement:
    """Return a square matmul whose time is a launch and the work; a GPU adds its transfers.

    Invented numbers, of the order of a fast GPU beside 16 cores.
    """
    launch, rate = {
        "numpy": (2e-6, 1.0e12),
        "torch-cpu": (6e-6, 1.2e12),
        "cupy": (20e-6, 45e12),
        "torch-cuda": (10e-6, 50e12),
    }[backend]
    if dtype == "tf32":
        rate *= 6
    seconds = launch + 2 * n**3 / rate
    case: dict[str, Any] = {
        "sizes": {"n": n},
        "dtype": dtype,
        "spread": spread,
        "flops": 2 * n**3,
        "bytes_moved": 12 * n * n,
        "input_digest": f"digest of {n}",
        "host_seconds": interval(seconds * 1.05, spread),
    }
    if backend in ("cupy", "torch-cuda"):
        case["device"] = "gpu"
        case["device_seconds"] = interval(2 * n**3 / rate + 2e-6, spread)
        copies = 3 * 10e-6 + 12 * n * n / 25e9
        case["end_to_end_seconds"] = interval(seconds * 1.05 + copies, spread)
    else:
        case["end_to_end_seconds"] = case["host_seconds"]
    return measurement("matmul", backend, seconds, **{**case, **fields})


def gpu_run(*more: Measurement, spread: float | None = 0.02, **fields: Any) -> Run:
    """Return a sweep from n = 64 to 8192 on both CPU and both GPU backends, then `more`."""
    sweep = [
        gpu_matmul(2**power, backend, spread=spread)
        for power in range(6, 14)
        for backend in ("numpy", "torch-cpu", "cupy", "torch-cuda")
    ]
    return run(*sweep, *more, **{"machine": GPU_MACHINE, **fields})


BATCHES = [2**power for power in range(13)]


def batch_sweep(
    workload: str = "lenet5",
    backend: str = "torch-cpu",
    *,
    launch: float = 1e-3,
    sample: float = 1e-4,
    batches: Sequence[int] = BATCHES,
    phase: str = "training_step",
    name: str | None = "mnist",
    failing: int | None = None,
    sample_bytes: int | None = 2**20,
    spread: float | None = 0.02,
    **fields: Any,
) -> list[Measurement]:
    """Return the cases of a sweep whose call takes `launch + batch * sample` seconds.

    From the batch `failing` on memory is too small. A GPU also copies each sample in and out.
    """
    found = []
    for batch in batches:
        case: dict[str, Any] = {"suite": "batch-sweep", "name": name, "phase": phase, **fields}
        case |= {"sizes": {"batch": batch}, "spread": spread}
        if backend in ("cupy", "torch-cuda"):
            case["device"] = "gpu"
        if failing is not None and batch >= failing:
            end: dict[str, Any] = {"status": "out_of_memory", "reason": "needs 99 GiB"}
            if batch > failing:
                end = {"status": "skipped", "reason": f"memory ended at batch {failing}"}
            found.append(measurement(workload, backend, None, **{**case, **end}))
            continue
        seconds = launch + batch * sample
        if "device" in case:
            moved = interval(seconds * 1.1 + launch + batch * 5e-7, spread)
            case.setdefault("end_to_end_seconds", moved)
        if sample_bytes is not None:
            case["peak_bytes"] = 2**27 + batch * sample_bytes
        found.append(measurement(workload, backend, seconds, **case))
    return found


def limit(
    place: str = "torch-cpu",
    *,
    largest: int | None = 4113,
    failing: int | None = 4114,
    work: str = "lenet5/mnist/training_step",
    reason: str = "needs 99 GiB, 64 GiB are free",
) -> LimitLine:
    """Return where the sweep of `batch_sweep` at a place ends."""
    sweep = f"{work}/float32/{place}"
    return LimitLine(
        suite="batch-sweep",
        sweep=sweep,
        largest_batch=largest,
        failing_batch=failing,
        reason=reason,
    )


def batch_run(spread: float | None = 0.02, **fields: Any) -> Run:
    """Return training steps of a network on two CPU backends and a GPU, which memory ends."""
    return run(
        *batch_sweep(backend="numpy", launch=2e-4, sample=4e-4, failing=1024, spread=spread),
        *batch_sweep(backend="torch-cpu", launch=6e-4, sample=8e-5, spread=spread),
        *batch_sweep(backend="torch-cuda", launch=3e-3, sample=1e-6, failing=4096, spread=spread),
        **{
            "machine": GPU_MACHINE,
            "limits": [
                limit("numpy", largest=777, failing=778),
                limit("torch-cpu", largest=4096, failing=None, reason="a call takes 0.3 s"),
                limit("torch-cuda", largest=2100, failing=2101),
            ],
            **fields,
        },
    )


def served(
    backend: str = "torch-cpu",
    p50: float = 1e-3,
    *,
    batch: int = 1,
    p99: float | None = None,
    requests: int = 12_000,
    concurrency: int = 1,
    rate: float | None = None,
    spread: float | None = 0.05,
    way: str | None = None,
    **fields: Any,
) -> Measurement:
    """Return LeNet as a service: `p99` is 1.5 times `p50` unless it is given."""
    p99 = 1.5 * p50 if p99 is None else p99
    loads = [
        way,
        f"threads={fields['threads']}" if fields.get("threads", 2) != 2 else None,
        f"concurrency={concurrency}" if concurrency > 1 else None,
        f"rate={rate:g}" if rate is not None else None,
    ]
    told = Latency(
        requests=requests,
        p50=interval(p50, spread),
        p90=interval((p50 + p99) / 2, spread),
        p99=interval(p99, spread) if requests >= 100 else None,
        p999=interval(1.2 * p99, spread) if requests >= 10_000 else None,
        jitter=interval(p50 / 10, spread),
        requests_per_second=interval(rate or concurrency / p50, spread),
    )
    block = Block(
        seconds=[p50] * 4,
        calls_per_sample=1,
        warmup_calls=5,
        first_call_seconds=30 * p50,
        order=0,
        request_seconds=[p50] * 60 + [p99] * 40,
        serving_seconds=60 * p50 + 40 * p99,
    )
    return measurement(
        "lenet5",
        backend,
        p50,
        name="mnist",
        sizes={"batch": batch, "classes": 10},
        phase="forward",
        suite="latency",
        variant="+".join(filter(None, loads)) or None,
        spread=spread,
        **{
            "latency": told,
            "concurrency": concurrency,
            "rate": rate,
            "flops": 832_560 * batch,
            "input_digest": f"digest of {batch}",
            "blocks": [block] * (1 if spread is None else 6),
            **fields,
        },
    )


def hostile_run() -> Run:
    """Return a run whose file says `HOSTILE` wherever it can say what it likes."""
    machine = {"cpu": {"model": HOSTILE}, "gpus": [{"name": HOSTILE}]}
    bad = measurement(HOSTILE, seconds=None, status="failed", reason=HOSTILE, suite=HOSTILE)
    ours = matmul(64, "numpy", 10.0, variant=HOSTILE, flags=[HOSTILE], verified=HOSTILE)
    part, whole = layer("1", network=HOSTILE), layer("2", network=f"{HOSTILE}2", of=1)
    cases = [bad, ours, matmul(128, "numpy", 10.0, variant=HOSTILE), part, whole]
    return run(*cases, label=HOSTILE, machine=machine, remarks=[HOSTILE], interrupted=HOSTILE)
