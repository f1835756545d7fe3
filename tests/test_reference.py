import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.errors import CaseError
from bench.measuring import reference
from bench.measuring.exchange import HostArray, read_arrays
from bench.measuring.reference import Drawn, draw
from bench.measuring.verification import relative_error
from bench.workload import Call, Dims, Phase, Projection, Size, Workload, calling
from tests.fakes import numpy_backend, torch_backend


def two_matrices(rng: Any, dims: Dims) -> list[Any]:
    return [rng.standard_normal((dims["n"], dims["n"])) for _ in "ab"]


def multiply(xp: Any, a: Any, b: Any) -> Any:
    return xp.matmul(a, b)


def project(numpy: Any, rng: Any, dims: Dims, a: Any, b: Any) -> Projection:
    vectors = rng.standard_normal((dims["n"], 2))
    return Projection(vectors=vectors, expected=a @ (b @ vectors))


PHASE = Phase(array=calling(multiply), flops=lambda dims: 2 * dims["n"] ** 3, projection=project)
WORKLOAD = Workload(
    name="product",
    summary="",
    source="",
    suites=(),
    sizes=[Size(dims={"n": 6})],
    inputs=two_matrices,
    phases={"call": PHASE},
)


def drawn(
    folder: Path, dtype: str = "float64", *, n: int = 6, seed: int = 0, **changes: Any
) -> Drawn:
    workload = dataclasses.replace(WORKLOAD, **changes)
    return draw(np, workload, {"n": n}, "call", dtype, seed, folder)


def arrays(path: str) -> list[Any]:
    return [np.frombuffer(a.data, a.dtype).reshape(a.shape) for a in read_arrays(Path(path))]


def test_the_same_request_draws_the_same_bits(tmp_path: Path) -> None:
    one, two = drawn(tmp_path / "one"), drawn(tmp_path / "two")
    assert one.digest == two.digest
    for name in ("inputs", "decoy"):
        first, second = (Path(getattr(found, name)).read_bytes() for found in (one, two))
        assert first == second
    assert Path(one.reference.path).read_bytes() == Path(two.reference.path).read_bytes()


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"n": 7}, {"name": "other"}, {"version": 2}, {"dtype": "float32"}]
)
def test_another_request_draws_other_bits(tmp_path: Path, change: dict[str, Any]) -> None:
    same, other = drawn(tmp_path / "same"), drawn(tmp_path / "other", **change)
    assert same.digest != other.digest
    assert Path(same.inputs).read_bytes() != Path(other.inputs).read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_dtype_changes_the_rounding_and_not_the_numbers(tmp_path: Path, dtype: str) -> None:
    double, less = drawn(tmp_path / "double"), drawn(tmp_path / "less", dtype)
    for exact, rounded in zip(arrays(double.inputs), arrays(less.inputs), strict=True):
        assert rounded.dtype == dtype
        assert np.array_equal(rounded, exact.astype(dtype))


def test_the_decoy_looks_like_the_inputs_and_is_not_them(tmp_path: Path) -> None:
    found = drawn(tmp_path)
    for decoy, array in zip(arrays(found.decoy), arrays(found.inputs), strict=True):
        assert (decoy.shape, decoy.dtype) == (array.shape, array.dtype)
        assert not np.any(decoy == array)


def test_inputs_that_ignore_their_random_generator_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="whatever its random generator"):
        drawn(tmp_path, inputs=lambda rng, dims: [np.ones((6, 6)), np.ones((6, 6))])


def test_the_reference_is_the_float64_result_of_the_rounded_inputs(tmp_path: Path) -> None:
    found = drawn(tmp_path, "float16")
    a, b = (array.astype("float64") for array in arrays(found.inputs))
    (expected,) = arrays(found.reference.path)
    assert found.reference.kind == "full"
    assert expected.dtype == "float64"
    assert np.allclose(expected, a @ b, rtol=1e-14)


