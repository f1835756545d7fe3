"""Convolution and its gradients for NumPy and CuPy: products of weights and gathered patches.

Patches are gathered along the width first, then along the height: each input is read once for each
column of the kernel, and what is copied in the second step are whole rows.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from bench.workload import Call, Dims

from ._conv2d_shape import Axis, Shape, shape_of

COLUMNS = 1536  # of a product, above which a BLAS is no faster: small images are taken together
WORKSPACE_BYTES = 32 * 2**20  # for patches, however large the layer
SCATTERED = 2  # channels of y to one of x from which adding up beats gathering, measured


class Patches:
    """The patches that some outputs of some images read, gathered into one buffer.

    `images` are taken together, so that a product has many columns; where one image's patches are
    more than the workspace holds, bands of its rows are taken one after the other.
    """

    def __init__(
        self, xp: Any, source: Any, height: Axis, width: Axis, groups: int, among: int = 1
    ) -> None:
        """Take an equal part of the workspace `among` so many."""
        batch, channels = source.shape[:2]
        room = WORKSPACE_BYTES // (among * source.dtype.itemsize)
        self.source, self.height, self.width, self.groups = source, height, width, groups
        row = channels * len(height.offsets) * len(width.offsets) * width.outputs
        fitting = max(1, room // (row * height.outputs))
        wanted = min(-(-COLUMNS // (height.outputs * width.outputs)), fitting)
        self.images = max(n for n in range(1, min(batch, wanted) + 1) if batch % n == 0)
        rows = max(1, room // (row * self.images))
        self.first = min(height.offsets)
        self.reach = max(height.offsets) - self.first + height.step * (height.outputs - 1) + 1
        if len(height.offsets) == 1:  # what is gathered along the width are the patches already
            rows, self.reach = height.outputs, height.outputs
        self.rows = min(rows, height.outputs)
        self.is_source = self.images == 1 and height.is_plain and width.is_plain
        if self.is_source:
            return
        # Zeros around the image are written once: what is gathered never covers them.
        self.lines = xp.zeros(
            (channels, len(width.offsets), self.images, self.reach, width.outputs), source.dtype
        )
        if len(height.offsets) > 1:
            self.buffer = xp.empty(row * self.images * self.rows, source.dtype)

    def of(self, image: int) -> Iterator[tuple[slice, Any]]:
        """Yield bands of rows with their patches, from `image` on for `images` of them.

        The patches have the shape (groups, channels x taps, images x outputs).
        """
        if self.is_source:
            channels = self.source.shape[1]
            yield (
                slice(0, self.rows),
                self.source[image].reshape(self.groups, channels // self.groups, -1),
            )
            return
        self._gather_lines(image)
        if len(self.height.offsets) == 1:
            yield slice(0, self.rows), self.lines.reshape(self.groups, -1, self.lines[0, 0].size)
            return
        for start in range(0, self.height.outputs, self.rows):
            band = slice(start, min(start + self.rows, self.height.outputs))
            yield band, self._gather(band)

    def _gather_lines(self, image: int) -> None:
        """Gather along the width."""
        images = self.source[image : image + self.images].swapaxes(0, 1)
        if len(self.height.offsets) == 1:
            to_row, at_row = self.height.met(0)
        else:
            # 0 where all that is read lies above the image, as in padding wider than the kernel.
            end = max(0, min(self.height.size, self.first + self.reach))
            at_row = slice(max(0, self.first), end)
            to_row = slice(at_row.start - self.first, at_row.stop - self.first)
        for tap in range(len(self.width.offsets)):
            to, at = self.width.met(tap)
            self.lines[:, tap, :, to_row, to] = images[:, :, at_row, at]

    def _gather(self, band: slice) -> Any:
        """Gather along the height."""
        step, rows = self.height.step, band.stop - band.start
        channels, columns, images, _, width = self.lines.shape
        shape = (channels, len(self.height.offsets), columns, images, rows, width)
        whole = self.buffer[: math.prod(shape)].reshape(shape)
        for tap, offset in enumerate(self.height.offsets):
            start = offset - self.first + step * band.start
            whole[:, tap] = self.lines[:, :, :, start : start + step * (rows - 1) + 1 : step]
        return whole.reshape(self.groups, -1, images * rows * width)


def correlate(
    xp: Any, source: Any, height: Axis, width: Axis, groups: int, target: Any, *, among: int = 1
) -> Callable[[Any], None]:
    """Return a function of weights (groups, channels, patch) that fills `target` (N, C, H, W)."""
    patches = Patches(xp, source, height, width, groups, among)
    batch, channels = target.shape[:2]
    images = patches.images
    direct = images == 1 and target.flags.c_contiguous
    if not direct:
        buffer = xp.empty(channels * images * patches.rows * width.outputs, target.dtype)

    def fill(weights: Any) -> None:
        for image in range(0, batch, images):
            for band, matrix in patches.of(image):
                if direct:
                    flat = target[image].reshape(groups, channels // groups, -1)
                    part = slice(band.start * width.outputs, band.stop * width.outputs)
                    xp.matmul(weights, matrix, out=flat[..., part])
                else:
                    product = buffer[: channels * matrix.shape[2]]
                    shape = (groups, channels // groups, matrix.shape[2])
                    xp.matmul(weights, matrix, out=product.reshape(shape))
                    rows = product.reshape(channels, images, -1, width.outputs)
                    target[image : image + images, :, band] = rows.swapaxes(0, 1)

    return fill


def forward_array(xp: Any, dims: Dims, x: Any, w: Any) -> Call:
    """Multiply the weights with patches of x, or with x itself where the kernel is one point."""
    shape = shape_of(dims)
    groups = shape.groups
    y = xp.empty(shape.y, x.dtype)
    weights = w.reshape(groups, shape.out_channels // groups, -1)
    if shape.is_pointwise:
        flat_x = x.reshape(shape.batch, groups, shape.in_channels // groups, -1)
        flat_y = y.reshape(shape.batch, groups, shape.out_channels // groups, -1)

        def product() -> Any:
            xp.matmul(weights, flat_x, out=flat_y)
            return y

        return product
    fill = correlate(xp, x, *shape.forward_axes(), groups, y)

    def call() -> Any:
        fill(weights)
        return y

    return call


def input_gradient_array(xp: Any, dims: Dims, dy: Any, w: Any) -> Call:
    """Multiply the transposed weights with patches of dy.

    Inputs that lie `stride` apart are read by the same taps. Each such residue is a convolution of
    dy with these taps alone, written to every stride-th place: nothing is added up, and nothing
    multiplied by the zeros that a dilated dy would hold. Only where x has few channels beside
    y would the patches of dy be too many.
    """
    shape = shape_of(dims)
    groups, stride = shape.groups, shape.stride
    dx = xp.empty(shape.x, dy.dtype)
    # (groups, in, out, kernel, kernel_width)
    transposed = w.reshape(groups, -1, *shape.w[1:]).swapaxes(1, 2)
    if shape.is_pointwise:
        flat_dy = dy.reshape(shape.batch, groups, shape.out_channels // groups, -1)
        flat_dx = dx.reshape(shape.batch, groups, shape.in_channels // groups, -1)
        weights = transposed.reshape(*transposed.shape[:3])

        def product() -> Any:
            xp.matmul(weights, flat_dy, out=flat_dx)
            return dx

        return product
    due_bytes = dy.itemsize * math.prod((shape.in_channels, *shape.kernel, *shape.output))
    few = SCATTERED * shape.in_channels <= shape.out_channels
    if few and due_bytes <= WORKSPACE_BYTES:
        return _scatter(xp, shape, dy, transposed, dx)
    fills: list[Callable[[], None]] = []
    for row in range(min(stride, shape.size[0])):
        for column in range(min(stride, shape.size[1])):
            fills.append(_residue(xp, shape, dy, transposed, dx, (row, column)))

    def call() -> Any:
        for fill in fills:
            fill()
        return dx

    return call


def _scatter(xp: Any, shape: Shape, dy: Any, transposed: Any, dx: Any) -> Call:
    """Return a call that multiplies first and then adds up what each input is due (col2im)."""
    groups, channels, pixels = shape.groups, shape.in_channels, math.prod(shape.output)
    due = xp.empty((channels, *shape.kernel, *shape.output), dx.dtype)
    height, width = shape.forward_axes()
    places = [
        (*height.met(a), *width.met(b), a, b)
        for a in range(shape.kernel[0])
        for b in range(shape.kernel[1])
    ]

    def call() -> Any:
        # (groups, in x kernel, out)
        weights = transposed.swapaxes(2, 3).swapaxes(3, 4).reshape(groups, -1, transposed.shape[2])
        dx.fill(0)
        for image in range(shape.batch):
            gradient = dy[image].reshape(groups, -1, pixels)
            xp.matmul(weights, gradient, out=due.reshape(groups, -1, pixels))
            for row, to_row, column, to_column, a, b in places:
                dx[image, :, to_row, to_column] += due[:, a, b, row, column]
        return dx

    return call


def _residue(
    xp: Any, shape: Shape, dy: Any, transposed: Any, dx: Any, start: tuple[int, int]
) -> Callable[[], None]:
    """Return what fills every stride-th place of dx from `start` on."""
    stride = shape.stride
    target = dx[:, :, start[0] :: stride, start[1] :: stride]
    (height, rows), (width, columns) = shape.residue(start)
    if not (height.offsets and width.offsets):
        # No output reads these places.
        return lambda: target.fill(0)
    fill = correlate(xp, dy, height, width, shape.groups, target, among=stride**2)
    chosen = transposed[..., rows, columns]

    def call() -> None:
        fill(chosen.reshape(shape.groups, chosen.shape[1], -1))

    return call


def weight_gradient_array(xp: Any, dims: Dims, x: Any, dy: Any) -> Call:
    """Multiply dy with the transposed patches of x, and add up over the images."""
    shape = shape_of(dims)
    groups, channels = shape.groups, shape.out_channels
    dw = xp.empty(shape.w, x.dtype)
    total = dw.reshape(groups, channels // groups, -1)
    part = xp.empty_like(total)
    patches = Patches(xp, x, *shape.forward_axes(), groups)
    images = patches.images
    # The images beside each other, in the order of the product's inner dimension.
    together = xp.empty((channels, images, *shape.output), x.dtype) if images > 1 else None

    def call() -> Any:
        for image in range(0, shape.batch, images):
            gradient = dy[image : image + images].swapaxes(0, 1)
            if together is not None:
                together[...] = gradient
                gradient = together
            for band, matrix in patches.of(image):
                rows = gradient[:, :, band].reshape(groups, channels // groups, -1)
                if image == 0 and band.start == 0:
                    xp.matmul(rows, matrix.swapaxes(1, 2), out=total)
                else:
                    xp.matmul(rows, matrix.swapaxes(1, 2), out=part)
                    xp.add(total, part, out=total)
        return dw

    return call
