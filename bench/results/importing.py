"""Reads what other tools measured, as a run: today the files of pytest-benchmark.

What such a file does not tell is null with a reason, never a guess. Two imports pair with each
other: suite, workload and backend are the same for the same test, whatever the machine.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final, NoReturn

import bench
from bench.errors import RunFileError
from bench.machine import ISA, default_label
from bench.results.reading import LARGEST_COUNT, LONGEST_NAME, MOST_BYTES
from bench.results.schema import SCHEMA, Block, EndLine, Interval, Measurement, Run, RunLine
from bench.text import plain

SUITE: Final = "imported"
BACKEND: Final = "pytest-benchmark"
NOT_TOLD: Final = "a file of pytest-benchmark does not tell"
STATISTICS_ONLY: Final = (
    "the file holds statistics only; --benchmark-json and --benchmark-save-data keep raw data"
)
_UNKNOWN: Final = (
    *("threads", "flops", "bytes_moved", "input_digest", "verified", "relative_error"),
    *("host_seconds", "device_seconds", "end_to_end_seconds", "peak_bytes", "energy_joules"),
)
_SIZELESS: Final = "-"
"""Stands in the id of a test without parameters."""
_LONGEST_SECONDS: Final = 1e12
"""The longest time that a run file holds."""
_MOST_SAMPLES: Final = 10**6
"""They fit into one line of a run file."""
_AGREEMENT: Final = 1e-6
"""How far statistics may differ from the raw data that they were made of."""


def import_pytest_benchmark(path: Path, label: str | None = None) -> Run:
    """Return the run in a file of pytest-benchmark; the same file gives the same run.

    A benchmark whose time is no positive number becomes `implausible`, with the reason.

    Raises:
        RunFileError: It is no file that pytest-benchmark wrote, or not whole.
    """
    name = plain(str(path))
    content = _bytes(path, name)
    document = _document(content, name)
    machine = _machine(document)
    found = [
        _measurement(entry, f"{name}: benchmark {index}")
        for index, entry in enumerate(document["benchmarks"], start=1)
    ]
    _tell_apart(found, name)
    measurements = [m for m, _ in found]
    header = RunLine(
        schema=SCHEMA,
        id=hashlib.sha256(content).hexdigest()[:32],
        label=label or default_label(machine),
        started=_started(document["datetime"], name),
        bench_version=bench.__version__,
        command=[],
        settings={
            "suites": [SUITE],
            "imported_from": f"pytest-benchmark {_text(document['version'])}",
            "benchmarks": {m.id: about for m, about in found},
        },
        machine=machine,
    )
    counts = Counter[str](m.status for m in measurements)
    return Run(header, measurements, end=EndLine(finished=header.started, counts=dict(counts)))


def _bytes(path: Path, name: str) -> bytes:
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise RunFileError(f"{name}: larger than 512 MiB; leave out the raw data")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunFileError(f"{name}: cannot be read: {reason}; give another file") from error
    if not content.strip():
        raise RunFileError(
            f"{name}: empty, as pytest-benchmark leaves it when no benchmark ran to its end; run"
            " pytest again with --benchmark-json"
        )
    return content


def _document(content: bytes, name: str) -> dict[str, Any]:
    """Return the parsed file with the parts that every version of pytest-benchmark writes."""
    try:
        # Not msgspec, which refuses the NaN that Python writes: it may stand in `extra_info`.
        document = json.loads(content)
    except json.JSONDecodeError as error:
        whole = error.pos >= len(error.doc.rstrip())
        raise RunFileError(
            f"{name}, line {error.lineno}: {'cut short' if whole else 'not JSON'}; give a file"
            " as pytest --benchmark-json writes it"
        ) from None
    except (ValueError, RecursionError):
        raise RunFileError(
            f"{name}: not JSON in UTF-8; give a file as pytest --benchmark-json writes it"
        ) from None
    kinds = {"machine_info": dict, "benchmarks": list, "datetime": str, "version": str}
    if not isinstance(document, dict):
        _refuse(f"{name}: not a file of pytest-benchmark")
    for field, kind in kinds.items():
        if not isinstance(document.get(field), kind):
            _refuse(f"{name}: not a file of pytest-benchmark, which has `{field}`")
    if not document["benchmarks"]:
        _refuse(f"{name}: holds no benchmark")
    return document


def _refuse(problem: str) -> NoReturn:
    raise RunFileError(f"{problem}; give a file as pytest --benchmark-json writes it")


def _measurement(entry: Any, where: str) -> tuple[Measurement, dict[str, Any]]:
    """Return one benchmark with what its line of a run file has no place for."""
    if not isinstance(entry, dict) or not isinstance(entry.get("stats"), dict):
        _refuse(f"{where} has no `stats`")
    fullname = entry.get("fullname")
    if not isinstance(fullname, str) or not fullname:
        _refuse(f"{where} has no `fullname`")
    if len(fullname) > LONGEST_NAME // 2:
        _refuse(f"{where} has a name of more than {LONGEST_NAME // 2} characters")
    fullname = _text(fullname)
    workload, bracket, parameters = fullname.partition("[")
    if not bracket or not workload:
        workload, parameters = fullname, ""
    sizes = _sizes(entry.get("params"))
    dimensions = ",".join(f"{dim}={value}" for dim, value in (sizes or {}).items())
    size = _SIZELESS
    if parameters:
        whole = sizes is not None and len(sizes) == len(entry["params"])
        size = dimensions if whole else parameters.removesuffix("]")
    timing = _timing(entry["stats"], where)
    measurement = Measurement(
        id=f"{workload}/{size}/call/unknown/{BACKEND}",
        suite=SUITE,
        workload=workload,
        workload_version=1,
        size=size,
        sizes=sizes or {},
        phase="call",
        dtype="unknown",
        backend=BACKEND,
        threads=None,
        device="unknown",
        **timing,
    )
    measurement.unknown = {**dict.fromkeys(_UNKNOWN, NOT_TOLD), **measurement.unknown}
    options = entry.get("options")
    about = {
        "fullname": fullname,
        "group": _text_or_none(entry.get("group")),
        "timer": _text_or_none(options.get("timer")) if isinstance(options, dict) else None,
    }
    return measurement, about


def _sizes(params: Any) -> dict[str, int] | None:
    """Return the parameters that are whole numbers, in the order of their names."""
    if not isinstance(params, dict):
        return None
    return {
        _text(name): value
        for name, value in sorted(params.items())
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT
    }


def _timing(stats: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the fields of a measurement that hold times, or why there are none."""
    data, iterations = stats.get("data"), stats.get("iterations")
    if not isinstance(iterations, int) or not 1 <= iterations <= LARGEST_COUNT:
        _refuse(f"{where} has no count of `iterations`")
    told: dict[str, Any] = {name: stats.get(name) for name in ("min", "median")}
    if data is not None and (not isinstance(data, list) or not data):
        _refuse(f"{where} has a `data` without samples")
    if len(data or ()) > _MOST_SAMPLES:
        raise RunFileError(
            f"{where} has more than {_MOST_SAMPLES:,} samples; save it without its raw data:"
            " pytest --benchmark-save"
        )
    for value in [*told.values(), *(data or [])]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            _refuse(f"{where} has a time that is no number")
        if not 0 < value <= _LONGEST_SECONDS:
            why = "its timer is too coarse" if value == 0 else "that is no time"
            reason = f"pytest-benchmark recorded {repr(value)[:24]} s for a call: {why}"
            return {"status": "implausible", "reason": reason}
    if data is None:
        least, middle = told["min"], told["median"]
        if least > middle:
            _refuse(f"{where} has a `min` above its `median`")
        interval = Interval(median=middle, low=None, high=None, min=least)
        return {"status": "ok", "seconds": interval, "unknown": {"blocks": STATISTICS_ONLY}}
    interval = Interval(median=median(data), low=None, high=None, min=min(data))
    for name, value in told.items():
        if not math.isclose(value, getattr(interval, name), rel_tol=_AGREEMENT):
            _refuse(f"{where}: its `{name}` is not that of its `data`")
    block = Block(
        seconds=[float(value) for value in data],
        calls_per_sample=iterations,
        warmup_calls=None,
        first_call_seconds=None,
        order=0,
        unknown={"warmup_calls": NOT_TOLD, "first_call_seconds": NOT_TOLD},
    )
    return {"status": "ok", "seconds": interval, "blocks": [block]}


