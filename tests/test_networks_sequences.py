"""Networks over sequences: NumPy against PyTorch, finite differences and planted faults."""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.kernels.networks import gpt2, lstm_classifier, transformer
from bench.kernels.networks._parameters import count
from bench.kernels.networks._sequences import multi_head, packed_multi_head
from bench.kernels.operations.attention import attention
from bench.kernels.operations.gelu import gelu
from bench.kernels.operations.lstm import lstm

from bench.backends.base import Backend
from bench.measuring.exchange import read_arrays
from bench.measuring.reference import Drawn, draw
from bench.measuring.verification import relative_error
from bench.workload import Dims
from tests.fakes import numpy_backend, torch_backend

torch = torch_backend().namespace
flop_counter = importlib.import_module("torch.utils.flop_counter")

MODULES = {"lstm_classifier": lstm_classifier, "transformer": transformer, "gpt2": gpt2}
HEADS: Dims = {"batch": 3, "tokens": 5, "vocabulary": 11, "features": 8, "heads": 2, "layers": 2}
TINY: Mapping[str, Dims] = {
    "lstm_classifier": {
        "batch": 3,
        "tokens": 5,
        "vocabulary": 11,
        "features": 6,
        "hidden": 4,
        "layers": 2,
        "classes": 3,
    },
    "transformer": {**HEADS, "classes": 3},
    "gpt2": HEADS,
}
PHASES = ("forward", "forward_training", "backward", "training_step", "training_step_adam")

each_network = pytest.mark.parametrize("name", MODULES)
each_phase = pytest.mark.parametrize("phase", PHASES)
each_dropout = pytest.mark.parametrize("dropout", [0, 1])


def tiny(name: str, dropout: int = 0) -> Dims:
    """Return dimensions of which a test is soon through, as a user would give them."""
    resize = MODULES[name].WORKLOAD.resize
    assert resize is not None
    dims: Dims = resize({**TINY[name], "dropout": dropout})
    return dims


def quick(name: str) -> Dims:
    """Return the smallest dimensions that are timed."""
    return next(size.dims for size in MODULES[name].WORKLOAD.sizes if size.preset == "quick")


def drawn_in_float64(name: str, dims: Dims) -> list[Any]:
    arrays = MODULES[name].WORKLOAD.inputs(np.random.default_rng(0), dims)
    return [array.astype("float64") if array.dtype.kind == "f" else array for array in arrays]


def on_numpy(name: str, phase: str, dims: Dims, inputs: Sequence[Any]) -> list[Any]:
    prepare = MODULES[name].WORKLOAD.phases[phase].array
    assert prepare is not None
    return listed(prepare(np, dims, *inputs)())


def on_torch(name: str, phase: str, dims: Dims, inputs: Sequence[Any]) -> list[Any]:
    prepare = MODULES[name].WORKLOAD.phases[phase].torch
    assert prepare is not None
    return [
        output.detach().numpy()
        for output in listed(prepare(torch, dims, *[torch.from_numpy(x.copy()) for x in inputs])())
    ]


def listed(output: Any) -> list[Any]:
    return list(output) if isinstance(output, (list, tuple)) else [output]


@each_dropout
@each_phase
@each_network
def test_numpy_agrees_with_pytorch_in_float64(name: str, phase: str, dropout: int) -> None:
    dims = tiny(name, dropout)
    inputs = drawn_in_float64(name, dims)
    got, expected = on_numpy(name, phase, dims, inputs), on_torch(name, phase, dims, inputs)
    assert [array.shape for array in got] == [array.shape for array in expected]
    largest = max(np.linalg.norm(array) for array in expected)
    for one, other in zip(got, expected, strict=True):
        # The bias of keys has a gradient of zero, but for rounding.
        assert np.linalg.norm(one - other) <= 1e-9 * max(np.linalg.norm(other), 1e-3 * largest)


@each_network
def test_there_is_an_output_for_every_label_and_a_gradient_for_every_parameter(name: str) -> None:
    dims = tiny(name, dropout=1)
    network = MODULES[name].NETWORK
    inputs = drawn_in_float64(name, dims)
    (logits,) = on_numpy(name, "forward", dims, inputs)
    assert len(logits) == len(inputs[1])
    gradients = on_numpy(name, "backward", dims, inputs)
    assert sum(gradient.size for gradient in gradients) == count(network.declare(dims))
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


