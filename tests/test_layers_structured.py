"""Pooling, norms, attention and LSTM: libraries and gradients against float64 and PyTorch."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.kernels.operations import _fusing, _sums
from bench.kernels.operations import attention as attention_file
from bench.kernels.operations.attention import attention
from bench.kernels.operations.avg_pool2d import avg_pool2d, global_avg_pool2d
from bench.kernels.operations.batch_norm import batch_norm, batch_norm_training
from bench.kernels.operations.layer_norm import layer_norm
from bench.kernels.operations.lstm import lstm
from bench.kernels.operations.max_pool2d import max_pool2d
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import catalog
from bench.backends.base import Backend
from bench.measuring.exchange import read_arrays
from bench.measuring.reference import draw
from bench.measuring.verification import LIMITS, relative_error
from bench.workload import Dims
from tests.fakes import numpy_backend, torch_backend

NAMES = ("attention", "avg_pool2d", "batch_norm", "layer_norm", "lstm", "max_pool2d")
WORKLOADS = {name: catalog.workloads()[name] for name in NAMES}
torch = torch_backend().namespace
functional = torch.nn.functional


def resized(name: str, dims: Mapping[str, int]) -> Dims:
    resize = WORKLOADS[name].resize
    assert resize is not None
    return resize(dims)


def is_accepted(name: str) -> Callable[[Dims], bool]:
    def accepts(dims: Dims) -> bool:
        try:
            resized(name, dims)
        except ValueError:
            return False
        return True

    return accepts


def drawn_dims(
    name: str, needed: Mapping[str, Any], optional: Mapping[str, Any] | None = None
) -> st.SearchStrategy[Dims]:
    return st.fixed_dictionaries(dict(needed), optional=dict(optional or {})).filter(
        is_accepted(name)
    )


FEW = st.integers(1, 3)
SIDE = st.integers(1, 9)
IMAGE = {"batch": FEW, "channels": FEW, "height": SIDE}
WINDOW = {**IMAGE, "kernel": st.integers(1, 4)}
MOVES = {"width": SIDE, "stride": st.integers(1, 5), "padding": st.integers(0, 2)}
TOKENS = {"batch": FEW, "tokens": SIDE, "features": SIDE}
DIMS = {
    "max_pool2d": drawn_dims("max_pool2d", WINDOW, MOVES),
    "avg_pool2d": drawn_dims("avg_pool2d", WINDOW, MOVES),
    "batch_norm": drawn_dims("batch_norm", IMAGE, {"width": SIDE}),
    "layer_norm": drawn_dims("layer_norm", TOKENS),
    "attention": drawn_dims("attention", {**TOKENS, "heads": FEW}, {"causal": st.integers(0, 1)}),
    "lstm": drawn_dims("lstm", {**TOKENS, "hidden": st.integers(1, 5)}),
}


def window(dims: Dims) -> dict[str, int]:
    kernel = dims["kernel"]
    return {
        "kernel": kernel,
        "stride": dims.get("stride", kernel),
        "padding": dims.get("padding", 0),
    }


OURS: Mapping[str, Callable[..., Any]] = {
    "max_pool2d": lambda xp, dims, x: max_pool2d(xp, x, **window(dims)),
    "avg_pool2d": lambda xp, dims, x: avg_pool2d(xp, x, **window(dims)),
    "batch_norm": lambda xp, dims, *arrays: batch_norm_training(xp, *arrays),
    "batch_norm_inference": lambda xp, dims, *arrays: batch_norm(xp, *arrays),
    "layer_norm": lambda xp, dims, *arrays: layer_norm(xp, *arrays),
    "attention": lambda xp, dims, *arrays: attention(xp, *arrays, causal=bool(dims.get("causal"))),
    "lstm": lambda xp, dims, *arrays: lstm(xp, *arrays),
}
"""Each operation as a function of a library, dimensions and arrays."""


def lstm_of_pytorch(x: Any, *weights: Any) -> Any:
    zero = torch.zeros(1, len(x), weights[1].shape[1], dtype=x.dtype, device=x.device)
    return torch.lstm(x, (zero, zero), weights, True, 1, 0.0, True, False, True)[0]


THEIRS: Mapping[str, Callable[..., Any]] = {
    "max_pool2d": lambda dims, x: functional.max_pool2d(x, *window(dims).values()),
    "avg_pool2d": lambda dims, x: functional.avg_pool2d(x, *window(dims).values()),
    "batch_norm": lambda dims, x, gain, bias: functional.batch_norm(
        x, None, None, gain, bias, training=True
    ),
    "batch_norm_inference": lambda dims, x, gain, bias, mean, variance: functional.batch_norm(
        x, mean, variance, gain, bias
    ),
    "layer_norm": lambda dims, x, gain, bias: functional.layer_norm(x, gain.shape, gain, bias),
    "attention": lambda dims, q, k, v: functional.scaled_dot_product_attention(
        q, k, v, is_causal=bool(dims.get("causal"))
    ),
    "lstm": lambda dims, *arrays: lstm_of_pytorch(*arrays),
}
"""The same in PyTorch's own functions."""

