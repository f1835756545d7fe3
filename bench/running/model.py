"""The user's own model as the parent sees it: a text, and what a worker has found out about it."""

import random
from collections.abc import Mapping
from dataclasses import replace

from bench.cores import available_memory
from bench.errors import BackendAbsent, CaseError, RequestError
from bench.own_model.spec import ModelSpec
from bench.own_model.workload import model_workload
from bench.running.inputs import MEMORY_SHARE
from bench.running.plan import RunRequest, choose_suites
from bench.running.worker_process import WorkerProcess
from bench.suites import Suite
from bench.workload import Workload

JUDGE = "torch-cpu"


def own_workload(request: RunRequest, suites: Mapping[str, Suite]) -> dict[str, Workload]:
    """Return the workload of `--model`, the only one of its run; none without a model.

    Raises:
        RequestError: What the request says of it does not fit together.
    """
    if request.model is None:
        if request.inputs:
            raise RequestError("--input is about the model of --model, which is missing; name it")
        return {}
    if request.kernels:
        raise RequestError("--model and --kernels exclude each other; make a run of each")
    workload = model_workload(ModelSpec.parse(request.model, request.inputs), request.facts)
    if "all" not in request.suites:
        for suite in choose_suites(request.suites, suites):
            if suite.name not in workload.suites:
                raise RequestError(
                    f"--suite {suite.name} takes no --model; those that do are"
                    f" {', '.join(workload.suites)}"
                )
    return {workload.name: workload}


def inspected(request: RunRequest, cores: int, python: str | None = None) -> RunRequest:
    """Have a process of PyTorch on the CPU build the model and try it; return the request with it.

    Raises:
        RequestError: The model cannot be used as it was named.
    """
    worker = WorkerProcess(JUDGE, cores, None, random.Random(request.seed), python=python)
    try:
        memory = available_memory()
        worker.open(None if memory is None else int(MEMORY_SHARE * memory))
        facts = worker.ask(
            do="inspect",
            model=request.model,
            inputs=list(request.inputs),
            seed=request.seed,
        )
    except BackendAbsent as absent:
        raise RequestError(f"--model needs PyTorch: {absent.reason}; {absent.remedy}") from None
    except CaseError as error:
        raise RequestError(f"--model {request.model}: {error.reason}") from None
    finally:
        worker.kill()
    return replace(request, facts=facts)
