"""Networks on images: NumPy against PyTorch, what they cost, and what verification lets through."""

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.kernels.networks import _network, _pass, lenet5, mlp, resnet50, vgg16
from bench.kernels.networks._parameters import filled, leaves
from bench.kernels.networks._pass import Pass, Value
from bench.kernels.operations.conv2d import conv2d
from bench.kernels.operations.linear import linear
from bench.kernels.operations.relu import relu

from bench.backends.base import Backend
from bench.measuring.exchange import read_arrays
from bench.measuring.reference import Drawn, draw
from bench.measuring.verification import relative_error
from bench.workload import Dims
from tests.fakes import numpy_backend, torch_backend

torch = torch_backend().namespace

MODULES = {"lenet5": lenet5, "vgg16": vgg16, "resnet50": resnet50, "mlp": mlp}
NARROW_VGG = {"image": 32, "width": 4, "hidden": 16, "classes": 7}
NARROW_RESNET = {"image": 64, "width": 4, "classes": 7}
NARROW: Sequence[tuple[str, Mapping[str, int]]] = [
    ("lenet5", {"batch": 3}),
    *(
        ("vgg16", {"batch": 2, **NARROW_VGG, "norm": norm, "dropout": dropout})
        for norm in (0, 1)
        for dropout in (0, 1)
    ),
    *(("resnet50", {"batch": 2, **NARROW_RESNET, "norm": norm}) for norm in (0, 1)),
]
FULL = {
    "lenet5": {"batch": 2},
    "vgg16": {"batch": 2, "image": 64},
    "resnet50": {"batch": 2, "image": 96},
}
PHASES = ("forward", "forward_training", "backward", "training_step", "training_step_adam")

each_network = pytest.mark.parametrize(
    ("name", "given"), NARROW, ids=lambda part: part if isinstance(part, str) else None
)
each_phase = pytest.mark.parametrize("phase", PHASES)
each_name = pytest.mark.parametrize("name", FULL)


def completed(name: str, given: Mapping[str, int]) -> Dims:
    resize: Callable[[Mapping[str, int]], Dims] = MODULES[name].WORKLOAD.resize
    return resize(given)


def drawn_in_float64(name: str, dims: Dims) -> list[Any]:
    arrays = MODULES[name].WORKLOAD.inputs(np.random.default_rng(0), dims)
    return [array.astype("float64") if array.dtype.kind == "f" else array for array in arrays]


def both(name: str, given: Mapping[str, int], phase: str) -> list[Callable[[], list[Any]]]:
    """Return the calls of NumPy and of PyTorch on the same float64, with NumPy's outputs."""
    dims = completed(name, given)
    inputs = drawn_in_float64(name, dims)
    part = MODULES[name].WORKLOAD.phases[phase]
    assert part.array is not None
    assert part.torch is not None
    on_numpy = part.array(np, dims, *[array.copy() for array in inputs])
    on_torch = part.torch(torch, dims, *[torch.from_numpy(array.copy()) for array in inputs])
    return [lambda: listed(on_numpy()), lambda: listed(on_torch())]


def listed(output: Any) -> list[Any]:
    outputs = output if isinstance(output, (list, tuple)) else [output]
    return [array.copy() if hasattr(array, "copy") else array.numpy().copy() for array in outputs]


def require_equal(got: Sequence[Any], expected: Sequence[Any]) -> None:
    assert [array.shape for array in got] == [array.shape for array in expected]
    for one, other in zip(got, expected, strict=True):
        # The bias before a normalisation has a gradient of zero, but for rounding.
        assert np.linalg.norm(one - other) <= 1e-9 * max(1e-3, float(np.linalg.norm(other)))


@each_phase
@each_network
def test_numpy_agrees_with_pytorch_in_float64(
    name: str, given: Mapping[str, int], phase: str
) -> None:
    on_numpy, on_torch = both(name, given, phase)
    require_equal(on_numpy(), on_torch())


@pytest.mark.parametrize("phase", ["training_step", "training_step_adam"])
@pytest.mark.parametrize(
    ("name", "given"), [NARROW[0], NARROW[4], NARROW[6]], ids=["lenet5", "vgg16", "resnet50"]
)
def test_steps_that_learn_agree_with_the_optimizers_of_pytorch(
    name: str, given: Mapping[str, int], phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_network, "LEARNING_RATE", 1e-4)
    on_numpy, on_torch = both(name, given, phase)
    losses = []
    for _ in range(4):
        got, expected = on_numpy(), on_torch()
        # Each step is a little further from the other: the steps amplify how both round.
        for one, other in zip(got, expected, strict=True):
            assert np.linalg.norm(one - other) <= 1e-6 * max(1e-3, float(np.linalg.norm(other)))
        losses.append(float(got[0][0]))
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]


