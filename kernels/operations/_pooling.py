"""What max and average pooling share: windows along the two axes of an image, and the layers.

Arrays are (planes, height, width); a plane is one channel of one image. Windows are taken apart
into taps, each of which meets one input per output: along the rows first, where memory is
contiguous, then along the columns of what is left.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.workload import Dims, Size

from ._conv2d_shape import Axis

NEEDED = ("batch", "channels", "height", "kernel")
OPTIONAL = ("width", "stride", "padding")


def axes_of(x: Any, kernel: int, stride: int, padding: int) -> tuple[Axis, Axis]:
    """Return how windows read the height and the width of x."""
    rows, columns = (_axis(size, kernel, stride, padding) for size in x.shape[-2:])
    return rows, columns


def _axis(size: int, kernel: int, stride: int, padding: int) -> Axis:
    outputs = (size + 2 * padding - kernel) // stride + 1
    return Axis(size, outputs, stride, [tap - padding for tap in range(kernel)])


def met(axis: Axis) -> Iterator[tuple[slice, slice]]:
    """Yield, for each tap, the outputs that meet an input and the inputs that they read."""
    return (axis.met(tap) for tap in range(len(axis.offsets)))


def gather(
    xp: Any, combine: Callable[..., Any], x: Any, rows: Axis, columns: Axis, y: Any, start: float
) -> None:
    """Combine the inputs of each window, beginning with `start`, into y."""
    bands = xp.full((len(x), rows.outputs, columns.size), start, x.dtype)
    for outputs, inputs in met(rows):
        band = bands[:, outputs]
        combine(band, x[:, inputs], out=band)
    y.fill(start)
    for outputs, inputs in met(columns):
        part = y[..., outputs]
        combine(part, bands[..., inputs], out=part)


def scatter(xp: Any, dy: Any, rows: Axis, columns: Axis, dx: Any) -> None:
    """Add the gradient of each output to all inputs of its window, which begin as zero."""
    bands = xp.zeros((len(dy), rows.outputs, columns.size), dy.dtype)
    for outputs, inputs in met(columns):
        bands[..., inputs] += dy[..., outputs]
    dx.fill(0)
    for outputs, inputs in met(rows):
        dx[:, inputs] += bands[:, outputs]


def planes(x: Any) -> Any:
    """Return x as (planes, height, width)."""
    return x.reshape(-1, *x.shape[-2:])


def options(dims: Dims) -> dict[str, Any]:
    """Return kernel, stride and padding; the stride is the kernel where it is not given."""
    kernel = dims["kernel"]
    return {
        "kernel": kernel,
        "stride": dims.get("stride", kernel),
        "padding": dims.get("padding", 0),
    }


def shape_of_x(dims: Dims) -> tuple[int, int, int, int]:
    """Return (batch, channels, height, width)."""
    height = dims["height"]
    return dims["batch"], dims["channels"], height, dims.get("width", height)


def shape_of_y(dims: Dims) -> tuple[int, int, int, int]:
    """Return (batch, channels, rows, columns)."""
    batch, channels, *sides = shape_of_x(dims)
    rows, columns = (_axis(side, **options(dims)).outputs for side in sides)
    return batch, channels, rows, columns


def resize(given: Mapping[str, int]) -> Dims:
    """Refuse what is no pooling."""
    if not set(NEEDED) <= set(given) <= {*NEEDED, *OPTIONAL}:
        raise ValueError(f"give {', '.join(NEEDED)} (and {', '.join(OPTIONAL)})")
    for name, value in given.items():
        if value < (name != "padding"):
            raise ValueError(f"{name} begins at {int(name != 'padding')}")
    if 2 * given.get("padding", 0) > given["kernel"]:
        raise ValueError("padding is at most half of the kernel: a window needs an input")
    if min(shape_of_y(given)) < 1:
        raise ValueError("the kernel is larger than the padded input; give more padding")
    return given


def draw_x(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw x from N(0, 1)."""
    return (rng.standard_normal(shape_of_x(dims), dtype="float32"),)


def draw_x_and_dy(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw x and dy from N(0, 1)."""
    return (*draw_x(rng, dims), rng.standard_normal(shape_of_y(dims), dtype="float32"))


def layer(
    name: str, batch: int, channels: int, height: int, preset: str = "standard", **window: int
) -> Size:
    """Name a layer."""
    dims = {"batch": batch, "channels": channels, "height": height, **window}
    return Size(dims=dims, preset=preset, name=name)
