"""`bench share`: what identifies anybody is gone, and every number is still there."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bench as library
from bench.errors import RunFileError
from bench.results.schema import Measurement
from bench.results.scrubbing import Scrubber, users_in
from bench.results.sharing import MACHINE, SETTINGS, share
from tests.commands import ROOT, bench

REAL = ROOT / "tests" / "data" / "run_schema1.jsonl"
NUMBER = re.compile(rb"-?\d+\.\d+(?:[eE][+-]?\d+)?")

SECRETS = (
    *("build-7.acme.example", "build-7", "alice", "s3cret", "acme", "secret-branch", "train.py"),
    *("GPU-3f2a9c1e-0000-1111-2222-333344445555", "0000:3B:00.0", "1322621073291", "weights"),
    *("/scratch", "C:\\", "\\\\fileserver", "/home", "~/", "--output", "--kernels", "internal"),
)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(lines: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Return a run that tells of its host and its user wherever a run file can."""
    lines = copy.deepcopy(lines_of(REAL))
    header = lines[0]
    header["command"] += [
        *("--output", "/home/alice/s3cret/run.jsonl", "--kernels=/scratch/acme/kernels"),
        *("--model", "/home/alice/nets/mine.py:Net", "--only", "matmul/*", "--label", "acme"),
        "/home/alice/acme.txt",
    ]
    header["invented"] = {"owner": "alice@acme.example", "deep": [{"path": "/home/alice/x"}]}
    header["settings"] |= {
        "kernels": ["/scratch/acme/kernels"],
        "model": "/home/alice/nets/mine.py:Net",
        "gpu": "GPU-3f2a9c1e-0000-1111-2222-333344445555",
        "note": "for acme",
    }
    machine = header["machine"]
    machine |= {
        "host": "build-7.acme.example",
        "user": "alice",
        "gpus": [
            {
                "name": "NVIDIA H200",
                "index": 0,
                "uuid": "GPU-3f2a9c1e-0000-1111-2222-333344445555",
                "serial": "1322621073291",
                "pci_slot": "0000:3B:00.0",
                "other_processes": 1,
                "processes": [{"pid": 7, "name": "train.py"}],
            }
        ],
    }
    machine["git"] |= {"remote": "git@github.com:acme/internal.git", "branch": "secret-branch"}
    machine["environment"] |= {
        "CUDA_HOME": "/home/alice/cuda",
        "LD_PRELOAD": "/home/alice/libjemalloc.so",
        "TORCH_HOME": "s3cret",
        "CUDA_VISIBLE_DEVICES": "GPU-3f2a9c1e-0000-1111-2222-333344445555",
    }
    machine["libraries"]["numpy"] |= {"filepath": "/home/alice/libopenblas.so"}
    machine["libraries"]["numpy"]["blas"] = "openblas from C:\\Users\\alice\\lib.dll"
    machine["libraries"]["numpy"]["threadpools"] = [{"filepath": "/home/alice/x", "version": "1"}]
    machine["unknown"] |= {"gpus.0.name": "NVML on build-7 said no", "x": "no ~/s3cret"}
    machine["cpu"]["owner"] = {"name": "alice"}
    prose = (
        'File "/home/alice/my weights/acme net.py", line 3: killed by Alice on BUILD-7'
        " (file:///home/alice/a; \\\\fileserver\\acme\\b, C:\\Users\\alice\\c, alice@acme.example,"
        " see https://internal.acme.example/x; ../acme/y, PCI 0000:3B:00.0)"
    )
    for line in lines[1:]:
        line["invented"] = ["/home/alice", {"s3cret": "alice"}]
        if line["kind"] in ("case", "measurement"):
            line["model"] = "/home/alice/nets/mine.py:Net"
        for name in ("reason", "skipped"):
            if line.get(name):
                line[name] += f" {prose}"
        if "notes" in line:
            line["notes"] = [f"disturbed: {prose}"]
        if "unknown" in line:
            line["unknown"] = {"energy_joules": prose}
        for block in line.get("blocks", ()):
            block["notes"] = [f"disturbed: {prose}"]
            block["invented"] = prose
    lines.insert(3, {"kind": "diary", "text": prose})
    return write(lines, tmp_path / "planted.jsonl")


