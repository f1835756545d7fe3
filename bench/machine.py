"""What the machine is, as far as it changes numbers: cores, clocks, memory, GPUs, versions.

Runs in the parent and therefore imports no library that is measured. What cannot be known is null,
with the reason under `unknown`; one probe that fails never harms the others.
"""

import importlib
import importlib.metadata
import math
import os
import platform
import re
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final

Probe = Callable[[], Any]

PROC: Final = Path("/proc")
SYS: Final = Path("/sys")

NO_DRIVER: Final = "there is no NVIDIA driver"
"""The reason for an empty list of GPUs that nobody has to mend."""

_COMMAND_SECONDS: Final = 2.0
"""A probe waits no longer for a command: git on a network drive may take minutes."""

_ISA: Final = (
    "avx avx2 fma f16c avx512f avx512_vnni avx512_bf16 avx512_fp16 avx_vnni"
    " amx_tile amx_bf16 amx_int8 amx_fp16 neon asimdhp asimddp bf16 i8mm sve sve2 sme"
)
"""The extensions that decide which kernels BLAS and oneDNN choose."""

_ARM_PARTS: Final = {
    "0xd0c": "Arm Neoverse-N1",
    "0xd40": "Arm Neoverse-V1",
    "0xd49": "Arm Neoverse-N2",
    "0xd4f": "Arm Neoverse-V2",
}
"""Linux on Arm names no model, only the part number of the core."""

_PACKAGES: Final = (
    "nn-bench numpy torch triton cupy cupy-cuda11x cupy-cuda12x cupy-cuda13x mkl intel-openmp"
    " nvidia-cublas nvidia-cublas-cu12 nvidia-cudnn-cu12 nvidia-cudnn-cu13"
    " click msgspec rich pandas psutil threadpoolctl nvidia-ml-py"
)
"""Distributions whose versions change numbers, or how they are taken."""

_VARIABLES: Final = re.compile(
    r"(OMP|OPENBLAS|MKL|BLIS|KMP|GOMP|NUMEXPR|CUDA|TORCH|PYTORCH|CUPY|NVIDIA|ONEDNN|DNNL|ATEN|NPY"
    r"|MALLOC)_|LD_PRELOAD$"
)
# Run files are passed on, and NVIDIA_API_KEY has one of the prefixes above.
_SECRETS: Final = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL", re.IGNORECASE)

_LABEL_NOISE: Final = re.compile(
    r"\((R|TM|C)\)|@.*|\bw(ith|/) .*|\bCPU\b|\bProcessor\b|\b\d+-Cores?\b|\b\d+th Gen\b",
    re.IGNORECASE,
)


class _UnknownError(Exception):
    """A field cannot be known here; the message is the reason."""


def allowed_cores(proc: Path = PROC, sys: Path = SYS) -> int:
    """Return how many cores this process may keep busy, at least 1.

    The smallest of its affinity, the physical cores in it, and every CPU quota of its cgroups,
    rounded down: OpenBLAS and PyTorch heed no quota, and threads beyond it are throttled.
    """
    return max(1, min([_physical_cores(_affinity(), sys), *_quotas(proc, sys)]))


def available_memory(proc: Path = PROC, sys: Path = SYS) -> int | None:
    """Return the bytes that a new process could use, limits of the cgroups included."""
    rooms = []
    with suppress(Exception):
        rooms.append(_host_memory(proc)["available"])
    for folder in _cgroups("memory", proc, sys):
        for limit, usage, reclaimable in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with suppress(OSError, ValueError):
                room = int(_read(folder / limit)) - int(_read(folder / usage))
                # Usage counts cached files, which the kernel gives back when memory is wanted.
                with suppress(OSError, ValueError, KeyError):
                    stat = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
                    room += int(stat[reclaimable])
                rooms.append(max(0, room))
    return min(rooms, default=None)


