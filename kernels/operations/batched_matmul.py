"""Many small matrix products at once, as the attention of a transformer multiplies.

C[i] = A[i] B[i] with A of shape (batch, m, k) and B of shape (batch, k, n); in attention the batch
is sequences times heads. Sources of the shapes: BERT-base, 64 sequences x 12 heads, 128 tokens, 64
features a head (Devlin et al., 2019); GPT-2 small, 4 x 12, 1024 tokens (Radford et al., 2019).
"""

from typing import Any

from bench.workload import Call, Dims, Phase, Projection, Size, Workload

from ._batches import matmul

VECTORS = 8


def resize(given: Dims) -> Dims:
    """Need all four dimensions."""
    if min(given.values(), default=1) < 1:
        raise ValueError("batch, m, k and n begin at 1")
    if set(given) == {"batch", "m", "k", "n"}:
        return given
    raise ValueError("give batch, m, k and n")


def inputs(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw A and B from N(0, 1)."""
    batch, m, k, n = (dims[key] for key in ("batch", "m", "k", "n"))
    return (
        rng.standard_normal((batch, m, k), dtype="float32"),
        rng.standard_normal((batch, k, n), dtype="float32"),
    )


def batched_matmul_array(xp: Any, dims: Dims, a: Any, b: Any) -> Call:
    """Multiply into a buffer that is allocated once."""
    product = xp.empty((dims["batch"], dims["m"], dims["n"]), a.dtype)
    return lambda: xp.matmul(a, b, out=product)


def batched_matmul_cupy(xp: Any, dims: Dims, a: Any, b: Any) -> Call:
    """Multiply into a buffer, except for bfloat16."""
    if a.dtype.name == "bfloat16":
        return lambda: matmul(xp, a, b)
    return batched_matmul_array(xp, dims, a, b)


def batched_matmul_torch(torch: Any, dims: Dims, a: Any, b: Any) -> Call:
    """Multiply into a buffer that is allocated once."""
    product = torch.empty((dims["batch"], dims["m"], dims["n"]), dtype=a.dtype, device=a.device)
    return lambda: torch.bmm(a, b, out=product)


def projection(numpy: Any, rng: Any, dims: Dims, a: Any, b: Any) -> Projection:
    """Multiply the factors with Gaussian vectors, other ones for each product."""
    vectors = rng.standard_normal((dims["batch"], dims["n"], VECTORS))
    return Projection(vectors=vectors, expected=numpy.matmul(a, numpy.matmul(b, vectors)))


def flops(dims: Dims) -> int:
    """Count batch m k n multiply-adds."""
    return 2 * dims["batch"] * dims["m"] * dims["k"] * dims["n"]


def bytes_moved(dims: Dims, item: int) -> int:
    """Count both factors read and the product written, once each."""
    batch, m, k, n = (dims[key] for key in ("batch", "m", "k", "n"))
    return item * batch * (m * k + k * n + m * n)


def attention(name: str, heads: int, m: int, k: int, n: int, preset: str) -> Size:
    """Name a product; `heads` counts sequences times heads."""
    return Size(dims={"batch": heads, "m": m, "k": k, "n": n}, preset=preset, name=name)


WORKLOAD = Workload(
    name="batched_matmul",
    summary="many small products at once, as in attention",
    source="Devlin et al., 2019; Radford et al., 2019",
    suites=("matmul",),
    sizes=[
        attention("bert_base.scores", 768, 128, 64, 128, "quick"),
        attention("bert_base.values", 768, 128, 128, 64, "standard"),
        attention("gpt2_small.scores", 48, 1024, 64, 1024, "standard"),
        attention("gpt2_small.values", 48, 1024, 1024, 64, "standard"),
    ],
    inputs=inputs,
    phases={
        "call": Phase(
            array=batched_matmul_array,
            torch=batched_matmul_torch,
            overrides={"cupy": batched_matmul_cupy},
            flops=flops,
            bytes_moved=bytes_moved,
            projection=projection,
        )
    },
    includes={
        "cupy": "with half precision converting to float32 and back: CuPy 14 multiplies batches so",
    },
    resize=resize,
)
