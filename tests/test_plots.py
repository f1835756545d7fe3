import re
import subprocess
import sys
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
from bench.reports import plots
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bench import catalog
from bench.errors import RequestError
from bench.report import Request
from bench.results.schema import Run, WorkerLine
from tests.commands import ROOT
from tests.runs import (
    batch_run,
    gpu_run,
    hostile_run,
    layer,
    matmul,
    measurement,
    network_run,
    realistic_run,
    run,
    served,
    small_run,
)


def files(*runs: Run, **request: Any) -> dict[str, bytes]:
    found = catalog.reports()["plots"].render(runs, Request(**request))
    assert not isinstance(found, str)
    return dict(found)


def panels(name: str, *runs: Run) -> Any:
    return plots.FIGURES[name].panels(runs, Request())


def drawn(name: str, *runs: Run) -> Any:
    return plots.draw(name, panels(name, *runs), runs)


def lines(axes: Any) -> dict[str, Any]:
    """Return the line, the caps and the bars of each series by its label."""
    return {container.get_label(): container for container in axes.containers}


def test_plots_are_the_same_bytes_every_time_as_svg_and_png() -> None:
    first = files(realistic_run())
    assert list(first) == ["rate.svg", "rate.png", "rate-named.svg", "rate-named.png"]
    assert files(realistic_run()) == first
    assert first["rate.png"].startswith(b"\x89PNG")


def test_the_settings_of_the_user_do_not_change_a_figure() -> None:
    first = files(small_run(), figure="rate")
    with matplotlib.rc_context({"lines.linewidth": 9, "text.color": "red", "svg.hashsalt": "x"}):
        assert files(small_run(), figure="rate") == first


def test_one_figure_can_be_asked_for_by_name() -> None:
    assert list(files(realistic_run(), figure="rate-named")) == ["rate-named.svg", "rate-named.png"]


@pytest.mark.parametrize("name", sorted(plots.FIGURES))
def test_each_figure_is_there_by_its_name_as_svg_and_png(name: str) -> None:
    layers = [
        layer(number, backend, seconds, device=device)
        for number in ("1", "2")
        for backend, device, seconds in (("numpy", "cpu", 1e-2), ("torch-cuda", "gpu", 1e-3))
    ]
    measured = gpu_run(*layers, *batch_run().measurements, served())
    peaks = {"float32": 50e12, "bytes": 4e12, "call": 3e-6, "link_call": 9e-6, "link_bytes": 25e9}
    measured.workers = [
        WorkerLine(backend=b, threads=2, block=0, canary=[], layout={}, peaks=peaks)
        for b in ("numpy", "torch-cpu", "cupy", "torch-cuda")
    ]
    found = files(measured, figure=name)
    assert list(found) == [f"{name}.svg", f"{name}.png"]
    assert ElementTree.fromstring(found[f"{name}.svg"]).tag.endswith("svg")
    assert found[f"{name}.png"].startswith(b"\x89PNG")


def test_a_mistyped_figure_gets_a_suggestion_and_the_list() -> None:
    with pytest.raises(RequestError, match=r"rte: no such figure; did you mean rate\? there are:"):
        files(realistic_run(), figure="rte")
    listed = "zzz: no such figure; there are: rate, rate-named, speedup, speedup-named, batch, why"
    with pytest.raises(RequestError, match=listed):
        files(realistic_run(), figure="zzz")
    with pytest.raises(RequestError, match=r"did you mean speedup\?"):
        files(realistic_run(), figure="speed-up")


def test_nothing_to_draw_is_an_error_that_says_what_would_be_drawn() -> None:
    with pytest.raises(RequestError, match=r"no case for any figure.*two sizes or more"):
        files(realistic_run(), only=["nothing/*"])
    with pytest.raises(RequestError, match=r"no case for figure rate-named.*sizes with a name"):
        files(run(matmul(64, "numpy", 1.0), matmul(128, "numpy", 1.0)), figure="rate-named")
    with pytest.raises(RequestError, match="no case for figure rate:"):
        files(run(matmul(64, "numpy", 1.0)), figure="rate")


def test_the_rate_is_drawn_against_the_size_on_logarithmic_axes() -> None:
    figure = drawn("rate", realistic_run())
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "matmul, float32",
        "matmul, float64",
    ]
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("size n", "rate (GFLOP/s)")
    line = lines(axes)["torch-cpu"].lines[0]
    assert list(line.get_xdata()) == [2**power for power in range(6, 14)]
    assert line.get_ydata()[-1] == pytest.approx(285, rel=0.01)
    # NumPy was killed at the largest size: the line ends before it.
    assert max(lines(axes)["numpy"].lines[0].get_xdata()) == 4096


