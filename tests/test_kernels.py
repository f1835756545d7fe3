import ast
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import catalog
from bench.backends.base import Backend
from bench.measuring.exchange import read_arrays
from bench.measuring.reference import draw
from bench.measuring.verification import relative_error
from bench.workload import ITEM_BYTES, PRESETS, Dims, Size, Workload
from tests.fakes import numpy_backend, torch_backend

WORKLOADS = catalog.workloads()
MATMUL = WORKLOADS["matmul"]
FILES = sorted(catalog.content_folder("kernels").rglob("*.py"))

each_workload = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
SUITES = catalog.suites()
ON_CPU = {
    name: workload
    for name, workload in WORKLOADS.items()
    if any("cpu" in SUITES[suite].devices for suite in workload.suites)
}
each_backend = pytest.mark.parametrize("backend", [numpy_backend, torch_backend])


def smallest(workload: Workload) -> Dims:
    """Return the dimensions of the cheapest size, with a batch of two at most."""

    def cost(size: Size) -> int:
        return sum(phase.flops(size.dims) for phase in workload.phases.values() if phase.flops)

    dims = min(workload.sizes, key=cost).dims
    return {**dims, "batch": min(2, dims["batch"])} if "batch" in dims else dims


def worst_error(
    backend: Backend, workload: Workload, dims: Dims, dtype: str, folder: Path
) -> float:
    """Return the largest error of any phase as a part of its limit, as it is verified in a run."""
    errors = []
    for name, phase in workload.phases.items():
        prepare = phase.implementation(backend.library)
        if prepare is None:
            continue
        drawn = draw(np, workload, dims, name, dtype, 0, folder)
        inputs = [backend.to_device(array) for array in read_arrays(Path(drawn.inputs))]
        call = prepare(backend.namespace, dims, *inputs)
        call()
        limit = drawn.reference.limit(dtype, phase.error_factor)
        errors.append(relative_error(backend, call(), drawn.reference) / limit)
    assert errors, f"{workload.name} has no version for {backend.library}"
    return math.nan if any(math.isnan(e) for e in errors) else max(errors)


def test_the_catalog_has_the_workloads_of_the_folder() -> None:
    assert {"matmul", "batched_matmul"} <= set(WORKLOADS)


@each_workload
def test_a_workload_says_what_it_is_and_where_it_comes_from(workload: Workload) -> None:
    assert workload.summary.strip()
    assert workload.source.strip()
    assert workload.phases
    assert workload.version >= 1
    assert set(workload.suites) <= set(catalog.suites())


@each_workload
def test_a_size_has_a_label_of_its_own_and_a_preset(workload: Workload) -> None:
    labels = [size.label for size in workload.sizes]
    assert len(set(labels)) == len(labels)
    assert all("/" not in label and label == label.strip() for label in labels)
    assert {size.preset for size in workload.sizes} <= set(PRESETS)
    assert "quick" in {size.preset for size in workload.sizes}


@each_workload
def test_every_size_costs_something(workload: Workload) -> None:
    for size in workload.sizes:
        for phase in workload.phases.values():
            if phase.flops is not None:
                flops = phase.flops(size.dims)
                assert isinstance(flops, int)
                assert flops > 0
            assert phase.bytes_moved is not None
            moved = {item: phase.bytes_moved(size.dims, item) for item in ITEM_BYTES.values()}
            assert moved[8] > moved[4] > moved[2] > 0


