"""Batch normalization of images, with running or batch statistics, and its gradients.

y = (x - mean) / sqrt(variance + eps) gain + bias per channel. In inference mean and variance are
running statistics; in training they are those of x over batch, height and width, the variance
divided by their number, and the gradient goes through them.

Sources: Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 1 and section 3; the layers of
ResNet-50 (He et al., 2016, table 1).
"""

from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Phase, Size, Workload

from ._dims import complete
from ._fusing import fused
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch
from ._sums import row_blocks, row_dots, row_sums

EPS = 1e-5  # PyTorch's default


def batch_norm(
    xp: Any, x: Any, gain: Any, bias: Any, mean: Any, variance: Any, *, eps: float = EPS
) -> tuple[Any, Pullback]:
    """Normalize with running statistics, as inference does; they have no gradients.

    x is (batch, channels, height, width), all others are (channels,).
    """
    scale = gain / xp.sqrt(variance + eps)
    y = _affine(xp, x, scale, bias - mean * scale)

    def pullback(dy: Any) -> tuple[Any, Any, Any, None, None]:
        total, along = _sums_of_gradient(xp, x, dy, mean)
        dx = _affine(xp, dy, scale, xp.zeros_like(bias))
        dgain = (along / xp.sqrt(variance + eps)).astype(gain.dtype, copy=False)
        return dx, dgain, total.astype(bias.dtype, copy=False), None, None

    return y, pullback


def batch_norm_training(
    xp: Any, x: Any, gain: Any, bias: Any, *, eps: float = EPS
) -> tuple[Any, Pullback]:
    """Normalize with the statistics of x; the pullback keeps x, not what it was normalized to.

    x is (batch, channels, height, width), gain and bias are (channels,).
    """
    count = x.size // x.shape[1]
    mean = _channel_sums(x, row_sums(xp, _rows(x))) / count
    variance = _squared_deviations(xp, x, mean) / count
    rate = 1 / xp.sqrt(variance + eps)
    scale = gain * rate
    y = _affine(xp, x, scale, bias - mean * scale)

    def pullback(dy: Any) -> tuple[Any, Any, Any]:
        total, along = _sums_of_gradient(xp, x, dy, mean)
        # dx = scale (dy - total / count - (x - mean) rate^2 along / count)
        slope = -rate * rate * along / count
        dx = _gradient(xp, x, dy, slope, -total / count - slope * mean, scale)
        dgain = (rate * along).astype(gain.dtype, copy=False)
        return dx, dgain, total.astype(bias.dtype, copy=False)

    return y, pullback


def _rows(x: Any) -> Any:
    """Return x as (batch * channels, height * width): each row belongs to one channel."""
    return x.reshape(x.shape[0] * x.shape[1], -1)


def _per_row(xp: Any, x: Any, factor: Any) -> Any:
    """Repeat what each channel has for each row."""
    return xp.tile(factor, len(x))[:, None]


def _channel_sums(x: Any, of_rows: Any) -> Any:
    return of_rows.reshape(x.shape[:2]).sum(axis=0)


def _squared_deviations(xp: Any, x: Any, mean: Any) -> Any:
    """Return their sums; that of the squares less the squared mean would cancel."""
    rows, means = _rows(x), _per_row(xp, x, mean)
    sums = xp.empty(len(rows), mean.dtype)
    for part in row_blocks(xp, rows):
        deviations = rows[part] - means[part]
        sums[part] = row_dots(xp, deviations, deviations)
    return _channel_sums(x, sums)


def _sums_of_gradient(xp: Any, x: Any, dy: Any, mean: Any) -> tuple[Any, Any]:
    """Return, per channel, the sums of dy and of dy (x - mean)."""
    rows, gradients = _rows(x), _rows(dy)
    total = _channel_sums(x, row_sums(xp, gradients))
    return total, _channel_sums(x, row_dots(xp, gradients, rows)) - mean * total


def _affine(xp: Any, x: Any, scale: Any, shift: Any) -> Any:
    rows, y = _rows(x), xp.empty(x.shape, x.dtype)
    out, scales, shifts = _rows(y), _per_row(xp, x, scale), _per_row(xp, x, shift)
    for part in row_blocks(xp, rows):
        fused(xp, _scaled_and_shifted)(rows[part], scales[part], shifts[part], out[part])
    return y


def _gradient(xp: Any, x: Any, dy: Any, slope: Any, constant: Any, scale: Any) -> Any:
    dx = xp.empty(x.shape, x.dtype)
    arrays = [_rows(array) for array in (x, dy)]
    arrays += [_per_row(xp, x, factor) for factor in (slope, constant, scale)]
    out = _rows(dx)
    for part in row_blocks(xp, out):
        fused(xp, _weighted)(*(array[part] for array in arrays), out[part])
    return dx


def _scaled_and_shifted(xp: Any, x: Any, scale: Any, shift: Any, y: Any) -> None:
    xp.multiply(x, scale, out=y)
    y += shift


def _weighted(xp: Any, x: Any, dy: Any, slope: Any, constant: Any, scale: Any, dx: Any) -> None:
    xp.multiply(x, slope, out=dx)
    dx += dy
    dx += constant
    dx *= scale


