"""The regression gate: a verdict per case from pairs of fresh processes, with known error rates.

The unit is the pair: a process of the base and one of the head, measured next to each other, so
that neither the machine's drift nor the luck of one process can pass for an effect. A first stage
of few pairs finds the cases worth a second look; only fresh pairs of the second stage decide, so
that nothing is believed because it was once seen. `docs/gate.md` has the numbers.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.comparing.signed_rank import bounds, p_above, walsh_averages
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

FRESH: Final = 1000
"""The pairs of a duet's second stage are numbered from here, those of the first from 0."""

FEWEST_PAIRS: Final = 4
"""Fewer pairs that show nothing are no proof of anything."""

BOUND_LEVEL: Final = 0.05
"""Either end of the interval misses the truth so often."""

_POWER: Final = statistics.NormalDist().inv_cdf(0.9)
"""Either stage finds it in nine of ten jobs, both in four of five."""

_RANKS: Final = 1.03
"""Ranks need so much more of an effect than a t test of normal values does."""

Pair = tuple[float, float]
"""Seconds of the base and of the head."""

Pairs = Mapping[Key, Sequence[Pair]]


@dataclass(frozen=True)
class _Sample:
    """The logarithms of head over base of some pairs, and what follows from them."""

    logs: Sequence[float]
    averages: Sequence[float]

    @property
    def center(self) -> float:
        """The Hodges-Lehmann estimate."""
        return statistics.median(self.averages)

    @property
    def interval(self) -> tuple[float, float]:
        return bounds(self.averages, len(self.logs), BOUND_LEVEL)


def _sample(pairs: Sequence[Pair]) -> _Sample:
    logs = sorted(math.log(head) - math.log(base) for base, head in pairs)
    return _Sample(logs, walsh_averages(logs))


def flagged(pairs: Pairs, settings: GateSettings) -> list[Key]:
    """Return the cases of the first stage that need fresh pairs, sentinels among them.

    All others are settled: that stops a job early for futility.
    """
    found = []
    for key, own in pairs.items():
        if not own:
            continue
        sample = _sample(own)
        if _direction(sample, settings) or (settings.strict and not _is_within(sample, settings)):
            found.append(key)
    return sorted(found)


def _direction(sample: _Sample, settings: GateSettings) -> int:
    """Return 1 if it looks slower, -1 if faster, 0 if it does not look changed."""
    for sign in (1, -1):
        logs = [sign * log for log in sample.logs]
        if sign * sample.center >= settings.most / 2 and p_above(logs, 0.0) <= settings.screening:
            return sign
    return 0


def _is_within(sample: _Sample, settings: GateSettings) -> bool:
    low, high = sample.interval
    return -settings.most < low and high < settings.most


def judge(
    pairs: Pairs,
    settings: GateSettings,
    fresh: Pairs | None = None,
    *,
    missing: Mapping[Key, str] | None = None,
    unjudged: Mapping[Key, str] | None = None,
) -> Judgement:
    """Judge every case by its pairs of seconds, in any order.

    With `fresh`, those are the second stage of the cases that `flagged` names, and they alone
    decide; without, one stage decides everything, at the price of the number of cases.
    """
    samples = {key: _sample(own) for key, own in pairs.items() if own}
    tested = samples
    if fresh is not None:
        tested = {key: _sample(fresh[key]) for key in samples if fresh.get(key)}
    verdicts: list[CaseVerdict] = []
    for family in (settings.sentinels & samples.keys(), samples.keys() - settings.sentinels):
        found = _family({k: samples[k] for k in sorted(family)}, tested, settings, fresh is None)
        for key, verdict in found.items():
            seconds = [*pairs[key], *(fresh or {}).get(key, ())]
            verdicts.append(
                replace(
                    verdict,
                    key=key,
                    base_seconds=statistics.median(base for base, _ in seconds),
                    head_seconds=statistics.median(head for _, head in seconds),
                )
            )
    # A case without a single pair must not be forgotten.
    verdicts += [_unmeasured(key) for key, own in pairs.items() if not own]
    verdicts.sort(key=severity)
    sentinels = [case for case in verdicts if case.key in settings.sentinels]
    cases = [case for case in verdicts if case.key not in settings.sentinels]
    void = _void(sentinels)
    if void:
        reason = f"the job is void: {void}"
        cases = sorted(
            (
                replace(case, verdict="INCONCLUSIVE", reason=reason, perhaps_slower=True)
                for case in cases
            ),
            key=severity,
        )
    return Judgement(
        cases=cases,
        sentinels=sentinels,
        settings=settings,
        missing=dict(missing or {}),
        unjudged=dict(unjudged or {}),
        void=void,
    )


def _unmeasured(key: Key) -> CaseVerdict:
    return CaseVerdict(
        key=key,
        verdict="INCONCLUSIVE",
        base_seconds=None,
        head_seconds=None,
        change=None,
        low=None,
        high=None,
        sees=None,
        pairs=0,
        reason="no pair was measured; give it more --minutes",
    )


def _void(sentinels: Sequence[CaseVerdict]) -> str | None:
    alarms = [case.name for case in sentinels if case.verdict in ("REGRESSED", "IMPROVED")]
    if not alarms:
        return None
    return f"the A/A control found a change where there is none ({', '.join(sorted(alarms))})"


