"""CuPy's convolutions run on NumPy: what they compute, how many kernels, and what they allocate."""

import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from bench.kernels.operations import _conv2d_cupy
from bench.kernels.operations._conv2d_shape import shape_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.workload import Call, Dims, Phase
from tests.fakes import numpy_backend
from tests.test_conv2d import LAYERS, PHASES, WORKLOAD, dims_of, drawn, require_agreement, resize

each_phase = pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
each_layer = pytest.mark.parametrize(
    "layer",
    {
        **LAYERS,
        "pointwise": {"in_channels": 8, "height": 14, "kernel": 1},
        "grouped": {"in_channels": 4, "height": 8, "kernel": 3, "padding": 1, "groups": 2},
        "few_inputs": {"out_channels": 16, "height": 9, "kernel": 3, "padding": 1, "stride": 2},
        "dilated": {"in_channels": 8, "height": 11, "kernel": 3, "padding": 2, "dilation": 2},
    }.items(),
    ids=lambda item: str(item[0]),
)
CONSTANTS = st.fixed_dictionaries(
    {
        "WORKSPACE_BYTES": st.sampled_from([1, 2000, 20_000, _conv2d_cupy.WORKSPACE_BYTES]),
        "SCATTERED": st.sampled_from([0, 1, 100]),
    }
)
"""Images alone, in chunks and all together; patches always and never added up."""


def full(layer: tuple[str, Mapping[str, int]], batch: int = 3) -> Dims:
    return resize({"batch": batch, "in_channels": 2, "out_channels": 4, **layer[1]})


def prepared(phase: Phase, dims: Dims, arrays: list[Any], xp: Any = np) -> Call:
    prepare = phase.implementation("cupy")
    assert prepare is not None
    assert prepare is not phase.array
    return prepare(xp, dims, *arrays)


def require_agreement_twice(phase: Phase, dims: Dims, dtype: str) -> None:
    """Call twice; in between the output is spoilt and the inputs change where they are."""
    arrays = drawn(phase, dims, dtype)
    call = prepared(phase, dims, arrays)
    output = call()
    require_agreement(phase, dims, arrays, numpy_backend(), output)
    output.fill(np.nan)
    for array in arrays:
        array *= -1.5
        array += 1
    again = call()
    assert again is output
    require_agreement(phase, dims, arrays, numpy_backend(), again)


