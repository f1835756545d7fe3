"""Dense layers: every library against float64, float64 against autograd and finite differences."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.kernels.operations import _fusing
from bench.kernels.operations._dims import complete
from bench.kernels.operations._fusing import blocks, elementwise, fused
from bench.kernels.operations.cross_entropy import cross_entropy
from bench.kernels.operations.dropout import draw_mask, dropout
from bench.kernels.operations.embedding import embedding
from bench.kernels.operations.gelu import gelu
from bench.kernels.operations.linear import linear
from bench.kernels.operations.relu import relu
from bench.kernels.operations.softmax import softmax
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import catalog
from bench.backends.base import Backend
from bench.measuring.exchange import HostArray, read_arrays
from bench.measuring.reference import draw
from bench.measuring.verification import LIMITS
from bench.workload import Dims
from tests.fakes import numpy_backend, torch_backend

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "cross_entropy": cross_entropy,
    "dropout": dropout,
    "embedding": embedding,
    "gelu": gelu,
    "linear": linear,
    "relu": relu,
    "softmax": softmax,
}
WORKLOADS = {name: catalog.workloads()[name] for name in OPERATIONS}
torch = torch_backend().namespace

SIDES = st.integers(1, 9)
TOKENS = st.integers(1, 5)


def dims_of(*needed: str, **optional: st.SearchStrategy[int]) -> st.SearchStrategy[Dims]:
    return st.fixed_dictionaries(dict.fromkeys(needed, SIDES), optional=optional)


DIMS = {
    "cross_entropy": dims_of("batch", "classes", tokens=TOKENS),
    "dropout": st.fixed_dictionaries(
        {"batch": SIDES, "features": SIDES, "percent": st.integers(0, 99)}
    ),
    "embedding": dims_of("batch", "tokens", "vocabulary", "features"),
    "gelu": dims_of("batch", "features", tanh=st.integers(0, 1)),
    "linear": dims_of("batch", "in_features", "out_features", tokens=TOKENS),
    "relu": dims_of("batch", "features"),
    "softmax": dims_of("batch", "columns", rows=TOKENS),
}

each_operation = pytest.mark.parametrize("name", OPERATIONS)
each_backend = pytest.mark.parametrize("backend", [numpy_backend, torch_backend])
each_phase = pytest.mark.parametrize("phase", ["forward", "backward"])


@each_phase
@each_backend
@each_operation
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_library_agrees_with_float64_at_any_size(
    name: str, backend: Callable[[], Backend], phase: str, dtype: str, tmp_path: Path
) -> None:
    """Called twice; in between the output is spoilt, so that each call must write all of it.

    Element by element: of few values, all may be small against the terms that they come from.
    """
    library, part = backend(), WORKLOADS[name].phases[phase]
    prepare = part.implementation(library.name)
    assert prepare is not None
    limit = LIMITS[dtype] * part.error_factor

    @settings(max_examples=25, deadline=None)
    @given(DIMS[name], st.integers(0, 1000))
    def agrees(dims: Dims, seed: int) -> None:
        drawn = draw(np, WORKLOADS[name], dims, phase, dtype, seed, tmp_path)
        expected = [
            numpy_backend().reference(array) for array in read_arrays(Path(drawn.reference.path))
        ]
        inputs = [library.to_device(array) for array in read_arrays(Path(drawn.inputs))]
        call = prepare(library.namespace, dims, *inputs)
        for _ in range(2):
            output = call()
            outputs = output if isinstance(output, (tuple, list)) else (output,)
            for got, wanted in zip(outputs, expected, strict=True):
                found = np.asarray(library.to_float64(got))
                np.testing.assert_allclose(found, wanted, rtol=limit, atol=limit)
                library.poison(got)

    agrees()


@each_operation
def test_an_output_has_the_dtype_of_its_inputs(name: str) -> None:
    for phase in WORKLOADS[name].phases.values():
        dims = WORKLOADS[name].sizes[0].dims
        make = phase.inputs or WORKLOADS[name].inputs
        inputs = make(np.random.default_rng(0), {**dims, "batch": 2})
        assert phase.array is not None
        output = phase.array(np, {**dims, "batch": 2}, *inputs)()
        for array in output if isinstance(output, tuple) else (output,):
            assert array.dtype == "float32"


def forward(name: str, dims: Dims) -> Callable[..., Any]:
    """Return the operation as a function of its arrays in float64 that returns y and a pullback."""
    options = {"tanh": bool(dims.get("tanh"))} if name == "gelu" else {}
    return lambda *arrays: OPERATIONS[name](np, *arrays, **options)


def as_in_pytorch(name: str, dims: Dims) -> Callable[..., Any]:
    """Return the same in PyTorch's own functions; dropout multiplies by a mask."""
    functional = torch.nn.functional
    form = "tanh" if dims.get("tanh") else "none"
    found: Mapping[str, Callable[..., Any]] = {
        "linear": functional.linear,
        "relu": functional.relu,
        "gelu": lambda x: functional.gelu(x, approximate=form),
        "softmax": lambda x: functional.softmax(x, dim=-1),
        "cross_entropy": functional.cross_entropy,
        "embedding": lambda w, ids: functional.embedding(ids, w),
        "dropout": lambda x, mask: x * mask,
    }
    return found[name]


