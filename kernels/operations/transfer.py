"""A copy from host memory to a GPU or back: its latency where it is short, else its bandwidth.

Plainly the host's memory is pageable, as NumPy and PyTorch allocate it, and the driver copies by
way of a buffer of its own. The variant `pinned` has page-locked memory, which the GPU reads itself
(NVIDIA, CUDA C++ Best Practices Guide, 10.1.1, "Pinned Memory"). Both buffers exist before the
clock starts.
"""

from typing import Any

from bench.workload import Call, Dims, Phase, Prepare, Size, Workload

KIBI = 1024
ITEM_BYTES = 4  # of float32
DRAWN = 2**20  # elements; longer inputs repeat them, for the sake of whoever waits


def resize(given: Dims) -> Dims:
    """Take any number of bytes that holds whole elements."""
    if set(given) != {"bytes"} or given["bytes"] < ITEM_BYTES or given["bytes"] % ITEM_BYTES:
        raise ValueError(f"give bytes, a multiple of {ITEM_BYTES}")
    return given


def inputs(rng: Any, dims: Dims) -> tuple[Any]:
    """Draw x from N(0, 1)."""
    length = dims["bytes"] // ITEM_BYTES
    drawn = rng.standard_normal(min(length, DRAWN), dtype="float32")
    times = -(-length // len(drawn))
    return (drawn[None].repeat(times, axis=0).reshape(-1)[:length],)


def unchanged(_numpy: Any, _dims: Dims, x: Any) -> Any:
    """Return what a copy must be."""
    return x


def torch_copy(to_host: bool, *, pinned: bool) -> Prepare:
    """Return a version for PyTorch, between buffers that are allocated once."""

    def prepare(torch: Any, _dims: Dims, x: Any) -> Call:
        host = torch.empty(x.shape, dtype=x.dtype, pin_memory=pinned)
        host.copy_(x)
        target = host if to_host else torch.empty_like(x)
        source = x if to_host else host
        # Of pageable memory PyTorch waits for the copy; of pinned memory whoever calls does.
        return lambda: target.copy_(source, non_blocking=pinned)

    return prepare


def cupy_copy(to_host: bool, *, pinned: bool) -> Prepare:
    """Return a version for CuPy, between buffers that are allocated once."""

    def prepare(cupy: Any, _dims: Dims, x: Any) -> Call:
        host = cupy.asnumpy(x)
        if pinned:
            locked = cupy.cuda.alloc_pinned_memory(host.nbytes)
            # An array of the host's library over the page-locked memory.
            host = type(host)(host.shape, host.dtype, buffer=locked)
            x.get(out=host)
        if to_host:
            return lambda: x.get(out=host, blocking=not pinned)
        target = cupy.empty_like(x)

        def call() -> Any:
            target.set(host)
            return target

        return call

    return prepare


def phase(*, to_host: bool) -> Phase:
    """Return a phase with both libraries, from pageable and from pinned memory."""

    def versions(*, pinned: bool) -> dict[str, Prepare]:
        return {
            "torch": torch_copy(to_host, pinned=pinned),
            "cupy": cupy_copy(to_host, pinned=pinned),
        }

    return Phase(
        overrides=versions(pinned=False),
        variants={"pinned": versions(pinned=True)},
        reference=unchanged,
        bytes_moved=lambda dims, item: dims["bytes"] // ITEM_BYTES * item,
    )


WORKLOAD = Workload(
    name="transfer",
    summary="copy between host memory and a GPU, pageable or pinned",
    source="NVIDIA, CUDA C++ Best Practices Guide, 10.1",
    suites=("transfer",),
    sizes=[
        Size(dims={"bytes": 4**power * KIBI}, preset="quick" if power % 2 else "standard")
        for power in range(1, 11)
    ],
    inputs=inputs,
    phases={"to_device": phase(to_host=False), "to_host": phase(to_host=True)},
    includes={
        "cupy": "the copy alone: both buffers are allocated once",
        "torch": "the copy alone: both buffers are allocated once",
    },
    resize=resize,
)
