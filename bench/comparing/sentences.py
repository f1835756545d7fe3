"""CPU against GPU in sentences: what a reader wants to know first of a run."""

import math
from collections.abc import Hashable, Sequence

from bench.comparing.batches import is_swept
from bench.comparing.crossover import Crossover, crossover
from bench.comparing.speedup import Ratio, Speedup, geometric_mean, speedups
from bench.comparing.sweeps import size_name, sweeps
from bench.results.networks import SUM_OF_LAYERS
from bench.results.schema import COLD, Measurement
from bench.units import significant


def sentences(measurements: Sequence[Measurement]) -> list[str]:
    """Say where each GPU backend is faster than the best CPU, and how many times.

    A sentence is about one workload, phase and dtype, or one network: its sweep, or all its other
    sizes together. It names the best of a backend's variants, with the plain one beside it.
    """
    families: dict[Hashable, list[Speedup]] = {}
    for found in speedups(measurements):
        families.setdefault(_family(found.gpu), []).append(found)
    suites: dict[str, set[str]] = {}
    for family in families.values():
        suites.setdefault(title(family[0]), set()).add(family[0].gpu.suite)
    said = []
    for family in families.values():
        name = title(family[0])
        if len(suites[name]) > 1:
            name = f"{family[0].gpu.suite}: {name}"
        said += [f"{prefix}{name}: {text}." for prefix, text in _of_family(family)]
    return said


def title(found: Speedup) -> str:
    """Name what is compared, such as `conv2d forward, float32`."""
    m = found.gpu
    # `call` is the only phase of an operation, unless another one is named.
    phase = "" if m.phase == "call" else f" {m.phase}"
    version = f" version {m.workload_version}" if m.workload_version != 1 else ""
    dtype = m.dtype if m.dtype == found.cpu.dtype else f"{m.dtype} against {found.cpu.dtype}"
    return f"{m.workload}{phase}{version}, {dtype}"


def _family(gpu: Measurement) -> Hashable:
    network = size_name(gpu) if SUM_OF_LAYERS in gpu.flags else None
    same = gpu.suite, gpu.workload, gpu.workload_version, gpu.phase, gpu.dtype, gpu.backend
    return *same, gpu.is_cold, network


def _of_family(family: Sequence[Speedup]) -> list[tuple[str, str]]:
    """Return sentences, each after the name of the network or layer that it is about."""
    found = sweeps([pair.gpu for pair in family])
    # Each layer may have a sweep over batches: too many sentences, unless there is only one, or
    # batches are what the suite is about.
    told = {
        s.name: s.dimension
        for s in found
        if not s.name or len(found) == 1 or is_swept(s.measurements[0])
    }
    parts: dict[str | None, list[Speedup]] = {}
    for pair in family:
        name = size_name(pair.gpu)
        parts.setdefault(name if name in told else None, []).append(pair)
    network = size_name(family[0].gpu) if SUM_OF_LAYERS in family[0].gpu.flags else ""
    said = []
    for swept, part in parts.items():
        name = network if swept is None else swept
        text = _of_sizes(part, network) if swept is None else _of_sweep(part, told[swept])
        said.append((f"{name}, " if name else "", text))
    return said


def _of_sweep(part: Sequence[Speedup], dim: str) -> str:
    def largest(way: Sequence[Speedup]) -> list[Speedup]:
        return [max(way, key=lambda pair: pair.gpu.sizes[dim])]

    best, plain = _ways(part)
    alone = crossover([p.gpu.sizes[dim] for p in best], [p.alone for p in best])
    said = f"{best[0].gpu.place} {_always(alone)}beats the best CPU ({_cpus(best)})"
    said += f" {_where(alone, dim)}"
    moved = [(p.gpu.sizes[dim], p.with_transfers) for p in best if p.with_transfers]
    if moved:
        transferred = crossover([size for size, _ in moved], [ratio for _, ratio in moved])
        said += f", with transfers {_always(transferred)}{_where(transferred, dim)}"
    top = largest(best)
    said += f"; {_speeds(top, f' at {dim} = {top[0].gpu.sizes[dim]}')}"
    if plain:
        top = largest(plain)
        said += f"; plain {_speeds(top, f' at {dim} = {top[0].gpu.sizes[dim]}')}"
    return said + _unknown([*best, *plain])