def _tell_apart(found: Sequence[tuple[Measurement, Any]], name: str) -> None:
    """Give tests with equal whole numbers the names that pytest gave them.

    Raises:
        RunFileError: pytest's own names are the same, too.
    """
    ids: dict[str, list[tuple[Measurement, Any]]] = {}
    for one in found:
        ids.setdefault(one[0].id, []).append(one)
    for alike in ids.values():
        for m, about in alike if len(alike) > 1 else ():
            parameters = about["fullname"].removeprefix(m.workload)
            m.size = parameters.removeprefix("[").removesuffix("]") or _SIZELESS
            m.id = f"{m.workload}/{m.size}/call/unknown/{BACKEND}"
    seen = set()
    for m, about in found:
        if m.id in seen:
            shown = plain(about["fullname"][:200])
            _refuse(f"{name}: {shown} stands there twice, so that nobody knows which one counts")
        seen.add(m.id)


def _started(text: str, name: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        # Before version 5 the time was written without its zone, which was UTC.
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        _refuse(f"{name}: its `datetime` is no date")
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _machine(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of the machine, in the shape of `bench.machine.capture`."""
    info = document["machine_info"]
    cpu = info.get("cpu") if isinstance(info.get("cpu"), dict) else {}
    commit = document.get("commit_info")
    commit = commit if isinstance(commit, dict) else {}
    flags = cpu.get("flags") if isinstance(cpu.get("flags"), list) else None
    revision = _text_or_none(commit.get("id"))
    count = cpu.get("count")
    machine: dict[str, Any] = {
        "host": _text_or_none(info.get("node")),
        "cpu": {
            # Before its version 6 py-cpuinfo called it `brand`.
            "model": _text_or_none(cpu.get("brand_raw")) or _text_or_none(cpu.get("brand")),
            "architecture": _text_or_none(info.get("machine")),
            "threads_present": count if type(count) is int and 0 < count < 10**6 else None,
            "isa": None if flags is None else [isa for isa in ISA.split() if isa in flags],
        },
        "gpus": None,
        "system": {
            "os": _text_or_none(info.get("system")),
            "kernel": _text_or_none(info.get("release")),
        },
        "python": {
            "version": _text_or_none(info.get("python_version")),
            "implementation": _text_or_none(info.get("python_implementation")),
            "compiler": _text_or_none(info.get("python_compiler")),
        },
        "packages": {"pytest-benchmark": _text(document["version"])},
        "git": {
            "revision": None if revision == "unversioned" else revision,
            "dirty": commit.get("dirty") if isinstance(commit.get("dirty"), bool) else None,
            "branch": _text_or_none(commit.get("branch")),
            "time": _text_or_none(commit.get("time")),
            "project": _text_or_none(commit.get("project")),
        },
    }
    unknown = {name: NOT_TOLD for name, value in machine.items() if value is None}
    for group, fields in machine.items():
        if isinstance(fields, dict):
            names = (name for name, value in fields.items() if value is None)
            unknown |= {f"{group}.{name}": NOT_TOLD for name in names}
    return {**machine, "unknown": unknown}


def _text_or_none(value: Any) -> str | None:
    return _text(value[:LONGEST_NAME]) if isinstance(value, str) and value else None


def _text(value: str) -> str:
    """Return `value` as Unicode: JSON may hold half of a character."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
