"""Matrix product of two matrices, the operation that most of a neural network's time goes to.

C = A B with A of shape (m, k) and B of shape (k, n). `a_t` or `b_t` = 1: the factor is stored
transposed, as in the gradients of a linear layer.

Sources of the shapes: BERT-base (Devlin et al., 2019; batch 64 x 128 tokens) and GPT-2 small
(Radford et al., 2019; batch 4 x 1024 tokens) as their linear layers multiply them; DeepBench
(Baidu Research), `code/kernels/gemm_problems.h`, whose column-major m x n is our row-major n x m.
"""

from typing import Any

from bench.workload import Call, Dims, Phase, Projection, Size, Workload

VECTORS = 8  # projections of a huge product: the estimate of its error is then good to 1 part in 4


def resize(given: Dims) -> Dims:
    """Complete `n` alone to a square product; otherwise m, k and n are all needed."""
    if min((given[name] for name in ("m", "k", "n") if name in given), default=1) < 1:
        raise ValueError("m, k and n begin at 1")
    if set(given) == {"n"}:
        return given
    if {"m", "k", "n"} <= set(given) <= {"m", "k", "n", "a_t", "b_t"}:
        return given
    raise ValueError("give n for a square product, or m, k and n (and a_t=1 or b_t=1)")


def shape(dims: Dims) -> tuple[int, int, int]:
    """Return (m, k, n)."""
    n = dims["n"]
    return dims.get("m", n), dims.get("k", n), n


def inputs(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw A and B from N(0, 1), as they are stored: zeros would draw less power on a GPU."""
    m, k, n = shape(dims)
    a = rng.standard_normal((k, m) if dims.get("a_t") else (m, k), dtype="float32")
    b = rng.standard_normal((n, k) if dims.get("b_t") else (k, n), dtype="float32")
    return a, b


def matmul_array(xp: Any, dims: Dims, a: Any, b: Any) -> Call:
    """Multiply into a buffer that is allocated once."""
    m, _, n = shape(dims)
    a, b = a.T if dims.get("a_t") else a, b.T if dims.get("b_t") else b
    product = xp.empty((m, n), a.dtype)
    return lambda: xp.matmul(a, b, out=product)


def matmul_torch(torch: Any, dims: Dims, a: Any, b: Any) -> Call:
    """Multiply into a buffer that is allocated once."""
    m, _, n = shape(dims)
    a, b = a.T if dims.get("a_t") else a, b.T if dims.get("b_t") else b
    product = torch.empty((m, n), dtype=a.dtype, device=a.device)
    return lambda: torch.matmul(a, b, out=product)


def projection(numpy: Any, rng: Any, dims: Dims, a: Any, b: Any) -> Projection:
    """Multiply the factors with Gaussian vectors instead of with each other."""
    a, b = a.T if dims.get("a_t") else a, b.T if dims.get("b_t") else b
    vectors = rng.standard_normal((b.shape[1], VECTORS))
    return Projection(vectors=vectors, expected=numpy.matmul(a, numpy.matmul(b, vectors)))


def flops(dims: Dims) -> int:
    """Count m k n multiply-adds."""
    m, k, n = shape(dims)
    return 2 * m * k * n


def bytes_moved(dims: Dims, item: int) -> int:
    """Count both factors read and the product written, once each."""
    m, k, n = shape(dims)
    return item * (m * k + k * n + m * n)


def gemm(name: str, m: int, k: int, n: int, preset: str = "standard", **transposed: int) -> Size:
    """Name a product."""
    return Size(dims={"m": m, "k": k, "n": n, **transposed}, preset=preset, name=name)


def deepbench(m: int, n: int, k: int, kinds: str = "nn", preset: str = "thorough") -> list[Size]:
    """Turn a problem of DeepBench round: column-major A B is row-major B' A'."""
    stored = {"nn": {}, "tn": {"b_t": 1}, "nt": {"a_t": 1}}
    return [
        gemm(f"deepbench.{m}x{n}x{k}.{kind}", n, k, m, preset, **stored[kind])
        for kind in kinds.split()
    ]


SQUARES = [
    Size(dims={"n": n}, preset=preset)
    for n, preset in {
        64: "quick",
        128: "quick",
        256: "quick",
        512: "quick",
        1024: "quick",
        2048: "quick",
        4096: "standard",
        8192: "standard",
    }.items()
]
TRANSFORMERS = [
    gemm("bert_base.projection", 8192, 768, 768, "quick"),
    gemm("bert_base.ffn_up", 8192, 768, 3072),
    gemm("bert_base.ffn_down", 8192, 3072, 768),
    gemm("bert_base.vocabulary", 8192, 768, 30522, "thorough"),
    gemm("gpt2_small.qkv", 4096, 768, 2304),
    gemm("gpt2_small.projection", 4096, 768, 768),
    gemm("gpt2_small.ffn_up", 4096, 768, 3072),
    gemm("gpt2_small.ffn_down", 4096, 3072, 768),
]
# DeepBench's training problems, without those that only repeat one with a larger batch.
DEEPBENCH = [
    *deepbench(1760, 128, 1760, "nn tn", "standard"),
    *deepbench(2560, 64, 2560, "nn", "standard"),
    *(
        size
        for hidden in (1760, 2048, 2560, 4096)
        for batch in (16, 32, 64, 128, 7000)
        for size in deepbench(hidden, batch, hidden, "nn tn")
    ),
    *(size for h in (1760, 2048, 2560, 4096) for size in deepbench(h, 7133, h, "nt")),
    *(size for k in (1760, 2048, 2560, 4096) for size in deepbench(5124, 9124, k, "nn tn")),
    *(size for k in (1760, 2048, 2560, 4096) for size in deepbench(35, 8457, k, "nn tn")),
    *(size for b in (16, 32, 64, 128) for size in deepbench(7680, b, 2560, "nn tn")),
    *(size for b in (16, 32, 64, 128) for size in deepbench(3072, b, 1024, "nn tn")),
    *deepbench(3072, 7435, 1024, "nt"),
    *deepbench(7680, 5481, 2560, "nt"),
    *(size for m in (512, 1024) for b in (8, 16) for size in deepbench(m, b, 500000, "nn tn")),
    *deepbench(1024, 700, 512, "nn tn"),
]
SIZES = {size.label: size for size in reversed([*SQUARES, *TRANSFORMERS, *DEEPBENCH])}

WORKLOAD = Workload(
    name="matmul",
    summary="product of two matrices, into a buffer allocated once",
    source="Devlin et al., 2019; Radford et al., 2019; DeepBench gemm_problems.h",
    suites=("matmul",),
    sizes=list(reversed(SIZES.values())),
    inputs=inputs,
    phases={
        "call": Phase(
            array=matmul_array,
            torch=matmul_torch,
            flops=flops,
            bytes_moved=bytes_moved,
            projection=projection,
        )
    },
    resize=resize,
)
