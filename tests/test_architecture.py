"""The structure of the house, kept by a test: imports point down, content is discovered."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import ROOT

WORKER_SIDE = (
    *("worker.py", "workload.py", "catalog.py", "errors.py", "names.py"),
    *("measuring", "backends", "own_model"),
)
LIBRARIES = {"numpy", "torch", "cupy", "scipy", "pandas", "matplotlib"}
REPORTS_MAY = (
    "bench.comparing",
    "bench.errors",
    "bench.names",
    "bench.report",
    "bench.results",
    "bench.text",
    "bench.units",
)


def python_files(*places: str) -> list[Path]:
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    """Yield the absolute names that a file imports; those for type checkers only are left out."""
    tree = ast.parse(path.read_text())
    nodes: list[ast.AST] = list(tree.body) if top_only else list(ast.walk(tree))
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in nodes:
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def forbidden_content(path: Path) -> list[str]:
    return [name for name in imports(path) if name.startswith(("bench.kernels", "bench.reports"))]


def forbidden_in_kernel(path: Path) -> list[str]:
    return [
        name
        for name in imports(path)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not name.startswith("bench.workload")
    ]


@pytest.mark.parametrize("path", python_files("bench"), ids=str)
def test_bench_never_names_a_kernel_or_a_report(path: Path) -> None:
    assert not forbidden_content(path)


@pytest.mark.parametrize("path", python_files("kernels"), ids=str)
def test_a_kernel_imports_only_its_contract_and_its_own_folder(path: Path) -> None:
    assert not forbidden_in_kernel(path)


@pytest.mark.parametrize("path", python_files("reports"), ids=str)
def test_a_report_imports_only_what_lies_below_it(path: Path) -> None:
    ours = [name for name in imports(path) if name.startswith("bench.")]
    assert not [name for name in ours if not name.startswith(REPORTS_MAY)]


@pytest.mark.parametrize(
    "path", python_files(*(f"bench/{place}" for place in WORKER_SIDE)), ids=str
)
def test_what_runs_in_a_worker_needs_the_standard_library_only(path: Path) -> None:
    for name in imports(path, top_only=True):
        top = name.partition(".")[0]
        assert top in sys.stdlib_module_names or top == "bench", name
        if top == "bench" and name.count(".") >= 1:
            place = name.split(".")[1]
            allowed = {entry.removesuffix(".py") for entry in WORKER_SIDE}
            assert place in allowed, name


@pytest.mark.parametrize("path", python_files("bench", "reports"), ids=str)
def test_no_numerical_library_is_imported_at_the_top_of_a_file(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports(path, top_only=True)}
    assert not tops & LIBRARIES


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_each_gpu_library_is_imported_in_one_file(library: str) -> None:
    files = [
        path.relative_to(ROOT)
        for path in python_files("bench", "kernels", "reports")
        if library in {name.partition(".")[0] for name in imports(path)}
    ]
    assert files == [Path("bench/backends") / f"{library}.py"]


def test_the_wheel_carries_every_folder() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(settings["tool"]["setuptools"]["packages"])
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in python_files("bench", "kernels", "reports")
    }
    expected = {f if f.startswith("bench") else f"bench.{f}" for f in folders}
    # A folder that holds only folders still has to be named for its children to be found.
    assert packages == expected | {"bench.kernels"}


def test_content_folders_are_no_packages_of_their_own() -> None:
    assert not list((ROOT / "kernels").rglob("__init__.py"))
    assert not list((ROOT / "reports").rglob("__init__.py"))


def test_these_tests_find_a_planted_violation(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("import numpy\nfrom bench.reports import table\n")
    assert forbidden_content(planted) == ["bench.reports", "bench.reports.table"]
    assert "numpy" in forbidden_in_kernel(planted)
