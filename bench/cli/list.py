"""`bench list`: what can be measured here."""

import json
import sys
from dataclasses import asdict
from typing import Any

import click

from bench.cli import color_of, width_of, with_output_options


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print it for a program.")
@with_output_options
def command(as_json: bool, color: str, quiet: bool, verbose: bool) -> None:
    r"""What can be measured here: suites, workloads, backends, what is missing; reference runs.

    \b
    Example:
      bench list
      bench list -v        every size of every workload
    """
    from bench import catalog
    from bench.backends import backends
    from bench.cores import allowed_cores
    from bench.results.reading import read_header
    from bench.results.reference_runs import describe, reference_files
    from bench.running.probe import probe

    suites, workloads = catalog.suites(), catalog.workloads()
    probes = probe(backends(), allowed_cores())
    references = [describe(name, read_header(path)) for name, path in reference_files().items()]
    if as_json:
        click.echo(json.dumps(_as_json(suites, workloads, probes, references), indent=2))
        return
    painted = color_of(color, sys.stdout)
    click.echo(_as_text(suites, workloads, probes, references, painted, verbose), color=painted)


def _as_json(suites: Any, workloads: Any, probes: Any, references: Any) -> dict[str, Any]:
    from bench.backends import backends
    from bench.workload import DTYPES, PRESETS

    return {
        "suites": [
            {"name": s.name, "aliases": list(s.aliases), "question": s.question}
            for s in suites.values()
        ],
        "workloads": [
            {
                "name": w.name,
                "version": w.version,
                "summary": w.summary,
                "source": w.source,
                "suites": list(w.suites),
                "phases": list(w.phases),
                "includes": dict(w.includes),
                "sizes": [
                    {"size": s.label, "dims": dict(s.dims), "preset": s.preset} for s in w.sizes
                ],
            }
            for w in workloads.values()
        ],
        "presets": list(PRESETS),
        "dtypes": list(DTYPES),
        "backends": [
            {
                "name": p.backend,
                "available": p.absent is None,
                "tried": backends()[p.backend].tried,
                "reason": p.absent[0] if p.absent else None,
                "remedy": p.absent[1] if p.absent else None,
                "description": p.description,
            }
            for p in probes.values()
        ],
        "reference_runs": [asdict(run) for run in references],
    }


def _as_text(
    suites: Any, workloads: Any, probes: Any, references: Any, color: bool, verbose: bool
) -> str:
    from bench.backends import backends
    from bench.results.reference_runs import PREFIX
    from bench.running.plan import PRESET
    from bench.text import align
    from bench.workload import PRESETS

    width = width_of(sys.stdout)
    parts = [
        align(
            ["suite", "question"],
            [[", ".join([s.name, *s.aliases]), s.question] for s in suites.values()],
            width=width,
        )
    ]
    rows = []
    for w in workloads.values():
        counts = [
            sum(PRESETS.index(s.preset) <= level for s in w.sizes) for level in range(len(PRESETS))
        ]
        rows.append([w.name, ", ".join(w.suites), "/".join(map(str, counts)), w.summary])
        if verbose:
            rows += [["", s.label, s.preset, ""] for s in w.sizes]
    parts.append(
        align(["workload", "suites", f"sizes ({'/'.join(PRESETS)})", "what"], rows, width=width)
    )
    included = [
        [w.name, library, what] for w in workloads.values() for library, what in w.includes.items()
    ]
    parts.append(align(["workload", "library", "what its time includes"], included, width=width))
    parts.append(
        align(
            ["preset", "blocks", "seconds a case and block, at most"],
            [
                [name, str(p.blocks), f"{p.budget.warmup_seconds + p.budget.sampling_seconds:g}"]
                for name, p in PRESET.items()
            ],
            right={1, 2},
            width=width,
        )
    )
    states = ["absent" if p.absent else "available" for p in probes.values()]
    colors = {"absent": "yellow", "available": "green"}
    parts.append(
        align(
            ["backend", "state", "details"],
            [
                [
                    p.backend if backends()[p.backend].tried else f"{p.backend} (untried)",
                    state,
                    f"{p.absent[0]}. To mend it: {p.absent[1]}"
                    if p.absent
                    else _versions(p.description),
                ]
                for p, state in zip(probes.values(), states, strict=True)
            ],
            width=width,
            style=lambda row, column, text: (
                click.style(text, fg=colors[states[row]])
                if color and row >= 0 and column == 1
                else text
            ),
        )
    )
    if references:
        parts.append(
            align(
                ["reference run", "label", "machine", "date", "suites"],
                [
                    [f"{PREFIX}{run.name}", run.label, run.machine, run.date, ", ".join(run.suites)]
                    for run in references
                ],
                width=width,
            )
        )
    return "\n".join(parts).rstrip()


def _versions(description: Any) -> str:
    known = [description.get("version"), description.get("blas"), description.get("gpu")]
    threads = max((p["num_threads"] for p in description.get("threadpools", ())), default=None)
    return ", ".join(
        [str(k) for k in known if k] + ([f"{threads} threads"] if threads is not None else [])
    )