def test_tf32_is_stored_as_float32(tmp_path: Path) -> None:
    found = drawn(tmp_path / "tf32", "tf32")
    assert {array.dtype for array in read_arrays(Path(found.inputs))} == {"float32"}
    assert found.digest == drawn(tmp_path / "float32", "float32").digest


def test_the_bytes_of_all_files_are_counted(tmp_path: Path) -> None:
    assert drawn(tmp_path).total_bytes == sum(f.stat().st_size for f in tmp_path.iterdir())


def bfloat16_bits(value: float) -> int:
    host, kept = reference._rounded(np, np.array([value], "float32"), "bfloat16")
    (upper,) = np.frombuffer(host.data, "uint16").tolist()
    assert kept.view("uint32").tolist() == [upper << 16], "the value is what the bits stand for"
    return int(upper)


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False))
@example(1.00390625)  # a tie that goes down to even: 0x3f808000
@example(1.01171875)  # a tie that goes up to even: 0x3f818000
@example(-1.01171875)
@example(3.4028234663852886e38)  # rounds to infinity
@example(1e-45)
@example(-0.0)
def test_bfloat16_is_rounded_as_torch_rounds_it(value: float) -> None:
    torch = torch_backend().namespace
    there = torch.tensor([value], dtype=torch.float32).to(torch.bfloat16)
    assert bfloat16_bits(value) == int(there.view(torch.int16)) & 0xFFFF


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_integers_and_numbers_without_dimensions_stay_what_they_are(
    tmp_path: Path, dtype: str
) -> None:
    def inputs(rng: Any, dims: Dims) -> list[Any]:
        return [rng.integers(0, 9, 4), np.asarray(rng.standard_normal())]

    seen: list[Any] = []

    def scale(xp: Any, dims: Dims, counts: Any, factor: Any) -> Call:
        seen.extend([counts, factor])
        return lambda: counts * factor

    found = drawn(tmp_path, dtype, inputs=inputs, phases={"call": Phase(array=scale)})
    counts, factor = read_arrays(Path(found.inputs))
    assert (counts.shape, counts.dtype) == ((4,), "int64")
    assert (factor.shape, factor.dtype) == ((), dtype)
    assert seen[0].dtype == "int64"
    assert (seen[1].shape, seen[1].dtype) == ((), "float64")


def test_arrays_that_are_not_contiguous_are_written_in_order(tmp_path: Path) -> None:
    def inputs(rng: Any, dims: Dims) -> list[Any]:
        return [rng.standard_normal((3, 5)).T, rng.standard_normal((3, 8))[:, ::2]]

    found = drawn(tmp_path, inputs=inputs, phases={"call": Phase(array=calling(multiply))})
    a, b = arrays(found.inputs)
    assert (a.shape, b.shape) == ((5, 3), (3, 4))
    assert np.allclose(arrays(found.reference.path)[0], a @ b)


def test_several_outputs_have_several_references(tmp_path: Path) -> None:
    def both(numpy: Any, dims: Dims, a: Any, b: Any) -> tuple[Any, Any]:
        return a + b, (a - b).sum()

    total, difference = arrays(
        drawn(tmp_path, phases={"call": Phase(reference=both)}).reference.path
    )
    assert total.shape == (6, 6)
    assert difference.shape == ()


def test_a_workload_without_any_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="neither a reference nor a version for numpy"):
        drawn(tmp_path, phases={"call": Phase(overrides={"cupy": calling(multiply)})})


def test_a_huge_product_is_checked_by_projections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "LARGE_FLOPS", 431)
    large = drawn(tmp_path / "large")
    assert large.reference.kind == "sampled"
    vectors, expected = arrays(large.reference.path)
    a, b = arrays(large.inputs)
    assert np.allclose(expected, a @ b @ vectors)
    assert vectors.shape == (6, 2)
    monkeypatch.setattr(reference, "LARGE_FLOPS", 432)  # 2 x 6^3
    assert drawn(tmp_path / "small").reference.kind == "full"