def test_without_a_learning_rate_every_step_computes_the_same() -> None:
    for call in both("lenet5", {"batch": 2}, "training_step_adam"):
        first, second = call(), call()
        assert all((one == other).all() for one, other in zip(first, second, strict=True))


def test_the_gradients_of_lenet_are_those_of_finite_differences() -> None:
    dims = {"batch": 2, "classes": 3}
    inputs = drawn_in_float64("lenet5", dims)
    prepare = lenet5.WORKLOAD.phases["training_step"].array
    assert prepare is not None
    _, *gradients = prepare(np, dims, *inputs)()
    x, labels, *parameters = inputs
    rng = np.random.default_rng(1)
    step = 1e-6
    for place, gradient in enumerate(gradients):
        direction = rng.standard_normal(gradient.shape)
        losses = []
        for sign in (1, -1):
            moved = list(parameters)
            moved[place] = moved[place] + sign * step * direction
            losses.append(float(prepare(np, dims, x, labels, *moved)()[0][0]))
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-5, abs=1e-7)


SHAPES = [
    {"kernel": 1, "stride": 1, "padding": 0},
    {"kernel": 1, "stride": 2, "padding": 0},
    {"kernel": 3, "stride": 1, "padding": 1},
    {"kernel": 3, "stride": 2, "padding": 1},
    {"kernel": 7, "stride": 2, "padding": 3},
]


@pytest.mark.parametrize("window", SHAPES, ids=lambda window: "{kernel}x{stride}".format(**window))
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_convolution_and_its_pullback_agree_with_autograd(
    window: Mapping[str, int], has_bias: bool
) -> None:
    rng = np.random.default_rng(0)
    options = {key: window[key] for key in ("stride", "padding")}
    x = rng.standard_normal((2, 3, 8, 10))
    w = rng.standard_normal((5, 3, window["kernel"], window["kernel"]))
    arrays = [x, w, *([rng.standard_normal(5)] if has_bias else [])]
    y, pullback = conv2d(np, *arrays, **options)
    tensors = [torch.from_numpy(array).requires_grad_() for array in arrays]
    expected = torch.nn.functional.conv2d(*tensors, **options)
    assert np.allclose(y, expected.detach().numpy())
    dy = rng.standard_normal(y.shape)
    gradients = torch.autograd.grad(expected, tensors, torch.from_numpy(dy))
    for _ in range(2):
        got = [gradient for gradient in pullback(dy) if gradient is not None]
        assert len(got) == len(arrays)
        assert all(np.allclose(*pair) for pair in zip(got, gradients, strict=True))


@pytest.mark.parametrize("operation", [linear, conv2d])
def test_what_a_network_reads_has_no_gradient(operation: Any) -> None:
    shapes = {linear: ((2, 3), (4, 3)), conv2d: ((2, 3, 5, 5), (4, 3, 3, 3))}[operation]
    x, w = (np.ones(shape) for shape in shapes)
    y, pullback = operation(np, x, w, input_gradient=False)
    dx, dw, _ = pullback(y)
    assert dx is None
    assert dw is not None
    told = []

    def spy(xp: Any, *arrays: Any, **options: Any) -> Any:
        told.append(options)
        return operation(xp, *arrays, **options)

    run = Pass(np, training=True)
    run(spy, Value(x), Value(w))
    run(spy, x, Value(w))
    assert told == [{}, {"input_gradient": False}]


def test_a_residual_adds_the_gradients_of_both_ways() -> None:
    rng = np.random.default_rng(0)
    x, w = Value(rng.standard_normal((2, 3))), Value(rng.standard_normal((3, 3)))
    run = Pass(np, training=True)
    y = run.add(run(relu, run(linear, x, w)), x)
    dy = rng.standard_normal((2, 3))
    passed = dy * (x.array @ w.array.T > 0)
    for _ in range(2):
        dx, dw = run.gradients(y, dy, [x, w])
        assert np.allclose(dx, dy + passed @ w.array)
        assert np.allclose(dw, passed.T @ x.array)


def test_a_value_added_to_itself_has_twice_the_gradient() -> None:
    x, dy = Value(np.ones((2, 2))), np.full((2, 2), 3.0)
    run = Pass(np, training=True)
    y = run.add(x, x)
    assert (run.gradients(y, dy, [x])[0] == 6).all()
    assert (dy == 3).all(), "gradients are never added up in place"


