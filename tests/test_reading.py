import json
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import RunFileError
from bench.results.reading import read_lines, read_run
from bench.results.schema import BlockLine, CaseLine, Measurement, OutcomeLine, Run
from bench.results.writing import encode
from tests.runs import matmul, run

FIXTURE = Path(__file__).parent / "data/run_schema1.jsonl"

HEADER = encode(run().header).decode().rstrip("\n")
CASE = CaseLine(
    id="matmul/n=64/call/float32/numpy",
    suite="matmul",
    workload="matmul",
    workload_version=1,
    size="n=64",
    sizes={"n": 64},
    phase="call",
    dtype="float32",
    backend="numpy",
    threads=2,
    device="cpu",
)
MEASUREMENT = matmul(64, "numpy", 12.0)


def block(number: int = 0, **fields: Any) -> BlockLine:
    values: dict[str, Any] = {
        "suite": CASE.suite,
        "case": CASE.id,
        "block": number,
        "input_digest": "0a1b",
        "verified": "full",
        "seconds": [0.001, 0.002, 0.003],
        "calls_per_sample": 1,
        "warmup_calls": 3,
        "first_call_seconds": 0.1,
        "order": 0,
    }
    return BlockLine(**{**values, **fields})


def text(line: Any, **changes: Any) -> str:
    """Return a line as it stands in a file, with fields that its type would not allow."""
    return json.dumps({**json.loads(encode(line)), **changes}, separators=(",", ":"))


def raw(line: Any, field: str, literal: str) -> str:
    """Return a line in which a field has a value that JSON itself may not know."""
    return text(line, **{field: "@"}).replace('"@"', literal)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Run]:
    def read(*lines: str, end: str = "\n") -> Run:
        path = tmp_path / "run.jsonl"
        path.write_bytes("".join(line + end for line in lines).encode("utf-8", "surrogatepass"))
        return read_run(path)

    return read


def complaint(path: Path | str) -> str:
    """Return what is said about a file, which is one short line that names the file."""
    with pytest.raises(RunFileError) as caught:
        read_run(path)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400
    return message


def test_a_file_of_schema_1_reads_as_it_always_did() -> None:
    # The file is never changed: a new schema gets a new file, and this one stays readable.
    found = read_run(FIXTURE)
    by_id = {m.id: m for m in found.measurements}
    assert found.header.label == "AMD EPYC 7763"
    assert found.header.machine["cpu"]["cores_allowed"] == 2
    assert found.remarks == []
    assert found.end is not None
    assert found.end.counts == {"ok": 5, "skipped": 1, "timed_out": 1, "crashed": 1}
    assert len(found.workers) == 6
    fast = by_id["matmul/n=1024/call/float32/torch-cpu"]
    assert fast.seconds is not None
    assert (fast.seconds.median, fast.seconds.min) == (0.007142, 0.007071)
    assert fast.host_seconds == fast.end_to_end_seconds
    assert fast.flops_per_second == pytest.approx(300.7e9, rel=1e-3)
    assert [len(b.seconds) for b in fast.blocks] == [5, 5, 5]
    assert fast.unknown["energy_joules"]
    assert by_id["matmul/n=64/call/float32/numpy"].peak_bytes is None
    norm = by_id["batch_norm/resnet50.3,batch=8/forward/float32/torch-cpu"]
    assert (norm.batch, norm.size, norm.flops) == (8, "resnet50.3,batch=8", None)
    assert norm.flags == ["no_steady_state"]
    assert {m.id.split("/")[-1]: m.reason for m in found.measurements if m.status == "skipped"} == {
        "cupy": "not installed: pip install 'nn-bench[cuda12]'"
    }
    assert by_id["matmul/n=16384/call/float32/numpy"].status == "timed_out"
    crashed = by_id["batch_norm/resnet50.3,batch=8/backward/float32/torch-cpu"]
    assert (crashed.status, crashed.seconds, len(crashed.blocks)) == ("crashed", None, 2)


def test_measurement_lines_alone_are_a_complete_run(read: Callable[..., Run]) -> None:
    found = read(HEADER, text(MEASUREMENT))
    assert found.measurements == [MEASUREMENT]
    assert found.remarks == []


def test_a_killed_run_gives_what_its_blocks_tell_and_a_remark(read: Callable[..., Run]) -> None:
    other = text(CASE, id="matmul/n=128/call/float32/numpy")
    found = read(HEADER, text(CASE), other, text(block(0)), text(block(1, seconds=[0.004])))
    first, second = found.measurements
    assert first.seconds is not None
    assert (first.status, first.seconds.median, first.seconds.min) == ("ok", 0.0025, 0.001)
    assert (second.status, second.reason) == ("skipped", "not reached: the run was ended")
    assert len(found.remarks) == 1
    assert "did not end" in found.remarks[0]


