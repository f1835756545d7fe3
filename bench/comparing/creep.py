"""Slow creep: the newest runs of a history against those of a release, never against the last run.

Twenty changes of one percent pass any comparison with the run before. The unit here is the run,
because a machine differs more from day to day than within one.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from msgspec import UNSET, UnsetType

from bench.comparing.history import Entry, History, MachineHistory, changes, choose_release
from bench.comparing.stored import (
    ENOUGH_BASELINES,
    LEAST_SPREAD,
    Evidence,
    Paired,
    why_not_comparable,
)
from bench.comparing.stored_gate import control_keys, judge_duet, judge_stored
from bench.comparing.verdicts import (
    CaseVerdict,
    GateSettings,
    Judgement,
    Key,
    percent,
)
from bench.results.intervals import Spread, median_variance, shrink

NEWEST: Final = 5
"""So many runs are what the code is like now: their median forgives two bad days."""

RUNNING: Final = 5
"""After so many inconclusive jobs a gate is blind and not unlucky."""

_TOGETHER: Final = 0.8
_FEWEST_TOGETHER: Final = 5
_MOST_MINUTES: Final = 240
_MOST_BLIND: Final = 10


@dataclass(frozen=True)
class Creep:
    """What the newest runs say against a release."""

    judgement: Judgement
    blind: Sequence[str]
    """What no job can see any more, and what would help."""
    remarks: Sequence[str]


@dataclass(frozen=True)
class _Windows:
    """The runs of a case that are compared."""

    old: Sequence[Entry]
    new: Sequence[Entry]

    def centers(self, key: Key) -> tuple[list[float], list[float]]:
        return [e.stored.center(key) for e in self.old], [e.stored.center(key) for e in self.new]


def find_creep(
    history: History,
    name: str | None,
    settings: GateSettings,
    *,
    revision: str | None = None,
    newest: int = NEWEST,
) -> Creep:
    """Judge the `newest` runs of each machine against those of the release `name`.

    Without a name the release is what was measured first.
    """
    several = len(history.machines) > 1
    found: list[Paired] = []
    remarks: list[str] = []
    for machine in history.machines:
        release = choose_release(machine, name, revision)
        recent = _recent(machine.entries, release, newest)
        if not release or not recent:
            why = "no run of the release" if not release else "no run after the release"
            remarks.append(f"{machine.name}: {why}")
            continue
        found.append(_named(_pair(release, recent, settings), machine.name if several else ""))
        remarks += _about(machine, release, recent)
    judgement = replace(judge_stored(_joined(found), settings), where="measured before and after")
    together = _moved_together(judgement)
    return Creep(
        judgement,
        _shortened(
            [
                *_blind_runs(history, name, revision, settings, newest),
                *blind_duets(history, settings),
            ]
        ),
        [*remarks, *([together] if together else [])],
    )


def _recent(entries: Sequence[Entry], release: Sequence[Entry], newest: int) -> list[Entry]:
    """Return the last runs of other code, among those after the first one of the release.

    A release may be measured again night after night, next to what came after it.
    """
    if not release:
        return []
    own = {entry.run.header.id for entry in release}
    ids = [entry.run.header.id for entry in entries]
    after = entries[ids.index(release[0].run.header.id) + 1 :]
    return [entry for entry in after if entry.run.header.id not in own][-newest:]


def _pair(release: Sequence[Entry], recent: Sequence[Entry], settings: GateSettings) -> Paired:
    newest = recent[-1]
    windows: dict[Key, _Windows] = {}
    missing: dict[Key, str] = {}
    unjudged: dict[Key, str] = {}
    for key in dict.fromkeys(key for entry in release for key in entry.stored.blocks):
        new = [entry for entry in recent if key in entry.stored.blocks]
        if not new:
            missing[key] = newest.stored.unmeasured.get(key, "not in the newest runs")
            continue
        head = new[-1].stored
        reasons = {
            entry.run.header.id: why_not_comparable(head, entry.stored, key)
            for entry in [*release, *new]
            if key in entry.stored.blocks
        }
        old = [entry for entry in release if reasons.get(entry.run.header.id, "") is None]
        if not old:
            unjudged[key] = f"void: {next(why for why in reasons.values() if why)}"
            continue
        same = [entry for entry in new if reasons[entry.run.header.id] is None]
        windows[key] = _Windows(_undisturbed(key, old), _undisturbed(key, same))
    known = {key for entry in release for key in entry.stored.blocks}
    for key in newest.stored.blocks:
        if key not in known:
            unjudged[key] = "not in the release"
    spreads = _spreads(windows)
    evidence = {
        key: _evidence(key, found, spreads.get(key), settings) for key, found in windows.items()
    }
    return Paired(evidence, missing, unjudged)


def _undisturbed(key: Key, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Leave out runs in which others were on the cores, if there are others; blind to the times."""
    return [entry for entry in entries if key not in entry.stored.disturbed] or entries


