"""What the table and the Markdown report say about a run, before either lays it out."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import median

from bench import units
from bench.comparing.batches import is_swept
from bench.report import Request
from bench.results.networks import SUM_OF_LAYERS, totals, unsummed
from bench.results.schema import Interval, Measurement, Run
from bench.text import natural as natural

from . import _batch_rows, _latency
from ._batch_rows import Limits

COLUMNS = ("size", "backend", "time", "95% interval", "rate", "vs best", "error", "notes")
RIGHT = frozenset({2, 3, 4, 5, 6})
"""The columns that hold numbers."""

FASTEST = "fastest"
UNSURE = "~"
"""Before a comparison that a repeat may turn, since the intervals overlap."""

MOST_INCLUDES = 6
"""Lines about what times include; more are nobody's reading beneath a table."""

LONG_FIRST_CALL_SECONDS = 1.0
LONG_FIRST_CALLS = 10.0
"""Times the time of a later call: loading a library's kernels takes less."""

_PHASES = ("call", "forward", "forward_training", "backward", "input_gradient")


@dataclass(frozen=True)
class Section:
    """The cases of one suite that differ in size and backend only, as rows of a table."""

    suite: str
    workload: str
    title: str
    rows: Sequence[Sequence[str]]
    """The size stands in the first row of each group of the same work, then is empty."""
    columns: Sequence[str] = COLUMNS
    """The size and the backend first, notes last; those of a suite are the same."""
    right: Set[int] = RIGHT
    measurements: Sequence[Measurement] = ()
    """The case of each row."""

    @property
    def full_title(self) -> str:
        """The title with the suite, unless that has the workload's name."""
        return self.title if self.suite == self.workload else f"{self.suite}: {self.title}"


@dataclass(frozen=True)
class Unmeasured:
    """Cases that have no number for the same reason."""

    who: str
    status: str
    reason: str
    cases: Sequence[str]
    """Their names; none where `who` is a backend of which no case was measured."""


def heading(run: Run) -> list[str]:
    """Return the lines above a run's tables: its label, the machine, how it was measured."""
    header = run.header
    return [header.label, "; ".join(_hardware(run)), "; ".join(_circumstances(run))]


def _hardware(run: Run) -> list[str]:
    machine = run.header.machine
    cpu = machine.get("cpu")
    parts = [str(cpu.get("model") or "unknown CPU") if isinstance(cpu, dict) else "unknown CPU"]
    threads = sorted({m.threads for m in run.measurements if m.threads})
    if threads:
        parts[0] += f", {', '.join(map(str, threads))} thread{'s' * (threads != [1])}"
    gpus = machine.get("gpus")
    if isinstance(gpus, list):
        names = [str(g.get("name") or "unknown GPU") for g in gpus if isinstance(g, dict)]
        counted = [(name, len(list(same))) for name, same in groupby(sorted(names))]
        parts += [f"{n} x {name}" if n > 1 else name for name, n in counted] or ["no GPU"]
    return parts


def _circumstances(run: Run) -> list[str]:
    settings = run.header.settings
    preset, blocks = settings.get("preset"), settings.get("blocks")
    counted = f"{blocks} block{'s' * (blocks != 1)}" if isinstance(blocks, int) else ""
    if preset == "quick":
        how = f"quick: {counted or 'few blocks'}, for a first look"
    else:
        how = ", ".join(filter(None, [f"{preset} preset" if preset else "", counted]))
    started = re.sub(r"T(\d\d:\d\d)(:\d\d(\.\d+)?)?(Z|\+00:00)$", r" \1 UTC", run.header.started)
    return [part for part in (how, started, f"bench {run.header.bench_version}") if part]


def sections(run: Run, request: Request) -> list[Section]:
    """Return the cases with a number and those that went wrong, in an order for readers.

    Those of a suite are followed by the sums of whole networks.
    """
    asked = request.measurements(run)
    limits = {limit.key: limit for limit in run.limits}
    cases = _sections([m for m in asked if m.status != "skipped"], limits)
    sums = [
        replace(
            section,
            title=f"whole networks, {section.title} (each layer as often as the network has it)",
        )
        for section in _sections(totals(asked), {})
    ]
    return sorted([*cases, *sums], key=lambda section: section.suite)


