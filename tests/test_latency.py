"""What is said and drawn of a service: percentiles, sentences, tables, the figure."""

import math
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from bench.reports import plots
from hypothesis import given
from hypothesis import strategies as st

from bench import catalog
from bench.comparing.serving import RUNTIMES, busy_share, latency_bound, service_sentences
from bench.errors import RequestError, RunFileError
from bench.report import Request
from bench.results.latency import ALIKE, NO_REQUEST, jitter, latencies, percentile
from bench.results.reading import read_run
from bench.results.schema import Block, Measurement, Run
from bench.results.table import long_records, table
from bench.results.writing import RunWriter
from tests.runs import HOSTILE, gpu_run, interval, run, served

GPU: dict[str, Any] = {"device": "gpu", "device_seconds": interval(1e-4)}
BATCHES = (1, 4, 16, 64)


def block(requests: Sequence[float], seconds: float = 1.0) -> Block:
    return Block(
        seconds=[1e-3],
        calls_per_sample=1,
        warmup_calls=1,
        first_call_seconds=0.1,
        order=0,
        request_seconds=list(requests),
        serving_seconds=seconds,
    )


def told(*blocks: Block) -> Any:
    return latencies({"case": blocks})["case"]


def one(*cases: Measurement, bound: float | None = None) -> str:
    """Return the sentences as one text."""
    return "\n".join(service_sentences(cases, bound))


def sweep(gpu_launch: float = 3e-3) -> list[Measurement]:
    """Return a CPU that takes 0.5 ms a sample, and a GPU that takes its launch and 10 us."""
    cpus = [served("torch-cpu", 5e-4 * batch, batch=batch) for batch in BATCHES]
    gpus = [served("torch-cuda", gpu_launch + 1e-5 * b, batch=b, **GPU) for b in BATCHES]
    return cpus + gpus


def rendered(found: Run, name: str = "table") -> str:
    return str(catalog.reports()[name].render([found], Request()))


def bounded(*cases: Measurement, bound: Any = 0.02, **fields: Any) -> Run:
    found = run(*cases, **fields)
    found.header.settings["latency_bound"] = bound
    return found


@given(st.lists(st.floats(1e-6, 1e3), min_size=1), st.sampled_from([0.5, 0.9, 0.99, 0.999]))
def test_a_percentile_is_a_request_that_so_many_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values)


def test_percentiles_are_those_of_all_requests_together_by_their_ranks() -> None:
    values = [number / 1000 for number in range(1, 1001)]
    random.Random(1).shuffle(values)
    latency, _ = told(*(block(values[i::5]) for i in range(5)))
    assert latency.requests == 1000
    medians = [getattr(latency, name).median for name in ("p50", "p90", "p99")]
    assert medians == [0.5, 0.9, 0.99]
    assert latency.requests_per_second.median == 200
    assert latency.jitter.median == pytest.approx(
        jitter([second for i in range(5) for second in values[i::5]])
    )


def test_the_interval_of_a_percentile_holds_the_pooled_value() -> None:
    draw = random.Random(3)
    blocks = [block([draw.lognormvariate(-7, s) for _ in range(300)]) for s in (0.3, 0.3, 0.3, 2)]
    latency, _ = told(*blocks)
    for name in ("p50", "p90", "p99", "jitter", "requests_per_second"):
        found = getattr(latency, name)
        assert found.min <= found.median
        assert found.low <= found.median <= found.high, name
    assert latency.p99.high > 3 * latency.p99.low


def test_a_disturbed_half_is_not_left_out_of_the_tail() -> None:
    calm, wild = block([1e-3] * 100), block([1e-3] * 90 + [1.0] * 10)
    for quiet in (calm, wild):
        quiet.visits, quiet.canary = [1], [1e-3]
    assert told(calm, wild)[0].p99.median == 1.0


@pytest.mark.parametrize(
    ("count", "known"),
    [
        (9, []),
        (10, ["p90"]),
        (99, ["p90"]),
        (100, ["p90", "p99"]),
        (10_000, ["p90", "p99", "p999"]),
    ],
)
def test_a_percentile_needs_its_requests_and_says_how_to_get_them(
    count: int, known: list[str]
) -> None:
    values = [1e-3 * (1 + i % 7) for i in range(count)]
    latency, why = told(block(values[::2]), block(values[1::2]))
    for name in ("p90", "p99", "p999"):
        assert (getattr(latency, name) is not None) is (name in known)
        assert (f"latency.{name}" in why) is (name not in known)


def test_the_reason_names_what_would_help() -> None:
    draw = random.Random(1)
    few = [block([draw.random() for _ in range(1000)], 0.75) for _ in range(6)]
    assert told(*few)[1] == {
        "latency.p999": "6,000 requests; 10,000 are needed: about --max-seconds 2 or --blocks 10"
    }
    # Two blocks have 2,000 requests each at the most, however long they last.
    assert told(*few[:2])[1]["latency.p999"].endswith("about --blocks 10")


