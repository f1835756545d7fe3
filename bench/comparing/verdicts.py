"""What a gate says: a verdict for each case, a sentence for all of them, and the exit code."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from bench.text import natural

Key = tuple[str, str]
"""The suite and the id of a case."""

Verdict = Literal["REGRESSED", "INCONCLUSIVE", "IMPROVED", "SAME"]
SEVERITY: Final[Sequence[Verdict]] = ("REGRESSED", "INCONCLUSIVE", "IMPROVED", "SAME")
"""The most severe first."""

_MOST_SEEN: Final = 10.0
"""A change by more than a factor of 11 is called none that could have been seen."""


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """How a gate decides; every number is a share, such as 0.05 for 5%."""

    threshold: float = 0.05
    """The change that matters: one of this size is to be found."""
    floor: float = 0.01
    """The change that is harmless, as another memory layout makes it."""
    level: float = 0.05
    """How probable at most one false REGRESSED or IMPROVED is among all cases of a job."""
    screening: float = 0.25
    """The p below which the first stage finds a case worth fresh pairs."""
    first_pairs: int = 6
    second_pairs: int = 14
    drift: float = 0.10
    """How far a machine may drift between runs, where too few baselines tell it."""
    strict: bool = False
    """Whether SAME needs proof that the change is below the threshold."""
    inconclusive: Literal["fail", "warn"] = "fail"
    sentinels: frozenset[Key] = frozenset()
    """Cases that measure the base against itself: whatever they show is false."""

    @property
    def least(self) -> float:
        """The logarithm that a change has to pass to be one."""
        return math.log1p(min(self.floor, self.threshold / 2))

    @property
    def most(self) -> float:
        """The logarithm of the threshold."""
        return math.log1p(self.threshold)


@dataclass(frozen=True, kw_only=True)
class CaseVerdict:
    """What is known of one case; changes are shares of the base's time, slower is above 0."""

    key: Key
    verdict: Verdict
    base_seconds: float | None
    head_seconds: float | None
    change: float | None
    """None, like the seconds, where nothing was measured in time."""
    low: float | None
    high: float | None
    """The 90% interval of the change; None where there is too little for one."""
    sees: float | None
    """The smallest change that would have been found in four of five such jobs; None: none."""
    pairs: int
    """What the change comes from: pairs of a duet, or runs of the baseline."""
    reason: str = ""
    """Why it is INCONCLUSIVE and what would help, or what else is to be known."""
    perhaps_slower: bool = True
    """Whether an INCONCLUSIVE case may be slower; otherwise it may only be faster."""

    @property
    def name(self) -> str:
        """The id under which people know it."""
        return self.key[1]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a gate says of a whole job."""

    cases: Sequence[CaseVerdict]
    """The most severe first."""
    sentinels: Sequence[CaseVerdict]
    settings: GateSettings
    missing: Mapping[Key, str] = field(default_factory=dict)
    """Cases of the base that the head has no number for, with the reason: they fail."""
    unjudged: Mapping[Key, str] = field(default_factory=dict)
    """Cases that nothing is said about, with the reason."""
    void: str | None = None
    """Why nothing that was measured counts."""
    where: str = "measured on both sides"

    def of(self, verdict: Verdict) -> list[CaseVerdict]:
        """Return the cases with a verdict."""
        return [case for case in self.cases if case.verdict == verdict]

    @property
    def measured(self) -> list[CaseVerdict]:
        """Return the cases that have a number on both sides."""
        return [case for case in self.cases if case.change is not None]

    @property
    def is_inconclusive(self) -> bool:
        """Whether the question if something became slower stays open."""
        return self.void is not None or any(case.perhaps_slower for case in self.of("INCONCLUSIVE"))

    @property
    def exit_code(self) -> int:
        """1: the answer is no; 4: nothing is comparable; 3: inconclusive; 0: nothing regressed."""
        if self.missing or self.of("REGRESSED"):
            return 1
        if not self.measured:
            return 4
        return 3 if self.is_inconclusive and self.settings.inconclusive == "fail" else 0

    @property
    def headline(self) -> str:
        """How many cases got which verdict."""
        counts = [f"{len(found)} {verdict}" for verdict in SEVERITY if (found := self.of(verdict))]
        if self.missing:
            counts.insert(0, f"{len(self.missing)} missing")
        if self.unjudged:
            counts.append(f"{len(self.unjudged)} n/a")
        return ", ".join(counts) or "no case in common"

    @property
    def sentence(self) -> str:
        """How much was measured, what would have been seen, and what the control says."""
        total = len(self.cases) + len(self.missing) + len(self.unjudged)
        parts = [f"{len(self.measured)} of {total} cases {self.where}"]
        if self.measured:
            parts.append(self._seen())
        if self.void:
            parts.append(f"the job is void: {self.void}")
        elif self.sentinels:
            parts.append("the A/A control stayed silent")
        return f"{'; '.join(parts)}."

    def _seen(self) -> str:
        """Say what would have been seen; a few blind cases must not hide what the others see."""
        measured = self.measured
        seen = sorted(case.sees for case in measured if case.sees is not None)
        if not seen:
            return "no change would have been seen"
        most = 2 * self.settings.threshold
        inside = [value for value in seen if value <= most]
        if len(inside) == len(measured) or not inside:
            told = f"changes above {percent_up(seen[-1])} would have been seen"
            blind = len(measured) - len(seen)
            return f"{told} in {len(seen)} of them" if blind else told
        return (
            f"changes above {percent_up(inside[-1])} would have been seen"
            f" in {len(inside)} of them, the others are noisier"
        )


def severity(case: CaseVerdict) -> tuple[object, ...]:
    """Return a key that sorts the most severe first."""
    return (
        SEVERITY.index(case.verdict),
        not case.perhaps_slower,
        -abs(case.change or 0.0),
        case.key[0],
        natural(case.key[1]),
        case.key[1],
    )


def share(log: float) -> float | None:
    """Return the change that a logarithm of a ratio stands for; None where it is beyond words."""
    return math.expm1(log) if abs(log) < math.log1p(_MOST_SEEN) else None


def percent(value: float | None) -> str:
    """Write a change, such as `+4.2%`."""
    if value is None:
        return "-"
    return f"{100 * value:+.1f}%" if abs(value) < 1 else f"{100 * value:+.0f}%"


def percent_up(value: float | None) -> str:
    """Write a bound, rounded up so that it holds, such as `5.9%`."""
    if value is None:
        return "-"
    steps = 1000 if value < 1 else 100
    return f"{100 * math.ceil(steps * value - 1e-6) / steps:g}%"
