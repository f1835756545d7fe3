"""Copies to a GPU and back: the buffers, the bytes and the two kinds of memory, on fakes."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench import catalog
from bench.measuring.exchange import read_arrays
from bench.measuring.reference import draw
from bench.measuring.verification import relative_error
from tests.fakes import torch_backend

TRANSFER = catalog.workloads()["transfer"]
PHASES = ("to_device", "to_host")


class FakeArray:
    """An array of a GPU, as CuPy has it: what it holds can be seen from outside."""

    def __init__(self, values: Any) -> None:
        self.values = np.array(values)
        self.calls: list[dict[str, Any]] = []

    def set(self, host: Any) -> None:
        self.values[...] = host

    def get(self, out: Any, blocking: bool = True) -> Any:
        self.calls.append({"blocking": blocking})
        out[...] = self.values
        return out


def fake_cupy(locked: list[int]) -> SimpleNamespace:
    def alloc(length: int) -> bytearray:
        locked.append(length)
        return bytearray(length)

    return SimpleNamespace(
        asnumpy=lambda array: array.values.copy(),
        empty_like=lambda array: FakeArray(np.zeros_like(array.values)),
        cuda=SimpleNamespace(alloc_pinned_memory=alloc),
    )


@pytest.mark.parametrize("phase", PHASES)
def test_pytorch_copies_every_bit(phase: str, tmp_path: Path) -> None:
    backend = torch_backend()
    drawn = draw(np, TRANSFER, {"bytes": 4096}, phase, "float32", 0, tmp_path)
    x = backend.to_device(read_arrays(Path(drawn.inputs))[0])
    prepare = TRANSFER.phases[phase].implementation("torch-cuda")
    assert prepare is not None
    call = prepare(backend.namespace, {"bytes": 4096}, x)
    first = call()
    backend.poison(first)
    assert call() is first, "into the same buffer"
    assert relative_error(backend, first, drawn.reference) == 0.0
    assert first is not x


@pytest.mark.parametrize("variant", [None, "pinned"])
@pytest.mark.parametrize("phase", PHASES)
def test_cupy_copies_every_bit_from_the_memory_it_is_meant_to(
    phase: str, variant: str | None
) -> None:
    locked: list[int] = []
    x = FakeArray(np.arange(1024, dtype="float32"))
    prepare = TRANSFER.phases[phase].implementation("cupy", variant)
    assert prepare is not None
    call = prepare(fake_cupy(locked), {"bytes": 4096}, x)
    x.calls.clear()
    got: Any = call()
    values = got.values if phase == "to_device" else got
    assert values.tolist() == list(range(1024))
    values.fill(np.nan)
    assert call() is got, "into the same buffer"
    assert values.tolist() == list(range(1024))
    assert locked == ([4096] if variant == "pinned" else [])
    if phase == "to_host":
        assert x.calls == [{"blocking": variant is None}] * 2


def test_long_inputs_repeat_what_was_drawn() -> None:
    (short,) = TRANSFER.inputs(np.random.default_rng(0), {"bytes": 2**22})
    (long,) = TRANSFER.inputs(np.random.default_rng(0), {"bytes": 2**23 + 4})
    assert long.nbytes == 2**23 + 4
    assert long[: len(short)].tolist() == short.tolist()
    assert long[len(short) : 2 * len(short)].tolist() == short.tolist()


def test_sizes_go_from_four_kilobytes_to_a_gigabyte() -> None:
    sizes = [size.dims["bytes"] for size in TRANSFER.sizes]
    assert (sizes[0], sizes[-1]) == (4096, 2**30)
    assert all(4 * a == b for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize("given", [{"n": 4}, {"bytes": 0}, {"bytes": 6}])
def test_a_size_that_holds_no_whole_elements_is_refused(given: dict[str, int]) -> None:
    assert TRANSFER.resize is not None
    with pytest.raises(ValueError, match="give bytes, a multiple of 4"):
        TRANSFER.resize(given)
