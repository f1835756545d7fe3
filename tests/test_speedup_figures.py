import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from bench.reports import plots
from bench.reports._speedup_panels import crossing
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bench import catalog
from bench.comparing.crossover import crossover
from bench.comparing.speedup import Ratio
from bench.errors import RequestError
from bench.report import Request
from bench.results.schema import Measurement, Run
from tests.runs import (
    HOSTILE,
    gpu_matmul,
    gpu_run,
    interval,
    layer,
    measurement,
    realistic_run,
    run,
)


def files(*runs: Run, **request: Any) -> Mapping[str, bytes]:
    found = catalog.reports()["plots"].render(runs, Request(**request))
    assert not isinstance(found, str)
    return found


def panels(*runs: Run, name: str = "speedup") -> Any:
    return plots.FIGURES[name].panels(runs, Request())


def drawn(*runs: Run, name: str = "speedup") -> Any:
    return plots.draw(name, panels(*runs, name=name), runs)


def curves(axes: Any) -> dict[str, Any]:
    """Return the line of each curve by its label."""
    return {container.get_label(): container.lines[0] for container in axes.containers}


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def pair(n: int, speedup: float, spread: float | None = 0.01) -> list[Measurement]:
    """Return a CPU and a GPU that is `speedup` times as fast, with transfers half of that."""
    cpu = measurement(sizes={"n": n}, spread=spread)
    moved = interval(1.1e-3 / speedup * 2, spread)
    gpu = measurement(
        backend="cupy",
        seconds=1e-3 / speedup,
        sizes={"n": n},
        device="gpu",
        spread=spread,
        end_to_end_seconds=moved,
    )
    return [cpu, gpu]


def sweep(*speedups: float, spread: float | None = 0.01) -> Run:
    """Return a run over n = 1, 2, 4, ... at these speedups."""
    return run(*(m for i, s in enumerate(speedups) for m in pair(2**i, s, spread)))


def layers(**fields: Any) -> list[Measurement]:
    gpu: dict[str, Any] = {"device": "gpu", "end_to_end_seconds": interval(2.2e-3)}
    return [
        m
        for name in ("1", "2")
        for m in (
            layer(name, "numpy", 1e-2, of=2, **fields),
            layer(name, "cupy", 1e-3, of=2, **{**fields, **gpu}),
        )
    ]


def test_the_speedup_is_the_time_of_the_best_cpu_over_that_of_the_gpu() -> None:
    axes, _ = drawn(gpu_run()).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    cupy = curves(axes)["cupy, alone"]
    assert list(cupy.get_xdata()) == [2**power for power in range(6, 14)]
    best = min(gpu_matmul(64, b).seconds.median for b in ("numpy", "torch-cpu"))  # type: ignore[union-attr]
    assert cupy.get_ydata()[0] == pytest.approx(best / gpu_matmul(64, "cupy").seconds.median)  # type: ignore[union-attr]


def test_each_place_has_a_curve_alone_and_one_with_transfers_below_it() -> None:
    found = curves(drawn(gpu_run()).axes[0])
    assert list(found) == [
        "cupy, alone",
        "cupy, with transfers",
        "torch-cuda, alone",
        "torch-cuda, with transfers",
    ]
    alone, moved = found["cupy, alone"], found["cupy, with transfers"]
    assert all(a > b for a, b in zip(alone.get_ydata(), moved.get_ydata(), strict=True))


def test_alone_and_with_transfers_share_a_colour_and_differ_without_it() -> None:
    (legend,) = drawn(gpu_run()).legends
    alone, moved, other, _ = legend.get_lines()
    assert alone.get_color() == moved.get_color() != other.get_color()
    assert alone.get_linestyle() != moved.get_linestyle()
    markers = [handle.get_marker() for handle in legend.get_lines()]
    assert len(set(markers)) == 4


def test_the_regions_beside_the_line_at_1_have_names() -> None:
    axes = drawn(sweep(0.5, 2)).axes[0]
    assert [1, 1] in [list(line.get_ydata()) for line in axes.lines]
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights["CPU faster"] < 1 < heights["GPU faster"]


@pytest.mark.parametrize("speedups", [(40, 50), (0.1, 0.2), (0.01, 900)])
def test_both_sides_of_1_have_room_for_their_name(speedups: tuple[float, ...]) -> None:
    figure = drawn(sweep(*speedups))
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    axes = figure.axes[0]
    inside = axes.get_window_extent()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 2
    assert not boxes[0].overlaps(boxes[1])
    assert all(inside.y0 <= box.y0 and box.y1 <= inside.y1 for box in boxes)


def test_the_crossover_is_marked_at_its_size_with_its_interval() -> None:
    main, strip = drawn(sweep(0.25, 0.25, 4, 4)).axes
    # Alone it passes 1 half way between 2 and 4 on the logarithmic axis, at the root of 8.
    low, high = (re.findall(r"[\d.]+", texts(strip)[0])[i] for i in (1, 2))
    assert texts(strip)[0] == f"from n = 2.83 [{low}, {high}]"
    assert 2 < float(low) < 2.83 < float(high) < 4
    marks = [line.get_xdata() for line in strip.lines]
    assert [pytest.approx(8**0.5)] in [list(x) for x in marks]
    band = main.patches[1].get_extents().transformed(main.transData.inverted())
    assert (band.x0, band.x1) == (
        pytest.approx(float(low), rel=0.01),
        pytest.approx(float(high), rel=0.01),
    )