def test_a_projection_says_which_axis_it_multiplied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_columns(numpy: Any, rng: Any, dims: Dims, a: Any, b: Any) -> Projection:
        vectors = rng.standard_normal((dims["n"], 2))
        return Projection(vectors=vectors, expected=(vectors.T @ a) @ b, axis=0)

    monkeypatch.setattr(reference, "LARGE_FLOPS", 0)
    phase = dataclasses.replace(PHASE, projection=of_columns)
    found = drawn(tmp_path, phases={"call": phase})
    assert (found.reference.kind, found.reference.axis) == ("sampled", 0)
    assert found.as_dict()["reference"]["axis"] == 0
    a, b = arrays(found.inputs)
    assert relative_error(numpy_backend(), a @ b, found.reference) < 1e-12
    assert relative_error(numpy_backend(), b @ a, found.reference) > 0.1


def test_a_huge_case_that_cannot_be_projected_is_computed_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "LARGE_FLOPS", 0)
    phase = dataclasses.replace(PHASE, projection=lambda *_: None)
    found = drawn(tmp_path, phases={"call": phase})
    a, b = arrays(found.inputs)
    assert found.reference.kind == "full"
    assert np.allclose(arrays(found.reference.path)[0], a @ b)


def test_a_phase_draws_inputs_of_its_own(tmp_path: Path) -> None:
    def row_and_column(rng: Any, dims: Dims) -> list[Any]:
        return [rng.standard_normal((1, dims["n"])), rng.standard_normal((dims["n"], 1))]

    own = dataclasses.replace(PHASE, inputs=row_and_column)
    found = drawn(tmp_path, phases={"call": own})
    for path in (found.inputs, found.decoy):
        assert [array.shape for array in arrays(path)] == [(1, 6), (6, 1)]
    row, column = arrays(found.inputs)
    assert np.allclose(arrays(found.reference.path)[0], row @ column)
    assert found.digest != drawn(tmp_path / "plain").digest


def test_inputs_of_a_phase_that_ignore_their_random_generator_are_refused(tmp_path: Path) -> None:
    fixed = dataclasses.replace(PHASE, inputs=lambda rng, dims: [np.eye(6), np.eye(6)])
    with pytest.raises(CaseError, match="whatever its random generator"):
        drawn(tmp_path, phases={"call": fixed})


def test_a_huge_case_without_projections_is_computed_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "LARGE_FLOPS", 0)
    phase = dataclasses.replace(PHASE, projection=None)
    assert drawn(tmp_path, phases={"call": phase}).reference.kind == "full"


def test_what_was_drawn_travels_as_json(tmp_path: Path) -> None:
    found = drawn(tmp_path)
    assert found.as_dict()["reference"] == {
        "kind": "full",
        "path": str(tmp_path / "reference"),
        "axis": -1,
        "own_error": None,
        "apart": 0,
    }
    assert isinstance(read_arrays(Path(found.inputs))[0], HostArray)


def test_a_network_brings_the_error_of_its_own_float32(tmp_path: Path) -> None:
    def chain(xp: Any, x: Any) -> Any:
        y = x
        for _ in range(3):
            y = xp.sin(y @ x)
        return y, y.sum(axis=0)

    def inputs(rng: Any, _dims: Any) -> list[Any]:
        return [rng.standard_normal((64, 64), dtype="float32")]

    part = Phase(array=calling(chain), is_network=True)
    workload = Workload(
        name="chain",
        summary="",
        source="",
        suites=(),
        sizes=[Size(dims={"n": 64})],
        inputs=inputs,
        phases={"forward": part},
    )
    reference = draw(np, workload, {"n": 64}, "forward", "float32", 0, tmp_path).reference
    assert reference.own_error is not None
    assert 1e-7 < reference.own_error < 0.1
    (x,) = inputs(np.random.default_rng(1), {})
    exact = np.concatenate([part.ravel() for part in chain(np, x.astype("float64"))])
    single = np.concatenate([part.ravel() for part in chain(np, x)])
    own = np.linalg.norm(single - exact) / np.linalg.norm(exact)
    assert 0.1 < reference.own_error / own < 10, "of the same kind on other draws"
