"""Finds the content: workloads in `kernels/`, reports in `reports/`, suites in `bench/suites/`.

Content is discovered, never named. A few lines of standard import machinery mount each folder as
a package inside `bench`, in a checkout and in the wheel alike, so that nothing called `kernels`
reaches site-packages, where it would overwrite Hugging Face's package of that name.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from bench.errors import RequestError

if TYPE_CHECKING:
    from bench.report import ComparisonReport, HistoryReport, Report
    from bench.suites import Suite
    from bench.workload import Workload

PACKAGE: Final = Path(__file__).parent


def mount(folder: Path, name: str) -> None:
    """Make the Python files of `folder` importable as the package `name`; twice does no harm."""
    if name in sys.modules:
        return
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def content_folder(name: str) -> Path:
    """Return `kernels` or `reports`: inside the package in a wheel, beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def mount_content() -> None:
    """Mount `kernels/` and `reports/` under `bench`."""
    for name in ("kernels", "reports"):
        mount(content_folder(name), f"bench.{name}")


def modules(folder: Path, name: str) -> Iterator[ModuleType]:
    """Import every file of the mounted `folder`, subfolders included, in the order of paths."""
    for path in sorted(folder.rglob("[!_]*.py")):
        yield _module(path, folder, name)


def _module(path: Path, folder: Path, name: str) -> ModuleType:
    parts = path.relative_to(folder).with_suffix("").parts
    for depth in range(1, len(parts)):
        mount(folder.joinpath(*parts[:depth]), ".".join([name, *parts[:depth]]))
    return importlib.import_module(".".join([name, *parts]))


def workloads(
    user_folders: tuple[str, ...] = (), failures: list[str] | None = None
) -> dict[str, "Workload"]:
    """Return every workload by name: ours, then those of the user's folders (`--kernels`).

    With `failures` a user's file that fails is left out, and what it said is added there.

    Raises:
        RequestError: A folder does not exist, a file of it fails, or a name is taken twice.
    """
    found: dict[str, Workload] = {}
    files = [(module, False) for module in modules(content_folder("kernels"), "bench.kernels")]
    for index, folder in enumerate(user_folders):
        name = f"bench_user_kernels_{index}"
        users = _user_modules(Path(folder).resolve(), name, failures)
        files += [(module, True) for module in users]
    for module, is_users in files:
        workload: Any = getattr(module, "WORKLOAD", None)
        if workload is None:
            continue
        if is_users:
            workload = replace(workload, is_users=True)
        if workload.name in found:
            raise RequestError(
                f"{module.__file__}: a workload called {workload.name!r} exists already;"
                " give it another name"
            )
        found[workload.name] = workload
    return found


def _user_modules(folder: Path, name: str, failures: list[str] | None) -> Iterator[ModuleType]:
    if not folder.is_dir():
        raise RequestError(f"--kernels {folder}: no such folder")
    mount(folder, name)
    for path in sorted(folder.rglob("[!_]*.py")):
        try:
            yield _module(path, folder, name)
        except Exception as error:
            at = error.__traceback__
            while at is not None and at.tb_next is not None:
                at = at.tb_next
            where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else str(folder)
            said = f"{where}: {type(error).__name__}: {error}"
            if failures is None:
                raise RequestError(f"{said}; mend the file") from error
            failures.append(said)


def suites() -> dict[str, "Suite"]:
    """Return every suite by name."""
    folder = PACKAGE / "suites"
    found = (getattr(module, "SUITE", None) for module in modules(folder, "bench.suites"))
    return {suite.name: suite for suite in found if suite is not None}


def reports() -> dict[str, "Report"]:
    """Return every report by name."""
    found = (module.REPORT for module in modules(content_folder("reports"), "bench.reports"))
    return {report.name: report for report in found}


def comparison_reports() -> dict[str, "ComparisonReport"]:
    """Return every form of showing a comparison by name."""
    files = modules(content_folder("reports"), "bench.reports")
    found = (getattr(module, "COMPARISON", None) for module in files)
    return {report.name: report for report in found if report is not None}


def history_reports() -> dict[str, "HistoryReport"]:
    """Return every form of showing a history by name."""
    files = modules(content_folder("reports"), "bench.reports")
    found = (getattr(module, "HISTORY", None) for module in files)
    return {report.name: report for report in found if report is not None}
