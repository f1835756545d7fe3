"""What NVIDIA's driver knows: why there is no GPU, the state of a clock, the energy used."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.backends.base import DeviceState, Unknown
from bench.errors import BackendAbsent

NO_GPU_REMEDY: Final = "run on a machine with an NVIDIA GPU, or name the backends you want"
DRIVER_REMEDY: Final = "install NVIDIA's driver (Debian: apt install nvidia-driver), then reboot"
CONTAINER_REMEDY: Final = "start the container with the GPU (docker run --gpus all)"
NVIDIA_VENDOR: Final = "0x10de"
OLDEST_DRIVER: Final = {12: "525.60.13", 13: "580.65.06"}
"""By major version of CUDA; source: NVIDIA, CUDA Compatibility, minor version compatibility."""

# Bits of NVML's clocks-event reasons. The first kind voids a measurement; a power cap is the
# normal state of large products and is only recorded.
_THROTTLED: Final = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_POWER_CAP: Final = 0x04


_OUT_OF_MEMORY: Final = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")
"""What CUDA's runtime, cuBLAS, cuDNN and cuRAND say, whatever a library makes of it."""


@dataclass(frozen=True)
class Driver:
    """The driver's own version and the newest CUDA that it is for."""

    version: str
    cuda: tuple[int, int]


def why_no_gpu(sys: Path = Path("/sys"), root: Path = Path("/")) -> tuple[str, str] | None:
    """Return the reason and the remedy if no NVIDIA GPU can be used, or None if one can."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1", "NoDevFiles"):
        return (
            f"CUDA_VISIBLE_DEVICES={hidden.strip()} hides every GPU",
            "unset CUDA_VISIBLE_DEVICES",
        )
    try:
        import pynvml
    except ImportError:
        return None if _on_the_bus(sys) else ("no NVIDIA GPU is in this machine", NO_GPU_REMEDY)
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        if not _on_the_bus(sys):
            return "no NVIDIA GPU is in this machine", NO_GPU_REMEDY
        if "version mismatch" in str(error).lower():
            return f"NVIDIA's driver was replaced while it was in use ({error})", "reboot"
        contained = any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))
        return (
            f"an NVIDIA GPU is there, but its driver is not ({error})",
            CONTAINER_REMEDY if contained else DRIVER_REMEDY,
        )
    return None if count else ("the NVIDIA driver sees no GPU", NO_GPU_REMEDY)


def driver() -> Driver | None:
    """Return what the driver says of itself; None where nobody can ask it."""
    try:
        import pynvml
    except ImportError:
        return None
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        version: Any = pynvml.nvmlSystemGetDriverVersion()
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        text = version.decode() if isinstance(version, bytes) else str(version)
        return Driver(text, (cuda // 1000, cuda % 1000 // 10))
    return None


def install_for(builds: Mapping[int, str]) -> str:
    """Return the command of `builds`, by major version of CUDA, that fits the driver."""
    newest = max(builds)
    found = driver()
    if found is None:
        others = "; ".join(f"with an older one: {builds[n]}" for n in builds if n != newest)
        return f"{builds[newest]} (driver {OLDEST_DRIVER[newest]} or newer; {others})"
    return builds[max((n for n in builds if n <= found.cuda[0]), default=min(builds))]


def require_cuda(library: str, cuda: str, builds: Mapping[int, str]) -> None:
    """Raise BackendAbsent if `library`, built for the CUDA of that version, is beyond the driver.

    Within one major version of CUDA any driver of it serves.
    """
    found, major = driver(), int(cuda.partition(".")[0])
    if found is None or major <= found.cuda[0]:
        return
    known = f"{found.cuda[0]}.{found.cuda[1]}"
    if found.cuda[0] not in builds:
        raise BackendAbsent(
            f"the NVIDIA driver {found.version} is too old: it is for CUDA {known}",
            f"update it to {OLDEST_DRIVER[min(builds)]} or newer",
        )
    raise BackendAbsent(
        f"{library} is built for CUDA {cuda}, but the NVIDIA driver {found.version} is for CUDA"
        f" {known}",
        f"update the driver to {OLDEST_DRIVER.get(major, 'a newer one')} or newer, or"
        f" {builds[found.cuda[0]]}",
    )


def says_out_of_memory(error: BaseException) -> bool:
    """Tell whether `error` is that of a library of CUDA's that got no memory."""
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _OUT_OF_MEMORY)


def clock_state(gpu: str) -> DeviceState:
    """Return the clock and throttle reasons of `gpu`, a UUID or PCI slot; empty if unknown."""
    try:
        import pynvml
    except ImportError:
        return DeviceState()
    with contextlib.suppress(pynvml.NVMLError):
        handle = _handle(pynvml, gpu)
        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
        return DeviceState(
            clock_hertz=1e6 * pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            throttled=tuple(text for bit, text in _THROTTLED.items() if reasons & bit),
            labels=("power_capped",) if reasons & _POWER_CAP else (),
        )
    return DeviceState()


def energy_joules(gpu: str) -> float:
    """Return what the whole of `gpu`, a UUID or PCI slot, has used since its driver was loaded.

    Raises:
        Unknown: The GPU has no counter (it is older than Volta), or nobody can ask it.
    """
    try:
        import pynvml
    except ImportError:
        raise Unknown("nvidia-ml-py is not installed: pip install nvidia-ml-py") from None
    try:
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(_handle(pynvml, gpu))) / 1000
    except pynvml.NVMLError as error:
        raise Unknown(f"the GPU's energy counter does not answer: {error}") from error


def _handle(nvml: Any, gpu: str) -> Any:
    if ":" in gpu:
        return nvml.nvmlDeviceGetHandleByPciBusId(gpu)
    return nvml.nvmlDeviceGetHandleByUUID(gpu if gpu.startswith(("GPU-", "MIG-")) else f"GPU-{gpu}")


def _on_the_bus(sys: Path) -> bool:
    for device in sys.glob("bus/pci/devices/*"):
        with contextlib.suppress(OSError):
            vendor = (device / "vendor").read_text().strip()
            # Class 03 is a display or 3D controller; the vendor also makes sound and network.
            if vendor == NVIDIA_VENDOR and (device / "class").read_text().startswith("0x03"):
                return True
    return False
