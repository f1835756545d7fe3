import csv
import io
import json
import re
import subprocess
import sys
import unicodedata
from typing import Any

import pytest
from bench.reports import _summary

from bench import catalog
from bench.report import Request
from bench.results.schema import FAULTS, Measurement, Run
from tests.runs import (
    HOSTILE,
    batch_run,
    batch_sweep,
    gpu_matmul,
    gpu_run,
    hostile_run,
    interval,
    layer,
    limit,
    matmul,
    measurement,
    network_run,
    realistic_run,
    run,
    small_run,
)


def shown(name: str, *runs: Run, **request: Any) -> str:
    text = catalog.reports()[name].render(runs, Request(**request))
    assert isinstance(text, str)
    return text


HEADING = """\
build box
AMD EPYC 7763 64-Core Processor, 2 threads; no GPU
standard preset, 6 blocks; 2026-11-20 14:45 UTC; bench 0.1.0
"""
NOT_MEASURED = """\
Not measured:
- matmul/n=2048/call/float32/numpy: wrong: relative error 0.3, limit 1e-05
- cupy: skipped: not installed: pip install cupy-cuda12x
"""


def test_the_table_says_everything_about_a_run() -> None:
    assert (
        shown("table", small_run())
        == f"""\
{HEADING}
suite layers: batch_norm forward, float32
size                backend      time   95% interval      rate  vs best    error  notes
------------------  ---------  ------  -------------  --------  -------  -------  -----
resnet50.3,batch=8  torch-cpu  200 us  [196, 204] us  257 GB/s        -  3.1e-07

suite matmul, float32
size    backend       time     95% interval          rate  vs best    error  notes
------  ---------  -------  ---------------  ------------  -------  -------  ------------
n=64    numpy      43.7 us  [42.8, 44.6] us  12.0 GFLOP/s  fastest  3.1e-07  launch_bound
        torch-cpu  65.5 us        one block  8.00 GFLOP/s     1.5x  3.1e-07
n=1024  numpy      12.3 ms  [12.0, 12.5] ms   175 GFLOP/s     1.7x  3.1e-07
        torch-cpu  7.11 ms  [6.97, 7.25] ms   302 GFLOP/s  fastest  3.1e-07
n=2048  numpy            -            wrong             -        -  3.0e-01
        torch-cpu  55.4 ms  [54.3, 56.5] ms   310 GFLOP/s        -  3.1e-07

{NOT_MEASURED}"""
    )


def test_at_80_columns_notes_stand_beneath_and_every_number_stays() -> None:
    assert (
        shown("table", small_run(), width=80, only=["matmul/*"])
        == f"""\
{HEADING}
suite matmul, float32
size    backend       time     95% interval          rate  vs best    error
------  ---------  -------  ---------------  ------------  -------  -------
n=64    numpy      43.7 us  [42.8, 44.6] us  12.0 GFLOP/s  fastest  3.1e-07
    notes: launch_bound
        torch-cpu  65.5 us        one block  8.00 GFLOP/s     1.5x  3.1e-07
n=1024  numpy      12.3 ms  [12.0, 12.5] ms   175 GFLOP/s     1.7x  3.1e-07
        torch-cpu  7.11 ms  [6.97, 7.25] ms   302 GFLOP/s  fastest  3.1e-07
n=2048  numpy            -            wrong             -        -  3.0e-01
        torch-cpu  55.4 ms  [54.3, 56.5] ms   310 GFLOP/s        -  3.1e-07

{NOT_MEASURED}"""
    )


def test_sizes_too_long_for_a_column_stand_above_their_rows() -> None:
    cases = [
        measurement(
            backend=backend,
            name="bert_base.feed_forward",
            sizes={"m": 64, "k": 64},
            dtype=dtype,
            flops=10**8,
        )
        for backend in ("numpy", "torch-cpu")
        for dtype in ("float32", "float64")
    ]
    text = shown("table", run(*cases), width=80)
    assert (
        text.partition("suite ")[2]
        == """\
matmul
backend         time      95% interval         rate   vs best    error  notes
-----------  -------  ----------------  -----------  --------  -------  -----
matmul, float32:
bert_base.feed_forward
  numpy      1.00 ms  [0.980, 1.02] ms  100 GFLOP/s  ~fastest  3.1e-07
  torch-cpu  1.00 ms  [0.980, 1.02] ms  100 GFLOP/s  ~fastest  3.1e-07

matmul, float64:
bert_base.feed_forward
  numpy      1.00 ms  [0.980, 1.02] ms  100 GFLOP/s  ~fastest  3.1e-07
  torch-cpu  1.00 ms  [0.980, 1.02] ms  100 GFLOP/s  ~fastest  3.1e-07

Remarks:
- ~ the interval overlaps that of the fastest: a repeat may differ
"""
    )


