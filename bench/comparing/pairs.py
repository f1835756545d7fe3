"""The pairs of a duet, from the two runs that it leaves: what `duet` and `check` judge alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench.comparing.gate import FRESH, Pair
from bench.comparing.verdicts import Key
from bench.results.schema import Block, Measurement, Run

HEAD_LACKS: Final = "not measured: the head has no number"
BASE_LACKS: Final = "not measured: the base has no number"
MOST_PAIRS: Final = 200
"""More of a case say no more, and a file can claim any number."""
NOISY_SHARE: Final = 0.2
"""Of the pairs, that are left out for what befell them; where there are more, noise is how this
machine is, and all of them count."""
CONTROL: Final = "control=base"
"""The part of a variant that marks an A/A control: base measured on both sides."""


@dataclass(frozen=True)
class DuetPairs:
    """What two runs of a duet hold for `bench.comparing.gate.judge`."""

    first: dict[Key, list[Pair]] = field(default_factory=dict)
    fresh: dict[Key, list[Pair]] = field(default_factory=dict)
    """The pairs of the second stage, of those cases that had one."""
    missing: dict[Key, str] = field(default_factory=dict)
    unjudged: dict[Key, str] = field(default_factory=dict)
    sentinels: frozenset[Key] = frozenset()


def pairs_of(base: Run, head: Run) -> DuetPairs:
    """Return the pairs of every case, and why one has none; what the base lacks is no fault."""
    sides = [{m.key: m for m in run.measurements} for run in (base, head)]
    found = DuetPairs(
        sentinels=frozenset(key for own in sides for key, m in own.items() if is_control(m.variant))
    )
    for key in {**sides[0], **sides[1]}:
        old, new = (own.get(key) for own in sides)
        lacks_old, lacks_new = _why_not(old, "base"), _why_not(new, "head")
        if old is None or new is None or lacks_old or lacks_new:
            if key in found.sentinels:
                continue  # it fails with its case, which is told
            if old and new and old.status == new.status == "skipped" and old.reason == new.reason:
                found.first[key] = []  # reached on neither side
            elif lacks_old and (old is None or old.reason != HEAD_LACKS):
                found.unjudged[key] = lacks_old
            else:
                found.missing[key] = lacks_new
            continue
        pairs = pairs_of_blocks(old.blocks, new.blocks)
        found.first[key] = [pair for number, pair in pairs.items() if number < FRESH]
        fresh = [pair for number, pair in pairs.items() if number >= FRESH]
        if fresh:
            found.fresh[key] = fresh
    return found


def is_control(variant: str | None) -> bool:
    """Tell whether a case measures the base against itself."""
    return CONTROL in (variant or "").split("+")


def _why_not(measurement: Measurement | None, side: str) -> str:
    """Return why a side has no number; empty if it has one."""
    if measurement is None:
        return f"{side} does not have it"
    if measurement.status == "ok":
        return ""
    return f"{side}: {measurement.status}: {measurement.reason or 'no reason was given'}"


def pairs_of_blocks(base: Sequence[Block], head: Sequence[Block]) -> dict[int, Pair]:
    """Return the pairs of one case by their numbers; a block without a partner counts for none."""
    numbered = _by_pair(base), _by_pair(head)
    both = sorted(set(numbered[0]) & set(numbered[1]))[:MOST_PAIRS]
    noisy = {n for n in both if any(is_disturbed(side[n]) for side in numbered)}
    if len(noisy) <= NOISY_SHARE * len(both):
        both = [number for number in both if number not in noisy]
    return {number: pair_of(numbered[0][number], numbered[1][number]) for number in both}


def pair_of(base: Block, head: Block) -> Pair:
    """Return the two medians over the quieter half of the visits, the same ones on both sides.

    What was quiet is told by the canaries of both sides together, each against its own median, so
    that the choice knows nothing of the times. Blocks without canaries count in full.
    """
    chosen = _quiet_visits(base, head)
    if chosen is None:
        return median(base.seconds), median(head.seconds)
    return median(base.seconds_of(chosen) or base.seconds), median(
        head.seconds_of(chosen) or head.seconds
    )


def is_disturbed(block: Block) -> bool:
    """Tell whether others were on the cores while it was measured."""
    return any(note.startswith("disturbed") for note in block.notes)


def _by_pair(blocks: Sequence[Block]) -> Mapping[int, Block]:
    return {block.pair: block for block in blocks if block.pair is not None and block.seconds}


def _quiet_visits(base: Block, head: Block) -> list[int] | None:
    lengths = {len(part) for block in (base, head) for part in (block.visits, block.canary)}
    if len(lengths) != 1 or lengths <= {0, 1}:
        return None
    slower = [
        a / median(base.canary) + b / median(head.canary)
        for a, b in zip(base.canary, head.canary, strict=True)
    ]
    quietest = sorted(range(len(slower)), key=slower.__getitem__)
    return sorted(quietest[: (len(quietest) + 1) // 2])