each_operation = pytest.mark.parametrize("name", OURS)
each_workload = pytest.mark.parametrize("name", NAMES)


def dims_of(operation: str) -> st.SearchStrategy[Dims]:
    return DIMS[operation.removesuffix("_inference")]


def arrays_of(operation: str, dims: Dims, seed: int) -> tuple[list[Any], Any]:
    """Return the arrays of the operation in float64, and dy."""
    workload = WORKLOADS[operation.removesuffix("_inference")]
    rng = np.random.default_rng(seed)
    if operation == "batch_norm_inference":
        arrays = list(workload.inputs(rng, dims))
        dy = rng.standard_normal(arrays[0].shape)
    else:
        make = workload.phases["backward"].inputs
        assert make is not None
        *arrays, dy = make(rng, dims)
    return [array.astype("float64") for array in arrays], np.asarray(dy, "float64")


def differentiable(operation: str, arrays: Sequence[Any]) -> int:
    """Return how many of the arrays have gradients: running statistics have none."""
    return 3 if operation == "batch_norm_inference" else len(arrays)


def has_enough_values(dims: Dims) -> bool:
    """Two values nearly alike have a variance that float32 does not know."""
    if "hidden" in dims or "heads" in dims or "kernel" in dims:
        return True
    if "features" in dims:
        return dims["features"] >= 6
    return dims["batch"] * dims["height"] * dims.get("width", dims["height"]) >= 6


PHASES = [(name, phase) for name in NAMES for phase in WORKLOADS[name].phases]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", [numpy_backend, torch_backend])
@pytest.mark.parametrize(("name", "phase"), PHASES)
def test_every_library_agrees_with_float64_at_any_size(
    name: str, phase: str, backend: Callable[[], Backend], dtype: str, tmp_path: Path
) -> None:
    """Called twice; in between the output is spoilt, so that each call must write all of it."""
    library, part = backend(), WORKLOADS[name].phases[phase]
    prepare = part.implementation(library.name)
    assert prepare is not None

    @settings(max_examples=25, deadline=None)
    @given(DIMS[name].filter(has_enough_values), st.integers(0, 1000))
    def agrees(dims: Dims, seed: int) -> None:
        drawn = draw(np, WORKLOADS[name], dims, phase, dtype, seed, tmp_path)
        inputs = [library.to_device(array) for array in read_arrays(Path(drawn.inputs))]
        expected = [np.asarray(a) for a in reference_arrays(drawn.reference.path)]
        scale = max(float(np.abs(array).max()) for array in expected)
        call = prepare(library.namespace, dims, *inputs)
        for _ in range(2):
            output = call()
            outputs = output if isinstance(output, (tuple, list)) else (output,)
            assert len(outputs) == len(expected)
            for got, wanted in zip(outputs, expected, strict=True):
                assert tuple(got.shape) == wanted.shape
                error = np.abs(np.asarray(library.to_float64(got)) - wanted).max()
                assert error <= LIMITS[dtype] * part.error_factor * max(1.0, scale)
                library.poison(got)

    agrees()


def reference_arrays(path: str) -> list[Any]:
    backend = numpy_backend()
    return [backend.reference(array) for array in read_arrays(Path(path))]


