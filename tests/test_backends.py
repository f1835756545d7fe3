import math
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.backends import backends, cupy, nvidia, torch
from bench.backends.base import Backend, DeviceState
from bench.backends.cupy import CupyBackend
from bench.backends.numpy import NumpyBackend
from bench.backends.nvidia import clock_state, why_no_gpu
from bench.backends.torch import TorchCpu, TorchCuda
from bench.errors import BackendAbsent
from bench.measuring.exchange import HostArray
from bench.workload import DTYPES
from tests.fakes import numpy_backend, torch_backend

each_backend = pytest.mark.parametrize("opened", [numpy_backend, torch_backend])
Opened = Callable[[], Backend]


def host(array: Any) -> HostArray:
    return HostArray(array.shape, array.dtype.name, array.reshape(-1).view("uint8").data)


MATRIX = np.arange(6, dtype="float32").reshape(2, 3)


def test_backends_are_found_without_importing_their_libraries() -> None:
    code = (
        "import sys; from bench.backends import backends; print(sorted(backends()));"
        "print({'numpy', 'torch', 'cupy', 'pynvml'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["['cupy', 'numpy', 'torch-cpu', 'torch-cuda']", "set()"]


def test_a_backend_is_named_after_its_library_and_device() -> None:
    for name, backend in backends().items():
        assert backend.name == name
        assert backend.library == name.partition("-")[0]
        assert backend.device in ("cpu", "gpu")
        assert backend.asynchronous == (backend.device == "gpu")


@each_backend
def test_arrays_go_to_the_device_and_back(opened: Opened) -> None:
    backend = opened()
    there = backend.to_device(host(MATRIX))
    assert np.asarray(backend.fetch(there)).tolist() == MATRIX.tolist()
    whole, last = backend.to_float64(there), backend.to_float64(there, slice(1, 2))
    assert str(whole.dtype).endswith("float64")
    assert np.asarray(whole).tolist() == MATRIX.tolist()
    assert np.asarray(last).tolist() == MATRIX[1:].tolist()
    expected = backend.reference(host(MATRIX.astype("float64")))
    assert float((whole - expected).sum()) == 0.0


@each_backend
def test_what_is_on_the_device_is_a_copy(opened: Opened) -> None:
    backend, original = opened(), MATRIX.copy()
    backend.poison(backend.to_device(host(original)))
    assert original.tolist() == MATRIX.tolist()


@each_backend
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_poison_leaves_no_number(opened: Opened, dtype: str) -> None:
    backend = opened()
    there = backend.to_device(host(MATRIX.astype(dtype)))
    backend.poison(there)
    assert all(math.isnan(x) for x in np.asarray(backend.to_float64(there)).flatten())


@each_backend
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_product_for_the_peak_is_a_product(opened: Opened, dtype: str) -> None:
    backend = opened()
    call = backend.gemm(64, dtype)
    product = call()
    assert tuple(product.shape) == (64, 64)
    assert str(product.dtype).endswith(dtype)
    # A sum of 64 products of two N(0, 1) has a variance of 64.
    spread = float(np.asarray(backend.to_float64(product)).std())
    assert 7 < spread < 9
    assert call() is product, "into one buffer"


@each_backend
def test_the_copy_for_the_peak_moves_the_bytes_it_is_asked_for(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened()
    made: list[int] = []
    ones = backend.namespace.ones

    def watched(*args: Any, **keywords: Any) -> Any:
        array = ones(*args, **keywords)
        made.append(array.nbytes)
        return array

    monkeypatch.setattr(backend.namespace, "ones", watched)
    backend.copy(8000)()
    assert made == [8000, 8000]


@each_backend
def test_a_backend_describes_itself_as_its_library_does(opened: Opened) -> None:
    backend = opened()
    described = backend.describe()
    assert described["version"] == str(backend.namespace.__version__)
    assert described["threadpools"]
    assert described["blas"]


def test_pytorch_runs_the_threads_it_was_given_at_full_precision() -> None:
    backend = torch_backend()
    for threads in (3, 1):  # opening it a second time does no harm
        backend.open(threads, None)
        described = backend.describe()
        assert described["threadpools"][0]["num_threads"] == threads
    assert described["float32_matmul_precision"] == "highest"
    assert described["cudnn_allow_tf32"] is False


@pytest.mark.parametrize(
    ("backend", "refused"),
    [
        (NumpyBackend, {"float16", "bfloat16", "tf32"}),
        (TorchCpu, {"tf32"}),
        (TorchCuda, set()),
        (CupyBackend, {"bfloat16", "tf32"}),
    ],
)
def test_a_dtype_that_is_not_measured_has_a_reason(
    backend: type[Backend], refused: set[str]
) -> None:
    reasons = {dtype: backend().unsupported(dtype) for dtype in DTYPES}
    assert {dtype for dtype, reason in reasons.items() if reason} == refused


def test_a_switch_to_tf32_lasts_for_one_case_only() -> None:
    library = torch_backend().namespace
    backend = TorchCuda()
    backend.namespace = library
    flags = []
    for dtype in ("tf32", "float32"):
        backend.use(dtype)
        flags.append((library.backends.cuda.matmul.allow_tf32, library.backends.cudnn.allow_tf32))
    assert flags == [(True, True), (False, False)]


def test_memory_that_ran_out_is_recognised() -> None:
    backend = torch_backend()
    assert backend.is_out_of_memory(MemoryError())
    assert backend.is_out_of_memory(backend.namespace.OutOfMemoryError("CUDA out of memory"))
    said = "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you..."
    assert backend.is_out_of_memory(RuntimeError(said))
    assert not backend.is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_pytorch_says_so_itself_when_memory_runs_out() -> None:
    library = torch_backend().namespace
    with pytest.raises(RuntimeError) as caught:
        library.empty(2**60, dtype=library.uint8)
    assert torch_backend().is_out_of_memory(caught.value)


def fake_module(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> ModuleType:
    """Put a module of this name where an import finds it."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def hide(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)


def absence(backend: Backend) -> tuple[str, str]:
    with pytest.raises(BackendAbsent) as caught:
        backend.open(1, None)
    return caught.value.reason, caught.value.remedy


NO_GPU = ("no NVIDIA GPU is in this machine", "find one")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a GPU with a driver that is ready."""
    for module in (torch, cupy):
        monkeypatch.setattr(module, "why_no_gpu", lambda: None)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (torch, cupy):
        monkeypatch.setattr(module, "why_no_gpu", lambda: NO_GPU)


@pytest.mark.parametrize(
    ("backend", "library", "reason", "remedy"),
    [
        (NumpyBackend, "numpy", "NumPy is not installed", "pip install numpy"),
        (TorchCpu, "torch", "PyTorch is not installed", "pip install torch"),
        (TorchCuda, "torch", "PyTorch is not installed", "pip install torch"),
        (CupyBackend, "cupy", "CuPy is not installed", cupy.INSTALL),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_a_library_that_is_not_installed(
    backend: type[Backend],
    library: str,
    reason: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, library)
    assert absence(backend()) == (reason, remedy)


@pytest.mark.usefixtures("no_gpu")
def test_cupy_is_not_installed_and_would_be_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "cupy")
    reason, remedy = absence(CupyBackend())
    assert reason == "CuPy is not installed, and no NVIDIA GPU is in this machine"
    assert remedy == f"on a machine with an NVIDIA GPU: {cupy.INSTALL}"


def fake_torch(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    cuda: str | None = "13.0",
    hip: str | None = None,
    init: Exception | None = None,
    devices: int = 1,
) -> None:
    """Install a PyTorch that has no more than what opening a GPU needs."""
    build = {"__version__": "2.13.0+fake", "cuda": cuda, "hip": hip}
    (folder / "version.py").write_text(
        "".join(f"{key} = {value!r}\n" for key, value in build.items())
    )

    def start() -> None:
        if init is not None:
            raise init

    flags = SimpleNamespace(allow_tf32=True, benchmark=True)
    module = fake_module(
        monkeypatch,
        "torch",
        version=SimpleNamespace(**build),
        backends=SimpleNamespace(cudnn=flags),
        cuda=SimpleNamespace(
            init=start, device_count=lambda: devices, set_device=lambda device: None
        ),
        set_num_threads=lambda count: None,
        get_num_interop_threads=lambda: 1,
        set_float32_matmul_precision=lambda name: None,
        device=lambda *names: names,
        zeros=lambda count, device: None,
    )
    module.__spec__ = ModuleSpec("torch", None, origin=str(folder / "__init__.py"))


@pytest.mark.usefixtures("gpu")
def test_pytorch_with_cuda_and_a_gpu_opens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_torch(monkeypatch, tmp_path)
    backend: Any = TorchCuda()
    backend.open(1, None)
    assert backend.target == ("cuda", 0)


@pytest.mark.usefixtures("gpu")
def test_a_pytorch_without_cuda_on_a_machine_with_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_torch(monkeypatch, tmp_path, cuda=None)
    reason, remedy = absence(TorchCuda())
    assert reason == "this PyTorch (2.13.0+fake) is built without CUDA"
    assert remedy == torch.CUDA_REMEDY


@pytest.mark.usefixtures("no_gpu")
def test_a_pytorch_without_cuda_on_a_machine_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_torch(monkeypatch, tmp_path, cuda=None)
    reason, remedy = absence(TorchCuda())
    assert reason.endswith("is built without CUDA, and no NVIDIA GPU is in this machine")
    assert remedy.startswith("on a machine with an NVIDIA GPU: ")


@pytest.mark.usefixtures("no_gpu")
def test_a_pytorch_with_cuda_on_a_machine_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_torch(monkeypatch, tmp_path)
    assert absence(TorchCuda()) == NO_GPU


@pytest.mark.usefixtures("gpu")
def test_a_pytorch_for_rocm_does_not_pass_for_cuda(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_torch(monkeypatch, tmp_path, cuda=None, hip="6.4")
    assert "is built for ROCm" in absence(TorchCuda())[0]


@pytest.mark.usefixtures("gpu")
def test_a_driver_that_is_too_old_for_pytorch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = RuntimeError("The NVIDIA driver on your system is too old (found 11040).\nPlease update")
    fake_torch(monkeypatch, tmp_path, init=old)
    reason, remedy = absence(TorchCuda())
    assert reason == (
        "CUDA 13.0 does not start: The NVIDIA driver on your system is too old (found 11040)."
    )
    assert "update the NVIDIA driver" in remedy


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_cuda_does_not_see(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_torch(monkeypatch, tmp_path, devices=0)
    fake_cupy(monkeypatch, devices=0)
    for backend in (TorchCuda(), CupyBackend()):
        reason, remedy = absence(backend)
        assert reason == "CUDA sees no GPU"
        assert "CUDA_VISIBLE_DEVICES" in remedy


class FakeCudaError(RuntimeError):
    """What CuPy raises when a call of CUDA's runtime fails."""


def fake_cupy(
    monkeypatch: pytest.MonkeyPatch,
    *,
    devices: int | Exception = 1,
    product: Exception | None = None,
) -> None:
    """Install a CuPy that has no more than what opening a GPU needs."""
    monkeypatch.setenv("CUPY_TF32", "1")

    def count() -> int:
        if isinstance(devices, Exception):
            raise devices
        return devices

    def matmul(a: Any, b: Any) -> None:
        if product is not None:
            raise product

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=FakeCudaError)
    device = SimpleNamespace(use=lambda: None, synchronize=lambda: None)
    fake_module(
        monkeypatch,
        "cupy",
        cuda=SimpleNamespace(runtime=runtime, Device=lambda number=0: device),
        ones=lambda shape, dtype: None,
        matmul=matmul,
    )


@pytest.mark.usefixtures("gpu")
def test_cupy_with_a_gpu_opens_at_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch)
    backend = CupyBackend()
    backend.open(1, None)
    assert backend.namespace is sys.modules["cupy"]
    assert os.environ["CUPY_TF32"] == "0"


@pytest.mark.usefixtures("no_gpu")
def test_cupy_on_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch)
    assert absence(CupyBackend()) == NO_GPU


@pytest.mark.usefixtures("gpu")
def test_a_driver_that_is_too_old_for_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    old = FakeCudaError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    fake_cupy(monkeypatch, devices=old)
    reason, remedy = absence(CupyBackend())
    assert reason.startswith("CUDA does not start: cudaErrorInsufficientDriver")
    assert "update the NVIDIA driver" in remedy


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libcublas.so.13: cannot open shared object file\nand more"),
        RuntimeError("CuPy failed to load libnvrtc.so.13: OSError: libnvrtc.so.13: cannot open"),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_cupy_without_the_libraries_of_cuda(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cupy(monkeypatch, product=error)
    reason, remedy = absence(CupyBackend())
    assert reason == f"CUDA's libraries are missing: {str(error).splitlines()[0]}"
    assert remedy == cupy.INSTALL


@pytest.mark.usefixtures("gpu")
def test_a_fault_of_cuda_itself_is_not_taken_for_a_missing_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_cupy(monkeypatch, product=FakeCudaError("cudaErrorECCUncorrectable"))
    with pytest.raises(FakeCudaError):
        CupyBackend().open(1, None)


@pytest.mark.usefixtures("gpu")
def test_a_cupy_that_does_not_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cupy.py").write_text("raise ImportError('libcuda.so.1: not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    reason, _ = absence(CupyBackend())
    assert reason == "CuPy does not import: libcuda.so.1: not found"


class FakeNvmlError(Exception):
    """What the driver's library raises."""


def fake_nvml(
    monkeypatch: pytest.MonkeyPatch,
    *,
    init: Exception | None = None,
    count: int = 1,
    reasons: int | Exception = 0,
) -> list[str]:
    """Install the driver's library; return the UUIDs that it is asked for."""
    asked: list[str] = []

    def start() -> None:
        if init is not None:
            raise init

    def current(handle: Any) -> int:
        if isinstance(reasons, Exception):
            raise reasons
        return reasons

    fake_module(
        monkeypatch,
        "pynvml",
        NVMLError=FakeNvmlError,
        NVML_CLOCK_SM=1,
        nvmlInit=start,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByUUID=asked.append,
        nvmlDeviceGetCurrentClocksEventReasons=current,
        nvmlDeviceGetClockInfo=lambda handle, kind: 1980,
    )
    return asked


def bus(folder: Path, *devices: tuple[str, str]) -> Path:
    """Write a bus with devices, each a vendor and a class, as the kernel shows it."""
    for number, (vendor, kind) in enumerate(devices):
        device = folder / f"bus/pci/devices/0000:0{number}:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    return folder


NVIDIA_3D, NVIDIA_SOUND, OTHER_DISPLAY = (
    ("0x10de", "0x030200"),
    ("0x10de", "0x040300"),
    ("0x1002", "0x030000"),
)


def test_a_gpu_whose_driver_is_ready_can_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_nvml(monkeypatch)
    assert why_no_gpu(tmp_path) is None


def test_a_gpu_on_the_bus_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_nvml(monkeypatch, init=FakeNvmlError("Driver Not Loaded"))
    assert why_no_gpu(bus(tmp_path, OTHER_DISPLAY, NVIDIA_3D)) == (
        "an NVIDIA GPU is there, but its driver is not (Driver Not Loaded)",
        nvidia.DRIVER_REMEDY,
    )


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_nvml(monkeypatch, init=FakeNvmlError("Shared Library Not Found"))
    assert why_no_gpu(bus(tmp_path, OTHER_DISPLAY, NVIDIA_SOUND)) == (
        "no NVIDIA GPU is in this machine",
        nvidia.NO_GPU_REMEDY,
    )


def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_nvml(monkeypatch, count=0)
    assert why_no_gpu(tmp_path) == ("the NVIDIA driver sees no GPU", nvidia.NO_GPU_REMEDY)


def test_without_the_drivers_library_the_bus_decides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hide(monkeypatch, "pynvml")
    assert why_no_gpu(tmp_path) == ("no NVIDIA GPU is in this machine", nvidia.NO_GPU_REMEDY)
    assert why_no_gpu(bus(tmp_path, NVIDIA_3D)) is None


def test_the_state_of_a_clock_has_its_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_nvml(monkeypatch, reasons=0x08 | 0x40 | 0x04 | 0x01)
    state = clock_state("0d1c9d5c-aaaa")
    assert state == DeviceState(
        clock_hertz=1.98e9,
        throttled=("hardware slowdown", "hardware thermal slowdown"),
        labels=("power_capped",),
    )
    clock_state("GPU-0d1c9d5c-aaaa")
    assert asked == ["GPU-0d1c9d5c-aaaa"] * 2


def test_an_idle_clock_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, reasons=0x01)
    state = clock_state("GPU-1")
    assert (state.throttled, state.labels) == ((), ())


def test_a_clock_that_nobody_can_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, reasons=FakeNvmlError("Not Supported"))
    assert clock_state("GPU-1") == DeviceState()
    hide(monkeypatch, "pynvml")
    assert clock_state("GPU-1") == DeviceState()
