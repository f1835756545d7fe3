"""Puts together what `bench compare` says: one document that every form lays out."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench import units
from bench.comparing.cost import Curves, curves
from bench.comparing.cost_tables import cost_sentences, cost_tables
from bench.comparing.machines import Machine, Piece
from bench.comparing.outliers import FEWEST, Slow, Verdict, find_outliers
from bench.comparing.price_remarks import price_remarks
from bench.comparing.prices import Prices
from bench.comparing.purchase import (
    Wanted,
    affordable,
    latencies,
    network_costs,
)
from bench.comparing.purchase_tables import (
    budget_sentences,
    budget_table,
    latency_sentences,
    latency_table,
    network_sentences,
    network_table,
)
from bench.comparing.remarks import listed, remarks, warnings
from bench.comparing.side_by_side import Comparison
from bench.comparing.speed_tables import lacks, record, speed_sentences, speed_tables
from bench.comparing.speedup import Ratio
from bench.report import Document, Table

MOST_WARNINGS = 30
MOST_SLOW_SENTENCES = 12
_WORST = 3


@dataclass(frozen=True)
class Questions:
    """What the buyer asked besides the speed."""

    prices: Prices | None = None
    trainings: Sequence[Wanted] = ()
    latency_bound: float | None = None
    """Seconds."""
    budget: float | None = None
    """In the currency of the prices."""


def comparison_document(
    comparison: Comparison,
    measured: Sequence[Machine],
    questions: Questions,
    *,
    everything: bool = False,
) -> Document:
    """Say what `comparison` of the machines `measured` found, and answer the `questions`.

    With `everything` the tables are complete, however many machines there are.

    Raises:
        RequestError: A network that is asked for was not trained.
    """
    base = comparison.baseline.name
    sentences = [*_void(comparison), *speed_sentences(comparison)]
    tables: list[Table] = []
    notes: list[str] = []
    networks = network_costs(comparison, questions.prices, questions.trainings)
    sentences += network_sentences(networks, questions.prices)
    found: list[Curves] = []
    if questions.prices:
        found = _curves(comparison, questions)
        for one in found:
            sentences += cost_sentences(one, questions.prices)
            tables += cost_tables(comparison, one, questions.prices)
        notes += price_remarks(measured, found, questions.prices)
        if not found:
            notes.append("no cost: no machine with a price has all of the work")
    if networks:
        tables.append(network_table(networks, questions.prices))
    if questions.latency_bound is not None:
        answers = latencies(comparison, questions.latency_bound)
        watts = found[0].watts if found else {}
        bound = questions.latency_bound
        sentences += latency_sentences(answers, bound, comparison, questions.prices, watts)
        tables += [latency_table(answers, bound)] if answers else []
    if questions.budget is not None and questions.prices:
        bought = affordable(comparison, questions.prices, questions.budget, comparison.overall)
        sentences += budget_sentences(bought, questions.budget, questions.prices, base)
        tables += [budget_table(bought, questions.prices, base)] if bought else []
    told = [*lacks(comparison), *warnings(comparison)]
    return Document(
        title=f"{len(comparison.machines)} machines side by side",
        sentences=sentences,
        warnings=told if everything else shortened(told),
        remarks=[*notes, *remarks(comparison)],
        tables=[
            table
            for table in [*speed_tables(comparison, everything=everything), *tables]
            if table.rows
        ],
    )


def _void(comparison: Comparison) -> list[str]:
    """Say before everything else that numbers rest on work that is not the same (`--force`)."""
    names = [name for name, pieces in comparison.forced.items() if pieces]
    if not names:
        return []
    return [
        f"VOID (--force): {listed(sorted(names))} did not do the same work, as the warnings say; no"
        " speed and no cost below is a comparison of machines."
    ]


def _curves(comparison: Comparison, questions: Questions) -> list[Curves]:
    """Return the costs of all work together, and of each training that was asked for."""
    assert questions.prices is not None
    bases: list[tuple[str, Sequence[Piece]]] = [("All work", comparison.overall)]
    base = comparison.best[comparison.baseline.name]
    for want in questions.trainings:
        pieces = [
            piece
            for piece in comparison.overall
            if base[piece].phase.startswith("training_step")
            and want.network in (base[piece].network, base[piece].workload)
        ]
        bases.append((f"Training {want.network}", pieces))
    found = (curves(comparison, questions.prices, pieces, title) for title, pieces in bases)
    return [one for one in found if one]


def shortened(lines: Sequence[str], most: int = MOST_WARNINGS) -> list[str]:
    """Return the first lines and count the others: hundreds of machines warn alike."""
    if len(lines) <= most:
        return list(lines)
    return [*lines[:most], f"{len(lines) - most} more of this kind"]


def outlier_document(machines: Sequence[Machine]) -> tuple[Document, Verdict]:
    """Say which machines are slower than their like; the verdict decides about the exit code."""
    verdict = find_outliers(machines)
    sentences = [_slow(one) for one in verdict.slow[:MOST_SLOW_SENTENCES]]
    rest = len(verdict.slow) - len(sentences)
    if rest:
        sentences.append(f"{rest} more are in the table.")
    for kind, count in verdict.judged:
        if not verdict.slow:
            sentences.append(f"None of {count} machines is slower than its like ({kind}).")
    notes = [
        f"too few to judge: {count} of {kind}; it takes {FEWEST} with cases in common"
        for kind, count in verdict.too_few
    ]
    document = Document(
        title=f"Outliers among {len(machines)} machines",
        sentences=sentences or ["No kind of machine can be judged."],
        warnings=shortened(notes),
        remarks=[
            "z: the median shift of a machine's cases over the spread of all shifts (median"
            " absolute deviation); an outlier is above its limit and 3% slower at least; of 100"
            " groups alike one would have such a machine by chance"
        ]
        if verdict.judged
        else [],
        tables=[_slow_table(verdict.slow)] if verdict.slow else [],
    )
    return document, verdict


def _slow(one: Slow) -> str:
    return (
        f"{one.machine} takes {_more(one.times)} longer than its like in {one.suite} on the"
        f" {one.device.upper()} (z = {units.significant(one.z)}, limit"
        f" {units.significant(one.limit)}); worst: {_worst(one)}."
    )


def _more(times: float) -> str:
    return f"{units.significant((times - 1) * 100)}%"


def _worst(one: Slow) -> str:
    return listed([f"{case} {units.significant(times)}x" for case, times in one.cases[:_WORST]])


def _slow_table(slow: Sequence[Slow]) -> Table:
    return Table(
        name="outliers",
        title="Slower than their like",
        columns=("machine", "suite", "device", "time", "z", "limit", "of", "worst cases"),
        right=frozenset({3, 4, 5, 6}),
        rows=[
            [
                one.machine,
                one.suite,
                one.device,
                f"{units.significant(one.times)}x",
                units.significant(one.z),
                units.significant(one.limit),
                str(one.like),
                _worst(one),
            ]
            for one in slow
        ],
        records=[
            record("outliers", Ratio(value, None, None), **where, metric=metric, unit="1")
            for one in slow
            for where in [{"machine": one.machine, "suite": one.suite, "note": one.device}]
            for value, metric in ((one.times, "times_as_long"), (one.z, "z"))
        ],
    )