def test_without_a_request_nothing_is_made_up() -> None:
    assert told(block([], 0.5)) == (None, {"latency": NO_REQUEST})
    latency, why = told(block([1e-3] * 20))
    assert latency.jitter is None
    assert why["latency.jitter"] == ALIKE
    assert latency.p50.low is None


def test_a_case_without_a_gpu_says_so_and_names_its_best_setting() -> None:
    assert one(
        served(p50=5e-4),
        served(p50=6e-4, threads=1),
        served(p50=9e-4, concurrency=2),
        served("numpy", p50=8e-4),
    ) == (
        "lenet5 forward, mnist, float32, batch 1: torch-cpu with 2 threads and concurrency 2 serves"
        " 2,220 requests/s at p99 1.35 ms [1.28, 1.42] ms; no GPU was measured."
    )
    assert "torch-cpu with 1 thread serves" in one(served(p50=6e-4, threads=1))


def test_a_cpu_that_answers_sooner_is_enough_and_the_gpu_wins_from_a_batch() -> None:
    said = one(*sweep())
    assert "batch 1: CPU is enough: torch-cpu with 2 threads serves 2,000 requests/s" in said
    assert "torch-cuda serves 332 requests/s" in said
    assert "busy 3% of the time" in said
    # 0.5 ms a sample against 3 ms: from 6 to 7 samples, between the measured 4 and 16.
    assert "torch-cuda wins from batch 7 [6, 7]." in said


def test_a_gpu_that_is_always_sooner_leaves_the_cpu_not_enough() -> None:
    said = one(*sweep(gpu_launch=1e-4))
    assert "CPU is enough" not in said
    assert "torch-cuda wins at every batch from 1 to 64." in said
    assert "wins at no batch from 1 to 64" in one(*sweep(gpu_launch=1.0))
    single = [m for m in sweep() if m.batch == 1]
    assert "torch-cuda does not win at batch 1, the only one measured" in one(*single)


def test_a_gpu_is_compared_on_the_same_inputs_only() -> None:
    cpu = served(p50=1e-3)
    gpu = served("torch-cuda", p50=1e-4, **{**GPU, "input_digest": "another"})
    assert "wins" not in one(cpu, gpu)


def test_within_a_bound_each_device_serves_as_much_as_it_can() -> None:
    first, second = service_sentences(sweep(), 0.005)
    assert "CPU is enough for 5 ms: " in first
    assert second == (
        "lenet5 forward, mnist, float32, within 5 ms at p99: torch-cpu with 2 threads, batch 1:"
        " 2,000 requests/s (2,000 samples/s) at p99 750 us [713, 788] us; torch-cuda, batch 16: 316"
        " requests/s (5,060 samples/s) at p99 4.74 ms [4.50, 4.98] ms."
    )


def test_a_bound_that_is_never_met_says_so_with_the_best_that_was() -> None:
    first, second = service_sentences(sweep(), 1e-4)
    assert "CPU is not enough for 100 us: " in first
    assert "CPU: never; the best is p99 750 us [713, 788] us (torch-cpu with 2 threads, b" in second
    assert "torch-cuda: never; the best is p99 4.51 ms" in second


@pytest.mark.parametrize(("bound", "verdict"), [(1.53e-3, "perhaps enough"), (1.47e-3, "not")])
def test_an_interval_that_crosses_the_bound_leaves_a_doubt(bound: float, verdict: str) -> None:
    first, second = service_sentences([served(p50=1e-3)], bound)
    assert f"CPU is perhaps {verdict.removeprefix('perhaps ')}" in first
    assert "whose interval crosses the bound" in second


def test_an_overloaded_service_is_within_no_bound() -> None:
    first, second = service_sentences([served(rate=900.0, flags=["overloaded"])], 1.0)
    assert "900 arrivals/s, batch 1: CPU is not enough for 1 s: " in first
    assert "overloaded" in first
    assert "CPU: never" in second


def test_too_few_requests_are_no_answer_to_a_bound() -> None:
    first, second = service_sentences([served(requests=60)], 0.02)
    assert "enough" not in first
    assert "not known, as 60 requests tell no p99" in second


def test_the_busy_share_is_at_most_all_of_the_time() -> None:
    assert busy_share(served("torch-cuda", 1e-3, **GPU)) == pytest.approx(0.1)
    full = served("torch-cuda", 1e-3, **{**GPU, "device_seconds": interval(5e-3)})
    assert busy_share(full) == 1.0
    assert busy_share(served()) is None


@pytest.mark.parametrize("bound", [None, True, "20ms", -1, 0, math.inf, math.nan, [1], 10**400])
def test_a_bound_that_is_no_time_is_none(bound: Any) -> None:
    assert latency_bound({"latency_bound": bound}) is None
    assert "suite latency" in rendered(bounded(served(), bound=bound))


