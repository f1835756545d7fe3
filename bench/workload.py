"""What is computed: the type that each file in `kernels/` fills in once.

Only the standard library is imported here, because workers carry this file into environments
where nothing but the measured library is installed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

Dims = Mapping[str, int]
"""The dimensions of one size, by name: `{"batch": 8, "channels": 64}`."""

Call = Callable[[], Any]
"""What is timed: no arguments, returns the output array or a tuple of them."""

Prepare = Callable[..., Call]
"""`prepare(library, dims, *inputs)`: sets up whatever is not timed, returns the timed call."""


@dataclass(frozen=True)
class CountedCall:
    """A call that tells how many samples it computed last, where its output does not.

    Without it the first axis of the first output is the number of samples.
    """

    call: Call
    rows: Callable[[], int]
    checked: Call | None = None
    """Makes the call without what is random in it: its output is verified in place of the other."""

    def __call__(self) -> Any:
        """Make the call."""
        return self.call()


PRESETS: Final = ("quick", "standard", "thorough")
DTYPES: Final = ("float64", "float32", "tf32", "float16", "bfloat16")

ITEM_BYTES: Final = {"float64": 8, "float32": 4, "tf32": 4, "float16": 2, "bfloat16": 2}
"""Bytes that one stored element takes; tf32 is stored as float32."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """One set of dimensions, under a name if it has one, from a preset upwards."""

    dims: Dims
    preset: str = "standard"
    name: str | None = None
    networks: Mapping[str, int] = field(default_factory=dict)
    """The networks that this is a layer of, with how many such layers each has."""

    @property
    def label(self) -> str:
        """What stands in a case's id: `n=1024`, `bert_base.projection`, `resnet50.3,batch=8`."""
        if self.name is None:
            return ",".join(f"{key}={value}" for key, value in self.dims.items())
        return f"{self.name},batch={self.dims['batch']}" if "batch" in self.dims else self.name


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A reference too costly to compute in full: `output @ vectors` must equal `expected`.

    `axis` is the one of the output that is multiplied; in `expected` it is as long as the vectors
    are many. Source: Freivalds, "Probabilistic Machines Can Use Less Running Time", 1977. With
    Gaussian vectors the relative error of the projections estimates the relative Frobenius error.
    """

    vectors: Any
    expected: Any
    axis: int = -1


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One timed part of a workload: how each family of libraries does it, and what it costs.

    `array` serves every library with NumPy's interface, `torch` serves PyTorch; `overrides` holds
    a version for one library, or for one backend such as `torch-cuda`, where it is measurably
    better. `flops` counts one
    multiply-add as two; `bytes_moved` takes the bytes of one element besides the dimensions and
    counts each input and output once. `preset` is the first that times this phase.
    """

    array: Prepare | None = None
    torch: Prepare | None = None
    overrides: Mapping[str, Prepare] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Prepare]] = field(default_factory=dict)
    """Other ways to use a library, each a row of its own: variant, then library or backend."""
    preset: str = "quick"
    inputs: Callable[[Any, Dims], Sequence[Any]] | None = None
    """Draws what this phase needs, where that is not what the workload draws."""
    fresh_inputs: int | None = None
    """How many of the inputs, the first ones, are new in each call, as the samples of a network
    are: they alone are copied to a device, and the first output back; the others stay there, as
    parameters and gradients do. None: all inputs and outputs are copied."""
    error_factor: float = 1.0
    """Widens the limits of verification: 4 for several layers in a row, 8 for gradients, which add
    up more terms than one output has."""
    verified: str = "full"
    """What a run file says of the verification, where something is left out of it."""
    skipped: str | None = None
    """Why it is not measured anywhere, where that is known beforehand."""
    apart: int = 0
    """How many outputs of a network, the first ones, are verified apart from the others: gradients
    may be so small beside them that they would not count."""
    is_network: bool = False
    """Whether many layers add up their errors: outputs are then verified together, as one vector,
    against the error that the array version itself has in float32 on the same bits."""
    flops: Callable[[Dims], int] | None = None
    bytes_moved: Callable[[Dims, int], int] | None = None
    reference: Callable[..., Any] | None = None
    """`reference(numpy, dims, *float64_inputs)` where it is not `array` itself in float64."""
    projection: Callable[..., Projection | None] | None = None
    """`projection(numpy, rng, dims, *float64_inputs)`: replaces the reference of huge cases."""
    shortcut: Callable[[Dims], float] | None = None
    """How many times fewer FLOPs than `flops` are known to do, as with Winograd's algorithm or
    without products with padding; so much above the device's peak a rate is still believed."""

    def implementation(self, backend: str, variant: str | None = None) -> Prepare | None:
        """Return the version for `backend`, or for its library; None if there is none."""
        library = backend.partition("-")[0]
        own = self.overrides if variant is None else self.variants.get(variant, {})
        for name in (backend, library):
            if name in own:
                return own[name]
        if variant is not None:
            return None
        return self.torch if library == "torch" else self.array

    @property
    def judge(self) -> str:
        """The backend whose process draws inputs and computes the reference in float64."""
        if self.reference is not None or self.implementation("numpy") is not None:
            return "numpy"
        return "torch-cpu" if self.implementation("torch-cpu") is not None else "numpy"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is computed, at which sizes, from which inputs, and what it costs.

    `version` counts up whenever the computation or its inputs change: measurements of different
    versions are never compared. `inputs(rng, dims)` draws NumPy arrays; floating ones are rounded
    to the case's dtype by the engine, so that every library sees the same bits.
    """

    name: str
    inputs: Callable[[Any, Dims], Sequence[Any]]
    phases: Mapping[str, Phase]
    summary: str = ""
    source: str = ""
    suites: Sequence[str] = ()
    """The suites that it belongs to; none: every one that times one of its phases."""
    sizes: Sequence[Size] = (Size(dims={}, preset="quick", name="only"),)
    version: int = 1
    is_users: bool = False
    """Whether it comes from a folder of the user's; set where it is loaded."""
    decoys: Callable[[Any, Dims], Sequence[Any]] | None = None
    """Draws inputs unlike the others, where `inputs` draws the same whatever its generator."""
    includes: Mapping[str, str] = field(default_factory=dict)
    """What the time of each library holds besides the operation itself, where users would ask."""
    parameters: Callable[[Dims], int] | None = None
    """How many of the inputs, the last ones, stay on the device between calls, as those of a
    network do; the first axis of all others is the batch. None: it is no network."""
    resize: Callable[[Mapping[str, int]], Dims] | None = None
    """Completes the dimensions that a user gave (`--size`), or raises ValueError saying why not."""

    def belongs_to(self, suite: str, phases: Sequence[str]) -> bool:
        """Tell whether it has cases in a suite that times `phases`."""
        if self.suites:
            return suite in self.suites
        return any(phase in self.phases for phase in phases)


def calling(function: Callable[..., Any]) -> Prepare:
    """Turn a plain `function(library, *inputs)` into a Prepare that has nothing to set up."""

    def prepare(library: Any, _dims: Dims, *inputs: Any) -> Call:
        return partial(function, library, *inputs)

    return prepare