@each_phase
@settings(max_examples=400, deadline=None)
@given(dims=dims_of(), dtype=st.sampled_from(["float32", "float64"]), constants=CONSTANTS)
def test_every_shape_agrees_with_float64_however_the_batch_is_cut(
    phase: Phase, dims: Dims, dtype: str, constants: dict[str, int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(_conv2d_cupy, name, value)
        require_agreement_twice(phase, dims, dtype)


@each_phase
@settings(max_examples=60, deadline=None)
@given(dims=dims_of(channels=2, side=6))
def test_float16_agrees_with_float64(phase: Phase, dims: Dims) -> None:
    require_agreement_twice(phase, dims, "float16")


@each_phase
@each_layer
def test_a_layer_is_what_the_shared_version_makes_of_it(
    phase: Phase, layer: tuple[str, Mapping[str, int]]
) -> None:
    dims = full(layer)
    arrays = drawn(phase, dims)
    assert phase.array is not None
    expected = phase.array(np, dims, *arrays)()
    assert np.allclose(prepared(phase, dims, arrays)(), expected, rtol=1e-12, atol=1e-12)
    require_agreement_twice(phase, dims, "float32")


class Counting:
    """NumPy, with the functions listed that are called: each would be a kernel of CuPy's."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.lib = np.lib

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.called.append(name)
            return function(*args, **kwargs)

        return counted


def kernels(phase: Phase, dims: Dims, dtype: str = "float32") -> list[str]:
    """Return what a call runs."""
    xp = Counting()
    call = prepared(phase, dims, drawn(phase, dims, dtype), xp)
    xp.called.clear()
    call()
    return xp.called


@each_phase
@each_layer
def test_as_many_kernels_run_for_many_images_as_for_two(
    phase: Phase, layer: tuple[str, Mapping[str, int]]
) -> None:
    assert kernels(phase, full(layer, 40)) == kernels(phase, full(layer, 2))


POINT = {"in_channels": 4, "out_channels": 6, "height": 5, "kernel": 1}
PADDED = {**POINT, "kernel": 3, "padding": 1}


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        ("forward", {**POINT, "batch": 8}, "matmul"),
        ("forward", {**PADDED, "batch": 8}, "frame gather dot order"),
        ("forward", {**PADDED, "batch": 8, "padding": 0}, "gather dot order"),
        ("forward", {**PADDED, "batch": 1}, "frame gather dot"),
        ("forward", {**PADDED, "batch": 8, "groups": 2}, "frame gather matmul order"),
        ("input_gradient", {**POINT, "batch": 8}, "weights matmul"),
        ("input_gradient", {**PADDED, "batch": 8}, "weights frame gather dot order"),
        # A residue is reached by 1, 2, 2 and 4 taps: each has its weights, its patches and its
        # product, and all share the frame.
        (
            "input_gradient",
            {**PADDED, "batch": 8, "height": 6, "stride": 2},
            "weights weights weights weights frame" + 4 * " gather dot order",
        ),
        (
            "input_gradient",
            {**PADDED, "batch": 8, "in_channels": 2},
            "zero order dot" + 9 * " add",
        ),
        ("weight_gradient", {**POINT, "batch": 1}, "dot"),
        ("weight_gradient", {**POINT, "batch": 8}, "order order dot"),
        ("weight_gradient", {**PADDED, "batch": 8}, "frame gather order dot"),
        ("weight_gradient", {**PADDED, "batch": 1}, "frame gather dot"),
    ],
)
def test_a_call_runs_these_kernels(name: str, layer: dict[str, int], expected: str) -> None:
    copies = ("frame", "gather", "order", "weights", "zero")
    named = ["copyto" if word in copies else word for word in expected.split()]
    assert kernels(PHASES[name], resize(layer)) == named


def test_float16_is_never_given_to_a_product_that_would_convert_it() -> None:
    for phase in PHASES.values():
        for layer in (POINT, PADDED):
            called = kernels(phase, resize({**layer, "batch": 8}), "float16")
            assert "dot" in called
            assert "matmul" not in called


def test_a_batch_beyond_the_workspace_is_taken_in_equal_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dims = resize({**PADDED, "batch": 8})
    of_one = 4 * 25 * (4 * 9 + 6)
    for fitting, times in ((8, 1), (7, 2), (4, 2), (3, 3), (1, 8)):
        monkeypatch.setattr(_conv2d_cupy, "WORKSPACE_BYTES", fitting * of_one)
        assert kernels(PHASES["forward"], dims).count("dot") == times
        assert kernels(PHASES["weight_gradient"], dims).count("dot") == times
    parts = _conv2d_cupy.chunks(np.empty(10), of_one)
    assert [part.stop - part.start for part in parts] == [1] * 10


@each_phase
@each_layer
def test_a_call_allocates_no_array(
    phase: Phase, layer: tuple[str, Mapping[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where NumPy adds up strided views it has buffers of its own.
    monkeypatch.setattr(_conv2d_cupy, "SCATTERED", 1000)
    dims = full(layer, 20)
    call = prepared(phase, dims, drawn(phase, dims, "float32"))
    call()
    tracemalloc.start()
    try:
        call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4000


def test_an_image_of_every_layer_fits_into_the_workspace() -> None:
    for size in WORKLOAD.sizes:
        shape = shape_of(size.dims)
        patches = _conv2d_cupy.patch_values(shape.in_channels, shape.forward_axes())
        assert 4 * patches < _conv2d_cupy.WORKSPACE_BYTES
