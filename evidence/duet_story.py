"""Tells the whole story of a gate, from a slower function to its revert.

Base and head are installed, one function is slowed by 10%, `bench duet` finds it and says where;
the change is reverted, and the gate is green.

    python evidence/duet_story.py [--slower 10%] [--minutes 3]

Exits with 1 if the story ends otherwise.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import duet_toy

SLOWED = 6


def gate(folder: Path, output: str, minutes: float) -> "subprocess.CompletedProcess[str]":
    """Run the gate as a CI job does."""
    command = [sys.executable, "-m", "bench", "duet", "--pytest", "perf", "--output", output]
    command += ["--base-python", str(folder / "base/bin/python")]
    command += ["--head-python", str(folder / "head/bin/python")]
    command += ["--minutes", str(minutes), "--summary", f"{output}.md", "--junit", f"{output}.xml"]
    return subprocess.run(
        command, cwd=folder / "project", capture_output=True, text=True, check=False
    )


def main() -> int:
    """Tell the story, and whether it ended well."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slower", default="10%")
    parser.add_argument("--minutes", type=float, default=3.0)
    arguments = parser.parse_args()
    slower = float(arguments.slower.rstrip("%")) / 100
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = folder / "project"
        pythons = {side: duet_toy.make_environment(folder / side) for side in ("base", "head")}
        duet_toy.make_project(project, {})
        duet_toy.install(pythons["base"], project)
        duet_toy.make_project(project, {SLOWED: slower})
        duet_toy.install(pythons["head"], project)
        slow = gate(folder, "slow", arguments.minutes)
        print(f"function {SLOWED} is {slower:.0%} slower: exit code {slow.returncode}\n")
        print(slow.stdout, slow.stderr[-500:] if slow.returncode == 2 else "", sep="\n")
        print((project / "slow.md").read_text() if (project / "slow.md").exists() else "")
        duet_toy.make_project(project, {})
        duet_toy.install(pythons["head"], project)
        green = gate(folder, "green", arguments.minutes)
        print(f"reverted: exit code {green.returncode}\n")
        print(green.stdout)
    told = [line for line in slow.stdout.splitlines() if line.startswith("REGRESSED")]
    found = [line for line in told if f"test_function/{SLOWED}/" in line]
    is_right = slow.returncode == 1 and bool(found) and green.returncode == 0
    print("the story ended well" if is_right else "the story ended otherwise")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
