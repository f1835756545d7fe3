"""Times `bench compare` over 500 runs of 100 cases, 3 blocks of 12 samples each: at most 3 s.

The runs are synthetic; they are written to a temporary folder as `bench run` writes them, with
case, block and measurement lines. It prints the seconds and the largest memory of the process.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.results.schema import (
    SCHEMA,
    Block,
    BlockLine,
    CaseLine,
    EndLine,
    Interval,
    Measurement,
    RunLine,
)
from bench.results.writing import encode

ALLOWED_SECONDS = 3.0
BLOCKS, SAMPLES = 3, 12
BACKENDS = {"numpy": "cpu", "torch-cpu": "cpu", "cupy": "gpu", "torch-cuda": "gpu"}
SIZES = [64 * step for step in range(1, 26)]


def make_run(path: Path, number: int) -> None:
    """Write a run of 100 cases, as `bench run` does."""
    rng = random.Random(number)
    header = RunLine(
        schema=SCHEMA,
        id=f"{number:032x}",
        label=f"node{number:03}",
        started=f"2026-11-20T{number // 60:02}:{number % 60:02}:00Z",
        bench_version="0.1.0",
        command=["bench", "run", "--suite", "matmul"],
        settings={"preset": "quick", "blocks": BLOCKS},
        machine={
            "cpu": {"model": "Synthetic CPU", "cores_present": 16, "cores_allowed": 16},
            "gpus": [{"name": "Synthetic GPU", "driver": "1.0", "power_limit_watts": 700.0}],
            "packages": {"numpy": "2.4.6", "torch": "2.13.0"},
        },
    )
    cases, blocks, measurements = [], [], []
    for n in SIZES:
        for backend, device in BACKENDS.items():
            case = CaseLine(
                id=f"matmul/n={n}/call/float32/{backend}",
                suite="matmul",
                workload="matmul",
                workload_version=1,
                size=f"n={n}",
                sizes={"n": n},
                phase="call",
                dtype="float32",
                backend=backend,
                threads=16,
                device=device,
                flops=2 * n**3,
                bytes_moved=12 * n * n,
            )
            base = (2e-6 if device == "cpu" else 1e-5) + 2 * n**3 / (
                1e12 if device == "cpu" else 5e13
            )
            own = [_block(rng, base, order) for order in range(BLOCKS)]
            cases.append(case)
            for block, found in enumerate(own):
                fields = {name: getattr(found, name) for name in Block.__struct_fields__}
                blocks.append(
                    BlockLine(
                        **fields,
                        suite=case.suite,
                        case=case.id,
                        block=block,
                        input_digest=f"{n:032x}",
                        verified="full",
                    )
                )
            shared = set(CaseLine.__struct_fields__) & set(Measurement.__struct_fields__)
            measurements.append(
                Measurement(
                    **{name: getattr(case, name) for name in shared},
                    status="ok",
                    input_digest=f"{n:032x}",
                    verified="full",
                    relative_error=3e-7,
                    blocks=own,
                    seconds=_interval(own, "seconds"),
                    host_seconds=_interval(own, "host_seconds"),
                    device_seconds=_interval(own, "device_seconds"),
                    end_to_end_seconds=_interval(own, "end_to_end_seconds"),
                    unknown={"energy_joules": "not asked for: --energy measures it"},
                )
            )
    end = EndLine(finished=header.started, counts={"ok": len(cases)}, wall_seconds=60.0)
    lines = [header, *cases, *blocks, *measurements, end]
    path.write_bytes(b"".join(encode(line) for line in lines))


def _block(rng: random.Random, base: float, order: int) -> Block:
    def samples(factor: float) -> list[float]:
        return [base * factor * rng.lognormvariate(0, 0.02) for _ in range(SAMPLES)]

    return Block(
        seconds=samples(1),
        host_seconds=samples(1.1),
        device_seconds=samples(0.9),
        end_to_end_seconds=samples(2),
        calls_per_sample=8,
        warmup_calls=5,
        first_call_seconds=base * 10,
        order=order,
        relative_error=3e-7,
        visits=[4, 4, 4],
        canary=[1e-3, 1e-3, 1e-3],
    )


def _interval(blocks: list[Block], metric: str) -> Interval:
    middle = statistics.median(value for block in blocks for value in getattr(block, metric))
    return Interval(median=middle, low=middle * 0.98, high=middle * 1.02, min=middle * 0.95)


def main() -> int:
    """Print what it takes; return 1 if that is more than is allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number:04}.jsonl" for number in range(arguments.runs)]
        for number, file in enumerate(files):
            make_run(file, number)
        size = sum(file.stat().st_size for file in files)
        command = [sys.executable, "-m", "bench", "compare", *map(str, files)]
        taken = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            taken.append(time.perf_counter() - start)
            if status:
                print("bench compare failed")
                return 1
    best = statistics.median(taken)
    print(f"{arguments.runs} runs of {len(SIZES) * len(BACKENDS)} cases, {size / 2**20:.0f} MiB")
    print(f"bench compare: {best:.2f} s (median of {len(taken)}), {ALLOWED_SECONDS} s allowed")
    print(f"processor time: {usage.ru_utime + usage.ru_stime:.2f} s (the last one)")
    print(f"largest memory: {usage.ru_maxrss / 1024:.0f} MiB")
    return 1 if best > ALLOWED_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