def test_nothing_that_was_planted_is_left(planted: Path) -> None:
    content = planted.read_text()
    assert all(json.dumps(secret)[1:-1] in content for secret in SECRETS)
    for line in share(planted).content.decode().splitlines():
        for secret in SECRETS:
            assert secret.lower() not in json.loads(json.dumps(line)).lower(), line
            assert json.dumps(secret)[1:-1].lower() not in line.lower(), line


def test_what_the_numbers_depend_on_is_still_there(planted: Path) -> None:
    machine = share(planted).run.header.machine
    assert machine["cpu"]["model"] == "AMD EPYC 7763 64-Core Processor"
    assert machine["gpus"] == [{"name": "NVIDIA H200", "index": 0, "other_processes": 1}]
    assert machine["environment"]["OMP_NUM_THREADS"] == "2"
    assert machine["environment"]["LD_PRELOAD"].startswith("<path")
    assert machine["git"] == {"revision": machine["git"]["revision"], "dirty": False}
    assert machine["packages"]["torch"] == "2.13.0+cpu"


def test_the_command_is_left_out_and_the_settings_stay(planted: Path) -> None:
    header = share(planted).run.header
    assert header.command == []
    assert header.settings["suites"] == library.load(planted).header.settings["suites"]


def test_every_number_is_the_same_to_the_byte(tmp_path: Path) -> None:
    text = REAL.read_bytes().replace(b'"flops":2147483648', b'"flops": 2147483648')
    odd = tmp_path / "odd.jsonl"
    odd.write_bytes(text.replace(b"3.1e-7", b"0.000000310"))
    kept = [line for line in share(odd).content.splitlines() if b'"kind":"measurement"' in line]
    originals = [line for line in odd.read_bytes().splitlines() if b'"kind":"measurement"' in line]
    assert [NUMBER.findall(line) for line in kept] == [NUMBER.findall(line) for line in originals]
    assert b"0.000000310" in share(odd).content


def test_a_copy_of_a_copy_is_the_same(planted: Path, tmp_path: Path) -> None:
    once = share(planted)
    (tmp_path / "once.jsonl").write_bytes(once.content)
    twice = share(tmp_path / "once.jsonl")
    assert twice.content == once.content
    assert (twice.removed, twice.changed) == ({}, {})


def test_every_field_that_is_left_out_or_changed_is_named(planted: Path, tmp_path: Path) -> None:
    done = bench("share", planted, "--output", tmp_path / "copy.jsonl")
    assert done.returncode == 0, done.stderr
    for name in (
        *("run.machine.host", "run.machine.user", "run.machine.git.branch", "run.settings.kernels"),
        *(
            "run.machine.gpus.uuid",
            "run.machine.gpus.processes",
            "run.machine.environment.CUDA_HOME",
        ),
        *("run.command", "run.invented", "measurement.invented"),
        *("measurement.blocks.invented", "lines of kind diary", "run.machine.cpu.owner"),
        *("measurement.reason", "block.notes", "measurement.unknown", "case.model"),
    ):
        assert name in done.stderr, name
    assert "kept: every number, the label 'AMD EPYC 7763' and the names of cases" in done.stderr
    assert "alice" not in done.stderr
    shared, original = library.load(tmp_path / "copy.jsonl"), library.load(planted)
    assert [m.id for m in shared.measurements] == [m.id for m in original.measurements]


def test_the_copy_stands_beside_the_file_and_never_replaces_one(planted: Path) -> None:
    assert bench("share", planted).returncode == 0
    copy_path = planted.with_name("planted-shared.jsonl")
    before = copy_path.read_bytes()
    again = bench("share", planted)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert copy_path.read_bytes() == before
    assert bench("share", planted, "--output", "-", "-q").stdout.encode() == before


