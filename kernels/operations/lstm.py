"""One layer of a long short-term memory over a sequence, and its gradients.

With s the logistic function and h, c beginning as zero, for each token t:
i, f, o = s(W x + R h + b), g = tanh(W x + R h + b), c = f c + i g, h = o tanh(c).
x is (batch, tokens, features), the output holds each h, (batch, tokens, hidden). Weights are those
of PyTorch: W is (4 hidden, features), R is (4 hidden, hidden), with i, f, g, o below each other.

Sources: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; forget gates by Gers et al.,
2000; the sizes of DeepBench (Baidu Research), `code/kernels/rnn_problems.h`, whose inputs are as
wide as the hidden layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.workload import Call, Dims, Phase, Size, Workload

from ._dims import complete
from ._fusing import fused
from ._pullback import Pullback, backward_array, forward_array
from ._sums import row_sums


def lstm(
    xp: Any, x: Any, w_input: Any, w_hidden: Any, b_input: Any, b_hidden: Any
) -> tuple[Any, Pullback]:
    """Return h of all tokens; the pullback keeps x, the gates, c and h.

    Gates and c are (hidden, batch) for each token, so that each gate is one piece of memory, and
    because BLAS multiplies R h^T faster than h R^T. The output and the gradient of x are views of
    arrays whose first axis are the tokens.
    """
    batch, tokens, features = x.shape
    hidden = w_hidden.shape[1]
    inputs = xp.ascontiguousarray(x.swapaxes(0, 1)).reshape(-1, features)
    sums = xp.matmul(w_input, inputs.T)
    sums += (b_input + b_hidden)[:, None]
    sums = sums.reshape(4 * hidden, tokens, batch)
    gates = xp.empty((tokens, 4 * hidden, batch), x.dtype)
    # Before the first token h and c are zero.
    h = xp.zeros((tokens + 1, batch, hidden), x.dtype)
    c = xp.zeros((tokens + 1, hidden, batch), x.dtype)
    tanh_c = xp.empty((tokens, hidden, batch), x.dtype)
    step, step_back = (
        (_step_fused, _step_back_fused) if hasattr(xp, "fuse") else (_step, _step_back)
    )
    for t in range(tokens):
        recurrent = xp.matmul(w_hidden, h[t].T)
        step(xp, sums[:, t], recurrent, gates[t], c[t], c[t + 1], tanh_c[t], h[t + 1].T)

    def pullback(dy: Any) -> tuple[Any, ...]:
        d_sums = xp.empty(sums.shape, x.dtype)
        # Token by token, lest a column of dy lies in memory at a stride that caches dislike.
        dy = xp.ascontiguousarray(dy.swapaxes(0, 1))
        dc, dh = (xp.zeros((hidden, batch), x.dtype) for _ in range(2))
        d_gates = xp.empty((4 * hidden, batch), x.dtype)
        for t in reversed(range(tokens)):
            step_back(xp, dy[t].T, dh, dc, gates[t], c[t], tanh_c[t], d_gates)
            d_sums[:, t] = d_gates
            if t:
                dh = xp.matmul(w_hidden.T, d_gates)
        columns = d_sums.reshape(4 * hidden, -1)
        dx = xp.matmul(columns.T, w_input).reshape(tokens, batch, features).swapaxes(0, 1)
        dw_input = xp.matmul(columns, inputs)
        dw_hidden = xp.matmul(columns, h[:-1].reshape(-1, hidden))
        db = row_sums(xp, columns).astype(x.dtype, copy=False)
        return dx, dw_input, dw_hidden, db, db.copy()

    return h[1:].swapaxes(0, 1), pullback


def _four(gates: Any) -> list[Any]:
    """Return views of i, f, g and o."""
    hidden = len(gates) // 4
    return [gates[start : start + hidden] for start in range(0, 4 * hidden, hidden)]


def _step(
    xp: Any, sums: Any, recurrent: Any, gates: Any, c_before: Any, c: Any, tanh_c: Any, h: Any
) -> None:
    """Turn sums into gates, and write the next c, tanh(c) and h."""
    i, f, g, o = _four(gates)
    i_and_f = gates[: 2 * len(i)]
    xp.add(sums, recurrent, out=gates)
    # s(z) = tanh(z / 2) / 2 + 1 / 2: one call of tanh serves all gates.
    for logistic in (i_and_f, o):
        logistic *= 0.5
    xp.tanh(gates, out=gates)
    for logistic in (i_and_f, o):
        logistic *= 0.5
        logistic += 0.5
    xp.multiply(f, c_before, out=c)
    c += i * g
    xp.tanh(c, out=tanh_c)
    xp.multiply(o, tanh_c, out=h)


def _step_back(
    xp: Any, dy: Any, dh: Any, dc: Any, gates: Any, c_before: Any, tanh_c: Any, d_gates: Any
) -> None:
    """Write the gradients of the sums, and turn dc into that of the c before."""
    i, f, g, o = _four(gates)
    di, df, dg, do = _four(d_gates)
    dh += dy
    # The slope of tanh is 1 - tanh^2, that of a logistic gate a is a (1 - a).
    slope = tanh_c * tanh_c
    xp.subtract(1, slope, out=slope)
    slope *= o
    slope *= dh
    dc += slope
    xp.subtract(1, gates, out=d_gates)
    d_gates *= gates
    xp.multiply(g, g, out=dg)
    xp.subtract(1, dg, out=dg)
    di *= g
    df *= c_before
    dg *= i
    do *= tanh_c
    do *= dh
    di_df_dg = d_gates[: 3 * len(dc)].reshape(3, *dc.shape)
    di_df_dg *= dc
    dc *= f


def _step_fused(xp: Any, sums: Any, recurrent: Any, gates: Any, *state: Any) -> None:
    """Do what _step does in one kernel."""
    recurrent += sums
    fused(xp, _cell)(*_four(recurrent), *_four(gates), *state)


def _cell(
    xp: Any, i_sum: Any, f_sum: Any, g_sum: Any, o_sum: Any, i: Any, f: Any, g: Any, *others: Any
) -> None:
    o, c_before, c, tanh_c, h = others
    for gate, total in ((i, i_sum), (f, f_sum), (o, o_sum)):
        gate[...] = xp.tanh(total * 0.5) * 0.5 + 0.5
    g[...] = xp.tanh(g_sum)
    c[...] = f * c_before + i * g
    tanh_c[...] = xp.tanh(c)
    h[...] = o * tanh_c


def _step_back_fused(
    xp: Any, dy: Any, dh: Any, dc: Any, gates: Any, c_before: Any, tanh_c: Any, d_gates: Any
) -> None:
    """Do what _step_back does in one kernel."""
    fused(xp, _cell_back)(dy, dh, dc, *_four(gates), c_before, tanh_c, *_four(d_gates))


def _cell_back(
    _xp: Any, dy: Any, dh: Any, dc: Any, i: Any, f: Any, g: Any, o: Any, *others: Any
) -> None:
    c_before, tanh_c, di, df, dg, do = others
    dh += dy
    dc += dh * o * (1 - tanh_c * tanh_c)
    di[...] = dc * g * i * (1 - i)
    df[...] = dc * c_before * f * (1 - f)
    dg[...] = dc * i * (1 - g * g)
    do[...] = dh * tanh_c * o * (1 - o)
    dc *= f


def _module(torch: Any, x: Any, weights: Sequence[Any]) -> Any:
    """Return PyTorch's own layer with these weights, side by side in memory as cuDNN wants them."""
    features, hidden = x.shape[-1], weights[1].shape[1]
    module = torch.nn.LSTM(features, hidden, batch_first=True, device=x.device, dtype=x.dtype)
    with torch.no_grad():
        for parameter, given in zip(module.parameters(), weights, strict=True):
            parameter.copy_(given)
    return module


