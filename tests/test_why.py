from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from bench.reports import _limits, plots
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bench import catalog
from bench.errors import RequestError
from bench.report import Request
from bench.results.schema import Measurement, Run, WorkerLine
from tests.runs import HOSTILE, gpu_matmul, gpu_run, interval, matmul, measurement, run

GPU = {"float32": 50e12, "bytes": 4e12, "call": 3e-6, "link_call": 9e-6, "link_bytes": 25e9}
CPU = {"float32": 1.25e12, "bytes": 150e9, "call": 4e-7}


def peaked(measured: Run, **peaks: dict[str, float]) -> Run:
    """Give a run the peaks of its backends, torch_cuda for torch-cuda."""
    measured.workers = [
        WorkerLine(
            backend=name.replace("_", "-"), threads=2, block=0, canary=[], layout={}, peaks=known
        )
        for name, known in peaks.items()
    ]
    return measured


def both(*more: Measurement, spread: float | None = 0.02, **fields: Any) -> Run:
    """Return a run on CPU and GPU that knows the peaks of both."""
    found = gpu_run(*more, spread=spread, **fields)
    return peaked(found, numpy=CPU, cupy={**GPU, "call": 8e-6}, torch_cuda=GPU)


def cpu_only() -> Run:
    cases = [matmul(n, b, 200.0) for n in (64, 256, 1024) for b in ("numpy", "torch-cpu")]
    return peaked(run(*cases), numpy=CPU, torch_cpu={**CPU, "call": 9e-7})


def files(*runs: Run, **request: Any) -> Mapping[str, bytes]:
    found = catalog.reports()["plots"].render(runs, Request(**request))
    assert not isinstance(found, str)
    return found


def panels(*runs: Run) -> Any:
    return plots.FIGURES["why"].panels(runs, Request())


def drawn(*runs: Run) -> Any:
    return plots.draw("why", panels(*runs), runs)


def labels(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def powers(*terms: tuple[float, float]) -> dict[str, Any]:
    """Return floors of `factor * size**power`, named 0, 1, 2, ..."""
    return {
        str(i): lambda size, factor=factor, power=power: factor * size**power
        for i, (factor, power) in enumerate(terms)
    }


def test_peaks_of_a_device_are_the_best_of_its_backends() -> None:
    found = peaked(
        gpu_run(),
        cupy={"call": 8e-6, "bytes": 4e12, "link_call": 9e-6},
        torch_cuda={"call": 3e-6, "bytes": 3e12, "link_call": 10e-6, "float32": 5e13},
        numpy={"call": 1e-7},
    )
    assert _limits.peaks_of(found) == {
        "gpu": {"call": 3e-6, "bytes": 4e12, "link_call": 9e-6, "float32": 5e13},
        "cpu": {"call": 1e-7},
    }


def test_a_peak_that_no_device_has_is_ignored() -> None:
    wild = {"call": -1.0, "bytes": 0.0, "float32": 1e300, "link_call": 1e-5}
    assert _limits.peaks_of(peaked(gpu_run(), cupy=wild)) == {"gpu": {"link_call": 1e-5}}


def test_regions_end_where_the_floors_cross() -> None:
    # 100, 10 n and n**2 / 10 cross at 10 and at 100.
    found = _limits.regions(powers((100, 0), (10, 1), (0.1, 2)), [1, 16, 300, 1000])
    assert [region.limit for region in found] == ["0", "1", "2"]
    assert [region.end for region in found] == [
        pytest.approx(10, rel=1e-6),
        pytest.approx(100, rel=1e-6),
        1000,
    ]


def test_floors_that_are_equal_everywhere_make_one_region() -> None:
    found = _limits.regions(powers((0.1, 1), (0.3, 1 / 3), (0.1 + 1e-17, 1)), [3, 1000])
    assert [region.limit for region in found] == ["1", "0"]


@given(
    st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(-1, 3)), min_size=1, max_size=4),
    st.lists(st.integers(1, 10**6), min_size=2, max_size=6, unique=True),
)
def test_regions_tile_the_sizes_and_name_the_highest_floor(
    terms: list[tuple[float, float]], sizes: list[int]
) -> None:
    over = powers(*terms)
    found = _limits.regions(over, sorted(sizes))
    assert (found[0].start, found[-1].end) == (min(sizes), max(sizes))
    for left, right in pairwise(found):
        assert left.end == right.start
        assert left.limit != right.limit
        # The floors meet where one region ends and the next begins.
        assert over[left.limit](left.end) == pytest.approx(over[right.limit](left.end), rel=1e-6)
    for region in found:
        middle = (region.start * region.end) ** 0.5
        highest = max(floor(middle) for floor in over.values())
        assert over[region.limit](middle) == pytest.approx(highest, rel=1e-6)


@given(st.floats(64, 8192))
def test_a_cost_between_two_sizes_is_straight_on_logarithmic_axes(size: float) -> None:
    sizes = [64, 512, 8192]
    cost = _limits.Cost(sizes, [2 * n**3 for n in sizes], [12 * n**2 for n in sizes])
    assert cost.flops_at(size) == pytest.approx(2 * size**3)
    assert cost.bytes_at(size) == pytest.approx(12 * size**2)


