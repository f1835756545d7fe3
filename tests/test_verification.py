import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.backends.base import Backend
from bench.errors import CaseError
from bench.measuring import verification
from bench.measuring.exchange import HostArray, write_arrays
from bench.measuring.verification import LIMITS, Reference, relative_error, require_right
from tests.fakes import numpy_backend, torch_backend

BACKENDS = [numpy_backend, torch_backend]
RNG = np.random.default_rng(5)
A, B = (RNG.standard_normal((96, 96)) for _ in "ab")


def host(array: Any) -> HostArray:
    flat = np.ascontiguousarray(array).reshape(-1)
    return HostArray(array.shape, array.dtype.name, flat.view("uint8").data)


def expecting(folder: Path, *arrays: Any, kind: str = "full") -> Reference:
    """Write float64 arrays as the reference of a case."""
    write_arrays(folder / "reference", [host(np.asarray(array, "float64")) for array in arrays])
    return Reference(kind, str(folder / "reference"))


def output(backend: Backend, array: Any) -> Any:
    """Return the array as the backend's own library holds it."""
    return backend.to_device(host(np.asarray(array)))


def rounded(array: Any, bits: int) -> Any:
    """Round a float64 to so many bits of mantissa."""
    mantissa, exponent = np.frexp(array)
    return np.ldexp(np.round(mantissa * 2.0 ** (bits + 1)) / 2.0 ** (bits + 1), exponent)


def product_error(folder: Path, a: Any, b: Any, dtype: str = "float32") -> float:
    """Return the error of a product of rounded inputs against those that were drawn."""
    a64, b64 = A.astype(dtype).astype("float64"), B.astype(dtype).astype("float64")
    backend = numpy_backend()
    return relative_error(backend, output(backend, a @ b), expecting(folder, a64 @ b64))


def test_float32_products_pass(tmp_path: Path) -> None:
    error = product_error(tmp_path, A.astype("float32"), B.astype("float32"))
    assert 1e-8 < error < LIMITS["float32"] / 10
    require_right(error, "float32", LIMITS["float32"])


def test_float64_products_pass(tmp_path: Path) -> None:
    require_right(product_error(tmp_path, A, B, "float64"), "float64", LIMITS["float64"])


def test_float64_computed_in_float32_fails(tmp_path: Path) -> None:
    error = product_error(tmp_path, A.astype("float32"), B.astype("float32"), "float64")
    with pytest.raises(CaseError) as caught:
        require_right(error, "float64", LIMITS["float64"])
    assert caught.value.status == "wrong"


def test_inputs_rounded_to_tf32_fail_as_float32_and_pass_as_tf32(tmp_path: Path) -> None:
    a, b = (rounded(x.astype("float32"), 10).astype("float32") for x in (A, B))
    error = product_error(tmp_path, a, b)
    assert error > 20 * LIMITS["float32"]
    with pytest.raises(CaseError, match="TF32"):
        require_right(error, "float32", LIMITS["float32"])
    require_right(error, "tf32", LIMITS["tf32"])


@pytest.mark.parametrize("error", [8e-6, 0.5])
def test_tf32_is_only_suspected_where_it_explains_the_error(error: float) -> None:
    with pytest.raises(CaseError) as caught:
        require_right(error, "float32", LIMITS["float32"])
    assert "TF32" not in caught.value.reason