def _family(
    samples: Mapping[Key, _Sample],
    tested: Mapping[Key, _Sample],
    settings: GateSettings,
    is_single: bool,
) -> dict[Key, CaseVerdict]:
    """Judge the cases that share an error rate; p is adjusted for their number (Holm, 1979)."""
    directions = {key: _direction(sample, settings) for key, sample in samples.items()}
    suspects = [key for key, sign in directions.items() if sign]
    # Where the same pairs suspect and decide, every case is tested, and in both directions.
    family = 2 * len(samples) if is_single else len(suspects)
    p = {
        key: p_above([directions[key] * log for log in tested[key].logs], settings.least)
        for key in suspects
        if key in tested
    }
    rejected, left = set(), family
    for key in sorted(p, key=lambda key: (p[key], key)):
        if p[key] * left > settings.level:
            break
        rejected.add(key)
        left -= 1
    return {
        key: _case(
            sample,
            tested.get(key),
            sign=directions[key],
            is_rejected=key in rejected,
            # An unsuspected case would have been one more among the suspects.
            family=family if is_single or directions[key] else family + 1,
            settings=settings,
            is_single=is_single,
        )
        for key, sample in samples.items()
    }


def _case(
    first: _Sample,
    decisive: _Sample | None,
    *,
    sign: int,
    is_rejected: bool,
    family: int,
    settings: GateSettings,
    is_single: bool,
) -> CaseVerdict:
    shown = decisive or first
    low, high = shown.interval
    spread = _spread(first, None if is_single else decisive)
    # What was not suspected would have had a full second stage.
    second = len(shown.logs) if is_single or (sign and decisive) else settings.second_pairs
    sees = _sees(spread, len(first.logs), second, family, settings)
    verdict: Verdict = "SAME"
    reason = ""
    if sign and decisive is None:
        verdict, reason = "INCONCLUSIVE", "no fresh pairs were measured; give it more --minutes"
    elif len(shown.logs) < FEWEST_PAIRS:
        verdict = "INCONCLUSIVE"
        reason = f"{_pairs(len(shown.logs))} of {FEWEST_PAIRS} needed; give it more --minutes"
    elif sign:
        reach = high if sign > 0 else -low
        center = sign * shown.center
        if reach >= settings.most:
            if is_rejected and center >= settings.most / 2:
                verdict = "REGRESSED" if sign > 0 else "IMPROVED"
            elif _direction(shown, settings) == sign:
                # Fresh pairs that look unchanged have the last word, as the first ones have.
                verdict = "INCONCLUSIVE"
                reason = _advice(sign, spread, len(shown.logs), family, settings)
        elif is_rejected:
            reason = f"changed, by less than {percent_up(settings.threshold)}"
    if verdict == "SAME" and settings.strict and not _is_within(shown, settings):
        verdict = "INCONCLUSIVE"
        reason = _advice(sign, spread, len(shown.logs), family, settings)
    return CaseVerdict(
        key=("", ""),
        verdict=verdict,
        base_seconds=0.0,
        head_seconds=0.0,
        change=math.expm1(shown.center),
        low=None if math.isinf(low) else math.expm1(low),
        high=None if math.isinf(high) else math.expm1(high),
        sees=sees,
        pairs=len(shown.logs),
        reason=reason,
        perhaps_slower=sign >= 0,
    )


def _spread(first: _Sample, fresh: _Sample | None) -> float | None:
    """Return the standard deviation of a pair's logarithm, over both stages; None: not known."""
    squares, freedom = 0.0, 0
    for sample in filter(None, (first, fresh)):
        mean = statistics.fmean(sample.logs)
        squares += math.fsum((log - mean) ** 2 for log in sample.logs)
        freedom += len(sample.logs) - 1
    return math.sqrt(squares / freedom) if freedom else None


def _sees(
    spread: float | None, first: int, second: int, family: int, settings: GateSettings
) -> float | None:
    """Return the change that both stages find in four of five jobs; None: no number of these."""
    if spread is None or first < FEWEST_PAIRS or family * 0.5**second > settings.level:
        return None
    screened = settings.most / 2 + _POWER * _RANKS * spread / math.sqrt(first)
    decided = settings.least + _quantile(family, settings) * _RANKS * spread / math.sqrt(second)
    return share(max(settings.most, screened, decided))


def _quantile(family: int, settings: GateSettings) -> float:
    """Return how many standard errors a change needs to be found among so many cases."""
    return statistics.NormalDist().inv_cdf(1 - settings.level / max(1, family)) + _POWER


def _advice(
    sign: int, spread: float | None, pairs: int, family: int, settings: GateSettings
) -> str:
    """Say what an open case may be, and what would settle it."""
    direction = {1: "perhaps slower", -1: "perhaps faster", 0: "not proven the same"}[sign]
    if spread is None:
        return f"{direction}: one pair tells nothing; give it more --minutes"
    quantile = _quantile(family, settings) * _RANKS * spread
    needed = math.ceil((quantile / (settings.most - settings.least)) ** 2)
    needed = max(needed, math.ceil(math.log2(max(1, family) / settings.level)))
    wider = math.expm1(settings.least + quantile / math.sqrt(max(pairs, 1)))
    wider = max(wider, settings.threshold)
    if needed <= pairs:
        return f"{direction}: {_pairs(pairs)} leave it open; run it again"
    remedy = f"about {needed} pairs (more --minutes)"
    if math.ceil(100 * wider) > math.ceil(100 * settings.threshold) and wider < 1:
        remedy += f" or --threshold {math.ceil(100 * wider)}%"
    return f"{direction}: {_pairs(pairs)} leave it open; {remedy} would settle it"


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"
