"""Counts FLOPs with PyTorch's own counter, where it counts right.

On the CPU it knows no fused attention and no recurrent layer, and finds none in an encoder's layer;
on the device `meta`, where nothing is computed, it finds all of them.
"""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from bench.measuring.reference import without_onednn
from bench.workload import Call


def count_flops(torch: Any, call: Call) -> int:
    """Make a call and return its FLOPs: a multiply-add is two."""
    counter = importlib.import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
    with _unfused(torch), counter:
        call()
    return int(counter.get_total_flops())


@contextlib.contextmanager
def _unfused(torch: Any) -> Iterator[None]:
    """Keep PyTorch from the fused functions of the CPU."""
    attention = importlib.import_module("torch.nn.attention")
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with attention.sdpa_kernel([attention.SDPBackend.MATH]), without_onednn(torch):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
