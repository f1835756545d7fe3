"""What a duet measures: the cases of both sides, what each side lacks, and how they are paired."""

import fnmatch
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from msgspec import structs

from bench import catalog
from bench.backends import backends
from bench.comparing.pairs import BASE_LACKS, HEAD_LACKS
from bench.comparing.verdicts import GateSettings
from bench.cores import allowed_cores
from bench.errors import RequestError
from bench.gpus import choose_gpus, present_gpus
from bench.measuring.sampling import Budget
from bench.results.schema import CaseLine
from bench.running.duet import fresh_pairs, usual_minutes, with_controls
from bench.running.environments import Environment
from bench.running.model import inspected, own_workload
from bench.running.paired_cases import PairedCases
from bench.running.paired_tests import PairedTests, learn_tests, make_case, seconds_per_test
from bench.running.plan import COMPILED, RunRequest, choose_suites, make_plan
from bench.running.probe import Probe, probe
from bench.running.pytest_runner import Runner
from bench.running.sides import SIDES, Pairing, Side
from bench.suites import Suite
from bench.workload import Workload

FIRST_SHARE: Final = 0.5
"""Of the minutes that the samples and all around them may take in the first stage."""
OVERHEAD_SECONDS: Final = 0.25
"""What a case takes on one side besides its samples: verification, warm-up, canaries."""
START_SECONDS: Final = 2.0
"""What the processes of a pair take to start."""
WARMUP_SECONDS: Final = 0.1
LEAST_SECONDS: Final = 0.05
MOST_SECONDS: Final = 0.5
VISITS: Final = 4


