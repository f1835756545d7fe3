import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest
from bench.reports import plots
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bench import catalog
from bench.errors import RequestError
from bench.report import Request
from bench.results.schema import Run
from tests.runs import BATCHES, HOSTILE, batch_run, batch_sweep, limit, matmul, run


def files(*runs: Run, **request: Any) -> Mapping[str, bytes]:
    found = catalog.reports()["plots"].render(runs, Request(figure="batch", **request))
    assert not isinstance(found, str)
    return found


def panels(*runs: Run) -> Any:
    return plots.FIGURES["batch"].panels(runs, Request())


def drawn(*runs: Run) -> Any:
    return plots.draw("batch", panels(*runs), runs)


def axes_of(*runs: Run) -> list[Any]:
    return [axes for row in drawn(*runs).subfigs for axes in row.axes]


def description(svg: bytes) -> str:
    desc = ElementTree.fromstring(svg).find("{http://www.w3.org/2000/svg}desc")
    assert desc is not None
    assert desc.text
    return desc.text


def curves(axes: Any) -> dict[str, Any]:
    """Return the line of each place with intervals by its label."""
    return {container.get_label(): container.lines[0] for container in axes.containers}


def marks(axes: Any, marker: str) -> list[tuple[float, float]]:
    """Return where a place is marked with this shape, alone on its line."""
    return [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if line.get_marker() == marker and len(line.get_xdata()) == 1
    ]


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def user_run(**fields: Any) -> Run:
    """Return a user's own model, whose size is nothing but the batch."""
    common: dict[str, Any] = {"name": None, "phase": "forward", "batches": (1, 8, 64), **fields}
    return run(
        *batch_sweep("model", launch=0, sample=1e-3, **common),
        *batch_sweep("model", "torch-cuda", launch=8e-3, sample=1e-6, **common),
    )


def test_throughput_time_and_memory_stand_side_by_side_on_logarithmic_axes() -> None:
    throughput, time, memory = axes_of(batch_run())
    titles = [axes.get_title(loc="left") for axes in (throughput, time, memory)]
    assert titles == ["samples/s", "time of a call", "peak memory"]
    for axes in (throughput, time, memory):
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert list(curves(throughput)) == ["numpy", "torch-cpu", "torch-cuda"]
    line, call = curves(throughput)["torch-cpu"], curves(time)["torch-cpu"]
    assert list(line.get_xdata()) == BATCHES
    assert line.get_ydata()[3] == pytest.approx(8 / (6e-4 + 8 * 8e-5))
    assert call.get_ydata()[3] == pytest.approx(6e-4 + 8 * 8e-5)
    # Of what did not fit there is no point.
    assert max(curves(throughput)["numpy"].get_xdata()) == 512
    assert [label.get_text() for label in memory.get_yticklabels()][:2] == ["128 MiB", "256 MiB"]


def test_saturation_is_a_diamond_on_the_curve_with_its_batch() -> None:
    throughput, *others = axes_of(batch_run())
    ends = [(16, 16 / 6.6e-3), (256, 256 / (6e-4 + 256 * 8e-5))]
    assert marks(throughput, "D") == [pytest.approx(end) for end in ends]
    assert {"16", "256"} <= set(texts(throughput))
    assert not any(marks(axes, "D") for axes in others)


def test_the_crossover_is_a_star_where_the_drawn_curves_meet() -> None:
    throughput = axes_of(batch_run())[0]
    (alone, moved) = marks(throughput, "*")
    cpu, gpu = (curves(throughput)[name] for name in ("torch-cpu", "torch-cuda"))
    # Between 16 and 32; lines are straight on logarithmic axes.
    share = math.log2(alone[0] / 16)
    assert 0 < share < 1
    for line in (cpu, gpu):
        left, right = line.get_ydata()[4:6]
        assert left ** (1 - share) * right**share == pytest.approx(alone[1])
    assert moved[0] > alone[0]
    assert {"31", "66"} <= set(texts(throughput))


def test_the_end_of_memory_is_a_cross_at_the_largest_batch_that_fits() -> None:
    for axes in axes_of(batch_run()):
        assert [x for x, _ in marks(axes, "X")] == [777, 2100]
        dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        assert dotted == [777, 2100]
    assert texts(axes_of(batch_run())[2]) == ["777", "2,100"]


def test_ends_side_by_side_are_written_once() -> None:
    cases = [*batch_sweep(), *batch_sweep(backend="numpy"), *batch_sweep(backend="cupy")]
    ends = [limit("torch-cpu"), limit("numpy", largest=4000), limit("cupy", largest=512)]
    assert texts(axes_of(run(*cases, limits=ends))[2]) == ["512", "4,000 and 4,113"]


def test_the_legend_names_the_shapes_that_are_drawn_and_no_others() -> None:
    def legend(run: Run) -> list[str]:
        (found,) = drawn(run).legends
        return [text.get_text() for text in found.get_texts()]

    assert legend(batch_run())[3:] == [
        "saturation: 95% of the best throughput",
        "crossover with the best CPU",
        "crossover, transfers included",
        "largest batch that fits",
    ]
    assert legend(run(*batch_sweep(batches=(1, 2)))) == ["torch-cpu"]
    assert "Saturation" not in drawn(run(*batch_sweep(batches=(1, 2)))).get_supxlabel()


def test_each_mark_has_a_shape_of_its_own() -> None:
    (legend,) = drawn(batch_run()).legends
    shapes = [
        (line.get_marker(), line.get_markerfacecolor())
        for line in legend.get_lines()
        if line.get_linestyle() == "None"
    ]
    assert len(shapes) == len(set(shapes)) == 4


