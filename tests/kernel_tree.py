"""A fake /proc and /sys for the tests."""

from pathlib import Path


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