@pytest.mark.parametrize("name", ["table", "markdown"])
def test_the_answer_stands_above_the_table_and_says_what_a_cpu_is(name: str) -> None:
    text = rendered(bounded(*sweep(), *gpu_run().measurements), name)
    assert text.index("CPU is enough for 20 ms") < text.index("p99.9")
    assert RUNTIMES.split("(")[0] in text
    for column in ("p50", "p99", "jitter", "requests/s", "first request", "vs best"):
        assert column in text
    # Of matmul the ordinary comparison is there; of the service its clients' view only.
    assert "CPU against GPU" in text
    assert "is 3.00x as fast" not in text
    assert RUNTIMES.split("(")[0] not in rendered(gpu_run(), name)


def test_rows_are_compared_with_those_of_the_same_load() -> None:
    rows = rendered(run(served(), served("numpy", 2e-3), served(p50=3e-3, concurrency=4)))
    lines = {line.split()[-2]: line.split()[-1] for line in rows.splitlines() if "us" in line}
    assert "fastest" in rows
    assert "2.0x" in rows
    assert "3.0x" not in rows
    assert lines


def test_a_percentile_that_is_not_known_is_a_dash_with_a_remark() -> None:
    text = rendered(run(served(requests=500)))
    assert "p99.9 needs 10,000 (-)" in text
    assert "needs 10,000" not in rendered(run(served()))


def test_the_tidy_table_has_a_column_for_each_percentile() -> None:
    found = run(served(requests=500), served("numpy", concurrency=2, rate=40.0))
    frame = table([found])
    assert frame["latency_p99"].tolist() == [1.5e-3, 1.5e-3]
    assert frame["latency_p99_low"][0] == pytest.approx(1.5e-3 * 0.95)
    assert frame["latency_p999"].isna().tolist() == [True, False]
    assert frame["concurrency"].tolist() == [1, 2]
    assert frame["rate"].isna().tolist() == [True, False]
    metrics = {r["metric"]: r["unit"] for r in long_records([found])}
    assert metrics["latency_p50"] == metrics["latency_jitter"] == "s"
    assert metrics["requests_per_second"] == "1/s"


def test_a_file_whose_percentiles_are_no_intervals_is_refused(tmp_path: Path) -> None:
    bad = served()
    assert bad.latency is not None
    assert bad.latency.p99 is not None
    bad.latency.p99.low = 1.0
    path = tmp_path / "bad.jsonl"
    writer = RunWriter(path)
    writer.write(run().header)
    writer.write(bad)
    writer.close()
    with pytest.raises(RunFileError, match=r"`latency.p99` is no interval"):
        read_run(path)


def files(*runs: Run) -> Any:
    return catalog.reports()["plots"].render(list(runs), Request(figure="latency"))


def test_the_figure_marks_percentiles_and_the_bound() -> None:
    found = bounded(*sweep()[:1], served("numpy", 2e-3))
    panels = plots.FIGURES["latency"].panels([found], Request())
    figure = plots.draw("latency", panels, [found])
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [0.02, 0.02] in [list(line.get_xdata()) for line in axes.lines]
    assert [text.get_text() for text in axes.texts] == ["bound 20 ms"]
    marks = {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines}
    for median in (5e-4, 2e-3):
        assert {(median, 0.5), (1.5 * median, 0.01)} <= marks
    handles = figure.legends[0].get_lines()
    assert len({handle.get_marker() for handle in handles}) == 2
    assert len({handle.get_color() for handle in handles}) == 2


def test_a_curve_falls_from_all_requests_to_the_slowest_one() -> None:
    (panel,) = plots.FIGURES["latency"].panels([run(served(p50=1e-3, p99=4e-3))], Request())
    points = panel.curves[0].points
    assert points[0] == (1e-3, 1.0)
    assert points[-1] == (4e-3, 1 / 600)
    shares = [share for _, share in points]
    assert shares == sorted(shares, reverse=True)
    assert statistics.median(x for x, share in points if share < 0.39) == 4e-3


def test_the_figure_has_the_same_bytes_every_time_and_words_for_who_cannot_see_it() -> None:
    first = files(bounded(*sweep()))
    assert list(first) == ["latency.svg", "latency.png"]
    assert files(bounded(*sweep())) == first
    desc = ElementTree.fromstring(first["latency.svg"]).find("{http://www.w3.org/2000/svg}desc")
    assert desc is not None
    assert "torch-cpu: p50 500 us, p99 750 us, p99.9 900 us of 600 requests." in str(desc.text)
    assert "The bound is 20 ms." in str(desc.text)


def test_hostile_text_stays_text_in_the_figure() -> None:
    svg = files(run(served(way=HOSTILE), label=HOSTILE))["latency.svg"]
    assert b"<b>" not in svg
    assert "**b**" in "".join(ElementTree.fromstring(svg).itertext())


def test_a_run_without_requests_says_why_there_is_no_figure() -> None:
    with pytest.raises(RequestError, match="it shows cases of the suite latency"):
        files(gpu_run())
    stripped = served()
    stripped.blocks = []
    with pytest.raises(RequestError, match="no request of the suite latency is in the file"):
        files(run(stripped))