@pytest.mark.parametrize("width", [80, 100, 132])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, shown("table", realistic_run(), width=width).split("\n"))) <= width


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_narrow_terminal_loses_no_word_of_the_table(width: int) -> None:
    wide, narrow = shown("table", small_run()), shown("table", small_run(), width=width)
    words = [set(re.findall(r"[\w.@+]+", text)) for text in (wide, narrow)]
    # Sizes above their rows need no header.
    assert words[0] - words[1] <= {"size"}


def test_a_quick_run_says_that_it_is_only_a_first_look() -> None:
    text = shown("table", run(matmul(64, "numpy", 1.0), preset="quick", blocks=3))
    assert "quick: 3 blocks, for a first look; 2026-11-20 14:45 UTC" in text


def test_the_heading_names_the_gpus() -> None:
    machine = {"cpu": {"model": "EPYC"}, "gpus": [{"name": "H200"}, {"name": "H200"}]}
    text = shown("table", run(matmul(64, "numpy", 1.0), machine=machine))
    assert "\nEPYC, 2 threads; 2 x H200\n" in text


def test_a_machine_of_unknown_form_is_no_obstacle() -> None:
    strange: list[dict[str, Any]] = [
        {},
        {"cpu": "EPYC", "gpus": {"name": "?"}},
        {"cpu": {"model": None}, "gpus": [3]},
    ]
    for machine in strange:
        assert "unknown CPU" in shown("table", run(matmul(64, "numpy", 1.0), machine=machine))


def test_cases_skipped_for_one_reason_are_named_together() -> None:
    skipped = [
        measurement(sizes={"n": n}, seconds=None, status="skipped", reason="needs 99 GiB")
        for n in (8192, 16384)
    ]
    text = shown("table", run(matmul(64, "numpy", 1.0), *skipped))
    assert text.endswith(
        "Not measured:\n"
        "- numpy: skipped (2 cases): needs 99 GiB\n"
        "    matmul/n=8192/call/float32\n"
        "    matmul/n=16384/call/float32\n"
    )


def test_a_backend_without_a_case_is_named_once_with_all_its_variants() -> None:
    absent: dict[str, Any] = {"seconds": None, "status": "skipped", "reason": "no GPU"}
    cases = [
        measurement(backend="torch-cuda", variant=variant, **absent)
        for variant in (None, "channels_last")
    ]
    assert shown("table", run(matmul(64, "numpy", 1.0), *cases)).endswith(
        "Not measured:\n- torch-cuda: skipped: no GPU\n"
    )
    tried = [*cases[1:], measurement(backend="torch-cuda")]
    assert "- torch-cuda+channels_last: skipped: no GPU\n" in shown("table", run(*tried))


def test_sizes_stand_in_the_order_of_their_numbers_not_of_the_file() -> None:
    cases = [matmul(n, "numpy", 1.0) for n in (1024, 64, 16384, 256)]
    text = shown("table", run(*cases))
    assert re.findall(r"n=\d+", text) == ["n=64", "n=256", "n=1024", "n=16384"]


@pytest.mark.parametrize("status", sorted(FAULTS))
def test_a_run_of_nothing_but_faults_names_each_with_its_reason(status: Any) -> None:
    cases = [
        measurement(sizes={"n": n}, seconds=None, status=status, reason=f"because of {n}")
        for n in (1, 2)
    ]
    for name in ("table", "markdown"):
        text = shown(name, run(*cases)).replace("*", "")
        assert text.count(f": {status.replace('_', ' ')}: because of") == 2


def test_a_case_that_went_wrong_is_never_the_fastest() -> None:
    wrong = matmul(64, "numpy", 999.0, status="implausible", reason="above the peak")
    text = shown("table", run(wrong, matmul(64, "torch-cpu", 10.0), matmul(64, "cupy", 20.0)))
    assert "999" not in text
    fastest = [line for line in text.split("\n") if "fastest" in line]
    assert [line.split()[1] for line in fastest] == ["cupy"]


def test_a_run_without_cases_says_so() -> None:
    assert "The run has no cases." in shown("table", run())
    assert "The run has no cases." in shown("markdown", run())


def test_several_runs_follow_one_another() -> None:
    for name in ("table", "markdown"):
        text = shown(name, run(matmul(64, "numpy", 1.0), label="old"), small_run(label="new"))
        assert 0 <= text.index("old\n") < text.index("new\n")
    labels = [
        r["label"] for r in json.loads(shown("json", small_run(label="a"), small_run()))["records"]
    ]
    assert labels == sorted(labels)
    assert set(labels) == {"a", "build box"}


def test_remarks_and_interruption_are_printed() -> None:
    broken = run(matmul(64, "numpy", 1.0), remarks=["line 9 was cut"], interrupted="Ctrl-C")
    remarks = "- line 9 was cut\n- ended before everything was measured: Ctrl-C\n"
    assert shown("table", broken).endswith(f"Remarks:\n{remarks}")
    assert "- line 9 was cut\n- ended before everything was measured: Ctrl-C\n" in shown(
        "markdown", broken
    )