def batch_norm_torch(torch: Any, x: Any, gain: Any, bias: Any, mean: Any, variance: Any) -> Any:
    """Call the functional form with running statistics."""
    return torch.nn.functional.batch_norm(x, mean, variance, gain, bias, eps=EPS)


def batch_norm_training_torch(torch: Any, x: Any, gain: Any, bias: Any) -> Any:
    """Call the functional form, which has no running statistics to update."""
    return torch.nn.functional.batch_norm(x, None, None, gain, bias, training=True, eps=EPS)


def shape(dims: Dims) -> tuple[int, int, int, int]:
    """Return that of x and y."""
    height = dims["height"]
    return dims["batch"], dims["channels"], height, dims.get("width", height)


def training_inputs(rng: Any, dims: Dims) -> tuple[Any, Any, Any]:
    """Draw x, gain and bias from N(0, 1)."""
    x = rng.standard_normal(shape(dims), dtype="float32")
    gain, bias = rng.standard_normal((2, dims["channels"]), dtype="float32")
    return x, gain, bias


def inputs(rng: Any, dims: Dims) -> tuple[Any, ...]:
    """Draw x, gain, bias and the running mean from N(0, 1), the running variance around 1."""
    mean = rng.standard_normal(dims["channels"], dtype="float32")
    variance = rng.uniform(0.5, 1.5, dims["channels"]).astype("float32")
    return (*training_inputs(rng, dims), mean, variance)


def backward_inputs(rng: Any, dims: Dims) -> tuple[Any, ...]:
    """Draw x, gain, bias and dy from N(0, 1)."""
    return (*training_inputs(rng, dims), rng.standard_normal(shape(dims), dtype="float32"))


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch, channels and height; the width may differ."""
    dims = complete(given, ("batch", "channels", "height"), ("width",))
    if elements(dims) == dims["channels"]:
        raise ValueError("one value per channel has no variance; give a larger batch or height")
    return dims


def elements(dims: Dims) -> int:
    """Return how many values x holds."""
    batch, channels, height, width = shape(dims)
    return batch * channels * height * width


def layer(name: str, batch: int, channels: int, height: int, preset: str = "standard") -> Size:
    """Name a layer."""
    dims = {"batch": batch, "channels": channels, "height": height}
    return Size(dims=dims, preset=preset, name=name)


WORKLOAD = Workload(
    name="batch_norm",
    summary="batch normalization of images in NCHW, in inference and training, and its gradients",
    source="Ioffe and Szegedy, 2015, algorithm 1; sizes: He et al., 2016, table 1",
    suites=("layers",),
    sizes=[
        layer("resnet50.stage3", 8, 256, 14, "quick"),
        layer("resnet50.stage1_expanded", 4, 256, 56, "quick"),
        layer("resnet50.stem", 32, 64, 112),
        layer("resnet50.stage1", 32, 64, 56),
        layer("resnet50.stage1_expanded", 32, 256, 56),
        layer("resnet50.stage2", 32, 128, 28, "thorough"),
        layer("resnet50.stage2_expanded", 32, 512, 28, "thorough"),
        layer("resnet50.stage3", 32, 256, 14, "thorough"),
        layer("resnet50.stage3_expanded", 32, 1024, 14),
        layer("resnet50.stage4", 32, 512, 7, "thorough"),
        layer("resnet50.stage4_expanded", 32, 2048, 7),
    ],
    inputs=inputs,
    phases={
        "forward": Phase(
            array=forward_array(batch_norm),
            torch=forward_torch(batch_norm_torch),
            # A product and a sum; what each channel needs once is not counted.
            flops=lambda dims: 2 * elements(dims),
            bytes_moved=lambda dims, item: item * (2 * elements(dims) + 4 * dims["channels"]),
        ),
        "forward_training": Phase(
            array=forward_array(batch_norm_training),
            torch=forward_torch(batch_norm_training_torch),
            inputs=training_inputs,
            # A sum for the mean; a difference, a square and a sum for the variance; a product and
            # a sum for y.
            flops=lambda dims: 6 * elements(dims),
            bytes_moved=lambda dims, item: item * (2 * elements(dims) + 2 * dims["channels"]),
        ),
        "backward": Phase(
            array=backward_array(batch_norm_training),
            torch=backward_torch(batch_norm_training_torch, wanted=[0, 1, 2]),
            inputs=backward_inputs,
            error_factor=8,  # the gradient of a gain adds up a term for each pixel of each image
            # A sum for the bias; a difference, a product and a sum for the gain; two products and
            # two sums for x.
            flops=lambda dims: 8 * elements(dims),
            bytes_moved=lambda dims, item: item * (3 * elements(dims) + 3 * dims["channels"]),
        ),
    },
    includes={
        "numpy": "one core; x is read for the mean, for the variance and for y",
        "cupy": "a kernel each for the mean, the variance and y, and small ones per channel",
        "torch": "no running statistics are updated; backward: the call of autograd",
    },
    resize=resize,
)