def test_the_bars_are_the_interval_of_the_rate() -> None:
    sweep = run(*(matmul(n, "numpy", 100.0, spread=0.2) for n in (64, 128)))
    (bars,) = lines(drawn("rate", sweep).axes[0])["numpy"].lines[2]
    (_, low), (_, high) = bars.get_segments()[0]
    assert (low, high) == (pytest.approx(100 / 1.2), pytest.approx(100 / 0.8))


def test_one_block_is_drawn_hollow_and_explained() -> None:
    figure = drawn("rate", run(*(matmul(n, "numpy", 100.0, spread=None) for n in (64, 128))))
    hollow = [a for a in figure.axes[0].lines if a.get_markerfacecolor() == "white"]
    assert [list(a.get_xdata()) for a in hollow] == [[64, 128]]
    assert "Hollow points: one block" in figure.get_supxlabel().replace("\n", " ")
    sure = drawn("rate", run(*(matmul(n, "numpy", 100.0) for n in (64, 128))))
    assert "95% interval" in sure.get_supxlabel()
    assert "Hollow" not in sure.get_supxlabel()


def test_named_sizes_are_rows_of_points() -> None:
    axes = drawn("rate-named", realistic_run()).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[:2] == ["bert_base.feed_forward", "bert_base.projection"]
    assert len(names) == 5
    assert axes.get_xlabel() == "rate (GFLOP/s)"
    assert set(lines(axes)) == {"numpy", "torch-cpu", "torch-cpu+compiled"}
    assert {len(c.lines[0].get_xdata()) for c in lines(axes).values()} == {5}


def test_whole_networks_have_a_panel_of_their_own_after_their_layers() -> None:
    figure = drawn("rate-named", network_run())
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "convolution: conv2d forward, float32",
        "convolution: conv2d forward, whole networks, float32",
    ]
    axes = figure.axes[1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["tiny,batch=8"]
    # Four million FLOPs in 80 and in 40 ms; CuPy lacks a layer.
    rates = {name: line.lines[0].get_xdata() for name, line in lines(axes).items()}
    assert rates == {"numpy": [pytest.approx(0.05)], "torch-cpu": [pytest.approx(0.1)]}


def test_a_network_at_many_batch_sizes_is_a_line() -> None:
    sweep = [layer("1", seconds=batch * 1e-3, of=1, batch=batch) for batch in (1, 2, 4)]
    assert [panel.title for panel in panels("rate", run(*sweep))] == [
        "convolution: conv2d forward, tiny.1, float32",
        "convolution: conv2d forward, whole networks, tiny, float32",
    ]


def test_points_stand_nearer_to_those_of_their_own_name_than_of_the_next() -> None:
    layers = [layer(n, b) for n in "12" for b in ("cupy", "numpy", "torch-cpu")]
    heights = sorted(
        float(y)
        for line in lines(drawn("rate-named", run(*layers)).axes[0]).values()
        for y in line.lines[0].get_ydata()
    )
    gaps = [b - a for a, b in pairwise(heights)]
    assert gaps.index(max(gaps)) == 2
    assert gaps[2] > 1.9 * gaps[1]


def test_lines_differ_in_colour_and_in_marker_and_in_style() -> None:
    (legend,) = drawn("rate-named", realistic_run()).legends
    handles = legend.get_lines()
    assert [text.get_text() for text in legend.get_texts()] == [
        "numpy",
        "torch-cpu",
        "torch-cpu+compiled",
    ]
    for look in ("get_color", "get_marker", "get_linestyle"):
        assert len({getattr(handle, look)() for handle in handles}) == 3
    assert legend.get_title().get_text() == "AMD EPYC 7763"


def test_runs_of_several_machines_have_lines_of_their_own() -> None:
    (legend,) = drawn("rate", realistic_run("old"), realistic_run("new")).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *("new: numpy", "new: torch-cpu", "old: numpy", "old: torch-cpu")
    ]
    assert legend.get_title().get_text() == "old, new"