def capture(
    *,
    libraries: Mapping[str, Mapping[str, Any]],
    own_processes: Collection[int] = (),
    proc: Path = PROC,
    sys: Path = SYS,
) -> dict[str, Any]:
    """Describe this machine for the header of a run, as plain JSON.

    Args:
        libraries: What each backend's worker reported; passed through.
        own_processes: Workers that may hold a GPU and are nobody else's work. In a container the
            driver may report other ids, so better capture before workers open a GPU.
        proc: Where the kernel's process tree is.
        sys: Where the kernel's device tree is.
    """
    unknown: dict[str, str] = {}
    machine = {
        "host": platform.node() or None,
        "cpu": _ask(_cpu(proc, sys), "cpu", unknown),
        "memory": _ask(_memory(proc, sys), "memory", unknown),
        "gpus": _gpus({os.getpid(), *own_processes}, unknown),
        "system": _ask(_system(proc, sys), "system", unknown),
        "python": _ask(_python(), "python", unknown),
        "packages": _packages(),
        "libraries": libraries,
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if _VARIABLES.match(name) and not _SECRETS.search(name)
        },
        "git": _ask(_git(), "git", unknown),
    }
    plain: dict[str, Any] = _plain(machine, "", unknown)
    return {**plain, "unknown": {name: _plain(unknown[name], name, {}) for name in sorted(unknown)}}


def default_label(machine: Mapping[str, Any]) -> str:
    """Name the machine by its GPU, or else its CPU, such as `NVIDIA H200` or `AMD EPYC`."""
    names = [gpu.get("name") for gpu in machine.get("gpus") or []]
    names.append((machine.get("cpu") or {}).get("model"))
    for name in filter(None, names):
        label = " ".join(_LABEL_NOISE.sub(" ", name).split())
        if label:
            return label[:40].rstrip()
    return "unknown machine"


def _affinity() -> set[int]:
    """Return the logical CPUs this process may run on; macOS and Windows: all of them."""
    ask: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return ask(0) if ask else set(range(os.cpu_count() or 1))


def _physical_cores(cpus: Collection[int], sys: Path) -> int:
    """Count the cores that `cpus` lie on; as many as `cpus` where the topology is not known."""
    try:
        return len({_core(sys / f"devices/system/cpu/cpu{cpu}/topology") for cpu in cpus})
    except (OSError, ValueError):
        pass
    if not hasattr(os, "sched_getaffinity"):
        with suppress(Exception):
            import psutil

            return min(len(cpus), int(psutil.cpu_count(logical=False)))
    return len(cpus)


def _core(topology: Path) -> str:
    """Identify the core of a logical CPU by its siblings, or else by package and core id."""
    # Core ids alone repeat between the clusters of an Arm chip and the dies of a package.
    with suppress(OSError):
        return _read(topology / "thread_siblings_list")
    package, core = (int(_read(topology / f)) for f in ("physical_package_id", "core_id"))
    if core < 0:
        raise ValueError("the kernel does not know the cores")
    return f"{package}:{core}"


def _quotas(proc: Path, sys: Path) -> Iterator[int]:
    """Yield every CPU quota that binds this process, in whole cores."""
    for folder in _cgroups("cpu", proc, sys):
        # Without a limit v2 says `max`, which is no number; v1 says -1.
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = map(int, _read(folder / "cpu.max").split())
            yield quota // period
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota = int(_read(folder / "cpu.cfs_quota_us"))
            if quota > 0:
                yield quota // int(_read(folder / "cpu.cfs_period_us"))


def _cgroups(controller: str, proc: Path, sys: Path) -> Iterator[Path]:
    """Yield the folders of this process's cgroups and their ancestors, of v2 and of v1."""
    own: dict[str, str] = {}
    with suppress(OSError, ValueError):
        for line in _read(proc / "self/cgroup").splitlines():
            _, names, path = line.split(":", 2)
            own |= dict.fromkeys(names.split(","), path)
    for version, root, point in _cgroup_mounts(controller, proc, sys):
        folder = point
        if version in own:
            # In a container the mount may show the own cgroup only, as its root.
            with suppress(ValueError):
                folder = point / PurePosixPath(own[version]).relative_to(root)
        yield folder
        while folder != point:
            folder = folder.parent
            yield folder