def _spreads(windows: Mapping[Key, _Windows]) -> dict[Key, Spread]:
    """Return how far runs of the same code lie apart, by case; the cases lend to each other."""
    found = {key: _spread(*own.centers(key)) for key, own in windows.items()}
    known = {key: spread for key, spread in found.items() if spread is not None}
    return dict(zip(known, shrink(list(known.values())), strict=True))


def _spread(old: Sequence[float], new: Sequence[float]) -> Spread | None:
    """Return the variance between runs of the release: its code is the same in all of them.

    Of a single one nothing is known. The newest runs then tell it by how far each lies from the
    one before, which a slow creep hardly widens (von Neumann et al., "The mean square successive
    difference", 1941); two thirds of the degrees of freedom are left.
    """
    if len(old) > 1:
        return Spread(statistics.variance(old), len(old) - 1)
    if len(new) > 1:
        steps = [(after - before) ** 2 for before, after in pairwise(new)]
        return Spread(statistics.fmean(steps) / 2, len(steps) * 2 / 3)
    return None


def _evidence(
    key: Key, windows: _Windows, spread: Spread | None, settings: GateSettings
) -> Evidence:
    old, new = windows.centers(key)
    error: float | None
    if spread is not None:
        share = median_variance(len(old)) + median_variance(len(new))
        error, freedom = math.sqrt(spread.variance * share), spread.freedom
    else:  # one run on each side: their blocks tell something, and the allowance the rest
        error, freedom = _error_of_blocks(key, windows)
    apart = statistics.stdev(old) if len(old) > 1 else 0.0
    is_enough = len(old) >= ENOUGH_BASELINES
    return Evidence(
        change=statistics.median(new) - statistics.median(old),
        error=None if error is None else max(error, LEAST_SPREAD),
        freedom=freedom,
        allowance=0.0 if is_enough else max(math.log1p(settings.drift), 2 * apart),
        baselines=len(old),
        is_disturbed=any(
            all(key in entry.stored.disturbed for entry in side)
            for side in (windows.old, windows.new)
        ),
        base_seconds=math.exp(statistics.median(old)),
        head_seconds=math.exp(statistics.median(new)),
    )


def _error_of_blocks(key: Key, windows: _Windows) -> tuple[float | None, float]:
    blocks = [entry.stored.blocks[key] for entry in (*windows.old, *windows.new)]
    several = [own for own in blocks if len(own) > 1]
    freedom = sum(len(own) - 1 for own in several)
    if not freedom:
        return None, 0.0
    squares = math.fsum((len(own) - 1) * statistics.variance(own) for own in several)
    share = sum(median_variance(len(own)) for own in blocks)
    return math.sqrt(squares / freedom * share), freedom


def _named(paired: Paired, machine: str) -> Paired:
    """Say of which machine a case is, where there are several."""
    if not machine:
        return paired

    def name(key: Key) -> Key:
        return key[0], f"{key[1]} on {machine}"

    return Paired(
        {name(key): value for key, value in paired.evidence.items()},
        {name(key): value for key, value in paired.missing.items()},
        {name(key): value for key, value in paired.unjudged.items()},
    )


def _joined(found: Sequence[Paired]) -> Paired:
    evidence: dict[Key, Evidence] = {}
    missing: dict[Key, str] = {}
    unjudged: dict[Key, str] = {}
    for paired in found:
        evidence |= paired.evidence
        missing |= paired.missing
        unjudged |= paired.unjudged
    return Paired(evidence, missing, unjudged)


