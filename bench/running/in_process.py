"""A case in the process of its caller, for tools that time by themselves, such as pytest-benchmark.

It is verified as in a worker; what only a process of its own can give is missing: threads and
allocator set before the first import, no other library beside it, a fresh layout of memory.
"""

import random
from collections.abc import Mapping
from typing import Any

from bench.backends import backends
from bench.backends.base import Backend
from bench.errors import CaseError
from bench.measuring.measure import failure
from bench.measuring.verification import Reference, relative_error, require_right
from bench.measuring.work import Work
from bench.results.schema import CaseLine
from bench.running.inputs import Inputs
from bench.running.plan import RunRequest
from bench.suites import Suite
from bench.workload import Call, Workload


class InProcess:
    """Opens backends here, each once; inputs and references come from a process beside it."""

    def __init__(self, request: RunRequest, workloads: Mapping[str, Workload], cores: int) -> None:
        self.workloads = workloads
        self._inputs = Inputs(request, workloads, cores, random.Random(request.seed))
        self._opened: dict[str, Backend] = {}

    def open(self, case: CaseLine) -> tuple[Call, float]:
        """Return what is timed, verified by one call, and the relative error of its output.

        Raises:
            CaseError: It is wrong, fails, or does not fit into memory.
        """
        backend: Backend | None = None
        try:
            backend = self._backend(case)
            return self._verified(backend, case)
        except Exception as error:
            raise failure(backend, error) from error
        finally:
            self._inputs.release(case)

    def free(self, case: CaseLine) -> None:
        """Give pooled memory back, so that the next library has it."""
        if case.backend in self._opened:
            self._opened[case.backend].free()

    def close(self) -> None:
        """End the process that draws, and remove its files."""
        self._inputs.close()

    def _backend(self, case: CaseLine) -> Backend:
        if case.backend not in self._opened:
            import threadpoolctl

            backend = backends()[case.backend]()
            backend.open(case.threads)
            # Its library may have been imported long ago, with as many threads as it likes.
            threadpoolctl.threadpool_limits(case.threads)
            self._opened[case.backend] = backend
        return self._opened[case.backend]

    def _verified(self, backend: Backend, case: CaseLine) -> tuple[Call, float]:
        workload = self.workloads[case.workload]
        phase = workload.phases[case.phase]
        prepare = phase.implementation(case.backend, case.way)
        if prepare is None:
            raise CaseError("skipped", f"{case.workload} has no version for {case.backend}")
        drawn: dict[str, Any] = self._inputs.draw(case, None)
        work = Work(
            dims=case.sizes,
            dtype=case.dtype,
            inputs=drawn["inputs"],
            batch=case.batch if workload.parameters else None,
            drawn_batch=case.drawn_batch,
            parameters=workload.parameters(case.sizes) if workload.parameters else 0,
        )
        backend.use(case.dtype)
        inputs = [backend.to_device(array) for array in work.read(work.inputs)]
        call = prepare(backend.namespace, case.sizes, *inputs)
        output = call()
        backend.synchronize()
        reference = Reference(**drawn["reference"])
        error = relative_error(backend, output, reference, work.repeats)
        require_right(error, case.dtype, reference.limit(case.dtype, phase.error_factor))
        work.require_batch(call, output)
        return call, error


def why_not_here(case: CaseLine, suite: Suite) -> str | None:
    """Say why a case cannot be timed in the process of its caller; None if it can."""
    if case.skipped is not None:
        return case.skipped
    if suite.serves:
        return "requests are served by processes of their own: bench run --suite latency"
    if suite.finds_limit:
        return "it looks for the end of the memory, and of the process: bench run"
    setup = backends()[case.backend].setup_of(case.dtype, case.way)
    if setup is not None:
        return f"needs a process that is opened with {setup}: bench run"
    return None
