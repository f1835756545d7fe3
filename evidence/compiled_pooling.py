"""What verification found: PyTorch 2.13's compiler loses a gradient on the CPU.

A convolution, a rectifier, a 2x2 maximum pooling and two linear layers, as a user writes them, with
none of our code: the norm of the convolution's weight gradient, eager and compiled. The case
vgg16/cifar ... torch-cpu+compiled ends as `wrong` because of it.
"""

import sys
from typing import Any


def main() -> int:
    """Print both norms; return 1 if they differ."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    network: Any = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 10),
    )
    x, labels = torch.randn(4, 3, 4, 4), torch.randint(10, (4,))
    norms = {}
    called: Any
    for name, called in {"eager": network, "compiled": torch.compile(network)}.items():
        network.zero_grad()
        loss: Any = nn.functional.cross_entropy(called(x), labels)
        loss.backward()
        norms[name] = float(network[0].weight.grad.norm())
    print(f"PyTorch {torch.__version__}: " + ", ".join(f"{n} {v:.4f}" for n, v in norms.items()))
    return int(abs(norms["compiled"] / norms["eager"] - 1) > 1e-3)


if __name__ == "__main__":
    sys.exit(main())
