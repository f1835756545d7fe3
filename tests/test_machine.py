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

from bench.machine import NO_DRIVER, allowed_cores, available_memory, capture, default_label

GIB = 2**30


class Tree:
    """A fake /proc and /sys below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.sys = root / "sys"

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")

    def cgroup_v2(self, path: str, root: str = "/") -> None:
        self.write("proc/self/cgroup", f"0::{path}")
        self.write(
            "proc/self/mountinfo",
            "22 1 0:20 / / rw - ext4 /dev/root rw\n"
            f"30 22 0:26 {root} /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate",
        )

    def cgroup_v1(self, path: str, root: str = "/") -> None:
        self.write("proc/self/cgroup", f"4:memory:{path}\n3:cpu,cpuacct:{path}\n0::/")
        self.write(
            "proc/self/mountinfo",
            f"32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
            f"35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
        )

    def cores(self, siblings: list[str]) -> None:
        for cpu, group in enumerate(siblings):
            self.write(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", group)

    def allowed_cores(self) -> int:
        return allowed_cores(self.proc, self.sys)

    def available_memory(self) -> int | None:
        return available_memory(self.proc, self.sys)

    def capture(self) -> dict[str, Any]:
        return capture(libraries={}, proc=self.proc, sys=self.sys)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def set_affinity(monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)), raising=False)


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    set_affinity(monkeypatch, 8)


def test_without_limits_every_cpu_is_a_core(tree: Tree) -> None:
    assert tree.allowed_cores() == 8


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("200000 100000", 2),
        ("399999 100000", 3),
        ("max 100000", 8),
        ("9000000 100000", 8),
        ("", 8),
        ("1 0", 8),
    ],
)
def test_a_quota_of_cgroup_v2_is_rounded_down_to_at_least_one(
    tree: Tree, quota: str, cores: int
) -> None:
    tree.cgroup_v2("/")
    tree.write("sys/fs/cgroup/cpu.max", quota)
    assert tree.allowed_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("250000", 2), ("-1", 8)])
def test_a_quota_of_cgroup_v1_counts(tree: Tree, quota: str, cores: int) -> None:
    tree.cgroup_v1("/jobs/one")
    tree.write("sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_quota_us", quota)
    tree.write("sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_period_us", "100000")
    assert tree.allowed_cores() == cores


@pytest.mark.parametrize("limited", ["", "slice/", "slice/job/", "slice/job/step/"])
def test_a_quota_on_any_ancestor_counts(tree: Tree, limited: str) -> None:
    tree.cgroup_v2("/slice/job/step")
    tree.write("sys/fs/cgroup/slice/job/step/cpu.max", "max 100000")
    tree.write(f"sys/fs/cgroup/{limited}cpu.max", "300000 100000")
    assert tree.allowed_cores() == 3


def test_the_quota_of_another_cgroup_does_not_count(tree: Tree) -> None:
    tree.cgroup_v2("/slice/mine")
    tree.write("sys/fs/cgroup/slice/other/cpu.max", "100000 100000")
    assert tree.allowed_cores() == 8


@pytest.mark.parametrize(
    ("path", "root"),
    [("/docker/abc", "/docker/abc"), ("/", "/"), ("/../other", "/"), ("/docker/abc", "/elsewhere")],
)
def test_in_a_container_the_mount_itself_is_the_cgroup(tree: Tree, path: str, root: str) -> None:
    tree.cgroup_v2(path, root)
    tree.write("sys/fs/cgroup/cpu.max", "200000 100000")
    assert tree.allowed_cores() == 2


def test_below_a_mounted_part_of_the_tree_the_own_cgroup_is_found(tree: Tree) -> None:
    tree.cgroup_v2("/docker/abc/inner", "/docker/abc")
    tree.write("sys/fs/cgroup/inner/cpu.max", "200000 100000")
    assert tree.allowed_cores() == 2


@pytest.mark.parametrize("folder", ["", "unified/"])
def test_without_mountinfo_the_usual_places_are_tried(tree: Tree, folder: str) -> None:
    tree.write("proc/self/cgroup", "0::/job")
    tree.write(f"sys/fs/cgroup/{folder}job/cpu.max", "200000 100000")
    assert tree.allowed_cores() == 2


def test_v1_and_v2_side_by_side_take_the_smaller_quota(tree: Tree) -> None:
    tree.write("proc/self/cgroup", "1:cpu:/\n0::/")
    tree.write(
        "proc/self/mountinfo",
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
    )
    tree.write("sys/fs/cgroup/unified/cpu.max", "500000 100000")
    tree.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000")
    tree.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert tree.allowed_cores() == 4


def test_hyperthreads_of_one_core_are_one_core(tree: Tree) -> None:
    tree.cores(["0,4", "1,5", "2,6", "3,7"] * 2)
    assert tree.allowed_cores() == 4


def test_without_sibling_lists_cores_are_told_by_package_and_id(tree: Tree) -> None:
    for cpu in range(8):
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        tree.write(f"{folder}/physical_package_id", str(cpu % 2))
        tree.write(f"{folder}/core_id", str(cpu % 4 // 2))
    assert tree.allowed_cores() == 4


def test_a_core_id_the_kernel_does_not_know_merges_nothing(tree: Tree) -> None:
    for cpu in range(8):
        tree.write(f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id", "0")
        tree.write(f"sys/devices/system/cpu/cpu{cpu}/topology/core_id", "-1")
    assert tree.allowed_cores() == 8


def test_only_cores_in_the_affinity_count(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.cores(["0,4", "1,5", "2,6", "3,7"] * 2)
    set_affinity(monkeypatch, 3)
    assert tree.allowed_cores() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4}, raising=False)
    assert tree.allowed_cores() == 1


@pytest.mark.parametrize(("cores", "expected"), [(6, 6), (None, 12)])
def test_where_there_is_no_affinity_psutil_knows_the_cores(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, cores: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    fake = SimpleNamespace(cpu_count=lambda logical: cores)
    monkeypatch.setitem(sys.modules, "psutil", fake)
    assert tree.allowed_cores() == expected


def write_meminfo(tree: Tree) -> None:
    tree.write("proc/meminfo", f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {8 * 2**20} kB")


def test_without_a_limit_all_available_memory_counts(tree: Tree) -> None:
    write_meminfo(tree)
    assert tree.available_memory() == 8 * GIB


@pytest.mark.parametrize(
    ("limit", "expected"), [(str(4 * GIB), 3 * GIB), ("max", 8 * GIB), (str(100 * GIB), 8 * GIB)]
)
def test_the_limit_of_cgroup_v2_leaves_what_is_not_used(
    tree: Tree, limit: str, expected: int
) -> None:
    write_meminfo(tree)
    tree.cgroup_v2("/slice/job")
    tree.write("sys/fs/cgroup/slice/memory.max", limit)
    tree.write("sys/fs/cgroup/slice/memory.current", str(GIB))
    assert tree.available_memory() == expected


def test_cached_files_in_a_cgroup_can_be_given_back(tree: Tree) -> None:
    write_meminfo(tree)
    tree.cgroup_v2("/")
    tree.write("sys/fs/cgroup/memory.max", str(4 * GIB))
    tree.write("sys/fs/cgroup/memory.current", str(4 * GIB))
    assert tree.available_memory() == 0
    tree.write("sys/fs/cgroup/memory.stat", f"anon 5\ninactive_file {3 * GIB}")
    assert tree.available_memory() == 3 * GIB


def test_a_cgroup_above_its_limit_leaves_nothing(tree: Tree) -> None:
    write_meminfo(tree)
    tree.cgroup_v2("/")
    tree.write("sys/fs/cgroup/memory.max", "5")
    tree.write("sys/fs/cgroup/memory.current", "6")
    assert tree.available_memory() == 0


def test_the_limit_of_cgroup_v1_counts(tree: Tree) -> None:
    write_meminfo(tree)
    tree.cgroup_v1("/job")
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    tree.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "5")
    assert tree.available_memory() == 8 * GIB
    tree.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", str(2 * GIB))
    tree.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", str(GIB))
    assert tree.available_memory() == GIB


def test_available_memory_is_none_where_nothing_tells(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert tree.available_memory() is None


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
    machine = tree.capture()
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
    machine = tree.capture()
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
    machine = tree.capture()
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
    cpu = tree.capture()["cpu"]
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
    assert tree.capture()["system"]["container"] == kind


def test_only_variables_that_change_speed_are_kept_and_no_secret(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"OMP_NUM_THREADS": "3", "LD_PRELOAD_": "no", "CUDA_VISIBLE_DEVICES": "1"}
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    for name in ("NVIDIA_API_KEY", "TORCH_HUB_TOKEN", "AWS_OMP_X", "OMPI_RANK", "MY_VALUE"):
        monkeypatch.setenv(name, "hidden")
    environment = tree.capture()["environment"]
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert "LD_PRELOAD_" not in environment
    assert "hidden" not in environment.values()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no bytes in its environment")
def test_a_variable_that_is_not_utf8_still_fits_into_a_run_file(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUPY_CACHE_DIR", os.fsdecode(b"/caf\xe9"))
    assert tree.capture()["environment"]["CUPY_CACHE_DIR"].encode("utf-8") == b"/caf\\udce9"


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
    assert tree.capture()["git"] == {"revision": None, "dirty": None}
    git(tmp_path, "init")
    (tmp_path / "model.py").write_text("x = 1\n", encoding="utf-8")
    git(tmp_path, "add", "model.py")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "run.jsonl").write_text("{}", encoding="utf-8")
    clean = tree.capture()["git"]
    assert len(clean["revision"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "model.py").write_text("x = 2\n", encoding="utf-8")
    assert tree.capture()["git"] == {**clean, "dirty": True}


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