def test_a_gpu_is_limited_by_launches_then_by_arithmetic_and_with_transfers_by_the_link() -> None:
    (panel,) = panels(both())
    alone, moved = panel.ribbons
    assert [region.limit for region in alone.regions] == ["launch", "compute"]
    # 2 n**3 / 50e12 = 3e-6
    assert alone.regions[0].end == pytest.approx(75e6 ** (1 / 3), rel=1e-6)
    assert [region.limit for region in moved.regions] == ["transfer"]
    assert panel.sentences == [
        "Below n = 422 a call is limited by launching it (3.00 us).",
        "Above n = 422 a call is limited by arithmetic (50.0 TFLOP/s).",
        "With transfers, at every size a call is limited by the transfers (9.00 us, 25.0 GB/s).",
    ]


def test_memory_limits_a_call_whose_bytes_take_longest() -> None:
    cases = [
        measurement(backend=b, device=d, sizes={"n": n}, flops=n, bytes_moved=12 * n, seconds=n / r)
        for n in (10**5, 10**9)
        for b, d, r in (("numpy", "cpu", 1e10), ("cupy", "gpu", 1e11))
    ]
    (panel,) = panels(peaked(run(*cases), cupy=GPU, numpy=CPU))
    assert [region.limit for region in panel.ribbons[0].regions] == ["launch", "memory"]
    assert panel.ribbons[0].regions[0].end == pytest.approx(1e6, rel=1e-6)
    assert "limited by memory (4.00 TB/s)" in panel.sentences[1]


def test_the_floors_are_drawn_and_the_regions_named_in_the_picture() -> None:
    times, strip, _ = drawn(both()).axes
    assert labels(strip) == ["launch-limited", "compute-limited", "transfer-limited"]
    assert [tick.get_text() for tick in strip.get_yticklabels()] == ["alone", "with transfers"]
    lowest = [min(line.get_ydata()) for line in times.lines if len(line.get_xdata()) > 20]
    link = 9e-6 + 12 * 64**2 / 25e9
    assert lowest == [pytest.approx(3e-6), pytest.approx(link)]


def test_a_region_too_narrow_for_its_name_is_named_in_the_legend() -> None:
    assert "memory-limited" not in legend(drawn(both()))
    # Memory takes over from launching just before arithmetic does.
    peaks = {**GPU, "bytes": 12 * 421**2 / 3.05e-6}
    found = peaked(gpu_run(), cupy=peaks)
    limits = [region.limit for region in panels(found)[0].ribbons[0].regions]
    assert limits == ["launch", "memory", "compute"]
    figure = drawn(found)
    assert "memory-limited" not in labels(figure.axes[1])
    assert "memory-limited" in legend(figure)


def test_names_of_regions_stay_inside_their_regions() -> None:
    figure = drawn(peaked(gpu_run(), cupy={**GPU, "bytes": 4.5e11, "link_bytes": 6e11}))
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    strip = figure.axes[1]
    bars = [patch.get_window_extent() for patch in strip.patches]
    assert len(bars) == len(strip.texts) == 5
    for bar, text in zip(bars, strip.texts, strict=True):
        box = text.get_window_extent()
        assert bar.x0 <= box.x0
        assert box.x1 <= bar.x1


def test_times_are_those_of_the_best_cpu_and_of_each_plain_gpu_with_and_without_transfers() -> None:
    tuned = [gpu_matmul(n, "torch-cuda", variant="tuned") for n in (64, 128)]
    (panel,) = panels(both(*tuned))
    assert [line.name for line in panel.times] == [
        "best CPU",
        "cupy, alone",
        "cupy, with transfers",
        "torch-cuda, alone",
        "torch-cuda, with transfers",
    ]
    best = panel.times[0]
    assert best.backends == ["numpy", "numpy", *["torch-cpu"] * 6]
    moved = gpu_matmul(64, "cupy").end_to_end_seconds
    assert moved is not None
    assert panel.times[2].points[0].y == moved.median


def test_the_roofline_has_a_point_for_every_case_under_the_measured_ceilings() -> None:
    figure = drawn(both(gpu_matmul(64, "torch-cuda", variant="tuned")))
    roofline = figure.axes[2]
    found = {line.get_label(): line for line in roofline.lines}
    cpu, gpu = "CPU: 1.25 TFLOP/s, 150 GB/s", "GPU: 50.0 TFLOP/s, 4.00 TB/s"
    assert list(found) == [cpu, gpu, "numpy", "torch-cpu", "cupy", "torch-cuda"]
    assert [len(found[b].get_xdata()) for b in ("numpy", "cupy", "torch-cuda")] == [8, 8, 9]
    # 2 n**3 FLOPs on 12 n**2 bytes
    assert max(found["cupy"].get_xdata()) == pytest.approx(8192 / 6)
    corner = list(zip(found[gpu].get_xdata(), found[gpu].get_ydata(), strict=True))[1]
    assert corner == (pytest.approx(12.5), pytest.approx(50e12))
    markers = [found[b].get_marker() for b in ("numpy", "torch-cpu", "cupy", "torch-cuda")]
    assert len(set(markers)) == 4