def test_a_sentence_for_each_place_stands_below_its_row() -> None:
    (row,) = drawn(batch_run()).subfigs
    said = row.get_supxlabel()
    assert said.startswith(
        "numpy: saturates from 16 [8, 64]; memory ends after batch 777.\n"
        "torch-cpu: saturates from 256 [128, 1,024]; memory is known to be enough for batch 4,096"
    )
    assert "torch-cuda: still rises at 2,048, the largest; faster than the best CPU from" in said


def test_each_network_and_phase_has_a_row_of_its_own() -> None:
    cases = [
        case
        for workload in ("lenet5", "mlp", "gpt2")
        for phase in ("forward", "training_step")
        for case in batch_sweep(workload, phase=phase)
    ]
    rows = drawn(run(*cases)).subfigs
    assert [row.get_suptitle() for row in rows] == [
        f"{workload}/mnist {phase}, float32"
        for workload in ("gpt2", "lenet5", "mlp")
        for phase in ("forward", "training_step")
    ]


def two_gpus() -> Run:
    """Return a run whose second GPU backend crosses the CPU near where the first does."""
    return run(
        *batch_run().measurements,
        *batch_sweep(backend="cupy", launch=6e-3, sample=2e-6, failing=2048),
        limits=[limit("cupy", largest=1500, failing=1501)],
    )


@pytest.mark.parametrize("make", [batch_run, user_run, two_gpus])
def test_words_keep_inside_and_marks_apart(make: Any) -> None:
    figure = drawn(make())
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    for axes in (axes for row in figure.subfigs for axes in row.axes):
        inside = figure.bbox
        boxes = [text.get_window_extent() for text in axes.texts]
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
        assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)
        ticks = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert not any(a.overlaps(b) for a, b in combinations(ticks, 2))


def test_a_users_own_model_has_its_name_and_its_crossover() -> None:
    throughput, _, _ = axes_of(user_run())
    assert [row.get_suptitle() for row in drawn(user_run()).subfigs] == ["model forward, float32"]
    assert len(marks(throughput, "*")) == 2


def test_an_unknown_memory_is_said_to_be_so() -> None:
    _, _, memory = axes_of(user_run(sample_bytes=None))
    assert texts(memory) == ["not known"]


def test_one_block_is_drawn_hollow_and_has_no_interval() -> None:
    figure = drawn(batch_run(spread=None))
    assert "Hollow" in figure.get_supxlabel()
    (row,) = figure.subfigs
    assert "[" not in row.get_supxlabel()


def test_a_single_batch_is_drawn_without_a_warning() -> None:
    throughput, _, _ = axes_of(run(*batch_sweep(batches=(8,))))
    assert list(curves(throughput)["torch-cpu"].get_xdata()) == [8]


def test_runs_side_by_side_have_lines_of_their_own() -> None:
    (panel,) = panels(batch_run(label="old"), batch_run(label="new"))
    assert [line.name for line in panel.lines] == [
        f"{label}: {place}"
        for label in ("old", "new")
        for place in ("numpy", "torch-cpu", "torch-cuda")
    ]
    assert [len(line.crossings) for line in panel.lines] == [0, 0, 2] * 2


def test_the_figure_says_in_words_what_it_shows() -> None:
    cases = batch_sweep(launch=0, sample=1e-3, batches=(1, 2), sample_bytes=None)
    assert description(files(run(*cases, limits=[limit(largest=3, failing=4)]))["batch.svg"]) == (
        "lenet5/mnist training_step, float32: torch-cpu: 1,000 samples/s, 1.00 ms at batch 1;"
        " 1,000 samples/s, 2.00 ms at batch 2; saturates from 1; memory ends after batch 3."
    )
    assert "and 129 MiB at batch 1;" in description(files(batch_run())["batch.svg"])


def test_the_same_run_gives_the_same_bytes() -> None:
    assert list(files(batch_run())) == ["batch.svg", "batch.png"]
    assert files(batch_run()) == files(batch_run())


def test_work_without_a_number_is_named() -> None:
    none = batch_sweep(failing=1)
    with pytest.raises(RequestError, match="no batch has a number of lenet5/mnist training_step"):
        files(run(*none))
    with pytest.raises(RequestError, match="no case for figure batch: it shows cases of the suite"):
        files(run(matmul(64, "numpy", 1.0)))
    svg = files(run(*none, *batch_sweep("mlp")))["batch.svg"]
    said = " ".join("".join(ElementTree.fromstring(svg).itertext()).split())
    assert "Figure batch: no batch has a number of lenet5/mnist training_step, float32" in said


def test_hostile_text_stays_text() -> None:
    names: dict[str, Any] = {"workload": HOSTILE, "variant": HOSTILE, "name": HOSTILE}
    ends = [
        limit(f"{backend}+{HOSTILE}", work=f"{HOSTILE}/{HOSTILE}/training_step", reason=HOSTILE)
        for backend in ("torch-cpu", "torch-cuda")
    ]
    ends[0].failing_batch = None
    cases = [*batch_sweep(**names), *batch_sweep(backend="torch-cuda", **names)]
    svg = files(run(*cases, label=HOSTILE, limits=ends))["batch.svg"]
    said = "".join(ElementTree.fromstring(svg).itertext())
    assert "**b**" in said
    assert "enough for batch 4,113 (=1|" in said
    assert b"<b>" not in svg
