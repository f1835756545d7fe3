"""The two sides of a duet, and what a pairing of them yields while it measures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.results.schema import BlockLine, CaseLine, OutcomeLine, WorkerLine
from bench.running.execute import Note

__all__ = ["SIDES", "Note", "PairWorking", "Pairing", "Side", "SideLine"]

Side = Literal["base", "head"]
SIDES: Final[Sequence[Side]] = ("base", "head")


@dataclass(frozen=True)
class SideLine:
    """A line of the run file of one side."""

    side: Side
    line: BlockLine | OutcomeLine | WorkerLine


@dataclass(frozen=True)
class PairWorking:
    """A case is being measured; `done` is the share of its pair that lies behind."""

    case: CaseLine
    pair: int
    done: float


class Pairing(ABC):
    """How the two sides of a case come to be measured next to each other."""

    @abstractmethod
    def measure(
        self, cases: Sequence[CaseLine], pair: int, is_late: Callable[[], bool]
    ) -> Iterator[SideLine | Note | PairWorking]:
        """Measure one pair of every case with fresh processes; begin none once `is_late`."""

    @abstractmethod
    def close(self) -> None:
        """End every process and remove what was written."""
