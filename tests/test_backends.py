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

from bench.backends import backends, cupy, nvidia, torch_gpu
from bench.backends.base import Backend, DeviceState, Unknown
from bench.backends.cupy import CupyBackend
from bench.backends.numpy import NumpyBackend
from bench.backends.nvidia import clock_state, energy_joules, why_no_gpu
from bench.backends.powercap import package_joules
from bench.backends.torch import TorchCpu
from bench.backends.torch_gpu import (
    TorchCuda,
    TorchMps,
    TorchRocm,
    TorchXpu,
    require_kernels,
)
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
    names = ["cupy", "numpy", "torch-cpu", "torch-cuda", "torch-mps", "torch-rocm", "torch-xpu"]
    assert said.stdout.splitlines() == [str(names), "set()"]


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
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_an_array_on_the_device_is_refilled_in_place(opened: Opened, dtype: str) -> None:
    backend = opened()
    there = backend.to_device(host(MATRIX.astype(dtype)))
    seen_by_a_call = there[:1]
    backend.refill(there, host((MATRIX + 10).astype(dtype)))
    backend.synchronize()
    assert np.asarray(backend.fetch(there)).tolist() == (MATRIX + 10).tolist()
    assert np.asarray(backend.fetch(seen_by_a_call)).tolist() == (MATRIX[:1] + 10).tolist()


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
        (TorchRocm, {"tf32"}),
        (TorchXpu, {"tf32"}),
        (TorchMps, {"tf32", "float64"}),
        (CupyBackend, {"bfloat16"}),
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


@pytest.mark.parametrize("backend", [TorchCuda, CupyBackend])
def test_memory_of_a_gpu_that_ran_out_is_recognised(backend: Any) -> None:
    opened = backend()
    opened.namespace = torch_backend().namespace
    for said in (
        "CUDA error: out of memory",
        "cudaErrorMemoryAllocation: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CURAND_STATUS_ALLOCATION_FAILED",
    ):
        assert opened.is_out_of_memory(RuntimeError(said))
    assert not opened.is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))


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
    for module in (torch_gpu, cupy):
        monkeypatch.setattr(module, "why_no_gpu", lambda: None)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (torch_gpu, cupy):
        monkeypatch.setattr(module, "why_no_gpu", lambda: NO_GPU)


