"""The latency suite through the command, from the request to the figure."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.results.reading import read_run
from tests.commands import bench

PLANTED = """
import threading
from bench.workload import Phase, Size, Workload, calling

def answer(xp, x):
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("no such word")
    return x + x

WORKLOAD = Workload(
    name="fragile", summary="s", source="s", suites=("latency",),
    sizes=[Size(dims={"batch": 1, "n": 8}, name="small", preset="quick")],
    inputs=lambda rng, dims: [rng.standard_normal((dims["batch"], dims["n"]))],
    phases={"forward": Phase(array=calling(answer))},
)
"""


@pytest.fixture(scope="module")
def service_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    path = tmp_path_factory.mktemp("latency") / "run.jsonl"
    done = bench(
        *("run", "--suite", "latency", "--preset", "quick", "--only", "lenet5*"),
        *("--concurrency", "1,2", "--rate", "200", "--latency-bound", "20ms"),
        *("--blocks", "2", "--max-seconds", "0.6", "--seed", "1", "--output", path),
    )
    return done, path


def test_a_service_is_measured_from_the_request_to_the_answer(
    service_run: tuple[Any, Path],
) -> None:
    done, path = service_run
    assert done.returncode == 0, done.stderr
    answer, table = done.stdout.split("suite latency", 1)
    assert "lenet5 forward, mnist, float32, 200 arrivals/s, batch 1: " in answer
    assert "within 20 ms at p99: " in answer
    assert "no GPU was measured" in answer
    for text in ("p50", "jitter", "requests/s", "first request", "numpy+concurrency=2+rate=200"):
        assert text in table
    assert "other inference runtimes" in table
    assert read_run(path).header.settings["latency_bound"] == 0.02


def test_the_file_holds_every_request(service_run: tuple[Any, Path]) -> None:
    found = [m for m in read_run(service_run[1]).measurements if m.status == "ok"]
    assert {(m.concurrency, m.rate) for m in found} == {(1, 200.0), (2, 200.0)}
    for m in found:
        assert m.latency is not None
        assert m.latency.requests == sum(len(block.request_seconds) for block in m.blocks)
        # 0.45 s of serving in each of two blocks, at 200 a second.
        assert 60 < m.latency.requests < 400
        assert m.latency.p50 is not None
        assert m.latency.p999 is None
        assert "10,000 are needed" in m.unknown["latency.p999"]
        for block in m.blocks:
            assert block.calls_per_sample == 1
            assert 0.3 < block.serving_seconds < 0.9
            assert sum(block.seconds) < block.serving_seconds
            assert len(block.visits) <= 4


def test_its_figure_is_drawn_from_the_file(service_run: tuple[Any, Path], tmp_path: Path) -> None:
    done = bench(
        *("report", service_run[1], "--as", "plots", "--figure", "latency", "--output", tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "latency.svg").stat().st_size > 1000


def test_a_request_that_raises_in_a_thread_ends_its_case_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(PLANTED)
    path = tmp_path / "run.jsonl"
    done = bench(
        *("run", "--suite", "latency", "--kernels", tmp_path, "--only", "fragile*"),
        *("--backend", "numpy", "--concurrency", "1,3", "--blocks", "1", "--max-seconds", "0.1"),
        *("--output", path),
    )
    assert done.returncode == 1
    found = {m.concurrency: m for m in read_run(path).measurements}
    assert found[1].status == "ok"
    assert (found[3].status, found[3].reason) == (
        "failed",
        "ValueError: no such word (fragile.py:7)",
    )


@pytest.mark.parametrize(
    ("suite", "option", "value", "told"),
    [
        ("latency", "--concurrency", "0", "'0' must be from 1 to 256"),
        ("latency", "--concurrency", "1,x", "'x' is not a whole number"),
        ("latency", "--concurrency", "1000", "'1000' must be from 1 to 256"),
        ("latency", "--rate", "fast", "'fast' is not a number of requests per second"),
        ("latency", "--rate", "50,nan", "'nan' must be from 0.001 to 1,000,000"),
        ("latency", "--rate", "-1", "'-1' must be from 0.001 to 1,000,000"),
        ("latency", "--latency-bound", "20m", "'20m' is no time such as 20ms, 500us or 0.02s"),
        ("latency", "--latency-bound", "0ms", "'0ms' must be from 1us to 3600s"),
        ("matmul", "--concurrency", "2", "--concurrency is about requests to a service: add"),
        ("matmul", "--rate", "50", "--rate is about requests to a service: add --suite latency"),
        ("matmul", "--latency-bound", "20ms", "--latency-bound is about requests to a service"),
    ],
)
def test_a_bad_load_is_one_clear_line(suite: str, option: str, value: str, told: str) -> None:
    done = bench("run", "--suite", suite, option, value, "--dry-run")
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("text", "seconds"), [("20ms", 0.02), ("500us", 5e-4), ("0.02", 0.02)])
def test_a_bound_is_written_in_the_unit_that_suits(text: str, seconds: float) -> None:
    from bench.cli.run import Duration

    assert Duration().convert(text, None, None) == pytest.approx(seconds)


def test_every_load_is_a_case_of_its_own(tmp_path: Path) -> None:
    done = bench(
        *("run", "--suite", "latency", "--preset", "quick", "--only", "lenet5*", "--dry-run"),
        *("--backend", "numpy", "--concurrency", "1,8", "--rate", "0.5,50"),
    )
    ids = [line for line in done.stdout.splitlines() if line.startswith("lenet5/")]
    assert [name.rpartition("/")[2] for name in ids] == [
        *("numpy+rate=0.5", "numpy+rate=50"),
        *("numpy+concurrency=8+rate=0.5", "numpy+concurrency=8+rate=50"),
    ]


def test_a_load_survives_in_the_file_as_numbers(service_run: tuple[Any, Path]) -> None:
    lines = [json.loads(line) for line in service_run[1].read_text().splitlines()]
    assert lines[0]["settings"]["rates"] == [200.0]
    assert lines[0]["settings"]["concurrency"] == [1, 2]
    case = next(line for line in lines if line["kind"] == "case")
    assert (case["rate"], case["concurrency"]) == (200.0, 1)