@pytest.mark.parametrize("training", [False, True])
def test_a_pass_keeps_what_pullbacks_keep_and_nothing_in_inference(training: bool) -> None:
    run = Pass(np, training=training)
    x, w = Value(np.ones((2, 3))), Value(np.ones((3, 3)))
    hidden = run(linear, x, w)
    active = run(relu, hidden)
    of_hidden, of_active = weakref.ref(hidden.array), weakref.ref(active.array)
    output = run(linear, active, w)
    del hidden, active
    assert of_hidden() is None, "the rectifier keeps its output alone"
    assert (of_active() is not None) is training
    assert output.array.shape == (2, 3)


def test_inference_goes_without_masks() -> None:
    run = Pass(np, masks=())
    x = Value(np.ones((2, 3)))
    assert run.drop(x) is x


# What it costs.


def test_resnet50_counts_what_everybody_counts() -> None:
    dims = completed("resnet50", {"batch": 1})
    assert resnet50.multiply_adds(dims) == 4_089_184_256
    flops = resnet50.WORKLOAD.phases["forward"].flops
    assert flops is not None
    assert flops(dims) == 8_178_368_512
    learned = [leaf for leaf in leaves(resnet50.declare(dims)) if leaf.learned]
    assert sum(math.prod(leaf.shape) for leaf in learned) == 25_557_032


def test_vgg16_has_138_million_parameters() -> None:
    dims = completed("vgg16", {"batch": 1})
    assert sum(math.prod(leaf.shape) for leaf in leaves(vgg16.declare(dims))) == 138_357_544
    assert vgg16.multiply_adds(dims) == 15_470_264_320


def test_lenet5_has_61706_parameters() -> None:
    dims = completed("lenet5", {})
    assert sum(math.prod(leaf.shape) for leaf in leaves(lenet5.declare(dims))) == 61_706


@pytest.mark.parametrize("is_step", [False, True])
@each_name
def test_the_costs_are_those_that_pytorch_counts(name: str, is_step: bool) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    dims = completed(name, FULL[name])
    x, labels = MODULES[name].draw(np.random.default_rng(0), dims)
    with torch.device("meta"):
        module = MODULES[name].module(torch, dims)
        x, labels = torch.empty(x.shape), torch.empty(labels.shape, dtype=torch.int64)
    phases = MODULES[name].WORKLOAD.phases
    flops = phases["training_step" if is_step else "forward"].flops
    assert flops is not None
    with FlopCounterMode(display=False) as counter:
        logits = module(x)
        if is_step:
            torch.nn.functional.cross_entropy(logits, labels).backward()
    assert counter.get_total_flops() == flops(dims)


