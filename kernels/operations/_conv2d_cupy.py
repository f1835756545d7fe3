"""Convolution and its gradients for CuPy: few kernels, each over as many images as there is room.

Starting a kernel takes a GPU microseconds, so nothing loops over images. Patches are a strided view
of images in a frame of zeros: one kernel copies them into a matrix, and one product follows. That
is `dot` where there is one group: of more than two dimensions CuPy 14 multiplies float16 in float32
and copies what is transposed. What a call runs is listed beforehand, with its views and buffers.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.workload import Call, Dims

from ._conv2d_shape import Axis, Shape, shape_of

WORKSPACE_BYTES = 2**30  # for matrices; up to 2 GiB CuPy's kernels compute places in 32 bits
SCATTERED = 2  # channels of y to one of x: adding up moves 4 values a product, gathering 2 a patch

Axes = tuple[Axis, Axis]
"""How outputs read along the height and along the width."""

Kernels = list[Callable[[], Any]]
"""What a call runs, one after the other."""


class Patches:
    """What the outputs of up to `images` images read, each patch a column of a matrix.

    Where several axes are given, they share the frame, and the matrix one after the other.
    """

    def __init__(
        self, xp: Any, source: Any, axes: Sequence[Axes], groups: int, images: int
    ) -> None:
        """Allocate the frame and the matrix, unless what is read is a matrix already."""
        self.xp, self.source, self.groups = xp, source, groups
        self.frame = self.buffer = None
        self.corner: list[int] = []
        sizes = []
        for size, along in zip(source.shape[2:], zip(*axes, strict=True), strict=True):
            first = min(0, *(min(axis.offsets) for axis in along))
            ends = [max(axis.offsets) + axis.step * (axis.outputs - 1) + 1 for axis in along]
            self.corner.append(-first)
            sizes.append(max(size, *ends) - first)
        if (*sizes,) != source.shape[2:]:
            # The zeros around the images are written once: copying images in never covers them.
            self.frame = xp.zeros((images, source.shape[1], *sizes), source.dtype)
        if images > 1 or not all(axis.is_plain for pair in axes for axis in pair):
            most = max(patch_values(1, pair) for pair in axes)
            self.buffer = xp.empty(images * source.shape[1] * most, source.dtype)

    def framed(self, images: slice, kernels: Kernels) -> Any:
        """Return some images in their frame, and add the kernel that copies them there."""
        source = self.source[images]
        if self.frame is None:
            return source
        frame = self.frame[: len(source)]
        (above, left), (height, width) = self.corner, source.shape[2:]
        inner = frame[:, :, above : above + height, left : left + width]
        kernels.append(partial(self.xp.copyto, inner, source))
        return frame

    def matrices(self, framed: Any, axes: Axes, kernels: Kernels) -> Any:
        """Return (groups, channels x taps, images x outputs), and add the kernel that gathers."""
        if self.buffer is None:
            return framed.reshape(self.groups, framed.shape[1] // self.groups, -1)
        reach, places, read = [], [], []
        for axis, before in zip(axes, self.corner, strict=True):
            apart = axis.offsets[1] - axis.offsets[0] if len(axis.offsets) > 1 else 1
            first = min(axis.offsets) + before
            reach.append(abs(apart) * (len(axis.offsets) - 1) + 1)
            places.append(slice(first, first + axis.step * (axis.outputs - 1) + 1, axis.step))
            read.append(slice(None, None, apart))
        windows = self.xp.lib.stride_tricks.sliding_window_view(framed, reach, axis=(2, 3))
        # (channels, kernel, kernel_width, images, rows, columns)
        view = windows[:, :, *places, *read].transpose(1, 4, 5, 0, 2, 3)
        gathered = self.buffer[: view.size].reshape(view.shape)
        kernels.append(partial(self.xp.copyto, gathered, view))
        return gathered.reshape(self.groups, math.prod(view.shape[:3]) // self.groups, -1)


def patch_values(channels: int, axes: Axes) -> int:
    """Count the values of all patches of an image."""
    return channels * math.prod(axis.outputs * len(axis.offsets) for axis in axes)


def pixels(images: Any) -> Axes:
    """Return the axes of outputs that read the pixel at their own place."""
    height, width = (Axis(size, size, 1, [0]) for size in images.shape[2:])
    return height, width


def chunks(images: Any, values: int) -> list[slice]:
    """Split a batch as the workspace needs it, where an image takes so many values."""
    batch = len(images)
    fitting = max(1, WORKSPACE_BYTES // (values * images.itemsize))
    step = -(-batch // -(-batch // fitting))
    return [slice(start, min(start + step, batch)) for start in range(0, batch, step)]


def product(xp: Any, a: Any, b: Any, out: Any) -> Callable[[], Any]:
    """Return the kernel for (groups, m, k) times (groups, k, n)."""
    if len(a) == 1:
        return partial(xp.dot, a[0], b[0], out=out[0])
    return partial(xp.matmul, a, b, out=out)


def running(kernels: Kernels, output: Any) -> Call:
    """Return the call."""

    def call() -> Any:
        for kernel in kernels:
            kernel()
        return output

    return call


def correlation(
    xp: Any, source: Any, groups: int, parts: Sequence[tuple[Axes, Any, Any]]
) -> Kernels:
    """Return what multiplies weights with patches of `source`, part by part of the outputs.

    A part is how its outputs read, its weights (groups, channels, patch), and a view of where the
    outputs go (batch, channels, rows, columns).
    """
    axes, weights, target = parts[0]
    plain = len(parts) == groups == 1 and all(axis.is_plain for axis in axes)
    if plain and target.flags.c_contiguous and source.itemsize > 2:
        # Images are multiplied where they lie; float16 would be converted there and back.
        a, b = (images.reshape(*images.shape[:2], -1) for images in (source, target))
        return [partial(xp.matmul, weights[0], a, out=b)]
    values = max(
        patch_values(source.shape[1], axes) + math.prod(target.shape[1:])
        for axes, _, target in parts
    )
    plan = chunks(source, values)
    images = plan[0].stop
    patches = Patches(xp, source, [axes for axes, *_ in parts], groups, images)
    direct = images == 1 and all(target.flags.c_contiguous for *_, target in parts)
    if not direct:
        buffer = xp.empty(max(target[:images].size for *_, target in parts), source.dtype)
    kernels: Kernels = []
    for chunk in plan:
        framed = patches.framed(chunk, kernels)
        for axes, weights, target in parts:
            matrices = patches.matrices(framed, axes, kernels)
            goal = target[chunk]
            found = goal if direct else buffer[: goal.size]
            found = found.reshape(*weights.shape[:2], -1)
            kernels.append(product(xp, weights, matrices, found))
            if not direct:
                ordered = found.reshape(goal.shape[1], len(goal), *goal.shape[2:])
                kernels.append(partial(xp.copyto, goal, ordered.swapaxes(0, 1)))
    return kernels


def forward_cupy(xp: Any, dims: Dims, x: Any, w: Any) -> Call:
    """Multiply the weights with patches of x, or with x itself where the kernel is one point."""
    shape = shape_of(dims)
    y = xp.empty(shape.y, x.dtype)
    weights = w.reshape(shape.groups, shape.out_channels // shape.groups, -1)
    part = (shape.forward_axes(), weights, y)
    return running(correlation(xp, x, shape.groups, [part]), y)


def input_gradient_cupy(xp: Any, dims: Dims, dy: Any, w: Any) -> Call:
    """Multiply the transposed weights with patches of dy, for inputs that lie `stride` apart.

    As on a CPU: nothing is multiplied by the zeros that a dilated dy would hold.
    """
    shape = shape_of(dims)
    groups, stride = shape.groups, shape.stride
    dx = xp.empty(shape.x, dy.dtype)
    if not shape.is_pointwise and SCATTERED * shape.in_channels <= shape.out_channels:
        return running(scattering(xp, shape, dy, w, dx), dx)
    # (groups, in, out, kernel, kernel_width)
    transposed = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)
    kernels: Kernels = []
    parts = []
    for row in range(min(stride, shape.size[0])):
        for column in range(min(stride, shape.size[1])):
            target = dx[:, :, row::stride, column::stride]
            (height, rows), (width, columns) = shape.residue((row, column))
            if not (height.offsets and width.offsets):
                # No output reads these places.
                kernels.append(partial(xp.copyto, target, 0))
                continue
            chosen = transposed[..., rows, columns]
            weights = xp.empty(chosen.shape, w.dtype)
            kernels.append(partial(xp.copyto, weights, chosen))
            parts.append(((height, width), weights.reshape(*chosen.shape[:2], -1), target))
    if parts:
        kernels += correlation(xp, dy, groups, parts)
    return running(kernels, dx)


def scattering(xp: Any, shape: Shape, dy: Any, w: Any, dx: Any) -> Kernels:
    """Return what multiplies first and then adds up what each input is due, tap by tap."""
    groups, channels = shape.groups, shape.in_channels
    height, width = shape.forward_axes()
    of_one = patch_values(channels, (height, width))
    plan = chunks(dy, of_one + math.prod(dy.shape[1:]))
    images = plan[0].stop
    gradients = Patches(xp, dy, [pixels(dy)], groups, images)
    buffer = xp.empty(images * of_one, dy.dtype)
    # (groups, in x kernel x kernel_width, out)
    transposed = w.reshape(groups, len(w) // groups, -1).swapaxes(1, 2)
    kernels: Kernels = [partial(xp.copyto, dx, 0)]
    for chunk in plan:
        goal, gradient = dx[chunk], gradients.matrices(dy[chunk], pixels(dy), kernels)
        due = buffer[: len(goal) * of_one]
        kernels.append(product(xp, transposed, gradient, due.reshape(*transposed.shape[:2], -1)))
        taps = due.reshape(channels, *shape.kernel, len(goal), *shape.output)
        for a in range(shape.kernel[0]):
            for b in range(shape.kernel[1]):
                (row, to_row), (column, to_column) = height.met(a), width.met(b)
                place = goal[:, :, to_row, to_column]
                tap = taps[:, a, b, :, row, column].swapaxes(0, 1)
                kernels.append(partial(xp.add, place, tap, out=place))
    return kernels


def weight_gradient_cupy(xp: Any, dims: Dims, x: Any, dy: Any) -> Call:
    """Multiply dy with the transposed patches of x: the images are one long inner dimension."""
    shape = shape_of(dims)
    axes, groups = shape.forward_axes(), shape.groups
    dw = xp.empty(shape.w, x.dtype)
    total = dw.reshape(groups, len(dw) // groups, -1)
    plan = chunks(x, patch_values(shape.in_channels, axes) + math.prod(dy.shape[1:]))
    patches = Patches(xp, x, [axes], groups, plan[0].stop)
    gradients = Patches(xp, dy, [pixels(dy)], groups, plan[0].stop)
    part = xp.empty_like(total) if len(plan) > 1 else None
    kernels: Kernels = []
    for chunk in plan:
        matrices = patches.matrices(patches.framed(chunk, kernels), axes, kernels)
        gradient = gradients.matrices(dy[chunk], pixels(dy), kernels)
        found = part if chunk.start else total
        kernels.append(product(xp, gradient, matrices.swapaxes(1, 2), found))
        if chunk.start:
            kernels.append(partial(xp.add, total, found, out=total))
    return running(kernels, dw)