def _sections(shown: Sequence[Measurement], limits: Limits) -> list[Section]:
    found = []
    for _, members in groupby(sorted(shown, key=reading_order), key=section_key):
        group = list(members)
        first = group[0]
        # `call` is the only phase of an operation, unless the title says otherwise.
        phase = "" if first.phase == "call" else f" {first.phase}"
        version = f" version {first.workload_version}" if first.workload_version != 1 else ""
        title = f"{first.workload}{phase}{version}, {first.dtype}"
        section = Section(
            first.suite, first.workload, title, _rows(group, limits), measurements=group
        )
        if is_swept(first):
            section = replace(section, columns=_batch_rows.COLUMNS, right=_batch_rows.RIGHT)
        if any(m.latency is not None for m in group):
            columns, right = _latency.COLUMNS, _latency.RIGHT
            section = replace(
                section, rows=_service_rows(group, limits), columns=columns, right=right
            )
        found.append(section)
    return found


def section_key(m: Measurement) -> tuple[object, ...]:
    """Return what the cases of a section have in common; it also sorts the sections."""
    return m.suite, m.workload, m.workload_version, phase_order(m), m.dtype


def phase_order(m: Measurement) -> tuple[int, str]:
    """Return a key that sorts phases as they follow each other: forward, then backward."""
    return (_PHASES.index(m.phase) if m.phase in _PHASES else len(_PHASES)), m.phase


def reading_order(m: Measurement) -> tuple[object, ...]:
    """Return a key that sorts sweeps by their numbers and before sizes that have a name."""
    named = m.size != ",".join(f"{dim}={value}" for dim, value in m.sizes.items())
    return (*section_key(m), named, natural(m.size), m.is_cold, natural(m.place))


def _rows(group: Sequence[Measurement], limits: Limits) -> list[list[str]]:
    rows = []
    for _, same in groupby(group, key=lambda m: m.work):
        works = list(same)
        times = [m.seconds for m in works if m.status == "ok" and m.seconds]
        for i, m in enumerate(works):
            numbers, notes = _numbers(m, times), _notes(m, limits)
            rows.append([m.size if i == 0 else "", m.place, *numbers, notes])
    return rows


def _service_rows(group: Sequence[Measurement], limits: Limits) -> list[list[str]]:
    rows = []
    for _, same in groupby(group, key=lambda m: m.work):
        works = list(same)
        for i, m in enumerate(works):
            p50 = m.latency.p50 if m.latency and m.status == "ok" else None
            factor = _factor(p50, _latency.same_load(m, works)) if p50 else "-"
            size = m.size if i == 0 else ""
            rows.append([size, m.place, *_latency.numbers(m), factor, _notes(m, limits)])
    return rows


def _numbers(m: Measurement, times: Sequence[Interval]) -> list[str]:
    """Return time, interval, rate, factor and error; a case that went wrong has no speed.

    Its status stands in place of the interval, which is wide enough for the longest one. A batch of
    a sweep has throughput, interval, time, peak memory, factor and error.
    """
    error = "-" if m.relative_error is None else f"{m.relative_error:.1e}"
    if m.status != "ok" or m.seconds is None:
        how = status(m.status) if m.status != "ok" else "-"
        if _batch_rows.is_end(m):
            how = _batch_rows.END
        return ["-", how, *["-"] * (3 if is_swept(m) else 2), error]
    if is_swept(m):
        return [*_batch_rows.numbers(m), _factor(m.seconds, times), error]
    time = m.seconds.median
    interval = units.seconds_interval(m.seconds.low, m.seconds.high)
    if m.seconds.low is None and len(m.blocks) == 1:
        interval = "one block"
    if m.flops is None:
        rate = units.rate(m.bytes_per_second, "B")
    else:
        rate = units.rate(m.flops_per_second, "FLOP")
    return [units.seconds(time), interval, rate, _factor(m.seconds, times), error]