def drawn_in_float64(name: str, dims: Dims, seed: int) -> tuple[list[Any], Any]:
    """Return the arrays of the operation, and dy."""
    make = WORKLOADS[name].phases["backward"].inputs
    assert make is not None
    *arrays, dy = make(np.random.default_rng(seed), dims)
    exact = [a.astype("float64") if a.dtype.kind == "f" else a for a in arrays]
    return exact, np.asarray(dy, "float64")


def differentiable(name: str, arrays: Sequence[Any]) -> list[int]:
    return [
        place
        for place, array in enumerate(arrays)
        if array.dtype.kind == "f" and not (name == "dropout" and place == 1)
    ]


@each_operation
@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_outputs_and_gradients_are_those_of_autograd(
    name: str, data: st.DataObject, seed: int
) -> None:
    dims = data.draw(DIMS[name])
    arrays, dy = drawn_in_float64(name, dims, seed)
    y, pullback = forward(name, dims)(*arrays)
    places = differentiable(name, arrays)
    tensors = [torch.from_numpy(array) for array in arrays]
    for place in places:
        tensors[place].requires_grad_()
    expected = as_in_pytorch(name, dims)(*tensors)
    wanted = torch.autograd.grad(
        expected, [tensors[place] for place in places], torch.from_numpy(dy)
    )
    gradients = pullback(dy)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    assert len(gradients) == len(arrays)
    assert [place for place, array in enumerate(gradients) if array is not None] == places
    for place, gradient in zip(places, wanted, strict=True):
        assert gradients[place].shape == arrays[place].shape
        np.testing.assert_allclose(gradients[place], gradient.numpy(), rtol=1e-9, atol=1e-9)


STEP = 1e-5  # central differences of float64 are then right to about 1e-10


@each_operation
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_gradients_are_the_limits_of_finite_differences(
    name: str, data: st.DataObject, seed: int
) -> None:
    dims = data.draw(DIMS[name])
    arrays, dy = drawn_in_float64(name, dims, seed)
    if name == "relu":
        arrays[0][np.abs(arrays[0]) < 10 * STEP] = 1  # there is no derivative at 0
    operation = forward(name, dims)
    gradients = operation(*arrays)[1](dy)
    rng = np.random.default_rng(seed)
    for place in differentiable(name, arrays):
        direction = rng.standard_normal(arrays[place].shape)
        moved = [
            (dy * operation(*arrays[:place], arrays[place] + step, *arrays[place + 1 :])[0]).sum()
            for step in (STEP * direction, -STEP * direction)
        ]
        difference = (moved[0] - moved[1]) / (2 * STEP)
        assert difference == pytest.approx((gradients[place] * direction).sum(), rel=1e-6, abs=1e-6)


