"""A toy package in two environments, as a project installs its own two versions."""

import hashlib
import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

SOURCE = '''
def work(n):
    """Sum so many numbers."""
    total = 0
    for i in range(n):
        total += i
    return total


def other(n):
    """Do something that no version changes."""
    return sorted(range(n), key=lambda i: -i)
'''

TESTS = """
import pytest
import toy


def test_work(benchmark):
    assert benchmark(toy.work, 20_000) == 199_990_000


@pytest.mark.parametrize("n", [5_000, 20_000])
def test_other(benchmark, n):
    assert benchmark(toy.other, n)[0] == n - 1


def test_without_a_benchmark():
    assert toy.work(3) == 3
"""


def slowed(share: float) -> str:
    """Return the source with `work` made slower by a share."""
    more = f"    for _ in range(round({share} * n)):\n        total += 0\n    return total\n"
    return SOURCE.replace("    return total\n", more)


def environment(folder: Path, source: str, *needs: str) -> str:
    """Make an environment with the toy and those distributions of ours; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    names = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=names))
    for name in needs:
        link(site, name)
    install(site, source)
    return interpreter(folder)


def link(site: Path, name: str) -> None:
    """Link a distribution of our environment into another, with what it requires."""
    found = importlib.metadata.distribution(name)
    for top in {path.parts[0] for path in found.files or ()} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    for required in found.requires or ():
        if ";" not in required:
            link(site, re.split(r"[^A-Za-z0-9._-]", required, maxsplit=1)[0])


def interpreter(folder: Path) -> str:
    """Return the Python of an environment."""
    return str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


def install(site: Path, source: str, version: str = "1.0") -> None:
    """Put a version of the toy where pip would."""
    (site / "toy.py").write_text(textwrap.dedent(source))
    about = site / f"toy-{version}.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: toy\nVersion: {version}\n")
    digest = hashlib.sha256(source.encode()).hexdigest()
    (about / "RECORD").write_text(f"toy.py,sha256={digest},1\n")
