"""Two-dimensional convolution and its two gradients, with stride, padding, dilation and groups.

y[n, k, i, j] = sum over c, a, b of w[k, c, a, b] x[n, c, stride i + dilation a - padding, ...], a
cross-correlation as in every library. x is (batch, in_channels, height, width), w is
(out_channels, in_channels / groups, kernel, kernel_width), y and its gradient are (batch,
out_channels, rows, columns). `width`, `kernel_width` and `padding_width` are given where they
differ from `height`, `kernel` and `padding`.

Beside this file: `_conv2d_shape` (which inputs an output reads), `_conv2d_array` (NumPy),
`_conv2d_cupy`, `_conv2d_reference` (float64), `_conv2d_layers` (the layers and their sources).
"""

import math
from typing import Any

from bench.workload import Call, Dims, Phase, Prepare, Workload

from ._conv2d_array import forward_array, input_gradient_array, weight_gradient_array
from ._conv2d_cupy import forward_cupy, input_gradient_cupy, weight_gradient_cupy
from ._conv2d_layers import SIZES
from ._conv2d_reference import (
    forward_projection,
    forward_reference,
    input_gradient_projection,
    input_gradient_reference,
    weight_gradient_projection,
    weight_gradient_reference,
)
from ._conv2d_shape import resize, shape_of
from ._pullback import Pullback
from ._sums import row_sums

ARRAY = (forward_array, input_gradient_array, weight_gradient_array)
CUPY = (forward_cupy, input_gradient_cupy, weight_gradient_cupy)


def conv2d(
    xp: Any,
    x: Any,
    w: Any,
    b: Any | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    input_gradient: bool = True,
) -> tuple[Any, Pullback]:
    """Return the convolution as an operation of networks, where every pass has other arrays.

    Workspaces are allocated anew: libraries keep freed memory at hand, so that over the layers of
    ResNet-50 at batch 8 this takes less time than can be measured.
    """
    forward, of_input, of_weights = CUPY if hasattr(xp, "fuse") else ARRAY
    names = ("batch", "in_channels", "height", "width", "out_channels", "kernel", "kernel_width")
    dims = dict(zip(names, (*x.shape, len(w), *w.shape[2:]), strict=True))
    dims |= {"stride": stride, "padding": padding}
    y = forward(xp, dims, x, w)()
    if b is not None:
        y += b[:, None, None]

    def pullback(dy: Any) -> tuple[Any, Any, Any]:
        dx = of_input(xp, dims, dy, w)() if input_gradient else None
        return dx, of_weights(xp, dims, x, dy)(), None if b is None else _bias_gradient(xp, dy, b)

    return y, pullback


def _bias_gradient(xp: Any, dy: Any, b: Any) -> Any:
    planes = row_sums(xp, dy.reshape(-1, dy.shape[2] * dy.shape[3]))
    return planes.reshape(dy.shape[:2]).sum(axis=0).astype(b.dtype, copy=False)


