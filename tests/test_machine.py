import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bench.machine import NO_DRIVER, capture, default_label
from tests.kernel_tree import Tree

GIB = 2**30


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def described(tree: Tree) -> dict[str, Any]:
    return capture(libraries={}, proc=tree.proc, sys=tree.sys)


def nulls(value: Any, name: str = "") -> Iterator[str]:
    if value is None:
        yield name
    elif isinstance(value, float):
        assert math.isfinite(value), name
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from nulls(inner, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from nulls(inner, f"{name}.{index}")


def test_this_machine_is_described_in_finite_json_with_a_reason_for_every_null() -> None:
    machine = capture(libraries={"numpy": {"version": "2.0", "blas": None}})
    assert json.loads(json.dumps(machine, allow_nan=False)) == machine
    assert set(nulls(machine)) - set(machine["unknown"]) == set()
    assert all(machine["unknown"].values())
    assert machine["unknown"]["libraries.numpy.blas"]
    assert machine["cpu"]["cores_allowed"] >= 1
    assert machine["memory"]["total_bytes"] > machine["memory"]["available_bytes"] > 0
    assert machine["python"]["version"] == ".".join(map(str, sys.version_info[:3]))


def test_describing_the_machine_imports_no_library_that_is_measured() -> None:
    code = (
        "import sys; from bench.machine import capture; capture(libraries={})\n"
        "print({'numpy', 'torch', 'cupy', 'pandas'} & set(sys.modules) or 'none')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "none"


def test_importing_the_module_imports_no_optional_library() -> None:
    code = "import sys, bench.machine; print({'psutil', 'pynvml'} & set(sys.modules) or 'none')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "none"


def test_on_a_machine_that_tells_nothing_everything_is_null_with_a_reason(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("psutil", "pynvml"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("PATH", str(tree.root))
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "")
    machine = described(tree)
    assert machine["cpu"]["model"] is None
    assert machine["memory"] == dict.fromkeys(machine["memory"])
    assert machine["git"] == {"revision": None, "dirty": None}
    assert machine["gpus"] == []
    assert machine["unknown"]["gpus"] == "nvidia-ml-py is not installed"
    assert machine["unknown"]["git.revision"] == "git is not installed"
    assert set(nulls(machine)) - set(machine["unknown"]) == set()


@pytest.mark.parametrize("system", ["Darwin", "Windows", "Plan9"])
def test_other_systems_never_raise(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "getloadavg", raising=False)
    machine = described(tree)
    assert machine["system"]["os"] == system
    assert machine["system"]["loadavg"] is None
    assert machine["unknown"]["system.loadavg"]
    assert machine["cpu"]["cores_allowed"] >= 1


def test_a_linux_machine_is_read_field_by_field(tree: Tree) -> None:
    tree.write(
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Example 9000\nmicrocode\t: 0x1f\n"
        "flags\t\t: fpu avx2 avx512f amx_tile sse2\n\n"
        "processor\t: 1\nmodel name\t: Another\nflags\t: hypervisor",
    )
    cpus = "sys/devices/system/cpu"
    tree.cores(["0-1", "0-1", "2-3", "2-3"])
    tree.write(f"{cpus}/cpu0/cpufreq/scaling_governor", "powersave")
    tree.write(f"{cpus}/cpu0/cpufreq/scaling_cur_freq", "2600000")
    tree.write(f"{cpus}/intel_pstate/no_turbo", "1")
    tree.write(f"{cpus}/smt/active", "1")
    for index, (level, kind, size) in enumerate(
        [("1", "Data", "32K"), ("1", "Instruction", "64K"), ("3", "Unified", "32768K")]
    ):
        tree.write(f"{cpus}/cpu0/cache/index{index}/level", level)
        tree.write(f"{cpus}/cpu0/cache/index{index}/type", kind)
        tree.write(f"{cpus}/cpu0/cache/index{index}/size", size)
    tree.write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    tree.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet")
    tree.write("proc/sys/kernel/randomize_va_space", "0")
    machine = described(tree)
    cpu = machine["cpu"]
    assert (cpu["model"], cpu["microcode"]) == ("Example 9000", "0x1f")
    assert cpu["isa"] == ["avx2", "avx512f", "amx_tile"]
    assert cpu["hypervisor"] is False
    assert cpu["cores_present"] == 2
    assert cpu["governor"] == "powersave"
    assert cpu["frequency_hertz"] == 2_600_000_000
    assert (cpu["boost"], cpu["smt"]) == (False, True)
    assert cpu["caches"] == {"L1d": 32 * 1024, "L1i": 64 * 1024, "L3": 32 * 1024**2}
    assert machine["memory"]["transparent_hugepages"] == "madvise"
    assert machine["system"]["clocksource"] == "hpet"
    assert machine["system"]["aslr"] is False


def test_an_arm_server_is_named_by_its_part_and_has_neon(tree: Tree) -> None:
    tree.write(
        "proc/cpuinfo",
        "processor\t: 0\nFeatures\t: fp asimd asimddp sve bf16\nCPU part\t: 0xd40",
    )
    cpu = described(tree)["cpu"]
    assert cpu["model"] == "Arm Neoverse-V1"
    assert cpu["isa"] == ["neon", "asimddp", "bf16", "sve"]
    assert cpu["hypervisor"] is None


@pytest.mark.parametrize(
    ("mark", "kind"), [(".dockerenv", "docker"), ("run/.containerenv", "podman"), ("x", "none")]
)
def test_a_container_is_told_by_its_mark(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, mark: str, kind: str
) -> None:
    monkeypatch.delenv("container", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    tree.write(mark, "")
    assert described(tree)["system"]["container"] == kind


def test_only_variables_that_change_speed_are_kept_and_no_secret(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"OMP_NUM_THREADS": "3", "LD_PRELOAD_": "no", "CUDA_VISIBLE_DEVICES": "1"}
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    for name in ("NVIDIA_API_KEY", "TORCH_HUB_TOKEN", "AWS_OMP_X", "OMPI_RANK", "MY_VALUE"):
        monkeypatch.setenv(name, "hidden")
    environment = described(tree)["environment"]
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert "LD_PRELOAD_" not in environment
    assert "hidden" not in environment.values()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no bytes in its environment")
def test_a_variable_that_is_not_utf8_still_fits_into_a_run_file(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUPY_CACHE_DIR", os.fsdecode(b"/caf\xe9"))
    assert described(tree)["environment"]["CUPY_CACHE_DIR"].encode("utf-8") == b"/caf\\udce9"


def test_what_workers_report_is_passed_through_made_finite() -> None:
    reported = {"torch-cpu": {"threads": [2, 2.5], "rate": math.nan, "where": Path("x")}}
    machine = capture(libraries=reported)
    assert machine["libraries"]["torch-cpu"] == {"threads": [2, 2.5], "rate": None, "where": "x"}
    assert machine["unknown"]["libraries.torch-cpu.rate"] == "reported as nan"


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_revision_of_the_current_folder_is_recorded(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert described(tree)["git"] == {"revision": None, "dirty": None}
    git(tmp_path, "init")
    (tmp_path / "model.py").write_text("x = 1\n", encoding="utf-8")
    git(tmp_path, "add", "model.py")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "run.jsonl").write_text("{}", encoding="utf-8")
    clean = described(tree)["git"]
    assert len(clean["revision"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "model.py").write_text("x = 2\n", encoding="utf-8")
    assert described(tree)["git"] == {**clean, "dirty": True}


class NotSupportedError(Exception):
    """Stands for pynvml's own."""


def fake_nvml(**answers: Any) -> Any:
    """Make a pynvml of one H200; an answer that is an exception is raised."""
    nvml: Any = ModuleType("pynvml")
    nvml.NVML_CLOCK_SM = 1
    everything = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlSystemGetDriverVersion": b"570.86",
        "nvmlSystemGetCudaDriverVersion": 12080,
        "nvmlDeviceGetName": b"NVIDIA H200",
        "nvmlDeviceGetPciInfo": SimpleNamespace(busId="00000000:1B:00.0"),
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=141 * GIB),
        "nvmlDeviceGetCudaComputeCapability": (9, 0),
        "nvmlDeviceGetEnforcedPowerLimit": 500_000,
        "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
        "nvmlDeviceGetMaxClockInfo": 1980,
        "nvmlDeviceGetMigMode": [0, 1],
        "nvmlDeviceGetComputeRunningProcesses": [
            SimpleNamespace(pid=pid) for pid in (os.getpid(), 77, 78)
        ],
        "nvmlDeviceGetPersistenceMode": 1,
        "nvmlDeviceGetEccMode": [1, 1],
    }

    def answering(answer: Any) -> Any:
        def call(*_: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    for name, answer in {**everything, **answers}.items():
        setattr(nvml, name, answering(answer))
    return nvml


def test_a_gpu_is_described_in_base_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    machine = capture(libraries={}, own_processes=[77])
    assert machine["gpus"] == [
        {
            "index": 0,
            "name": "NVIDIA H200",
            "pci_slot": "00000000:1B:00.0",
            "memory_bytes": 141 * GIB,
            "compute_capability": "9.0",
            "driver": "570.86",
            "cuda_driver_version": "12.8",
            "power_limit_watts": 500.0,
            "power_limit_default_watts": 700.0,
            "max_sm_clock_hertz": 1_980_000_000,
            "mig": False,
            "other_processes": 1,
            "persistence": True,
            "ecc": True,
        }
    ]
    assert default_label(machine) == "NVIDIA H200"


def test_a_field_that_the_gpu_does_not_support_is_null_and_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = fake_nvml(
        nvmlDeviceGetMigMode=NotSupportedError("Not Supported"),
        nvmlDeviceGetEnforcedPowerLimit=NotSupportedError("Not Supported"),
    )
    del nvml.nvmlDeviceGetEccMode  # older bindings lack some calls
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    machine = capture(libraries={})
    gpu = machine["gpus"][0]
    assert (gpu["mig"], gpu["power_limit_watts"], gpu["ecc"]) == (None, None, None)
    assert (gpu["name"], gpu["power_limit_default_watts"]) == ("NVIDIA H200", 700.0)
    assert "Not Supported" in machine["unknown"]["gpus.0.mig"]
    assert "nvmlDeviceGetEccMode" in machine["unknown"]["gpus.0.ecc"]


def test_a_lost_gpu_is_listed_with_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = fake_nvml(nvmlDeviceGetHandleByIndex=NotSupportedError("GPU is lost"))
    monkeypatch.setitem(sys.modules, "pynvml", lost)
    machine = capture(libraries={})
    assert machine["gpus"][0]["name"] is None
    assert "GPU is lost" in machine["unknown"]["gpus.0.name"]


def test_a_machine_without_a_driver_is_told_from_a_driver_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = type("NVMLError_LibraryNotFound", (Exception,), {})
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlInit=missing("NVML not found")))
    assert capture(libraries={})["unknown"]["gpus"] == NO_DRIVER


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount"])
def test_a_driver_that_does_not_answer_leaves_no_gpus_and_a_reason(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    broken = fake_nvml(**{call: NotSupportedError("Driver Not Loaded")})
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    machine = capture(libraries={})
    assert machine["gpus"] == []
    assert "Driver Not Loaded" in machine["unknown"]["gpus"]


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("AMD EPYC", "AMD EPYC"),
        ("AMD EPYC 9654 96-Core Processor", "AMD EPYC 9654"),
        ("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz", "Intel Xeon Platinum 8480+"),
        ("13th Gen Intel(R) Core(TM) i7-13700K", "Intel Core i7-13700K"),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", "AMD Ryzen 7 7840U"),
        ("Apple M2 Pro", "Apple M2 Pro"),
        ("CPU @ 2 GHz", "unknown machine"),
        (None, "unknown machine"),
    ],
)
def test_the_label_is_the_cpu_without_its_decoration(model: str | None, label: str) -> None:
    assert default_label({"cpu": {"model": model}, "gpus": []}) == label


def test_a_gpu_without_a_name_leaves_the_label_to_the_next() -> None:
    gpus = [{"name": None}, {"name": "NVIDIA GeForce RTX 4090"}]
    assert default_label({"cpu": {"model": "X"}, "gpus": gpus}) == "NVIDIA GeForce RTX 4090"
    assert default_label({"cpu": {"model": "X"}, "gpus": gpus[:1]}) == "X"