def test_a_curve_that_never_crosses_says_so() -> None:
    assert texts(drawn(sweep(40, 50, 60)).axes[1]) == ["always in the range"] * 2
    assert texts(drawn(sweep(0.1, 0.2, 0.1)).axes[1]) == ["never in the range"] * 2


def test_a_crossing_is_told_in_words_whatever_its_kind() -> None:
    def told(*speedups: float, width: float | None = 1.01) -> str:
        sizes = [2**i for i in range(len(speedups))]
        ratios = [
            Ratio(s, None, None) if width is None else Ratio(s, s / width, s * width)
            for s in speedups
        ]
        return str(crossing(crossover(sizes, ratios), "n"))

    assert told(0.25, 4, width=None) == "from n = 1.41"
    assert told(4, 0.25, width=None) == "until n = 1.41"
    assert told(0.5, 2, 0.5, width=None) == "at n = 1.41 to 2.83"
    assert told(0.5, 2, 0.5, 2, 0.5, 2, width=None) == "in 3 ranges of n"
    assert told(0.9, 1.1, width=1.5) == "from n = 1.44 [below 1, above 2]"
    assert told(0.1, 0.9, width=1.5).startswith("never in the range, in doubt [")
    assert told(3, 5) == "always in the range"


def test_texts_below_a_panel_keep_apart_and_inside() -> None:
    doubtful = sweep(0.5, 2, 0.6, 1.1, spread=0.2).measurements
    figure = drawn(run(*gpu_run().measurements, *doubtful))
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    for strip, lanes in zip(figure.axes[1::2], (2, 4), strict=True):
        boxes = [text.get_window_extent() for text in strip.texts]
        assert len(boxes) == lanes
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))
        inside = strip.get_window_extent()
        assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)


def test_the_best_cpu_is_named() -> None:
    (panel,) = panels(gpu_run())
    assert panel.best == "best CPU: numpy to n = 128, then torch-cpu"
    assert panel.best in drawn(gpu_run()).axes[0].get_title(loc="left")


def test_tf32_has_a_panel_that_says_what_it_is_compared_with() -> None:
    more = [gpu_matmul(n, "torch-cuda", dtype="tf32") for n in (64, 128)]
    titles = [panel.title for panel in panels(gpu_run(*more))]
    assert titles == ["matmul, float32", "matmul, tf32 (CPU: float32)"]


def test_named_sizes_have_a_row_with_both_speedups() -> None:
    figure = drawn(run(*layers()), name="speedup-named")
    layer_axes, whole = figure.axes
    assert [label.get_text() for label in layer_axes.get_yticklabels()] == [
        "tiny.1,batch=8",
        "tiny.2,batch=8",
    ]
    found = curves(layer_axes)
    assert list(found["cupy, alone"].get_xdata()) == [pytest.approx(10)] * 2
    assert list(found["cupy, with transfers"].get_xdata()) == [pytest.approx(5)] * 2
    # A network does not leave the GPU between its layers.
    assert list(curves(whole)) == ["cupy, alone"]
    assert "whole networks" in whole.get_title(loc="left")


def test_one_block_is_drawn_hollow_and_has_no_interval() -> None:
    figure = drawn(sweep(0.25, 0.25, 4, spread=None))
    assert "Hollow" in figure.get_supxlabel()
    assert texts(figure.axes[1])[0] == "from n = 2.83"


def test_the_figure_says_in_words_what_it_shows() -> None:
    svg = files(sweep(0.25, 4, spread=None), figure="speedup")["speedup.svg"]
    desc = ElementTree.fromstring(svg).find("{http://www.w3.org/2000/svg}desc")
    assert desc is not None
    assert desc.text == (
        "matmul, float32: best CPU: numpy."
        " cupy, alone: 0.250 times at size n 1, 4.00 times at size n 2."
        " cupy, with transfers: 0.125 times at size n 1, 2.00 times at size n 2."
        " cupy, alone: the GPU is faster from n = 1.41."
        " cupy, with transfers: the GPU is faster from n = 1.68."
    )


@pytest.mark.parametrize("name", ["speedup", "speedup-named"])
def test_the_same_run_gives_the_same_bytes(name: str) -> None:
    def once() -> Mapping[str, bytes]:
        return files(gpu_run(*layers()), figure=name)

    assert list(once()) == [f"{name}.svg", f"{name}.png"]
    assert once() == once()


def test_without_a_gpu_there_is_no_speedup() -> None:
    assert not [name for name in files(realistic_run()) if name.startswith("speedup")]
    for name in ("speedup", "speedup-named"):
        with pytest.raises(RequestError, match=f"no case for figure {name}: .*CPU and on a GPU"):
            files(realistic_run(), figure=name)


def test_hostile_text_stays_text() -> None:
    fields: dict[str, Any] = {"variant": HOSTILE, "workload": HOSTILE}
    cases = [
        measurement(backend=b, seconds=s, sizes={"n": n}, device=d, **fields)
        for n in (1, 2)
        for b, s, d in (("numpy", 1e-3, "cpu"), ("cupy", 1e-3 / n, "gpu"))
    ]
    svg = files(run(*cases, label=HOSTILE), figure="speedup")["speedup.svg"]
    said = "".join(ElementTree.fromstring(svg).itertext())
    assert r"**b**" in said
    assert "$x$" in said
    assert b"<b>" not in svg
