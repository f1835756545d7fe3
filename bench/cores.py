"""What this process may use of the machine: its cores and its memory, limits included.

Affinity, hyperthreads, quotas and limits of control groups (v1 and v2, of every ancestor) all
count. Needs the standard library only; psutil is asked where the kernel tells nothing.
"""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

PROC: Final = Path("/proc")
SYS: Final = Path("/sys")


def allowed_cores(proc: Path = PROC, sys: Path = SYS) -> int:
    """Return how many cores this process may keep busy, at least 1.

    The smallest of its affinity, the physical cores in it, and every CPU quota of its cgroups,
    rounded down: OpenBLAS and PyTorch heed no quota, and threads beyond it are throttled.
    """
    return max(1, min([physical_cores(affinity(), sys), *_quotas(proc, sys)]))


def available_memory(proc: Path = PROC, sys: Path = SYS) -> int | None:
    """Return the bytes that a new process could use, limits of the cgroups included."""
    rooms = []
    with suppress(Exception):
        rooms.append(host_memory(proc)["available"])
    for folder in _cgroups("memory", proc, sys):
        for limit, usage, reclaimable in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with suppress(OSError, ValueError):
                room = int(kernel_text(folder / limit)) - int(kernel_text(folder / usage))
                # Usage counts cached files, which the kernel gives back when memory is wanted.
                with suppress(OSError, ValueError, KeyError):
                    lines = kernel_text(folder / "memory.stat").splitlines()
                    room += int(dict(line.split() for line in lines)[reclaimable])
                rooms.append(max(0, room))
    return min(rooms, default=None)


def affinity() -> set[int]:
    """Return the logical CPUs this process may run on; macOS and Windows: all of them."""
    ask: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return ask(0) if ask else set(range(os.cpu_count() or 1))


def physical_cores(cpus: Collection[int], sys: Path) -> int:
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
        return kernel_text(topology / "thread_siblings_list")
    package, core = (int(kernel_text(topology / f)) for f in ("physical_package_id", "core_id"))
    if core < 0:
        raise ValueError("the kernel does not know the cores")
    return f"{package}:{core}"


def _quotas(proc: Path, sys: Path) -> Iterator[int]:
    """Yield every CPU quota that binds this process, in whole cores."""
    for folder in _cgroups("cpu", proc, sys):
        # Without a limit v2 says `max`, which is no number; v1 says -1.
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = map(int, kernel_text(folder / "cpu.max").split())
            yield quota // period
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota = int(kernel_text(folder / "cpu.cfs_quota_us"))
            if quota > 0:
                yield quota // int(kernel_text(folder / "cpu.cfs_period_us"))


def _cgroups(controller: str, proc: Path, sys: Path) -> Iterator[Path]:
    """Yield the folders of this process's cgroups and their ancestors, of v2 and of v1."""
    own: dict[str, str] = {}
    with suppress(OSError, ValueError):
        for line in kernel_text(proc / "self/cgroup").splitlines():
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
        for line in kernel_text(proc / "self/mountinfo").splitlines():
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


def host_memory(proc: Path) -> dict[str, int]:
    """Return the `total` and `available` bytes of the whole machine."""
    try:
        pairs = (line.split(":") for line in kernel_text(proc / "meminfo").splitlines())
        kibibytes = {name: int(value.split()[0]) for name, value in pairs}
        return {k: kibibytes[f"Mem{k.title()}"] * 1024 for k in ("total", "available")}
    except (OSError, ValueError, KeyError):
        import psutil

        memory = psutil.virtual_memory()
        return {"total": memory.total, "available": memory.available}


def kernel_text(path: Path) -> str:
    """Return what the kernel says in a file of /proc or /sys, without the space around it."""
    return path.read_text(encoding="utf-8", errors="replace").strip()
