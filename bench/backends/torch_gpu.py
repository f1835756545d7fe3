"""PyTorch on a GPU: one class for all, a row for each kind.

Nobody has tried the rows of ROCm, Apple's and Intel's GPUs yet; what they measure says so.
"""

import platform
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from bench.backends.base import DeviceState, first_line
from bench.backends.nvidia import (
    NO_GPU_REMEDY,
    clock_state,
    energy_joules,
    install_for,
    require_cuda,
    why_no_gpu,
)
from bench.backends.torch import TUNED, TorchBackend, build
from bench.errors import BackendAbsent

# The indices are PyTorch's own; an extra of ours cannot name them.
INDEX: Final = "pip install torch --index-url https://download.pytorch.org/whl/"
BUILDS: Final = {12: INDEX + "cu126", 13: INDEX + "cu130"}
CALIBRATION_CYCLES: Final = 10**6
WAKE_CYCLES: Final = 4 * 10**7
"""Some 20 ms at a GPU's full clock, which it takes to leave that of its rest."""


class TorchAccelerator(TorchBackend):
    """PyTorch on a GPU behind a module with CUDA's interface, such as `torch.cuda`."""

    device = "gpu"
    asynchronous = True
    ceiling_sizes = (4096, 8192)
    interface: ClassVar[str]
    """The module of PyTorch; ROCm's is called `cuda`, too."""
    runtime: ClassVar[str]
    """What PyTorch reaches the GPU through."""
    look: ClassVar[str] = NO_GPU_REMEDY
    """What to do where that sees no GPU."""

    def require(self, build: Any) -> None:
        """Raise BackendAbsent if this build of PyTorch, or this machine, has no such device."""
        raise NotImplementedError

    def open(self, threads: int, setup: str | None = None) -> None:
        """Open a context on the first GPU that the environment shows."""
        self.require(build())
        super().open(threads, setup)
        self.start()
        if self.module.device_count() == 0:
            raise BackendAbsent(f"{self.runtime} sees no GPU", self.look)
        self.target = self.namespace.device(self.kind, 0)
        self.namespace.zeros(1, device=self.target)

    def start(self) -> None:
        """Start what PyTorch reaches the GPU through, where that says more than its absence."""
        return

    @property
    def module(self) -> Any:
        """PyTorch's module for this kind of GPU."""
        return getattr(self.namespace, self.interface)

    def describe(self) -> dict[str, Any]:
        """Add the GPU."""
        properties = self.module.get_device_properties(self.target)
        return {
            **super().describe(),
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
        }

    def synchronize(self) -> None:
        """Wait for the current stream."""
        self.module.current_stream().synchronize()

    def drain(self) -> None:
        """Wait for the whole device."""
        self.module.synchronize()

    def record(self) -> Any:
        """Record an event on the current stream."""
        event = self.module.Event(enable_timing=True)
        event.record()
        return event

    def elapsed(self, start: Any, stop: Any) -> float:
        """Return the seconds between two events."""
        return float(start.elapsed_time(stop)) / 1000

    def reset_peak(self) -> None:
        """Reset the allocator's peak."""
        self.module.reset_peak_memory_stats()

    def peak_bytes(self) -> int | None:
        """Return the allocator's peak."""
        return int(self.module.max_memory_allocated())

    def free(self) -> None:
        """Empty the allocator's cache."""
        self.module.empty_cache()


