"""Cross-entropy of a softmax with integer labels, the mean over the rows, and its gradient.

The loss of a row is log(sum(exp(logits))) - logits[label]; its gradient is softmax(logits), less 1
at the label. Source: Goodfellow, Bengio and Courville, "Deep Learning", 2016, section 6.2.2.3.
"""

from collections.abc import Mapping
from typing import Any

from bench.workload import Dims, Phase, Size, Workload

from ._dims import complete
from ._fusing import blocks, elementwise, fused
from ._pullback import Pullback, backward_array, backward_torch, forward_array, forward_torch


def cross_entropy(xp: Any, logits: Any, labels: Any) -> tuple[Any, Pullback]:
    """Return the mean loss of logits (rows, classes) and labels (rows,), an array without axes.

    The pullback keeps the logarithm of each row's sum and computes exp anew, as PyTorch does: an
    array as large as the logits, 0.8 GB in GPT-2, is then neither written nor kept.
    """
    rows = len(logits)
    logarithms = xp.empty((rows, 1), logits.dtype)
    for part in blocks(xp, logits):
        # The largest is subtracted first, so that exp cannot overflow.
        top = logits[part].max(axis=-1, keepdims=True)
        total = fused(xp, _sum_of_exps)(logits[part], top)
        logarithms[part] = xp.log(total[:, None]) + top
    each = xp.arange(rows)
    loss = (logarithms[:, 0] - logits[each, labels]).mean()

    def pullback(dy: Any) -> tuple[Any, None]:
        share = xp.asarray(dy / rows, logits.dtype)
        dlogits = elementwise(xp, _scaled_softmax, logits, logarithms, share)
        dlogits[each, labels] -= share
        return dlogits, None

    return loss, pullback


def _sum_of_exps(xp: Any, logits: Any, top: Any) -> Any:
    difference = logits - top
    return xp.sum(xp.exp(difference, out=difference), axis=-1)


def _scaled_softmax(xp: Any, logits: Any, logarithms: Any, share: Any) -> Any:
    softmax = logits - logarithms
    xp.exp(softmax, out=softmax)
    softmax *= share
    return softmax


def cross_entropy_torch(torch: Any, logits: Any, labels: Any) -> Any:
    """Call the functional form."""
    return torch.nn.functional.cross_entropy(logits, labels)


def inputs(rng: Any, dims: Dims) -> tuple[Any, Any]:
    """Draw logits from N(0, 1) and labels."""
    rows, classes = dims["batch"] * dims.get("tokens", 1), dims["classes"]
    return rng.standard_normal((rows, classes), dtype="float32"), rng.integers(classes, size=rows)


def backward_inputs(rng: Any, dims: Dims) -> tuple[Any, Any, Any]:
    """Draw logits, labels and the gradient of the loss."""
    return (*inputs(rng, dims), rng.standard_normal((), dtype="float32"))


def resize(given: Mapping[str, int]) -> Dims:
    """Require batch and classes; tokens may be left out."""
    return complete(given, ("batch", "classes"), ("tokens",))


def elements(dims: Dims) -> int:
    """Return how many logits there are."""
    return dims["batch"] * dims.get("tokens", 1) * dims["classes"]


def output(name: str, classes: int, preset: str = "standard", **rows: int) -> Size:
    """Name the output of a network."""
    return Size(dims={**rows, "classes": classes}, preset=preset, name=name)


WORKLOAD = Workload(
    name="cross_entropy",
    summary="softmax cross-entropy with integer labels, mean over the rows, and its gradient",
    source="Goodfellow et al., 2016, section 6.2.2.3; sizes: He et al., 2016; Devlin et al., 2019;"
    " Radford et al., 2019; Keras mnist_mlp",
    suites=("layers",),
    sizes=[
        output("mlp.digits", 10, batch=128),
        output("resnet50.classes", 1000, "quick", batch=256),
        output("gpt2_small.vocabulary", 50257, batch=1, tokens=1024),
        output("gpt2_small.vocabulary", 50257, "thorough", batch=4, tokens=1024),
        output("bert_base.vocabulary", 30522, "thorough", batch=64, tokens=128),
    ],
    inputs=inputs,
    phases={
        "forward": Phase(
            array=forward_array(cross_entropy),
            torch=forward_torch(cross_entropy_torch),
            # A comparison, a subtraction, exp counted as one, a sum; each row's few are left out.
            flops=lambda dims: 4 * elements(dims),
            bytes_moved=lambda dims, item: item * elements(dims),
        ),
        "backward": Phase(
            array=backward_array(cross_entropy),
            torch=backward_torch(cross_entropy_torch, wanted=[0]),
            inputs=backward_inputs,
            error_factor=8,
            # A subtraction, exp counted as one, a product.
            flops=lambda dims: 3 * elements(dims),
            bytes_moved=lambda dims, item: 2 * item * elements(dims),
        ),
    },
    includes={
        "numpy": "one core, in blocks that stay in its cache",
        "cupy": "forward: a kernel for the maximum and one for the sum of exps",
        "torch": "forward: the logarithm of the whole softmax is written. backward: the call of"
        " autograd",
    },
    resize=resize,
)