def test_colours_only_underline_what_words_say() -> None:
    colored = shown("table", small_run(), color=True)
    assert "\x1b[32m\x1b[1mfastest\x1b[0m" in colored
    assert "\x1b[31m\x1b[1mwrong\x1b[0m" in colored
    assert re.sub(r"\x1b\[\d+m", "", colored) == shown("table", small_run())


def test_markdown_shows_the_same_as_tables_of_github() -> None:
    assert (
        shown("markdown", small_run())
        == """\
## build box

- AMD EPYC 7763 64-Core Processor, 2 threads; no GPU
- standard preset, 6 blocks; 2026-11-20 14:45 UTC; bench 0.1.0

### layers: batch_norm forward, float32

| size | backend | time | 95% interval | rate | vs best | error | notes |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |
| resnet50.3,batch=8 | torch-cpu | 200 us | [196, 204] us | 257 GB/s | - | 3.1e-07 |  |

### matmul, float32

| size | backend | time | 95% interval | rate | vs best | error | notes |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |
| n=64 | numpy | 43.7 us | [42.8, 44.6] us | 12.0 GFLOP/s | fastest | 3.1e-07 | launch_bound |
|  | torch-cpu | 65.5 us | one block | 8.00 GFLOP/s | 1.5x | 3.1e-07 |  |
| n=1024 | numpy | 12.3 ms | [12.0, 12.5] ms | 175 GFLOP/s | 1.7x | 3.1e-07 |  |
|  | torch-cpu | 7.11 ms | [6.97, 7.25] ms | 302 GFLOP/s | fastest | 3.1e-07 |  |
| n=2048 | numpy | - | wrong | - | - | 3.0e-01 |  |
|  | torch-cpu | 55.4 ms | [54.3, 56.5] ms | 310 GFLOP/s | - | 3.1e-07 |  |

### Not measured

- matmul/n=2048/call/float32/numpy: wrong: relative error 0.3, limit 1e-05
- cupy: skipped: not installed: pip install cupy-cuda12x
"""
    )


def test_a_hostile_label_stays_text_in_markdown() -> None:
    text = shown("markdown", hostile_run())
    assert text.startswith(
        r"## =1&#124;\`x\`&lt;b&gt;\\n\\x1b\[31m\\u202e@&#8203;team \*\*b\*\*"
        r" \[a\](https&#58;//e.example) www&#46;e.example \$x\$" + "\n"
    )
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert {row.count("|") for row in rows} == {9}
    assert "<" not in text


@pytest.mark.parametrize("beginning", ["1. a", "12) a", "- a", "+ a", "     code", "=== "])
def test_a_remark_begins_no_list_and_no_code_in_markdown(beginning: str) -> None:
    line = shown("markdown", run(remarks=[beginning])).rstrip("\n").rpartition("\n")[2]
    assert not re.match(r"- (\s|[-+=]|\d+[.)])", line)
    assert line.replace("\\", "").removeprefix("- ").strip() == beginning.strip()


def test_csv_has_one_line_per_case_and_metric() -> None:
    text = shown("csv", small_run(), only=["batch_norm/*", "*/cupy"])
    case = (
        'run-build box,build box,2026-11-20T14:45:00Z,layers,"batch_norm/resnet50.3,batch=8'
        '/forward/float32/torch-cpu",batch_norm,"resnet50.3,batch=8",8,forward,float32,torch-cpu'
        ",,2,cpu,ok,"
    )
    absent = (
        "run-build box,build box,2026-11-20T14:45:00Z,matmul,matmul/n=1024/call/float32/cupy"
        ",matmul,n=1024,,call,float32,cupy,,2,cpu,skipped,not installed: pip install cupy-cuda12x"
    )
    assert text.split("\n") == [
        "run_id,label,started,suite,id,workload,size,batch,phase,dtype,backend,variant,threads,"
        "device,status,reason,metric,unit,value,low,high,workload_version,input_digest",
        f"{absent},,,,,,1,",
        f"{case},seconds,s,0.0002,0.000196,0.00020400000000000003,1,",
        f"{case},host_seconds,s,0.00022000000000000003,0.00021560000000000004,0.000224"
        "40000000000003,1,",
        f"{case},end_to_end_seconds,s,0.00022000000000000003,0.00021560000000000004,0.000224"
        "40000000000003,1,",
        f"{case},first_call_seconds,s,0.002,,,1,",
        f"{case},samples_per_second,samples/s,40000.0,39215.6862745098,40816.32653061225,1,",
        f"{case},bytes_per_second,B/s,256901120000.0,251863843137.25488,262144000000.0,1,",
        f"{case},relative_error,1,3.1e-07,,,1,",
        "",
    ]


