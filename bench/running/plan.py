"""From a request to the cases of a run: which workloads, sizes, dtypes, backends and threads."""

import difflib
import fnmatch
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from bench.backends import backends
from bench.errors import RequestError
from bench.measuring.sampling import Budget
from bench.names import choose
from bench.results.schema import COLD, CaseLine, Layers
from bench.running.probe import Probe
from bench.suites import Suite
from bench.workload import DTYPES, ITEM_BYTES, PRESETS, Phase, Size, Workload


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How much is measured by default."""

    blocks: int
    budget: Budget


PRESET: Final[Mapping[str, Preset]] = {
    "quick": Preset(
        blocks=3,
        budget=Budget(warmup_seconds=0.15, warmup_cap_seconds=0.3, sampling_seconds=0.5, visits=8),
    ),
    "standard": Preset(blocks=6, budget=Budget()),
    "thorough": Preset(blocks=10, budget=Budget(sampling_seconds=3.0, visits=12)),
}


CACHES: Final[Mapping[str, Sequence[str | None]]] = {
    "hot": (None,),
    "cold": (COLD,),
    "both": (None, COLD),
}
COMPILED: Final = "compiled"
MOST_DRAWN: Final = 16
LEAST_DRAWN: Final = 4
"""Samples from which larger batches are repetitions, where they divide them: one reference, which
takes NumPy in float64 long, then serves many batches, and means over the batch are the same."""
LEAST_VISITS: Final = 4
"""Of a case in a block: below it the quieter half of them is no choice."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the user asked for, as parsed; stored in the run file's settings."""

    suites: Sequence[str]
    backends: Sequence[str] = ()
    gpu: str | None = None
    cache: str = "hot"
    energy: bool = False
    dtypes: Sequence[str] = ("float32",)
    preset: str = "standard"
    minutes: float | None = None
    only: Sequence[str] = ()
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    batches: Sequence[int] = ()
    threads: Sequence[int] = ()
    blocks: int | None = None
    max_seconds: float | None = None
    timeout: float = 300.0
    seed: int = 0
    kernels: Sequence[str] = ()
    model: str | None = None
    inputs: Sequence[str] = ()
    """What the model reads, as `--input` has it."""
    facts: Mapping[str, Any] | None = None
    """What was found out about the model before anything was measured."""
    compiled: bool = False
    """Whether the variant `compiled` is measured where it would be left out."""
    concurrency: Sequence[int] = ()
    rates: Sequence[float] = ()
    """Requests per second that arrive at random moments; none: each follows an answer."""
    latency_bound: float | None = None
    """Seconds within which 99 of 100 answers must come."""

    def budget(self, share: float = 1.0) -> Budget:
        """Return a suite's share of the preset's budget, with the user's bound on sampling."""
        whole = PRESET[self.preset].budget
        return replace(
            whole,
            warmup_seconds=share * whole.warmup_seconds,
            warmup_cap_seconds=share * whole.warmup_cap_seconds,
            sampling_seconds=self.max_seconds or share * whole.sampling_seconds,
            visits=max(LEAST_VISITS, round(share * whole.visits)),
        )

    def planned_blocks(self) -> int:
        """Return how many blocks a run without a time limit has."""
        return self.blocks or PRESET[self.preset].blocks

    def as_settings(self, cores: int) -> dict[str, Any]:
        """Return the settings for the run file, defaults filled in."""
        plain = {k: list(v) if isinstance(v, (tuple, list)) else v for k, v in asdict(self).items()}
        plain["sizes"] = {key: list(values) for key, values in self.sizes.items()}
        plain["threads"] = list(self.threads) or [cores]
        plain["blocks"] = self.planned_blocks()
        plain["budget"] = asdict(self.budget())
        return plain

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "RunRequest":
        """Rebuild the request of a run file."""
        known = {k: v for k, v in settings.items() if k in cls.__dataclass_fields__}
        return cls(**known)


def choose_suites(names: Sequence[str], known: Mapping[str, Suite]) -> list[Suite]:
    """Resolve names, aliases and `all`."""
    aliases = {alias: suite for suite in known.values() for alias in suite.aliases}
    choose("suite", names, [*known, *aliases, "all"])
    if "all" in names:
        return list(known.values())
    chosen = {(s := known.get(name) or aliases[name]).name: s for name in names}
    return list(chosen.values())


