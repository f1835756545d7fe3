"""What the table and the Markdown report say in sentences, and of CPU against GPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from bench import units
from bench.comparing.batch_sentences import batch_sentences
from bench.comparing.sentences import sentences, title
from bench.comparing.serving import RUNTIMES, latency_bound, service_sentences
from bench.comparing.speedup import Ratio, Speedup, speedups
from bench.report import Request
from bench.results.networks import SUM_OF_LAYERS, totals
from bench.results.schema import Measurement, Run

from ._summary import Section, reading_order, section_key

COLUMNS = (
    *("size", "GPU", "best CPU", "speedup", "95% interval", "with transfers", "95% interval"),
    "notes",
)
RIGHT = frozenset({3, 4, 5, 6})
"""The columns that hold numbers."""


@dataclass(frozen=True)
class Comparison:
    """CPU against GPU in one run, which is empty where one of them has no number.

    The sentences are also about services, and the sweeps over batches, of either.
    """

    sentences: Sequence[str] = ()
    sections: Sequence[Section] = ()
    """The speedup of each GPU case, rows as in `COLUMNS`."""
    remarks: Sequence[str] = ()


def comparison(run: Run, request: Request) -> Comparison:
    """Compare the cases that were asked for, and the whole networks among them."""
    asked = request.measurements(run)
    served = service_sentences(asked, latency_bound(run.header.settings))
    runtimes = [RUNTIMES] if served else []
    # Of a service its clients' view is told, not the time of its calls.
    timed = [m for m in asked if m.status == "ok" and m.seconds and m.latency is None]
    swept = batch_sentences(sorted(asked, key=reading_order), run.limits)
    if len({m.device == "cpu" for m in timed if m.device in ("cpu", "gpu")}) < 2:
        return Comparison([*served, *swept], remarks=runtimes)
    cases = sorted(timed, key=reading_order)
    sums = sorted(totals(asked), key=reading_order)
    of_cases, of_sums = speedups(cases), speedups(sums)
    found = [*of_cases, *of_sums]
    sections = [*_sections(of_cases, ""), *_sections(of_sums, "whole networks, ")]
    return Comparison(
        # Networks are what most readers came for.
        [*served, *sentences([*sums, *cases]), *swept],
        sorted(sections, key=lambda section: section.suite),
        [*_remarks(found, cases), *runtimes],
    )


def _sections(found: Sequence[Speedup], prefix: str) -> list[Section]:
    sections = []
    for _, members in groupby(found, key=lambda pair: section_key(pair.gpu)):
        group = list(members)
        gpu = group[0].gpu
        sections.append(
            Section(
                gpu.suite,
                gpu.workload,
                f"{prefix}{title(group[0])}",
                _rows(group),
                COLUMNS,
                RIGHT,
                [pair.gpu for pair in group],
            )
        )
    return sections


def _rows(group: Sequence[Speedup]) -> list[list[str]]:
    rows = []
    for size, members in groupby(group, key=lambda pair: pair.gpu.size):
        for i, pair in enumerate(members):
            rows.append(
                [
                    "" if i else size,
                    *(pair.gpu.place, pair.cpu.place),
                    *_numbers(pair.alone),
                    *_numbers(pair.with_transfers),
                    _note(pair),
                ]
            )
    return rows


def _numbers(ratio: Ratio | None) -> list[str]:
    if ratio is None:
        return ["-", "-"]
    if ratio.low is None or ratio.high is None:
        return [f"{units.significant(ratio.median)}x", "one block"]
    interval = f"[{units.significant(ratio.low)}, {units.significant(ratio.high)}]"
    return [f"{units.significant(ratio.median)}x", interval]


def _note(pair: Speedup) -> str:
    if pair.cpu_host is None or pair.cpu_host.place == pair.cpu.place:
        return ""
    return f"with transfers: best CPU {pair.cpu_host.place}"


def _remarks(found: Sequence[Speedup], cases: Sequence[Measurement]) -> list[str]:
    """Say what is compared with what, and why a number is missing."""
    dtypes = sorted({(p.gpu.dtype, p.cpu.dtype) for p in found if p.gpu.dtype != p.cpu.dtype})
    remarks = [
        f"{gpu} on the GPU is compared with {cpu} on the CPU, which has no {gpu}; the inputs are"
        " the same"
        for gpu, cpu in dtypes
    ]
    unmoved = {SUM_OF_LAYERS in p.gpu.flags for p in found if p.with_transfers is None}
    if False in unmoved:
        remarks.append(
            "no speedup with transfers (-) where the GPU's time with its copies, or the CPU's of a"
            " single call, is not known"
        )
    if True in unmoved:
        remarks.append(
            "no whole network has a speedup with transfers: it does not copy between its layers,"
            " as the sum over them would"
        )
    paired = {pair.gpu.key for pair in found}
    alone = [m.id for m in cases if m.device == "gpu" and m.key not in paired]
    if alone:
        remarks.append(
            "no speedup, as no CPU has a number for the same work on the same inputs:"
            f" {', '.join(alone)}"
        )
    return remarks