def test_a_run_killed_between_its_last_lines_gives_the_numbers_of_the_whole(
    read: Callable[..., Run],
) -> None:
    lines = FIXTURE.read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if '"kind":"measurement"' in line)
    whole = read(*lines).measurements
    for kept in (first, first + 1, first + 4):
        found = read(*lines[:kept])
        assert [m.id for m in found.measurements] == [m.id for m in whole]
        assert [m.status for m in found.measurements][1:] != ["ok"]
        for one, other in zip(found.measurements[:2], whole[:2], strict=True):
            assert one.seconds is not None
            assert other.seconds is not None
            assert one.seconds.median == other.seconds.median
        assert "did not end" in found.remarks[0]


def test_a_removed_measurement_line_is_remarked(read: Callable[..., Run]) -> None:
    lines = FIXTURE.read_text(encoding="utf-8").splitlines()
    found = read(*lines[:-2], lines[-1])
    assert found.remarks[0].endswith("run.jsonl: 1 measurement lines were removed")
    assert len(found.measurements) == 8


def test_a_header_alone_is_a_run_that_ended_early(read: Callable[..., Run]) -> None:
    found = read(HEADER)
    assert found.measurements == []
    assert "before it had a case" in found.remarks[0]


CUT = FIXTURE.read_bytes()


