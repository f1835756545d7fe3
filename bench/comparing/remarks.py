"""What readers of a comparison must know about the machines behind the numbers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeGuard

from bench.comparing.machines import Machine
from bench.comparing.side_by_side import Comparison
from bench.text import natural

_MOST_NAMES: Final = 3
_NOTHING: Final = (None, "")
_LARGEST: Final = 10**15

_LIBRARIES: Final = ("version", "blas", "cudnn", "cuda_runtime", "cuda_build", "isa")


def listed(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    """Name a few and count the rest."""
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def warnings(comparison: Comparison) -> list[str]:
    """Return what may make a machine look other than it is: slices, limits, other work."""
    found: dict[str, list[str]] = {}
    for machine in sorted(comparison.machines, key=lambda m: natural(m.name)):
        for warning in _warnings(machine):
            found.setdefault(warning, []).append(machine.name)
    return [f"{listed(names)}: {warning}" for warning, names in found.items()]


def _warnings(machine: Machine) -> list[str]:
    found = []
    cpu = machine.part("cpu")
    allowed, present = cpu.get("cores_allowed"), cpu.get("cores_present")
    if _is_number(allowed) and _is_number(present) and allowed < present:
        found.append(f"{allowed} of {present} cores visible: this CPU is not one you would buy")
    for gpu in machine.gpus:
        name = gpu.get("name") or "a GPU"
        limit, default = gpu.get("power_limit_watts"), gpu.get("power_limit_default_watts")
        if _is_number(limit) and _is_number(default) and limit < default:
            found.append(f"power limit of {name} lowered to {limit:g} W from {default:g} W")
        if _is_number(gpu.get("other_processes")) and gpu["other_processes"] > 0:
            found.append(f"{gpu['other_processes']} other processes were on {name}")
        if gpu.get("mig") is True:
            found.append(f"MIG of {name} is on: a slice of it may have been measured")
    if len(machine.gpus) > 1:
        found.append(
            f"{len(machine.gpus)} GPUs, of which a case uses one: a price should be that of one"
        )
    results = [result for same in machine.results.values() for result in same]
    single = sum(result.seconds.low is None for result in results)
    if single:
        found.append(f"{single} of {len(results)} results have one block only, and no interval")
    if machine.settings.get("preset") == "quick":
        found.append("measured with the quick preset, for a first look")
    return [*dict.fromkeys(found), *machine.remarks]


def remarks(comparison: Comparison) -> list[str]:
    """Return what differs between the machines besides themselves, and may be why they differ."""
    taking = comparison.machines
    found = []
    for what, value in _differences(taking).items():
        values: dict[str, list[str]] = {}
        for machine in taking:
            answer = value(machine)
            if answer not in _NOTHING:
                values.setdefault(str(answer), []).append(machine.name)
        if len(values) > 1:
            told = [
                f"{answer} on {listed(sorted(names, key=natural))}"
                for answer, names in sorted(values.items(), key=lambda v: natural(v[0]))
            ]
            found.append(f"different {what}: {'; '.join(told)}")
    labels = Counter(machine.label for machine in taking)
    found += [
        f"{count} runs have the label {label}: they are told apart by their start"
        for label, count in labels.items()
        if count > 1
    ]
    ids: dict[str, list[str]] = {}
    for machine in taking:
        ids.setdefault(machine.run_id, []).append(machine.name)
    found += [
        f"{' and '.join(sorted(names, key=natural))} are one and the same run"
        for names in ids.values()
        if len(names) > 1
    ]
    unknown = {p for p in comparison.overall if comparison.best[taking[0].name][p].digest is None}
    if unknown:
        found.append(
            f"that the inputs were the same is not known of {len(unknown)} pieces of work: no run"
            " has a digest of them"
        )
    return sorted(found, key=natural)


def _differences(machines: Sequence[Machine]) -> dict[str, Callable[[Machine], Any]]:
    """Return what is looked at, by its name, with where a machine says it."""
    found: dict[str, Callable[[Machine], Any]] = {
        "GPU driver": lambda m: _gpu(m, "driver"),
        "power limit of the GPU (W)": lambda m: _gpu(m, "power_limit_watts"),
        "Python": lambda m: m.part("python").get("version"),
        "kernel": lambda m: m.part("system").get("kernel"),
        "governor": lambda m: m.part("cpu").get("governor"),
        "threads on the CPU": _threads,
        "preset": lambda m: m.settings.get("preset"),
        "blocks": lambda m: m.settings.get("blocks"),
    }
    backends = {name for m in machines for name in m.part("libraries") if isinstance(name, str)}
    for backend in sorted(backends):
        for key in _LIBRARIES:
            found[f"{key.replace('_', ' ')} of {backend}"] = _of_library(backend, key)
    return found


def _of_library(backend: str, key: str) -> Callable[[Machine], Any]:
    def value(machine: Machine) -> Any:
        described = machine.part("libraries").get(backend)
        return described.get(key) if isinstance(described, Mapping) else None

    return value


def _gpu(machine: Machine, key: str) -> str:
    values = {str(gpu[key]) for gpu in machine.gpus if gpu.get(key) not in _NOTHING}
    return ", ".join(sorted(values))


def _threads(machine: Machine) -> str:
    counts = {
        result.threads
        for same in machine.results.values()
        for result in same
        if result.device == "cpu" and result.threads
    }
    return ", ".join(map(str, sorted(counts)))


def _is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a description has a number of any use there: nothing in it was checked."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < _LARGEST
