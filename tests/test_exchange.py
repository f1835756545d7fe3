from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from bench.measuring.exchange import ALIGNMENT, HostArray, extend, read_arrays, write_arrays
from tests.fakes import numpy_backend, torch_backend

DTYPES = ["float64", "float32", "float16", "int64", "int32", "uint8"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays_of.arrays(
        dtype,
        arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        elements=st.integers(0, 100),
    )
)


def host(array: Any) -> HostArray:
    flat = np.ascontiguousarray(array).reshape(-1)
    return HostArray(array.shape, array.dtype.name, flat.view("uint8").data)


@given(st.lists(ARRAYS, max_size=4))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None
)
def test_what_is_written_is_read_by_numpy_and_torch_alike(
    tmp_path: Path, arrays: list[Any]
) -> None:
    path = tmp_path / "arrays"
    length = write_arrays(path, [host(array) for array in arrays])
    assert length == path.stat().st_size
    read = read_arrays(path)
    assert len(read) == len(arrays)
    for got, array in zip(read, arrays, strict=True):
        assert (got.shape, got.dtype) == (array.shape, array.dtype.name)
        for backend in (numpy_backend(), torch_backend()):
            there = backend.to_device(got)
            assert tuple(there.shape) == array.shape
            assert str(there.dtype).removeprefix("torch.") == array.dtype.name
            assert np.asarray(there).tobytes() == array.tobytes()


def test_each_array_begins_where_a_vector_register_can_load_it(tmp_path: Path) -> None:
    odd = [np.arange(count, dtype="uint8") for count in (1, 63, 64, 65, 3)]
    write_arrays(tmp_path / "arrays", [host(array) for array in odd])
    for got, array in zip(read_arrays(tmp_path / "arrays"), odd, strict=True):
        mapped = np.frombuffer(got.data, "uint8")
        assert mapped.ctypes.data % ALIGNMENT == 0
        assert mapped.tobytes() == array.tobytes()
    assert ALIGNMENT == 64


def test_bfloat16_keeps_its_bits(tmp_path: Path) -> None:
    torch = torch_backend().namespace
    bits = np.array([0x3F80, 0xBF80, 0x0000, 0x8000, 0x7F80, 0x4049], "uint16")
    path = tmp_path / "arrays"
    write_arrays(path, [HostArray((2, 3), "bfloat16", bits.view("uint8").data)])
    (read,) = read_arrays(path)
    assert np.frombuffer(read.data, "uint16").tolist() == bits.tolist()
    there = torch_backend().to_device(read)
    assert there.dtype == torch.bfloat16
    assert there.float().flatten().tolist() == [1.0, -1.0, 0.0, -0.0, float("inf"), 3.140625]


def test_a_mapped_array_cannot_be_changed_and_a_copy_on_the_device_can(tmp_path: Path) -> None:
    path = tmp_path / "arrays"
    write_arrays(path, [host(np.ones(3))])
    (read,) = read_arrays(path)
    with pytest.raises(TypeError):
        read.data[0] = 1
    for backend in (numpy_backend(), torch_backend()):
        backend.to_device(read)[0] = 5.0
    assert np.frombuffer(read_arrays(path)[0].data).tolist() == [1.0, 1.0, 1.0]


@given(ARRAYS.filter(lambda array: array.ndim and array.size), st.integers(1, 20))
@settings(deadline=None)
def test_extended_arrays_hold_the_same_rows_over_and_over(array: Any, rows: int) -> None:
    extended = extend(host(array), rows)
    got = np.frombuffer(extended.data, extended.dtype).reshape(extended.shape)
    assert got.shape == (rows, *array.shape[1:])
    assert all((got[i] == array[i % len(array)]).all() for i in range(rows))
