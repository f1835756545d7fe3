"""Reading a run without its samples: the same numbers, and nothing that grows with the samples."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import RunFileError
from bench.results.reading import read_run
from bench.results.schema import Measurement, Run
from tests.machines import passes, write
from tests.runs import run, small_run

FIXTURE = Path(__file__).parent / "data/run_schema1.jsonl"
CONTENT = FIXTURE.read_bytes()


def without_blocks(found: Run) -> list[dict[str, Any]]:
    names = [name for name in Measurement.__struct_fields__ if name != "blocks"]
    return [{name: getattr(m, name) for name in names} for m in found.measurements]


def assert_same(path: Path) -> None:
    whole, lean = read_run(path), read_run(path, samples=False)
    assert without_blocks(lean) == without_blocks(whole)
    assert [m.key for m in lean.measurements] == [m.key for m in whole.measurements]
    assert lean.remarks == whole.remarks
    assert lean.end == whole.end
    assert lean.workers == whole.workers
    assert not [m for m in lean.measurements if m.blocks]


def test_the_fixture_reads_the_same() -> None:
    assert [m for m in read_run(FIXTURE).measurements if m.blocks]
    assert_same(FIXTURE)


@pytest.mark.parametrize("found", [small_run(), run(*passes()), run()], ids=["small", "long", "no"])
def test_any_run_reads_the_same(tmp_path: Path, found: Run) -> None:
    assert_same(write(tmp_path, found)[0])


def complaint(path: Path, *, samples: bool) -> str | None:
    try:
        read_run(path, samples=samples)
    except RunFileError as error:
        return str(error)
    return None


@settings(deadline=None)  # the first one imports scipy
@given(st.integers(0, len(CONTENT)))
def test_a_run_killed_anywhere_gives_the_same_numbers(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "lean.jsonl"
    path.write_bytes(CONTENT[:length])
    refused = complaint(path, samples=True)
    assert complaint(path, samples=False) == refused
    if refused is None:
        assert_same(path)


def test_blocks_written_otherwise_are_found_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "spaced.jsonl"
    lines = [json.dumps(json.loads(line)) for line in CONTENT.splitlines()]
    # Without measurements, so that all depends on the blocks.
    path.write_text("".join(f"{line}\n" for line in lines if '"measurement"' not in line))
    assert [m for m in read_run(path).measurements if m.status == "ok"]
    assert_same(path)


def test_a_number_that_cannot_be_is_refused_without_samples_too(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(CONTENT.replace(b'"median":', b'"median":-', 1))
    with pytest.raises(RunFileError, match="the file was changed or damaged"):
        read_run(path, samples=False)