class TorchCuda(TorchAccelerator):
    """PyTorch on one NVIDIA GPU."""

    name = "torch-cuda"
    kind = "cuda"
    interface = "cuda"
    runtime = "CUDA"
    look = "check CUDA_VISIBLE_DEVICES, and nvidia-smi for the GPU's state"
    _cycles_per_second: float | None = None

    @classmethod
    def setup_of(cls, dtype: str, way: str | None) -> str | None:
        """Keep cuDNN's tuner apart: a process keeps a plan for each shape, whoever made it."""
        return TUNED if TUNED in (way or "").split("+") else None

    def require(self, build: Any) -> None:
        """Look at the build and the driver, before the second that importing PyTorch takes."""
        if build.hip:
            raise BackendAbsent(
                f"this PyTorch ({build.__version__}) is built for ROCm: see torch-rocm",
                f"on a machine with an NVIDIA GPU: {install_for(BUILDS)}",
            )
        missing = why_no_gpu()
        if build.cuda is None:
            reason = f"this PyTorch ({build.__version__}) is built without CUDA"
            if missing:
                remedy = f"on a machine with an NVIDIA GPU: {install_for(BUILDS)}"
                raise BackendAbsent(f"{reason}, and {missing[0]}", remedy)
            raise BackendAbsent(reason, install_for(BUILDS))
        if missing:
            raise BackendAbsent(*missing)
        require_cuda(f"this PyTorch ({build.__version__})", build.cuda, BUILDS)

    def start(self) -> None:
        """Start CUDA: a driver that is too old says so here."""
        torch = self.namespace
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            raise BackendAbsent(
                f"CUDA {torch.version.cuda} does not start: {first_line(error)}",
                "update the NVIDIA driver, or install a PyTorch built for an older CUDA",
            ) from error
        if torch.cuda.device_count():
            built = torch.cuda.get_arch_list()
            require_kernels(built, torch.cuda.get_device_capability(0))

    def describe(self) -> dict[str, Any]:
        """Add cuDNN and the flags that choose its algorithms."""
        torch = self.namespace
        properties = torch.cuda.get_device_properties(self.target)
        return {
            **super().describe(),
            "gpu_multiprocessors": properties.multi_processor_count,
            "cudnn": torch.backends.cudnn.version(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        }

    def unsupported(self, dtype: str) -> str | None:
        """Accept every dtype."""
        return None

    def use(self, dtype: str) -> None:
        """Allow TF32 where it is what is measured, and nowhere else."""
        torch = self.namespace
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"

    def hold(self, seconds: float) -> None:
        """Let a kernel wait on the current stream, by the clock of its multiprocessor."""
        sleep = self.namespace.cuda._sleep
        if self._cycles_per_second is None:
            sleep(WAKE_CYCLES)  # the first one loads the kernel
            start = self.record()
            sleep(CALIBRATION_CYCLES)
            stop = self.record()
            self.synchronize()
            self._cycles_per_second = CALIBRATION_CYCLES / self.elapsed(start, stop)
        sleep(int(seconds * self._cycles_per_second))

    def state(self) -> DeviceState:
        """Ask the driver."""
        return clock_state(self._uuid())

    def energy(self) -> float:
        """Ask the driver."""
        return energy_joules(self._uuid())

    def _uuid(self) -> str:
        return str(self.namespace.cuda.get_device_properties(self.target).uuid)


class TorchRocm(TorchAccelerator):
    """PyTorch on one AMD GPU: HIP behind CUDA's names. Untried."""

    name = "torch-rocm"
    kind = "cuda"
    interface = "cuda"
    runtime = "ROCm"
    tried = False

    def require(self, build: Any) -> None:
        """Look at the build."""
        if not build.hip:
            raise BackendAbsent(
                f"this PyTorch ({build.__version__}) is not built for ROCm",
                f"on a machine with an AMD GPU: {INDEX}rocm6.4",
            )

    def describe(self) -> dict[str, Any]:
        """Add the version of ROCm."""
        return {**super().describe(), "hip": self.namespace.version.hip}


class TorchXpu(TorchAccelerator):
    """PyTorch on one Intel GPU. Untried."""

    name = "torch-xpu"
    kind = "xpu"
    interface = "xpu"
    runtime = "Intel's runtime"
    tried = False

    def require(self, build: Any) -> None:
        """Look at the build."""
        if not getattr(build, "xpu", None):
            raise BackendAbsent(
                f"this PyTorch ({build.__version__}) is not built for Intel's GPUs",
                f"on a machine with one: {INDEX}xpu",
            )


class TorchMps(TorchAccelerator):
    """PyTorch on Apple's GPU: one stream, no float64, no peak of memory. Untried."""

    name = "torch-mps"
    kind = "mps"
    interface = "mps"
    runtime = "Metal"
    tried = False

    def require(self, build: Any) -> None:
        """Look at the machine: every build for it has Metal."""
        if (sys.platform, platform.machine()) != ("darwin", "arm64"):
            raise BackendAbsent("this is no Mac with Apple silicon", "run on one")

    def describe(self) -> dict[str, Any]:
        """Add the GPU; it shares the memory of the machine."""
        return {
            **TorchBackend.describe(self),
            "gpu": f"Apple GPU ({platform.processor()})",
            "gpu_memory_bytes": self.module.recommended_max_memory(),
        }

    def unsupported(self, dtype: str) -> str | None:
        """Refuse float64, too."""
        return "Metal has no float64" if dtype == "float64" else super().unsupported(dtype)

    def synchronize(self) -> None:
        """Wait for the only stream."""
        self.module.synchronize()

    def reset_peak(self) -> None:
        """Do nothing: it counts no peak."""
        return

    def peak_bytes(self) -> int | None:
        """Return None: it counts no peak."""
        return None


def require_kernels(built: Sequence[str], capability: tuple[int, int]) -> None:
    """Raise BackendAbsent if none of the `built` architectures runs on a GPU of this capability.

    `sm_80` runs on 8.0 and 8.6, but not on 9.0; `compute_80` is translated for whatever is newer.
    """
    for name in built:
        kind, _, digits = name.partition("_")
        number = "".join(filter(str.isdigit, digits))
        its = int(number[:-1]), int(number[-1])
        if its <= capability and (kind == "compute" or its[0] == capability[0]):
            return
    if built:
        raise BackendAbsent(
            f"this PyTorch has no kernels for this GPU (sm_{capability[0]}{capability[1]}; it has"
            f" {', '.join(built)})",
            f"install one that has: {'; or '.join(BUILDS.values())}",
        )


BACKENDS = (TorchCuda, TorchRocm, TorchXpu, TorchMps)
