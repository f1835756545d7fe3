"""Which questions can be asked: a suite is a named set of cases and how they are measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A named set of cases. Workloads say themselves which suites they belong to."""

    name: str
    question: str
    """What a user learns from it, in one sentence."""
    phases: Sequence[str]
    """The phases of a workload that the suite times, where the workload has them."""
    aliases: Sequence[str] = ()
    devices: Sequence[str] = ("cpu", "gpu")
    """The kinds of device that it is about; backends on others have no cases in it."""
    dtypes: Sequence[str] = ()
    """The only dtypes that make sense; none: those that the user asks for."""
    share: float = 1.0
    """Of the preset's time for a case: less where a suite has many cases that are seen together."""
    batches: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """The batches that it goes through, by preset, whatever those of the workloads' sizes are."""
    is_plain: bool = False
    """Whether variants are left out unless they are asked for."""
    finds_limit: bool = False
    """Whether memory running out is the end of a sweep, behind which the limit is searched for."""
    serves: bool = False
    """Whether single requests are timed, as a service has them."""