def test_names_of_cases_that_are_paths_stay_apart_and_fit_their_parts(tmp_path: Path) -> None:
    lines = lines_of(REAL)
    for line in lines:
        for name in ("id", "case", "workload"):
            if isinstance(line.get(name), str):
                line[name] = line[name].replace("matmul", "/home/alice/nets.py:Net", 1)
    shared = share(write(lines, tmp_path / "paths.jsonl"))
    assert b"alice" not in shared.content
    original = library.load(tmp_path / "paths.jsonl").measurements
    assert len({m.key for m in shared.run.measurements}) == len(original)
    for mine, theirs in zip(shared.run.measurements, original, strict=True):
        assert mine.id == f"{mine.workload}/{mine.size}/{mine.phase}/{mine.dtype}/{mine.place}"
        assert mine.place == theirs.place


def test_a_host_that_is_called_like_the_processor_does_not_take_its_name(tmp_path: Path) -> None:
    lines = lines_of(REAL)
    lines[0]["machine"]["host"] = "epyc"
    shared = share(write(lines, tmp_path / "epyc.jsonl"))
    assert shared.run.header.machine["cpu"]["model"] == "AMD EPYC 7763 64-Core Processor"
    assert "host" not in shared.run.header.machine


def test_a_run_that_was_interrupted_is_shared_and_one_that_is_cut_short_is_not(
    tmp_path: Path,
) -> None:
    lines = REAL.read_bytes().splitlines(keepends=True)
    path = tmp_path / "part.jsonl"
    path.write_bytes(b"".join(lines[:-1]))
    assert share(path).run.measurements
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    with pytest.raises(RunFileError, match="cut short"):
        share(path)
    done = bench("share", path)
    assert done.returncode == 2
    assert not path.with_name("part-shared.jsonl").exists()


def test_a_file_that_is_no_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text("{}\n")
    assert bench("share", path).returncode == 2


def test_a_field_that_another_wrote_too_deep_is_refused(tmp_path: Path) -> None:
    text = REAL.read_text().rstrip("\n")
    deep = "[" * 100_000 + "]" * 100_000
    path = tmp_path / "deep.jsonl"
    path.write_text(f'{text[:-1]},"invented":{deep}}}\n')
    with pytest.raises(RunFileError):
        share(path)


def test_what_bench_itself_records_is_listed(tmp_path: Path) -> None:
    """A field of the machine or the settings that is new has to be judged here."""
    done = bench(
        *("run", "--suite", "matmul", "--size", "n=16", "--backend", "numpy", "--blocks", "1"),
        *("--max-seconds", "0.01", "--only", "matmul/n=*", "--output", tmp_path / "run.jsonl"),
    )
    assert done.returncode == 0, done.stderr
    removed = set(share(tmp_path / "run.jsonl").removed)
    expected = {"run.machine.host", "run.settings.kernels", "run.settings.facts"}
    expected |= {"run.command"}
    expected |= {name for name in removed if name.startswith("run.machine.environment.")}
    assert removed == expected
    assert set(MACHINE) & set(SETTINGS) == set()


@pytest.mark.parametrize(
    "text",
    [
        "n=1024, 12.5 GFLOP/s and/or 3 B/s at 14:45:00.5",
        "relative error 0.3, limit 1e-05",
        "conv2d/resnet50.3,batch=8/forward/float32/torch-cpu+channels_last",
        "an older one: pip install torch --index-url https://download.pytorch.org/whl/cu130",
        "not installed: pip install 'nn-bench[cuda12]'",
        "x86_64 ~1.2x",
    ],
)
def test_ordinary_texts_stay_as_they_are(text: str) -> None:
    assert Scrubber({"box"}, {"alice"}).prose(text) == text


@given(st.text(), st.from_regex(r"[a-z][a-z0-9]{3,12}", fullmatch=True))
def test_a_home_folder_and_its_owner_never_survive(around: str, owner: str) -> None:
    text = f"{around} /home/{owner}/x.py {around} {owner} {around}"
    scrubbed = Scrubber((), users_in(text)).prose(text)
    assert f"/home/{owner}" not in scrubbed
    again = Scrubber((), ())
    assert again.prose(scrubbed) == scrubbed


def test_the_measurement_has_no_open_field() -> None:
    """Only `machine` and `settings` are open; whatever else is open would be copied unseen."""
    assert not [t for t in Measurement.__annotations__.values() if "Any" in str(t)]
