"""The convolutions of ResNet-50 v1.5, VGG-16 and -19 and DeepBench.

Sources: He et al., 2016, with the stride in the 3x3 layer; Simonyan and Zisserman, 2015; their
multiplicities as in oneDNN's `tests/benchdnn/inputs/conv`; DeepBench (Baidu Research), the training
problems of `code/kernels/conv_problems.h`.
"""

from collections.abc import Mapping

from bench.workload import Size


def layer(
    name: str,
    in_channels: int,
    out_channels: int,
    height: int,
    kernel: int,
    stride: int = 1,
    *,
    preset: str,
    batch: int = 8,
    networks: Mapping[str, int],
) -> Size:
    """Name a square layer, padded so that its output has height / stride rows."""
    dims = {
        "batch": batch,
        "in_channels": in_channels,
        "height": height,
        "out_channels": out_channels,
        "kernel": kernel,
        "stride": stride,
        "padding": kernel // 2,
    }
    strided = f"s{stride}" if stride > 1 else ""
    full = f"{name}.{kernel}x{kernel}{strided}"
    return Size(dims=dims, preset=preset, name=full, networks=networks)


# (in, out, height, kernel, stride), how often: 23 layers that stand for 53.
RESNET50 = [
    ((3, 64, 224, 7, 2), 1),
    ((64, 64, 56, 1, 1), 1),
    ((64, 64, 56, 3, 1), 3),
    ((64, 256, 56, 1, 1), 4),
    ((256, 64, 56, 1, 1), 2),
    ((256, 128, 56, 1, 1), 1),
    ((128, 128, 56, 3, 2), 1),
    ((128, 512, 28, 1, 1), 4),
    ((256, 512, 56, 1, 2), 1),
    ((512, 128, 28, 1, 1), 3),
    ((128, 128, 28, 3, 1), 3),
    ((512, 256, 28, 1, 1), 1),
    ((256, 256, 28, 3, 2), 1),
    ((256, 1024, 14, 1, 1), 6),
    ((512, 1024, 28, 1, 2), 1),
    ((1024, 256, 14, 1, 1), 5),
    ((256, 256, 14, 3, 1), 5),
    ((1024, 512, 14, 1, 1), 1),
    ((512, 512, 14, 3, 2), 1),
    ((512, 2048, 7, 1, 1), 3),
    ((1024, 2048, 14, 1, 2), 1),
    ((2048, 512, 7, 1, 1), 2),
    ((512, 512, 7, 3, 1), 2),
]
# (in, out, height), how often in VGG-16 and in VGG-19: the same nine layers.
VGG = [
    ((3, 64, 224), 1, 1),
    ((64, 64, 224), 1, 1),
    ((64, 128, 112), 1, 1),
    ((128, 128, 112), 1, 1),
    ((128, 256, 56), 1, 1),
    ((256, 256, 56), 2, 3),
    ((256, 512, 28), 1, 1),
    ((512, 512, 28), 2, 3),
    ((512, 512, 14), 3, 4),
]
# DeepBench's training problems: (width, height, in, out, kernel_width, kernel, padding, stride)
# and the batches, each once.
DEEPBENCH = [
    ((700, 161, 1, 32, 20, 5, 0, 2), (4, 8, 16, 32)),
    ((341, 79, 32, 32, 10, 5, 0, 2), (4, 8, 16, 32)),
    ((480, 48, 1, 16, 3, 3, 1, 1), (16,)),
    ((240, 24, 16, 32, 3, 3, 1, 1), (16,)),
    ((120, 12, 32, 64, 3, 3, 1, 1), (16,)),
    ((60, 6, 64, 128, 3, 3, 1, 1), (16,)),
    ((108, 108, 3, 64, 3, 3, 1, 2), (8,)),
    ((54, 54, 64, 64, 3, 3, 1, 1), (8,)),
    ((27, 27, 128, 128, 3, 3, 1, 1), (8,)),
    ((14, 14, 128, 256, 3, 3, 1, 1), (8,)),
    ((7, 7, 256, 512, 3, 3, 1, 1), (8,)),
    ((224, 224, 3, 64, 3, 3, 1, 1), (8, 16)),
    ((112, 112, 64, 128, 3, 3, 1, 1), (8, 16)),
    ((56, 56, 128, 256, 3, 3, 1, 1), (8, 16)),
    ((28, 28, 256, 512, 3, 3, 1, 1), (8, 16)),
    ((14, 14, 512, 512, 3, 3, 1, 1), (8, 16)),
    ((7, 7, 512, 512, 3, 3, 1, 1), (8, 16)),
    ((224, 224, 3, 64, 7, 7, 3, 2), (16,)),
    ((28, 28, 192, 32, 5, 5, 2, 1), (16,)),
    ((28, 28, 192, 64, 1, 1, 0, 1), (16,)),
    ((14, 14, 512, 48, 5, 5, 2, 1), (16,)),
    ((14, 14, 512, 192, 1, 1, 0, 1), (16,)),
    ((7, 7, 832, 256, 1, 1, 0, 1), (16,)),
    ((7, 7, 832, 128, 5, 5, 2, 1), (16,)),
    ((56, 56, 64, 64, 3, 3, 1, 1), (8, 16)),
    ((56, 56, 64, 256, 1, 1, 0, 2), (8, 16)),
    ((28, 28, 128, 128, 3, 3, 1, 1), (8, 16)),
    ((28, 28, 128, 512, 1, 1, 0, 2), (8, 16)),
    ((14, 14, 256, 256, 1, 1, 0, 1), (8, 16)),
    ((14, 14, 256, 256, 3, 3, 1, 1), (8, 16)),
    ((14, 14, 256, 1024, 1, 1, 0, 2), (8, 16)),
    ((7, 7, 512, 512, 1, 1, 0, 1), (8, 16)),
    ((7, 7, 2048, 512, 1, 1, 3, 2), (8, 16)),
    ((700, 161, 1, 64, 5, 5, 1, 2), (16,)),
    ((350, 80, 64, 64, 3, 3, 1, 1), (16,)),
    ((350, 80, 64, 128, 5, 5, 1, 2), (16,)),
    ((175, 40, 128, 128, 3, 3, 1, 1), (16,)),
    ((175, 40, 128, 256, 5, 5, 1, 2), (16,)),
    ((84, 20, 256, 256, 3, 3, 1, 1), (16,)),
    ((84, 20, 256, 512, 5, 5, 1, 2), (16,)),
    ((42, 10, 512, 512, 3, 3, 1, 1), (16,)),
    ((112, 112, 64, 64, 1, 1, 0, 1), (8, 16)),
    ((56, 56, 64, 256, 1, 1, 0, 1), (8, 16)),
    ((56, 56, 256, 64, 1, 1, 0, 1), (8, 16)),
    ((56, 56, 256, 128, 1, 1, 0, 2), (8, 16)),
    ((28, 28, 128, 512, 1, 1, 0, 1), (8, 16)),
    ((28, 28, 512, 128, 1, 1, 0, 1), (8, 16)),
    ((28, 28, 512, 256, 1, 1, 0, 2), (8, 16)),
    ((14, 14, 256, 1024, 1, 1, 0, 1), (8, 16)),
    ((28, 28, 512, 1024, 1, 1, 0, 2), (8, 16)),
    ((14, 14, 1024, 256, 1, 1, 0, 1), (8, 16)),
    ((14, 14, 1024, 512, 1, 1, 0, 2), (8, 16)),
    ((7, 7, 512, 2048, 1, 1, 0, 1), (8, 16)),
    ((14, 14, 1024, 2048, 1, 1, 0, 2), (8, 16)),
    ((7, 7, 2048, 512, 1, 1, 0, 1), (8, 16)),
]


def deepbench(problem: tuple[int, ...], batch: int) -> Size:
    """Name a problem of DeepBench by its own order of dimensions."""
    width, height, channels, filters, kernel_width, kernel, padding, stride = problem
    dims = {
        "batch": batch,
        "in_channels": channels,
        "height": height,
        "width": width,
        "out_channels": filters,
        "kernel": kernel,
        "kernel_width": kernel_width,
        "stride": stride,
        "padding": padding,
    }
    strided = f"s{stride}" if stride > 1 else ""
    name = f"deepbench.{width}x{height}x{channels}.{filters}.{kernel_width}x{kernel}{strided}"
    return Size(dims=dims, preset="thorough", name=name)


SIZES = [
    *(
        layer(f"resnet50.{i}", *dims, preset="quick", networks={"resnet50": count})
        for i, (dims, count) in enumerate(RESNET50, 1)
    ),
    *(
        layer(f"vgg16.{i}", *dims, 3, preset="standard", networks={"vgg16": few, "vgg19": many})
        for i, (dims, few, many) in enumerate(VGG, 1)
    ),
    *(deepbench(problem, batch) for problem, batches in DEEPBENCH for batch in batches),
]
