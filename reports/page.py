"""The page: a run as one HTML file for whoever decides, that needs no network and no tool."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report import ComparisonReport, Report, Request
from bench.results.schema import Run

from . import (
    _comparison,
    _comparison_page,
    _page_figures,
    _page_machine,
    _page_speeds,
    _page_warnings,
    _summary,
)
from ._page_document import document
from ._page_figures import Drawn
from ._page_machine import Measured
from ._page_speeds import HeatMap
from ._page_tables import Anchors, Table
from ._page_warnings import Warned
from ._svg import Classes


@dataclass(frozen=True)
class RunPart:
    """What the page says of one run, in its order."""

    prefix: str
    """What its anchors begin with: empty if it is the only one."""
    label: str
    about: Sequence[str]
    sentences: Sequence[str]
    training: Sequence[str]
    details: Sequence[str]
    """The sentences of each workload."""
    warnings: Sequence[Warned]
    heat_map: HeatMap | None
    anchors: Anchors
    sections: dict[tuple[object, ...], str]
    """The anchor of the table that holds a section's cases."""
    figures: Sequence[Drawn]
    tables: Sequence[Table]
    speedups: Sequence[Table]
    remarks: Sequence[str]
    measured: Measured


def render(runs: Sequence[Run], request: Request) -> str:
    """Return the page; the same runs give the same bytes."""
    classes = Classes()
    parts = [
        _part(run, request, f"run{i}:" if len(runs) > 1 else "", classes)
        for i, run in enumerate(runs, 1)
    ]
    return document(
        "page.html",
        style=classes.rules(),
        parts=parts,
        title=", ".join(dict.fromkeys(run.header.label for run in runs)),
        versions=sorted({run.header.bench_version for run in runs}),
        most_panels=_page_figures.MOST_PANELS,
    )


def _part(run: Run, request: Request, prefix: str, classes: Classes) -> RunPart:
    label, *about = _summary.heading(run)
    compared = _comparison.comparison(run, request)
    sections = _summary.sections(run, request)
    anchors = Anchors(prefix)
    tables = anchors.tables(sections, "table")
    warned_of = _page_warnings.warnings(run, request)
    remarks = [*_summary.remarks(run, request, sections), *compared.remarks]
    return RunPart(
        prefix=prefix,
        label=label,
        about=about,
        sentences=_page_speeds.sentences(run, request),
        training=_page_speeds.training(run, request),
        details=compared.sentences,
        warnings=warned_of,
        heat_map=_page_speeds.heat_map(run, request),
        anchors=anchors,
        sections={
            _summary.section_key(section.measurements[0]): table.id
            for section, table in reversed(list(zip(sections, tables, strict=True)))
            if section.measurements
        },
        figures=list(
            _page_figures.figures(run, request, f"{prefix.replace(':', '-')}figure-", classes)
        ),
        tables=tables,
        speedups=anchors.tables(compared.sections, "speedup"),
        remarks=[r for r in remarks if r not in {warned.text for warned in warned_of}],
        measured=_page_machine.measured(run),
    )


REPORT = Report(
    name="page",
    summary="one HTML file to read, print and pass on: sentences, warnings, figures, every case",
    render=render,
    suffix=".html",
)

COMPARISON = ComparisonReport(
    name="page",
    summary="one HTML file to read, print and pass on: sentences, costs, tables",
    render=_comparison_page.render,
    suffix=".html",
)
