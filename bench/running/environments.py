"""The two Python environments of a duet: do they start, what is in them, how do they differ?"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.errors import RequestError
from bench.running.probe import Probe
from bench.text import natural

START_SECONDS: Final = 60.0
OLDEST: Final = (3, 11)
"""The Python that bench's worker needs; pytest's own processes run on any."""
_MOST_NAMES: Final = 12
_MARK: Final = "what bench asked for: "
_MODULES: Final = ("numpy", "pytest", "pytest_benchmark")
_QUESTION: Final = f"""
import hashlib, importlib.metadata, importlib.util, json, platform, sys
sys.path = [path for path in sys.path if path]  # what lies where the user stands is not in it
packages = {{}}
for found in importlib.metadata.distributions():
    name = (found.metadata["Name"] or "").lower().replace("_", "-")
    if not name or name in packages:
        continue
    commit = ""
    try:
        commit = json.loads(found.read_text("direct_url.json"))["vcs_info"]["commit_id"]
    except Exception:
        pass
    # Paths that lead out of the folder are scripts, which name their own environment.
    record = (found.read_text("RECORD") or "").splitlines()
    files = [line for line in record if line[:3] != "../" and ",sha256=" in line]
    files = [line for line in files if ".dist-info/" not in line]
    content = hashlib.sha256("\\n".join(sorted(files)).encode()).hexdigest() if files else ""
    packages[name] = [found.version or "", commit, content]
print()
print({_MARK!r} + json.dumps({{
    "version": platform.python_version(),
    "implementation": platform.python_implementation(),
    "compiler": platform.python_compiler(),
    "executable": sys.executable,
    "packages": packages,
    "modules": [name for name in {_MODULES!r} if importlib.util.find_spec(name)],
}}))
"""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A Python environment as its own interpreter describes it."""

    side: str
    """`base` or `head`."""
    python: str
    version: str
    described: Mapping[str, Any] = field(default_factory=dict)
    """Version, implementation and compiler of its Python."""
    packages: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    """Of each distribution the version, the commit and a digest of its files; "": not known."""
    modules: frozenset[str] = frozenset()
    """Which of the modules that a duet may need are there."""

    @property
    def option(self) -> str:
        """How the user named it."""
        return f"--{self.side}-python {self.python}"

    def require(self, *modules: str) -> None:
        """Raise RequestError with the mending command if one of `modules` is missing."""
        missing = [name for name in modules if name not in self.modules]
        if missing:
            names = " ".join(name.replace("_", "-") for name in missing)
            raise RequestError(
                f"{self.option}: {' and '.join(missing)} cannot be imported there;"
                f" {self.python} -m pip install {names}"
            )

    def require_worker(self) -> None:
        """Raise RequestError if bench's worker cannot run on this Python."""
        parts = self.version.split(".")[:2]
        if tuple(int(part) for part in parts if part.isdecimal()) < OLDEST:
            raise RequestError(
                f"{self.option} is Python {self.version}, but bench's worker needs"
                f" {'.'.join(map(str, OLDEST))}; make the environment with a newer one"
            )


def examine(side: str, python: str) -> Environment:
    """Start an interpreter and have it describe its environment.

    Raises:
        RequestError: It does not start, or is no Python.
    """
    option = f"--{side}-python {python}"
    remedy = "give the path of an environment's interpreter, such as base/bin/python"
    python = str(Path(python).absolute()) if Path(python).exists() else python
    if Path(python).is_dir():
        raise RequestError(f"{option} is a folder; {remedy}")
    try:
        answer = subprocess.run(
            [python, "-c", _QUESTION],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=START_SECONDS,
            check=False,
        )
    except OSError as error:
        raise RequestError(f"{option} does not start: {error.strerror}; {remedy}") from None
    except subprocess.TimeoutExpired:
        raise RequestError(
            f"{option} gave no answer within {START_SECONDS:g} s; {remedy}"
        ) from None
    line = next((x for x in answer.stdout.splitlines() if x.startswith(_MARK)), None)
    if answer.returncode or line is None:
        said = (answer.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RequestError(
            f"{option} does not start as a Python: exit code {answer.returncode}: {said}; {remedy}"
        )
    told = json.loads(line.removeprefix(_MARK))
    return Environment(
        side=side,
        python=python,
        version=told["version"],
        described={name: told[name] for name in ("version", "implementation", "compiler")},
        packages={name: tuple(found) for name, found in told["packages"].items()},
        modules=frozenset(told["modules"]),
    )


def changes(
    base: Environment,
    head: Environment,
    base_probes: Mapping[str, Probe] | None = None,
    head_probes: Mapping[str, Probe] | None = None,
) -> list[str]:
    """Return what differs between the environments, one line each: `numpy 2.3.5 to 2.4.6`."""
    found = []
    for name in ("implementation", "version", "compiler"):
        old, new = base.described.get(name), head.described.get(name)
        if old != new:
            label = "Python" if name == "version" else f"Python's {name}"
            found.append(f"{label} {old} to {new}")
    libraries = _library_changes(base_probes or {}, head_probes or {})
    both = sorted(set(base.packages) & set(head.packages), key=natural)
    packages = [
        line
        for name in both
        if (line := _package_change(name, base.packages[name], head.packages[name]))
    ]
    lone = [_lone_packages(base, head), _lone_packages(head, base)]
    return [*found, *libraries, *packages, *filter(None, lone)]


def _lone_packages(here: Environment, there: Environment) -> str:
    names = sorted(set(here.packages) - set(there.packages), key=natural)
    shown = [f"{name} {here.packages[name][0]}" for name in names[:_MOST_NAMES]]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"only in {here.side}: {', '.join(shown)}{more}" if names else ""


def _package_change(name: str, old: tuple[str, str, str], new: tuple[str, str, str]) -> str | None:
    if old == new:
        return None
    if old[:2] == new[:2]:
        return f"{name} {old[0]}: the same version, other files"
    shown = [f"{v[0]} ({v[1][:10]})" if v[1] else v[0] for v in (old, new)]
    return f"{name} {shown[0]} to {shown[1]}"


def _library_changes(base: Mapping[str, Probe], head: Mapping[str, Probe]) -> list[str]:
    """Name what the libraries say of themselves and no package does, such as NumPy's BLAS."""
    found: dict[str, None] = {}
    for backend in base:
        if backend not in head:
            continue
        old, new = base[backend].description, head[backend].description
        for key in ("blas", "cudnn", "cuda_runtime", "cuda_build", "isa", "onednn"):
            if old.get(key) != new.get(key):
                found[_change(f"{key} of {backend}", old.get(key), new.get(key))] = None
        pools = _pools(old), _pools(new)
        for name in sorted(set(pools[0]) | set(pools[1])):
            if pools[0].get(name) != pools[1].get(name):
                found[_change(name, pools[0].get(name), pools[1].get(name))] = None
    return list(found)


def _pools(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of the loaded libraries with threads, such as OpenBLAS's."""
    names = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}
    pools: Sequence[Mapping[str, Any]] = description.get("threadpools", ())
    return {
        f"{names[api]} loaded": f"{pool.get('version')} ({pool.get('architecture', 'any CPU')})"
        for pool in pools
        if (api := str(pool.get("internal_api"))) in names
    }


def _change(what: str, old: Any, new: Any) -> str:
    same = str(old).partition(" ")[0] == str(new).partition(" ")[0]
    if same and " " in str(old) and " " in str(new):
        name, _, version = str(old).partition(" ")
        return f"{what}: {name} {version} to {str(new).partition(' ')[2]}"
    return f"{what} {old if old is not None else 'none'} to {new if new is not None else 'none'}"
