"""A plugin that bench carries into a project's own pytest: what ran, and what disturbed it.

It needs nothing but pytest, and changes neither the tests nor what they report. The environment
names the file that it writes and the file of bench that reads the machine's counters.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

FIXTURES = {"benchmark", "benchmark_weave"}
LONGEST_REASON = 500
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


counters = load_counters()


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