def _cgroup_mounts(controller: str, proc: Path, sys: Path) -> list[tuple[str, str, Path]]:
    """Find (name in `/proc/self/cgroup`, root, mount point) of v2, called "", and of v1."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        for line in _read(proc / "self/mountinfo").splitlines():
            fields = line.split()
            kind, _, options = fields[fields.index("-") + 1 :][:3]
            if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
                name = "" if kind == "cgroup2" else controller
                point = PurePosixPath(fields[4])
                below = point.is_relative_to("/sys")
                found.append(
                    (name, fields[3], sys / point.relative_to("/sys") if below else Path(point))
                )
    usual = sys / "fs/cgroup"
    return found or [
        ("", "/", usual),
        ("", "/", usual / "unified"),
        (controller, "/", usual / controller),
    ]


def _cpu(proc: Path, sys: Path) -> dict[str, Probe]:
    cpus = sys / "devices/system/cpu"
    return {
        "model": lambda: _cpu_model(proc),
        "architecture": platform.machine,
        "cores_present": lambda: _physical_cores(_online(cpus), sys),
        "threads_present": os.cpu_count,
        "cores_allowed": lambda: allowed_cores(proc, sys),
        "threads_allowed": lambda: len(_affinity()),
        "isa": lambda: _isa(proc),
        "caches": lambda: _caches(cpus / "cpu0/cache"),
        "hypervisor": lambda: _hypervisor(proc),
        "governor": lambda: _read(cpus / "cpu0/cpufreq/scaling_governor"),
        "boost": lambda: _boost(cpus),
        "smt": lambda: _read(cpus / "smt/active") == "1",
        "frequency_hertz": lambda: int(_read(cpus / "cpu0/cpufreq/scaling_cur_freq")) * 1000,
        "microcode": lambda: _cpuinfo(proc).get("microcode"),
    }


def _cpu_model(proc: Path) -> str | None:
    system = platform.system()
    if system == "Darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    if system == "Windows":
        winreg: Any = importlib.import_module("winreg")
        path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    described = _cpuinfo(proc)
    part = described.get("CPU part")
    name = described.get("model name") or _ARM_PARTS.get(part or "") or platform.processor()
    return name or (f"Arm part {part}" if part else None)


def _cpuinfo(proc: Path) -> dict[str, str]:
    """Return the kernel's description of the first CPU."""
    first = _read(proc / "cpuinfo").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _cpu_flags(proc: Path) -> set[str]:
    """Return the CPU's flags as Linux writes them; Arm calls them features and neon asimd."""
    if platform.system() == "Darwin":
        if platform.machine() == "arm64":
            return {"neon"}
        text = _output("sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features")
        return set(text.lower().replace("avx1.0", "avx").split())
    described = _cpuinfo(proc)
    flags = set((described.get("flags") or described.get("Features") or "").split())
    if not flags:
        raise _UnknownError("the kernel lists no CPU flags")
    return flags | {"neon"} if "asimd" in flags else flags


def _isa(proc: Path) -> list[str]:
    flags = _cpu_flags(proc)
    return [name for name in _ISA.split() if name in flags]


def _hypervisor(proc: Path) -> bool:
    if platform.system() == "Darwin":
        return _output("sysctl", "-n", "kern.hv_vmm_present") == "1"
    if "Features" in _cpuinfo(proc):
        raise _UnknownError("only x86 CPUs show whether they are virtual")
    return "hypervisor" in _cpu_flags(proc)


def _online(cpus: Path) -> Collection[int]:
    listed = {int(p.parent.name[3:]) for p in cpus.glob("cpu[0-9]*/topology")}
    return listed or range(os.cpu_count() or 1)