@each_workload
def test_an_output_has_the_dtype_of_its_inputs(name: str) -> None:
    dims = {**WORKLOADS[name].sizes[0].dims, "batch": 2}
    for phase in WORKLOADS[name].phases.values():
        make = phase.inputs or WORKLOADS[name].inputs
        assert phase.array is not None
        output = phase.array(np, dims, *make(np.random.default_rng(0), dims))()
        for array in output if isinstance(output, tuple) else (output,):
            assert array.dtype == "float32"


@each_operation
@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_outputs_and_gradients_are_those_of_autograd(
    name: str, data: st.DataObject, seed: int
) -> None:
    dims = data.draw(dims_of(name))
    arrays, dy = arrays_of(name, dims, seed)
    require_those_of_autograd(np, name, dims, arrays, dy)


def require_those_of_autograd(
    xp: Any, name: str, dims: Dims, arrays: Sequence[Any], dy: Any
) -> None:
    y, pullback = OURS[name](xp, dims, *arrays)
    gradients = pullback(dy)
    number = differentiable(name, arrays)
    tensors = [torch.from_numpy(array) for array in arrays]
    for tensor in tensors[:number]:
        tensor.requires_grad_()
    expected = THEIRS[name](dims, *tensors)
    wanted = torch.autograd.grad(expected, tensors[:number], torch.from_numpy(dy))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
    assert len(gradients) == len(arrays)
    assert all(gradient is None for gradient in gradients[number:])
    for array, gradient, exact in zip(arrays, gradients, wanted, strict=False):
        assert gradient.shape == array.shape
        np.testing.assert_allclose(gradient, exact.numpy(), rtol=1e-9, atol=1e-9)


STEP = 1e-5


@each_operation
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_gradients_are_the_limits_of_finite_differences(
    name: str, data: st.DataObject, seed: int
) -> None:
    dims = data.draw(dims_of(name))
    arrays, dy = arrays_of(name, dims, seed)
    rng = np.random.default_rng(seed)
    if name in ("max_pool2d", "batch_norm", "layer_norm"):
        # Far apart, so that no step changes which is the largest or nears a variance of zero.
        arrays[0] = rng.permutation(arrays[0].size).reshape(arrays[0].shape) / 4.0
    operation = OURS[name]
    gradients = operation(np, dims, *arrays)[1](dy)
    for place in range(differentiable(name, arrays)):
        direction = rng.standard_normal(arrays[place].shape)
        above, below = (
            (dy * operation(np, dims, *arrays[:place], moved, *arrays[place + 1 :])[0]).sum()
            for moved in (
                arrays[place] + STEP * direction,
                arrays[place] - STEP * direction,
            )
        )
        expected = (gradients[place] * direction).sum()
        assert (above - below) / (2 * STEP) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@each_operation
def test_a_pullback_can_be_called_again_and_leaves_its_inputs_alone(name: str) -> None:
    workload = WORKLOADS[name.removesuffix("_inference")]
    dims = {**workload.sizes[0].dims, "batch": 2}
    arrays, dy = arrays_of(name, dims, 0)
    before = [array.copy() for array in (*arrays, dy)]
    y, pullback = OURS[name](np, dims, *arrays)
    kept = y.copy()
    first = [None if array is None else array.copy() for array in pullback(dy)]
    for array in pullback(dy):
        if array is not None:
            array.fill(math.nan)
    for one, other in zip(first, pullback(dy), strict=True):
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other)
    assert np.array_equal(y, kept)
    assert all(map(np.array_equal, before, (*arrays, dy)))


# What CuPy runs, on NumPy: one block for everything, and chains that a fused kernel computes.
class Fusing:
    """NumPy with a `fuse` that does nothing."""

    def __init__(self) -> None:
        vars(self).update(vars(np))

    def fuse(self, kernel_name: str) -> Callable[[Any], Any]:
        assert kernel_name
        return lambda chain: chain


FUSING = Fusing()


@each_operation
@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_what_a_library_with_fused_kernels_runs_is_right_as_well(
    name: str, data: st.DataObject, seed: int
) -> None:
    dims = data.draw(dims_of(name))
    arrays, dy = arrays_of(name, dims, seed)
    require_those_of_autograd(FUSING, name, dims, arrays, dy)