@given(st.integers(0, len(CUT)))
def test_a_file_cut_anywhere_reads_up_to_the_cut_or_says_why_not(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    check_cut(tmp_path_factory.mktemp("cut") / "run.jsonl", length)


def test_a_file_cut_at_or_beside_any_line_end_reads_up_to_it(tmp_path: Path) -> None:
    ends = [found.start() for found in re.finditer(b"\n", CUT)]
    for length in [end + beside for end in ends for beside in (-1, 0, 1)]:
        check_cut(tmp_path / "run.jsonl", length)


def check_cut(path: Path, length: int) -> None:
    path.write_bytes(CUT[:length])
    header_end = CUT.index(b"\n")
    if length < header_end:
        assert "run it again" in complaint(path) or "not the header" in complaint(path)
        return
    intact = CUT[: length + 1].count(b"\n")  # a line is whole without its end, too
    lines = read_lines(path)
    kinds = [json.loads(line)["kind"] for line in CUT.splitlines()[:intact]]
    assert len(lines.blocks) == kinds.count("block")
    assert len(lines.measurements) == kinds.count("measurement")
    assert len(lines.workers) == kinds.count("worker")
    found = read_run(path)
    is_cut = CUT[length - 1 : length] != b"\n" and CUT[length : length + 1] not in (b"\n", b"")
    if is_cut:
        assert f"line {intact + 1}: cut short" in found.remarks[0]
        assert "--resume" in found.remarks[0]
    else:
        assert not any("cut short" in remark for remark in found.remarks)


def test_zeros_at_the_end_as_a_power_cut_leaves_them_are_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(f"{HEADER}\n{text(MEASUREMENT)}\n".encode() + bytes(4096))
    found = read_run(path)
    assert found.measurements == [MEASUREMENT]
    assert "line 3: cut short" in found.remarks[0]


def test_a_last_line_nested_too_deeply_is_no_cut(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(f'{HEADER}\n{{"kind":"later","x":{NESTED}}}', encoding="utf-8")
    assert "line 2: nested too deeply" in complaint(path)


def test_what_a_resumed_run_keeps_is_kept_to_the_byte(tmp_path: Path) -> None:
    kept = [
        HEADER.replace("{", '{"later": {"a" : 1}, ', 1),
        text(CASE),
        text(block(0)).replace(",", " , "),
        '{"kind": "of a later bench"}',
    ]
    path = tmp_path / "run.jsonl"
    path.write_text("\n".join([*kept, text(MEASUREMENT), '{"kind":"bl']), encoding="utf-8")
    assert [line.decode() for line in read_lines(path).kept] == kept


def test_windows_line_ends_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(f"\ufeff{HEADER}\r\n\r\n{text(MEASUREMENT)}\r\n \t\n".encode())
    found = read_run(path)
    assert (found.measurements, found.remarks) == ([MEASUREMENT], [])


def test_unknown_kinds_and_fields_are_ignored(read: Callable[..., Run]) -> None:
    found = read(
        HEADER.replace("{", '{"mood":{"a":[1]},', 1),
        '{"kind":"mood","id":7}',
        text(MEASUREMENT, mood="good"),
    )
    assert found.measurements == [MEASUREMENT]


def test_an_old_measurement_without_size_takes_it_from_its_id(read: Callable[..., Run]) -> None:
    named = "conv2d/a/b,batch=8/call/float32/numpy"
    lines = [json.loads(text(MEASUREMENT, id=i)) for i in (MEASUREMENT.id, named, "mine")]
    for line in lines:
        del line["size"]
    found = read(HEADER, *map(json.dumps, lines))
    assert [m.size for m in found.measurements] == ["n=64", "a/b,batch=8", "n=64"]


def test_lines_that_belong_to_no_case_are_left_out_with_a_remark(
    read: Callable[..., Run],
) -> None:
    outcome = OutcomeLine(suite="x", case="b", block=0, status="failed", reason="no")
    found = read(HEADER, text(MEASUREMENT), text(block(case="a")), text(outcome), text(block()))
    assert found.measurements == [MEASUREMENT]
    assert [r.partition(": ")[2] for r in found.remarks] == [
        "left out what belongs to no case of the file: a and 1 more"
    ]


def test_of_a_key_that_stands_twice_the_last_one_counts(read: Callable[..., Run]) -> None:
    doubled = text(MEASUREMENT).replace('"threads":2', '"threads":1,"threads":3')
    assert read(HEADER, doubled).measurements[0].threads == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b" \n\t\r\n\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"hello\n", "line 1: not the header of a run"),
        (b"\x7fELF\x00\x01\n\x00", "line 1: not the header of a run"),
        (b"[]\n", "line 1: not the header of a run"),
        (b"7\n", "line 1: not the header of a run"),
        (b"{}\n", "line 1: not the header of a run"),
        (b'{"kind":["run"]}\n', "line 1: not the header of a run"),
        (b'{"benchmarks":[]}', "line 1: not the header of a run"),
        (text(MEASUREMENT).encode(), "line 1: not the header of a run"),
        (b"\n\n" + text(MEASUREMENT).encode(), "line 3: not the header of a run"),
        (HEADER[:-7].encode(), "line 1: the header is cut short"),
        (f"{HEADER}\n".encode("utf-16"), "UTF-16"),
        (b'{"kind":"run","schema":1}\n', "line 1: Object missing required field `id`"),
    ],
)
def test_what_is_no_run_is_said_to_be_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    assert complaint(path).startswith(f"{path}")
    assert said in complaint(path)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("0", "does not exist; run it again"),
        ("-1", "does not exist"),
        ("2", "schema 2, but this bench reads up to 1; upgrade it"),
        ("9" * 400, "999 ... 999"),
        ("9" * 5000, "out of range"),
        ('"1"', "Expected `int`, got `str` - at `$.schema`"),
        ("true", "Expected `int`, got `bool`"),
        ("1.5", "Expected `int`, got `float`"),
        ("null", "Expected `int`, got `null`"),
    ],
)
def test_another_schema_is_refused_with_what_to_do(
    read: Callable[..., Run], schema: str, said: str
) -> None:
    with pytest.raises(RunFileError, match=r"line 1: ") as caught:
        read(raw(run().header, "schema", schema))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


