"""Is this machine fit to measure: what its description tells, and what to do about it.

A pure function of what `bench.machine.capture` returned, so that `bench doctor` can also judge the
machine of a run file.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from bench import units
from bench.machine import NO_DRIVER

Level = Literal["ok", "warning", "problem"]
Machine = Mapping[str, Any]

_GIB: Final = 2**30
_MEMORY_PROBLEM: Final = 1 * _GIB
"""A worker with PyTorch loaded takes a quarter of it before the first tensor."""
_MEMORY_WARNING: Final = 4 * _GIB

_BUSY_WARNING: Final = 0.10
"""The share of time waited for a core above which a block counts as disturbed."""
_BUSY_PROBLEM: Final = 0.50
_STEAL_WARNING: Final = 0.01
_STEAL_PROBLEM: Final = 0.10
_LOAD_WARNING: Final = 0.25
"""The load average keeps what ran a minute ago, so it accuses later than the pressure does."""

_FAST_CLOCKS: Final = frozenset(
    {"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"}
)
"""Read without entering the kernel, in nanoseconds."""

THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
SPEED_VARIABLES: Final = {
    "ATEN_CPU_CAPABILITY": "limits the instructions PyTorch uses",
    "CUDA_LAUNCH_BLOCKING": "makes every kernel launch wait",
    "DNNL_MAX_CPU_ISA": "limits the instructions oneDNN uses",
    "MKL_ENABLE_INSTRUCTIONS": "limits the instructions MKL uses",
    "NPY_DISABLE_CPU_FEATURES": "limits the instructions NumPy uses",
    "NVIDIA_TF32_OVERRIDE": "decides the precision of GPU products",
    "ONEDNN_MAX_CPU_ISA": "limits the instructions oneDNN uses",
    "OPENBLAS_CORETYPE": "decides which kernels OpenBLAS uses",
}


@dataclass(frozen=True)
class Finding:
    """One line of `bench doctor`; `remedy` is what a person can do about it."""

    level: Level
    subject: str
    what: str
    remedy: str | None = None


def check(machine: Machine, pressure: Mapping[str, float] | None = None) -> list[Finding]:
    """Judge the machine; what is not known is passed over.

    Args:
        machine: As `bench.machine.capture` describes it.
        pressure: What else runs right now, each reading optional: `cpu_some_avg10` (percent),
            `steal` (share of CPU time, 0 to 1), `load_per_core` (load average over cores).
            Without `load_per_core` the load average in `machine` is used.
    """
    groups: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
        _check_cpu,
        _check_clocks,
        _check_memory,
        _check_libraries,
        _check_environment,
        _check_gpus,
    )
    found = [finding for judge in groups for finding in judge(machine)]
    return found + list(_check_other_work(machine, pressure or {}))


def _check_cpu(machine: Machine) -> Iterator[Finding]:
    cpu = _group(machine, "cpu")
    model = cpu.get("model") or "unknown model"
    allowed, present = cpu.get("cores_allowed"), cpu.get("cores_present")
    if allowed is None or present is None:
        yield Finding("ok", "CPU", model)
    elif allowed * 2 < present:
        yield Finding(
            "warning",
            "CPU",
            f"{model}, {allowed} of {present} cores: this CPU is not one you would buy",
            "lift the quota or affinity (docker --cpus, taskset, Slurm --cpus-per-task), or"
            " compare only with the same slice",
        )
    else:
        yield Finding("ok", "CPU", f"{model}, {allowed} of {present} cores")


def _check_clocks(machine: Machine) -> Iterator[Finding]:
    cpu = _group(machine, "cpu")
    governor = cpu.get("governor")
    if governor == "performance":
        yield Finding("ok", "governor", "performance")
    elif governor:
        yield Finding(
            "warning",
            "governor",
            f"{governor}: the clock follows the load, so short calls look slow",
            "sudo cpupower frequency-set -g performance",
        )
    if cpu.get("hypervisor") and cpu.get("frequency_hertz") is None:
        yield Finding(
            "ok", "clocks", "a virtual machine: boost and throttling cannot be seen from inside"
        )
    elif cpu.get("boost"):
        yield Finding("ok", "clocks", "boost is on: clocks depend on heat and on busy neighbours")
    elif cpu.get("boost") is False:
        yield Finding("ok", "clocks", "boost is off: steadier, and slower than this CPU is sold")
    source = _group(machine, "system").get("clocksource")
    if source in _FAST_CLOCKS:
        yield Finding("ok", "timer", source)
    elif source:
        yield Finding(
            "warning",
            "timer",
            f"the kernel's clock is {source}: slow or coarse to read, so short calls look long",
            "boot with clocksource=tsc, if the kernel's log does not call the tsc unstable",
        )


def _check_memory(machine: Machine) -> Iterator[Finding]:
    available = _group(machine, "memory").get("available_bytes")
    if available is None:
        return
    what = f"{units.size(available)} available"
    remedy = "close other programs, raise the container's memory limit"
    if available < _MEMORY_PROBLEM:
        yield Finding("problem", "memory", f"{what}: workers will be killed", remedy)
    elif available < _MEMORY_WARNING:
        yield Finding(
            "warning",
            "memory",
            f"{what}: large cases will run out of it",
            f"{remedy}, or use --preset quick",
        )
    else:
        yield Finding("ok", "memory", what)


def _check_libraries(machine: Machine) -> Iterator[Finding]:
    numpy = _group(machine, "packages").get("numpy")
    if numpy:
        yield Finding("ok", "NumPy", numpy)
    else:
        yield Finding(
            "problem",
            "NumPy",
            "not installed: inputs are drawn and results verified with it",
            'python -m pip install "numpy>=2.0"',
        )
    allowed = _group(machine, "cpu").get("cores_allowed")
    for library, description in _group(machine, "libraries").items():
        yield from _check_threadpools(library, description.get("threadpools") or [], allowed)


def _check_threadpools(
    library: str, pools: list[Mapping[str, Any]], allowed: int | None
) -> Iterator[Finding]:
    """Judge the thread pools in one library's worker, as threadpoolctl lists them."""
    for api, kind in (("blas", "BLAS"), ("openmp", "OpenMP")):
        same = [_pool_name(pool) for pool in pools if pool.get("user_api") == api]
        if len(same) > 1:
            yield Finding(
                "warning",
                library,
                f"{len(same)} {kind} libraries in one process ({', '.join(same)}):"
                " their threads compete",
                "make a fresh environment with every package from one source, pip or conda",
            )
    threads = [(pool.get("num_threads") or 0, _pool_name(pool)) for pool in pools]
    if not threads:
        return
    most, name = max(threads)
    if allowed is not None and most > allowed:
        yield Finding(
            "problem",
            library,
            f"{name} runs {most} threads on {allowed} allowed cores: they wait for each other",
            f"use --threads {allowed}; if it stands so already, {name} ignores it: report it",
        )
    else:
        detail = ", ".join(f"{pool} with {count} threads" for count, pool in threads if count)
        yield Finding("ok", library, detail or "thread counts not reported")