@each_operation
@pytest.mark.parametrize("block_bytes", [1, 100, 1000])
@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_blocks_of_any_size_give_the_same(
    name: str, block_bytes: int, data: st.DataObject, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for file in (_fusing, _sums, attention_file):
            patch.setattr(file, "BLOCK_BYTES", block_bytes)
        dims = data.draw(dims_of(name))
        arrays, dy = arrays_of(name, dims, seed)
        require_those_of_autograd(np, name, dims, arrays, dy)


@settings(max_examples=100, deadline=None)
@given(dims=DIMS["max_pool2d"], seed=st.integers(0, 1000), levels=st.integers(1, 3))
def test_among_equal_maxima_the_first_of_a_window_gets_the_gradient_as_in_pytorch(
    dims: Dims, seed: int, levels: int
) -> None:
    (x,), dy = arrays_of("max_pool2d", dims, seed)
    few_values = np.random.default_rng(seed).integers(0, levels, x.shape).astype("float64")
    require_those_of_autograd(np, "max_pool2d", dims, [few_values], dy)


def test_of_a_window_of_zeros_the_upper_left_gets_the_gradient() -> None:
    x = np.zeros((1, 1, 2, 4), "float32")
    x[0, 0, 1, 3] = x[0, 0, 0, 3] = 1
    y, pullback = max_pool2d(np, x, kernel=2, stride=2)
    (dx,) = pullback(np.array([[[[3.0, 5.0]]]], "float32"))
    assert y.tolist() == [[[[0, 1]]]]
    assert dx.tolist() == [[[[3, 0, 0, 5], [0, 0, 0, 0]]]]


def test_padding_is_never_the_largest() -> None:
    x = np.full((1, 1, 2, 2), -7.0)
    y, pullback = max_pool2d(np, x, kernel=2, stride=1, padding=1)
    assert (y == -7).all()
    # Of the windows that overlap in the middle, each has one value that is its first.
    assert pullback(np.ones_like(y))[0].tolist() == [[[[4, 2], [2, 1]]]]


def test_a_nan_is_the_largest_and_stays_in_its_window() -> None:
    x = np.array([[[[1.0, math.nan, 3.0, 4.0]]]]).repeat(2, axis=2)
    y, pullback = max_pool2d(np, x, kernel=2, stride=2)
    assert math.isnan(y[0, 0, 0, 0])
    assert y[0, 0, 0, 1] == 4
    (dx,) = pullback(np.ones_like(y))
    assert dx[..., :2].sum() == dx[..., 2:].sum() == 1


def test_the_average_counts_the_padding() -> None:
    x = np.ones((1, 1, 2, 2))
    y, pullback = avg_pool2d(np, x, kernel=3, stride=1, padding=1)
    assert y == pytest.approx(np.full(y.shape, 4 / 9))
    assert pullback(np.ones_like(y))[0] == pytest.approx(np.full(x.shape, 4 / 9))


@settings(max_examples=30, deadline=None)
@given(batch=FEW, channels=FEW, height=SIDE, width=SIDE)
def test_a_global_average_is_the_mean_of_each_plane(
    batch: int, channels: int, height: int, width: int
) -> None:
    x = np.random.default_rng(0).standard_normal((batch, channels, height, width))
    y, pullback = global_avg_pool2d(np, x)
    np.testing.assert_allclose(y, x.mean(axis=(2, 3), keepdims=True), rtol=1e-12, atol=1e-12)
    (dx,) = pullback(y)
    np.testing.assert_allclose(dx, np.broadcast_to(y / (height * width), x.shape))


@pytest.mark.parametrize("value", [0.0, 3.0, 1000.0])
def test_a_constant_channel_is_normalized_to_its_bias(value: float) -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 3, 3))
    x[:, 1] = value
    gain, bias = np.array([2.0, 5.0]), np.array([1.0, -3.0])
    y, pullback = batch_norm_training(np, x, gain, bias)
    np.testing.assert_allclose(y[:, 1], -3, atol=1e-8)
    dy = np.random.default_rng(1).standard_normal(x.shape)
    _, dgain, dbias = pullback(dy)
    assert dgain[1] == pytest.approx(0, abs=1e-8)
    assert dbias[1] == pytest.approx(dy[:, 1].sum())
    require_those_of_autograd(np, "batch_norm", {}, [x, gain, bias], dy)


