"""The cells of docs/notebook.md give the outputs that stand beneath them."""

import ast
import contextlib
import io
import re
from typing import Any

import pytest

from bench.results.sharing import share
from tests.commands import ROOT

CELL = re.compile(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown(code: str, names: dict[str, Any]) -> str:
    """Run a cell and return what a notebook shows: what it prints, then its last expression."""
    tree = ast.parse(code)
    printed, value = io.StringIO(), None
    last = tree.body[-1]
    with contextlib.redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, "notebook", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
    return printed.getvalue() + ("" if value is None else f"{value!r}\n")


def test_every_cell_of_the_notebook_gives_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "notebook.md").read_text()
    cells = CELL.findall(text)
    assert len(cells) == text.count("```python") == text.count("```text") >= 5
    names: dict[str, Any] = {}
    for code, output in cells:
        found = shown(code, names).splitlines()
        assert [line.rstrip() for line in found] == output.splitlines()


def test_the_run_of_the_notebook_is_fit_to_pass_on() -> None:
    path = ROOT / "docs" / "data" / "matmul.jsonl"
    assert share(path).content == path.read_bytes()