def test_csv_runs_no_formula_and_has_one_line_per_record() -> None:
    for beginning in ("=", "+", "-", "@", "\t", "\r", "＝"):  # noqa: RUF001
        hostile = run(matmul(64, "numpy", 10.0), label=f"{beginning}HYPERLINK()\nx")
        text = shown("csv", hostile)
        records = list(csv.DictReader(io.StringIO(text)))
        assert len(records) == text.count("\n") - 1
        assert {r["label"][:2] for r in records} <= {f"'{beginning}", "'\\"}


def test_json_has_the_records_in_a_fixed_order_of_keys() -> None:
    text = shown("json", small_run(), only=["*/cupy"])
    assert text == (
        '{"schema": 1, "records": [\n{"run_id": "run-build box", "label": "build box",'
        ' "started": "2026-11-20T14:45:00Z", "suite": "matmul",'
        ' "id": "matmul/n=1024/call/float32/cupy", "workload": "matmul", "size": "n=1024",'
        ' "batch": null, "phase": "call", "dtype": "float32", "backend": "cupy",'
        ' "variant": null, "threads": 2, "device": "cpu", "status": "skipped",'
        ' "reason": "not installed: pip install cupy-cuda12x", "metric": null, "unit": null,'
        ' "value": null, "low": null, "high": null, "workload_version": 1,'
        ' "input_digest": null}\n], "limits": []}\n'
    )
    assert json.loads(shown("json", run())) == {"schema": 1, "records": [], "limits": []}


def test_json_keeps_every_text_exactly() -> None:
    label = HOSTILE + "\x7f\udc80"
    text = shown("json", run(matmul(64, "numpy", 10.0), label=label))
    assert {r["label"] for r in json.loads(text)["records"]} == {label}


@pytest.mark.parametrize("name", ["table", "markdown", "csv", "json"])
def test_no_report_passes_control_characters_on(name: str) -> None:
    text = shown(name, hostile_run())
    assert {unicodedata.category(c)[0] for c in text.replace("\n", "")}.isdisjoint("C")


@pytest.mark.parametrize("name", ["table", "markdown", "csv", "json"])
def test_globs_on_ids_select_the_cases(name: str) -> None:
    text = shown(name, small_run(), only=["*/n=64/*/numpy"])
    assert "n=64" in text
    assert "n=1024" not in text
    assert "cupy" not in text


@pytest.mark.parametrize("name", ["table", "markdown", "csv", "json"])
def test_a_report_is_the_same_every_time(name: str) -> None:
    assert shown(name, realistic_run()) == shown(name, realistic_run())