@each_network
def test_dropout_changes_training_and_not_inference(name: str) -> None:
    dims = tiny(name, dropout=1)
    inputs = drawn_in_float64(name, dims)
    kept = [*inputs]
    masks = len(MODULES[name].NETWORK.masks(np.random.default_rng(0), dims))
    assert masks > 0
    for place in range(2, 2 + masks):
        kept[place] = np.ones_like(inputs[place])
    for phase, same in (("forward", True), ("forward_training", False)):
        (dropped,), (whole,) = (on_numpy(name, phase, dims, given) for given in (inputs, kept))
        assert np.array_equal(dropped, whole) is same
    (inference,) = on_numpy(name, "forward", dims, inputs)
    assert np.allclose(inference, on_numpy(name, "forward_training", dims, kept)[0], rtol=1e-12)


@each_network
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    dims = tiny(name, dropout=1)
    inputs = drawn_in_float64(name, dims)
    _, *gradients = on_numpy(name, "training_step", dims, inputs)
    rng = np.random.default_rng(1)
    step = 1e-5
    before = len(inputs) - len(gradients)
    for place, gradient in enumerate(gradients, start=before):
        direction = rng.standard_normal(gradient.shape)
        losses = []
        for sign in (1, -1):
            moved = [*inputs]
            moved[place] = inputs[place] + sign * step * direction
            losses.append(float(on_numpy(name, "training_step", dims, moved)[0][0]))
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-4, abs=1e-7)


def drawn(name: str, phase: str, dims: Dims, dtype: str, folder: Path) -> Drawn:
    return draw(np, MODULES[name].WORKLOAD, dims, phase, dtype, 0, folder)


def times_the_limit(
    backend: Backend, name: str, phase: str, dims: Dims, case: Drawn, dtype: str = "float32"
) -> float:
    """Return the error as it is verified in a run, in units of its limit."""
    part = MODULES[name].WORKLOAD.phases[phase]
    prepare = part.implementation(backend.library)
    assert prepare is not None
    inputs = [backend.to_device(array) for array in read_arrays(Path(case.inputs))]
    call = prepare(backend.namespace, dims, *inputs)
    call()
    error = relative_error(backend, call(), case.reference)
    return error / case.reference.limit(dtype, part.error_factor)


@each_phase
@each_network
def test_verification_accepts_numpy_and_pytorch_in_float32(
    name: str, phase: str, tmp_path: Path
) -> None:
    dims = {**quick(name), "dropout": 1}
    case = drawn(name, phase, dims, "float32", tmp_path)
    for backend in (numpy_backend(), torch_backend()):
        assert times_the_limit(backend, name, phase, dims, case) <= 1


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("phase", ["forward", "backward", "training_step"])
@each_network
def test_verification_accepts_pytorch_in_other_types(
    name: str, phase: str, dtype: str, tmp_path: Path
) -> None:
    dims = {**quick(name), "dropout": 1, "batch": 2}
    case = drawn(name, phase, dims, dtype, tmp_path)
    assert times_the_limit(torch_backend(), name, phase, dims, case, dtype) <= 1


Operation = Callable[..., tuple[Any, Callable[[Any], tuple[Any, ...]]]]


def unmasked(xp: Any, qkv: Any, *, heads: int, causal: bool) -> Any:
    """Leave out the causal mask."""
    assert causal
    return packed_multi_head(xp, qkv, heads=heads)


def other_slope(xp: Any, x: Any, *, tanh: bool = False) -> Any:
    """Go back through the other form of GELU, whose slope is within a thousandth of the right."""
    return gelu(xp, x, tanh=tanh)[0], gelu(xp, x, tanh=not tanh)[1]


def too_small(xp: Any, x: Any, *weights: Any) -> Any:
    """Return a thousandth too little for the weights of the recurrence."""
    y, back = lstm(xp, x, *weights)

    def pullback(dy: Any) -> tuple[Any, ...]:
        dx, dw_input, dw_hidden, *biases = back(dy)
        return dx, dw_input, dw_hidden * 0.999, *biases

    return y, pullback