@each_network
def test_the_parameters_are_in_the_order_of_pytorch(name: str, given: Mapping[str, int]) -> None:
    dims = completed(name, given)
    with torch.device("meta"):
        module = MODULES[name].module(torch, dims)
    declared = leaves(MODULES[name].declare(dims))
    learned = [leaf.shape for leaf in declared if leaf.learned]
    assert learned == [tuple(p.shape) for p in module.parameters()]
    buffers = [tuple(b.shape) for b in module.buffers() if b.is_floating_point()]
    assert [leaf.shape for leaf in declared if not leaf.learned] == buffers


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("vgg16", {"image": 100}, "multiple of 32"),
        ("vgg16", {"norm": 2}, "norm is 0 to 1"),
        ("resnet50", {"image": 32}, "64 or more"),
        ("resnet50", {"dropout": 1}, "give batch"),
        ("lenet5", {"image": 32}, "give batch"),
    ],
)
def test_a_size_that_is_no_such_network_is_refused(
    name: str, given: Mapping[str, int], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        completed(name, given)


@each_network
def test_activations_are_neither_lost_nor_overflow(name: str, given: Mapping[str, int]) -> None:
    dims = completed(name, given)
    for phase in ("forward", "forward_training"):
        prepare = MODULES[name].WORKLOAD.phases[phase].array
        assert prepare is not None
        logits = prepare(np, dims, *drawn_in_float64(name, dims))()
        assert 0.1 < np.abs(logits).mean() < 100


# What verification lets through.


def verified(
    backend: Backend, name: str, dims: Dims, phase: str, drawn: Drawn, dtype: str = "float32"
) -> tuple[float, float]:
    """Return the error and its limit, as in a run."""
    part = MODULES[name].WORKLOAD.phases[phase]
    prepare = part.implementation(backend.library)
    assert prepare is not None
    inputs = [backend.to_device(array) for array in read_arrays(Path(drawn.inputs))]
    call = prepare(backend.namespace, dims, *inputs)
    call()
    error = relative_error(backend, call(), drawn.reference)
    return error, drawn.reference.limit(dtype, part.error_factor)


@each_phase
@each_network
def test_both_libraries_are_verified_in_float32(
    name: str, given: Mapping[str, int], phase: str, tmp_path: Path
) -> None:
    dims = completed(name, given)
    drawn = draw(np, MODULES[name].WORKLOAD, dims, phase, "float32", 0, tmp_path)
    for backend in (numpy_backend(), torch_backend()):
        error, limit = verified(backend, name, dims, phase, drawn)
        assert 0 < error <= limit, backend.name
        assert limit <= 0.1


@pytest.mark.parametrize("phase", ["forward", "forward_training", "training_step"])
@each_network
def test_autocast_is_verified_in_bfloat16(
    name: str, given: Mapping[str, int], phase: str, tmp_path: Path
) -> None:
    dims = completed(name, given)
    drawn = draw(np, MODULES[name].WORKLOAD, dims, phase, "bfloat16", 0, tmp_path)
    error, limit = verified(torch_backend(), name, dims, phase, drawn, "bfloat16")
    assert 1e-4 < error <= limit < 1


@pytest.mark.parametrize("phase", ["forward", "training_step"])
@each_network
def test_the_channels_may_be_innermost(
    name: str, given: Mapping[str, int], phase: str, tmp_path: Path
) -> None:
    dims = completed(name, given)
    part = MODULES[name].WORKLOAD.phases[phase]
    drawn = draw(np, MODULES[name].WORKLOAD, dims, phase, "float32", 0, tmp_path)
    library = torch_backend()
    prepare = part.implementation("torch-cpu", "channels_last")
    assert prepare is not None
    inputs = [library.to_device(array) for array in read_arrays(Path(drawn.inputs))]
    error = relative_error(library, prepare(torch, dims, *inputs)(), drawn.reference)
    assert error <= drawn.reference.limit("float32", part.error_factor)


def spoilt(operation: Any, chosen: int, spoil: Callable[[Any, Any], Any]) -> Any:
    """Return `operation` whose call number `chosen` is spoilt."""
    calls = 0

    def other(xp: Any, *arrays: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == chosen:
            return spoil(operation, (xp, *arrays))(**options)
        return operation(xp, *arrays, **options)

    return other


def without_weight_gradient(operation: Any, given: Any) -> Any:
    def call(**options: Any) -> Any:
        y, pullback = operation(*given, **options)

        def other(dy: Any) -> Any:
            dx, dw, *rest = pullback(dy)
            return dx, 0 * dw, *rest

        return y, other

    return call


def without_bias(operation: Any, given: Any) -> Any:
    *others, bias = given
    return lambda **options: operation(*others, 0 * bias, **options)


FAULTS: Mapping[str, Any] = {
    "lenet5": ({"batch": 8}, lenet5, "conv2d", without_weight_gradient, "backward"),
    "vgg16": (dict(NARROW[1][1]), vgg16, "conv2d", without_weight_gradient, "training_step"),
    "resnet50": (dict(NARROW[6][1]), resnet50, "conv2d", without_weight_gradient, "backward"),
    "norm of vgg16": (
        dict(NARROW[3][1]),
        _pass,
        "batch_norm_training",
        without_bias,
        "training_step",
    ),
    "norm of resnet50": (
        dict(NARROW[6][1]),
        _pass,
        "batch_norm_training",
        without_bias,
        "forward_training",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_wrong_layer_is_found_out(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, where, operation, spoil, phase = FAULTS[fault]
    name = fault.rpartition(" ")[2]
    dims = completed(name, given)
    drawn = draw(np, MODULES[name].WORKLOAD, dims, phase, "float32", 0, tmp_path)
    monkeypatch.setattr(where, operation, spoilt(getattr(where, operation), 2, spoil))
    part = MODULES[name].WORKLOAD.phases[phase]
    assert part.array is not None
    library = numpy_backend()
    inputs = [library.to_device(array) for array in read_arrays(Path(drawn.inputs))]
    error = relative_error(library, part.array(np, dims, *inputs)(), drawn.reference)
    assert error > drawn.reference.limit("float32", part.error_factor)


def test_a_tree_is_filled_in_the_order_of_its_leaves() -> None:
    tree = resnet50.declare(completed("resnet50", NARROW_RESNET))
    numbers = filled(tree, iter(range(10_000)))
    assert leaves(numbers) == list(range(len(leaves(tree))))
