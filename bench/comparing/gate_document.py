"""What a gate says as one document, for the terminal and as Markdown for a job's summary."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final

from bench import units
from bench.comparing.remarks import listed
from bench.comparing.verdicts import CaseVerdict, Judgement, Key, percent, percent_up
from bench.report import Document, Table
from bench.text import natural

MOST_SUMMARY_BYTES: Final = 2**20 - 2**10
"""GitHub drops a summary above 1 MiB as a whole."""

_MOST_SENTENCES: Final = 10
_MOST_LISTED: Final = 50
_MOST_NAMES: Final = 10

_COLUMNS: Final = ("verdict", "case", "change", "90% interval", "base", "head", "sees", "note")
_RIGHT: Final = frozenset({2, 3, 4, 5, 6})


def gate_document(
    judgement: Judgement, title: str, remarks: Sequence[str] = (), *, most_rows: int | None = None
) -> Document:
    """Say what was judged; with `most_rows` the tables end after the most severe cases."""
    tables = [_table("verdicts", "Cases", judgement.cases, most_rows)]
    if judgement.sentinels:
        tables.append(_table("control", "A/A control", judgement.sentinels, most_rows))
    sentences = [judgement.sentence, *map(describe, judgement.of("REGRESSED")[:_MOST_SENTENCES])]
    return Document(
        title=f"{title}: {judgement.headline}",
        sentences=sentences,
        warnings=[
            *([f"the job is void: {judgement.void}"] if judgement.void else []),
            *_listed("missing", judgement.missing),
        ],
        remarks=[*remarks, *_listed("n/a", judgement.unjudged)],
        tables=[table for table in tables if table.rows],
    )


def describe(case: CaseVerdict) -> str:
    """Return what happened to a case as a sentence without its verdict."""
    if case.change is None:
        return f"{case.name}: {case.reason}"
    times = f"{units.seconds(case.base_seconds)} to {units.seconds(case.head_seconds)}"
    told = f"{case.name}: {percent(case.change)}{_interval(case, ' [{}, {}]')}, {times}"
    return f"{told}; {case.reason}" if case.reason else told


def _interval(case: CaseVerdict, form: str) -> str:
    if case.low is None and case.high is None:
        return ""
    return form.format(percent(case.low), percent(case.high))


def by_reason(cases: Mapping[Key, str]) -> list[str]:
    """Name the cases by the reason that they share."""
    names: dict[str, list[str]] = {}
    for (_, name), reason in sorted(cases.items(), key=lambda case: natural(case[0][1])):
        names.setdefault(reason, []).append(name)
    return [f"{reason}: {listed(own, _MOST_NAMES)}" for reason, own in names.items()]


def _listed(what: str, cases: Mapping[Key, str]) -> list[str]:
    lines = [f"{what}: {line}" for line in by_reason(cases)]
    more = len(lines) - _MOST_LISTED
    return [*lines[:_MOST_LISTED], f"{what}: and {more} more"] if more > 0 else lines


def _table(name: str, title: str, cases: Sequence[CaseVerdict], most: int | None) -> Table:
    rows: list[Sequence[str]] = [
        (
            case.verdict,
            case.name,
            percent(case.change),
            _interval(case, "{} to {}") or "-",
            units.seconds(case.base_seconds),
            units.seconds(case.head_seconds),
            percent_up(case.sees),
            case.reason,
        )
        for case in islice(cases, most)
    ]
    if len(rows) < len(cases):
        rows.append(("...", f"and {len(cases) - len(rows)} more", *[""] * 6))
    return Table(name=name, title=title, columns=_COLUMNS, rows=rows, right=_RIGHT)


def fit_summary(
    render: Callable[[Document], str],
    judgement: Judgement,
    title: str,
    remarks: Sequence[str],
    room: int = MOST_SUMMARY_BYTES,
) -> str:
    """Return the document with as many cases as `room` bytes hold, the most severe first."""
    most = None
    while True:
        text = render(gate_document(judgement, title, remarks, most_rows=most))
        if len(text.encode()) <= room:
            return text
        if most == 0:
            return ""
        most = (len(judgement.cases) if most is None else most) // 2
        remarks = remarks[:_MOST_LISTED]