def _factor(own: Interval, times: Sequence[Interval]) -> str:
    """Say how far `own` is behind the fastest of the same work."""
    if len(times) < 2:
        return "-"
    best = min(times, key=lambda time: time.median)
    if own.median == best.median:
        sure = not any(_overlap(best, other) for other in times if other is not own)
        return FASTEST if sure else UNSURE + FASTEST
    factor = f"{units.significant(own.median / best.median, 2)}x"
    return UNSURE + factor if _overlap(own, best) else factor


def _overlap(one: Interval, other: Interval) -> bool:
    """Tell whether the intervals overlap; those of one block are not known, and said to be so."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def _notes(m: Measurement, limits: Limits) -> str:
    verified = [f"verified: {m.verified}"] if m.verified not in (None, "full") else []
    flags = [m.reason or flag if flag == SUM_OF_LAYERS else flag for flag in m.flags]
    batch = _batch_rows.notes(m, limits) if is_swept(m) else []
    return ", ".join([*batch, *verified, *flags, *_first_call(m)])


def _first_call(m: Measurement) -> list[str]:
    """Tell of a first call that took long beside the others: it compiled or tuned something."""
    firsts = [first for b in m.blocks if (first := b.first_call_seconds) is not None]
    if m.seconds is None or not firsts or m.latency is not None:
        return []
    first = median(firsts)
    if first < LONG_FIRST_CALL_SECONDS or first < LONG_FIRST_CALLS * m.seconds.median:
        return []
    return [f"first call {units.seconds(first)}"]


def status(name: str) -> str:
    """Write a status for people."""
    return name.replace("_", " ")


def unmeasured(run: Run, request: Request) -> list[Unmeasured]:
    """Return what has no number: faults case by case, skipped cases by their common reason.

    Where memory ends a sweep over batches, the rows of its table say so.
    """
    asked = request.measurements(run)
    found = [
        Unmeasured(_name(m), status(m.status), m.reason or "no reason recorded", ())
        for m in sorted(asked, key=reading_order)
        if m.status not in ("ok", "skipped") and not _batch_rows.is_end(m)
    ]
    tried = {m.backend for m in asked if m.status != "skipped"}

    def who(m: Measurement) -> str:
        """Name a backend without a single case as a whole, with all its variants."""
        return m.place if m.backend in tried else m.backend

    skipped: dict[tuple[str, str], list[Measurement]] = {}
    for m in sorted(asked, key=reading_order):
        if m.status == "skipped":
            skipped.setdefault((who(m), m.reason or "no reason recorded"), []).append(m)
    for (place, reason), cases in skipped.items():
        whole = len(cases) == sum(who(m) == place for m in asked)
        if len(cases) == 1 and not whole:
            found.append(Unmeasured(_name(cases[0]), "skipped", reason, ()))
        else:
            names = () if whole else tuple(dict.fromkeys(m.work[0] for m in cases))
            found.append(Unmeasured(place, "skipped", reason, names))
    return found


def _name(m: Measurement) -> str:
    """Name a case; the suite is said where the id alone does not suggest it."""
    return m.id if m.suite == m.workload else f"{m.suite}: {m.id}"


def _includes(asked: Sequence[Measurement]) -> list[str]:
    """Say what the times hold besides the operations: all of it, or where it can be read."""
    lines = {
        f"{m.workload} on {m.backend.partition('-')[0]} includes {m.includes}"
        for m in asked
        if m.includes and m.status == "ok"
    }
    if len(lines) > MOST_INCLUDES:
        return ["what a library's time includes is not the same for all: see bench list"]
    return sorted(lines)


def remarks(run: Run, request: Request, shown: Sequence[Section]) -> list[str]:
    """Return what the reader of the numbers must know about the run as a whole."""
    found = list(run.remarks)
    if run.end is not None and run.end.interrupted:
        found.append(f"ended before everything was measured: {run.end.interrupted}")
    found += unsummed(request.measurements(run))
    found += _includes(request.measurements(run))
    found += _latency.few(request.measurements(run))
    if any(cell.startswith(UNSURE) for section in shown for row in section.rows for cell in row):
        found.append(f"{UNSURE} the interval overlaps that of the fastest: a repeat may differ")
    return found