def _pool_name(pool: Mapping[str, Any]) -> str:
    """Name a pool such as `libscipy_openblas 0.3.31 SkylakeX`."""
    parts = (pool.get("prefix") or pool.get("user_api"), pool.get("version"))
    return " ".join(str(part) for part in (*parts, pool.get("architecture")) if part)


def _check_environment(machine: Machine) -> Iterator[Finding]:
    variables = _group(machine, "environment")
    threads = [f"{name}={variables[name]}" for name in THREAD_VARIABLES if name in variables]
    if threads:
        yield Finding(
            "warning",
            "environment",
            f"{', '.join(threads)}: a run sets its own number of threads instead",
            "use --threads N to choose it",
        )
    for name, effect in SPEED_VARIABLES.items():
        if name in variables:
            yield Finding(
                "warning", "environment", f"{name}={variables[name]} {effect}", f"unset {name}"
            )
    if variables.get("LD_PRELOAD"):
        yield Finding(
            "warning",
            "environment",
            f"LD_PRELOAD={variables['LD_PRELOAD']}: another allocator or library in every worker",
            "unset LD_PRELOAD, unless your users run with it too",
        )


def _check_gpus(machine: Machine) -> Iterator[Finding]:
    gpus = machine.get("gpus") or []
    if not gpus:
        reason = _group(machine, "unknown").get("gpus")
        if reason in (None, NO_DRIVER):
            yield Finding("ok", "GPU", "no NVIDIA GPU here")
        else:
            yield Finding(
                "warning",
                "GPU",
                f"cannot be looked at: {reason}",
                "nvidia-smi says more; in a container start it with --gpus all, after an upgrade"
                " of the driver restart the machine",
            )
    for place, gpu in enumerate(gpus):
        yield from _check_gpu(gpu, gpu.get("index", place))


