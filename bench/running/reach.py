"""How far sweeps over batches reach: one call at each batch, then the largest that still fits.

Before anything is measured each sweep is walked once, from its smallest batch, with one worker at a
time: what others hold would make the memory look smaller than it is. Memory running out is the end
of a sweep, as is a call that takes too long; what lies behind an end is not measured.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from bench.errors import CaseError
from bench.results.schema import CaseLine, LimitLine, OutcomeLine
from bench.running.plan import RunRequest
from bench.running.seats import Seat, seat_of
from bench.units import seconds as in_words

LONGEST_CALL_SECONDS: Final[Mapping[str, float]] = {
    "quick": 0.15,
    "standard": 2.0,
    "thorough": 10.0,
}
"""A call that takes longer ends a sweep: what follows takes longer still."""
SEARCH_SECONDS: Final = 60.0
"""After so long the search for the largest batch ends where it is."""


class Asking(Protocol):
    """Has the worker of a seat try a batch of a case.

    Raises:
        CaseError: It does not fit, or something else is wrong with it.
    """

    def __call__(self, seat: Seat, case: CaseLine, batch: int, patience: float) -> dict[str, Any]:
        """Return the seconds and the peak of memory of one call."""


class Reach:
    """The walk through all sweeps. `needs` holds the bytes that cases were seen to take."""

    def __init__(self, request: RunRequest, ask: Asking) -> None:
        self.patience = LONGEST_CALL_SECONDS[request.preset]
        self.ask = ask
        self.needs: dict[tuple[str, str], int] = {}

    def sweep(self, cases: Sequence[CaseLine]) -> Iterator[LimitLine | OutcomeLine]:
        """Walk one sweep from its smallest batch; yield its limit, and what it leaves out."""
        first = last = cases[0]
        seat = seat_of(first)
        fits, fails, why = 0, None, ""
        for last in cases:
            assert last.batch is not None
            try:
                reply = self.ask(seat, last, last.batch, self.patience)
            except CaseError as error:
                if error.status == "skipped":
                    continue  # such as one sample alone, where a norm needs two
                if not ran_out(error):
                    return  # the measurement will say what is wrong
                fails, why = last.batch, error.reason
                break
            fits = last.batch
            self.needs[last.key] = reply["peak_bytes"] or 0
            if reply["seconds"] > self.patience:
                why = f"a call takes {in_words(reply['seconds'])} already"
                break
        else:
            why = "no larger batch was asked for"
        if fails is not None:
            fits, fails = self._bisect(seat, first, fits, fails)
        yield LimitLine(
            suite=first.suite,
            sweep=first.sweep,
            largest_batch=fits or None,
            failing_batch=fails,
            reason=why,
        )
        yield from _left_out(cases, last, fits, fails, why)

    def _bisect(self, seat: Seat, case: CaseLine, fits: int, fails: int) -> tuple[int, int]:
        """Return neighbouring batches of which one fits, or the closest in the time there is."""
        begin = time.monotonic()
        while fails - fits > 1 and time.monotonic() - begin < SEARCH_SECONDS:
            middle = (fits + fails) // 2
            try:
                # Only whether it fits is asked for, so that no call is made twice.
                self.ask(seat, case, middle, SEARCH_SECONDS)
            except CaseError as error:
                if not ran_out(error):
                    break
                fails = middle
            else:
                fits = middle
        return fits, fails


def ran_out(error: CaseError) -> bool:
    """Tell whether memory ran out, as the library said or as the kernel did by a kill."""
    was_killed = error.status == "crashed" and "SIGKILL" in error.reason
    return error.status == "out_of_memory" or was_killed


def _left_out(
    cases: Sequence[CaseLine], last: CaseLine, fits: int, fails: int | None, why: str
) -> Iterator[OutcomeLine]:
    """Say of each case that is not measured why."""
    beyond = [case for case in cases if (case.batch or 0) > (last.batch or 0)]
    if fails is not None:
        found = f"; the largest batch that fits is {fits:,}" if fits else "; not even one fits"
        yield _outcome(last, "out_of_memory", f"{why}{found}")
        why = f"memory ends after batch {fits:,}"
    else:
        why = f"at batch {last.batch:,} {why}"
    for case in beyond:
        yield _outcome(case, "skipped", why)


def _outcome(case: CaseLine, status: Any, reason: str) -> OutcomeLine:
    return OutcomeLine(suite=case.suite, case=case.id, block=0, status=status, reason=reason)


def sweeps(cases: Sequence[CaseLine]) -> list[list[CaseLine]]:
    """Return the cases of each sweep from the smallest batch on; those of a seat are together."""
    found: dict[tuple[str, str, str], list[CaseLine]] = {}
    for case in cases:
        if case.skipped is None and case.batch is not None:
            found.setdefault((str(seat_of(case)), case.suite, case.sweep), []).append(case)
    return [
        sorted(found[key], key=lambda case: case.batch or 0)
        for key in sorted(found, key=lambda key: key[0])
    ]
