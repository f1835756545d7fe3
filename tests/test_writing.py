import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import OutputError
from bench.results.reading import read_run
from bench.results.schema import STATUSES, Block, EndLine, Interval, Measurement, RunLine
from bench.results.writing import RunWriter, encode
from tests.runs import matmul, run

HEADER = run().header
LINE = matmul(64, "numpy", 12.0)

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")


def test_each_line_is_on_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = RunWriter(path)
    writer.write(HEADER)
    assert path.read_bytes() == encode(HEADER)
    writer.write(LINE)
    assert path.read_bytes() == encode(HEADER) + encode(LINE)
    writer.close()


def test_a_line_is_one_line_whatever_its_texts_hold() -> None:
    line = matmul(64, "numpy", 12.0, verified="a\nb\r\u2028\x00")
    assert encode(line).count(b"\n") == 1
    assert json.loads(encode(line))["verified"] == "a\nb\r\u2028\x00"


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "run.jsonl"
    RunWriter(path).close()
    assert path.read_bytes() == b""


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(OutputError) as caught:
        RunWriter(path)
    assert str(caught.value) == f"{path} exists already; choose another --output"
    assert path.read_text(encoding="utf-8") == "precious"


def test_a_resumed_file_goes_on_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(encode(HEADER))
    writer = RunWriter(path, append=True)
    writer.write(LINE)
    writer.close()
    assert read_run(path).measurements == [LINE]


@pytest.mark.parametrize("below", ["run.jsonl", "deep/er/run.jsonl"])
def test_a_path_below_a_file_is_refused_in_one_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    path = tmp_path / "file" / below
    with pytest.raises(OutputError) as caught:
        RunWriter(path)
    message = str(caught.value)
    assert message.startswith(f"cannot write to {path.parent}: ")
    assert message.endswith("; choose another --output")
    assert message.isprintable()


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        RunWriter(tmp_path)
    with pytest.raises(OutputError, match="cannot write"):
        RunWriter(tmp_path, append=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied; choose another --output"):
        RunWriter(tmp_path / "run.jsonl")


FULL_DISK = """
import resource, sys
from pathlib import Path
from bench.errors import OutputError
from bench.results.writing import RunWriter
from tests.runs import matmul, run

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
writer = RunWriter(Path(sys.argv[1]))
writer.write(run().header)
written = 0
try:
    for n in range(1, 100):
        writer.write(matmul(n, "numpy", 12.0))
        written += 1
except OutputError as error:
    print(written, error)
assert Path(sys.argv[1]).read_bytes().endswith(b"}\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.write(matmul(1000, "numpy", 12.0))
"""


@posix
@pytest.mark.parametrize("room", [5000, 5001, 7777])
def test_a_full_disk_leaves_whole_lines_and_the_file_can_be_gone_on_with(
    tmp_path: Path, room: int
) -> None:
    path = tmp_path / "run.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path, str(room)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    written, message = done.stdout.strip().split(" ", 1)
    assert int(written) > 0
    assert message == (
        f"cannot write {path}: File too large; what was written before is intact: make room, then"
        " go on with --resume"
    )
    found = read_run(path)
    assert found.remarks == []
    sizes = [m.sizes["n"] for m in found.measurements]
    assert sizes == [*range(1, int(written) + 1), 1000]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_device_is_an_error_in_one_line() -> None:
    writer = RunWriter(Path("/dev/full"), append=True)
    with pytest.raises(OutputError, match=r"^cannot write /dev/full: No space left on device;"):
        writer.write(HEADER)
    writer.close()


class Interrupting:
    """A file that takes a part of a line, and then the user presses Ctrl-C."""

    def __init__(self, file: Any, part: int) -> None:
        self.file = file
        self.part = part

    def write(self, data: memoryview) -> int:
        self.file.write(data[: self.part])
        raise KeyboardInterrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("part", [0, 1, 10_000])
def test_an_interrupt_within_a_line_leaves_no_half_of_it(tmp_path: Path, part: int) -> None:
    path = tmp_path / "run.jsonl"
    writer = RunWriter(path)
    writer.write(HEADER)
    file = writer._file
    writer._file = Interrupting(file, part)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        writer.write(matmul(128, "numpy", 12.0))
    assert path.read_bytes() == encode(HEADER)
    writer._file = file
    writer.write(LINE)
    writer.close()
    assert read_run(path).measurements == [LINE]


def test_without_a_path_lines_go_to_standard_output(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    writer = RunWriter(None)
    writer.write(LINE)
    writer.close()
    assert capfdbinary.readouterr().out == encode(LINE)
    assert not sys.stdout.closed


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "place",
    [
        lambda x: matmul(64, "numpy", 12.0, relative_error=x),
        lambda x: matmul(64, "numpy", 12.0, host_seconds=Interval(median=1, low=x, high=x, min=1)),
        lambda x: matmul(64, "numpy", 12.0, blocks=[block(seconds=[1.0, x])]),
        lambda x: EndLine(finished="", counts={}, wall_seconds=x),
        lambda x: header(machine={"deep": [{"er": (1, x)}]}),
    ],
)
def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(
    tmp_path: Path, place: Any, number: float
) -> None:
    path = tmp_path / "run.jsonl"
    writer = RunWriter(path)
    with pytest.raises(ValueError, match="not finite"):
        writer.write(place(number))
    writer.close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "fields",
    [{"blocks": [Block(seconds=[0.0], calls_per_sample=1, warmup_calls=1, first_call_seconds=1,
                       order=0)]},
     {"status": "tired"}, {"peak_bytes": -1}, {"relative_error": -1.0}],
)  # fmt: skip
def test_what_no_reader_would_accept_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected|Invalid"):
        encode(matmul(64, "numpy", 12.0, **fields))


