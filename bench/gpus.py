"""Which NVIDIA GPUs `--gpu` means: resolved once, so that CUDA and the driver mean the same one.

The driver counts GPUs by their slots, CUDA by their speed unless it is told otherwise; names that
mean one thing to both are UUIDs.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import RequestError


@dataclass(frozen=True)
class Gpu:
    """One GPU; `index` is that of nvidia-smi."""

    index: int
    uuid: str
    name: str


def present_gpus() -> list[Gpu]:
    """Return the GPUs that the driver sees, in its order.

    Raises:
        RequestError: There is no driver that could tell.
    """
    import pynvml

    def text(value: str | bytes) -> str:
        return value.decode() if isinstance(value, bytes) else value

    try:
        pynvml.nvmlInit()
        handles = [
            (i, pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())
        ]
        return [
            Gpu(i, text(pynvml.nvmlDeviceGetUUID(handle)), text(pynvml.nvmlDeviceGetName(handle)))
            for i, handle in handles
        ]
    except pynvml.NVMLError as error:
        raise RequestError(
            f"--gpu: the NVIDIA driver does not answer ({error}); see bench doctor"
        ) from error


def choose_gpus(asked: str, present: Sequence[Gpu]) -> list[Gpu]:
    """Return the GPUs that `asked` names: indices or UUIDs with commas between, or `all`.

    Raises:
        RequestError: There is none of that name, or the environment hides it.
    """
    listing = ", ".join(f"{gpu.index} {gpu.name}" for gpu in present) or "none"
    chosen: list[Gpu] = []
    for name in asked.split(","):
        name = name.strip()
        found = [
            gpu
            for gpu in present
            if name == "all" or name == str(gpu.index) or (name and _is_uuid_of(name, gpu))
        ]
        if not found or (name != "all" and len(found) > 1):
            what = "there is no such GPU" if not found else "several GPUs begin so"
            raise RequestError(f"--gpu {name}: {what}; there are: {listing}")
        chosen += [gpu for gpu in found if gpu not in chosen]
    hidden = [gpu for gpu in chosen if not _is_visible(gpu)]
    if hidden:
        raise RequestError(
            f"--gpu {hidden[0].index}: CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}"
            " hides it; unset that, or choose one that it names"
        )
    return chosen


def _is_uuid_of(name: str, gpu: Gpu) -> bool:
    return name.startswith("GPU-") and gpu.uuid.startswith(name)


def _is_visible(gpu: Gpu) -> bool:
    """Tell whether CUDA_VISIBLE_DEVICES, read with the driver's indices, lets CUDA see it."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return True
    names = [name.strip() for name in shown.split(",")]
    return any(name == str(gpu.index) or _is_uuid_of(name, gpu) for name in names)