def test_batch_norm_of_a_channel_far_from_zero_does_not_cancel() -> None:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((4, 2, 8, 8)) + 1000
    x = exact.astype("float32")
    gain, bias = np.ones(2), np.zeros(2)
    wanted, _ = batch_norm_training(np, x.astype("float64"), gain, bias)
    y, _ = batch_norm_training(np, x, gain.astype("float32"), bias.astype("float32"))
    # float32 knows a number of 1000 to 6e-5; its square, less the squared mean, only to 0.06.
    assert np.abs(y - wanted).max() < 5e-4


def test_batch_norm_has_mean_zero_and_variance_one_per_channel() -> None:
    x = 3 * np.random.default_rng(0).standard_normal((8, 3, 5, 7)) + 2
    y, _ = batch_norm_training(np, x, np.ones(3), np.zeros(3))
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), 1, rtol=1e-4)


def test_a_token_of_equal_features_is_normalized_to_the_bias() -> None:
    x, bias = np.full((2, 3, 4), 7.0), np.arange(4.0)
    y, pullback = layer_norm(np, x, np.ones(4), bias)
    np.testing.assert_allclose(y, np.broadcast_to(bias, x.shape), atol=1e-12)
    require_those_of_autograd(
        np, "layer_norm", {}, [x, np.ones(4), bias], np.arange(24.0).reshape(2, 3, 4)
    )
    assert np.isfinite(pullback(x)[0]).all()


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_one_token_returns_its_value(causal: bool) -> None:
    q, k, v, dy = np.random.default_rng(0).standard_normal((4, 2, 3, 1, 5))
    y, pullback = attention(np, q, k, v, causal=causal)
    dq, dk, dv = pullback(dy)
    np.testing.assert_allclose(y, v)
    np.testing.assert_allclose(dv, dy)
    np.testing.assert_allclose(dq, 0, atol=1e-12)
    np.testing.assert_allclose(dk, 0, atol=1e-12)


def test_causal_attention_does_not_look_ahead() -> None:
    q, k, v, dy = np.random.default_rng(0).standard_normal((4, 1, 2, 6, 5))
    before, _ = attention(np, q, k, v, causal=True)
    k[:, :, 4:], v[:, :, 4:] = 100, -100
    after, pullback = attention(np, q, k, v, causal=True)
    assert np.array_equal(before[:, :, :4], after[:, :, :4])
    assert not np.allclose(before[:, :, 4:], after[:, :, 4:])
    dy[:, :, 4:] = 0
    assert not any(gradient[:, :, 4:].any() for gradient in pullback(dy))


def test_scores_whose_exponential_would_overflow_have_weights() -> None:
    q = k = np.full((1, 1, 3, 4), 100.0, "float32")
    v = np.arange(12, dtype="float32").reshape(1, 1, 3, 4)
    y, pullback = attention(np, q, k, v)
    np.testing.assert_allclose(y, np.broadcast_to(v.mean(axis=2, keepdims=True), v.shape))
    assert all(np.isfinite(gradient).all() for gradient in pullback(v))


