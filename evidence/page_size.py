"""How large the page of one full run is, and how long it takes to make.

Without a file, every case of every suite is given invented times of two CPU and two GPU backends.
Targets: below 2 MB, at most 5 s from a fresh process, libraries included.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from bench import catalog
from bench.backends import backends
from bench.results.schema import (
    SCHEMA,
    Block,
    CaseLine,
    EndLine,
    Interval,
    Line,
    Measurement,
    RunLine,
    WorkerLine,
)
from bench.running.plan import RunRequest, make_plan
from bench.running.probe import Probe

MOST_BYTES = 2_000_000
MOST_SECONDS = 5.0
TRIES = 3
BACKENDS = {
    "numpy": (2e-6, 0.8e12, 80e9),
    "torch-cpu": (6e-6, 1.2e12, 90e9),
    "cupy": (20e-6, 45e12, 3.5e12),
    "torch-cuda": (10e-6, 50e12, 3.9e12),
}
"""Seconds of a launch, FLOP/s and bytes per second: invented, of a plausible order."""
LINK = 25e9
"""Bytes per second to the GPU."""


def interval(seconds: float) -> Interval:
    """Return an interval of 3% to both sides."""
    return Interval(median=seconds, low=seconds * 0.97, high=seconds * 1.03, min=seconds * 0.96)


def measured(case: CaseLine) -> Measurement:
    """Give a case the time that the peaks of its backend allow."""
    fields = {
        name: getattr(case, name)
        for name in CaseLine.__struct_fields__
        if name in Measurement.__struct_fields__
    }
    if case.skipped is not None:
        return Measurement(**fields, status="skipped", reason=case.skipped)
    launch, flops, rate = BACKENDS[case.backend]
    moved = case.bytes_moved or 10**6
    seconds = launch + max((case.flops or 0) / flops, moved / rate)
    copies = moved / LINK if case.device == "gpu" else 0.0
    block = Block(
        seconds=[seconds] * 12,
        calls_per_sample=8,
        warmup_calls=5,
        first_call_seconds=seconds * 10,
        order=0,
    )
    return Measurement(
        **fields,
        status="ok",
        seconds=interval(seconds),
        host_seconds=interval(seconds * 1.05),
        device_seconds=interval(seconds) if case.device == "gpu" else None,
        end_to_end_seconds=interval(seconds * 1.05 + copies),
        relative_error=2e-7,
        verified="full",
        blocks=[block] * 3,
    )


def full_run(preset: str, suites: list[str]) -> list[Line]:
    """Return the lines of a run of `suites` on all backends, as a machine with a GPU has it."""
    request = RunRequest(suites=suites, backends=list(BACKENDS), preset=preset)
    probes = {name: Probe(name) for name in backends()}
    cases = make_plan(request, catalog.suites(), catalog.workloads(), probes, cores=16)
    measurements = [measured(case) for case in cases]
    header = RunLine(
        schema=SCHEMA,
        id="synthetic",
        label="synthetic GPU",
        started="2026-11-20T14:45:00Z",
        bench_version="0.1.0",
        command=["bench", "run", "--suite", "all", "--preset", preset],
        settings=request.as_settings(16),
        machine={
            "cpu": {"model": "synthetic CPU", "cores_allowed": 16, "cores_present": 16},
            "gpus": [{"index": 0, "name": "synthetic GPU"}],
        },
    )
    peaks = [
        WorkerLine(
            backend=name,
            threads=16,
            block=0,
            canary=[],
            layout={},
            peaks={"call": call, "float32": flops, "bytes": rate}
            | ({"link_bytes": LINK, "link_call": 1e-5} if backends()[name].device == "gpu" else {}),
        )
        for name, (call, flops, rate) in BACKENDS.items()
    ]
    counts = {"ok": sum(m.status == "ok" for m in measurements)}
    end = EndLine(finished="2026-11-20T15:45:00Z", counts=counts)
    return [header, *peaks, *measurements, end]


def main() -> int:
    """Print cases, bytes and seconds; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a run file; default: a synthetic one")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--suite", action="append", help="default: all")
    parser.add_argument("--keep", type=Path, help="keep the synthetic run and the page in a folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = given.file or folder / "run.jsonl"
        if given.file is None:
            lines = full_run(given.preset, given.suite or ["all"])
            path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        page = folder / "page.html"
        command = [sys.executable, "-m", "bench", "report", str(path), "--as", "page"]
        taken = []
        for _ in range(TRIES):
            start = time.perf_counter()
            subprocess.run([*command, "--output", str(page)], check=True, stdout=subprocess.DEVNULL)
            taken.append(time.perf_counter() - start)
        cases = sum(line.startswith(b'{"kind":"measurement"') for line in path.open("rb"))
        size, seconds = page.stat().st_size, min(taken)
    print(f"{cases} cases: {size / 1e6:.2f} MB (target {MOST_BYTES / 1e6:.0f}),")
    print(f"{seconds:.1f} s, the least of {TRIES} (target {MOST_SECONDS:.0f})")
    return int(size > MOST_BYTES or seconds > MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
