"""The dimensions of a convolution, and which inputs each output reads."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.workload import Dims

NEEDED = ("batch", "in_channels", "height", "out_channels", "kernel")
OPTIONAL = (
    *("width", "kernel_width", "padding", "padding_width"),
    *("stride", "dilation", "groups"),
)


class Axis(NamedTuple):
    """How outputs read inputs along one axis: output i reads input `step * i + offset` per tap."""

    size: int
    outputs: int
    step: int
    offsets: Sequence[int]

    @property
    def is_plain(self) -> bool:
        """Whether output i reads input i and no other."""
        return self.step == 1 and list(self.offsets) == [0] and self.size == self.outputs

    def met(self, tap: int) -> tuple[slice, slice]:
        """Return the outputs whose tap meets an input, and the inputs that they read."""
        offset = self.offsets[tap]
        first = max(0, -(offset // self.step))
        end = max(first, min(self.outputs, (self.size - 1 - offset) // self.step + 1))
        start = self.step * first + offset
        return slice(first, end), slice(start, start + self.step * (end - first), self.step)


class Shape(NamedTuple):
    """The dimensions of a convolution with its defaults filled in; pairs are (height, width)."""

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    padding: tuple[int, int]
    stride: int
    dilation: int

    @property
    def output(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        reach = [self.dilation * (kernel - 1) for kernel in self.kernel]
        rows, columns = (
            (size + 2 * padding - taps - 1) // self.stride + 1
            for size, padding, taps in zip(self.size, self.padding, reach, strict=True)
        )
        return rows, columns

    @property
    def x(self) -> tuple[int, int, int, int]:
        """The shape of the input."""
        return self.batch, self.in_channels, *self.size

    @property
    def w(self) -> tuple[int, int, int, int]:
        """The shape of the weights."""
        return self.out_channels, self.in_channels // self.groups, *self.kernel

    @property
    def y(self) -> tuple[int, int, int, int]:
        """The shape of the output."""
        return self.batch, self.out_channels, *self.output

    @property
    def is_pointwise(self) -> bool:
        """Whether every output reads the one input at its own place: a matrix product."""
        return self.kernel == (1, 1) and self.padding == (0, 0) and self.stride == 1

    def forward_axes(self) -> tuple[Axis, Axis]:
        """Return how outputs read inputs, along the height and along the width."""
        height, width = (
            Axis(size, outputs, self.stride, [self.dilation * a - padding for a in range(kernel)])
            for size, outputs, kernel, padding in zip(
                self.size, self.output, self.kernel, self.padding, strict=True
            )
        )
        return height, width

    def residue(self, start: tuple[int, int]) -> list[tuple[Axis, slice]]:
        """Return how every stride-th input from `start` on reads outputs, and by which taps.

        Inputs that lie `stride` apart are read by the same taps. Where none reads them there are
        no offsets.
        """
        found = []
        for first, size, outputs, kernel, padding in zip(
            start, self.size, self.output, self.kernel, self.padding, strict=True
        ):
            distance = [first + padding - self.dilation * a for a in range(kernel)]
            taps = [a for a, d in enumerate(distance) if d % self.stride == 0]
            offsets = [distance[a] // self.stride for a in taps]
            inputs = len(range(first, size, self.stride))
            chosen = slice(0, 0)
            if taps:
                apart = taps[1] - taps[0] if len(taps) > 1 else 1
                chosen = slice(taps[0], taps[-1] + 1, apart)
            found.append((Axis(outputs, inputs, 1, offsets), chosen))
        return found


def shape_of(dims: Dims) -> Shape:
    """Fill the defaults in."""
    kernel, padding, height = dims["kernel"], dims.get("padding", 0), dims["height"]
    return Shape(
        batch=dims["batch"],
        in_channels=dims["in_channels"],
        out_channels=dims["out_channels"],
        groups=dims.get("groups", 1),
        size=(height, dims.get("width", height)),
        kernel=(kernel, dims.get("kernel_width", kernel)),
        padding=(padding, dims.get("padding_width", padding)),
        stride=dims.get("stride", 1),
        dilation=dims.get("dilation", 1),
    )


def resize(given: Dims) -> Dims:
    """Refuse what is no convolution."""
    unknown = sorted(set(given) - {*NEEDED, *OPTIONAL})
    missing = [name for name in NEEDED if name not in given]
    if unknown or missing:
        problem = f"has no dimension {unknown[0]!r}" if unknown else f"needs {missing[0]!r}"
        raise ValueError(
            f"{problem}; give {', '.join(NEEDED)}, and as needed {', '.join(OPTIONAL)}"
        )
    zero = next((name for name in given if given[name] < 1 and "padding" not in name), None)
    if zero is not None:
        raise ValueError(f"{zero} begins at 1; padding alone may be 0")
    shape = shape_of(given)
    if shape.in_channels % shape.groups or shape.out_channels % shape.groups:
        raise ValueError(f"groups={shape.groups} does not divide both numbers of channels")
    if min(shape.output) < 1:
        raise ValueError("the kernel is larger than the padded input; give more padding")
    return given