NESTED = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hello", "malformed"),
        ("[]", "Expected `object`, got `array`"),
        ("{}", "missing required field `kind`"),
        ('{"kind":7}', "Expected `str`"),
        (raw(MEASUREMENT, "relative_error", "NaN"), "malformed"),
        (raw(MEASUREMENT, "relative_error", "-Infinity"), "malformed"),
        (raw(MEASUREMENT, "relative_error", "1e999"), "out of range"),
        (raw(MEASUREMENT, "relative_error", "1" * 5000), "out of range"),
        (raw(MEASUREMENT, "relative_error", "-1"), ">= 0.0"),
        (raw(MEASUREMENT, "threads", "1" * 5000), "out of range"),
        (raw(MEASUREMENT, "threads", "18446744073709551616"), "<= 9223372036854775807"),
        (text(MEASUREMENT, sizes={"n": 2**63}), "negative or too large"),
        (text(MEASUREMENT, sizes={"n": -1}), "negative or too large"),
        (text(MEASUREMENT, workload_version=10**30), "negative or too large"),
        (text(MEASUREMENT, workload_version=-1), "negative or too large"),
        (text(CASE, sizes={"n": -1}), "negative or too large"),
        (text(MEASUREMENT, id="x" * 1001), "more than 1000 characters"),
        (text(CASE, suite="x" * 1001), "more than 1000 characters"),
        (text(MEASUREMENT, size="9" * 5000), "more than 1000 characters"),
        (text(CASE, networks={"x" * 1001: {"count": 1, "of": 1}}), "more than 1000 characters"),
        (text(MEASUREMENT, networks={"net": {"count": 0, "of": 1}}), "count"),
        (text(MEASUREMENT, seconds=None), "status ok, but no `seconds`"),
        (text(MEASUREMENT, status="x" * 10**6), "Invalid enum value 'xxx"),
        (text(MEASUREMENT, status="a\x1b[31m\nb"), r"a\x1b[31m\nb"),
        (text(block(), seconds=[]), "without samples"),
        (text(MEASUREMENT, blocks=[json.loads(text(block(), seconds=[]))]), "without samples"),
        (text(block(), seconds=[0.1, 0]), "> 0.0"),
        (text(block(), seconds=[0.1, -0.1]), "> 0.0"),
        (text(block(), seconds=[1e13]), "<= 1000000000000.0"),
        (text(block(), seconds=[True]), "Expected `float`, got `bool`"),
        (text(block(), seconds={"0": 1}), "Expected `array`, got `object`"),
        (text(block(), host_seconds=[0]), "> 0.0"),
        (text(block(), calls_per_sample=0), ">= 1"),
        (raw(block(), "seconds", NESTED), "nested too deeply"),
        (raw(block(), "mood", NESTED), "nested too deeply"),
        (raw(block(), "mood", '{"a":' * 10**5 + "1" + "}" * 10**5), "nested too deeply"),
        ('{"kind":"later","x":' + NESTED + "}", "nested too deeply"),
        (NESTED, "Expected `object`, got `array`"),
        (raw(block(), "verified", r'"\ud800"'), "truncated"),
        (raw(block(), "verified", r'"\udc00x"'), "malformed"),
        (raw(block(), "verified", '"\ud800"'), "codec can't decode"),
        (raw(block(), "verified", '"\x00"'), "malformed"),
        (raw(block(), "verified", '"\x1b"'), "malformed"),
        (HEADER, "a second header"),
    ],
)
def test_a_line_that_cannot_be_is_named_with_what_to_do(
    tmp_path: Path, line: str, said: str
) -> None:
    path = tmp_path / "run.jsonl"
    content = f"{HEADER}\n{text(CASE)}\n{line}\n"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    message = complaint(path)
    assert message.startswith(f"{path}, line 3: ")
    assert said in message
    assert message.endswith(("restore it, or remove that line", "split the file there"))


@pytest.mark.parametrize(
    "interval",
    [
        {"median": 1, "low": 2, "high": 3, "min": 1},
        {"median": 3, "low": 1, "high": 2, "min": 1},
        {"median": 1, "low": None, "high": 2, "min": 1},
        {"median": 1, "low": 1, "high": None, "min": 1},
        {"median": 1, "low": None, "high": None, "min": 2},
    ],
)
@pytest.mark.parametrize("metric", Measurement.metrics)
def test_an_interval_that_is_none_around_its_median_is_refused(
    read: Callable[..., Run], metric: str, interval: dict[str, Any]
) -> None:
    with pytest.raises(RunFileError, match=rf"line 2: `{metric}` is no interval"):
        read(HEADER, text(MEASUREMENT, **{metric: interval}))


@pytest.mark.parametrize("line", [CASE, block(), MEASUREMENT])
def test_the_same_line_twice_is_refused(read: Callable[..., Run], line: Any) -> None:
    said = r"line 4: matmul/n=64/call/float32/numpy of suite matmul stands there twice; .* one by"
    with pytest.raises(RunFileError, match=said):
        read(HEADER, '{"kind":"later"}', text(line), text(line))


def test_the_same_id_in_another_suite_and_another_block_of_a_case_are_no_repetition(
    read: Callable[..., Run],
) -> None:
    found = read(HEADER, text(CASE), text(CASE, suite="b"), *(text(block(i)) for i in range(3)))
    assert [len(m.blocks) for m in found.measurements] == [3, 0]


@pytest.mark.parametrize("field", ["machine", "settings"])
@pytest.mark.parametrize(
    "value",
    [
        NESTED,
        "[" * 60 + "]" * 60,
        '{"a":' * 60 + "1" + "}" * 60,
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":' + "1" * 5000 + "}",
        r'{"\ud800":1}',
        "[]",
    ],
)
def test_a_machine_and_settings_that_nobody_could_walk_through_are_refused(
    read: Callable[..., Run], field: str, value: str
) -> None:
    inner = value if value[0] == "{" or value == "[]" else f'{{"a":{value}}}'
    with pytest.raises(RunFileError, match="line 1: ") as caught:
        read(raw(run().header, field, inner))
    assert len(str(caught.value)) < 600