def inputs(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw x and w from N(0, 1)."""
    shape = shape_of(dims)
    return draw(rng, shape.x), draw(rng, shape.w)


def input_gradient_inputs(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw dy and w from N(0, 1)."""
    shape = shape_of(dims)
    return draw(rng, shape.y), draw(rng, shape.w)


def weight_gradient_inputs(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw x and dy from N(0, 1)."""
    shape = shape_of(dims)
    return draw(rng, shape.x), draw(rng, shape.y)


def draw(rng: Any, shape: tuple[int, ...]) -> Any:
    """Draw from N(0, 1)."""
    return rng.standard_normal(shape, dtype="float32")


def options(dims: Dims) -> dict[str, Any]:
    """Return the arguments that all of PyTorch's functions share."""
    shape = shape_of(dims)
    names = ("stride", "padding", "dilation", "groups")
    return {name: getattr(shape, name) for name in names}


def forward_torch(torch: Any, dims: Dims, x: Any, w: Any) -> Call:
    """Call the functional convolution."""
    given = options(dims)
    return lambda: torch.nn.functional.conv2d(x, w, **given)


def input_gradient_torch(torch: Any, dims: Dims, dy: Any, w: Any) -> Call:
    """Ask for the gradient of x alone."""
    given, size = options(dims), shape_of(dims).x
    return lambda: torch.nn.grad.conv2d_input(size, w, dy, **given)


def weight_gradient_torch(torch: Any, dims: Dims, x: Any, dy: Any) -> Call:
    """Ask for the gradient of w alone."""
    given, size = options(dims), shape_of(dims).w
    return lambda: torch.nn.grad.conv2d_weight(x, size, dy, **given)


def channels_last(prepare: Prepare) -> Prepare:
    """Give PyTorch its inputs with the channels innermost, as its users do once for a model."""

    def prepare_channels_last(torch: Any, dims: Dims, *arrays: Any) -> Call:
        moved = [array.to(memory_format=torch.channels_last) for array in arrays]
        return prepare(torch, dims, *moved)

    return prepare_channels_last


def flops(dims: Dims) -> int:
    """Count a multiply-add for each output, input channel of its group and tap; zeros as well."""
    shape = shape_of(dims)
    return 2 * math.prod(shape.y) * math.prod(shape.w[1:])


def bytes_moved(dims: Dims, item: int) -> int:
    """Count x, w and y once each: in every phase two of them are read and the third is written."""
    shape = shape_of(dims)
    return item * sum(math.prod(array) for array in (shape.x, shape.w, shape.y))


def shortcut(dims: Dims) -> float:
    """Return what can be saved: products with padding, and what Winograd's algorithm needs less.

    F(4x4, 3x3) takes 36 products for 144 (Lavin and Gray, 2016).
    """
    shape = shape_of(dims)
    saved = 4.0 if shape.stride == shape.dilation == 1 and min(shape.kernel) >= 3 else 1.0
    for axis in shape.forward_axes():
        outputs = [axis.met(tap)[0] for tap in range(len(axis.offsets))]
        met = sum(part.stop - part.start for part in outputs)
        saved *= axis.outputs * len(axis.offsets) / max(1, met)
    return saved


GRADIENTS = 8  # times the limit: that of a weight adds up 400,000 terms in VGG, PyTorch to 8e-6


def phase(array: Prepare, cupy: Prepare, torch: Prepare, **own: Any) -> Phase:
    """Return a phase with what all three have in common."""
    return Phase(
        array=array,
        torch=torch,
        overrides={"cupy": cupy},
        variants={
            "channels_last": {"torch": channels_last(torch)},
            "tuned": {"torch-cuda": torch},
            "channels_last+tuned": {"torch-cuda": channels_last(torch)},
        },
        flops=flops,
        bytes_moved=bytes_moved,
        shortcut=shortcut,
        **own,
    )


WORKLOAD = Workload(
    name="conv2d",
    summary="two-dimensional convolution and its gradients, of images in NCHW",
    source="He et al., 2016; Simonyan and Zisserman, 2015; DeepBench conv_problems.h",
    suites=("convolution",),
    sizes=SIZES,
    inputs=inputs,
    phases={
        "forward": phase(
            forward_array,
            forward_cupy,
            forward_torch,
            reference=forward_reference,
            projection=forward_projection,
        ),
        "input_gradient": phase(
            input_gradient_array,
            input_gradient_cupy,
            input_gradient_torch,
            inputs=input_gradient_inputs,
            reference=input_gradient_reference,
            projection=input_gradient_projection,
            preset="standard",
            error_factor=GRADIENTS,
        ),
        "weight_gradient": phase(
            weight_gradient_array,
            weight_gradient_cupy,
            weight_gradient_torch,
            inputs=weight_gradient_inputs,
            reference=weight_gradient_reference,
            projection=weight_gradient_projection,
            preset="standard",
            error_factor=GRADIENTS,
        ),
    },
    includes={
        "numpy": "gathering the patches (im2col) and BLAS; workspace and output are allocated once",
        "cupy": "gathering the patches of the whole batch with one kernel (im2col), cuBLAS, and"
        " reordering what it returns; CuPy 14 has no cuDNN. Not yet run on a GPU",
        "torch": "reordering NCHW as oneDNN or cuDNN needs it, and a new output; no tuner"
        " (cudnn.benchmark is off). The variant channels_last gets its arrays in NHWC; tuned has"
        " cuDNN try its algorithms during warm-up",
    },
    resize=resize,
)
