"""Verdicts as annotations of GitHub Actions: lines that it shows beside a pull request.

Source: "Workflow commands for GitHub Actions"; of each kind it shows ten of a step.
"""

from collections.abc import Sequence
from typing import Final

from bench.comparing.gate_document import by_reason, describe
from bench.comparing.verdicts import CaseVerdict, Judgement, percent_up

MOST_OF_A_KIND: Final = 10

_Note = tuple[str, str]
"""A title and a message."""


def annotations(judgement: Judgement) -> list[str]:
    """Return the lines to print, errors first and the most severe of a kind first."""
    errors: list[_Note] = []
    warnings: list[_Note] = []
    fails = judgement.settings.inconclusive == "fail"
    if judgement.void:
        (errors if fails else warnings).append(("void", judgement.void))
    if not judgement.measured and not judgement.missing:
        errors.append(("bench", f"nothing comparable: {judgement.headline}"))
    # One for each reason: a broken driver must not crowd out what regressed.
    errors += [("missing", line) for line in by_reason(judgement.missing)]
    errors += [("REGRESSED", describe(case)) for case in judgement.of("REGRESSED")]
    if not judgement.void:
        open_cases = judgement.of("INCONCLUSIVE")
        (errors if fails else warnings).extend(_notes(open_cases, perhaps_slower=True))
        warnings += _notes(open_cases, perhaps_slower=False)
    warnings += _blind(judgement)
    return [*_lines("error", errors), *_lines("warning", warnings)]


def _notes(cases: Sequence[CaseVerdict], *, perhaps_slower: bool) -> list[_Note]:
    return [
        ("INCONCLUSIVE", describe(case)) for case in cases if case.perhaps_slower is perhaps_slower
    ]


def _blind(judgement: Judgement) -> list[_Note]:
    """Warn of cases that pass because nothing could be seen of them."""
    most = 2 * judgement.settings.threshold
    blind = [case for case in judgement.of("SAME") if case.sees is None or case.sees > most]
    if not blind:
        return []
    named = ", ".join(f"{case.name} ({percent_up(case.sees)})" for case in blind[:3])
    more = f" and {len(blind) - 3} more" if len(blind) > 3 else ""
    return [("too noisy", f"changes below these would not have been seen: {named}{more}")]


def _lines(kind: str, notes: Sequence[_Note]) -> list[str]:
    shown = list(notes)
    if len(shown) > MOST_OF_A_KIND:
        more = len(shown) - MOST_OF_A_KIND + 1
        shown = [*shown[: MOST_OF_A_KIND - 1], ("bench", f"and {more} more")]
    return [f"::{kind} title={_property(title)}::{_data(text)}" for title, text in shown]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
