"""Layer normalization over the last axis, as in transformers, and its gradients.

y = (x - mean) / sqrt(variance + eps) gain + bias, mean and variance being those of each token.

Sources: Ba et al., "Layer Normalization", 2016, equation 4; the layers of BERT-base (Devlin et al.,
2019) and GPT-2 small (Radford et al., 2019), both with 768 features.
"""

from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Phase, Size, Workload

from ._dims import complete
from ._fusing import fused
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch
from ._sums import row_blocks, row_dots, row_sums, wide

EPS = 1e-5  # PyTorch's default


def layer_norm(xp: Any, x: Any, gain: Any, bias: Any, *, eps: float = EPS) -> tuple[Any, Pullback]:
    """Normalize each token; the pullback keeps x, mean and variance.

    x is (..., features), gain and bias are (features,).
    """
    rows = x.reshape(-1, x.shape[-1])
    features = rows.shape[1]
    y = xp.empty(rows.shape, x.dtype)
    mean, rate = (xp.empty((len(rows), 1), wide(xp, x)) for _ in range(2))
    for part in row_blocks(xp, rows):
        mean[part, 0] = row_sums(xp, rows[part]) / features
        deviations = xp.subtract(rows[part], mean[part], out=y[part])
        variance = row_dots(xp, deviations, deviations) / features
        rate[part, 0] = 1 / xp.sqrt(variance + eps)
        fused(xp, _scaled_and_shifted)(deviations, rate[part], gain, bias)

    def pullback(dy: Any) -> tuple[Any, Any, Any]:
        gradients = dy.reshape(rows.shape)
        dx = xp.empty(rows.shape, x.dtype)
        dgain, dbias = xp.zeros((2, features), wide(xp, x))
        for part in row_blocks(xp, rows):
            normalized = rows[part] - mean[part]
            normalized *= rate[part]
            along = gradients[part] * normalized
            # Sums over tokens are products with ones, for BLAS's sake.
            ones = xp.ones(len(along), along.dtype)
            dgain += ones @ along
            dbias += ones @ gradients[part]
            direct, indirect = (
                (array @ gain / features)[:, None] for array in (gradients[part], along)
            )
            fused(xp, _gradient)(
                gradients[part], normalized, gain, direct, indirect, rate[part], dx[part]
            )
        return (
            dx.reshape(x.shape),
            dgain.astype(gain.dtype, copy=False),
            dbias.astype(bias.dtype, copy=False),
        )

    return y.reshape(x.shape), pullback


def _scaled_and_shifted(_xp: Any, deviations: Any, rate: Any, gain: Any, bias: Any) -> None:
    deviations *= rate
    deviations *= gain
    deviations += bias


def _gradient(xp: Any, dy: Any, normalized: Any, gain: Any, *others: Any) -> None:
    """Write rate (dy gain - mean(dy gain) - normalized mean(dy gain normalized))."""
    direct, indirect, rate, dx = others
    xp.multiply(dy, gain, out=dx)
    normalized *= indirect
    normalized += direct
    dx -= normalized
    dx *= rate


def layer_norm_torch(torch: Any, x: Any, gain: Any, bias: Any) -> Any:
    """Call the functional form."""
    return torch.nn.functional.layer_norm(x, gain.shape, gain, bias, eps=EPS)


def shape(dims: Dims) -> tuple[int, int, int]:
    """Return that of x and y."""
    return dims["batch"], dims["tokens"], dims["features"]


def inputs(rng: Any, dims: Dims) -> tuple[Any, Any, Any]:
    """Draw x, gain and bias from N(0, 1)."""
    gain, bias = rng.standard_normal((2, dims["features"]), dtype="float32")
    return rng.standard_normal(shape(dims), dtype="float32"), gain, bias


def backward_inputs(rng: Any, dims: Dims) -> tuple[Any, ...]:
    """Draw x, gain, bias and dy from N(0, 1)."""
    return (*inputs(rng, dims), rng.standard_normal(shape(dims), dtype="float32"))


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch, tokens and features."""
    dims = complete(given, ("batch", "tokens", "features"))
    if dims["features"] == 1:
        raise ValueError("features begins at 2: one value has no variance")
    return dims


def elements(dims: Dims) -> int:
    """Return how many values x holds."""
    return dims["batch"] * dims["tokens"] * dims["features"]


def layer(name: str, batch: int, tokens: int, preset: str = "standard") -> Size:
    """Name a layer of 768 features."""
    dims = {"batch": batch, "tokens": tokens, "features": 768}
    return Size(dims=dims, preset=preset, name=name)


WORKLOAD = Workload(
    name="layer_norm",
    summary="layer normalization over the last axis with gain and bias, and its gradients",
    source="Ba et al., 2016, equation 4; sizes: Devlin et al., 2019; Radford et al., 2019",
    suites=("layers",),
    sizes=[
        layer("bert_base", 4, 128, "quick"),
        layer("gpt2_small", 1, 1024, "quick"),
        layer("bert_base", 64, 128),
        layer("gpt2_small", 4, 1024, "thorough"),
    ],
    inputs=inputs,
    phases={
        "forward": Phase(
            array=forward_array(layer_norm),
            torch=forward_torch(layer_norm_torch),
            # A sum for the mean; a difference, a square and a sum for the variance; products with
            # the rate and the gain, and the sum with the bias.
            flops=lambda dims: 7 * elements(dims),
            bytes_moved=lambda dims, item: item * (2 * elements(dims) + 2 * dims["features"]),
        ),
        "backward": Phase(
            array=backward_array(layer_norm),
            torch=backward_torch(layer_norm_torch, wanted=[0, 1, 2]),
            inputs=backward_inputs,
            error_factor=8,  # the gradients of gain and bias add up a term for each token
            # A difference and a product for the normalized x; a sum for the bias; a product and a
            # sum for the gain; two products and two sums for the two means; two differences and
            # three products for x.
            flops=lambda dims: 14 * elements(dims),
            bytes_moved=lambda dims, item: item * (3 * elements(dims) + 3 * dims["features"]),
        ),
    },
    includes={
        "numpy": "one core, passes in blocks that stay in its cache; sums over tokens are BLAS's",
        "cupy": "kernels for mean, variance and y; sums over tokens are cuBLAS's",
        "torch": "backward: the call of autograd",
    },
    resize=resize,
)