def _check_gpu(gpu: Mapping[str, Any], index: int) -> Iterator[Finding]:
    subject = f"GPU {index}"
    ecc = {None: None, True: "ECC on", False: "ECC off"}[gpu.get("ecc")]
    driver = f"driver {gpu['driver']}" if gpu.get("driver") else None
    memory = units.size(gpu["memory_bytes"]) if gpu.get("memory_bytes") else None
    what = ", ".join(filter(None, (gpu.get("name") or "unknown model", memory, driver, ecc)))
    yield Finding("ok", subject, what)
    if others := gpu.get("other_processes"):
        yield Finding(
            "warning",
            subject,
            f"{others} other process{'es' if others > 1 else ''} on it",
            "nvidia-smi shows which; end them, or choose another with --gpu",
        )
    limit, default = gpu.get("power_limit_watts"), gpu.get("power_limit_default_watts")
    # A limit read back may be a rounding below what was set.
    if limit and default and limit < 0.99 * default:
        yield Finding(
            "warning",
            subject,
            f"the power limit is {limit:.0f} W of {default:.0f} W: slower than others of its kind",
            f"sudo nvidia-smi -i {index} -pl {default:.0f}",
        )
    if gpu.get("mig"):
        yield Finding(
            "warning",
            subject,
            "MIG is on: a slice of the GPU is measured, not the GPU",
            f"sudo nvidia-smi -i {index} -mig 0",
        )


def _check_other_work(machine: Machine, pressure: Mapping[str, float]) -> Iterator[Finding]:
    load = pressure.get("load_per_core")
    loadavg = _group(machine, "system").get("loadavg")
    threads = _group(machine, "cpu").get("threads_present")
    if load is None and loadavg and threads:
        load = loadavg[0] / threads
    signs = []  # (share of a core, where it warns, what it says)
    if load is not None:
        signs.append((load, _LOAD_WARNING, f"a load of {load:.2f} per core"))
    if (waited := pressure.get("cpu_some_avg10")) is not None:
        signs.append(
            (waited / 100, _BUSY_WARNING, f"{waited:.0f}% of the time something waits for a core")
        )
    said = " and ".join(text for _, _, text in signs)
    remedy = "find it with top and end it; the load looks back a minute, so wait that long"
    if any(share > _BUSY_PROBLEM for share, _, _ in signs):
        yield Finding("problem", "other work", f"{said}: not fit to measure now", remedy)
    elif any(share > limit for share, limit, _ in signs):
        yield Finding("warning", "other work", f"{said}: something else is running", remedy)
    elif signs:
        yield Finding("ok", "other work", f"quiet: {said}")
    steal = pressure.get("steal")
    if steal is not None and steal > _STEAL_WARNING:
        yield Finding(
            "problem" if steal > _STEAL_PROBLEM else "warning",
            "stolen time",
            f"the host gives {steal:.1%} of this machine's CPU time to others",
            "take an instance with dedicated cores, or measure at another time",
        )


def _group(machine: Machine, name: str) -> Mapping[str, Any]:
    return machine.get(name) or {}
