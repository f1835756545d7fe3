"""The plugin that a duet carries into a project's pytest: when it waits, and what it notes."""

import importlib.util
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.stats import Stats

import bench

PLACE = Path(bench.__file__).parent / "carried" / "bench_duet_observer.py"


@pytest.fixture
def observer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return the plugin, whose canary reads what `readings` holds; pytest-benchmark stays ours."""
    monkeypatch.setenv("BENCH_DUET_COUNTERS", str(tmp_path / "nothing"))
    monkeypatch.setattr(Stats, "update", Stats.update)
    spec = importlib.util.spec_from_file_location("observer", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reading(module: Any, monkeypatch: pytest.MonkeyPatch, values: Sequence[float]) -> list[float]:
    """Have the canary read these values, then the last one; each takes a second."""
    left, now = list(values), [0.0]

    def canary() -> float:
        now[0] += 1.0
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "canary", canary)
    monkeypatch.setattr(module, "clock", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)
    return left


def test_a_round_has_the_mean_of_the_canaries_around_it(
    observer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading(observer, monkeypatch, [1.0, 1.2, 1.0, 3.0])
    watch = observer.Watch(None, 100.0)
    seen = watch.begin()
    for _ in range(3):
        watch.round()
    assert seen == pytest.approx([1.1, 1.1, 2.0])


def test_it_waits_for_quiet_between_rounds_while_its_patience_lasts(
    observer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Slow before the first round, until the second pair of looks; then a slow round.
    left = reading(observer, monkeypatch, [1.8, 1.8, 1.8, 1.0, 1.1, 1.0, 1.8])
    watch = observer.Watch(1.0, 10.0)
    seen = watch.begin()
    assert left == [1.0, 1.8], "it went on before it was quiet"
    watch.round()
    assert seen == pytest.approx([1.0])
    watch.round()
    assert watch.patience <= 0, "it waits for ever"
    assert seen[1] == pytest.approx(1.4)


def test_a_thread_that_looked_for_a_quiet_core_may_go_anywhere_again(
    observer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no affinity")
    before = os.sched_getaffinity(0)
    reading(observer, monkeypatch, [1.8])
    observer.Watch(1.0, 5.0).begin()
    assert os.sched_getaffinity(0) == before


def test_without_pytest_benchmarks_place_for_it_there_is_no_canary(
    observer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Stats, "update")
    assert observer.watch_rounds() is None


def test_rounds_shorter_than_a_look_share_one(
    observer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading(observer, monkeypatch, [1.0, 1.1])
    monkeypatch.setattr(observer, "LOOK_SECONDS", 0.5)
    watch = observer.Watch(None, 0.0)
    seen = watch.begin()
    for _ in range(1000):
        watch.round()
    assert seen == [1.0] * 1000


def test_a_test_may_stop_the_clock(observer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    assert observer.canary() > 0


def test_the_canary_takes_some_time(observer: Any) -> None:
    begin = time.perf_counter()
    assert 0 < observer.canary() < time.perf_counter() - begin
