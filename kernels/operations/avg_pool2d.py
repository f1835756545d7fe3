"""Average pooling of images and its gradient, of small windows and of whole images.

y[n, c, i, j] is the sum over the taps a, b of x[n, c, stride i + a - padding, ...] divided by all
kernel^2 taps, those of padding as well (PyTorch's default, count_include_pad=True).

Sources: the transitions of DenseNet-121 (Huang et al., 2017, table 1), the blocks of Inception v3
(Szegedy et al., 2016, figure 5), the last pooling of ResNet-50 (He et al., 2016, table 1).
"""

import math
from typing import Any

from bench.workload import Dims, Phase, Workload

from ._fusing import blocks
from ._pooling import (
    axes_of,
    draw_x,
    draw_x_and_dy,
    gather,
    layer,
    options,
    planes,
    resize,
    scatter,
    shape_of_x,
    shape_of_y,
)
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch
from ._sums import row_sums


def avg_pool2d(
    xp: Any, x: Any, *, kernel: int, stride: int, padding: int = 0
) -> tuple[Any, Pullback]:
    """Return the average of each window; the pullback keeps nothing."""
    if x.shape[-2:] == (kernel, kernel) and padding == 0:
        return global_avg_pool2d(xp, x)
    rows, columns = axes_of(x, kernel, stride, padding)
    y = xp.empty((*x.shape[:2], rows.outputs, columns.outputs), x.dtype)
    inputs, outputs = planes(x), planes(y)
    for part in blocks(xp, inputs):
        gather(xp, xp.add, inputs[part], rows, columns, outputs[part], 0)
    y *= 1 / kernel**2
    shape, dtype = x.shape, x.dtype

    def pullback(dy: Any) -> tuple[Any]:
        dx = xp.empty(shape, dtype)
        inputs, outputs = planes(dx), planes(dy * (1 / kernel**2))
        for part in blocks(xp, inputs):
            scatter(xp, outputs[part], rows, columns, inputs[part])
        return (dx,)

    return y, pullback


def global_avg_pool2d(xp: Any, x: Any) -> tuple[Any, Pullback]:
    """Return the average of each plane, with height and width 1; the pullback keeps nothing."""
    shape, dtype = x.shape, x.dtype
    share = 1 / (shape[-2] * shape[-1])
    y = row_sums(xp, x.reshape(*shape[:2], -1))
    y *= share

    def pullback(dy: Any) -> tuple[Any]:
        dx = xp.empty(shape, dtype)
        dx[...] = dy * share
        return (dx,)

    return y.astype(dtype, copy=False).reshape(*shape[:2], 1, 1), pullback


def avg_pool2d_torch(torch: Any, x: Any, *, kernel: int, stride: int, padding: int) -> Any:
    """Call the functional form."""
    return torch.nn.functional.avg_pool2d(x, kernel, stride, padding)


def flops(dims: Dims) -> int:
    """Count an addition for each output and tap, those of padding as well."""
    return math.prod(shape_of_y(dims)) * dims["kernel"] ** 2


def bytes_moved(dims: Dims, item: int) -> int:
    """Count x and y once each."""
    return item * (math.prod(shape_of_x(dims)) + math.prod(shape_of_y(dims)))


WORKLOAD = Workload(
    name="avg_pool2d",
    summary="average pooling of images in NCHW, global or not, and its gradient",
    source="Huang et al., 2017, table 1; Szegedy et al., 2016, figure 5; He et al., 2016, table 1",
    suites=("layers",),
    sizes=[
        layer("resnet50.global", 32, 2048, 7, "quick", kernel=7),
        layer("densenet121.transition1", 4, 128, 56, "quick", kernel=2),
        layer("resnet50.global", 256, 2048, 7, kernel=7),
        layer("densenet121.transition1", 32, 128, 56, kernel=2),
        layer("inception3.mixed5", 32, 192, 35, kernel=3, stride=1, padding=1),
    ],
    inputs=draw_x,
    phases={
        "forward": Phase(
            array=forward_array(avg_pool2d, options),
            torch=forward_torch(avg_pool2d_torch, options),
            flops=flops,
            bytes_moved=bytes_moved,
        ),
        "backward": Phase(
            array=backward_array(avg_pool2d, options),
            torch=backward_torch(avg_pool2d_torch, wanted=[0], options=options),
            inputs=draw_x_and_dy,
            flops=flops,
            bytes_moved=bytes_moved,
        ),
    },
    includes={
        "numpy": "one core; a pass for each row and column of the kernel",
        "cupy": "as NumPy, a kernel for each row and column of the kernel",
        "torch": "backward: the call of autograd",
    },
    resize=resize,
)