def _about(machine: MachineHistory, release: Sequence[Entry], recent: Sequence[Entry]) -> list[str]:
    first, last = release[0], recent[-1]
    told = (
        f"{machine.name}: {_runs(recent)} up to {last.started} (revision {last.short_revision})"
        f" against {_runs(release)} of {first.label}, revision {first.short_revision},"
        f" from {first.started} on"
    )
    moved = changes(release[-1].run, last.run)
    since = f"{machine.name}: since then, besides the code: {', '.join(moved)}"
    return [told, *([since] if moved else [])]


def _runs(entries: Sequence[Entry]) -> str:
    return "1 run" if len(entries) == 1 else f"{len(entries)} runs"


def _moved_together(judgement: Judgement) -> str | None:
    """Say so if nearly all cases moved the same way, which code hardly ever does."""
    moved = [case.change for case in judgement.cases if case.change is not None]
    if len(moved) < _FEWEST_TOGETHER:
        return None
    middle = statistics.median(moved)
    alike = sum(change * middle > 0 for change in moved)
    if abs(middle) < judgement.settings.threshold / 2 or alike < _TOGETHER * len(moved):
        return None
    return (
        f"{alike} of {len(moved)} cases moved the same way, by {percent(middle)} in the middle:"
        " the machine or a library does that more often than the code; bench duet tells"
    )


def _blind_runs(
    history: History,
    name: str | None,
    revision: str | None,
    settings: GateSettings,
    newest: int,
) -> list[str]:
    """Name the cases that stayed open after each of the last runs."""
    found = []
    for machine in history.machines:
        release = choose_release(machine, name, revision)
        jobs: list[Judgement] = []
        for back in range(RUNNING):
            upto = machine.entries[: len(machine.entries) - back]
            recent = _recent(upto, release, newest) if release and release[-1] in upto else []
            if recent:
                jobs.append(judge_stored(_pair(release, recent, settings), settings))
        for case in _always_open(jobs):
            remedies = [f"--threshold {text}"] if (text := _wider(case, settings)) else []
            if case.pairs < ENOUGH_BASELINES:
                remedies.append(f"{ENOUGH_BASELINES} runs of the release")
            found.append(_blind(f"{case.name} on {machine.name}", remedies))
    return found


def blind_duets(history: History, settings: GateSettings) -> list[str]:
    """Name the cases that stayed open in each of the last duets."""
    duets = history.duets[-RUNNING:]
    jobs = []
    for base, head in reversed(duets):
        own = replace(settings, sentinels=control_keys(head.run))
        jobs.append(judge_duet((base.run, base.stored), (head.run, head.stored), own))
    found = []
    for case in _always_open(jobs):
        remedies = [f"--threshold {text}"] if (text := _wider(case, settings)) else []
        minutes = _minutes(duets[-1][1])
        if minutes is not None:
            # Four times the pairs halve the noise; twice as many are the least worth trying.
            factor = max(2.0, ((case.sees or 0.0) / settings.threshold) ** 2)
            needed = math.ceil(minutes * factor)
            remedies = [f"--minutes {needed}"] * (needed <= _MOST_MINUTES) + remedies
        found.append(_blind(f"duet: {case.name}", remedies))
    return found


def _minutes(head: Entry) -> float | None:
    """Return how long a duet was given, or else how long it took."""
    given = head.run.header.settings.get("minutes")
    if isinstance(given, int | float) and 0 < given <= _MOST_MINUTES:
        return given
    took = head.run.end.wall_seconds if head.run.end is not None else UNSET
    return None if isinstance(took, UnsetType) else took / 60


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_BLIND
    return [*lines[:_MOST_BLIND], f"and {more} more blind cases"] if more > 0 else lines


def _always_open(jobs: Sequence[Judgement]) -> list[CaseVerdict]:
    """Return the cases of the newest job, which comes first, that no job has decided."""
    if len(jobs) < RUNNING:
        return []
    open_keys = [{case.key for case in job.of("INCONCLUSIVE")} for job in jobs]
    return [case for case in jobs[0].of("INCONCLUSIVE") if all(case.key in k for k in open_keys)]


def _wider(case: CaseVerdict, settings: GateSettings) -> str | None:
    if case.sees is None or case.sees <= settings.threshold or case.sees > 1:
        return None
    return f"{math.ceil(100 * case.sees)}%"


def _blind(what: str, remedies: Sequence[str]) -> str:
    use = f"use {' or '.join(remedies)}" if remedies else "measure it longer, or leave it out"
    return f"{what}: inconclusive five jobs running: this gate is blind; {use}"
