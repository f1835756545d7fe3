"""The verdicts of a new run against stored baselines, and of a duet that is replayed."""

import math
import statistics
from dataclasses import replace
from typing import Final

from bench.comparing.gate import BOUND_LEVEL, judge
from bench.comparing.pairs import is_control, pairs_of, planned_pairs
from bench.comparing.stored import (
    Evidence,
    Paired,
    Stored,
    why_not_comparable,
)
from bench.comparing.verdicts import (
    CaseVerdict,
    GateSettings,
    Judgement,
    Key,
    Verdict,
    percent_up,
    severity,
    share,
)
from bench.results.schema import Run

_POWER: Final = statistics.NormalDist().inv_cdf(0.8)


def judge_stored(paired: Paired, settings: GateSettings) -> Judgement:
    """Judge each case by what the baselines say of its time; p is adjusted for their number."""
    evidence = paired.evidence
    p = {
        key: _p(one, settings)
        for key, one in evidence.items()
        if abs(one.change) >= settings.most / 2
    }
    rejected, left = set(), 2 * len(evidence)  # both directions of each
    for key in sorted(p, key=lambda key: (p[key], key)):
        if p[key] * left > settings.level:
            break
        rejected.add(key)
        left -= 1
    cases = [
        _case(key, one, key in rejected, 2 * len(evidence), settings)
        for key, one in evidence.items()
    ]
    return Judgement(
        cases=sorted(cases, key=severity),
        sentinels=[],
        settings=settings,
        missing=paired.missing,
        unjudged=paired.unjudged,
    )


def _p(one: Evidence, settings: GateSettings) -> float:
    from scipy.special import stdtr

    if one.error is None:
        return 1.0
    distance = abs(one.change) - settings.least - one.allowance
    return float(stdtr(one.freedom, -distance / one.error))


def _case(
    key: Key, one: Evidence, is_rejected: bool, family: int, settings: GateSettings
) -> CaseVerdict:
    from scipy.special import stdtrit

    verdict: Verdict = "SAME"
    reason, sees = "", None
    size, slower = abs(one.change), one.change > 0
    most = settings.most + one.allowance
    low = high = None
    reach = math.inf
    if one.error is not None:
        reach = float(stdtrit(one.freedom, 1 - BOUND_LEVEL)) * one.error + one.allowance
        low, high = share(one.change - reach), share(one.change + reach)
        quantile = float(stdtrit(one.freedom, 1 - settings.level / family))
        sees = share(max(most, settings.least + one.allowance + (quantile + _POWER) * one.error))
    enough = most if one.allowance else settings.most / 2
    if one.error is None:
        verdict, reason = "INCONCLUSIVE", "one block on each side tells no spread; measure more"
    elif one.is_disturbed and size >= settings.most / 2:
        verdict = "INCONCLUSIVE"
        reason = "other processes were on the cores; measure again in quiet, or use bench duet"
    elif is_rejected and size >= enough and size + reach >= settings.most:
        verdict = "REGRESSED" if slower else "IMPROVED"
    elif size >= settings.most:
        # Below the threshold nothing stays open: no second stage could settle it, and of many
        # cases one is always at half of it. `sees` says how blind that is.
        verdict = "INCONCLUSIVE"
        reason = _advice(one, slower, sees)
    if verdict == "SAME" and settings.strict and size + reach >= settings.most:
        verdict, reason = "INCONCLUSIVE", _advice(one, slower, sees, is_strict=True)
    return CaseVerdict(
        key=key,
        verdict=verdict,
        base_seconds=one.base_seconds,
        head_seconds=one.head_seconds,
        change=math.expm1(one.change),
        low=low,
        high=high,
        sees=sees,
        pairs=one.baselines,
        reason=reason,
        perhaps_slower=slower or one.error is None or settings.strict,
    )


def _advice(one: Evidence, slower: bool, sees: float | None, *, is_strict: bool = False) -> str:
    direction = "slower" if slower else "faster"
    told = "not proven the same" if is_strict else f"perhaps {direction}"
    would = f"; {percent_up(sees)} would have been seen" if sees is not None else ""
    if one.allowance:
        runs = "1 baseline" if one.baselines == 1 else f"{one.baselines} baselines"
        return (
            f"{told}, or the machine drifted by up to {percent_up(math.expm1(one.allowance))}:"
            f" {runs} cannot tell{would}; use bench duet, or have ten of them"
        )
    return f"{told}{would}; give more baselines, or use bench duet"


def control_keys(run: Run) -> frozenset[Key]:
    """Return the cases that measure the base against itself."""
    return frozenset(m.key for m in run.measurements if is_control(m.variant))


def is_duet(base: Run, head: Run) -> bool:
    """Tell whether two runs are the two sides of one duet."""
    ids = [run.header.settings.get("duet") for run in (base, head)]
    return ids[0] == ids[1] and all(
        any(block.pair is not None for m in run.measurements for block in m.blocks)
        for run in (base, head)
    )


def judge_duet(
    base: tuple[Run, Stored], head: tuple[Run, Stored], settings: GateSettings
) -> Judgement:
    """Judge the pairs of a duet from its two runs."""
    (base_run, own), (head_run, other) = base, head
    found = pairs_of(base_run, head_run)
    void = {
        key: f"void: {why}"
        for key in found.first.keys() & own.blocks.keys() & other.blocks.keys()
        if (why := why_not_comparable(other, own, key, side_by_side=True))
    }
    return judge(
        {key: pairs for key, pairs in found.first.items() if key not in void},
        replace(settings, second_pairs=planned_pairs(head_run.header, settings)),
        found.fresh,
        missing=found.missing,
        unjudged={**found.unjudged, **void},
    )
