"""What NVIDIA's driver knows: why there is no GPU, and the state of a clock."""

import contextlib
from pathlib import Path
from typing import Any, Final

from bench.backends.base import DeviceState

NO_GPU_REMEDY: Final = "run on a machine with an NVIDIA GPU, or name the backends you want"
DRIVER_REMEDY: Final = "install NVIDIA's driver (Debian: apt install nvidia-driver), then reboot"
NVIDIA_VENDOR: Final = "0x10de"

# Bits of NVML's clocks-event reasons. The first kind voids a measurement; a power cap is the
# normal state of large products and is only recorded.
_THROTTLED: Final = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_POWER_CAP: Final = 0x04


def why_no_gpu(sys: Path = Path("/sys")) -> tuple[str, str] | None:
    """Return the reason and the remedy if no NVIDIA GPU can be used, or None if one can."""
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
        return f"an NVIDIA GPU is there, but its driver is not ({error})", DRIVER_REMEDY
    return None if count else ("the NVIDIA driver sees no GPU", NO_GPU_REMEDY)


def clock_state(uuid: str) -> DeviceState:
    """Return the clock and throttle reasons of the GPU with this UUID; empty if unknown."""
    try:
        import pynvml
    except ImportError:
        return DeviceState()
    with contextlib.suppress(pynvml.NVMLError):
        handle: Any = pynvml.nvmlDeviceGetHandleByUUID(
            uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
        )
        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
        return DeviceState(
            clock_hertz=1e6 * pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            throttled=tuple(text for bit, text in _THROTTLED.items() if reasons & bit),
            labels=("power_capped",) if reasons & _POWER_CAP else (),
        )
    return DeviceState()


def _on_the_bus(sys: Path) -> bool:
    for device in sys.glob("bus/pci/devices/*"):
        with contextlib.suppress(OSError):
            vendor = (device / "vendor").read_text().strip()
            # Class 03 is a display or 3D controller; the vendor also makes sound and network.
            if vendor == NVIDIA_VENDOR and (device / "class").read_text().startswith("0x03"):
                return True
    return False
