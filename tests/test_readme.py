"""The documentation is executed: what it tells a newcomer to type works."""

import re
import shlex
from pathlib import Path

import pytest

import bench as library
from tests.commands import ROOT, bench

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return every `bench ...` line of every shell block in the documentation."""
    found = []
    for document in DOCUMENTS:
        for block in BLOCK.findall(document.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                words = line.partition(" #")[0].strip().removeprefix("$ ")
                if words.startswith("bench "):
                    found.append(words)
    return list(dict.fromkeys(found))


def is_quick(words: list[str]) -> bool:
    """Tell whether a command ends at once; a run is tried as a dry run."""
    quick = ("list", "doctor", "report", "compare", "check", "import", "share")
    return words[0] in quick or "--help" in words


def matches(pattern: str, folder: Path) -> list[str]:
    """Return the files that a pattern means; none for a word without a star."""
    found = folder.glob(pattern) if "*" in pattern else ()
    return sorted(str(path.relative_to(folder)) for path in found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with files of the names that the documentation uses."""
    place = tmp_path_factory.mktemp("reader")
    content = (ROOT / "tests" / "data" / "run_schema1.jsonl").read_text()
    (place / "results").mkdir()
    (place / "results" / "mine.jsonl").write_text(content)
    header = library.load(place / "results" / "mine.jsonl").header
    for name in ("theirs", "new"):
        (place / "results" / f"{name}.jsonl").write_text(content.replace(header.id, name, 1))
    label = header.label
    (place / "prices.toml").write_text(f'currency = "EUR"\n[machines."{label}"]\nhourly = 0.5\n')
    walk = (ROOT / "docs" / "buying.md").read_text()
    (prices,) = re.findall(r"^```toml\n(.*?)^```", walk, re.MULTILINE | re.DOTALL)
    (place / "buying.toml").write_text(prices)
    (place / "one-core.jsonl").write_bytes((ROOT / "docs/data/one-core.jsonl").read_bytes())
    theirs = ROOT / "tests" / "files" / "pytest_benchmark" / "5.3.1-data.json"
    (place / "benchmarks.json").write_bytes(theirs.read_bytes())
    return place


def test_there_are_commands_to_try() -> None:
    assert len(commands()) >= 6


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_documentation_works(line: str, folder: Path) -> None:
    if re.search(r"[|>]|\$\(|\bssh\b|--resume|--kernels|--model|--gpu|-python |history", line):
        pytest.skip("needs a shell, another machine, a GPU, or what only the reader has")
    words = shlex.split(line, comments=True)[1:]
    if words[0] == "run":
        words.append("--dry-run")
    assert is_quick(words) or words[-1] == "--dry-run"
    # As a shell does it: a pattern that matches nothing stays.
    words = [name for word in words for name in matches(word, folder) or [word]]
    done = bench(*words, cwd=folder)
    allowed = {"doctor": {0, 1}, "check": {0, 3}}.get(words[0], {0})
    assert done.returncode in allowed, done.stderr


def test_the_walk_of_a_buyer_ends_with_what_it_says(folder: Path) -> None:
    walk = (ROOT / "docs" / "buying.md").read_text()
    said = walk.partition("$ bench compare")[2].partition("\n")[2].partition("```")[0].rstrip()
    options = ("one-core.jsonl", "reference:epyc-2-cores", "--prices", "buying.toml")
    done = bench("compare", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert said.count("EUR") == 2
    assert done.stdout.startswith(said)
    page = folder / "page.html"
    bench("compare", *options, "--as", "page", "--output", page, cwd=folder)
    assert "1.53x [1.05, 2.25] as fast as EPYC VM with 1 core" in page.read_text("utf-8")


def test_the_python_of_the_readme_works(folder: Path) -> None:
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert 'bench.load("results/mine.jsonl")' in code
    code = code.replace("results/mine.jsonl", str(folder / "results" / "mine.jsonl"))
    names: dict[str, object] = {"bench": library}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["frame"]) > 0  # type: ignore[arg-type]


def test_every_local_link_leads_somewhere() -> None:
    for document in [*DOCUMENTS, *ROOT.glob("*/README.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_workload_of_the_documentation_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "adding-a-workload.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "log_softmax.py").write_text(code)
    done = bench(
        *("run", "--suite", "matmul", "--kernels", "mine", "--only", "log_softmax/*"),
        *("--preset", "quick", "--blocks", "1", "--max-seconds", "0.02", "--output", "run.jsonl"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    statuses = {m.backend: m.status for m in library.load(tmp_path / "run.jsonl").measurements}
    assert statuses["numpy"] == "ok"
    assert statuses["torch-cpu"] in ("ok", "skipped")
