"""The panels of why one device wins: times above the device's floors, and a roofline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench import units
from bench.comparing.speedup import speedups
from bench.report import Request
from bench.results.schema import Interval, Measurement, Run
from bench.text import plain

from . import _limits, _panels, _summary
from ._limits import COMPUTE, LAUNCH, MEMORY, TRANSFER, Cost, Floors, Region
from ._panels import Case, Data, Group, Point
from ._speedup_panels import ALONE, WITH_TRANSFERS, rounded, titled

BEST_CPU: Final = "best CPU"
_POINTS: Final = 65
"""Points of a floor; enough for a curve that looks smooth."""


@dataclass
class Times:
    """The seconds of a call at each size; `backends` says whose each point is."""

    name: str
    place: str
    """The backend and variant, or `BEST_CPU`."""
    backends: list[str] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    moved: bool = False
    """Whether the transfers are included."""


@dataclass(frozen=True)
class Ribbon:
    """What limits a call, and how high the highest floor is, at each size."""

    name: str
    regions: Sequence[Region]
    floor: Sequence[tuple[float, float]]
    sentences: Sequence[str]


@dataclass(frozen=True)
class Roof:
    """The measured ceilings of a device, per second."""

    device: str
    flops: float
    bytes_moved: float

    def at(self, intensity: float) -> float:
        """Return the highest FLOP/s at so many FLOPs per byte."""
        return min(self.flops, intensity * self.bytes_moved)


@dataclass(frozen=True)
class Dots:
    """FLOPs per byte and FLOP/s of the cases of one backend."""

    backend: str
    device: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class WhyPanel:
    """One sweep: its times, what limits the device, and its roofline."""

    title: str
    x_label: str
    device: str
    times: Sequence[Times]
    ribbons: Sequence[Ribbon]
    roofs: Sequence[Roof]
    dots: Sequence[Dots]

    @property
    def sentences(self) -> list[str]:
        """What limits a call, one sentence for each region."""
        return [sentence for ribbon in self.ribbons for sentence in ribbon.sentences]

    @property
    def remarks(self) -> list[str]:
        """What limits a call, and the ceilings."""
        roofs = [f"Measured ceilings of the {in_words(roof)}." for roof in self.roofs]
        return [*self.sentences, *roofs]

    def data(self) -> Data:
        """Return the times as a table."""
        found = [
            (line.name, backend, p)
            for line in self.times
            for p, backend in zip(line.points, line.backends, strict=True)
        ]
        rows = [
            [
                f"{p.x:,.0f}",
                f"{name} ({backend})" if name == BEST_CPU else name,
                units.seconds(p.y),
                units.seconds_interval(p.low, p.high) if p.low is not None else "one block",
            ]
            for name, backend, p in found
        ]
        columns = (self.x_label, "line", "time of a call", "95% interval")
        return Data(columns, rows, [p.key for *_, p in found], self.remarks)

    def in_words(self) -> str:
        """Say the times, what limits them, and the ceilings."""
        times = [f"{line.name}: {self._times_in_words(line)}." for line in self.times]
        return " ".join([*times, *self.remarks])

    def _times_in_words(self, line: Times) -> str:
        return ", ".join(
            f"{units.seconds(p.y)}{f' ({backend})' if line.name == BEST_CPU else ''}"
            f" at {self.x_label} {p.x:,.0f}"
            for p, backend in zip(line.points, line.backends, strict=True)
        )


def in_words(roof: Roof) -> str:
    """Name a device's ceilings, such as `GPU: 51.0 TFLOP/s, 4.10 TB/s`."""
    rates = units.rate(roof.flops, "FLOP"), units.rate(roof.bytes_moved, "B")
    return f"{roof.device.upper()}: {', '.join(rates)}"


def panels(runs: Sequence[Run], request: Request) -> list[WhyPanel]:
    """Return a panel for each sweep of each run that holds the peaks of its device."""
    found = []
    for run in runs:
        peaks = _limits.peaks_of(run)
        best = {id(s.gpu): s.cpu for s in speedups(_panels.drawable(run, request))}
        for group in _sweeps(run, request):
            if not _lacks(group, peaks):
                found.append(_panel(run, runs, group, peaks, best))
    return found


def missing(runs: Sequence[Run], request: Request) -> str:
    """Say which sweeps have no panel because the file does not hold what the device can do."""
    lacking = [
        f"{_panels.in_run(run, device.upper(), runs)} in {group.dtype}"
        for run in runs
        for group in _sweeps(run, request)
        if (device := _lacks(group, _limits.peaks_of(run)))
    ]
    if not lacking:
        return ""
    return (
        f"no measured ceilings of the {', '.join(dict.fromkeys(map(plain, lacking)))}"
        " in the run file; measure again with this version of bench"
    )


def _sweeps(run: Run, request: Request) -> list[Group[Case]]:
    cases = [
        Case(m, plain(m.place), whole)
        for m, whole in _panels.asked(run, request)
        if m.flops and m.bytes_moved and not whole and not m.is_cold
    ]
    return _panels.groups(cases, named=False)


def _device(group: Group[Case]) -> str:
    """Return whose limits the panel shows: the GPU's where there is one."""
    devices = {_limits.device_of(case.m) for case in group.cases}
    return "gpu" if "gpu" in devices else "cpu"


def _lacks(group: Group[Case], peaks: dict[str, dict[str, float]]) -> str:
    """Return the device whose peaks are not all known, or nothing."""
    device = _device(group)
    return "" if {"call", "bytes", group.dtype} <= peaks.get(device, {}).keys() else device