def test_attention_takes_heads_that_are_views_of_a_projection() -> None:
    joint = np.random.default_rng(0).standard_normal((2, 6, 3, 4, 5))
    views = [joint[:, :, place].swapaxes(1, 2) for place in range(3)]
    dy = np.random.default_rng(1).standard_normal((2, 6, 4, 5)).swapaxes(1, 2)
    y, pullback = attention(np, *views, causal=True)
    copies = [view.copy() for view in views]
    expected, exact = attention(np, *copies, causal=True)
    np.testing.assert_allclose(y, expected)
    for found, wanted in zip(pullback(dy), exact(dy.copy()), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_an_lstm_is_its_equations() -> None:
    dims = {"batch": 2, "tokens": 4, "features": 3, "hidden": 5}
    (x, w, r, b_input, b_hidden), _ = arrays_of("lstm", dims, 0)
    h = c = np.zeros((2, 5))
    expected = []
    for t in range(4):
        i, f, g, o = np.split(x[:, t] @ w.T + h @ r.T + b_input + b_hidden, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        expected.append(h)
    y, _ = lstm(np, x, w, r, b_input, b_hidden)
    np.testing.assert_allclose(y, np.stack(expected, axis=1), rtol=1e-12, atol=1e-12)


def test_one_token_leaves_the_recurrent_weights_of_an_lstm_without_gradient() -> None:
    dims = {"batch": 3, "tokens": 1, "features": 2, "hidden": 4}
    arrays, dy = arrays_of("lstm", dims, 0)
    _, _, dr, db_input, db_hidden = lstm(np, *arrays)[1](dy)
    assert not dr.any()
    assert db_input.any()
    assert np.array_equal(db_input, db_hidden)
    assert not np.shares_memory(db_input, db_hidden)
    require_those_of_autograd(np, "lstm", dims, arrays, dy)


def test_saturated_gates_do_not_overflow() -> None:
    dims = {"batch": 2, "tokens": 3, "features": 2, "hidden": 4}
    arrays, dy = arrays_of("lstm", dims, 0)
    arrays = [1000 * array.astype("float32") for array in arrays]
    y, pullback = lstm(np, *arrays)
    assert np.abs(y).max() <= 1
    assert all(np.isfinite(gradient).all() for gradient in pullback(dy.astype("float32")))


@pytest.mark.parametrize("name", ["attention", "lstm"])
def test_products_cost_what_pytorch_counts(name: str) -> None:
    @settings(max_examples=30, deadline=None)
    @given(DIMS[name])
    def agree(dims: Dims) -> None:
        require_pytorch_count(name, dims)

    agree()


def require_pytorch_count(name: str, dims: Dims) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    arrays = WORKLOADS[name].inputs(np.random.default_rng(0), dims)
    tensors = [torch.empty(array.shape, device="meta", requires_grad=True) for array in arrays]
    counts = []
    for phase in ("forward", "backward"):
        with FlopCounterMode(display=False) as counter:
            if phase == "forward":
                y = THEIRS[name](dims, *tensors)
            else:
                y.backward(torch.empty_like(y))
        counts.append(counter.get_total_flops())
    assert [part.flops(dims) for part in WORKLOADS[name].phases.values() if part.flops] == counts


def test_costs_are_counted_as_documented() -> None:
    """At sizes small enough to count by hand."""
    pool = {"batch": 2, "channels": 3, "height": 4, "width": 6, "kernel": 2}
    image = {"batch": 2, "channels": 3, "height": 4}
    text = {"batch": 2, "tokens": 3, "features": 5}
    x, y = 2 * 3 * 4 * 6, 2 * 3 * 2 * 3
    lstm_weights = 4 * 7 * (5 + 7 + 2)
    found = {
        (name, phase): (part.flops(dims), part.bytes_moved(dims, 4))
        for name, dims in {
            "max_pool2d": pool,
            "avg_pool2d": pool,
            "batch_norm": image,
            "layer_norm": text,
            "attention": {**text, "heads": 7, "causal": 1},
            "lstm": {**text, "hidden": 7},
        }.items()
        for phase, part in WORKLOADS[name].phases.items()
        if part.flops and part.bytes_moved
    }
    assert found == {
        ("max_pool2d", "forward"): (4 * y, 4 * (x + y)),
        ("max_pool2d", "backward"): (y, 4 * (x + y)),
        ("avg_pool2d", "forward"): (4 * y, 4 * (x + y)),
        ("avg_pool2d", "backward"): (4 * y, 4 * (x + y)),
        ("batch_norm", "forward"): (2 * 96, 4 * (2 * 96 + 4 * 3)),
        ("batch_norm", "forward_training"): (6 * 96, 4 * (2 * 96 + 2 * 3)),
        ("batch_norm", "backward"): (8 * 96, 4 * (3 * 96 + 3 + 2 * 3)),
        ("layer_norm", "forward"): (7 * 30, 4 * (2 * 30 + 2 * 5)),
        ("layer_norm", "backward"): (14 * 30, 4 * (3 * 30 + 5 + 2 * 5)),
        ("attention", "forward"): (4 * 2 * 7 * 9 * 5, 4 * 4 * 210),
        ("attention", "backward"): (8 * 2 * 7 * 9 * 5, 4 * 7 * 210),
        ("lstm", "forward"): (2 * 6 * 12 * 28, 4 * (6 * 5 + lstm_weights + 6 * 7)),
        ("lstm", "backward"): (
            4 * 6 * 12 * 28 - 2 * 2 * 7 * 28,
            4 * (2 * 6 * 5 + 6 * 7 + (lstm_weights - 56) + lstm_weights),
        ),
    }


def test_a_causal_mask_saves_up_to_half() -> None:
    shortcut = WORKLOADS["attention"].phases["forward"].shortcut
    assert shortcut is not None
    dims = {"batch": 1, "heads": 1, "tokens": 3, "features": 1}
    assert shortcut(dims) == 1
    assert shortcut({**dims, "causal": 1}) == 9 / 6


@pytest.mark.parametrize(
    ("name", "dims", "why"),
    [
        ("max_pool2d", {"batch": 1, "channels": 1, "height": 4}, "give .*kernel"),
        ("max_pool2d", {"batch": 1, "channels": 1, "height": 4, "kernel": 5}, "larger than"),
        (
            "avg_pool2d",
            {"batch": 1, "channels": 1, "height": 4, "kernel": 2, "padding": 2},
            "at most half",
        ),
        ("avg_pool2d", {"batch": 0, "channels": 1, "height": 4, "kernel": 2}, "batch begins at 1"),
        (
            "avg_pool2d",
            {"batch": 1, "channels": 1, "height": 4, "kernel": 2, "padding": -1},
            "padding begins at 0",
        ),
        ("batch_norm", {"batch": 1, "channels": 2, "height": 1}, "no variance"),
        ("layer_norm", {"batch": 1, "tokens": 2, "features": 1}, "no variance"),
        ("attention", {"batch": 1, "tokens": 2, "features": 1}, "give .*heads"),
        (
            "attention",
            {"batch": 1, "heads": 1, "tokens": 2, "features": 1, "causal": 2},
            "causal is 0 to 1",
        ),
        ("lstm", {"batch": 1, "tokens": 2, "features": 1}, "give .*hidden"),
    ],
)
def test_a_size_that_is_none_is_refused(name: str, dims: Mapping[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        resized(name, dims)


@each_workload
def test_the_sizes_that_come_with_a_workload_are_accepted(name: str) -> None:
    for size in WORKLOADS[name].sizes:
        assert resized(name, size.dims) == size.dims


def test_the_layers_are_those_of_the_papers() -> None:
    found = {
        name: {size.label: dict(size.dims) for size in workload.sizes}
        for name, workload in WORKLOADS.items()
    }
    stem = {"batch": 32, "channels": 64, "height": 112, "kernel": 3, "stride": 2, "padding": 1}
    assert found["max_pool2d"]["resnet50.stem,batch=32"] == stem
    end = {"batch": 256, "channels": 2048, "height": 7, "kernel": 7}
    assert found["avg_pool2d"]["resnet50.global,batch=256"] == end
    bert = {"batch": 64, "heads": 12, "tokens": 128, "features": 64}
    assert found["attention"]["bert_base,batch=64"] == bert
    gpt2 = {"batch": 4, "heads": 12, "tokens": 1024, "features": 64, "causal": 1}
    assert found["attention"]["gpt2_small,batch=4"] == gpt2
    classifier = {"batch": 32, "tokens": 128, "features": 256, "hidden": 256}
    assert found["lstm"]["classifier,batch=32"] == classifier


def test_verification_finds_a_pooling_that_takes_the_wrong_maximum(tmp_path: Path) -> None:
    workload, backend = WORKLOADS["max_pool2d"], numpy_backend()
    dims = {"batch": 1, "channels": 2, "height": 8, "kernel": 2}
    drawn = draw(np, workload, dims, "forward", "float32", 0, tmp_path)
    (x,) = (backend.to_device(array) for array in read_arrays(Path(drawn.inputs)))
    right = max_pool2d(np, x, kernel=2, stride=2)[0]
    wrong = right.copy()
    wrong[0, 1, 2, 3] = x[0, 1, 4:6, 6:8].min()
    assert relative_error(backend, right, drawn.reference) == 0
    assert relative_error(backend, wrong, drawn.reference) > LIMITS["float32"]