def test_finding_the_reports_imports_neither_pandas_nor_matplotlib() -> None:
    code = (
        "import sys; from bench import catalog; print(sorted(catalog.reports()));"
        "assert not {'pandas', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"csv", "json", "markdown", "plots", "table"} <= set(re.findall(r"\w+", done.stdout))


def test_the_summary_of_every_report_is_one_plain_line() -> None:
    for report in catalog.reports().values():
        assert report.summary == report.summary.strip().rstrip(".")
        assert "\n" not in report.summary


def test_a_lead_that_a_repeat_may_turn_is_not_called_one() -> None:
    text = shown("table", run(matmul(64, "numpy", 100), matmul(64, "torch-cpu", 99)))
    assert "~fastest" in text
    assert "~1.0x" in text
    assert "a repeat may differ" in text
    assert "~" not in shown("table", run(matmul(64, "numpy", 100), matmul(64, "torch-cpu", 50)))


WHOLE = "whole networks, conv2d forward, float32 (each layer as often as the network has it)"
NO_SUM = (
    "- tiny,batch=8, conv2d forward, float32 on cupy: no sum,"
    " only 3 of its 4 layers have a number here\n"
)


@pytest.mark.parametrize("name", ["table", "markdown"])
def test_whole_networks_follow_the_layers_of_their_suite(name: str) -> None:
    text = shown(name, run(matmul(64, "numpy", 12.0), *network_run().measurements))
    assert text.index("tiny.3,batch=8") < text.index(WHOLE) < text.index("matmul, float32")


def test_the_table_shows_whole_networks_as_it_shows_cases() -> None:
    text = shown("table", network_run())
    assert (
        f"""
{WHOLE}:
tiny,batch=8    numpy      80.0 ms   [78.4, 81.6] ms  50.0 MFLOP/s     2.0x  3.1e-07  sum of 4 layers
                torch-cpu  40.0 ms   [39.2, 40.8] ms   100 MFLOP/s  fastest  3.1e-07  sum of 4 layers

"""  # noqa: E501
        in text
    )
    assert text.endswith(f"Remarks:\n{NO_SUM}")


def test_markdown_shows_whole_networks_in_a_table_of_their_own() -> None:
    text = shown("markdown", network_run())
    assert (
        f"""
### convolution: {WHOLE}

| size | backend | time | 95% interval | rate | vs best | error | notes |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |
| tiny,batch=8 | numpy | 80.0 ms | [78.4, 81.6] ms | 50.0 MFLOP/s | 2.0x | 3.1e-07 | sum of 4 layers |
|  | torch-cpu | 40.0 ms | [39.2, 40.8] ms | 100 MFLOP/s | fastest | 3.1e-07 | sum of 4 layers |

### Not measured
"""  # noqa: E501
        in text
    )
    assert text.endswith(f"### Remarks\n\n{NO_SUM}")


def test_a_lead_of_a_network_that_a_repeat_may_turn_is_not_called_one() -> None:
    near = [layer("1", "numpy", 1.0, of=1), layer("1", "torch-cpu", 1.01, of=1)]
    text = shown("table", run(*near)).partition(WHOLE)[2]
    assert "~fastest" in text
    assert "~1.0x" in text


@pytest.mark.parametrize("name", ["csv", "json"])
def test_whole_networks_are_further_records_after_the_cases_of_their_run(name: str) -> None:
    text = shown(name, network_run(label="a"), network_run(label="b"))
    records: list[dict[str, Any]] = (
        json.loads(text)["records"] if name == "json" else list(csv.DictReader(io.StringIO(text)))
    )
    ids = list(dict.fromkeys((r["label"], r["id"]) for r in records))
    cases = [m.id for m in network_run().measurements]
    networks = [f"conv2d/tiny,batch=8/forward/float32/{b}" for b in ("numpy", "torch-cpu")]
    assert ids == [(label, i) for label in "ab" for i in (*cases, *networks)]
    (seconds,) = (
        r for r in records if (r["label"], r["id"], r["metric"]) == ("b", networks[0], "seconds")
    )
    numbers = [float(seconds[field]) for field in ("value", "low", "high")]
    assert numbers == pytest.approx([0.080, 0.0784, 0.0816])
    assert [seconds[field] for field in ("suite", "size", "status", "reason")] == [
        *("convolution", "tiny,batch=8", "ok", "sum of 4 layers")
    ]


@pytest.mark.parametrize("name", ["table", "markdown", "csv", "json"])
def test_a_network_is_shown_only_if_all_its_layers_are(name: str) -> None:
    total = "tiny,batch=8"
    assert shown(name, network_run(), only=["*/numpy"]).count(total) > 0
    assert total not in shown(name, network_run(), only=["*/cupy"]).replace(f"{total}, conv", "")
    few = shown(name, network_run(), only=["*/tiny.[12],*"])
    assert total not in few.replace(f"{total}, conv", "")
    if name in ("table", "markdown"):
        assert "on numpy, torch-cpu, cupy: no sum, only 3 of its 4 layers" in few


SHORT = (
    "matmul, float32: cupy beats the best CPU (numpy or torch-cpu) from n = 209 [206, 211],"
    " with transfers from n = 432 [424, 440]; 37.5x [36.4, 38.5] at n = 8192,"
    " 16.6x [16.1, 17.1] with transfers."
)


def gpu_network_run() -> Run:
    """Return a network of one layer, whose best CPU differs with and without transfers."""
    gpu: dict[str, Any] = {"device": "gpu", "end_to_end_seconds": interval(0.004)}
    return run(
        layer("1", "numpy", 0.010, of=1, host_seconds=interval(0.011)),
        layer("1", "torch-cpu", 0.008, of=1, host_seconds=interval(0.020)),
        layer("1", "torch-cuda", 0.002, of=1, variant="channels_last", **gpu),
        layer("1", "torch-cuda", 0.001, of=1, **gpu),
    )


def test_the_table_begins_with_cpu_against_gpu_and_shows_every_speedup() -> None:
    text = shown("table", gpu_run(), only=["*/n=64/*", "*/n=8192/*"])
    heading, sentence, *_ = text.split("\n\n")
    assert heading.endswith("bench 0.1.0")
    assert sentence.startswith("matmul, float32: cupy beats the best CPU (numpy or torch-cpu)")
    assert (
        text.partition("CPU against GPU, ")[2]
        == """\
suite matmul, float32
size    GPU         best CPU   speedup    95% interval  with transfers      95% interval  notes
------  ----------  ---------  -------  --------------  --------------  ----------------  -----
n=64    cupy        numpy       0.126x  [0.123, 0.130]         0.0500x  [0.0486, 0.0515]
        torch-cuda  numpy       0.252x  [0.245, 0.259]         0.0624x  [0.0607, 0.0642]
n=8192  cupy        torch-cpu    37.5x    [36.4, 38.5]           16.6x      [16.1, 17.1]
        torch-cuda  torch-cpu    41.6x    [40.5, 42.8]           17.4x      [16.9, 17.9]
"""
    )


def test_at_80_columns_the_best_cpu_of_each_size_stands_above_the_gpus() -> None:
    text = shown("table", gpu_network_run(), width=80)
    assert (
        text.partition("CPU against GPU, ")[2]
        == """\
suite convolution
GPU                         speedup  95% interval  with transfers  95% interval
--------------------------  -------  ------------  --------------  ------------
conv2d forward, float32:
tiny.1,batch=8, best CPU torch-cpu
  torch-cuda                  8.00x  [7.78, 8.23]           2.75x  [2.67, 2.83]
    notes: with transfers: best CPU numpy
  torch-cuda+channels_last    4.00x  [3.89, 4.11]           2.75x  [2.67, 2.83]
    notes: with transfers: best CPU numpy

whole networks, conv2d forward, float32:
tiny,batch=8, best CPU torch-cpu
  torch-cuda                  8.00x  [7.78, 8.23]               -             -
  torch-cuda+channels_last    4.00x  [3.89, 4.11]               -             -

Remarks:
- no whole network has a speedup with transfers: it does not copy between its
  layers, as the sum over them would
"""
    )


@pytest.mark.parametrize("width", [80, 100, 132])
def test_no_width_cuts_a_number_of_cpu_against_gpu(width: int) -> None:
    tf32 = [gpu_matmul(n, "torch-cuda", dtype="tf32") for n in (64, 8192)]
    runs = (gpu_run(*tf32), gpu_run(spread=None), gpu_network_run())
    for one in runs:
        wide, narrow = shown("table", one), shown("table", one, width=width)
        assert max(map(len, narrow.split("\n"))) <= width
        numbers = [
            re.findall(r"\d[\d.]*x|\[[\d., ]+\]", t.replace("\n  ", " ")) for t in (wide, narrow)
        ]
        assert numbers[0] == numbers[1]
        assert len(numbers[0]) > 8


def test_markdown_shows_cpu_against_gpu_after_the_suites() -> None:
    text = shown("markdown", gpu_run(), only=["*/n=64/*", "*/n=8192/*"])
    assert text.index("- matmul, float32: cupy beats") < text.index("### matmul, float32")
    assert text.endswith(
        """
### CPU against GPU: matmul, float32

| size | GPU | best CPU | speedup | 95% interval | with transfers | 95% interval | notes |
| --- | --- | --- | ---: | ---: | ---: | ---: | --- |
| n=64 | cupy | numpy | 0.126x | [0.123, 0.130] | 0.0500x | [0.0486, 0.0515] |  |
|  | torch-cuda | numpy | 0.252x | [0.245, 0.259] | 0.0624x | [0.0607, 0.0642] |  |
| n=8192 | cupy | torch-cpu | 37.5x | [36.4, 38.5] | 16.6x | [16.1, 17.1] |  |
|  | torch-cuda | torch-cpu | 41.6x | [40.5, 42.8] | 17.4x | [16.9, 17.9] |  |
"""
    )


@pytest.mark.parametrize("name", ["table", "markdown"])
def test_the_sentences_of_a_run_stand_first_those_of_networks_before_the_others(name: str) -> None:
    text = shown(name, run(*gpu_run().measurements, *gpu_network_run().measurements))
    plain = text.replace("\\", "")
    order = [plain.index(f"{start}, float32: ") for start in ("tiny, conv2d forward", "matmul")]
    assert order == sorted(order)
    assert SHORT in plain
    assert plain.index(SHORT) < plain.index("n=64")


@pytest.mark.parametrize("name", ["table", "markdown"])
@pytest.mark.parametrize("backends", ["numpy torch-cpu", "cupy torch-cuda"])
def test_a_run_on_one_kind_of_device_says_nothing_of_the_other(name: str, backends: str) -> None:
    text = shown(name, gpu_run(), only=[f"*/{backend}" for backend in backends.split()])
    assert "n=8192" in text
    assert "CPU against GPU" not in text
    assert "best CPU" not in text
    assert "no speedup" not in text


@pytest.mark.parametrize("name", ["table", "markdown"])
def test_remarks_say_what_a_speedup_compares_and_why_one_is_missing(name: str) -> None:
    tf32 = gpu_matmul(64, "torch-cuda", dtype="tf32")
    alone = gpu_matmul(16384, "cupy")
    other = gpu_matmul(128, "cupy", input_digest="another", variant="tuned")
    unmoved = gpu_matmul(64, "cupy", variant="tuned", end_to_end_seconds=None)
    for case, remark in (
        (tf32, "tf32 on the GPU is compared with float32 on the CPU, which has no tf32"),
        (alone, "no CPU has a number for the same work on the same inputs: matmul/n=16384/call"),
        (other, "on the same inputs: matmul/n=128/call/float32/cupy+tuned"),
        (unmoved, "no speedup with transfers (-) where"),
    ):
        assert remark not in shown(name, gpu_run())
        assert remark in shown(name, gpu_run(case))


def test_one_block_has_a_speedup_without_an_interval() -> None:
    text = shown("table", gpu_run(spread=None), only=["*/n=64/*"])
    row = next(line for line in text.split("\n")[::-1] if " cupy " in line)
    assert row.split() == [
        *("n=64", "cupy", "numpy", "0.126x", "one", "block", "0.0500x", "one", "block")
    ]


@pytest.mark.parametrize("name", ["csv", "json"])
def test_speedups_are_records_of_the_gpu_cases_and_their_networks(name: str) -> None:
    text = shown(name, gpu_network_run())
    records: list[dict[str, Any]] = (
        json.loads(text)["records"] if name == "json" else list(csv.DictReader(io.StringIO(text)))
    )
    found = {
        (r["id"], r["metric"]): [float(r[part]) for part in ("value", "low", "high")]
        for r in records
        if "speedup" in (r["metric"] or "") and r["unit"] == "1"
    }
    case = "conv2d/{}/forward/float32/{}"
    layers = [case.format("tiny.1,batch=8", f"torch-cuda{way}") for way in ("+channels_last", "")]
    networks = [case.format("tiny,batch=8", f"torch-cuda{way}") for way in ("+channels_last", "")]
    assert list(found) == [
        *((layer, f"speedup{way}") for layer in layers for way in ("", "_with_transfers")),
        *((network, "speedup") for network in networks),
    ]
    assert found[layers[1], "speedup"] == pytest.approx([8.0, 7.777, 8.230], abs=1e-3)
    assert found[layers[1], "speedup_with_transfers"][0] == pytest.approx(2.75)
    assert found[networks[1], "speedup"][0] == pytest.approx(8.0)


@pytest.mark.parametrize("name", ["table", "markdown", "csv", "json"])
def test_hostile_names_stay_text_in_cpu_against_gpu(name: str) -> None:
    hostile: dict[str, Any] = {"variant": HOSTILE, "suite": HOSTILE, "phase": HOSTILE}
    cases = [
        gpu_matmul(n, backend, sizes={HOSTILE: n}, **hostile)
        for n in (64, 512)
        for backend in ("numpy", "cupy")
    ]
    text = shown(name, run(*cases))
    assert {unicodedata.category(c)[0] for c in text.replace("\n", "")}.isdisjoint("C")
    assert "speedup" in text
    if name == "markdown":
        assert "<" not in text
        rows = [line for line in text.split("\n") if line.startswith("|")]
        assert {row.count("|") for row in rows} == {9}


def test_hot_and_cold_caches_are_never_compared_with_each_other() -> None:
    cases = [
        matmul(64, "numpy", 10.0),
        matmul(64, "numpy", 5.0, variant="cache=cold"),
        matmul(64, "torch-cpu", 20.0),
        matmul(64, "torch-cpu", 2.5, variant="cache=cold"),
    ]
    (section,) = _summary.sections(run(*cases), Request())
    factors = {row[1]: row[5] for row in section.rows}
    assert factors == {
        "numpy": "2.0x",
        "torch-cpu": "fastest",
        "numpy+cache=cold": "fastest",
        "torch-cpu+cache=cold": "2.0x",
    }
    assert [row[1] for row in section.rows] == [
        *("numpy", "torch-cpu", "numpy+cache=cold", "torch-cpu+cache=cold"),
    ]


def test_a_first_call_that_compiled_something_is_told() -> None:
    def with_first(seconds: float) -> Measurement:
        case = matmul(64, "torch-cpu", 10.0, variant="compiled")
        for block in case.blocks:
            block.first_call_seconds = seconds
        return case

    def notes(case: Measurement) -> str:
        (section,) = _summary.sections(run(case), Request())
        return str(section.rows[0][-1])

    assert notes(with_first(12.34)) == "first call 12.3 s"
    assert notes(with_first(0.5)) == ""
    slow = measurement(seconds=2.0, sizes={"n": 64})
    for block in slow.blocks:
        block.first_call_seconds = 3.0
    assert notes(slow) == "", "that is how long it takes"


def test_what_a_time_includes_is_said_beneath_the_table() -> None:
    cases = [
        measurement("conv2d", "cupy", includes="gathering the patches; CuPy 14 has no cuDNN"),
        measurement("conv2d", "torch-cpu", includes="a new output"),
        measurement("conv2d", "torch-cpu", variant="channels_last", includes="a new output"),
        measurement("conv2d", "numpy", None, status="wrong", reason="x", includes="not shown"),
    ]
    remarks = _summary.remarks(run(*cases), Request(), [])
    assert remarks == [
        "conv2d on cupy includes gathering the patches; CuPy 14 has no cuDNN",
        "conv2d on torch includes a new output",
    ]
    many = [measurement(f"w{i}", includes="something") for i in range(7)]
    (remark,) = _summary.remarks(run(*many), Request(), [])
    assert "bench list" in remark


def test_a_sweep_over_batches_has_throughput_and_memory_in_its_table() -> None:
    text = shown("table", batch_run(), only=["*batch=512/*", "*batch=1024/*"])
    assert (
        text.partition("suite ")[2].partition("\nCPU against")[0]
        == """\
batch-sweep: lenet5 training_step, float32
size              backend     samples/s      95% interval     time    memory  vs best    error  notes
----------------  ----------  ---------  ----------------  -------  --------  -------  -------  ------------------------
mnist,batch=512   numpy          2.50 k    [2.45, 2.55] k   205 ms   640 MiB      58x  3.1e-07  first call 2.05 s
                  torch-cpu      12.3 k    [12.1, 12.6] k  41.6 ms   640 MiB      12x  3.1e-07
                  torch-cuda      146 k      [143, 149] k  3.51 ms   640 MiB  fastest  3.1e-07
mnist,batch=1024  numpy               -  memory ends here        -         -        -        -  largest usable batch 777
                  torch-cpu      12.4 k    [12.2, 12.7] k  82.5 ms  1.12 GiB      21x  3.1e-07
                  torch-cuda      254 k      [249, 260] k  4.02 ms  1.12 GiB  fastest  3.1e-07
"""  # noqa: E501
    )


@pytest.mark.parametrize("name", ["table", "markdown"])
def test_the_end_of_memory_is_an_end_and_no_fault(name: str) -> None:
    text = shown(name, batch_run(), color=name == "table")
    assert text.count("memory ends here") == 2
    assert "out of memory" not in text
    assert "\x1b[31m" not in text
    assert "- numpy: skipped (2 cases): memory ended at batch 1024" in text
    # Elsewhere it is one.
    fault = measurement(seconds=None, status="out_of_memory", reason="needs 99 GiB")
    assert "out of memory: needs 99 GiB" in shown(name, run(fault))


def test_an_end_without_a_limit_says_what_the_memory_said() -> None:
    cases = batch_sweep(batches=(1, 2), failing=2)
    assert "memory ends here" in shown("table", run(*cases))
    assert "needs 99 GiB" in shown("table", run(*cases))
    wide = [limit(largest=1, failing=3)]
    assert "largest usable batch 1 (3 does not fit)" in shown("table", run(*cases, limits=wide))
    none = batch_sweep(batches=(1, 2), failing=1)
    limits = [limit(largest=None, failing=1)]
    assert "no batch fits" in shown("table", run(*none, limits=limits))


def test_a_batch_that_is_not_what_its_label_says_is_told() -> None:
    cases = [*batch_sweep(batches=(16,), effective_batch=2), *batch_sweep(batches=(2,))]
    text = shown("table", run(*cases))
    assert text.count("computed batch") == text.count("computed batch 2\n") == 1


def test_at_80_columns_no_throughput_is_lost() -> None:
    wide, narrow = shown("table", batch_run()), shown("table", batch_run(), width=80)
    assert max(map(len, narrow.split("\n"))) <= 80
    numbers = [re.findall(r"\[[\d., ]+\]", re.sub(r"\n *", " ", t)) for t in (wide, narrow)]
    assert sorted(numbers[0]) == sorted(numbers[1])
    assert len(numbers[0]) > 30


def test_markdown_has_the_columns_of_the_suite_and_those_of_the_others() -> None:
    text = shown("markdown", run(matmul(64, "numpy", 1.0), *batch_sweep(batches=(1, 8))))
    headers = [line for line in text.split("\n") if line.startswith("| size")]
    assert headers == [
        "| size | backend | samples/s | 95% interval | time | memory | vs best | error | notes |",
        "| size | backend | time | 95% interval | rate | vs best | error | notes |",
    ]
    assert {line.count("|") for line in text.split("\n") if line.startswith("|")} == {9, 10}


def test_json_says_where_the_sweeps_that_were_asked_for_end() -> None:
    found = json.loads(shown("json", batch_run(), only=["*/torch-c*"]))["limits"]
    assert found == [
        {
            "run_id": "run-build box",
            "label": "build box",
            "suite": "batch-sweep",
            "sweep": f"lenet5/mnist/training_step/float32/{place}",
            "largest_batch": largest,
            "failing_batch": failing,
            "reason": reason,
        }
        for place, largest, failing, reason in (
            ("torch-cpu", 4096, None, "a call takes 0.3 s"),
            ("torch-cuda", 2100, 2101, "needs 99 GiB, 64 GiB are free"),
        )
    ]


@pytest.mark.parametrize("name", ["table", "markdown", "json"])
def test_hostile_names_stay_text_in_a_sweep_over_batches(name: str) -> None:
    hostile: dict[str, Any] = {"workload": HOSTILE, "variant": HOSTILE, "name": HOSTILE}
    cases = [*batch_sweep(failing=8, **hostile), *batch_sweep(backend=HOSTILE, phase=HOSTILE)]
    text = shown(name, run(*cases, limits=[limit(HOSTILE, work=HOSTILE, reason=HOSTILE)]))
    assert {unicodedata.category(c)[0] for c in text.replace("\n", "")}.isdisjoint("C")
    if name == "markdown":
        assert "<" not in text
