"""Convolutions: every library against float64, float64 against the definition, and the layers."""

import itertools
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.kernels.operations import _conv2d_array, conv2d
from bench.kernels.operations._conv2d_shape import shape_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import catalog
from bench.backends.base import Backend
from bench.measuring import reference
from bench.measuring.exchange import HostArray, read_arrays
from bench.measuring.verification import LIMITS, relative_error, require_right
from bench.workload import Dims, Phase, Size
from tests.fakes import numpy_backend, torch_backend

WORKLOAD = catalog.workloads()["conv2d"]
PHASES = WORKLOAD.phases
GRADIENTS = ("input_gradient", "weight_gradient")
WAYS: dict[str, tuple[Callable[[], Backend], str | None]] = {
    "numpy": (numpy_backend, None),
    "torch": (torch_backend, None),
    "torch+channels_last": (torch_backend, "channels_last"),
}

each_phase = pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
each_way = pytest.mark.parametrize("way", WAYS)
each_backend = pytest.mark.parametrize("backend", [numpy_backend, torch_backend])


def is_convolution(dims: Dims) -> bool:
    try:
        resize(dims)
    except ValueError:
        return False
    return True


def resize(dims: Dims) -> Dims:
    assert WORKLOAD.resize is not None
    return WORKLOAD.resize(dims)


def dims_of(
    batch: int = 4, side: int = 9, channels: int = 3, groups: int = 3
) -> st.SearchStrategy[Dims]:
    """Draw dimensions up to these: equal and unequal ones, strides that skip inputs, padding
    wider than the kernel, kernels larger than the image."""
    needed = {
        "batch": st.integers(1, batch),
        "in_channels": st.integers(1, channels),
        "out_channels": st.integers(1, channels),
        "height": st.integers(1, side),
        "kernel": st.integers(1, 4),
    }
    optional = {
        "width": st.integers(1, side),
        "kernel_width": st.integers(1, 4),
        "padding": st.integers(0, 3),
        "padding_width": st.integers(0, 3),
        "stride": st.integers(1, 4),
        "dilation": st.integers(1, 3),
        "groups": st.integers(1, groups),
    }

    def widened(dims: dict[str, int]) -> Dims:
        times = dims.get("groups", 1)
        channels = {name: times * dims[name] for name in ("in_channels", "out_channels")}
        return {**dims, **channels}

    return st.fixed_dictionaries(needed, optional=optional).map(widened).filter(is_convolution)


CONSTANTS = st.fixed_dictionaries(
    {
        "COLUMNS": st.sampled_from([1, 40, _conv2d_array.COLUMNS]),
        "WORKSPACE_BYTES": st.sampled_from([1, 2000, _conv2d_array.WORKSPACE_BYTES]),
        "SCATTERED": st.sampled_from([0, 1, 100]),
    }
)
"""Images alone and together, bands of one row and of many, patches always and never scattered."""


def drawn(phase: Phase, dims: Dims, dtype: str = "float64") -> list[Any]:
    make = phase.inputs or WORKLOAD.inputs
    return [array.astype(dtype) for array in make(np.random.default_rng(7), dims)]


def there(backend: Backend, arrays: list[Any]) -> list[Any]:
    """Return copies that the backend's library owns."""
    hosts = [HostArray(a.shape, a.dtype.name, memoryview(a).cast("B")) for a in arrays]
    return [backend.to_device(host) for host in hosts]


def exact(phase: Phase, dims: Dims, arrays: list[Any]) -> Any:
    assert phase.reference is not None
    return phase.reference(np, dims, *(array.astype("float64") for array in arrays))


def require_agreement(
    phase: Phase, dims: Dims, arrays: list[Any], backend: Backend, output: Any
) -> None:
    """Compare element by element; an error is as large as the sum without its cancellations."""
    expected = exact(phase, dims, arrays)
    scale = exact(phase, dims, [np.abs(array) for array in arrays]).max()
    assert tuple(output.shape) == expected.shape
    error = np.abs(np.asarray(backend.to_float64(output)) - expected).max()
    assert error <= LIMITS[arrays[0].dtype.name] * scale


