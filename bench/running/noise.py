"""What a duet has seen of the machine's noise so far: what is worth measuring again.

The judge decides later which visits count, with all canaries of a stage before it
(`bench.comparing.quiet`); this is the same rule with those that there are already.
"""

from collections.abc import Iterable

from bench.comparing.pairs import is_disturbed
from bench.comparing.quiet import QUIET, Canaries, best_canary, has_canaries
from bench.results.schema import BlockLine
from bench.running.sides import Side

Key = tuple[str, str]


class Noise:
    """The canaries of each side of each case, in seconds."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Key, Side], list[float]] = {}

    def note(self, key: Key, side: Side, canaries: Iterable[float]) -> None:
        """Keep what was seen."""
        self._seen.setdefault((key, side), []).extend(canaries)

    def is_slow(self, key: Key, side: Side, canary: float) -> bool:
        """Tell whether the machine was slower than it can be."""
        return canary > QUIET * best_canary(self._seen[key, side])

    def is_noisy(self, block: BlockLine, side: Side) -> bool:
        """Tell whether a block should be measured again."""
        if is_disturbed(block) or not has_canaries(block):
            return is_disturbed(block)
        return not Canaries(best_canary(self._seen[block.key, side])).quiet_visits(block)
