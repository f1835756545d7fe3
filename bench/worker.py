"""The process in which one backend measures: JSON lines in, JSON lines out.

Started by its path, never by its name, so that the worker is the very code of the parent that
starts it, whatever Python environment it runs in and wherever the user stands. Only the standard
library and the measured library are imported here.
"""

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if "bench" not in sys.modules and __name__ == "__main__":
    _here = Path(__file__).resolve().parent
    _spec = importlib.util.spec_from_file_location(
        "bench", _here / "__init__.py", submodule_search_locations=[str(_here)]
    )
    assert _spec is not None
    assert _spec.loader is not None
    _package = importlib.util.module_from_spec(_spec)
    sys.modules["bench"] = _package
    _spec.loader.exec_module(_package)

from bench import catalog
from bench.backends import backends
from bench.backends.base import Backend
from bench.errors import BackendAbsent, CaseError
from bench.measuring import memory, plausibility
from bench.measuring.interference import rest
from bench.measuring.measure import Measuring, Order, failure
from bench.measuring.reference import draw
from bench.measuring.trial import try_once
from bench.measuring.work import Work
from bench.own_model.inspection import inspect
from bench.own_model.spec import ModelSpec
from bench.own_model.workload import model_workload

if TYPE_CHECKING:
    from bench.workload import Call, Prepare, Workload

PR_SET_PDEATHSIG = 1


class Worker:
    """Answers the parent's messages with one backend."""

    def __init__(self) -> None:
        self.backend: Backend | None = None
        self.workloads: dict[str, Workload] = {}
        self.failures: list[str] = []
        self.begun: dict[str, Measuring] = {}
        self.canary: Call | None = None

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Carry out one message; an error becomes a status and a reason."""
        try:
            return {"ok": getattr(self, f"do_{message.pop('do')}")(**message)}
        except BackendAbsent as absent:
            return {"absent": {"reason": absent.reason, "remedy": absent.remedy}}
        except Exception as error:
            known = failure(self.backend, error)
            self._end_if_lost(known.reason)
            return {"error": {"status": known.status, "reason": known.reason}}

    def _end_if_lost(self, reason: str) -> None:
        """End the process where an error has left a GPU's context unusable: a new one has its own.

        After an illegal access to memory, for one, every later call fails.
        """
        if self.backend is None:
            return
        try:
            self.backend.drain()
        except Exception:
            print(reason, file=sys.stderr, flush=True)
            os._exit(1)

    def do_open(
        self, backend: str, threads: int, setup: str | None, memory_limit: int | None
    ) -> dict[str, Any]:
        """Open a backend and return what it says of itself."""
        chosen = backends()[backend]()
        if chosen.device == "cpu" and memory_limit is not None:
            memory.limit_to(memory_limit)
        chosen.open(threads, setup)
        self.backend = chosen
        description = chosen.describe()
        gc.collect()
        gc.freeze()  # the library's own objects need not be looked at again
        return description

    def do_load(self, kernels: list[str], model: dict[str, Any] | None = None) -> None:
        """Load the workloads: those of the user's folders and his own model, too."""
        self.workloads = catalog.workloads(tuple(kernels), self.failures)
        if model is not None and self.backend is not None:
            spec = ModelSpec.parse(model["model"], model["inputs"])
            torch, seed = self.backend.namespace, model["seed"]
            self.workloads[spec.name] = model_workload(spec, model["facts"], torch, seed)

    def do_inspect(self, model: str, inputs: list[str], seed: int) -> dict[str, Any]:
        """Look at the user's model, before anything is measured."""
        assert self.backend is not None
        return inspect(self.backend.namespace, ModelSpec.parse(model, inputs), seed)

    def do_draw(
        self, workload: str, dims: dict[str, int], phase: str, dtype: str, seed: int, folder: str
    ) -> dict[str, Any]:
        """Draw inputs and compute the reference."""
        chosen = self._workload(workload)
        assert self.backend is not None
        library = self.backend.namespace
        numpy, torch = library, None
        if self.backend.library == "torch":
            numpy, torch = importlib.import_module("numpy"), library
        drawn = draw(numpy, chosen, dims, phase, dtype, seed, Path(folder), torch)
        return drawn.as_dict()

    def do_try(
        self, workload: str, phase: str, way: str | None, work: dict[str, Any], patience: float
    ) -> dict[str, Any]:
        """Call once, to see whether it fits."""
        assert self.backend is not None
        prepare = self._implementation(workload, phase, way)
        return try_once(self.backend, prepare, Work(**work), patience)

    def _workload(self, name: str) -> "Workload":
        if name not in self.workloads:
            why = "; ".join(self.failures) or "its file is gone"
            raise CaseError("failed", f"{name} does not load: {why}")
        return self.workloads[name]

    def _implementation(self, workload: str, phase: str, way: str | None) -> "Prepare":
        assert self.backend is not None
        parts = self._workload(workload).phases[phase]
        prepare = parts.implementation(self.backend.name, way)
        if prepare is None:
            raise CaseError("skipped", f"{workload} has no version for {self.backend.name}")
        return prepare

    def do_begin(
        self, case: str, workload: str, phase: str, way: str | None, order: dict[str, Any]
    ) -> dict[str, Any]:
        """Verify a case and warm it up."""
        assert self.backend is not None
        prepare = self._implementation(workload, phase, way)
        if self.canary is None:
            self.canary = plausibility.canary_product(self.backend)
        self.begun[case] = Measuring(self.backend, prepare, Order.from_dict(order), self.canary)
        return self.begun[case].begun()

    def do_visit(self, case: str) -> dict[str, Any]:
        """Take samples of a case."""
        return self.begun[case].visit()

    def do_finish(self, case: str) -> dict[str, Any]:
        """Verify a case again and let it go."""
        return self.begun.pop(case).finish()

    def do_peaks(self, dtypes: list[str]) -> dict[str, float]:
        """Measure the device's peaks."""
        assert self.backend is not None
        return plausibility.measure_peaks(self.backend, dtypes, time.perf_counter)

    def do_canary(self) -> dict[str, float]:
        """Read the canary."""
        assert self.backend is not None
        return plausibility.read_canary(self.backend, time.perf_counter)

    def settle(self, done: str) -> None:
        """Hold no more than is begun and do nothing until the next message.

        Between visits the collector is left alone: it would take longer than the visit.
        """
        if done != "visit":
            gc.collect()
            if self.backend is not None:
                with contextlib.suppress(Exception):
                    self.backend.free()
            memory.release()
        rest()


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends; elsewhere the end of input does."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # it ended before the request was made


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer until the input ends."""
    worker = Worker()
    for line in requests:
        message = json.loads(line)
        done = message["do"]
        reply = worker.answer(message)
        worker.settle(done)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    """Keep the pipe to the parent apart from stdout, because models print."""
    die_with_parent(int(sys.argv[1]))
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    serve(requests, replies)


if __name__ == "__main__":
    main()