@each_operation
def test_a_pullback_can_be_called_again_and_leaves_its_inputs_alone(name: str) -> None:
    dims = {**WORKLOADS[name].sizes[0].dims, "batch": 2}
    arrays, dy = drawn_in_float64(name, dims, 0)
    before = [array.copy() for array in (*arrays, dy)]
    y, pullback = forward(name, dims)(*arrays)
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


def normal_probability(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


@pytest.mark.parametrize(
    ("dtype", "forward_limit", "gradient_limit"),
    # 7.5e-8 of the formula times x, and the rounding of float32 in some twenty operations.
    [("float64", 1e-14, 1e-15), ("float32", 5e-7, 5e-7)],
)
def test_exact_gelu_is_exact_from_one_tail_to_the_other(
    dtype: str, forward_limit: float, gradient_limit: float
) -> None:
    x = np.linspace(-12, 12, 20_001).astype(dtype)
    y, pullback = gelu(np, x)
    (slope,) = pullback(np.ones_like(x))
    below = np.array([normal_probability(value) for value in x.tolist()])
    density = np.exp(-(x.astype("float64") ** 2) / 2) / math.sqrt(2 * math.pi)
    assert y.dtype == slope.dtype == dtype
    assert np.abs(y - x * below).max() < forward_limit
    assert np.abs(slope - (below + x * density)).max() < gradient_limit


@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_is_the_identity_far_to_the_right_and_zero_far_to_the_left(
    tanh: bool, dtype: str
) -> None:
    x = np.array([1e1, 1e2, 1e4, 1e8], dtype)
    (right, back), (left, back_left) = gelu(np, x, tanh=tanh), gelu(np, -x, tanh=tanh)
    np.testing.assert_allclose(right, x, rtol=1e-6)
    np.testing.assert_allclose(left, 0, atol=1e-6)
    np.testing.assert_allclose(back(np.ones_like(x))[0], 1, rtol=1e-6)
    np.testing.assert_allclose(back_left(np.ones_like(x))[0], 0, atol=1e-6)


@each_backend
@each_phase
def test_a_size_says_which_form_of_gelu_is_computed(
    backend: Callable[[], Backend], phase: str
) -> None:
    library = backend()
    prepare = WORKLOADS["gelu"].phases[phase].implementation(library.name)
    assert prepare is not None
    x: Any = np.linspace(-4, 4, 101)
    arrays = (x, np.ones_like(x)) if phase == "backward" else (x,)
    host = [HostArray(a.shape, "float64", memoryview(a).cast("B")) for a in arrays]
    for tanh in (0, 1):
        inputs = [library.to_device(array) for array in host]
        output = prepare(library.namespace, {"batch": 1, "features": 101, "tanh": tanh}, *inputs)()
        y, pullback = gelu(np, x, tanh=bool(tanh))
        expected = pullback(arrays[-1])[0] if phase == "backward" else y
        found = output[0] if phase == "backward" else output
        np.testing.assert_allclose(library.to_float64(found), expected, rtol=1e-12, atol=1e-12)


def test_the_two_forms_of_gelu_differ_by_less_than_a_thousandth() -> None:
    x = np.linspace(-6, 6, 1001)
    apart = np.abs(gelu(np, x)[0] - gelu(np, x, tanh=True)[0]).max()
    assert 1e-4 < apart < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_whose_exponential_would_overflow_have_a_softmax(dtype: str) -> None:
    x = np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -1e4, -1e4]], dtype)
    y, pullback = softmax(np, x)
    np.testing.assert_allclose(y[0], [1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0], rtol=1e-6)
    np.testing.assert_allclose(y[1], 1 / 3, rtol=1e-6)
    assert np.isfinite(pullback(np.ones_like(x))[0]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_whose_exponential_would_overflow_have_a_loss(dtype: str) -> None:
    logits = np.array([[1e4, 0, -1e4], [1e4, 0, -1e4]], dtype)
    loss, pullback = cross_entropy(np, logits, np.array([0, 2]))
    assert loss == pytest.approx(1e4)  # the mean of 0 and 2e4
    expected = np.array([[0, 0, 0], [0.5, 0, -0.5]])
    np.testing.assert_allclose(pullback(np.asarray(1, dtype))[0], expected, atol=1e-6)


def test_one_class_has_no_loss_and_a_softmax_of_one() -> None:
    logits = np.array([[3.0], [-2.0]])
    loss, pullback = cross_entropy(np, logits, np.array([0, 0]))
    assert loss == 0
    assert not pullback(1.0)[0].any()
    assert (softmax(np, logits)[0] == 1).all()


def test_equal_logits_lose_the_logarithm_of_the_number_of_classes() -> None:
    loss, _ = cross_entropy(np, np.zeros((5, 1000), "float32"), np.arange(5))
    assert loss == pytest.approx(math.log(1000))


def test_repeated_ids_add_up_and_the_rows_of_others_are_zero() -> None:
    for features in (3, 300):  # narrow and wide rows go different ways
        w = np.zeros((6, features), "float32")
        dy = np.arange(4 * features, dtype="float32").reshape(2, 2, features)
        (dw, none) = embedding(np, w, np.array([[5, 0], [5, 5]]))[1](dy)
        assert none is None
        assert np.array_equal(dw[5], dy[0, 0] + dy[1, 0] + dy[1, 1])
        assert np.array_equal(dw[0], dy[0, 1])
        assert not dw[1:5].any()


@settings(max_examples=30, deadline=None)
@given(
    ids=st.lists(st.integers(0, 4), min_size=1, max_size=20),
    features=st.sampled_from([1, 7, 255, 256, 300]),
)
def test_the_gradient_of_a_table_is_the_product_with_one_hot_rows(
    ids: list[int], features: int
) -> None:
    dy = np.random.default_rng(0).standard_normal((len(ids), features))
    one_hot = np.eye(5)[ids]
    dw = embedding(np, np.zeros((5, features)), np.array(ids))[1](dy)[0]
    np.testing.assert_allclose(dw, one_hot.T @ dy, rtol=1e-12, atol=1e-12)


def test_a_mask_of_zeros_drops_everything() -> None:
    x = np.ones((2, 3), "float32")
    y, pullback = dropout(np, x, np.zeros_like(x))
    assert not y.any()
    assert not pullback(x)[0].any()


def test_a_mask_drops_at_its_rate_and_keeps_the_mean() -> None:
    mask = draw_mask(np.random.default_rng(0), (1000, 1000), 0.1)
    assert mask.dtype == "float32"
    assert set(np.unique(mask).tolist()) == {0.0, float(np.float32(1 / 0.9))}
    assert (mask == 0).mean() == pytest.approx(0.1, rel=0.01)
    assert mask.mean(dtype="float64") == pytest.approx(1, rel=0.01)


def test_the_gradient_of_the_rectifier_is_zero_at_zero_as_in_pytorch() -> None:
    x = np.array([-1.0, -0.0, 0.0, 1.0])
    assert relu(np, x)[1](np.full(4, 5.0))[0].tolist() == [0, 0, 0, 5]


def test_a_linear_layer_takes_any_leading_axes_and_no_bias() -> None:
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(shape) for shape in ((2, 3, 4, 5), (6, 5), (2, 3, 4, 6)))
    y, pullback = linear(np, x, w)
    dx, dw, db = pullback(dy)
    np.testing.assert_allclose(y, x @ w.T)
    np.testing.assert_allclose(dx, dy @ w)
    np.testing.assert_allclose(dw, np.einsum("abco,abci->oi", dy, x))
    assert db is None


