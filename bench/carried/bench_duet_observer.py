"""A plugin that bench carries into a project's own pytest: what ran, and what disturbed it.

It needs nothing but pytest, and changes neither the tests nor what they report. Between the rounds
of pytest-benchmark it times a fixed piece of work, the canary, and waits a little while another
machine slows the core. The environment names the file that it writes, the file of bench
that reads the machine's counters, and how long the canary takes where nothing disturbs it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

FIXTURES = {"benchmark", "benchmark_weave"}
LONGEST_REASON = 500
CANARY_STEPS = 2000
SLOW = 1.3  # times what the canary usually takes: worth waiting for a better moment
LOOK_SECONDS = 0.0005  # a canary is so long as good as new: rounds may be shorter
clock = time.perf_counter  # tests may put another one in its place
collected: list[str] = []
tests: dict[str, dict[str, Any]] = {}
roots: list[str] = []
errors: dict[str, str] = {}


def load_counters() -> Any:
    """Return bench's module of counters; None on a Python that is too old for it."""
    path = os.environ["BENCH_DUET_COUNTERS"]
    try:
        spec = importlib.util.spec_from_file_location("_bench_interference", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        module.Counters.read()
    except Exception:
        return None
    return module


def canary() -> float:
    """Return how many seconds a fixed piece of work takes, after a little of it as a warm-up."""
    for steps in (CANARY_STEPS // 10, CANARY_STEPS):
        begin = clock()
        total = 0
        for number in range(steps):
            total += number
    return clock() - begin


class Watch:
    """Reads the canary around every round, and waits for quiet while its patience lasts."""

    def __init__(self, usual: float | None, patience: float) -> None:
        self.usual = usual
        self.patience = patience
        self.before = 0.0
        self.looked = 0.0
        self.readings: list[float] = []

    def begin(self) -> list[float]:
        """Begin a test; return where its readings will be."""
        self.readings = []
        self._wait(canary())
        return self.readings

    def round(self) -> None:
        """Note the canary of the round that just ended: the mean of before and after."""
        if clock() - self.looked < LOOK_SECONDS:
            self.readings.append(self.before)
            return
        after = canary()
        self.readings.append((self.before + after) / 2)
        self._wait(after)

    def _wait(self, reading: float) -> None:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        tried = 0
        while self.usual and reading > SLOW * self.usual and self.patience > 0:
            begin = clock()
            with contextlib.suppress(OSError):
                # Another core may be quiet. Once there, this thread may go anywhere again.
                if cores:
                    os.sched_setaffinity(0, {cores[tried % len(cores)]})
                    os.sched_setaffinity(0, cores)
            reading = min(canary(), canary())
            tried += 1
            if tried % max(1, len(cores)) == 0:
                time.sleep(0.002)
            self.patience -= clock() - begin
        self.before = reading
        self.looked = clock()


def watch_rounds() -> Watch | None:
    """Have pytest-benchmark read the canary after every round; None where it lacks the place."""
    try:
        stats: Any = importlib.import_module("pytest_benchmark.stats").Stats
        update = stats.update
    except (ImportError, AttributeError):
        return None
    usual = os.environ.get("BENCH_DUET_CANARY")
    watch = Watch(float(usual) if usual else None, float(os.environ.get("BENCH_DUET_PATIENCE", 0)))

    def update_and_look(self: Any, duration: float) -> None:
        update(self, duration)
        watch.round()

    stats.update = update_and_look
    return watch


counters = load_counters()
watch = watch_rounds()


def first_words(text: object) -> str:
    """Return the line of a report that says what was wrong."""
    lines = [line for line in str(text).strip().splitlines() if line.strip()]
    said = [line[1:].strip() for line in lines if line.startswith("E ")]
    return (said or lines[-1:] or ["it said nothing"])[0][:LONGEST_REASON]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note which tests use pytest-benchmark, and the folder that their names start from."""
    roots.append(str(config.rootpath))
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            collected.append(item.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note which files cannot be collected, and why."""
    if report.failed:
        errors[report.nodeid] = first_words(report.longrepr)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Look at the machine's counters around each test."""
    if watch is not None:
        tests.setdefault(item.nodeid, {})["canary"] = watch.begin()
    before = counters.Counters.read() if counters else None
    yield
    if before is not None:
        seen = counters.disturbances(before, counters.Counters.read(), os.cpu_count() or 1)
        tests.setdefault(item.nodeid, {})["disturbances"] = seen


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how each test ended; a fault in its setup or teardown counts, too."""
    test = tests.setdefault(report.nodeid, {})
    if report.when != "call" and report.passed:
        return
    if test.get("outcome", "passed") == "passed":
        test["outcome"] = report.outcome
        if not report.passed:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            test["reason"] = first_words(reason)


def pytest_unconfigure() -> None:
    """Write it down, with the files of modules that come from outside the environment."""
    inside = [Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(__file__).parent]
    places = {Path(str(getattr(m, "__file__", None) or ".")) for m in list(sys.modules.values())}
    outside = [
        str(path.resolve())
        for path in places
        if path.suffix == ".py" and not any(path.resolve().is_relative_to(p) for p in inside)
    ]
    found = {
        "root": roots[-1] if roots else None,
        "collected": collected,
        "tests": tests,
        "errors": errors,
        "modules": sorted(outside),
    }
    Path(os.environ["BENCH_DUET_REPORT"]).write_text(json.dumps(found), encoding="utf-8")