def test_a_text_that_is_no_unicode_is_written_in_a_readable_way() -> None:
    line = header(command=["bench", os.fsdecode(b"caf\xe9") if os.name == "posix" else "caf\udce9"])
    assert json.loads(encode(line))["command"] == ["bench", "caf\\udce9"]


def header(**fields: Any) -> RunLine:
    values = {name: getattr(HEADER, name) for name in RunLine.__struct_fields__}
    return RunLine(**{**values, **fields})


def block(**fields: Any) -> Block:
    values: dict[str, Any] = {
        "seconds": [1.0],
        "calls_per_sample": 1,
        "warmup_calls": 0,
        "first_call_seconds": 1.0,
        "order": 0,
    }
    return Block(**{**values, **fields})


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
positive = st.floats(0, 1e12, exclude_min=True)
counts = st.integers(0, 2**63 - 1)
errors = st.none() | st.floats(0, allow_infinity=False)
intervals = st.none() | st.lists(positive, min_size=4, max_size=4).map(sorted).map(
    lambda v: Interval(min=v[0], low=v[1], median=v[2], high=v[3])
)
blocks = st.builds(
    Block,
    seconds=st.lists(positive, min_size=1, max_size=3),
    calls_per_sample=st.integers(1, 2**63 - 1),
    warmup_calls=counts,
    first_call_seconds=positive,
    order=counts,
    host_seconds=st.lists(positive, max_size=3),
    device_seconds=st.lists(positive, max_size=3),
    end_to_end_seconds=st.lists(positive, max_size=3),
    relative_error=errors,
    peak_bytes=st.none() | counts,
    worked_seconds=st.floats(0, allow_infinity=False),
    notes=st.lists(texts, max_size=2),
)
measurements = st.builds(
    Measurement,
    id=texts,
    suite=texts,
    workload=texts,
    workload_version=counts,
    size=texts.filter(bool),
    sizes=st.dictionaries(texts, counts, max_size=3),
    phase=texts,
    dtype=texts,
    backend=texts,
    threads=counts,
    device=texts,
    status=st.sampled_from([status for status in STATUSES if status != "ok"]),
    batch=st.none() | counts,
    variant=st.none() | texts,
    model=st.none() | texts,
    reason=st.none() | texts,
    flops=st.none() | counts,
    bytes_moved=st.none() | counts,
    input_digest=st.none() | texts,
    verified=st.none() | texts,
    relative_error=errors,
    blocks=st.lists(blocks, max_size=2),
    seconds=intervals,
    host_seconds=intervals,
    device_seconds=intervals,
    end_to_end_seconds=intervals,
    peak_bytes=st.none() | counts,
    energy_joules=st.none() | positive,
    flags=st.lists(texts, max_size=2),
    unknown=st.dictionaries(texts, texts, max_size=2),
)


@given(measurements)
def test_what_is_written_is_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, line: Measurement
) -> None:
    path = tmp_path_factory.mktemp("round") / "run.jsonl"
    writer = RunWriter(path)
    writer.write(HEADER)
    writer.write(line)
    writer.close()
    found = read_run(path)
    assert found.measurements == [line]
    assert found.header == HEADER