def require_agreement_twice(phase: Phase, dims: Dims, dtype: str, way: str) -> None:
    """Call twice; in between the output is spoilt, so that each call must write all of it."""
    make, variant = WAYS[way]
    backend = make()
    prepare = phase.implementation(backend.library, variant)
    assert prepare is not None
    arrays = drawn(phase, dims, dtype)
    call = prepare(backend.namespace, dims, *there(backend, arrays))
    for _ in range(2):
        output = call()
        require_agreement(phase, dims, arrays, backend, output)
        backend.poison(output)


DTYPE = st.sampled_from(["float32", "float64"])


@each_phase
@settings(max_examples=400, deadline=None)
@given(dims=dims_of(), dtype=DTYPE, constants=CONSTANTS)
def test_numpy_agrees_with_float64_however_its_work_is_cut(
    phase: Phase, dims: Dims, dtype: str, constants: dict[str, int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(_conv2d_array, name, value)
        require_agreement_twice(phase, dims, dtype, "numpy")


@pytest.mark.parametrize("way", ["torch", "torch+channels_last"])
@each_phase
@settings(max_examples=100, deadline=None)
@given(dims=dims_of(), dtype=DTYPE)
def test_torch_agrees_with_float64(phase: Phase, way: str, dims: Dims, dtype: str) -> None:
    require_agreement_twice(phase, dims, dtype, way)


LAYERS = {
    "as_in_resnet": {"in_channels": 8, "out_channels": 16, "height": 14, "kernel": 3, "padding": 1},
    "one_image_is_columns_enough": {"height": 40, "width": 41, "kernel": 3},
    "strided_point": {"in_channels": 8, "height": 14, "kernel": 1, "stride": 2},
    "stem": {"height": 30, "kernel": 7, "stride": 2, "padding": 3},
    "depthwise": {"in_channels": 8, "out_channels": 8, "height": 9, "kernel": 3, "groups": 8},
    "wider_padding_than_kernel": {"height": 7, "kernel": 1, "stride": 2, "padding": 3},
    "one_row": {"height": 1, "width": 60, "kernel": 1, "kernel_width": 9, "padding_width": 4},
    "nothing_but_padding": {"height": 3, "width": 5, "kernel": 2, "padding": 3, "stride": 10},
}


@each_way
@each_phase
@pytest.mark.parametrize("layer", LAYERS)
def test_every_library_computes_what_layers_look_like(layer: str, phase: Phase, way: str) -> None:
    dims = resize({"batch": 3, "in_channels": 2, "out_channels": 4, **LAYERS[layer]})
    require_agreement_twice(phase, dims, "float32", way)


@pytest.mark.parametrize("way", ["numpy", "torch"])
@each_phase
@settings(max_examples=40, deadline=None)
@given(dims=dims_of())
def test_a_call_computes_anew_from_its_inputs(phase: Phase, way: str, dims: Dims) -> None:
    """Whatever depends on the inputs' values is timed, the reordering of the weights too."""
    backend = WAYS[way][0]()
    prepare = phase.implementation(backend.library)
    assert prepare is not None
    arrays = drawn(phase, dims)
    inputs = there(backend, arrays)
    call = prepare(backend.namespace, dims, *inputs)
    call()
    for array, held in zip(arrays, inputs, strict=True):
        array += 1
        held += 1
    require_agreement(phase, dims, arrays, backend, call())


def test_channels_last_hands_over_arrays_with_the_channels_innermost() -> None:
    torch = torch_backend().namespace
    handed: list[Any] = []
    prepare = conv2d.channels_last(lambda library, dims, *arrays: handed.extend(arrays))
    given_arrays = [torch.rand(2, 3, 4, 5), torch.rand(6, 3, 2, 2)]
    prepare(torch, {}, *given_arrays)
    for before, after in zip(given_arrays, handed, strict=True):
        assert after.stride()[1] == 1
        assert torch.equal(before, after)


def by_definition(dims: Dims, x: Any, w: Any) -> Any:
    """Loop over everything, as the formula of the operation has it."""
    stride, dilation, groups = (dims.get(name, 1) for name in ("stride", "dilation", "groups"))
    above = dims.get("padding", 0)
    left = dims.get("padding_width", above)
    padded = np.pad(x, [(0, 0), (0, 0), (above, above), (left, left)])
    tops, lefts = (
        range(0, padded.shape[axis] - dilation * (w.shape[axis] - 1), stride) for axis in (2, 3)
    )
    y = np.zeros((x.shape[0], w.shape[0], len(tops), len(lefts)))
    for n, k, i, j in np.ndindex(y.shape):
        first = k // (w.shape[0] // groups) * w.shape[1]
        for c, a, b in np.ndindex(w.shape[1:]):
            pixel = padded[n, first + c, tops[i] + dilation * a, lefts[j] + dilation * b]
            y[n, k, i, j] += w[k, c, a, b] * pixel
    return y


@settings(max_examples=100, deadline=None)
@given(dims=dims_of(batch=2, side=6, channels=2))
def test_the_reference_is_the_definition(dims: Dims) -> None:
    x, w = drawn(PHASES["forward"], dims)
    expected = by_definition(dims, x, w)
    found = exact(PHASES["forward"], dims, [x, w])
    assert found.shape == expected.shape == shape_of(dims).y
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", GRADIENTS)
@settings(max_examples=40, deadline=None)
@given(dims=dims_of(batch=2, side=5, channels=2, groups=2))
def test_a_reference_gradient_is_that_of_finite_differences(name: str, dims: Dims) -> None:
    x, w = drawn(PHASES["forward"], dims)
    dy, _ = drawn(PHASES["input_gradient"], dims)
    varied, inputs = (x, [dy, w]) if name == "input_gradient" else (w, [x, dy])

    def sum_of_y_dy() -> float:
        return float((exact(PHASES["forward"], dims, [x, w]) * dy).sum())

    # Linear in what is varied, so that differences are exact for steps of any length.
    slopes = np.empty_like(varied)
    for place in np.ndindex(varied.shape):
        sums = []
        for step in (1.0, -2.0):
            varied[place] += step
            sums.append(sum_of_y_dy())
        varied[place] += 1.0
        slopes[place] = (sums[0] - sums[1]) / 2
    gradient = exact(PHASES[name], dims, inputs)
    assert gradient.shape == varied.shape
    assert np.allclose(gradient, slopes, rtol=1e-10, atol=1e-10)


@each_phase
@settings(max_examples=40, deadline=None)
@given(dims=dims_of(groups=2))
def test_a_projection_is_the_output_with_its_channels_multiplied(phase: Phase, dims: Dims) -> None:
    assert phase.projection is not None
    inputs = drawn(phase, dims)
    check = phase.projection(np, np.random.default_rng(0), dims, *inputs)
    if dims.get("groups", 1) > 1:
        assert check is None
        return
    assert check is not None
    axis = check.axis
    projected = (exact(phase, dims, inputs).swapaxes(axis, -1) @ check.vectors).swapaxes(axis, -1)
    assert projected.shape == check.expected.shape
    assert np.allclose(projected, check.expected, rtol=1e-10, atol=1e-10)


SAMPLED = {"batch": 2, "in_channels": 5, "out_channels": 7, "height": 6, "width": 9, "kernel": 3}


@each_backend
@pytest.mark.parametrize("name", PHASES)
def test_one_wrong_element_of_a_huge_output_is_found(
    name: str, backend: Callable[[], Backend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "LARGE_FLOPS", 0)
    found = reference.draw(np, WORKLOAD, SAMPLED, name, "float32", 0, tmp_path)
    assert (found.reference.kind, found.reference.axis) == ("sampled", 1)
    prepare = PHASES[name].implementation(backend().library)
    assert prepare is not None
    inputs = [backend().to_device(array) for array in read_arrays(Path(found.inputs))]
    output = prepare(backend().namespace, SAMPLED, *inputs)()
    require_right(relative_error(backend(), output, found.reference), "float32", LIMITS["float32"])
    norm = float((output * output).sum()) ** 0.5
    output[-1, -2, -1, -2] += norm / 100
    error = relative_error(backend(), output, found.reference)
    assert 0.01 / 3 < error < 0.01 * 3


def macs(size: Size) -> int:
    """Return the multiply-adds of one image: 1 MAC = 2 FLOPs."""
    counts = {phase.flops({**size.dims, "batch": 1}) for phase in PHASES.values() if phase.flops}
    (flops,) = counts
    assert flops % 2 == 0
    return flops // 2


@pytest.mark.parametrize(
    ("network", "layers", "distinct", "total"),
    [
        ("resnet50", 53, 23, 4_087_136_256),
        ("vgg16", 13, 9, 15_346_630_656),
        ("vgg19", 16, 9, 19_508_428_800),
    ],
)
def test_a_network_costs_what_everybody_counts(
    network: str, layers: int, distinct: int, total: int
) -> None:
    sizes = [size for size in WORKLOAD.sizes if network in size.networks]
    assert len(sizes) == distinct
    assert sum(size.networks[network] for size in sizes) == layers
    assert sum(size.networks[network] * macs(size) for size in sizes) == total


Layer = tuple[int, int, int, int, int]
"""In and out channels, height, kernel, stride."""


def resnet50() -> Iterator[Layer]:
    """Yield the convolutions of He et al., 2016, table 1, with the stride in the 3x3 layer."""
    yield 3, 64, 224, 7, 2
    channels, height = 64, 56
    for middle, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            stride = 2 if block == 0 and middle > 64 else 1
            yield channels, middle, height, 1, 1
            yield middle, middle, height, 3, stride
            yield middle, 4 * middle, height // stride, 1, 1
            if block == 0:
                yield channels, 4 * middle, height, 1, stride
            channels, height = 4 * middle, height // stride


def vgg(*convolutions: int) -> Iterator[Layer]:
    """Yield the convolutions of Simonyan and Zisserman, 2015, table 1: so many before each pool."""
    channels, height = 3, 224
    for out, count in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        for _ in range(count):
            yield channels, out, height, 3, 1
            channels = out
        height //= 2


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        ("resnet50", resnet50()),
        ("vgg16", vgg(2, 2, 3, 3, 3)),
        ("vgg19", vgg(2, 2, 4, 4, 4)),
    ],
)
def test_the_layers_of_a_network_are_those_of_its_paper(
    network: str, layers: Iterator[Layer]
) -> None:
    names = ("in_channels", "out_channels", "height", "kernel", "stride")
    ours: Counter[tuple[int, ...]] = Counter()
    for size in WORKLOAD.sizes:
        if network in size.networks:
            shape = shape_of(size.dims)
            assert shape.output == (shape.size[0] // shape.stride,) * 2
            ours[tuple(size.dims[name] for name in names)] += size.networks[network]
    assert ours == Counter(layers)


DEEPBENCH = [size for size in WORKLOAD.sizes if size.label.startswith("deepbench.")]


@pytest.mark.parametrize("size", DEEPBENCH, ids=lambda size: str(size.label))
def test_a_problem_of_deepbench_is_named_by_its_own_order_of_dimensions(size: Size) -> None:
    image, filters, kernel = size.label.partition(",")[0].split(".")[1:]
    width, height, channels = (int(part) for part in image.split("x"))
    kernel, _, stride = kernel.partition("s")
    shape = shape_of(size.dims)
    assert (shape.size, shape.in_channels) == ((height, width), channels)
    assert shape.out_channels == int(filters)
    assert kernel == f"{shape.kernel[1]}x{shape.kernel[0]}"
    assert shape.stride == int(stride or 1)
    assert size.preset == "thorough"


def test_the_second_layer_of_deep_speech_takes_what_the_first_gives() -> None:
    first, second = (
        next(size for size in DEEPBENCH if f".{image}." in size.label)
        for image in ("700x161x1.32", "341x79x32.32")
    )
    assert shape_of(first.dims).y == (4, 32, 79, 341) == shape_of(second.dims).x
    assert len({size.label for size in DEEPBENCH}) == len(DEEPBENCH) > 80


def test_a_multiply_add_is_two_flops_and_every_array_moves_once() -> None:
    dims = {"batch": 2, "in_channels": 4, "height": 5, "out_channels": 6, "kernel": 3}
    for phase in PHASES.values():
        assert phase.flops is not None
        assert phase.bytes_moved is not None
        # y is 2 x 6 x 3 x 3; each of its elements reads 4 x 3 x 3 inputs.
        assert phase.flops(dims) == 2 * 108 * 36
        assert phase.bytes_moved(dims, 4) == 4 * (2 * 4 * 25 + 6 * 4 * 9 + 108)
        assert phase.flops({**dims, "groups": 2}) == 108 * 36
        assert phase.bytes_moved({**dims, "groups": 2}, 2) == 2 * (200 + 108 + 108)


TOO_LARGE = "the kernel is larger than the padded input; give more padding"
GIVEN = {"batch": 2, "in_channels": 4, "height": 7, "out_channels": 6, "kernel": 3}


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"channels": 3}, "has no dimension 'channels'; give batch, in_channels, "),
        ({"batch": None}, "needs 'batch'; give batch, in_channels, "),
        ({"kernel": None}, "as needed width, kernel_width, padding, "),
        ({"groups": 4}, "groups=4 does not divide both numbers of channels"),
        ({"groups": 3}, "groups=3 does not divide both numbers of channels"),
        ({"groups": 0}, "groups begins at 1; padding alone may be 0"),
        ({"stride": 0}, "stride begins at 1"),
        ({"dilation": 0}, "begins at 1"),
        ({"kernel_width": 0}, "begins at 1"),
        ({"kernel": 8}, TOO_LARGE),
        ({"dilation": 4}, TOO_LARGE),
        ({"width": 2}, TOO_LARGE),
        ({"kernel_width": 10, "padding": 1}, TOO_LARGE),
    ],
)
def test_what_is_no_convolution_is_refused_with_what_would_be_one(
    change: dict[str, int | None], hint: str
) -> None:
    dims = {name: value for name, value in {**GIVEN, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=hint):
        resize(dims)


@pytest.mark.parametrize(
    "change", [{}, {"kernel": 7}, {"kernel": 9, "padding": 1}, {"dilation": 3}, {"groups": 2}]
)
def test_what_just_fits_is_taken_as_it_is_given(change: dict[str, int]) -> None:
    dims = {**GIVEN, **change}
    assert resize(dims) == dims
    assert min(shape_of(dims).output) >= 1


def test_dimensions_along_the_width_are_those_along_the_height_unless_given() -> None:
    square = {**GIVEN, "padding": 1}
    shape = shape_of(square)
    assert (shape.stride, shape.dilation, shape.groups) == (1, 1, 1)
    assert (shape.x, shape.w, shape.y) == ((2, 4, 7, 7), (6, 4, 3, 3), (2, 6, 7, 7))
    wide = shape_of({**square, "width": 11, "kernel_width": 5, "padding_width": 0})
    assert (wide.x, wide.w, wide.y) == ((2, 4, 7, 11), (6, 4, 3, 5), (2, 6, 7, 7))
    assert shape_of(GIVEN).padding == (0, 0)


@pytest.mark.parametrize(
    ("change", "saved"),
    [
        ({}, 4.0),
        ({"kernel": 5}, 4.0),
        ({"kernel": 1}, 1.0),
        ({"kernel_width": 1}, 1.0),
        ({"kernel": 2}, 1.0),
        ({"stride": 2}, 1.0),
        ({"dilation": 2}, 1.0),
        # Of 7 outputs along an axis 3 read an input: DeepBench's 7x7x2048.512.1x1s2.
        ({"kernel": 1, "padding": 3, "stride": 2}, (7 / 3) ** 2),
        # The first and the last tap meet 6 of 7 inputs.
        ({"padding": 1}, 4 * (21 / 19) ** 2),
    ],
)
def test_what_is_padding_and_what_a_known_algorithm_saves_need_not_be_multiplied(
    change: dict[str, int], saved: float
) -> None:
    for phase in PHASES.values():
        assert phase.shortcut is not None
        assert phase.shortcut({**GIVEN, **change}) == pytest.approx(saved)


def bytes_beside(phase: Phase, dims: Dims, *, called: bool) -> int:
    """Return what NumPy allocates for a phase at most, besides its inputs and its output."""
    make = phase.inputs or WORKLOAD.inputs
    assert phase.array is not None
    assert phase.bytes_moved is not None

    class Zeros:
        def standard_normal(self, shape: tuple[int, ...], dtype: str) -> Any:
            return np.zeros(shape, dtype)

    inputs = make(Zeros(), dims)
    output = phase.bytes_moved(dims, 4) - sum(array.nbytes for array in inputs)
    tracemalloc.start()
    try:
        call = phase.array(np, dims, *inputs)
        if called:
            call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return int(peak - output)


@each_phase
def test_a_large_image_needs_a_workspace_of_less_than_three_times_its_data(phase: Phase) -> None:
    """All patches at once would be 9 times the input; 2.8 times the data were measured."""
    size = next(size for size in WORKLOAD.sizes if size.label.startswith("vgg16.2."))
    dims = {**size.dims, "batch": 1}
    assert (dims["in_channels"], dims["out_channels"], dims["height"]) == (64, 64, 224)
    assert phase.bytes_moved is not None
    assert bytes_beside(phase, dims, called=True) < 3 * phase.bytes_moved(dims, 4)


@pytest.mark.parametrize("batch", [1, None], ids=["one_image", "own_batch"])
def test_no_layer_needs_more_than_a_few_workspaces(batch: int | None) -> None:
    """Beside the patches lie the lines that they are gathered from: 96 MiB is never reached."""
    for size, phase in itertools.product(WORKLOAD.sizes, PHASES.values()):
        dims = {**size.dims, "batch": batch or size.dims["batch"]}
        assert bytes_beside(phase, dims, called=False) < 3 * _conv2d_array.WORKSPACE_BYTES


@pytest.mark.parametrize(
    ("height", "batch", "images"),
    [
        (56, 8, 1),  # 3136 columns are enough
        (28, 8, 2),  # of 784 columns each
        (14, 16, 8),
        (14, 12, 6),  # 8 would do, but no part of 12 may be left over
        (7, 8, 8),
    ],
)
def test_images_are_taken_together_until_a_product_has_columns_enough(
    height: int, batch: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dims = {**GIVEN, "height": height, "batch": batch, "padding": 1}
    x, _ = drawn(PHASES["forward"], dims, "float32")

    def taken() -> int:
        return int(_conv2d_array.Patches(np, x, *shape_of(dims).forward_axes(), 1).images)

    assert taken() == images
    of_one_image = 4 * 4 * 9 * height**2
    monkeypatch.setattr(_conv2d_array, "WORKSPACE_BYTES", 2 * of_one_image)
    assert taken() == min(images, 2)