def test_tokens_are_drawn_as_frequent_as_words() -> None:
    workload = WORKLOADS["embedding"]
    dims = {"batch": 100, "tokens": 1000, "vocabulary": 1000, "features": 1}
    ids = workload.inputs(np.random.default_rng(0), dims)[1]
    assert ids.dtype == "int64"
    assert ids.min() == 0
    assert ids.max() == 999
    shares = np.bincount(ids.ravel(), minlength=1000) / ids.size
    # The token r is drawn with the probability log(1 + 1 / (r + 1)) / log(1001).
    assert shares[0] == pytest.approx(math.log(2) / math.log(1001), rel=0.05)
    assert shares[9] == pytest.approx(math.log(1.1) / math.log(1001), rel=0.1)


@settings(max_examples=30, deadline=None)
@given(dims=DIMS["linear"])
def test_a_linear_layer_costs_what_pytorch_counts(dims: Dims) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    workload = WORKLOADS["linear"]
    arrays = workload.inputs(np.random.default_rng(0), dims)
    tensors = [torch.empty(a.shape, device="meta", requires_grad=True) for a in arrays]
    counts = []
    for phase in ("forward", "backward"):
        with FlopCounterMode(display=False) as counter:
            if phase == "forward":
                y = torch.nn.functional.linear(*tensors)
            else:
                y.backward(torch.empty_like(y))
        counts.append(counter.get_total_flops())
    assert [part.flops(dims) for part in workload.phases.values() if part.flops] == counts