def test_batch_sizes_of_one_network_become_a_line() -> None:
    sweep = [
        measurement(
            "resnet50",
            name="resnet50",
            suite="batch-sweep",
            phase="forward",
            sizes={"batch": batch, "image": 224},
            flops=batch * 8 * 10**9,
        )
        for batch in (1, 2, 4)
    ]
    (axes,) = drawn("rate", run(*sweep)).axes
    assert axes.get_title(loc="left") == "batch-sweep: resnet50 forward, float32"
    assert axes.get_xlabel() == "batch size"
    assert not panels("rate-named", run(*sweep))
    # Two are a line where they are what the suite is about.
    assert panels("rate", run(*sweep[:2]))
    for case in sweep:
        case.suite = "layers"
    assert panels("rate", run(*sweep))
    assert not panels("rate", run(*sweep[:2]))


def test_without_flops_the_traffic_is_drawn() -> None:
    cases = [measurement(sizes={"n": n}, bytes_moved=n * 10**6) for n in (10, 20)]
    (axes,) = drawn("rate", run(*cases)).axes
    assert axes.get_ylabel() == "rate (GB/s)"
    assert list(lines(axes)["numpy"].lines[0].get_ydata()) == [pytest.approx(10), pytest.approx(20)]


def test_cases_that_cannot_be_drawn_are_counted_in_the_caption() -> None:
    svg = files(realistic_run(), figure="rate")["rate.svg"].decode()
    assert "8 skipped, 1 timed out" in re.sub(r"<[^>]*>|\s+", " ", svg).replace("  ", " ")


def test_a_time_that_no_clock_tells_is_left_out_and_counted() -> None:
    wild = [measurement(backend=b, sizes={"n": 256}, seconds=1e-310) for b in ("numpy", "cupy")]
    found = files(run(matmul(64, "numpy", 1.0), matmul(128, "numpy", 1.0), *wild))
    assert list(found) == ["rate.svg", "rate.png"]
    text = re.sub(r"<[^>]*>|\s+", " ", found["rate.svg"].decode()).replace("  ", " ")
    assert "2 with a time too short for any clock" in text


def test_labels_keep_apart_on_every_axis() -> None:
    sizes = [32, 48, 64, 96, 128, 192, 256, 1000, 1024, 4096, 8192, 16384, 32768]
    figure = drawn("rate", run(*(matmul(n, b, n / 9) for n in sizes for b in ("numpy", "cupy"))))
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert len(boxes) >= 3
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


@pytest.mark.parametrize("rate", [0.001, 1.0, 250.0, 7e5])
def test_a_narrow_range_of_rates_has_ticks_and_looks_narrow(rate: float) -> None:
    (axes,) = drawn("rate", run(matmul(64, "numpy", rate), matmul(128, "numpy", rate))).axes
    low, high = axes.get_ylim()
    assert high / low >= 2.99
    assert len([tick for tick in axes.get_yticks() if low <= tick <= high]) >= 2


def test_the_svg_tells_a_screen_reader_what_it_shows() -> None:
    root = ElementTree.fromstring(files(small_run(), figure="rate")["rate.svg"])
    svg = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{svg}svg"
    assert root.get("role") == "img"
    title, desc = root.find(f"{svg}title"), root.find(f"{svg}desc")
    assert title is not None
    assert desc is not None
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert title.text == (
        "rate against size, for workloads measured at a sweep of sizes: build box"
    )
    assert desc.text == (
        "matmul, float32: numpy: 12.0 GFLOP/s at size n 64, 175 GFLOP/s at size n 1,024."
        " torch-cpu: 8.00 GFLOP/s at size n 64, 302 GFLOP/s at size n 1,024,"
        " 310 GFLOP/s at size n 2,048."
    )


def test_a_hostile_label_stays_text_in_a_figure() -> None:
    svg = files(hostile_run(), figure="rate")["rate.svg"]
    text = "".join(ElementTree.fromstring(svg).itertext())
    assert r"=1|`x`<b>\n\x1b[31m\u202e@team **b**" in text
    assert "$x$" in text
    assert b"<b>" not in svg


def test_a_script_that_the_font_lacks_gives_no_warning() -> None:
    svg = files(small_run(label="日本語"), figure="rate")["rate.svg"].decode()
    assert "日本語" in svg


def test_the_same_runs_give_the_same_bytes_in_every_process() -> None:
    script = (
        "from tests.runs import batch_run, gpu_run, served; from tests.test_plots import *;"
        "import hashlib; keep = [object() for _ in range({})];"
        "found = files(gpu_run(*batch_run().measurements, served()));"
        "print([hashlib.sha256(found[name]).hexdigest() for name in sorted(found)])"
    )
    drawn = {
        subprocess.run(
            [sys.executable, "-c", script.format(count)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
        for count in (0, 100_000)
    }
    assert len(drawn) == 1
    assert drawn.pop().count("'") >= 2 * 8, "four figures or more"
