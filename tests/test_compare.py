"""`bench compare`: the same work only, and nothing said that was not measured."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.comparing.document import Questions, comparison_document
from bench.comparing.machines import Piece, machines
from bench.comparing.side_by_side import Comparison, choose_baseline, compare
from bench.comparing.speed_tables import lacks, refusal
from bench.errors import RequestError
from bench.report import Document
from bench.results.schema import Measurement, Run
from tests.commands import bench
from tests.machines import box, describe, passes, served, started, write
from tests.runs import HOSTILE, gpu_matmul, hostile_run, interval, matmul, measurement, run


def side_by_side(*runs: Run, baseline: str | None = None, force: bool = False) -> Comparison:
    found = machines(runs)
    return compare(found, choose_baseline(found, baseline), force=force)


def speeds(comparison: Comparison, pieces: Sequence[Piece] | None = None) -> dict[str, float]:
    found = {}
    for machine in comparison.machines:
        speed = comparison.speed(machine, comparison.overall if pieces is None else pieces)
        assert speed is not None
        found[machine.name] = speed.median
    return found


def text(document: Document) -> str:
    return "\n".join([*document.sentences, *document.warnings, *document.remarks])


def told(comparison: Comparison) -> str:
    return text(comparison_document(comparison, comparison.machines, Questions()))


def test_the_speed_is_the_mean_over_the_work_that_all_machines_have() -> None:
    comparison = side_by_side(box("slow", 4.0), box("fast", 1.0), box("middle", 2.0))
    assert speeds(comparison) == pytest.approx({"fast": 4.0, "middle": 2.0, "slow": 1.0})
    assert [machine.name for machine in comparison.machines] == ["fast", "middle", "slow"]
    assert len(comparison.overall) == 8


def test_work_that_one_machine_lacks_counts_for_nobody_and_is_named() -> None:
    one = run(matmul(64, "numpy", 10.0), matmul(128, "numpy", 10.0), label="one")
    two = run(
        matmul(64, "numpy", 20.0),
        measurement(sizes={"n": 128}, seconds=None, status="crashed", reason="signal 11"),
        label="two",
    )
    comparison = side_by_side(one, two)
    assert [piece.work for piece in comparison.overall] == ["matmul/n=64/call/float32"]
    assert lacks(comparison) == [
        "missing on two: 1 of 2 pieces of matmul (matmul/n=128/call/float32): crashed: signal 11"
    ]


def test_what_several_machines_lack_for_one_reason_is_one_line() -> None:
    full = run(*(matmul(n, "numpy", 10.0) for n in (64, 128, 256)), label="full")
    poor = [run(matmul(64, "numpy", 10.0), label=f"poor {i}") for i in range(9)]
    lines = lacks(side_by_side(full, *poor))
    assert lines == [
        "missing on poor 0, poor 1, poor 2 and 6 more: 2 of 3 pieces of matmul"
        " (matmul/n=128/call/float32, matmul/n=256/call/float32): not in the run"
    ]


def test_a_suite_that_one_machine_lacks_is_compared_among_the_others() -> None:
    fast = box("b", 1.0, served(0.01))
    comparison = side_by_side(box("a", 2.0, served(0.02)), fast, box("c", 1.0))
    assert len(comparison.suites["latency"]) == 1
    assert len(comparison.suites["passes"]) == 8
    assert not [piece for piece in comparison.overall if piece.suite == "latency"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"workload_version": 2}, "workload version 2 against 1"),
        ({"input_digest": "other"}, "different inputs"),
        ({"input_digest": None}, "inputs of which one is not known"),
        (
            {"input_digest": None, "unknown": {"input_digest": "the blocks had different inputs"}},
            "the blocks had different inputs",
        ),
    ],
)
def test_other_work_is_void_and_shown_only_by_force(changed: dict[str, Any], reason: str) -> None:
    one = run(gpu_matmul(64, "numpy"), label="one")
    case = gpu_matmul(64, "numpy")
    for name, value in changed.items():
        setattr(case, name, value)
    other = run(case, label="two")
    comparison = side_by_side(one, other)
    assert comparison.left_out == ["two"]
    assert reason in refusal(comparison)[0]
    forced = side_by_side(one, other, force=True)
    assert not refusal(forced)
    assert told(forced).startswith("VOID (--force): two did not do the same work")
    assert reason in told(forced)


def test_another_dtype_is_void() -> None:
    one = run(gpu_matmul(64, "numpy"), label="one")
    two = run(gpu_matmul(64, "numpy", dtype="float64"), label="two")
    assert "dtype float64 against float32" in refusal(side_by_side(one, two))[0]
    forced = side_by_side(one, two, force=True)
    assert speeds(forced) == pytest.approx({"one": 1.0, "two": 1.0})
    assert "VOID" in told(forced)


def test_a_second_dtype_makes_nothing_void() -> None:
    one = run(gpu_matmul(64, "numpy"), gpu_matmul(64, "numpy", dtype="float64"), label="one")
    two = run(gpu_matmul(64, "numpy"), label="two")
    comparison = side_by_side(one, two)
    assert not comparison.voids
    assert len(comparison.overall) == 1


@pytest.mark.parametrize(
    ("backend", "flag", "values", "void"),
    [
        ("torch-cuda", "matmul_allow_tf32", (False, True), True),
        ("torch-cpu", "float32_matmul_precision", ("highest", "high"), True),
        ("torch-cpu", "cudnn_allow_tf32", (False, True), False),
        ("cupy", "CUPY_TF32", ("0", "1"), True),
        ("cupy", "version", ("13", "14"), False),
    ],
)
def test_precision_flags_make_float32_void(
    backend: str, flag: str, values: tuple[Any, Any], void: bool
) -> None:
    gpu = {} if backend == "torch-cpu" else {"gpu": "Synthetic GPU"}
    runs = [
        run(
            gpu_matmul(64, backend),
            gpu_matmul(64, backend, dtype="float64"),
            label=f"box {i}",
            machine=describe(libraries={backend: {flag: value, **gpu}}),
        )
        for i, value in enumerate(values)
    ]
    comparison = side_by_side(*runs)
    works = [piece.dtype for piece in comparison.overall]
    assert works == (["float64"] if void else ["float32", "float64"])
    assert bool(comparison.voids) == void


def test_the_override_of_the_driver_is_a_precision_flag() -> None:
    runs = [
        run(
            gpu_matmul(64, "cupy"),
            label=f"box {i}",
            machine=describe(libraries={"cupy": {"gpu": "x"}}, environment=environment),
        )
        for i, environment in enumerate([{}, {"NVIDIA_TF32_OVERRIDE": "1"}])
    ]
    assert "NVIDIA_TF32_OVERRIDE 1 against not set" in refusal(side_by_side(*runs))[0]


def test_gpus_of_other_precision_are_not_compared_through_a_cpu() -> None:
    def gpu(label: str, *, allow: bool) -> Run:
        libraries = {"torch-cuda": {"gpu": "x", "matmul_allow_tf32": allow}}
        return run(gpu_matmul(64, "torch-cuda"), label=label, machine=describe(libraries=libraries))

    cpu = run(gpu_matmul(64, "numpy"), label="a cpu")
    comparison = side_by_side(cpu, gpu("b", allow=False), gpu("c", allow=True))
    assert comparison.left_out == ["c"]


def test_the_best_of_a_machine_is_its_fastest_place_and_named() -> None:
    one = run(matmul(64, "numpy", 10.0), label="one")
    two = run(
        matmul(64, "numpy", 5.0),
        matmul(64, "torch-cpu", 30.0, variant="compiled"),
        matmul(64, "torch-cpu", 20.0),
        label="two",
    )
    comparison = side_by_side(one, two)
    assert comparison.best["two"][comparison.overall[0]].place == "torch-cpu+compiled"
    assert "with torch-cpu+compiled" in told(comparison)
    rows = comparison_document(comparison, comparison.machines, Questions()).tables[1].rows
    assert [row[3] for row in rows] == ["numpy", "torch-cpu", "numpy"]


def test_loads_of_a_service_are_not_the_same_work() -> None:
    def case(concurrency: int) -> Measurement:
        found = served(0.01)
        found.concurrency = concurrency
        return found

    one, two = run(case(1), label="one"), run(case(8), label="two")
    assert refusal(side_by_side(one, two))


def test_runs_with_one_label_are_told_apart() -> None:
    runs = [
        started(box("same", factor), f"2026-11-2{i}T00:00:00Z") for i, factor in enumerate((1, 2))
    ]
    comparison = side_by_side(*runs)
    assert {m.name for m in comparison.machines} == {
        "same (2026-11-20T00:00:00Z)",
        "same (2026-11-21T00:00:00Z)",
    }
    assert "2 runs have the label same" in told(comparison)
    with pytest.raises(RequestError, match="2 runs have it"):
        choose_baseline(comparison.machines, "same")
    chosen = choose_baseline(comparison.machines, "same (2026-11-21T00:00:00Z)")
    assert chosen.started == "2026-11-21T00:00:00Z"


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "a (t)", "a (t, number 1)", "b"]), max_size=8))
def test_names_are_never_shared(labels: list[str]) -> None:
    runs = [started(run(label=label), "t") for label in labels]
    names = [machine.name for machine in machines(runs)]
    assert len(set(names)) == len(names)


def test_differences_are_remarked() -> None:
    machine = describe(
        cpu={"model": "X", "cores_allowed": 48, "cores_present": 384},
        gpus=[
            {
                "name": "G",
                "driver": "2.0",
                "power_limit_watts": 400.0,
                "power_limit_default_watts": 700.0,
                "other_processes": 1,
            }
        ]
        * 2,
        libraries={"torch-cuda": {"version": "2.9", "gpu": "G"}},
    )
    plain = describe(libraries={"torch-cuda": {"version": "2.8", "gpu": "G"}})
    said = told(side_by_side(box("a", machine=machine), box("b", spread=None, machine=plain)))
    assert "a: 48 of 384 cores visible: this CPU is not one you would buy" in said
    assert "a: power limit of G lowered to 400 W from 700 W" in said
    assert "a: 1 other processes were on G" in said
    assert "a: 2 GPUs, of which a case uses one" in said
    assert "b: 16 of 16 results have one block only" in said
    assert "different GPU driver: 1.0 on b; 2.0 on a" in said
    assert "different version of torch-cuda: 2.8 on b; 2.9 on a" in said


def test_a_run_twice_is_said_to_be_one() -> None:
    assert "are one and the same run" in told(side_by_side(box("a"), box("a")))


@settings(deadline=None)
@given(
    factors=st.lists(st.floats(0.1, 10), min_size=2, max_size=5),
    scale=st.floats(1e-3, 1e3),
)
def test_speed_does_not_depend_on_the_unit_of_time(factors: list[float], scale: float) -> None:
    def boxes(unit: float) -> list[Run]:
        return [
            run(*(matmul(n, "numpy", 10 / (f * unit)) for n in (64, 128)), label=f"box {i}")
            for i, f in enumerate(factors)
        ]

    one, other = side_by_side(*boxes(1.0)), side_by_side(*boxes(scale))
    assert speeds(other) == pytest.approx(speeds(one))
    for machine in other.machines:
        speed = other.speed(machine, other.overall)
        assert speed is not None
        assert speed.low is not None
        assert speed.high is not None
        assert speed.low <= speed.median * (1 + 1e-9)
        assert speed.high >= speed.median * (1 - 1e-9)


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_the_order_of_files_changes_nothing_but_the_baseline(tmp_path: Path, form: str) -> None:
    runs = [box("a", 4.0, served(0.02)), box("b", 1.0, spread=None), box("c", 2.0), box("b", 3.0)]
    paths = write(tmp_path, *runs)
    given_baseline = ("--baseline", "a", "--as", form)
    one = bench("compare", *paths, *given_baseline)
    other = bench("compare", *reversed(paths), *given_baseline)
    assert one.returncode == 0, one.stderr
    assert one.stdout == other.stdout


def test_json_holds_every_number_and_its_machine(tmp_path: Path) -> None:
    done = bench("compare", *write(tmp_path, box("a", 4.0), box("b", 1.0)), "--as", "json")
    found = json.loads(done.stdout)
    speed = [r for r in found["records"] if (r["table"], r["machine"]) == ("speed", "b")]
    assert [r["value"] for r in speed] == [pytest.approx(4.0)]
    assert (
        len([r for r in found["records"] if r["metric"] == "seconds" and r["table"] == "cases"])
        == 16
    )


def test_one_file_is_a_bad_request(tmp_path: Path) -> None:
    done = bench("compare", *write(tmp_path, box("a")))
    assert done.returncode == 2
    assert "give a second run" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--as", "pgae"], "did you mean page?"),
        (["--as", "xml"], "known are: csv, json, markdown, page, plots, table"),
        (["--baseline", "nobody"], "no run has that label"),
        (["--budget", "100"], "--budget needs --prices"),
        (["--latency-bound", "20"], "give a time with its unit"),
        (["--latency-bound", "-1ms"], "give a time with its unit"),
        (["--latency-bound", "nans"], "give a time with its unit"),
        (["--train", "resnet50"], "give NETWORK:IMAGES"),
        (["--train", "resnet50:0"], "from 1 image"),
        (["--train", "resnet51:1000"], "did you mean resnet50?"),
        (["--outliers", "--force"], "a question of its own"),
        (["--prices", "nowhere.toml"], "No such file"),
    ],
)
def test_bad_requests_say_what_to_do(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = bench("compare", *write(tmp_path, box("a"), box("b")), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_comparable_ends_with_4(tmp_path: Path) -> None:
    one, two = run(matmul(64, "numpy", 1.0), label="one"), box("two")
    done = bench("compare", *write(tmp_path, one, two))
    assert done.returncode == 4
    assert done.stdout == ""
    assert "no piece of work may be compared with one" in done.stderr


def test_a_run_of_failures_alone_is_nothing_comparable(tmp_path: Path) -> None:
    failed = measurement(seconds=None, status="failed", reason="no")
    done = bench("compare", *write(tmp_path, run(failed, label="x"), run(failed, label="y")))
    assert done.returncode == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b'{"kind":"run","schema":99}\n', "schema 99"),
        (b"[1, 2]\n", "not the header of a run"),
    ],
)
def test_what_is_no_run_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    good = write(tmp_path, box("a"))
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(content)
    done = bench("compare", *good, bad)
    assert done.returncode == 2
    assert said in done.stderr
    assert "bad.jsonl" in done.stderr


def test_a_file_cut_short_is_used_and_said_to_be_bad(tmp_path: Path) -> None:
    paths = write(tmp_path, box("a"), box("b", 2.0))
    content = paths[1].read_bytes().splitlines(keepends=True)
    paths[1].write_bytes(b"".join(content[:9]) + content[9][:50])
    done = bench("compare", *paths)
    assert done.returncode == 2
    assert "cut short" in done.stderr
    assert "0.500x" in done.stdout


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_hostile_texts_stay_texts(tmp_path: Path, form: str) -> None:
    other = hostile_run()
    other.header.label = f"{HOSTILE} two"
    done = bench("compare", *write(tmp_path, hostile_run(), other), "--as", form)
    assert done.returncode == 0, done.stderr
    for character in ("\x1b", "\u202e"):
        assert character not in done.stdout
    if form == "csv":
        lines = done.stdout.splitlines()
        assert not [line for line in lines if line.startswith("=")]
        assert not [line for line in lines if ",=" in line or ',"=' in line]
    if form == "markdown":
        assert "<b>" not in done.stdout
        assert "`x`" not in done.stdout.replace("\\`x\\`", "")
    if form == "json":
        json.loads(done.stdout)


def test_hundreds_of_machines_are_told_in_few_lines() -> None:
    runs = [box(f"node{i:03}", 1 + i / 1000) for i in range(40)]
    comparison = side_by_side(*runs)
    document = comparison_document(comparison, comparison.machines, Questions())
    assert len(document.sentences) == 13
    assert "27 more are in the table." in document.sentences
    assert [table.name for table in document.tables] == ["speed", "networks"]
    full = comparison_document(comparison, comparison.machines, Questions(), everything=True)
    assert [table.name for table in full.tables] == ["speed", "backends", "cases", "networks"]


def test_the_output_can_be_written_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "compared.md"
    done = bench(
        "compare", *write(tmp_path, box("a"), box("b")), "--as", "markdown", "--output", path
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert path.read_text().startswith("## 2 machines side by side")


def test_a_run_file_is_never_written_over(tmp_path: Path) -> None:
    paths = write(tmp_path, box("a"), box("b"))
    before = paths[0].read_bytes()
    done = bench("compare", *paths, "--output", paths[0])
    assert done.returncode == 2
    assert "that is a run file" in done.stderr
    assert paths[0].read_bytes() == before


def test_passes_has_the_cases_that_these_tests_count() -> None:
    assert len(passes()) == 16


@pytest.mark.parametrize("form", ["table", "json"])
def test_descriptions_that_make_no_sense_do_no_harm(tmp_path: Path, form: str) -> None:
    odd: list[dict[str, Any]] = [
        {"cpu": 5, "gpus": {"a": 1}, "libraries": {"torch-cuda": 3}, "environment": []},
        {
            "cpu": {"cores_allowed": True, "cores_present": 10**300, "model": []},
            "gpus": [
                3,
                {
                    "name": None,
                    "driver": [1],
                    "power_limit_watts": 1,
                    "power_limit_default_watts": 10**300,
                    "other_processes": "many",
                },
            ],
            "libraries": ["torch-cuda"],
        },
    ]
    runs = [box(f"box {i}", machine=machine) for i, machine in enumerate(odd)]
    runs[0].measurements[0].seconds = interval(1e12, None)
    runs[1].measurements[0].seconds = interval(1e-320, None)
    runs[0].header.settings = {"preset": {}, "blocks": [None]}
    done = bench("compare", *write(tmp_path, *runs), "--as", form)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