def forward_torch(torch: Any, _dims: Dims, x: Any, *weights: Any) -> Call:
    """Call the layer in inference mode."""
    module = _module(torch, x, weights).eval()

    def call() -> Any:
        with torch.no_grad():
            return module(x)[0]

    return call


def backward_torch(torch: Any, _dims: Dims, x: Any, *others: Any) -> Call:
    """Time autograd of the layer in training mode."""
    *weights, dy = others
    module = _module(torch, x, weights)
    x = x.detach().requires_grad_()
    leaves = [x, *module.parameters()]
    y = module(x)[0]
    return lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)


def inputs(rng: Any, dims: Dims) -> tuple[Any, ...]:
    """Draw x from N(0, 1), weights and biases as PyTorch does: within 1 / sqrt(hidden)."""
    hidden = dims["hidden"]
    bound = hidden**-0.5
    shapes = [(4 * hidden, dims["features"]), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
    x = rng.standard_normal((dims["batch"], dims["tokens"], dims["features"]), dtype="float32")
    return (x, *(rng.uniform(-bound, bound, shape).astype("float32") for shape in shapes))


def backward_inputs(rng: Any, dims: Dims) -> tuple[Any, ...]:
    """Draw dy from N(0, 1) besides."""
    shape = (dims["batch"], dims["tokens"], dims["hidden"])
    return (*inputs(rng, dims), rng.standard_normal(shape, dtype="float32"))


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch, tokens, features and hidden."""
    return complete(given, ("batch", "tokens", "features", "hidden"))


def sizes_of(dims: Dims) -> tuple[int, int, int, int]:
    """Return rows of all tokens, rows of one, features and the four gates."""
    return (
        dims["batch"] * dims["tokens"],
        dims["batch"],
        dims["features"] + dims["hidden"],
        4 * dims["hidden"],
    )


def flops(dims: Dims) -> int:
    """Count a multiply-add for each token, gate and value of x or h; gates themselves are not."""
    rows, _, inner, gates = sizes_of(dims)
    return 2 * rows * inner * gates


def backward_flops(dims: Dims) -> int:
    """Count twice as much, less the gradient of the first h, which is zero and not wanted."""
    _, batch, _, gates = sizes_of(dims)
    return 2 * flops(dims) - 2 * batch * dims["hidden"] * gates


def forward_bytes(dims: Dims, item: int) -> int:
    """Count x, weights and biases read and y written, once each."""
    rows, _, inner, gates = sizes_of(dims)
    return item * (rows * inner + gates * (inner + 2))


def backward_bytes(dims: Dims, item: int) -> int:
    """Count x, weights and dy read and the gradients written, once each."""
    rows, _, inner, gates = sizes_of(dims)
    return item * (rows * inner + rows * dims["features"] + 2 * gates * (inner + 1))


def classifier(batch: int, tokens: int, preset: str = "standard") -> Size:
    """Return the layer of a classifier of texts."""
    dims = {"batch": batch, "tokens": tokens, "features": 256, "hidden": 256}
    return Size(dims=dims, preset=preset, name="classifier" if tokens == 128 else "classifier.32")


def deepbench(hidden: int, batch: int, tokens: int, preset: str = "thorough") -> Size:
    """Return a problem of DeepBench."""
    dims = {"batch": batch, "tokens": tokens, "features": hidden, "hidden": hidden}
    return Size(dims=dims, preset=preset, name=f"deepbench.{hidden}x{tokens}")


WORKLOAD = Workload(
    name="lstm",
    summary="one layer of a long short-term memory over a sequence, and its gradients",
    source="Hochreiter and Schmidhuber, 1997; Gers et al., 2000; DeepBench rnn_problems.h",
    suites=("layers",),
    sizes=[
        classifier(16, 32, "quick"),
        classifier(32, 128),
        deepbench(512, 16, 25),
        deepbench(512, 64, 25, "standard"),
        *(deepbench(1024, batch, 25) for batch in (16, 64)),
        *(deepbench(2048, batch, 25) for batch in (16, 64)),
        deepbench(4096, 16, 25),
        deepbench(1536, 8, 50),
        deepbench(256, 16, 150),
    ],
    inputs=inputs,
    phases={
        "forward": Phase(
            array=forward_array(lstm),
            torch=forward_torch,
            error_factor=4,  # the rounding of one token passes through all that follow
            flops=flops,
            bytes_moved=forward_bytes,
        ),
        "backward": Phase(
            array=backward_array(lstm),
            torch=backward_torch,
            inputs=backward_inputs,
            error_factor=8,  # sums over all tokens of what has passed through many of them
            flops=backward_flops,
            bytes_moved=backward_bytes,
        ),
    },
    includes={
        "numpy": "two products of all tokens, three for the gradients, one product and some twenty"
        " passes per token; what backward needs is stored",
        "cupy": "as NumPy, with one product and a few kernels per token",
        "torch": "nn.LSTM: on GPUs cuDNN, on CPUs oneDNN where it is chosen; backward: the call of"
        " autograd",
    },
    resize=resize,
)
