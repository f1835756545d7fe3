"""GELU, the activation of transformers, and its gradient: x P(X <= x) for X of N(0, 1).

BERT uses the exact form x (1 + erf(x / sqrt 2)) / 2, which is PyTorch's default; GPT-2 uses the
approximation with a hyperbolic tangent (`tanh` = 1).

Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2.
"""

import math
from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Phase, Workload

from ._activation import NEEDED, draw_x, draw_x_and_dy, elements, layer
from ._dims import complete
from ._fusing import elementwise
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch
from .relu import rectified

SLOPE = math.sqrt(2 / math.pi)  # of the tanh form's argument at 0
CUBIC = 0.044715
PEAK = 1 / math.sqrt(2 * math.pi)  # of the normal density

# NumPy has no erf, and a worker may have no SciPy. For a >= 0, P(X > a) = exp(-a^2 / 2) r(a):
# in float32 Zelen and Severo in Abramowitz and Stegun, 1964, equation 26.2.17, to 7.5e-8, with
# the peak multiplied in; lowest power of 1 / (1 + SCALE a) last.
SCALE = 0.2316419
TAIL = [PEAK * b for b in (1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530)]
# In float64 algorithm 5666 of Hart et al., "Computer Approximations", 1968, in the digits of West,
# "Better approximations to cumulative normal functions", 2005; the relative error is below 1e-13
# up to a = 7, and P(X > 7) is 1.3e-12. Lowest power of a last.
TAIL_ABOVE = [
    *(3.52624965998911e-02, 0.700383064443688, 6.37396220353165, 33.912866078383),
    *(112.079291497871, 221.213596169931, 220.206867912376),
]
TAIL_BELOW = [
    *(8.83883476483184e-02, 1.75566716318264, 16.064177579207, 86.7807322029461),
    *(296.564248779674, 637.333633378831, 793.826512519948, 440.413735824752),
]


def gelu(xp: Any, x: Any, *, tanh: bool = False) -> tuple[Any, Pullback]:
    """Return x P(X <= x), exact or in the form with tanh; the pullback keeps x."""
    forward, backward = (_tanh, _tanh_gradient) if tanh else (_exact, _exact_gradient)
    return elementwise(xp, forward, x), lambda dy: (elementwise(xp, backward, dy, x),)


def _exact(xp: Any, x: Any) -> Any:
    # For negative x, x P(X <= x) = -|x| P(X > |x|); for others x is added.
    a = xp.abs(x)
    tail = _tail_ratio(a)
    tail *= xp.exp(-0.5 * (a * a))
    tail *= a
    return rectified(xp, x) - tail


def _exact_gradient(xp: Any, dy: Any, x: Any) -> Any:
    # The derivative is P(X <= x) + x density(x), which less 1/2 is odd in x.
    a = xp.abs(x)
    odd = a * PEAK
    odd -= _tail_ratio(a)
    odd *= xp.exp(-0.5 * (a * a))
    odd += 0.5
    odd = xp.copysign(odd, x)
    odd += 0.5
    return odd * dy


def _tail_ratio(a: Any) -> Any:
    """Return P(X > a) / exp(-a^2 / 2)."""
    if a.dtype.itemsize == 8:
        return _polynomial(TAIL_ABOVE, a) / _polynomial(TAIL_BELOW, a)
    t = a * SCALE
    t += 1
    t = 1 / t
    return _polynomial([*TAIL, 0], t)


def _polynomial(coefficients: list[float], x: Any) -> Any:
    """Evaluate by Horner's rule, highest power first."""
    value = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        value += coefficient
        value *= x
    return value + coefficients[-1] if coefficients[-1] else value


def _tanh(xp: Any, x: Any) -> Any:
    t = x * x
    t *= SLOPE * CUBIC
    t += SLOPE
    t *= x
    t = xp.tanh(t)
    t += 1
    t *= x
    return t * 0.5


def _tanh_gradient(xp: Any, dy: Any, x: Any) -> Any:
    # With u = SLOPE (x + CUBIC x^3): (1 + tanh u) / 2 + x (1 - tanh(u)^2) u' / 2.
    square = x * x
    t = square * (SLOPE * CUBIC)
    t += SLOPE
    t *= x
    t = xp.tanh(t)
    square *= 1.5 * SLOPE * CUBIC
    square += 0.5 * SLOPE
    square *= x
    # (1 + t) (1/2 + (1 - t) x u' / 2)
    slope = 1 - t
    slope *= square
    slope += 0.5
    t += 1
    slope *= t
    return slope * dy


def gelu_torch(torch: Any, x: Any, *, tanh: bool = False) -> Any:
    """Call the functional form."""
    return torch.nn.functional.gelu(x, approximate="tanh" if tanh else "none")


def options(dims: Dims) -> dict[str, Any]:
    """Say which form it is."""
    return {"tanh": bool(dims.get("tanh", 0))}


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch and features; `tanh` is 0 or 1."""
    return complete(given, NEEDED, tanh=range(2))


def forward_flops(dims: Dims) -> int:
    """Count the operations of the definition, erf and tanh as one each.

    Exact: x / sqrt 2, erf, + 1, times x, half. With tanh: x^2, times CUBIC, + 1, times x, times
    SLOPE, tanh, + 1, times x, half.
    """
    return (9 if dims.get("tanh") else 5) * elements(dims)


def backward_flops(dims: Dims) -> int:
    """Count the operations of the definition, erf, exp and tanh as one each.

    Exact: P(X <= x) in 4, the density in 4, times x, their sum, times dy. With tanh: u in 5, tanh,
    1 - tanh^2 in 2, u' in 2, and 7 products and sums.
    """
    return (17 if dims.get("tanh") else 11) * elements(dims)


WORKLOAD = Workload(
    name="gelu",
    summary="Gaussian error linear unit, exact or with tanh, and its gradient",
    source="Hendrycks and Gimpel, 2016; sizes: Devlin et al., 2019; Radford et al., 2019",
    suites=("layers",),
    sizes=[
        layer("bert_base.ffn", 8, "quick"),
        layer("gpt2_small.ffn", 1, "quick", tanh=1),
        layer("bert_base.ffn", 64),
        layer("gpt2_small.ffn", 4, tanh=1),
    ],
    inputs=draw_x,
    phases={
        "forward": Phase(
            array=forward_array(gelu, options),
            torch=forward_torch(gelu_torch, options),
            flops=forward_flops,
            bytes_moved=lambda dims, item: 2 * item * elements(dims),
        ),
        "backward": Phase(
            array=backward_array(gelu, options),
            torch=backward_torch(gelu_torch, wanted=[0], options=options),
            inputs=draw_x_and_dy,
            flops=backward_flops,
            bytes_moved=lambda dims, item: 3 * item * elements(dims),
        ),
    },
    includes={
        "numpy": "one core, some 20 passes in blocks that stay in its cache; NumPy has no erf:"
        " Abramowitz and Stegun 26.2.17, to 7.5e-8, in float64 Hart 5666",
        "cupy": "one fused kernel, the same formulas as NumPy",
        "torch": "backward: the call of autograd",
    },
    resize=resize,
)