@dataclass(frozen=True, kw_only=True)
class DuetPlan:
    """A duet before its first pair."""

    pairing: Pairing
    cases: Mapping[Side, Sequence[CaseLine]]
    minutes: float
    settings: Mapping[str, Any]
    """For the headers of the run files."""
    probes: Mapping[Side, Mapping[str, Probe]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def libraries(self) -> dict[Side, dict[str, Any]]:
        """What each side's libraries say of themselves, those that are measured."""
        used = {case.backend for case in self.cases["head"]}
        return {
            side: {
                name: found.description
                for name, found in self.probes.get(side, {}).items()
                if name in used and found.absent is None
            }
            for side in SIDES
        }


def plan_cases(
    request: RunRequest,
    environments: Mapping[Side, Environment],
    minutes: float | None,
    gate: GateSettings,
) -> DuetPlan:
    """Plan a duet of suites, of the user's kernels or of a model.

    Raises:
        RequestError: The request cannot be carried out in these environments.
    """
    for environment in environments.values():
        environment.require_worker()
        environment.require("numpy")
    cores = allowed_cores()
    suites, workloads = catalog.suites(), _workloads(request, catalog.suites())
    request = replace(request, suites=request.suites or _suites_of(request, workloads, suites))
    if request.model is not None:
        request = inspected(request, cores, environments["head"].python)
        workloads = own_workload(request, suites)
    for suite in choose_suites(request.suites, suites):
        if suite.serves or suite.finds_limit:
            raise RequestError(
                f"--suite {suite.name}: a duet compares times of single cases; name another suite,"
                " such as passes"
            )
    known = {name: Probe(name) for name in backends()}
    make_plan(request, suites, workloads, known, cores)  # a bad request ends here, at once
    gpus = _gpus(request)
    names = request.backends or list(known)
    probes: dict[Side, dict[str, Probe]] = {
        side: {**known, **probe(names, cores, next(iter(gpus.values()), None), one.python)}
        for side, one in environments.items()
    }
    cases = [
        case
        for case in make_plan(request, suites, workloads, _either(probes), cores, list(gpus))
        # Compiling takes longer than all else, in each process anew.
        if request.compiled or COMPILED not in (case.variant or "").split("+")
    ]
    sides = _by_side(cases, lambda side, case: _absent(probes[side][case.backend]))
    both = _on_both(sides)
    whole = minutes or usual_minutes(len(both))
    added = with_controls(both, request.seed)[len(both) :]
    budget = plan_budget(whole, len(both) + len(added), gate.first_pairs, request.max_seconds)
    pairing = PairedCases(
        request,
        workloads,
        cores,
        {side: one.python for side, one in environments.items()},
        budget,
        # The user's own code is in his environments alone.
        drawing_python=environments["head"].python if request.kernels or request.model else None,
        gpus=gpus,
    )
    return DuetPlan(
        pairing=pairing,
        cases={side: [*sides[side], *added] for side in SIDES},
        minutes=whole,
        settings={
            **request.as_settings(cores),
            "blocks": gate.first_pairs,
            "fresh_pairs": fresh_pairs(whole, len(both), gate.second_pairs),
        },
        probes=probes,
    )


def plan_tests(
    path: str,
    environments: Mapping[Side, Environment],
    minutes: float | None,
    gate: GateSettings,
    only: Sequence[str],
    seed: int,
) -> DuetPlan:
    """Plan a duet of a project's own tests.

    Raises:
        RequestError: There is nothing to measure.
    """
    for environment in environments.values():
        environment.require("pytest", "pytest_benchmark")
    runner = Runner(environments, random.Random(seed))
    try:
        learned = learn_tests(runner, path)
        tests = learned.tests
        cores = allowed_cores()
        chosen = [
            make_case(key, name, cores)
            for key, name in tests.items()
            if not only or any(fnmatch.fnmatchcase(x, g) for g in only for x in (key[1], name))
        ]
        if not chosen:
            raise RequestError(
                f"--only {only[0]!r} matches no test; for example --only"
                f" '*{next(iter(tests.values()))}*'"
            )
        sides = _by_side(chosen, lambda side, case: learned.absent[side].get(case.key))
        both = _on_both(sides)
    except RequestError:
        runner.close()
        raise
    added = with_controls(both, seed)[len(both) :]
    names = {case.key: tests[case.key] for case in chosen}
    for control in added:
        own = control.id.partition("+control=")[0]
        names[control.key] = tests[control.suite, own]
    whole = minutes or usual_minutes(len(both))
    measured = len(both) + len(added)
    seconds = seconds_per_test(whole, measured, gate.first_pairs, learned.start_seconds)
    settings = {
        "suites": ["pytest"],
        "blocks": gate.first_pairs,
        "fresh_pairs": fresh_pairs(whole, len(both), gate.second_pairs),
        "minutes": whole,
        "seed": seed,
        "threads": [cores],
        "max_seconds": seconds,
    }
    return DuetPlan(
        pairing=PairedTests(runner, names, seconds, seed),
        cases={side: [*sides[side], *added] for side in SIDES},
        minutes=whole,
        settings=settings,
        notes=learned.problems,
    )


def plan_budget(minutes: float, cases: int, pairs: int, most: float | None) -> Budget:
    """Return how long a case is sampled so that the first stage takes its share of the minutes."""
    side = (FIRST_SHARE * 60 * minutes / pairs - START_SECONDS) / (2 * max(1, cases))
    sampling = min(most or MOST_SECONDS, max(LEAST_SECONDS, side - OVERHEAD_SECONDS))
    return Budget(
        warmup_seconds=WARMUP_SECONDS,
        warmup_cap_seconds=2 * WARMUP_SECONDS,
        sampling_seconds=sampling,
        visits=VISITS,
    )


def _workloads(request: RunRequest, suites: Mapping[str, Suite]) -> dict[str, Workload]:
    if request.model is not None:
        suite = request.suites or _MODEL_SUITES
        return own_workload(replace(request, suites=suite), suites)
    found = catalog.workloads(tuple(request.kernels))
    if request.kernels and not request.suites:
        own = {name: workload for name, workload in found.items() if workload.is_users}
        if not own:
            raise RequestError(f"--kernels {request.kernels[0]}: holds no workload; add one")
        return own
    return found


_MODEL_SUITES: Final = ("passes",)


def _suites_of(
    request: RunRequest, workloads: Mapping[str, Workload], suites: Mapping[str, Suite]
) -> Sequence[str]:
    """Return the suites of the user's own workloads, where none was named."""
    if request.model is not None:
        return _MODEL_SUITES
    own = [
        suite.name
        for suite in suites.values()
        if not suite.serves
        and not suite.finds_limit
        and any(w.belongs_to(suite.name, suite.phases) for w in workloads.values())
    ]
    if not own:
        raise RequestError("--kernels: no workload there is of a suite that a duet can measure")
    return own


def _either(probes: Mapping[Side, Mapping[str, Probe]]) -> dict[str, Probe]:
    """Return what is there on either side."""
    return {
        name: found if found.absent is None else probes["head"][name]
        for name, found in probes["base"].items()
    }


def _absent(found: Probe) -> str | None:
    return "; ".join(found.absent) if found.absent else None


def _by_side(
    cases: Sequence[CaseLine], why_absent: Callable[[Side, CaseLine], str | None]
) -> dict[Side, list[CaseLine]]:
    """Return the cases of each side, with the reason where one of them lacks what it needs.

    What both sides lack is no part of the duet.
    """
    sides: dict[Side, list[CaseLine]] = {"base": [], "head": []}
    for case in cases:
        base, head = why_absent("base", case), why_absent("head", case)
        if case.skipped is not None or (base and head):
            continue
        sides["base"].append(structs.replace(case, skipped=base or (HEAD_LACKS if head else None)))
        sides["head"].append(structs.replace(case, skipped=head or (BASE_LACKS if base else None)))
    return sides


def _on_both(sides: Mapping[Side, Sequence[CaseLine]]) -> list[CaseLine]:
    """Return the cases that both sides can measure.

    Raises:
        RequestError: There are none.
    """
    both = [case for case in sides["head"] if case.skipped is None]
    if not both:
        reasons = (case.skipped for side in SIDES for case in sides[side])
        why = next((why for why in reasons if why not in (BASE_LACKS, HEAD_LACKS)), None)
        raise RequestError(
            f"there is nothing to measure in both environments: {why or 'no case is left'}"
        )
    return both


def _gpus(request: RunRequest) -> dict[int, str]:
    if request.gpu is None:
        return {}
    return {gpu.index: gpu.uuid for gpu in choose_gpus(request.gpu, present_gpus())}