def _panel(
    run: Run,
    runs: Sequence[Run],
    group: Group[Case],
    peaks: dict[str, dict[str, float]],
    best: dict[int, Measurement],
) -> WhyPanel:
    device = _device(group)
    cases = sorted(group.cases, key=group.place)
    shown = [case for case in cases if _limits.device_of(case.m) == device]
    plainly = [case for case in shown if case.m.variant is None] or shown
    cpus: dict[int, Measurement] = {}
    for case in plainly:
        if (cpu := best.get(id(case.m))) is not None:
            cpus[group.place(case)] = cpu
    times = [_best_times(cpus)] if cpus else []
    for line in sorted({case.line for case in plainly}, key=_summary.natural):
        own = [case for case in plainly if case.line == line]
        times += _times(group, line, own, device)
    measured = {id(m): m for m in [*cpus.values(), *(case.m for case in cases)]}
    return WhyPanel(
        title=_panels.in_run(run, titled(group, cpus.values()), runs),
        x_label=group.x_label,
        device=device,
        times=times,
        ribbons=_ribbons(group, device, peaks[device]),
        roofs=_roofs(list(measured.values()), peaks),
        dots=_dots(list(measured.values())),
    )


def _best_times(cpus: dict[int, Measurement]) -> Times:
    line = Times(BEST_CPU, BEST_CPU)
    for x, cpu in sorted(cpus.items()):
        if cpu.seconds is not None:
            line.points.append(_point(x, cpu.seconds, cpu))
            line.backends.append(plain(cpu.backend))
    return line


def _times(group: Group[Case], place: str, cases: Sequence[Case], device: str) -> list[Times]:
    found = [Times(place, place)]
    if device == "gpu":
        found = [
            Times(f"{place}, {ALONE}", place),
            Times(f"{place}, {WITH_TRANSFERS}", place, moved=True),
        ]
    for line in found:
        for case in cases:
            seconds = case.m.end_to_end_seconds if line.moved else case.m.seconds
            if seconds is not None:
                line.points.append(_point(group.place(case), seconds, case.m))
                line.backends.append(plain(case.m.backend))
    return [line for line in found if line.points]


def _point(x: float, seconds: Interval, m: Measurement) -> Point:
    return Point(x, seconds.median, seconds.low, seconds.high, m.key)


def _ribbons(group: Group[Case], device: str, peaks: dict[str, float]) -> list[Ribbon]:
    costs = {group.place(case): case.m for case in group.cases}
    sizes = sorted(costs)
    cost = Cost(
        sizes,
        [costs[size].flops or 0 for size in sizes],
        [costs[size].bytes_moved or 0 for size in sizes],
    )
    dimension = plain(group.dimension)
    why = {
        LAUNCH: f"{'launching it' if device == 'gpu' else 'making it'}"
        f" ({units.seconds(peaks['call'])})",
        MEMORY: f"memory ({units.rate(peaks['bytes'], 'B')})",
        COMPUTE: f"arithmetic ({units.rate(peaks[group.dtype], 'FLOP')})",
    }
    over = _limits.floors(cost, peaks, group.dtype)
    found = [_ribbon(ALONE if device == "gpu" else "a call", over, sizes, dimension, why)]
    if {"link_call", "link_bytes"} <= peaks.keys():
        why[TRANSFER] = (
            f"the transfers ({units.seconds(peaks['link_call'])},"
            f" {units.rate(peaks['link_bytes'], 'B')})"
        )
        over = {**over, **_limits.link_floor(cost, peaks)}
        found.append(_ribbon(WITH_TRANSFERS, over, sizes, dimension, why))
    return found


def _ribbon(
    name: str, over: Floors, sizes: Sequence[int], dimension: str, why: dict[str, str]
) -> Ribbon:
    found = _limits.regions(over, sizes)
    first, last = sizes[0], sizes[-1]
    even = [first * (last / first) ** (step / (_POINTS - 1)) for step in range(_POINTS)]
    knots = sorted({*even, *(region.end for region in found)})
    floor = [(size, max(seconds(size) for seconds in over.values())) for size in knots]
    return Ribbon(name, found, floor, list(_sentences(name, found, dimension, why)))


def _sentences(
    name: str, found: Sequence[Region], dimension: str, why: dict[str, str]
) -> Iterator[str]:
    for i, region in enumerate(found):
        start, end = rounded(region.start), rounded(region.end)
        if len(found) == 1:
            where = "at every size"
        elif i == 0:
            where = f"below {dimension} = {end}"
        elif i < len(found) - 1:
            where = f"from {dimension} = {start} to {end}"
        else:
            where = f"above {dimension} = {start}"
        where = f"{name}, {where}" if name == WITH_TRANSFERS else where
        yield f"{where[0].upper()}{where[1:]} a call is limited by {why[region.limit]}."


def _roofs(measured: Sequence[Measurement], peaks: dict[str, dict[str, float]]) -> list[Roof]:
    dtypes = {_limits.device_of(m): m.dtype for m in measured}
    return [
        Roof(device, peaks[device][dtype], peaks[device]["bytes"])
        for device, dtype in sorted(dtypes.items())
        if {dtype, "bytes"} <= peaks.get(device, {}).keys()
    ]


def _dots(measured: Sequence[Measurement]) -> list[Dots]:
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for m in measured:
        if m.flops and m.bytes_moved and m.flops_per_second:
            point = m.flops / m.bytes_moved, m.flops_per_second
            found.setdefault((_limits.device_of(m), plain(m.backend)), []).append(point)
    return [Dots(name, device, sorted(points)) for (device, name), points in sorted(found.items())]
