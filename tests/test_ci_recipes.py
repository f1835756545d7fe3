"""The CI recipes of docs/ci: valid YAML whose commands the command line knows."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import pytest

from tests.commands import ROOT

yaml = pytest.importorskip("yaml", reason="PyYAML comes with pre-commit")

RECIPES = sorted((ROOT / "docs" / "ci").glob("*.yml"))


def load(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def scripts(content: Any) -> Iterator[str]:
    """Yield every script of a recipe: `run` of GitHub's steps, `script` of GitLab's jobs."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in ("run", "script"):
                yield "\n".join(value) if isinstance(value, list) else str(value)
            else:
                yield from scripts(value)
    elif isinstance(content, list):
        for item in content:
            yield from scripts(item)


def commands(script: str) -> Iterator[list[str]]:
    """Yield the words after `bench` of each call of it."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for place, word in enumerate(words):
            if word == "bench" or word.endswith("/bin/bench"):
                yield list(takewhile(lambda w: w not in ("||", "&&"), words[place + 1 :]))
                break


def all_commands() -> list[Any]:
    return [
        pytest.param(words, id=f"{path.stem}: bench {words[0]}")
        for path in RECIPES
        for script in scripts(load(path))
        for words in commands(script)
    ]


def test_there_are_recipes_with_commands_to_check() -> None:
    assert {path.stem for path in RECIPES} >= {"github-cpu", "github-gpu", "gitlab-ci"}
    used = {param.values[0][0] for param in all_commands()}
    assert {"duet", "history", "run", "doctor"} <= used


@pytest.mark.parametrize("words", all_commands())
def test_the_command_line_knows_every_command_of_a_recipe(words: list[str]) -> None:
    name, *rest = words
    command: click.Command = import_module(f"bench.cli.{name}").command
    if isinstance(command, click.Group):
        inner, *rest = rest
        command = command.commands[inner]
    # Parses without running; what is wrong raises a click.UsageError.
    with command.make_context(name, [word.replace("$", "") for word in rest]):
        pass


def test_a_mistyped_option_of_a_recipe_would_be_found() -> None:
    command: click.Command = import_module("bench.cli.history").command
    assert isinstance(command, click.Group)
    with pytest.raises(click.UsageError):
        command.commands["check"].make_context("check", ["--agianst", "v1.0"])


def test_commands_are_found_in_lines_with_locks_and_continuations() -> None:
    script = "pip install nn-bench\nflock /tmp/lock x/bin/bench run \\\n --suite matmul # bench\n"
    assert list(commands(script)) == [["run", "--suite", "matmul"]]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_scripts_are_valid_shell(path: Path) -> None:
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("there is no bash here")
    for script in scripts(load(path)):
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


GITHUB = [path for path in RECIPES if path.stem.startswith("github")]


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.stem)
def test_a_github_workflow_has_what_the_service_requires_and_few_rights(path: Path) -> None:
    content = load(path)
    triggers = content[True]  # YAML 1.1 reads the key `on` so
    assert triggers
    assert content["permissions"]
    for job in content["jobs"].values():
        assert job["runs-on"]
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            # What a pull request may choose, such as its branch's name, never stands in a script.
            assert "${{" not in step.get("run", "")


def test_only_the_comment_may_write_and_it_runs_nothing_of_the_pull_request() -> None:
    for path in GITHUB:
        content = load(path)
        may_write = "write" in content["permissions"].values()
        assert may_write == (path.stem == "github-comment")
        if may_write:
            assert "workflow_run" in content[True]
            used = [
                step.get("uses", "") for job in content["jobs"].values() for step in job["steps"]
            ]
            assert not any("checkout" in name for name in used)
        assert "pull_request_target" not in content[True]


def test_the_comment_follows_the_workflow_whose_artifact_it_reads() -> None:
    measuring, comment = (load(ROOT / f"docs/ci/github-{n}.yml") for n in ("cpu", "comment"))
    assert comment[True]["workflow_run"]["workflows"] == [measuring["name"]]
    (up,) = [s for s in measuring["jobs"]["duet"]["steps"] if "upload" in s.get("uses", "")]
    (down,) = [s for s in comment["jobs"]["comment"]["steps"] if "download" in s.get("uses", "")]
    assert up["with"]["name"] == down["with"]["name"]
    (script,) = scripts(comment)
    measured = "\n".join(scripts(measuring))
    assert "duet/summary.md" in script
    assert "--summary duet/summary.md" in measured


def test_a_gpu_is_measured_by_one_job_at_a_time_and_never_for_a_fork() -> None:
    groups = []
    for name in ("github-gpu", "github-nightly", "gitlab-ci"):
        content = load(ROOT / f"docs/ci/{name}.yml")
        for job in (content["history"],) if name == "gitlab-ci" else content["jobs"].values():
            measuring = [s for s in scripts(job) if re.search(r"bin/bench\s+(run|duet)", s)]
            assert measuring
            for script in measuring:
                locks = len(re.findall(r"flock --timeout 1800 .*\"\$LOCK\"", script))
                assert locks == len(re.findall(r"bin/bench\s+(?:run|duet)", script))
        groups.append(str(content.get("concurrency", {}).get("group")))
    # A group lets one job wait and cancels the others: two recipes must not share one.
    assert len(set(groups)) == len(groups)
    (job,) = load(ROOT / "docs/ci/github-gpu.yml")["jobs"].values()
    assert "head.repo.full_name == github.repository" in job["if"]


def test_gitlab_lets_an_inconclusive_job_pass_with_a_warning_and_nothing_else() -> None:
    content = load(ROOT / "docs/ci/gitlab-ci.yml")
    for name in ("duet", "history"):
        assert content[name]["allow_failure"] == {"exit_codes": [3]}
        assert content[name]["artifacts"]["reports"]["junit"]
        assert content[name]["artifacts"]["when"] == "always"


def test_every_recipe_is_told_of_in_the_documentation() -> None:
    text = (ROOT / "docs" / "ci.md").read_text()
    linked = set(re.findall(r"\]\(ci/([\w.-]+)\)", text))
    assert linked == {path.name for path in RECIPES}