def make_plan(
    request: RunRequest,
    suites: Mapping[str, Suite],
    workloads: Mapping[str, Workload],
    probes: Mapping[str, Probe],
    cores: int,
    gpus: Sequence[int] = (),
) -> list[CaseLine]:
    """Return every case of the run, with a reason where one is not going to be measured.

    `gpus` are the indices that were asked for; of several each has rows of its own.

    Raises:
        RequestError: A name is unknown, a size impossible, or nothing is left to measure.
    """
    chosen_backends = _choose_backends(request, probes)
    choose("dtype", request.dtypes, DTYPES)
    choose("preset", [request.preset], PRESETS)
    choose("cache", [request.cache], CACHES)
    _check_threads(request.threads, cores)
    chosen = choose_suites(request.suites, suites)
    _check_load(request, chosen)
    cases: dict[tuple[str, str], CaseLine] = {}
    refused: list[str] = []
    for suite in chosen:
        for workload in workloads.values():
            if not workload.belongs_to(suite.name, suite.phases):
                continue
            try:
                sizes = _sizes(request, suite, workload)
            except ValueError as error:
                refused.append(f"{workload.name}: {error}")
                continue
            for size, phase, dtype, backend in itertools.product(
                sizes,
                _phases(request, suite, workload),
                suite.dtypes or request.dtypes,
                _backends_of(suite, chosen_backends),
            ):
                parts = workload.phases[phase]
                for place in _places(request, suite, parts, backend, cores, gpus):
                    case = _case(suite, workload, size, phase, dtype, place)
                    case.model = request.model
                    if _wanted(case.id, request.only):
                        case.skipped = _why_skipped(workload, case, probes)
                        cases.setdefault(case.key, case)
    if not cases:
        raise RequestError(_why_empty(request, chosen, workloads, refused))
    return list(cases.values())


def _choose_backends(request: RunRequest, probes: Mapping[str, Probe]) -> list[str]:
    known = backends()
    choose("backend", request.backends, known)
    for name in request.backends:
        if request.model is not None and known[name].library != "torch":
            raise RequestError(f"--backend {name}: a model runs on PyTorch; name a torch backend")
        absent = probes[name].absent
        if absent is not None:
            reason, remedy = absent
            raise RequestError(f"--backend {name}: {reason}; {remedy}")
    if request.backends:
        return list(dict.fromkeys(request.backends))
    if request.model is not None:
        known = {name: kind for name, kind in known.items() if kind.library == "torch"}
    return [name for name, kind in known.items() if kind.tried or probes[name].absent is None]


def _check_threads(threads: Sequence[int], cores: int) -> None:
    for count in threads:
        if not 1 <= count <= cores:
            raise RequestError(
                f"--threads {count}: this process may use {cores} cores; give 1 to {cores}"
            )


def _check_load(request: RunRequest, suites: Sequence[Suite]) -> None:
    given = {
        "--concurrency": request.concurrency,
        "--rate": request.rates,
        "--latency-bound": request.latency_bound,
    }
    if any(suite.serves for suite in suites):
        return
    for option, value in given.items():
        if value:
            raise RequestError(f"{option} is about requests to a service: add --suite latency")


def _backends_of(suite: Suite, chosen: Sequence[str]) -> list[str]:
    return [name for name in chosen if backends()[name].device in suite.devices]


def _is_reached(request: RunRequest, preset: str) -> bool:
    """Tell whether the run goes as far as `preset`; a glob may name what any preset has."""
    return bool(request.only) or PRESETS.index(preset) <= PRESETS.index(request.preset)


