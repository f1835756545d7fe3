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
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from bench.cores import (
    PROC,
    SYS,
    affinity,
    allowed_cores,
    available_memory,
    host_memory,
    kernel_text,
    physical_cores,
)

Probe = Callable[[], Any]

NO_DRIVER: Final = "there is no NVIDIA driver"
"""The reason for an empty list of GPUs that nobody has to mend."""

_COMMAND_SECONDS: Final = 2.0
"""A probe waits no longer for a command: git on a network drive may take minutes."""

ISA: Final = (
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

PACKAGES: Final = (
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


def _cpu(proc: Path, sys: Path) -> dict[str, Probe]:
    cpus = sys / "devices/system/cpu"
    return {
        "model": lambda: _cpu_model(proc),
        "architecture": platform.machine,
        "cores_present": lambda: physical_cores(_online(cpus), sys),
        "threads_present": os.cpu_count,
        "cores_allowed": lambda: allowed_cores(proc, sys),
        "threads_allowed": lambda: len(affinity()),
        "isa": lambda: _isa(proc),
        "caches": lambda: _caches(cpus / "cpu0/cache"),
        "hypervisor": lambda: _hypervisor(proc),
        "governor": lambda: kernel_text(cpus / "cpu0/cpufreq/scaling_governor"),
        "boost": lambda: _boost(cpus),
        "smt": lambda: kernel_text(cpus / "smt/active") == "1",
        "frequency_hertz": lambda: int(kernel_text(cpus / "cpu0/cpufreq/scaling_cur_freq")) * 1000,
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
    first = kernel_text(proc / "cpuinfo").partition("\n\n")[0]
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
    return [name for name in ISA.split() if name in flags]


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
        kind = {"Data": "d", "Instruction": "i"}.get(kernel_text(index / "type"), "")
        size = kernel_text(index / "size")
        found[f"L{kernel_text(index / 'level')}{kind}"] = int(size.removesuffix("K")) * 1024
    if not found:
        raise _UnknownError(f"no {folder}")
    return found


def _boost(cpus: Path) -> bool:
    with suppress(OSError):
        return kernel_text(cpus / "intel_pstate/no_turbo") == "0"
    return kernel_text(cpus / "cpufreq/boost") == "1"


def _memory(proc: Path, sys: Path) -> dict[str, Probe]:
    pages = sys / "kernel/mm/transparent_hugepage/enabled"
    return {
        "total_bytes": lambda: host_memory(proc)["total"],
        "available_bytes": lambda: available_memory(proc, sys),
        "transparent_hugepages": lambda: re.findall(r"\[(\w+)\]", kernel_text(pages))[0],
    }


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
        "clocksource": lambda: kernel_text(clock),
        "container": lambda: _container(proc),
        "libc": lambda: " ".join(platform.libc_ver()).strip() or None,
        "aslr": lambda: kernel_text(proc / "sys/kernel/randomize_va_space") != "0",
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
    for name in PACKAGES.split():
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