def _caches(folder: Path) -> dict[str, int]:
    """Return the bytes of one instance of each cache, such as `L1d`, `L2`, `L3`."""
    found = {}
    for index in sorted(folder.glob("index*")):
        kind = {"Data": "d", "Instruction": "i"}.get(_read(index / "type"), "")
        size = _read(index / "size")
        found[f"L{_read(index / 'level')}{kind}"] = int(size.removesuffix("K")) * 1024
    if not found:
        raise _UnknownError(f"no {folder}")
    return found


def _boost(cpus: Path) -> bool:
    with suppress(OSError):
        return _read(cpus / "intel_pstate/no_turbo") == "0"
    return _read(cpus / "cpufreq/boost") == "1"


def _memory(proc: Path, sys: Path) -> dict[str, Probe]:
    pages = sys / "kernel/mm/transparent_hugepage/enabled"
    return {
        "total_bytes": lambda: _host_memory(proc)["total"],
        "available_bytes": lambda: available_memory(proc, sys),
        "transparent_hugepages": lambda: re.findall(r"\[(\w+)\]", _read(pages))[0],
    }


def _host_memory(proc: Path) -> dict[str, int]:
    """Return the `total` and `available` bytes of the whole machine."""
    try:
        pairs = (line.split(":") for line in _read(proc / "meminfo").splitlines())
        kibibytes = {name: int(value.split()[0]) for name, value in pairs}
        return {k: kibibytes[f"Mem{k.title()}"] * 1024 for k in ("total", "available")}
    except (OSError, ValueError, KeyError):
        import psutil

        memory = psutil.virtual_memory()
        return {"total": memory.total, "available": memory.available}


def _gpus(own: Collection[int], unknown: dict[str, str]) -> list[dict[str, Any]]:
    """Describe every GPU that NVIDIA's management library sees; none is an empty list."""
    try:
        import pynvml
    except ImportError:
        unknown["gpus"] = "nvidia-ml-py is not installed"
        return []
    try:
        pynvml.nvmlInit()
    except Exception as error:
        absent = type(error).__name__ == "NVMLError_LibraryNotFound"
        unknown["gpus"] = NO_DRIVER if absent else f"the NVIDIA driver does not answer: {error}"
        return []
    try:
        indices = range(pynvml.nvmlDeviceGetCount())
        return [_ask(_gpu(pynvml, i, own), f"gpus.{i}", unknown) for i in indices]
    except Exception as error:
        unknown["gpus"] = _reason(error)
        return []
    finally:
        with suppress(Exception):
            pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int, own: Collection[int]) -> dict[str, Probe]:
    def ask(name: str, *arguments: Any) -> Any:
        answer = getattr(nvml, name)(nvml.nvmlDeviceGetHandleByIndex(index), *arguments)
        return _text(answer)

    def others() -> int:
        running = ask("nvmlDeviceGetComputeRunningProcesses")
        return sum(process.pid not in own for process in running)

    def cuda() -> str:
        version = nvml.nvmlSystemGetCudaDriverVersion()
        return f"{version // 1000}.{version % 1000 // 10}"

    return {
        "index": lambda: index,
        "name": lambda: ask("nvmlDeviceGetName"),
        "pci_slot": lambda: _text(ask("nvmlDeviceGetPciInfo").busId),
        "memory_bytes": lambda: int(ask("nvmlDeviceGetMemoryInfo").total),
        "compute_capability": lambda: "{}.{}".format(*ask("nvmlDeviceGetCudaComputeCapability")),
        "driver": lambda: _text(nvml.nvmlSystemGetDriverVersion()),
        "cuda_driver_version": cuda,
        "power_limit_watts": lambda: ask("nvmlDeviceGetEnforcedPowerLimit") / 1000,
        "power_limit_default_watts": lambda: ask("nvmlDeviceGetPowerManagementDefaultLimit") / 1000,
        "max_sm_clock_hertz": lambda: (
            ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM) * 1_000_000
        ),
        "mig": lambda: bool(ask("nvmlDeviceGetMigMode")[0]),
        "other_processes": others,
        "persistence": lambda: bool(ask("nvmlDeviceGetPersistenceMode")),
        "ecc": lambda: bool(ask("nvmlDeviceGetEccMode")[0]),
    }


