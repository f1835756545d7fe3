"""`pytest --bench-suite matmul`: the cases of a suite as tests of pytest-benchmark.

PYTEST_DONT_REWRITE: no assertion here is about what is tested.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.errors import CaseError, RequestError
from bench.results.schema import CaseLine
from bench.running.in_process import InProcess, why_not_here
from bench.running.inputs import work_of
from bench.running.plan import RunRequest
from bench.running.session import prepare

NODE = "bench"
"""What the ids of the tests begin with, wherever bench is installed: saved runs are compared by
them."""


class SuiteCases:
    """Adds the cases to what is collected, and holds what they need to run."""

    def __init__(self, config: pytest.Config) -> None:
        """Leave out the project's own tests, unless paths are given."""
        self.request = RunRequest(
            suites=config.getoption("--bench-suite"),
            preset=config.getoption("--bench-preset"),
            only=config.getoption("--bench-only"),
        )
        self.process: InProcess | None = None
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        """Plan the run as `bench run` does it; one backend comes after the other.

        Before other plugins look, so that `-k`, `-m` and `--benchmark-only` hold for them, too.
        """
        try:
            planned = prepare(self.request, None, [])
        except RequestError as error:
            raise pytest.UsageError(f"--bench-suite: {error}") from error
        self.process = InProcess(self.request, planned.workloads, planned.cores)
        order = list(planned.probes)
        # NumPy first: importing PyTorch beside it changes its threads.
        cases = sorted(planned.cases, key=lambda c: (c.device != "cpu", order.index(c.backend)))
        for suite in dict.fromkeys(case.suite for case in cases):
            node = SuiteNode.from_parent(
                session, name=f"{NODE}::{suite}", nodeid=f"{NODE}::{suite}"
            )
            node.cases = [
                self._item(node, case, why_not_here(case, planned.suites[suite]))
                for case in cases
                if case.suite == suite
            ]
            items += node.cases
            session.ihook.pytest_collectreport(
                report=pytest.CollectReport(node.nodeid, "passed", None, [*node.cases])
            )

    def pytest_unconfigure(self) -> None:
        """Remove what was drawn."""
        if self.process is not None:
            self.process.close()

    def _item(self, node: "SuiteNode", case: CaseLine, skipped: str | None) -> pytest.Item:
        item: pytest.Item = CaseItem.from_parent(node, name=case.id, callobj=self._timed(case))
        item.add_marker(pytest.mark.benchmark(group=f"{case.suite}: {work_of(case)}"))
        if skipped is not None:
            item.add_marker(pytest.mark.skip(reason=skipped))
        return item

    def _timed(self, case: CaseLine) -> Callable[[Any], None]:
        def run(device_benchmark: Any) -> None:
            assert self.process is not None
            try:
                call, error = self.process.open(case)
            except CaseError as problem:
                pytest.fail(f"{problem.status}: {problem.reason}", pytrace=False)
            device_benchmark.extra_info.update(
                suite=case.suite,
                case=case.id,
                backend=case.backend,
                dtype=case.dtype,
                threads=case.threads,
                workload_version=case.workload_version,
                relative_error=error,
                flops=case.flops,
            )
            try:
                device_benchmark(call)
            finally:
                del call
                self.process.free(case)

        return run


class SuiteNode(pytest.Collector):
    """A suite, as what its tests belong to."""

    cases: Sequence[pytest.Item] = ()

    def collect(self) -> Sequence[pytest.Item]:
        """Return its tests."""
        return self.cases


class CaseItem(pytest.Function):
    """A case, which lies in no file of the project."""

    def reportinfo(self) -> tuple[Path, int, str]:
        """Tell where it belongs."""
        return Path(NODE), 0, self.name
