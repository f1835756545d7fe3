from typing import Any

import msgspec
import pytest

from bench.results.networks import totals
from bench.results.schema import Run
from bench.results.table import LONG_COLUMNS, UNITS, long_records, table
from tests.runs import batch_sweep, gpu_run, matmul, measurement, network_run, run, small_run


def test_every_case_has_a_record_whether_it_has_a_number_or_not() -> None:
    runs = [small_run(label="a"), small_run(label="b")]
    records = long_records(runs)
    cases = [(r.header.id, *m.key) for r in runs for m in r.measurements]
    assert list(dict.fromkeys((r["run_id"], r["suite"], r["id"]) for r in records)) == cases
    empty = [r for r in records if r["metric"] is None]
    assert [(r["backend"], r["status"], r["value"], r["unit"]) for r in empty] == [
        ("cupy", "skipped", None, None)
    ] * 2
    assert all(tuple(r) == LONG_COLUMNS for r in records)
    assert all(r["unit"] == UNITS[r["metric"]] for r in records if r["metric"])


def test_a_case_has_one_record_for_each_metric_and_says_which_work_it_was() -> None:
    runs = [gpu_run(label="a"), network_run(label="b"), small_run(label="c")]
    records = long_records(
        [Run(r.header, [*r.measurements, *totals(r.measurements)]) for r in runs]
    )
    rows = {(r["run_id"], r["suite"], r["id"], r["metric"]) for r in records}
    assert len(rows) == len(records)
    assert {r["workload_version"] for r in records} == {1}
    assert {r["input_digest"] for r in records if r["size"] == "n=64"} == {"digest of 64", None}
    values = [value for record in records for value in record.values()]
    assert all(value is None or isinstance(value, str | int | float) for value in values)


def test_the_interval_of_a_rate_is_that_of_the_time_turned_round() -> None:
    records = long_records([run(matmul(1000, "numpy", 100.0, spread=0.2))])
    rate = next(r for r in records if r["metric"] == "flops_per_second")
    assert rate["value"] == pytest.approx(1e11)
    assert rate["low"] == pytest.approx(1e11 / 1.2)
    assert rate["high"] == pytest.approx(1e11 / 0.8)


def test_a_rate_beyond_all_numbers_is_unknown_and_not_infinite() -> None:
    records = long_records([run(measurement(seconds=1e-300, flops=2**63 - 1))])
    assert "flops_per_second" not in [r["metric"] for r in records]


def test_the_table_for_pandas_has_one_row_per_case_and_proper_types() -> None:
    frame = table([small_run(), small_run(label="other")])
    assert len(frame) == 16
    assert list(frame.columns[:12]) == [
        *("run_id", "label", "suite", "id", "workload", "workload_version", "size"),
        *("dim_batch", "dim_channels", "dim_n", "batch", "phase"),
    ]
    kinds = {str(name): str(kind) for name, kind in frame.dtypes.items()}
    assert set(kinds.values()) == {"string", "Int64", "Float64"}
    integers = {name for name, kind in kinds.items() if kind == "Int64"}
    assert integers == {
        *("workload_version", "dim_batch", "dim_channels", "dim_n", "batch", "threads", "flops"),
        *("bytes_moved", "effective_batch", "peak_bytes", "blocks", "samples", "concurrency"),
    }
    seconds = {name for name, kind in kinds.items() if kind == "Float64" and "seconds" in name}
    assert {"seconds", "seconds_low", "seconds_high", "seconds_min", "host_seconds"} <= seconds


def test_the_table_for_pandas_has_missing_values_and_no_zeros() -> None:
    frame: Any = table([small_run()]).set_index("id")
    skipped = frame.loc["matmul/n=1024/call/float32/cupy"]
    assert skipped[["seconds", "flops", "relative_error", "dim_channels"]].isna().all()
    assert skipped[["blocks", "samples"]].tolist() == [0, 0]
    single = frame.loc["matmul/n=64/call/float32/torch-cpu"]
    assert single[["seconds_low", "seconds_high"]].isna().all()
    assert single["blocks"] == 1
    assert single["samples"] == 4
    assert single["first_call_seconds"] == pytest.approx(single["seconds"] * 10)
    assert single["flops_per_second"] == pytest.approx(8e9)
    assert frame.loc["matmul/n=64/call/float32/numpy", "flags"] == "launch_bound"


def test_a_table_of_no_runs_has_the_columns_all_the_same() -> None:
    assert list(table([]).columns) == list(table([run()]).columns)
    assert "seconds" in list(table([]).columns)


def test_the_speedup_of_a_gpu_names_the_cpu_that_it_is_over() -> None:
    run = gpu_run()
    torch = next(m for m in run.measurements if m.id == "matmul/n=64/call/float32/torch-cpu")
    torch.host_seconds = torch.seconds and msgspec.structs.replace(
        torch.seconds, median=1e-6, low=1e-6, high=1e-6, min=1e-6
    )
    frame: Any = table([run]).set_index("id")
    without: Any = table([gpu_run(spread=None)])
    gpu = frame.loc["matmul/n=64/call/float32/torch-cuda"]
    assert gpu["speedup_over"] == "matmul/n=64/call/float32/numpy"
    assert gpu["speedup"] == pytest.approx(0.2522, abs=1e-4)
    assert gpu["speedup_low"] < gpu["speedup"] < gpu["speedup_high"]
    assert gpu["speedup_with_transfers_over"] == torch.id
    assert gpu["speedup_with_transfers"] < gpu["speedup"]
    cpus = frame[frame["device"] == "cpu"]
    columns = [name for name in frame.columns if name.startswith("speedup")]
    assert len(columns) == 8
    assert cpus[columns].isna().all(axis=None)
    single = without.set_index("id").loc[gpu.name]
    assert single[["speedup_low", "speedup_high"]].isna().all()


def test_a_speedup_is_over_a_cpu_of_the_same_run() -> None:
    cpus, gpus = gpu_run(), gpu_run()
    cpus.measurements = [m for m in cpus.measurements if m.device == "cpu"]
    gpus.measurements = [m for m in gpus.measurements if m.device != "cpu"]
    assert table([cpus, gpus])["speedup"].isna().all()
    assert table([gpu_run()])["speedup"].notna().sum() == len(gpus.measurements)


def test_throughput_has_the_interval_of_the_time_turned_round() -> None:
    (case,) = batch_sweep(batches=(8,), launch=0.0, sample=1e-3, spread=0.2, effective_batch=8)
    found = {r["metric"]: r for r in long_records([run(case)])}
    rate = found["samples_per_second"]
    numbers = [rate["value"], rate["low"], rate["high"]]
    assert numbers == pytest.approx([1000, 1000 / 1.2, 1000 / 0.8])
    assert (rate["unit"], found["effective_batch"]["value"]) == ("samples/s", 8)
    row = table([run(case)]).iloc[0]
    columns = ["samples_per_second", "samples_per_second_low", "samples_per_second_high"]
    assert row[columns].tolist() == pytest.approx(numbers)
    assert row["effective_batch"] == 8
    assert table([run(matmul(64, "numpy", 1.0))])[columns].isna().all(axis=None)
