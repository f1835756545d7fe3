"""Runs the steps of a CI recipe on this machine, on a toy project.

The branch `main` with a release and a pull request that slows one function by 10% are made in a new
repository; every `run` of the recipe is executed as it stands, with bash and the variables of the
service. A job of the history is executed on several nights, after a commit that slows the function
by half. `nn-bench` is the wheel of this tree. What the service itself would do (checkout, upload,
comment) is left out. Needs PyYAML, a network for pip, and no GPU.

    python evidence/ci_recipe.py docs/ci/github-cpu.yml
    python evidence/ci_recipe.py docs/ci/gitlab-ci.yml --job duet
    python evidence/ci_recipe.py docs/ci/github-nightly.yml --job history --nights 2
    python evidence/ci_recipe.py docs/ci/gitlab-ci.yml --job history --nights 2

Exits with 1 unless the recipe fails for the slower function, in the last night, and names it.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duet_toy

ROOT = Path(__file__).resolve().parents[1]
SLOWED = 6
KERNEL = f'''"""A function of the toy."""

from bench.workload import Phase, Size, Workload


def prepare(library, dims, x):
    import toy

    return lambda: x + toy.function_{SLOWED}()


WORKLOAD = Workload(
    name="mine_function_{SLOWED}",
    suites=("matmul",),
    sizes=[Size(dims={{"n": 1}}, preset="quick")],
    inputs=lambda rng, dims: (rng.standard_normal(dims["n"], dtype="float32"),),
    phases={{"call": Phase(array=prepare)}},
)
'''
CONTEXT = {"github.base_ref": "main", "github.ref": "refs/pull/1/merge"}


@dataclass(frozen=True)
class Step:
    """A step of a job that runs something."""

    title: str
    script: str
    environment: Mapping[str, str] = field(default_factory=dict)
    is_always: bool = False
    """Whether it is run after a failure, too."""
    may_fail: bool = False


def steps(recipe: Path, job: str) -> list[Step]:
    """Return the steps of a job."""
    import yaml  # type: ignore[import-untyped]

    content: Any = yaml.safe_load(recipe.read_text())
    if "jobs" not in content:  # GitLab runs all lines in one shell
        return [Step(job, "\n".join(content[job]["script"]))]
    found = content["jobs"][job]["steps"]
    return [
        Step(
            step.get("name", "run"),
            step["run"],
            step.get("env", {}),
            is_always="!cancelled()" in step.get("if", ""),
            may_fail=step.get("continue-on-error", False),
        )
        for step in found
        if "run" in step
    ]


def filled(text: str) -> str:
    """Put in what the service puts in."""
    return re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", lambda found: CONTEXT[found[1]], text)


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; return what it says."""
    command = ["git", "-C", str(folder), "-c", "user.name=toy", "-c", "user.email=toy@localhost"]
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def checkout(folder: Path, slower: float) -> Path:
    """Make the repository and a commit that slows a function; return the clone of the runner."""
    origin, clone = folder / "origin", folder / "clone"
    duet_toy.make_project(origin, {})
    (origin / "tests").mkdir()
    (origin / "perf").rename(origin / "tests" / "perf")
    (origin / "tests" / "kernels").mkdir()
    (origin / "tests" / "kernels" / "mine.py").write_text(KERNEL)
    git(folder, "init", "--quiet", "--initial-branch=main", str(origin))
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "-m", "Add the toy")
    git(origin, "tag", "v1.0")
    git(folder, "clone", "--quiet", str(origin), str(clone))
    (clone / "toy.py").write_text(duet_toy.source({SLOWED: slower}))
    git(clone, "commit", "--quiet", "-am", "Slow a function")
    # What others merge meanwhile is no part of it.
    (origin / "toy.py").write_text(duet_toy.source({1: 0.5}))
    git(origin, "commit", "--quiet", "-am", "Slow another one on main")
    git(clone, "fetch", "--quiet")
    return clone


def main() -> int:
    """Run the steps; return whether the recipe did its work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--job", default="duet")
    parser.add_argument("--nights", type=int, default=0, help="of a job of the history")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder)]
        subprocess.run([*wheel, str(ROOT)], check=True)
        clone, summary = checkout(folder, 0.5 if arguments.nights else 0.1), folder / "summary.md"
        environment = {
            **os.environ,
            "PIP_FIND_LINKS": str(folder),
            "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
            "PIP_QUIET": "1",
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(summary),
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": git(clone, "merge-base", "origin/main", "HEAD"),
            "STORE": str(folder / "history"),
            "LOCK": str(folder / "gpu.lock"),
        }
        for night in range(max(1, arguments.nights)):
            print(f"# job {night + 1}", flush=True)
            summary.unlink(missing_ok=True)
            code = execute(steps(arguments.recipe, arguments.job), clone, environment)
        written = summary if summary.exists() else clone / "duet" / "summary.md"
        told = written.read_text() if written.exists() else ""
    print("## the summary", told, sep="\n\n")
    is_named = re.search(rf"REGRESSED.*function(_|/){SLOWED}/", told) is not None
    is_right = code == 1 and is_named
    print("the recipe found it" if is_right else "the recipe did not find it")
    return 0 if is_right else 1


def execute(found: Sequence[Step], clone: Path, environment: Mapping[str, str]) -> int:
    """Run steps as the service does; return the exit code of the first that fails."""
    first = 0
    for step in found:
        if first and not step.is_always:
            continue
        print(f"## {step.title}", flush=True)
        variables = {key: filled(value) for key, value in step.environment.items()}
        code = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", filled(step.script)],
            cwd=clone,
            env={**environment, **variables},
            check=False,
        ).returncode
        if code:
            print(f"## exit code {code}", flush=True)
        first = first or (0 if step.may_fail else code)
    return first


if __name__ == "__main__":
    sys.exit(main())