@pytest.mark.parametrize(
    ("backend", "library", "reason", "remedy"),
    [
        (NumpyBackend, "numpy", "NumPy is not installed", "pip install numpy"),
        (TorchCpu, "torch", "PyTorch is not installed", "pip install torch"),
        (TorchCuda, "torch", "PyTorch is not installed", "pip install torch"),
        (CupyBackend, "cupy", "CuPy is not installed", nvidia.install_for(cupy.BUILDS)),
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
    assert remedy == f"on a machine with an NVIDIA GPU: {nvidia.install_for(cupy.BUILDS)}"


def fake_torch(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    cuda: str | None = "13.0",
    hip: str | None = None,
    init: Exception | None = None,
    devices: int = 1,
    capability: tuple[int, int] = (9, 0),
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
            init=start,
            device_count=lambda: devices,
            get_arch_list=lambda: ["sm_80", "sm_90"],
            get_device_capability=lambda device: capability,
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


def test_a_hold_is_not_calibrated_by_the_clock_of_a_resting_gpu() -> None:
    spun = 0.0

    def sleep(cycles: int) -> None:
        nonlocal spun
        resting = min(cycles, max(0.0, 0.02 - spun) * 345e6)  # 345 MHz for 20 ms, then 1980
        spun += resting / 345e6 + (cycles - resting) / 1980e6

    class Timed(TorchCuda):
        def record(self) -> float:
            return spun

        def elapsed(self, start: float, stop: float) -> float:
            return stop - start

        def synchronize(self) -> None:
            return

    backend: Any = Timed()
    backend.namespace = SimpleNamespace(cuda=SimpleNamespace(_sleep=sleep))
    for seconds in (20e-6, 5e-3):
        backend.hold(seconds)
        begin = spun
        backend.hold(seconds)
        assert spun - begin == pytest.approx(seconds, rel=0.01)


@pytest.mark.usefixtures("gpu")
def test_a_pytorch_without_cuda_on_a_machine_with_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_torch(monkeypatch, tmp_path, cuda=None)
    reason, remedy = absence(TorchCuda())
    assert reason == "this PyTorch (2.13.0+fake) is built without CUDA"
    assert remedy == nvidia.install_for(torch_gpu.BUILDS)


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


@pytest.mark.parametrize(
    ("cuda", "version", "reason", "remedy"),
    [
        (12040, "550.54.15", "is built for CUDA 13.0, but the NVIDIA driver 550.54.15", "cu126"),
        (11040, "470.82", "the NVIDIA driver 470.82 is too old: it is for CUDA 11.4", "525.60.13"),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_a_pytorch_for_a_newer_cuda_than_the_drivers(
    cuda: int,
    version: str,
    reason: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fake_nvml(monkeypatch, cuda=cuda, version=version)
    fake_torch(monkeypatch, tmp_path, cuda="13.0")
    said, what_to_do = absence(TorchCuda())
    assert reason in said
    assert remedy in what_to_do


@pytest.mark.usefixtures("gpu")
def test_within_one_major_version_of_cuda_any_driver_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_nvml(monkeypatch, cuda=12020)
    fake_torch(monkeypatch, tmp_path, cuda="12.8")
    TorchCuda().open(1)


@pytest.mark.usefixtures("gpu")
def test_a_pytorch_without_kernels_for_the_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_torch(monkeypatch, tmp_path, capability=(6, 1))
    reason, _ = absence(TorchCuda())
    assert reason == "this PyTorch has no kernels for this GPU (sm_61; it has sm_80, sm_90)"


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        (["sm_80"], (8, 6), True),
        (["sm_86"], (8, 0), False),
        (["sm_80"], (9, 0), False),
        (["sm_80", "compute_80"], (9, 0), True),
        (["sm_90a"], (9, 0), True),
        (["sm_120"], (12, 0), True),
        (["sm_100", "compute_120"], (9, 0), False),
        ([], (9, 0), True),
    ],
)
def test_kernels_run_on_their_generation_and_intermediate_code_on_later_ones(
    built: list[str], capability: tuple[int, int], runs: bool
) -> None:
    if runs:
        require_kernels(built, capability)
    else:
        with pytest.raises(BackendAbsent, match="has no kernels for this GPU"):
            require_kernels(built, capability)


@pytest.mark.usefixtures("gpu")
def test_a_pytorch_whose_cuda_libraries_are_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_torch(monkeypatch, tmp_path)
    broken = tmp_path / "torch" / "__init__.py"
    broken.parent.mkdir()
    broken.write_text("raise ImportError('libcudnn.so.9: cannot open shared object file')\n")
    (tmp_path / "torch" / "version.py").write_text((tmp_path / "version.py").read_text())
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.syspath_prepend(tmp_path)
    reason, remedy = absence(TorchCuda())
    assert reason == "PyTorch does not import: libcudnn.so.9: cannot open shared object file"
    assert "--force-reinstall torch" in remedy


def test_cudnns_tuner_is_on_in_the_process_that_is_for_it_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch_gpu, "why_no_gpu", lambda: None)
    for way, on in [(None, False), ("tuned", True), ("channels_last+tuned", True), ("x", False)]:
        fake_torch(monkeypatch, tmp_path)
        TorchCuda().open(1, TorchCuda.setup_of("float32", way))
        assert sys.modules["torch"].backends.cudnn.benchmark is on


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (TorchRocm, "this PyTorch (2.13.0+fake) is not built for ROCm"),
        (TorchXpu, "this PyTorch (2.13.0+fake) is not built for Intel's GPUs"),
        (TorchMps, "this is no Mac with Apple silicon"),
    ],
)
def test_a_row_that_nobody_has_tried_says_why_it_is_absent(
    backend: type[Backend], reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_torch(monkeypatch, tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    assert absence(backend())[0] == reason
    assert not backend.tried


def test_a_pytorch_for_rocm_opens_as_rocm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_torch(monkeypatch, tmp_path, cuda=None, hip="6.4")
    backend: Any = TorchRocm()
    backend.open(1)
    assert backend.target == ("cuda", 0)


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
) -> list[tuple[str, int]]:
    """Install a CuPy that has no more than what opening a GPU needs; return cuBLAS's modes."""
    modes: list[tuple[str, int]] = []
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
        cuda=SimpleNamespace(
            runtime=runtime,
            Device=lambda number=0: device,
            get_cublas_handle=lambda: "handle",
            cublas=SimpleNamespace(setMathMode=lambda handle, mode: modes.append((handle, mode))),
        ),
        random=SimpleNamespace(standard_normal=lambda shape, dtype: None),
        ones=lambda shape, dtype: None,
        matmul=matmul,
    )
    return modes


@pytest.mark.usefixtures("gpu")
def test_cupy_with_a_gpu_opens_at_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = fake_cupy(monkeypatch)
    backend = CupyBackend()
    backend.open(1, None)
    assert backend.namespace is sys.modules["cupy"]
    assert os.environ["CUPY_TF32"] == "0"
    assert not modes
    CupyBackend().open(1, CupyBackend.setup_of("tf32", None))
    assert os.environ["CUPY_TF32"] == "1"
    assert modes == [("handle", cupy.TF32_MATH)], "of batches, too"
    assert CupyBackend.setup_of("float32", None) is None


@pytest.mark.usefixtures("gpu")
def test_two_builds_of_cupy_overwrite_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch)
    monkeypatch.setattr(cupy, "installed_wheels", lambda: ["cupy-cuda12x", "cupy-cuda13x"])
    reason, remedy = absence(CupyBackend())
    assert reason == "cupy-cuda12x and cupy-cuda13x overwrite each other"
    assert remedy.startswith("pip uninstall cupy-cuda12x cupy-cuda13x; pip install")


