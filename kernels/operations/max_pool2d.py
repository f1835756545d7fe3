"""Max pooling of images and its gradient.

y[n, c, i, j] is the largest of x[n, c, stride i + a - padding, stride j + b - padding] over the
taps a, b of the kernel; padding is never the largest. The gradient goes to the first maximum of a
window, row by row, as in PyTorch: after a ReLU whole windows are zero.

Sources: the first pooling of ResNet-50 (He et al., 2016, table 1), the poolings of VGG-16
(Simonyan and Zisserman, 2015, table 1).
"""

import math
from typing import Any

from bench.workload import Dims, Phase, Workload

from ._conv2d_shape import Axis
from ._pooling import (
    axes_of,
    draw_x,
    draw_x_and_dy,
    gather,
    layer,
    met,
    options,
    planes,
    resize,
    shape_of_x,
    shape_of_y,
)
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch
from ._sums import row_blocks


def max_pool2d(
    xp: Any, x: Any, *, kernel: int, stride: int, padding: int = 0
) -> tuple[Any, Pullback]:
    """Return the largest of each window; the pullback keeps x and y and finds it again."""
    rows, columns = axes_of(x, kernel, stride, padding)
    y = xp.empty((*x.shape[:2], rows.outputs, columns.outputs), x.dtype)
    inputs, outputs = planes(x), planes(y)
    for part in row_blocks(xp, inputs):
        gather(xp, xp.maximum, inputs[part], rows, columns, outputs[part], -math.inf)

    def pullback(dy: Any) -> tuple[Any]:
        dx = xp.zeros(inputs.shape, x.dtype)
        first, steps = _places(xp, rows, columns)
        plane = rows.size * columns.size
        for part in row_blocks(xp, inputs):
            found = _taps_before_maximum(xp, inputs[part], outputs[part], rows, columns)
            places = xp.take(steps, found)
            places += first
            places += plane * xp.arange(len(found))[:, None, None]
            flat = dx[part].reshape(-1)
            if stride < kernel:
                # An input can be the maximum of several windows.
                xp.add.at(flat, places.reshape(-1), planes(dy)[part].reshape(-1))
            else:
                flat[places.reshape(-1)] = planes(dy)[part].reshape(-1)
        return (dx.reshape(x.shape),)

    return y, pullback


def _places(xp: Any, rows: Axis, columns: Axis) -> tuple[Any, Any]:
    """Return where in a flat plane each window begins, and how far from there its taps are."""
    starts = [axis.step * xp.arange(axis.outputs) + axis.offsets[0] for axis in (rows, columns)]
    taps = [xp.arange(len(axis.offsets)) for axis in (rows, columns)]
    first, steps = (a[:, None] * columns.size + b for a, b in (starts, taps))
    return first, steps.reshape(-1)


def _taps_before_maximum(xp: Any, x: Any, y: Any, rows: Axis, columns: Axis) -> Any:
    """Return how many taps of each window come before its first maximum, row by row."""
    searching = xp.ones(y.shape, bool)
    before = xp.zeros(y.shape, xp.uint8 if len(rows.offsets) < 16 else xp.int64)
    # Every step-th column side by side, so that all comparisons are of contiguous memory.
    step = columns.step
    combs = [xp.ascontiguousarray(x[..., first::step]) for first in range(step)]
    taps = [(above, beside) for above in met(rows) for beside in met(columns)]
    # The last tap is what remains.
    for (i, height), (j, width) in taps[:-1]:
        comb, start = combs[width.start % step], width.start // step
        columns_met = slice(start, start + j.stop - j.start)
        part = searching[:, i, j]
        # A NaN is not less than another: its gradient goes somewhere in the window.
        part &= comb[:, height, columns_met] < y[:, i, j]
        before += searching
    return before


def max_pool2d_torch(torch: Any, x: Any, *, kernel: int, stride: int, padding: int) -> Any:
    """Call the functional form."""
    return torch.nn.functional.max_pool2d(x, kernel, stride, padding)


def flops(dims: Dims) -> int:
    """Count a comparison for each output and tap, those of padding as well."""
    return math.prod(shape_of_y(dims)) * dims["kernel"] ** 2


def backward_flops(dims: Dims) -> int:
    """Count an addition for each output: where its maximum is, forward has found."""
    return math.prod(shape_of_y(dims))


WORKLOAD = Workload(
    name="max_pool2d",
    summary="max pooling of images in NCHW, and its gradient",
    source="He et al., 2016, table 1; Simonyan and Zisserman, 2015, table 1",
    suites=("layers",),
    sizes=[
        layer("resnet50.stem", 4, 64, 112, "quick", kernel=3, stride=2, padding=1),
        layer("vgg16.pool2", 2, 128, 112, "quick", kernel=2),
        layer("resnet50.stem", 32, 64, 112, kernel=3, stride=2, padding=1),
        layer("vgg16.pool1", 16, 64, 224, "thorough", kernel=2),
        layer("vgg16.pool2", 16, 128, 112, "thorough", kernel=2),
        layer("vgg16.pool3", 16, 256, 56, kernel=2),
        layer("vgg16.pool4", 16, 512, 28, kernel=2),
        layer("vgg16.pool5", 16, 512, 14, kernel=2),
    ],
    inputs=draw_x,
    phases={
        "forward": Phase(
            array=forward_array(max_pool2d, options),
            torch=forward_torch(max_pool2d_torch, options),
            flops=flops,
            bytes_moved=lambda dims, item: (
                item * (math.prod(shape_of_x(dims)) + math.prod(shape_of_y(dims)))
            ),
        ),
        "backward": Phase(
            array=backward_array(max_pool2d, options),
            torch=backward_torch(max_pool2d_torch, wanted=[0], options=options),
            inputs=draw_x_and_dy,
            flops=backward_flops,
            bytes_moved=lambda dims, item: (
                item * (math.prod(shape_of_x(dims)) + math.prod(shape_of_y(dims)))
            ),
        ),
    },
    includes={
        "numpy": "one core; a pass for each row and column of the kernel. backward: searching the"
        " maxima again, which PyTorch's forward has stored",
        "cupy": "as NumPy, a kernel for each row and column of the kernel",
        "torch": "forward: storing where the maxima are; backward: the call of autograd",
    },
    resize=resize,
)