def _of_sizes(part: Sequence[Speedup], network: str) -> str:
    best, plain = _ways(part)
    if len(best) == 1:
        size = best[0].gpu.size.removeprefix(network).removeprefix(",")
        over = f" at {size}" if size else ""
    else:
        over = f" over {len(best)} sizes"
    than = f" as fast as the best CPU ({_cpus(best)}){over}"
    said = f"{best[0].gpu.place} is {_speeds(best, than)}"
    if plain:
        said += f"; plain {_speeds(plain, '')}"
    return said + _unknown([*best, *plain])


def _ways(part: Sequence[Speedup]) -> tuple[Sequence[Speedup], Sequence[Speedup]]:
    """Return the best variant and the plain one, which is empty if it is the best or absent.

    They are compared by the sizes that all of them have.
    """
    ways: dict[str | None, list[Speedup]] = {}
    for pair in part:
        ways.setdefault(pair.gpu.variant, []).append(pair)
    shared = set.intersection(*({pair.gpu.size for pair in way} for way in ways.values()))

    def merit(way: Sequence[Speedup]) -> tuple[float, int]:
        ratios = [pair.alone for pair in way if pair.gpu.size in shared]
        return geometric_mean(ratios).median if ratios else 0.0, len(way)

    best = max(ways.values(), key=merit)
    plain = next((way for name, way in ways.items() if name in (None, COLD)), best)
    return best, plain if plain is not best else []


def _cpus(way: Sequence[Speedup]) -> str:
    places = list(dict.fromkeys(pair.cpu.place for pair in way))
    return " or ".join(filter(None, [", ".join(places[:-1]), places[-1]]))


def _speeds(way: Sequence[Speedup], than: str) -> str:
    """Write the geometric means, alone and with transfers, each with its range."""
    moved = [pair.with_transfers for pair in way if pair.with_transfers]
    said = f"{_times([pair.alone for pair in way], than)}, "
    few = f" for {len(moved)} of them" if len(moved) < len(way) else ""
    return said + (_times(moved, f" with transfers{few}") if moved else "with transfers unknown")


def _times(ratios: Sequence[Ratio], than: str) -> str:
    mean = geometric_mean(ratios)
    said = f"{significant(mean.median)}x"
    if mean.low is not None and mean.high is not None:
        said += f" [{significant(mean.low)}, {significant(mean.high)}]"
    if len(ratios) == 1:
        return f"{said}{than}"
    ends = min(r.median for r in ratios), max(r.median for r in ratios)
    return f"{said}{than} ({significant(ends[0])}x to {significant(ends[1])}x)"


def _unknown(pairs: Sequence[Speedup]) -> str:
    ratios = [r for p in pairs for r in (p.alone, p.with_transfers) if r is not None]
    return "; one block: no interval" if any(r.low is None for r in ratios) else ""


def _always(found: Crossover) -> str:
    return f"{found.kind} " if found.kind in ("always", "never") else ""


def _where(found: Crossover, dim: str) -> str:
    """Say from or up to which size the GPU is faster, and where that is not certain."""

    def size(value: float) -> str:
        if value in (found.smallest, found.largest):
            return f"{value:.0f}"
        # Rounding must not carry a crossing out of what was measured; sizes are whole numbers.
        within = min(max(float(f"{value:.2e}"), found.smallest), found.largest)
        return f"{math.ceil(within)}" if within >= 10 else significant(within)

    if found.kind == "several":
        parts = [f"from {dim} = {size(start)} to {size(end)}" for start, end in found.faster]
        return " and ".join(parts)
    if found.at is not None:
        said = f"{'from' if found.kind == 'from' else 'up to'} {dim} = {size(found.at)}"
        if found.doubt == "unknown":
            return said
        low = f"below {size(found.smallest)}" if found.low is None else size(found.low)
        high = f"above {size(found.largest)}" if found.high is None else size(found.high)
        return f"{said} [{low}, {high}]"
    if found.kind == "always":
        said = f"from {dim} = {size(found.smallest)}, the smallest measured"
    else:
        said = f"up to {dim} = {size(found.largest)}"
    if found.doubt != "between":
        return said
    if found.low is None and found.high is None:
        return f"{said} (not certain at any size)"
    if found.low is None or found.high is None:
        end = f"below {size(found.high)}" if found.high else f"above {size(found.low or 0)}"
        return f"{said} (not certain {end})"
    return f"{said} (not certain from {size(found.low)} to {size(found.high)})"
