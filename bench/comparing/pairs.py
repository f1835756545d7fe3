"""The pairs of a duet, from the two runs that it leaves: what `duet` and `check` judge alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench.comparing.gate import FEWEST_PAIRS, FRESH, Pair
from bench.comparing.quiet import Canaries, canaries_of
from bench.comparing.verdicts import GateSettings, Key
from bench.results.schema import Block, Measurement, Run, RunLine

HEAD_LACKS: Final = "not measured: the head has no number"
BASE_LACKS: Final = "not measured: the base has no number"
MOST_PAIRS: Final = 200
"""More of a case say no more, and a file can claim any number."""
QUIET_SHARE: Final = 0.6
"""Of a stage's pairs, that have to be quiet for the others to be left out: 9 of 14 can still tell
25 suspects apart."""
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
    is_same_canary = _describe_canary(base) == _describe_canary(head)
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
        pairs = pairs_of_blocks(old.blocks, new.blocks, is_same_canary=is_same_canary)
        found.first[key] = [pair for number, pair in pairs.items() if number < FRESH]
        fresh = [pair for number, pair in pairs.items() if number >= FRESH]
        if fresh:
            found.fresh[key] = fresh
    return found


def _describe_canary(run: Run) -> Sequence[object]:
    """Return what computes the canaries of a run: its interpreter and the libraries it measured."""
    return [run.header.machine.get(name) for name in ("python", "libraries", "package_files")]


def planned_pairs(header: RunLine, settings: GateSettings) -> int:
    """Return how many fresh pairs a suspect of a duet was to have."""
    planned = header.settings.get("fresh_pairs")
    if isinstance(planned, int) and 0 < planned <= MOST_PAIRS:
        return planned
    return settings.second_pairs


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


def pairs_of_blocks(
    base: Sequence[Block], head: Sequence[Block], *, is_same_canary: bool = False
) -> dict[int, Pair]:
    """Return the pairs of one case by their numbers; a block without a partner counts for none.

    A noisy pair is left out while enough others remain of its stage; where most are noisy, noise
    is how this machine is, and all of them count.
    """
    numbered = _by_pair(base), _by_pair(head)
    both = sorted(set(numbered[0]) & set(numbered[1]))[:MOST_PAIRS]
    pairs: dict[int, Pair] = {}
    # Each stage by itself: what the second one sees must not change what the first one said.
    for stage in ([n for n in both if n < FRESH], [n for n in both if n >= FRESH]):
        of_stage = ([side[number] for number in stage] for side in numbered)
        canaries = canaries_of(*of_stage, is_same_work=is_same_canary)
        quiet: dict[int, Pair] = {}
        noisy: dict[int, Pair] = {}
        for number in stage:
            blocks = numbered[0][number], numbered[1][number]
            pair, is_quiet = _pair(blocks, canaries)
            is_quiet &= not any(is_disturbed(block) for block in blocks)
            (quiet if is_quiet else noisy)[number] = pair
        is_enough = len(quiet) >= max(FEWEST_PAIRS, QUIET_SHARE * len(stage))
        pairs |= quiet if is_enough else {number: (quiet | noisy)[number] for number in stage}
    return pairs


def _pair(
    blocks: tuple[Block, Block], canaries: tuple[Canaries, Canaries] | None
) -> tuple[Pair, bool]:
    """Return the medians of both sides, and whether both were quiet enough."""
    if canaries is None:
        return (median(blocks[0].seconds), median(blocks[1].seconds)), True
    chosen = [own.quiet_visits(block) for own, block in zip(canaries, blocks, strict=True)]
    base, head = (
        own.seconds(block, visits) if all(chosen) else own.seconds_of_noisy(block)
        for own, block, visits in zip(canaries, blocks, chosen, strict=True)
    )
    return (base, head), all(chosen)


def is_disturbed(block: Block) -> bool:
    """Tell whether others were on the cores while it was measured."""
    return any(note.startswith("disturbed") for note in block.notes)


def _by_pair(blocks: Sequence[Block]) -> Mapping[int, Block]:
    return {block.pair: block for block in blocks if block.pair is not None and block.seconds}
