"""A toy project with its own benchmarks and two installed versions, for the evidence of a duet.

`make` builds environments with pip, as a CI job does. Functions are slowed by counted work, never
by waiting: what a neighbour takes from one version it takes from the other.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CASES = 16
ITERATIONS = (2_000, 8_000, 20_000, 50_000)

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "toy"
version = "1.0"

[tool.setuptools]
py-modules = ["toy"]
"""

TESTS = f"""
import pytest
import toy


@pytest.mark.parametrize("case", range({CASES}))
def test_function(benchmark, case):
    benchmark(getattr(toy, f"function_{{case}}"))
"""


def source(slower: Mapping[int, float]) -> str:
    """Return the toy's source, with some functions slower by a share (faster below 0)."""
    functions = []
    for case in range(CASES):
        count = round(ITERATIONS[case % len(ITERATIONS)] * (1 + slower.get(case, 0.0)))
        functions.append(
            f"def function_{case}():\n"
            f"    total = {case}\n"
            f"    for i in range({count}):\n"
            f"        total += i\n"
            f"    return total\n"
        )
    return "\n\n".join(functions)


def make_project(folder: Path, slower: Mapping[int, float]) -> None:
    """Write a version of the project; its tests are the same in every version."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "toy.py").write_text(source(slower))
    (folder / "perf").mkdir(exist_ok=True)
    (folder / "perf" / "test_functions.py").write_text(TESTS)


def make_environment(folder: Path) -> str:
    """Make an environment with what the toy's tests need; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))
    constraints = Path(__file__).parents[1] / "constraints.txt"
    packages = ["pytest", "pytest-benchmark", "setuptools"]
    _pip(python, "-c", str(constraints), *packages)
    return python


def install(python: str, project: Path) -> None:
    """Install a version of the project, as a CI job does."""
    _pip(python, "--force-reinstall", "--no-deps", "--no-build-isolation", str(project))


def _pip(python: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-cache-dir"]
    subprocess.run([*command, *arguments], check=True)