FAULTS: Mapping[str, tuple[str, str, Operation, Sequence[str]]] = {
    "no causal mask": ("gpt2", "packed_multi_head", unmasked, PHASES),
    "wrong slope in GPT-2": ("gpt2", "gelu", other_slope, PHASES[2:]),
    "wrong slope in BERT": ("transformer", "gelu", other_slope, PHASES[2:]),
    "wrong recurrence": ("lstm_classifier", "lstm", too_small, PHASES[2:]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verification_rejects_a_planted_fault(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, replaced, planted, phases = FAULTS[fault]
    dims = {**quick(name), "batch": 2}
    cases = {phase: drawn(name, phase, dims, "float32", tmp_path / phase) for phase in phases}
    monkeypatch.setattr(MODULES[name], replaced, planted)
    for phase, case in cases.items():
        assert times_the_limit(numpy_backend(), name, phase, dims, case) > 1


@pytest.mark.parametrize("run", [on_numpy, on_torch])
@pytest.mark.parametrize("phase", ["forward", "forward_training"])
def test_a_decoder_does_not_see_later_tokens(run: Callable[..., list[Any]], phase: str) -> None:
    dims = tiny("gpt2")
    inputs = drawn_in_float64("gpt2", dims)
    other = [*inputs]
    other[0] = inputs[0].copy()
    other[0][:, 3:] = (other[0][:, 3:] + 1) % dims["vocabulary"]
    logits, changed = (
        run("gpt2", phase, dims, given)[0].reshape(dims["batch"], dims["tokens"], -1)
        for given in (inputs, other)
    )
    assert np.allclose(logits[:, :3], changed[:, :3], rtol=1e-12)
    assert not np.isclose(logits[:, 3:], changed[:, 3:]).all(axis=-1).any()


def test_the_label_of_a_token_is_the_next_one() -> None:
    dims = tiny("gpt2")
    ids, labels = gpt2.draw(np.random.default_rng(0), dims)
    after = labels.reshape(dims["batch"], dims["tokens"])
    assert np.array_equal(ids[:, 1:], after[:, :-1])


@pytest.mark.parametrize("causal", [False, True])
def test_heads_attend_each_for_itself(causal: bool) -> None:
    rng = np.random.default_rng(0)
    q, k, v, dy = (rng.standard_normal((2, 5, 6)) for _ in range(4))
    y, pullback = multi_head(np, q, k, v, heads=3, causal=causal)
    gradients = pullback(dy)
    for head in range(3):
        own = slice(2 * head, 2 * head + 2)
        alone, back = attention(np, *(x[:, None, :, own] for x in (q, k, v)), causal=causal)
        assert np.allclose(y[..., own], alone[:, 0])
        for gradient, expected in zip(gradients, back(dy[:, None, :, own]), strict=True):
            assert np.allclose(gradient[..., own], expected[:, 0])
    packed, back = packed_multi_head(np, np.concatenate((q, k, v), -1), heads=3, causal=causal)
    assert np.array_equal(packed, y)
    (gradient,) = back(dy)
    assert np.array_equal(gradient, np.concatenate(gradients, -1))


SIZES = [(name, size) for name, module in MODULES.items() for size in module.WORKLOAD.sizes]


@pytest.mark.parametrize(("name", "size"), SIZES, ids=lambda part: getattr(part, "label", part))
def test_multiply_adds_are_those_that_pytorch_counts(name: str, size: Any) -> None:
    network = MODULES[name].NETWORK
    dims = {**size.dims, "dropout": 0}
    with torch.device("meta"):
        module = network.module(torch, dims).eval()
        ids = torch.zeros((dims["batch"], dims["tokens"]), dtype=torch.int64)
    counter = flop_counter.FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(ids)
    assert 2 * network.multiply_adds(dims) == counter.get_total_flops()
    shapes = [tuple(parameter.shape) for parameter in module.parameters()]
    assert sum(math.prod(shape) for shape in shapes) == count(network.declare(dims))


def test_the_networks_have_as_many_parameters_as_published() -> None:
    sizes = {(name, size.label): size.dims for name, size in SIZES}
    small = sizes["gpt2", "gpt2_small,batch=1"]
    assert count(gpt2.NETWORK.declare(small)) == 124_439_808
    base = sizes["transformer", "bert_base,batch=8"]
    # The published one has 512 positions, two segments, and no classifier.
    rest = (512 - 128 + 2) * 768 - (768 + 1) * 2
    assert count(transformer.NETWORK.declare(base)) + rest == 109_482_240


@pytest.mark.parametrize("name", ["transformer", "gpt2"])
def test_heads_that_do_not_divide_the_features_are_refused(name: str) -> None:
    resize = MODULES[name].WORKLOAD.resize
    assert resize is not None
    with pytest.raises(ValueError, match="heads divides features"):
        resize({"features": 8, "heads": 3})


def test_training_counts_three_products_for_each_one_forward() -> None:
    # Nothing is saved in the first layer: an embedding multiplies nothing.
    for name, module in MODULES.items():
        flops = {phase: module.WORKLOAD.phases[phase].flops for phase in PHASES}
        dims = quick(name)
        assert flops["forward"] is not None
        assert flops["training_step"] is not None
        assert flops["training_step"](dims) == 3 * flops["forward"](dims)
