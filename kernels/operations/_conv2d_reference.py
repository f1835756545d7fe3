"""What a convolution and its gradients should be, in float64: one product for each tap, added up.

A convolution is linear in its weights and in its input, so a projection of the output's channels is
a convolution with few channels: every output of a huge one is checked, at a fraction of the cost.
"""

from collections.abc import Iterator
from typing import Any

from bench.workload import Dims, Projection

from ._conv2d_shape import Shape, shape_of

VECTORS = 8  # the estimate of the error is then good to 1 part in 4


def windows(shape: Shape, padded: Any) -> Iterator[tuple[int, int, Any]]:
    """Yield each tap with the inputs that it reads: a view of (batch, channels, rows, columns)."""
    rows, columns = shape.output
    for a in range(shape.kernel[0]):
        for b in range(shape.kernel[1]):
            top, left = shape.dilation * a, shape.dilation * b
            down = slice(top, top + shape.stride * (rows - 1) + 1, shape.stride)
            across = slice(left, left + shape.stride * (columns - 1) + 1, shape.stride)
            yield a, b, padded[:, :, down, across]


def pad(numpy: Any, shape: Shape, x: Any) -> Any:
    """Surround images with zeros."""
    return numpy.pad(x, [(0, 0), (0, 0), *((p, p) for p in shape.padding)])


def grouped(shape: Shape, images: Any) -> Any:
    """Return (batch, groups, channels of a group, pixels)."""
    return images.reshape(images.shape[0], shape.groups, images.shape[1] // shape.groups, -1)


def forward_reference(numpy: Any, dims: Dims, x: Any, w: Any) -> Any:
    """Add up w[a, b] times the inputs that tap (a, b) reads."""
    shape = shape_of(dims)
    weights = w.reshape(shape.groups, -1, *w.shape[1:])
    y = 0.0
    for a, b, window in windows(shape, pad(numpy, shape, x)):
        y = y + numpy.matmul(weights[..., a, b], grouped(shape, window))
    return numpy.asarray(y).reshape(x.shape[0], w.shape[0], *shape.output)


def input_gradient_reference(numpy: Any, dims: Dims, dy: Any, w: Any) -> Any:
    """Add w[a, b] transposed times dy to the inputs that tap (a, b) reads."""
    shape = shape_of(dims)
    weights = w.reshape(shape.groups, -1, *w.shape[1:]).swapaxes(1, 2)
    channels = w.shape[1] * shape.groups
    (height, width), (above, left) = shape.size, shape.padding
    padded = numpy.zeros((dy.shape[0], channels, height + 2 * above, width + 2 * left))
    for a, b, window in windows(shape, padded):
        product = numpy.matmul(weights[..., a, b], grouped(shape, dy))
        window += product.reshape(window.shape)
    return padded[:, :, above : above + height, left : left + width]


def weight_gradient_reference(numpy: Any, dims: Dims, x: Any, dy: Any) -> Any:
    """Multiply dy with the inputs that each tap reads."""
    shape = shape_of(dims)
    dw = numpy.empty((dy.shape[1], x.shape[1] // shape.groups, *shape.kernel))
    gradient = grouped(shape, dy)
    for a, b, window in windows(shape, pad(numpy, shape, x)):
        products = numpy.matmul(gradient, grouped(shape, window).swapaxes(2, 3))
        dw[..., a, b] = products.sum(axis=0).reshape(dw.shape[:2])
    return dw


def forward_projection(numpy: Any, rng: Any, dims: Dims, x: Any, w: Any) -> Projection | None:
    """Project the output channels of w."""
    if dims.get("groups", 1) > 1:
        return None
    vectors = rng.standard_normal((w.shape[0], VECTORS))
    few = numpy.tensordot(vectors, w, axes=(0, 0))
    return Projection(vectors=vectors, expected=forward_reference(numpy, dims, x, few), axis=1)


def input_gradient_projection(
    numpy: Any, rng: Any, dims: Dims, dy: Any, w: Any
) -> Projection | None:
    """Project the input channels of w."""
    if dims.get("groups", 1) > 1:
        return None
    vectors = rng.standard_normal((w.shape[1], VECTORS))
    few = numpy.tensordot(w, vectors, axes=(1, 0)).transpose(0, 3, 1, 2)
    expected = input_gradient_reference(numpy, dims, dy, numpy.ascontiguousarray(few))
    return Projection(vectors=vectors, expected=expected, axis=1)


def weight_gradient_projection(
    numpy: Any, rng: Any, dims: Dims, x: Any, dy: Any
) -> Projection | None:
    """Project the channels of x."""
    if dims.get("groups", 1) > 1:
        return None
    vectors = rng.standard_normal((x.shape[1], VECTORS))
    few = numpy.tensordot(x, vectors, axes=(1, 0)).transpose(0, 3, 1, 2)
    expected = weight_gradient_reference(numpy, dims, numpy.ascontiguousarray(few), dy)
    return Projection(vectors=vectors, expected=expected, axis=1)