def test_tf32_stands_under_its_own_roof_beside_the_best_float32_of_the_cpu() -> None:
    tf32 = [gpu_matmul(n, "torch-cuda", dtype="tf32") for n in (64, 128, 8192)]
    found = peaked(gpu_run(*tf32), torch_cuda={**GPU, "tf32": 3e14}, numpy=CPU)
    panel = panels(found)[1]
    assert panel.title == "matmul, tf32 (CPU: float32)"
    assert [(roof.device, roof.flops) for roof in panel.roofs] == [("cpu", 1.25e12), ("gpu", 3e14)]
    assert panel.times[0].name == "best CPU"


def test_a_run_without_a_gpu_shows_what_limits_its_cpu() -> None:
    figure = drawn(cpu_only())
    (panel,) = panels(cpu_only())
    assert [line.name for line in panel.times] == ["numpy", "torch-cpu"]
    assert panel.sentences == ["At every size a call is limited by arithmetic (1.25 TFLOP/s)."]
    assert [tick.get_text() for tick in figure.axes[1].get_yticklabels()] == ["a call"]
    slow = peaked(cpu_only(), numpy={**CPU, "call": 1e-5})
    assert panels(slow)[0].sentences[0] == "Below n = 185 a call is limited by making it (10.0 us)."
    assert labels(drawn(slow).axes[1])[0] == "call-limited"


def test_one_block_is_drawn_hollow() -> None:
    assert "Hollow" in drawn(both(spread=None)).get_supxlabel()
    assert "Hollow" not in drawn(both()).get_supxlabel()
    times = drawn(both(spread=None)).axes[0]
    hollow = [line for line in times.lines if line.get_markerfacecolor() == "white"]
    assert sum(len(line.get_xdata()) for line in hollow) == 5 * 8


def test_without_peaks_the_figure_is_left_out_and_the_others_say_why() -> None:
    found = files(gpu_run())
    assert not [name for name in found if name.startswith("why")]
    said = " ".join("".join(ElementTree.fromstring(found["rate.svg"]).itertext()).split())
    assert "Figure why: no measured ceilings of the GPU in float32" in said
    with pytest.raises(RequestError, match="no case for figure why: no measured ceilings of the"):
        files(gpu_run(), figure="why")


def test_without_the_ceiling_of_a_dtype_that_sweep_is_left_out() -> None:
    more = [
        gpu_matmul(n, b, dtype="float16") for n in (64, 128) for b in ("torch-cpu", "torch-cuda")
    ]
    found = both(*more)
    assert [panel.title for panel in panels(found)] == ["matmul, float32"]
    svg = files(found, figure="why")["why.svg"].decode()
    assert "ceilings of the GPU in float16" in " ".join(
        "".join(ElementTree.fromstring(svg).itertext()).split()
    )


def test_without_a_sweep_there_is_nothing_to_explain() -> None:
    with pytest.raises(RequestError, match="no case for figure why: it shows cases with FLOPs"):
        files(peaked(run(matmul(64, "numpy", 9.0)), numpy=CPU), figure="why")


def test_each_run_has_rows_of_its_own() -> None:
    titles = [panel.title for panel in panels(both(label="old"), both(label="new"))]
    assert titles == ["old: matmul, float32", "new: matmul, float32"]


def test_the_figure_says_in_words_what_it_shows() -> None:
    svg = files(cpu_only(), figure="why")["why.svg"]
    desc = ElementTree.fromstring(svg).find("{http://www.w3.org/2000/svg}desc")
    assert desc is not None
    assert desc.text == (
        "matmul, float32:"
        " numpy: 2.62 us at size n 64, 168 us at size n 256, 10.7 ms at size n 1,024."
        " torch-cpu: 2.62 us at size n 64, 168 us at size n 256, 10.7 ms at size n 1,024."
        " At every size a call is limited by arithmetic (1.25 TFLOP/s)."
        " Measured ceilings of the CPU: 1.25 TFLOP/s, 150 GB/s."
    )


def test_the_same_run_gives_the_same_bytes() -> None:
    first = files(both(), figure="why")
    assert list(first) == ["why.svg", "why.png"]
    assert files(both(), figure="why") == first


def test_hostile_text_stays_text() -> None:
    cases = [
        measurement(
            HOSTILE,
            HOSTILE,
            sizes={HOSTILE: n},
            device=HOSTILE,
            flops=n**2,
            bytes_moved=n,
            end_to_end_seconds=interval(1e-3),
        )
        for n in (1, 100)
    ]
    hostile = peaked(run(*cases, label=HOSTILE), numpy={})
    hostile.workers[0].backend = HOSTILE
    hostile.workers[0].peaks = {**GPU, HOSTILE: 1.0}
    svg = files(hostile, figure="why")["why.svg"]
    said = "".join(ElementTree.fromstring(svg).itertext())
    assert "$x$" in said
    assert b"<b>" not in svg