def _system(proc: Path, sys: Path) -> dict[str, Probe]:
    clock = sys / "devices/system/clocksource/clocksource0/current_clocksource"
    return {
        "os": platform.system,
        "kernel": platform.release,
        "distribution": lambda: platform.freedesktop_os_release().get("PRETTY_NAME"),
        "clocksource": lambda: _read(clock),
        "container": lambda: _container(proc),
        "libc": lambda: " ".join(platform.libc_ver()).strip() or None,
        "aslr": lambda: _read(proc / "sys/kernel/randomize_va_space") != "0",
        "loadavg": lambda: list(os.getloadavg()),
    }


def _container(proc: Path) -> str:
    """Name the kind of container, or `none`; the marks stand at the root that `proc` is in."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    for mark, kind in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if (proc.parent / mark).exists():
            return kind
    return os.environ.get("container") or "none"  # noqa: SIM112 - systemd writes it small


def _python() -> dict[str, Probe]:
    return {
        "version": platform.python_version,
        "implementation": platform.python_implementation,
        "compiler": platform.python_compiler,
    }


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES.split():
        with suppress(Exception):
            found[name] = importlib.metadata.version(name)
    return found


def _git() -> dict[str, Probe]:
    # Without untracked files: the run files of earlier runs make no other code.
    status = ("git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    return {
        "revision": lambda: _output("git", "rev-parse", "HEAD"),
        "dirty": lambda: _output(*status) != "",
    }


def _output(*command: str) -> str:
    """Return what `command` prints."""
    try:
        done = subprocess.run(
            command, capture_output=True, check=True, timeout=_COMMAND_SECONDS, text=True
        )
    except subprocess.CalledProcessError as error:
        # What it printed may name paths, which are nobody else's business.
        said = f"`{' '.join(command)}` ended with {error.returncode}"
        raise _UnknownError(said) from None
    except subprocess.TimeoutExpired:
        raise _UnknownError(f"{command[0]} took more than {_COMMAND_SECONDS:g} s") from None
    except FileNotFoundError:
        raise _UnknownError(f"{command[0]} is not installed") from None
    return done.stdout.strip()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _text(value: Any) -> Any:
    """Decode what older versions of NVIDIA's bindings give as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _ask(probes: Mapping[str, Probe], group: str, unknown: dict[str, str]) -> dict[str, Any]:
    """Run each probe by itself; one that fails leaves null and its reason."""
    answers: dict[str, Any] = {}
    for name, probe in probes.items():
        try:
            answers[name] = probe()
        except Exception as error:  # whatever it is, the run goes on
            answers[name] = None
            unknown[f"{group}.{name}"] = _reason(error)
    return answers


def _reason(error: Exception) -> str:
    if isinstance(error, _UnknownError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"no {error.filename}"
    if isinstance(error, PermissionError):
        return f"{error.filename} may not be read"
    return f"{type(error).__name__}: {error}"


def _plain(value: Any, name: str, unknown: dict[str, str]) -> Any:
    """Turn `value` into finite JSON; whatever is or becomes null gets a reason."""
    if isinstance(value, float) and not math.isfinite(value):
        unknown.setdefault(name, f"reported as {value}")
        return None
    if value is None:
        unknown.setdefault(name, "not reported by this system")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{name}.{k}".lstrip("."), unknown) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(v, f"{name}.{i}", unknown) for i, v in enumerate(value)]
    # A variable of the environment need not be UTF-8, a run file must.
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
