import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.cores import allowed_cores, available_memory
from tests.kernel_tree import Tree

GIB = 2**30


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def set_affinity(monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)), raising=False)


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    set_affinity(monkeypatch, 8)


def test_without_limits_every_cpu_is_a_core(tree: Tree) -> None:
    assert allowed_cores(tree.proc, tree.sys) == 8


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
    assert allowed_cores(tree.proc, tree.sys) == cores


@pytest.mark.parametrize(("quota", "cores"), [("250000", 2), ("-1", 8)])
def test_a_quota_of_cgroup_v1_counts(tree: Tree, quota: str, cores: int) -> None:
    tree.cgroup_v1("/jobs/one")
    tree.write("sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_quota_us", quota)
    tree.write("sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_period_us", "100000")
    assert allowed_cores(tree.proc, tree.sys) == cores


@pytest.mark.parametrize("limited", ["", "slice/", "slice/job/", "slice/job/step/"])
def test_a_quota_on_any_ancestor_counts(tree: Tree, limited: str) -> None:
    tree.cgroup_v2("/slice/job/step")
    tree.write("sys/fs/cgroup/slice/job/step/cpu.max", "max 100000")
    tree.write(f"sys/fs/cgroup/{limited}cpu.max", "300000 100000")
    assert allowed_cores(tree.proc, tree.sys) == 3


def test_the_quota_of_another_cgroup_does_not_count(tree: Tree) -> None:
    tree.cgroup_v2("/slice/mine")
    tree.write("sys/fs/cgroup/slice/other/cpu.max", "100000 100000")
    assert allowed_cores(tree.proc, tree.sys) == 8


@pytest.mark.parametrize(
    ("path", "root"),
    [("/docker/abc", "/docker/abc"), ("/", "/"), ("/../other", "/"), ("/docker/abc", "/elsewhere")],
)
def test_in_a_container_the_mount_itself_is_the_cgroup(tree: Tree, path: str, root: str) -> None:
    tree.cgroup_v2(path, root)
    tree.write("sys/fs/cgroup/cpu.max", "200000 100000")
    assert allowed_cores(tree.proc, tree.sys) == 2


def test_below_a_mounted_part_of_the_tree_the_own_cgroup_is_found(tree: Tree) -> None:
    tree.cgroup_v2("/docker/abc/inner", "/docker/abc")
    tree.write("sys/fs/cgroup/inner/cpu.max", "200000 100000")
    assert allowed_cores(tree.proc, tree.sys) == 2


@pytest.mark.parametrize("folder", ["", "unified/"])
def test_without_mountinfo_the_usual_places_are_tried(tree: Tree, folder: str) -> None:
    tree.write("proc/self/cgroup", "0::/job")
    tree.write(f"sys/fs/cgroup/{folder}job/cpu.max", "200000 100000")
    assert allowed_cores(tree.proc, tree.sys) == 2


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
    assert allowed_cores(tree.proc, tree.sys) == 4


def test_hyperthreads_of_one_core_are_one_core(tree: Tree) -> None:
    tree.cores(["0,4", "1,5", "2,6", "3,7"] * 2)
    assert allowed_cores(tree.proc, tree.sys) == 4


def test_without_sibling_lists_cores_are_told_by_package_and_id(tree: Tree) -> None:
    for cpu in range(8):
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        tree.write(f"{folder}/physical_package_id", str(cpu % 2))
        tree.write(f"{folder}/core_id", str(cpu % 4 // 2))
    assert allowed_cores(tree.proc, tree.sys) == 4


def test_a_core_id_the_kernel_does_not_know_merges_nothing(tree: Tree) -> None:
    for cpu in range(8):
        tree.write(f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id", "0")
        tree.write(f"sys/devices/system/cpu/cpu{cpu}/topology/core_id", "-1")
    assert allowed_cores(tree.proc, tree.sys) == 8


def test_only_cores_in_the_affinity_count(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.cores(["0,4", "1,5", "2,6", "3,7"] * 2)
    set_affinity(monkeypatch, 3)
    assert allowed_cores(tree.proc, tree.sys) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4}, raising=False)
    assert allowed_cores(tree.proc, tree.sys) == 1


@pytest.mark.parametrize(("cores", "expected"), [(6, 6), (None, 12)])
def test_where_there_is_no_affinity_psutil_knows_the_cores(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, cores: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    fake = SimpleNamespace(cpu_count=lambda logical: cores)
    monkeypatch.setitem(sys.modules, "psutil", fake)
    assert allowed_cores(tree.proc, tree.sys) == expected


def write_meminfo(tree: Tree) -> None:
    tree.write("proc/meminfo", f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {8 * 2**20} kB")


def test_without_a_limit_all_available_memory_counts(tree: Tree) -> None:
    write_meminfo(tree)
    assert available_memory(tree.proc, tree.sys) == 8 * GIB


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
    assert available_memory(tree.proc, tree.sys) == expected


def test_cached_files_in_a_cgroup_can_be_given_back(tree: Tree) -> None:
    write_meminfo(tree)
    tree.cgroup_v2("/")
    tree.write("sys/fs/cgroup/memory.max", str(4 * GIB))
    tree.write("sys/fs/cgroup/memory.current", str(4 * GIB))
    assert available_memory(tree.proc, tree.sys) == 0
    tree.write("sys/fs/cgroup/memory.stat", f"anon 5\ninactive_file {3 * GIB}")
    assert available_memory(tree.proc, tree.sys) == 3 * GIB


def test_a_cgroup_above_its_limit_leaves_nothing(tree: Tree) -> None:
    write_meminfo(tree)
    tree.cgroup_v2("/")
    tree.write("sys/fs/cgroup/memory.max", "5")
    tree.write("sys/fs/cgroup/memory.current", "6")
    assert available_memory(tree.proc, tree.sys) == 0


def test_the_limit_of_cgroup_v1_counts(tree: Tree) -> None:
    write_meminfo(tree)
    tree.cgroup_v1("/job")
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    tree.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "5")
    assert available_memory(tree.proc, tree.sys) == 8 * GIB
    tree.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", str(2 * GIB))
    tree.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", str(GIB))
    assert available_memory(tree.proc, tree.sys) == GIB


def test_available_memory_is_none_where_nothing_tells(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert available_memory(tree.proc, tree.sys) is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil is asked")
def test_counting_cores_and_memory_needs_the_standard_library_only() -> None:
    code = (
        "import sys, bench.cores as c; c.allowed_cores(); c.available_memory()\n"
        "print({'psutil', 'numpy', 'msgspec', 'click'} & set(sys.modules) or 'none')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "none"