def test_a_machine_of_another_bench_is_read_whatever_it_says(read: Callable[..., Run]) -> None:
    machine = {"cpu": 7, "gpus": {"a": [[]]}, "a\u0000b": "\u202e\n", "deep": [[[[[1]]]]]}
    assert read(text(run().header, machine=machine)).header.machine == machine


@pytest.mark.parametrize("valid", [True, False])
def test_a_line_of_50_megabytes_ends_in_a_short_message_or_is_read(
    tmp_path: Path, valid: bool
) -> None:
    path = tmp_path / "run.jsonl"
    value = "x" * 50_000_000
    line = text(MEASUREMENT, **{"dtype" if valid else "status": value})
    path.write_text(f"{HEADER}\n{line}\n", encoding="utf-8")
    if valid:
        assert read_run(path).measurements[0].dtype == value
    else:
        assert "line 2: Invalid enum value" in complaint(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows fills a sparse file with zeros")
def test_files_and_lines_beyond_all_measure_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with path.open("wb") as file:
        file.truncate(2**26 + 1)
    assert "line 1: longer than 64 MiB" in complaint(path)
    with path.open("wb") as file:
        file.truncate(2**40)
    assert "larger than 512 MiB" in complaint(path)


def test_a_folder_is_no_run(tmp_path: Path) -> None:
    assert complaint(tmp_path) == f"{tmp_path}: is a folder; give a file that bench run wrote"


@pytest.mark.parametrize("name", ["absent.jsonl", "a\x00b", "x" * 5000, "run.jsonl/below"])
def test_a_file_that_is_not_there_is_said_to_be_absent(tmp_path: Path, name: str) -> None:
    (tmp_path / "run.jsonl").write_text(HEADER, encoding="utf-8")
    message = complaint(tmp_path / name)
    assert "no such file" in message or "cannot be read" in message


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_message_is_one_line_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\x1b[31m\udcff.jsonl"
    path.write_text("hello", encoding="utf-8")
    assert r"a\nb\x1b[31m\udcff.jsonl, line 1: not the header" in complaint(path)
    path.write_text(f"{HEADER}\n{text(CASE)}\n{{", encoding="utf-8")
    assert all(remark.isprintable() for remark in read_run(path).remarks)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/stdin"])
def test_a_device_is_refused_without_reading_it(path: str) -> None:
    if stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - follows what standard input is
        pytest.skip("standard input is a file here")
    assert "not a regular file" in complaint(path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has such files")
def test_a_file_is_read_up_to_the_length_that_it_had_at_the_beginning() -> None:
    # The kernel says 0 for what it makes up while it is read, some of it without an end.
    assert "empty" in complaint("/proc/self/status")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in complaint(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(HEADER, encoding="utf-8")
    path.chmod(0)
    assert "cannot be read: Permission denied" in complaint(path)


@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from([HEADER, text(CASE), text(block()), text(MEASUREMENT), "{", '"', "\x00"]),
        max_size=6,
    ).map(lambda parts: "\n".join(parts).encode())
)
def test_whatever_a_file_holds_it_is_a_run_or_one_line_says_why_not(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "run.jsonl"
    path.write_bytes(content)
    try:
        found = read_run(path)
    except RunFileError:
        assert complaint(path).startswith(str(path))
    else:
        assert content.lstrip(b"\n").startswith(HEADER.encode())
        assert len(found.measurements) == len({m.key for m in found.measurements})


@given(st.lists(st.floats(5e-324, 1e12), min_size=1, max_size=5), st.data())
def test_blocks_of_any_times_give_intervals_that_can_be_written_and_read_again(
    tmp_path_factory: pytest.TempPathFactory, seconds: list[float], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("times") / "run.jsonl"
    more = data.draw(st.lists(st.floats(5e-324, 1e12), min_size=1, max_size=3))
    lines = [text(block(i, seconds=[*more, s])) for i, s in enumerate(seconds)]
    path.write_text("\n".join([HEADER, text(CASE), *lines]), encoding="utf-8")
    found = read_run(path).measurements
    path.write_bytes(f"{HEADER}\n".encode() + b"".join(map(encode, found)))
    assert read_run(path).measurements == found