def _phases(request: RunRequest, suite: Suite, workload: Workload) -> list[str]:
    return [
        name
        for name in suite.phases
        if name in workload.phases and _is_reached(request, workload.phases[name].preset)
    ]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how a case runs: a backend, and what is not its plain way."""

    backend: str
    threads: int
    gpu: int | None
    concurrency: int | None = None
    rate: float | None = None
    variant: str | None


def _places(
    request: RunRequest,
    suite: Suite,
    phase: Phase,
    backend: str,
    cores: int,
    gpus: Sequence[int],
) -> Iterator[Place]:
    """Yield every place of a backend: its ways, thread counts or GPUs, caches, loads."""
    on_cpu = backends()[backend].device == "cpu"
    counts = (request.threads or (cores,)) if on_cpu else (cores,)
    devices: Sequence[int | None] = (None,) if on_cpu or not gpus else gpus
    caches = CACHES["hot" if suite.serves else request.cache]
    loads = itertools.product(request.concurrency or (1,), request.rates or (None,))
    for threads, gpu, way, cache, (concurrency, rate) in itertools.product(
        counts,
        devices,
        _ways(request, suite, phase, backend),
        caches,
        loads if suite.serves else [(None, None)],
    ):
        parts = [
            way,
            f"threads={threads}" if threads != cores else None,
            f"gpu={gpu}" if gpu is not None and len(gpus) > 1 else None,
            f"concurrency={concurrency}" if concurrency not in (None, 1) else None,
            f"rate={rate:g}" if rate is not None else None,
            cache,
        ]
        yield Place(
            backend=backend,
            threads=threads,
            gpu=gpu,
            concurrency=concurrency,
            rate=rate,
            variant="+".join(filter(None, parts)) or None,
        )


def _ways(request: RunRequest, suite: Suite, phase: Phase, backend: str) -> list[str | None]:
    """Return the variants of a phase that the run has, after the plain way."""
    others = [name for name in phase.variants if phase.implementation(backend, name)]
    if suite.is_plain or not _is_reached(request, "standard"):
        others = [name for name in others if name == COMPILED and request.compiled]
    return [None, *others]


def _wanted(case_id: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatch.fnmatchcase(case_id, glob) for glob in globs)


def _sizes(request: RunRequest, suite: Suite, workload: Workload) -> list[Size]:
    """Return the sizes of the preset, or those that the user gave instead."""
    batches = request.batches or suite.batches.get(request.preset, ())
    if not request.sizes:
        sizes = [size for size in workload.sizes if _is_reached(request, size.preset)]
        if not batches:
            return sizes
        named = {size.name: size for size in reversed(sizes) if "batch" in size.dims}
        if suite.batches and not request.only:
            # `mnist.dropout` is a variation of `mnist`: what it costs is seen at one batch.
            plain = {name: (name or "").partition(".")[0] for name in named}
            named = {n: size for n, size in named.items() if plain[n] == n or plain[n] not in named}
        return [
            replace(size, dims={**size.dims, "batch": batch})
            for size in reversed(named.values())
            for batch in batches
        ]
    given_dims = dict(request.sizes)
    if batches:
        given_dims["batch"] = batches
    keys = list(given_dims)
    sizes = []
    for values in itertools.product(*given_dims.values()):
        given = dict(zip(keys, values, strict=True))
        dims = workload.resize(given) if workload.resize else _replaced(workload, given)
        sizes.append(Size(dims=dims))
    return sizes


def _replaced(workload: Workload, given: Mapping[str, int]) -> dict[str, int]:
    known = dict(workload.sizes[0].dims)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"has no dimension {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    zero = next((name for name, value in given.items() if value < 1), None)
    if zero is not None:
        raise ValueError(f"{zero} begins at 1")
    return {**known, **given}


def _case(
    suite: Suite,
    workload: Workload,
    size: Size,
    phase: str,
    dtype: str,
    place: Place,
) -> CaseLine:
    parts = workload.phases[phase]
    where = f"{place.backend}+{place.variant}" if place.variant else place.backend
    batch = size.dims.get("batch")
    moved = parts.bytes_moved(size.dims, ITEM_BYTES[dtype]) if parts.bytes_moved else None
    return CaseLine(
        id=f"{workload.name}/{size.label}/{phase}/{dtype}/{where}",
        suite=suite.name,
        workload=workload.name,
        workload_version=workload.version,
        size=size.label,
        sizes=dict(size.dims),
        batch=batch,
        drawn_batch=_drawn_batch(batch)
        if suite.batches and batch and workload.parameters
        else None,
        phase=phase,
        dtype=dtype,
        backend=place.backend,
        variant=place.variant,
        gpu=place.gpu,
        concurrency=place.concurrency,
        rate=place.rate,
        threads=place.threads,
        device=backends()[place.backend].device,
        flops=parts.flops(size.dims) if parts.flops else None,
        bytes_moved=moved,
        includes=workload.includes.get(backends()[place.backend].library),
        networks={
            name: Layers(count=count, of=sum(s.networks.get(name, 0) for s in workload.sizes))
            for name, count in size.networks.items()
        },
    )


def _drawn_batch(batch: int | None) -> int | None:
    """Return how many samples are drawn of a batch that repeats them; None: all of them."""
    if batch is None or batch <= MOST_DRAWN:
        return None
    return next((n for n in range(MOST_DRAWN, LEAST_DRAWN - 1, -1) if batch % n == 0), None)


def _why_skipped(workload: Workload, case: CaseLine, probes: Mapping[str, Probe]) -> str | None:
    absent = probes[case.backend].absent
    if absent is not None:
        return "; ".join(absent)
    kind = backends()[case.backend]
    if workload.phases[case.phase].skipped is not None:
        return workload.phases[case.phase].skipped
    if workload.phases[case.phase].implementation(case.backend, case.way) is None:
        return f"{workload.name} has no version for {case.backend}"
    return kind().unsupported(case.dtype)


def _why_empty(
    request: RunRequest,
    suites: Sequence[Suite],
    workloads: Mapping[str, Workload],
    refused: Sequence[str],
) -> str:
    if request.sizes and refused:
        return f"--size fits no workload of the suite ({'; '.join(refused)})"
    names = ", ".join(suite.name for suite in suites)
    kinds = {backends()[name].device for name in request.backends}
    if request.backends and not any(kinds & set(suite.devices) for suite in suites):
        return (
            f"suite {names} is about a {suites[0].devices[0].upper()}; name a backend that has one"
        )
    if request.only:
        ids = [
            f"{w.name}/{size.label}"
            for w in workloads.values()
            if any(w.belongs_to(s.name, s.phases) for s in suites)
            for size in w.sizes
        ]
        near = difflib.get_close_matches(request.only[0].strip("*"), ids, n=1, cutoff=0.4)
        hint = f"for example --only '*{(near or ids)[0]}*'" if ids else "see bench list"
        return f"--only {request.only[0]!r} matches no case of suite {names}; {hint}"
    return f"no workload belongs to suite {names}; see bench list"