def test_not_even_a_gradient_passes_in_tf32() -> None:
    with pytest.raises(CaseError, match="TF32"):
        require_right(1e-4, "float32", Reference("full", "").limit("float32", 8.0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_passes_within_a_band_of_its_own(tmp_path: Path, dtype: str) -> None:
    backend = torch_backend()
    torch = backend.namespace
    kind = getattr(torch, dtype)
    a, b = (torch.from_numpy(x).to(kind) for x in (A, B))
    exact = a.double() @ b.double()
    error = relative_error(backend, a @ b, expecting(tmp_path, exact.numpy()))
    require_right(error, dtype, LIMITS[dtype])
    assert error < LIMITS[dtype] / 3
    assert error > 10 * LIMITS["float32"]
    assert dtype == "float16" or error > LIMITS["tf32"]


def test_the_bands_lie_apart() -> None:
    order = ["float64", "float32", "tf32", "float16", "bfloat16"]
    assert [LIMITS[dtype] for dtype in order] == sorted(LIMITS.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_is_measured_relative_to_the_whole(
    backend: Callable[[], Backend], tmp_path: Path
) -> None:
    # |(0, 0.05)| / |(3, 4)| = 0.01
    got = output(backend(), [3.0, 4.05])
    assert relative_error(backend(), got, expecting(tmp_path, np.array([3.0, 4.0]))) == (
        pytest.approx(0.01)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_nan_anywhere_makes_an_output_nan(
    backend: Callable[[], Backend], tmp_path: Path
) -> None:
    spoiled = A.copy()
    spoiled[-1, -1] = math.nan
    error = relative_error(backend(), output(backend(), spoiled), expecting(tmp_path, A))
    assert math.isnan(error)
    with pytest.raises(CaseError, match="NaN"):
        require_right(error, "float64", LIMITS["float64"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_number_without_dimensions_is_verified(
    backend: Callable[[], Backend], tmp_path: Path
) -> None:
    reference = expecting(tmp_path, np.array(8.0))
    assert relative_error(backend(), output(backend(), np.array(8.0)), reference) == 0.0
    assert relative_error(backend(), output(backend(), np.array(8.4)), reference) == (
        pytest.approx(0.05)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_several_outputs_the_worst_counts(
    backend: Callable[[], Backend], tmp_path: Path
) -> None:
    reference = expecting(tmp_path, A, B, np.array(1.0))
    right, wrong = output(backend(), A), output(backend(), 1.001 * B)
    one = output(backend(), np.array(1.0))
    assert relative_error(backend(), (right, wrong, one), reference) == pytest.approx(0.001)
    nan = output(backend(), np.array(math.nan))
    assert math.isnan(relative_error(backend(), [right, wrong, nan], reference))


@pytest.mark.parametrize("outputs", [(A,), (A, B, B), (B[:5], B), (A[0], B)])
def test_another_number_or_shape_of_outputs_is_wrong(outputs: Any, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="shape") as caught:
        relative_error(numpy_backend(), outputs, expecting(tmp_path, A, B))
    assert caught.value.status == "wrong"


def test_where_zero_is_expected_nothing_else_will_do(tmp_path: Path) -> None:
    zero = expecting(tmp_path, np.zeros(3))
    assert relative_error(numpy_backend(), np.zeros(3), zero) == 0.0
    with pytest.raises(CaseError):
        require_right(relative_error(numpy_backend(), np.full(3, 1e-30), zero), "float32", 1.0)


def projected(folder: Path, exact: Any) -> Reference:
    """Replace a product by its projections on 8 Gaussian vectors, other ones for each matrix."""
    vectors = RNG.standard_normal((*exact.shape[:-2], exact.shape[-1], 8))
    return expecting(folder, vectors, exact @ vectors, kind="sampled")


def projected_along(folder: Path, exact: Any, axis: int) -> Reference:
    """Replace an array by its projections along one axis, on the same vectors everywhere."""
    vectors = RNG.standard_normal((exact.shape[axis], 8))
    found = np.moveaxis(np.tensordot(exact, vectors, axes=(axis, 0)), -1, axis)
    return dataclasses.replace(expecting(folder, vectors, found, kind="sampled"), axis=axis)


def projected_channels(folder: Path, exact: Any) -> Reference:
    return projected_along(folder, exact, 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(96, 96), (40, 24, 16)], ids=["plain", "batched"])
@pytest.mark.parametrize("size", [1e-6, 1e-3, 0.1])
def test_projections_tell_the_error_of_a_product_within_a_factor_of_two(
    backend: Callable[[], Backend], shape: tuple[int, ...], size: float, tmp_path: Path
) -> None:
    exact = RNG.standard_normal(shape)
    got = exact + size * RNG.standard_normal(shape)
    full = float(np.linalg.norm(got - exact) / np.linalg.norm(exact))
    error = relative_error(backend(), output(backend(), got), projected(tmp_path, exact))
    assert full / 2 < error < full * 2


def test_projections_see_a_single_wrong_row(tmp_path: Path) -> None:
    got = A.copy()
    got[17] = 0.0
    error = relative_error(numpy_backend(), got, projected(tmp_path, A))
    full = float(np.linalg.norm(A[17]) / np.linalg.norm(A))
    assert full / 3 < error < full * 3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2])
def test_projections_along_any_axis_tell_the_error(
    backend: Callable[[], Backend], axis: int, tmp_path: Path
) -> None:
    exact = RNG.standard_normal((4, 12, 6, 9))
    reference = projected_along(tmp_path, exact, axis)
    assert relative_error(backend(), output(backend(), exact), reference) < 1e-14
    got = exact + 1e-3 * RNG.standard_normal(exact.shape)
    full = float(np.linalg.norm(got - exact) / np.linalg.norm(exact))
    error = relative_error(backend(), output(backend(), got), reference)
    assert full / 2 < error < full * 2


def test_projections_along_an_axis_see_values_that_changed_places_elsewhere(
    tmp_path: Path,
) -> None:
    exact = RNG.standard_normal((4, 5, 6, 6))
    reference = projected_along(tmp_path, exact, 1)
    error = relative_error(numpy_backend(), exact.swapaxes(2, 3), reference)
    assert error > 0.5


@pytest.mark.parametrize("shape", [(3, 5, 6, 7), (4, 5, 7, 6), (4, 5, 6, 7, 1), (4, 5, 42)])
def test_projections_along_an_axis_want_the_shape_of_the_others(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    reference = projected_along(tmp_path, RNG.standard_normal((4, 5, 6, 7)), 1)
    with pytest.raises(CaseError, match="shape") as caught:
        relative_error(numpy_backend(), RNG.standard_normal(shape), reference)
    assert caught.value.status == "wrong"


def test_projections_want_the_shape_of_the_product(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="shape"):
        relative_error(numpy_backend(), A[:-1], projected(tmp_path, A))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "make",
    [expecting, projected, projected_channels],
    ids=["full", "projected", "projected_channels"],
)
def test_checking_by_parts_comes_to_the_same(
    backend: Callable[[], Backend],
    make: Callable[[Path, Any], Reference],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = RNG.standard_normal((10, 6, 7))
    got = output(backend(), exact + 0.01 * RNG.standard_normal(exact.shape))
    reference = make(tmp_path, exact)
    at_once = relative_error(backend(), got, reference)
    parts: list[slice | None] = []
    whole = type(backend()).to_float64

    def watched(self: Backend, array: Any, rows: slice | None = None) -> Any:
        parts.append(rows)
        return whole(self, array, rows)

    monkeypatch.setattr(type(backend()), "to_float64", watched)
    monkeypatch.setattr(verification, "ROWS_AT_ONCE_BYTES", 3 * 6 * 7 * 8)
    assert relative_error(backend(), got, reference) == pytest.approx(at_once, rel=1e-12)
    assert [rows.start for rows in parts if rows is not None] == [0, 3, 6, 9]
    assert len(parts) == 4


def test_a_larger_error_passes_only_where_a_workload_declares_it() -> None:
    require_right(3e-5, "float32", 8 * LIMITS["float32"])
    with pytest.raises(CaseError, match="the limit of float32 is 2e-05"):
        require_right(3e-5, "float32", 4 * LIMITS["float32"])


def test_the_limit_of_a_network_follows_from_what_float32_itself_reaches() -> None:
    def limit(own_error: float | None, dtype: str, factor: float = 8.0) -> float:
        return Reference("full", "", own_error=own_error).limit(dtype, factor)

    assert limit(None, "float32") == 8 * LIMITS["float32"]
    assert limit(1e-4, "float32") == pytest.approx(3e-4)
    assert limit(1e-9, "float32", 1) == LIMITS["float32"], "never below that of an operation"
    assert limit(1e-9, "float32") == 8 * LIMITS["float32"], "nor below what the workload declares"
    assert limit(1e-5, "tf32") == pytest.approx(1e-5 * 2**13), "what is coarser rounds each layer"
    assert limit(1e-5, "float64") == pytest.approx(8e-12)
    assert limit(2e-2, "bfloat16") == 0.8, "beyond it anything would pass"


def test_the_outputs_of_a_network_are_one_vector(tmp_path: Path) -> None:
    right = [np.array([3.0, 4.0]), np.array([1e-9])]
    got = [np.array([3.0, 4.05]), np.array([2e-9])]
    plain = expecting(tmp_path, *right)
    assert relative_error(numpy_backend(), got, plain) == pytest.approx(1.0)
    together = Reference(plain.kind, plain.path, own_error=1e-7)
    assert relative_error(numpy_backend(), got, together) == pytest.approx(0.01)
    got[1][0] = math.nan
    assert math.isnan(relative_error(numpy_backend(), got, together))


@pytest.mark.parametrize("make", BACKENDS)
def test_every_repetition_of_the_samples_is_verified(
    make: Callable[[], Backend], tmp_path: Path
) -> None:
    backend, reference = make(), expecting(tmp_path, A, B[0])
    whole = np.concatenate([A, A, A])
    right = (output(backend, whole), output(backend, B[0]))
    assert relative_error(backend, right, reference, repeats=3) == 0
    whole[-1, -1] += 100.0  # in the last repetition only
    wrong = (output(backend, whole), output(backend, B[0]))
    assert relative_error(backend, wrong, reference, repeats=3) > 0.1
    with pytest.raises(CaseError, match="shape"):
        relative_error(backend, (output(backend, whole[:-1]), right[1]), reference, repeats=3)