@each_workload
def test_inputs_follow_from_their_random_generator(workload: Workload) -> None:
    dims = smallest(workload)
    first, second, other = (
        [array.tobytes() for array in workload.inputs(np.random.default_rng(seed), dims)]
        for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


CHOOSING = {"relu", "max_pool2d"}
"""Return numbers that they were given: nothing need be rounded."""


@each_backend
@pytest.mark.parametrize("workload", ON_CPU.values(), ids=ON_CPU)
def test_every_version_agrees_with_float64(
    backend: Any, workload: Workload, tmp_path: Path
) -> None:
    error = worst_error(backend(), workload, smallest(workload), "float32", tmp_path)
    assert error <= 1
    assert error > 0 or workload.name in CHOOSING


SIDES = st.integers(1, 12)
STORED = st.sampled_from([{}, {"a_t": 1}, {"b_t": 1}, {"a_t": 1, "b_t": 1}, {"a_t": 0}])
DRAWN = {
    "matmul": st.builds(
        lambda m, k, n, stored: {"m": m, "k": k, "n": n, **stored}, SIDES, SIDES, SIDES, STORED
    ),
    "batched_matmul": st.fixed_dictionaries(dict.fromkeys(("batch", "m", "k", "n"), SIDES)),
}


@each_backend
@pytest.mark.parametrize("name", DRAWN)
def test_every_version_agrees_with_float64_at_any_size(
    backend: Any, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=40, deadline=None)
    @given(DRAWN[name])
    def agrees(dims: Dims) -> None:
        folder = tmp_path_factory.getbasetemp() / "drawn"
        error = worst_error(backend(), WORKLOADS[name], dims, "float64", folder)
        assert error <= 1

    agrees()


@pytest.mark.parametrize("name", DRAWN)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_projection_is_the_product_times_its_vectors(name: str, data: st.DataObject) -> None:
    workload, dims = WORKLOADS[name], data.draw(DRAWN[name])
    phase = workload.phases["call"]
    assert phase.array is not None
    assert phase.projection is not None
    rng = np.random.default_rng(0)
    inputs = [array.astype("float64") for array in workload.inputs(rng, dims)]
    product = phase.array(np, dims, *inputs)()
    check = phase.projection(np, rng, dims, *inputs)
    assert check is not None
    assert np.allclose(product @ check.vectors, check.expected)


def test_a_square_product_costs_what_everybody_counts() -> None:
    phase = MATMUL.phases["call"]
    assert phase.flops is not None
    assert phase.bytes_moved is not None
    assert phase.flops({"n": 1024}) == 2_147_483_648
    assert phase.bytes_moved({"n": 1024}, 4) == 12_582_912
    assert phase.flops({"m": 2, "k": 3, "n": 5}) == 60
    assert phase.bytes_moved({"m": 2, "k": 3, "n": 5, "a_t": 1}, 2) == 2 * (6 + 15 + 10)


def test_a_batch_costs_as_much_as_its_products() -> None:
    phase = WORKLOADS["batched_matmul"].phases["call"]
    assert phase.flops is not None
    assert phase.bytes_moved is not None
    dims = {"batch": 7, "m": 2, "k": 3, "n": 5}
    assert phase.flops(dims) == 7 * 60
    assert phase.bytes_moved(dims, 4) == 7 * 4 * 31


class Half:
    """An array of bfloat16, as far as NumPy can tell: none of its own functions takes it."""

    __array_ufunc__ = None
    dtype = SimpleNamespace(name="bfloat16", itemsize=2)
    shape = (2, 3, 3)

    def astype(self, dtype: Any) -> Any:
        return np.ones(self.shape, dtype)


def test_batches_of_bfloat16_are_multiplied_in_float32_on_cupy() -> None:
    def product(a: Any, b: Any) -> Any:
        assert a.dtype == b.dtype == "float32"
        found = Half()
        found.astype = lambda dtype: (dtype, np.matmul(a, b))  # type: ignore[method-assign]
        return found

    xp, dims = SimpleNamespace(matmul=product), {"batch": 2, "m": 3, "k": 3, "n": 3}
    prepare = WORKLOADS["batched_matmul"].phases["call"].implementation("cupy")
    assert prepare is not None
    dtype, found = prepare(xp, dims, Half(), Half())()
    assert dtype is Half.dtype
    assert np.array_equal(found, np.full(Half.shape, 3))


def test_there_are_squares_from_64_to_8192_and_the_products_of_known_networks() -> None:
    labels = {size.label for size in MATMUL.sizes}
    squares = {n for n in range(1, 10_000) if f"n={n}" in labels}
    assert len(squares) >= 4
    assert (min(squares), max(squares)) == (64, 8192)
    for network in ("bert_base.", "gpt2_small.", "deepbench."):
        assert any(label.startswith(network) for label in labels)


def test_the_shapes_are_those_of_the_papers() -> None:
    dims = {size.label: dict(size.dims) for size in MATMUL.sizes}
    # BERT-base: 768 features, 3072 in the middle; 64 sequences of 128 tokens.
    assert dims["bert_base.ffn_up"] == {"m": 64 * 128, "k": 768, "n": 3072}
    # GPT-2 small: three projections of 768 features at once; 4 sequences of 1024 tokens.
    assert dims["gpt2_small.qkv"] == {"m": 4 * 1024, "k": 768, "n": 3 * 768}


def column_major(kind: str, m: int, n: int, k: int) -> tuple[Any, Any, Any]:
    """Return A and B as DeepBench stores them, column by column, and their product."""
    rng = np.random.default_rng(3)
    a = rng.standard_normal((k, m) if kind[0] == "t" else (m, k))
    b = rng.standard_normal((n, k) if kind[1] == "t" else (k, n))
    product = (a.T if kind[0] == "t" else a) @ (b.T if kind[1] == "t" else b)
    return a.flatten(order="F"), b.flatten(order="F"), product


DEEPBENCH = [size for size in MATMUL.sizes if size.label.startswith("deepbench.")]


@pytest.mark.parametrize("kind", ["nn", "tn", "nt"])
def test_a_problem_of_deepbench_is_the_transposed_product_on_the_same_memory(kind: str) -> None:
    m, n, k = 4, 3, 5
    sizes = [size for size in DEEPBENCH if size.label.endswith(f".{kind}")]
    assert sizes
    stored = {key: value for key, value in sizes[0].dims.items() if key not in ("m", "n", "k")}
    assert all(set(size.dims) == {"m", "n", "k", *stored} for size in sizes)
    dims = {"m": n, "k": k, "n": m, **stored}
    a, b, product = column_major(kind, m, n, k)
    # Our first factor lies in the memory of their B, our second in that of their A.
    ours = MATMUL.inputs(np.random.default_rng(0), dims)
    implementation = MATMUL.phases["call"].array
    assert implementation is not None
    result = implementation(np, dims, b.reshape(ours[0].shape), a.reshape(ours[1].shape))()
    assert np.allclose(result.flatten(), product.flatten(order="F"))


@pytest.mark.parametrize("size", DEEPBENCH, ids=lambda size: str(size.label))
def test_a_problem_of_deepbench_is_named_by_its_own_m_n_and_k(size: Size) -> None:
    m, n, k = (int(part) for part in size.label.split(".")[1].split("x"))
    assert (size.dims["n"], size.dims["m"], size.dims["k"]) == (m, n, k)


@pytest.mark.parametrize("given_dims", [{"m": 2}, {"n": 2, "q": 1}, {"m": 1, "n": 2}, {}])
def test_a_size_that_lacks_something_is_refused(given_dims: dict[str, int]) -> None:
    for name in DRAWN:
        resize = WORKLOADS[name].resize
        assert resize is not None
        with pytest.raises(ValueError, match="give"):
            resize(given_dims)


def test_a_size_that_a_user_gives_is_completed() -> None:
    assert MATMUL.resize is not None
    assert MATMUL.resize({"n": 300}) == {"n": 300}
    assert MATMUL.resize({"m": 1, "k": 2, "n": 3, "b_t": 1})["b_t"] == 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_kernel_imports_no_numerical_library(file: Path) -> None:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module))
    foreign = {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign <= {"bench.workload", "bench.errors"}