@pytest.mark.usefixtures("gpu")
def test_a_cupy_for_a_newer_cuda_than_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, cuda=12080, version="570.1")
    fake_cupy(monkeypatch)
    monkeypatch.setattr(cupy, "installed_wheels", lambda: ["cupy-cuda13x"])
    reason, remedy = absence(CupyBackend())
    assert reason == (
        "cupy-cuda13x is built for CUDA 13, but the NVIDIA driver 570.1 is for CUDA 12.8"
    )
    assert remedy.endswith('pip uninstall cupy-cuda13x; pip install "cupy-cuda12x[ctk]"')


def test_bfloat16_on_cupy_needs_the_package_that_has_the_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_module(monkeypatch, "ml_dtypes")
    assert CupyBackend().unsupported("bfloat16") is None
    monkeypatch.delitem(sys.modules, "ml_dtypes")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install ml_dtypes" in str(CupyBackend().unsupported("bfloat16"))


@pytest.mark.usefixtures("gpu")
def test_the_real_cupy_without_a_driver_says_so() -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda13x")
    if why_no_gpu() is None:
        pytest.skip("there is an NVIDIA GPU here")
    reason, remedy = absence(CupyBackend())
    assert reason.startswith("CUDA does not start: cudaErrorInsufficientDriver")
    assert "update the NVIDIA driver" in remedy


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
    assert remedy == nvidia.install_for(cupy.BUILDS)


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
    cuda: int = 13000,
    version: str = "580.65.06",
    energy: int | Exception = 0,
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

    def consumed(handle: Any) -> int:
        if isinstance(energy, Exception):
            raise energy
        return energy

    fake_module(
        monkeypatch,
        "pynvml",
        nvmlSystemGetDriverVersion=lambda: version,
        nvmlSystemGetCudaDriverVersion=lambda: cuda,
        nvmlDeviceGetHandleByPciBusId=asked.append,
        nvmlDeviceGetTotalEnergyConsumption=consumed,
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
    where = bus(tmp_path, OTHER_DISPLAY, NVIDIA_3D)
    reason = "an NVIDIA GPU is there, but its driver is not (Driver Not Loaded)"
    assert why_no_gpu(where, tmp_path) == (reason, nvidia.DRIVER_REMEDY)
    (tmp_path / ".dockerenv").touch()
    assert why_no_gpu(where, tmp_path) == (reason, nvidia.CONTAINER_REMEDY)


def test_a_driver_that_was_replaced_while_it_was_in_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_nvml(monkeypatch, init=FakeNvmlError("Driver/library version mismatch"))
    found = why_no_gpu(bus(tmp_path, NVIDIA_3D))
    assert found is not None
    assert "was replaced while it was in use" in found[0]
    assert found[1] == "reboot"


@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_an_environment_that_hides_every_gpu(
    hidden: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_nvml(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    found = why_no_gpu(tmp_path)
    assert found is not None
    assert found[0].endswith("hides every GPU")
    assert found[1] == "unset CUDA_VISIBLE_DEVICES"


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


def test_a_gpu_is_known_by_its_slot_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_nvml(monkeypatch)
    clock_state("0000:19:00.0")
    assert asked == ["0000:19:00.0"]


def test_energy_is_the_drivers_counter_in_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, energy=12_345_678)
    assert energy_joules("GPU-1") == 12_345.678
    fake_nvml(monkeypatch, energy=FakeNvmlError("Not Supported"))
    with pytest.raises(Unknown, match="does not answer: Not Supported"):
        energy_joules("GPU-1")
    hide(monkeypatch, "pynvml")
    with pytest.raises(Unknown, match="pip install nvidia-ml-py"):
        energy_joules("GPU-1")


def package(sys_folder: Path, name: str, used: int) -> None:
    zone = sys_folder / "class/powercap" / name
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "energy_uj").write_text(f"{used}\n")
    (zone / "max_energy_range_uj").write_text("1000000\n")


def test_the_energy_of_a_cpu_is_that_of_its_packages(tmp_path: Path) -> None:
    with pytest.raises(Unknown, match="no energy counter of the CPU"):
        package_joules(tmp_path)
    for name, used in {
        "intel-rapl:0": 900_000,
        "intel-rapl:1": 200_000,
        "intel-rapl:0:0": 7,
    }.items():
        package(tmp_path, name, used)
    assert package_joules(tmp_path) == pytest.approx(1.1)
    package(tmp_path, "intel-rapl:0", 100_000)  # it has begun anew
    assert package_joules(tmp_path) == pytest.approx(1.3)


def test_a_counter_that_only_root_may_read_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "intel-rapl:0", 1)

    def refuse(self: Path, *_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(Unknown, match="sudo chmod a\\+r"):
        package_joules(tmp_path)


def test_an_idle_clock_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, reasons=0x01)
    state = clock_state("GPU-1")
    assert (state.throttled, state.labels) == ((), ())


def test_a_clock_that_nobody_can_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, reasons=FakeNvmlError("Not Supported"))
    assert clock_state("GPU-1") == DeviceState()
    hide(monkeypatch, "pynvml")
    assert clock_state("GPU-1") == DeviceState()