def test_costs_are_counted_as_documented() -> None:
    """At sizes small enough to count by hand."""
    small: Mapping[str, Dims] = {
        "linear": {"batch": 2, "tokens": 3, "in_features": 5, "out_features": 7},
        "relu": {"batch": 2, "features": 3},
        "gelu": {"batch": 2, "features": 3, "tanh": 1},
        "softmax": {"batch": 2, "rows": 3, "columns": 5},
        "cross_entropy": {"batch": 2, "tokens": 3, "classes": 5},
        "dropout": {"batch": 2, "features": 3, "percent": 10},
        "embedding": {"batch": 2, "tokens": 3, "vocabulary": 11, "features": 5},
    }
    x, w, b, y = 30, 35, 7, 42
    expected = {
        "linear": (2 * 6 * 5 * 7, 4 * (x + w + b + y), 4 * 6 * 5 * 7, 4 * (2 * x + 2 * w + b + y)),
        "relu": (6, 4 * 12, 6, 4 * 18),
        "gelu": (9 * 6, 4 * 12, 17 * 6, 4 * 18),
        "softmax": (5 * 30, 4 * 60, 4 * 30, 4 * 90),
        "cross_entropy": (4 * 30, 4 * 30, 3 * 30, 4 * 60),
        "dropout": (6, 4 * 18, 6, 4 * 18),
        "embedding": (None, 4 * 30 + 8 * 6, 30, 4 * (30 + 55) + 8 * 6),
    }
    for name, dims in small.items():
        found: list[int | None] = []
        for phase in WORKLOADS[name].phases.values():
            assert phase.bytes_moved is not None
            found += [phase.flops(dims) if phase.flops else None, phase.bytes_moved(dims, 4)]
        assert tuple(found) == expected[name], name


def test_the_sizes_are_those_of_the_networks() -> None:
    def dims(workload: str, label: str) -> Dims:
        return next(size.dims for size in WORKLOADS[workload].sizes if size.label == label)

    # BERT-base: 64 sequences of 128 tokens, 12 heads, 768 features, 3072 in the middle.
    assert dims("gelu", "bert_base.ffn,batch=64")["features"] == 128 * 3072
    assert dims("softmax", "bert_base.attention,batch=64")["rows"] == 12 * 128
    assert dims("embedding", "bert_base.words,batch=64")["vocabulary"] == 30522
    assert dims("linear", "bert_base.projection,batch=64")["in_features"] == 768
    # GPT-2 small uses the form of GELU with tanh, and has 50257 tokens.
    assert dims("gelu", "gpt2_small.ffn,batch=4")["tanh"] == 1
    assert dims("cross_entropy", "gpt2_small.vocabulary,batch=4")["classes"] == 50257
    # ResNet-50: 64 channels of 112 x 112 after the stem.
    assert dims("relu", "resnet50.stem,batch=32")["features"] == 64 * 112 * 112


@each_operation
def test_the_sizes_are_some_that_a_user_could_give(name: str) -> None:
    resize = WORKLOADS[name].resize
    assert resize is not None
    for size in WORKLOADS[name].sizes:
        assert resize(size.dims) == size.dims


@pytest.mark.parametrize(
    ("name", "dims", "reason"),
    [
        ("relu", {"batch": 2}, "give batch, features$"),
        ("relu", {"batch": 2, "features": 3, "n": 4}, "give batch, features$"),
        ("relu", {"batch": 0, "features": 3}, "batch begins at 1"),
        ("gelu", {"batch": 2, "features": 3, "tanh": 2}, "tanh is 0 to 1"),
        ("gelu", {"features": 3, "tanh": 1}, r"give batch, features \(and tanh\)"),
        ("dropout", {"batch": 2, "features": 3, "percent": 100}, "percent is 0 to 99"),
        ("linear", {"batch": 2, "in_features": 3}, "out_features"),
        ("linear", {"batch": 2, "in_features": 3, "out_features": 1, "tokens": 0}, "tokens begins"),
        ("softmax", {"columns": 2}, "give batch, columns"),
        ("cross_entropy", {"batch": 2}, "give batch, classes"),
        ("embedding", {"vocabulary": 2}, "give batch, tokens, vocabulary, features"),
    ],
)
def test_a_size_that_makes_no_sense_is_refused(
    name: str, dims: dict[str, int], reason: str
) -> None:
    resize = WORKLOADS[name].resize
    assert resize is not None
    with pytest.raises(ValueError, match=reason):
        resize(dims)


def test_a_tenth_is_dropped_where_the_user_says_nothing() -> None:
    resize = WORKLOADS["dropout"].resize
    assert resize is not None
    assert resize({"batch": 2, "features": 3}) == {"batch": 2, "features": 3, "percent": 10}
    assert complete({"batch": 2}, ["batch"], percent=range(100)) == {"batch": 2}


def _scaled(_xp: Any, x: Any, factor: Any, offset: Any) -> Any:
    return x * factor + offset


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    lengths=st.lists(st.booleans(), min_size=3, max_size=3),
    block=st.sampled_from([1, 8, 40, 100_000]),
)
def test_a_chain_gives_the_same_however_it_is_cut(
    shape: list[int], lengths: list[bool], block: int
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    broadcast = [n if long else 1 for n, long in zip(shape, lengths, strict=False)]
    factor, offset = rng.standard_normal(broadcast), np.asarray(0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fusing, "BLOCK_BYTES", block)
        found = elementwise(np, _scaled, x, factor, offset)
        whole = elementwise(np, _scaled, x, x, x)
        covered = [row for rows in blocks(np, x) for row in range(len(x))[rows]]
    assert np.array_equal(found, x * factor + offset)
    assert np.array_equal(whole, x * x + x)
    assert covered == list(range(len(x)))


class Fusing:
    """A namespace with `fuse`, as CuPy has it: counts what it compiles and what it is called."""

    def __init__(self) -> None:
        self.compiled: list[str] = []
        self.calls = 0

    def fuse(self, kernel_name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def compiling(chain: Callable[..., Any]) -> Callable[..., Any]:
            self.compiled.append(kernel_name)

            def kernel(*arrays: Any) -> Any:
                self.calls += 1
                return chain(*arrays)

            return kernel

        return compiling


def test_a_library_that_fuses_compiles_a_chain_once_and_calls_it_on_the_whole() -> None:
    xp, x = Fusing(), np.ones((300, 300))
    for _ in range(3):
        assert np.array_equal(elementwise(xp, _scaled, x, x, x), x + x)
    assert xp.compiled == ["_scaled"]
    assert xp.calls == 3
    assert fused(xp, _scaled) is fused(xp, _scaled)
    assert list(blocks(xp, x)) == [slice(0, 300)]
