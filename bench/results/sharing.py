"""Makes a copy of a run file that is fit to pass on.

What is copied is listed here or in the schema; whatever else the file holds is left out. Numbers
are copied to the byte.
"""

import getpass
import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from bench.errors import RunFileError
from bench.fitness import SPEED_VARIABLES, THREAD_VARIABLES
from bench.results.reading import KINDS, RunLines, read_lines, read_run
from bench.results.schema import CaseLine, Measurement, Run
from bench.results.scrubbing import Scrubber, users_in
from bench.text import plain

Tree = Mapping[str, Any]

EACH: Final = "*"
"""Any key of an object."""
_LEAF: Final[Tree] = {}
"""A text, a number, or a list of them; an object is left out."""


def _leaves(names: str) -> dict[str, Tree]:
    return dict.fromkeys(names.split(), _LEAF)


_POOL: Final = _leaves(
    "user_api internal_api prefix version num_threads architecture threading_layer"
)
_ENVIRONMENT: Final = (
    *THREAD_VARIABLES,
    *SPEED_VARIABLES,
    *("OMP_DYNAMIC", "OMP_PLACES", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "MKL_DYNAMIC"),
    *("KMP_AFFINITY", "KMP_BLOCKTIME", "GOMP_CPU_AFFINITY", "GOMP_SPINCOUNT", "CUPY_TF32"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_MODULE_LOADING", "LD_PRELOAD"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
MACHINE: Final[Tree] = {
    "cpu": {
        **_leaves("model architecture cores_present threads_present cores_allowed threads_allowed"),
        **_leaves("isa hypervisor governor boost smt frequency_hertz microcode"),
        "caches": {EACH: _LEAF},
    },
    "memory": _leaves("total_bytes available_bytes transparent_hugepages"),
    "gpus": {
        **_leaves("index name memory_bytes compute_capability driver cuda_driver_version mig ecc"),
        **_leaves("power_limit_watts power_limit_default_watts max_sm_clock_hertz persistence"),
        **_leaves("other_processes"),
    },
    "system": _leaves("os kernel distribution clocksource container libc aslr loadavg"),
    "python": _leaves("version implementation compiler"),
    "packages": {EACH: _LEAF},
    "package_files": {EACH: _LEAF},
    "libraries": {
        EACH: {
            **_leaves("version distribution blas blas_version simd isa onednn threads hip"),
            **_leaves("cuda_build cuda_runtime cuda_driver cudnn cudnn_benchmark"),
            **_leaves("cudnn_deterministic cudnn_allow_tf32 matmul_allow_tf32 CUPY_TF32"),
            **_leaves("float32_matmul_precision gpu gpu_memory_bytes gpu_multiprocessors"),
            "threadpools": _POOL,
        }
    },
    "environment": dict.fromkeys(_ENVIRONMENT, _LEAF),
    "git": _leaves("revision dirty"),
    "unknown": {EACH: _LEAF},
}
SETTINGS: Final[Tree] = {
    **_leaves("suites backends gpu cache energy dtypes preset minutes only batches threads blocks"),
    **_leaves("fresh_pairs"),
    **_leaves("max_seconds timeout seed model inputs compiled concurrency rates latency_bound"),
    **_leaves("imported_from"),
    "sizes": {EACH: _LEAF},
    "budget": _leaves("warmup_seconds warmup_cap_seconds sampling_seconds visits precision"),
}
NAMES: Final = frozenset(
    (
        *("id", "suite", "workload", "size", "sizes", "phase", "dtype", "backend", "variant"),
        *("device", "status", "verified", "input_digest", "networks", "os", "name", "kind"),
        *("bench_version", "started", "finished", "only"),
    )
)
"""Fields that hold no prose: a host called `epyc` must not take the CPU's name away."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The copy, and how often which field was left out of it or changed."""

    content: bytes
    run: Run
    removed: Mapping[str, int]
    changed: Mapping[str, int]


def share(path: Path) -> Shared:
    """Return a copy of the run in `path` that tells nothing of hosts, people, paths and devices.

    Label and names of cases are kept.

    Raises:
        RunFileError: The file is no valid run, or was cut short.
    """
    original = read_run(path)
    lines = read_lines(path)
    if lines.cut:
        raise RunFileError(lines.cut)
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    host = original.header.machine.get("host")
    hosts = {host, host.partition(".")[0]} if isinstance(host, str) else set()
    users = users_in(text.decode(errors="replace").replace("\\\\", "\\")) | _current_user()
    copy = _Copy(lines, Scrubber(hosts - {"", "localhost"}, users))
    content = b"".join(
        copy.line(line, f"{plain(str(path))}, line {number}")
        for number, line in enumerate(text.split(b"\n"), start=1)
        if line.strip()
    )
    return Shared(
        content=content,
        run=_checked(content, original),
        removed=copy.removed,
        changed=copy.changed,
    )


def _current_user() -> set[str]:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number without a name
        return set()
    return set() if name == "root" or len(name) < 3 else {name}


def _checked(content: bytes, original: Run) -> Run:
    """Read the copy back as anyone would; its numbers are those of the original."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shared.jsonl"
        path.write_bytes(content)
        run = read_run(path)
    if [_numbers(m) for m in run.measurements] != [_numbers(m) for m in original.measurements]:
        raise AssertionError("the copy has other numbers than the original")
    return run


def _numbers(m: Measurement) -> tuple[Any, ...]:
    return (
        *(m.status, m.sizes, m.flops, m.bytes_moved, m.peak_bytes, m.energy_joules, m.latency),
        *(getattr(m, name) for name in Measurement.metrics),
        *((b.seconds, b.host_seconds, b.device_seconds, b.end_to_end_seconds) for b in m.blocks),
    )


class _Copy:
    """Copies lines field by field, and counts what it leaves out or changes."""

    def __init__(self, lines: RunLines, scrubber: Scrubber) -> None:
        self.removed: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self._scrubber = scrubber
        self._ids: dict[str, str] = {}
        for case in lines.cases:
            self._learn(case)
        for measurement in lines.measurements:
            self._learn(measurement)

    def _learn(self, case: CaseLine | Measurement) -> None:
        """Make the new id of the new workload and size, so that the parts still fit."""
        prefix = f"{case.workload}/{case.size}/"
        workload, size = self._scrubber.name(case.workload), self._scrubber.name(case.size)
        if case.id.startswith(prefix):
            rest = self._scrubber.name(case.id.removeprefix(prefix))
            renamed = msgspec.structs.replace(
                case, workload=workload, size=size, id=f"{workload}/{size}/{rest}"
            )
            self._ids |= {case.id: renamed.id, case.sweep: renamed.sweep}

    def line(self, text: bytes, where: str) -> bytes:
        """Return the copy of a line; nothing for a line of a kind that is not known."""
        try:
            value = json.loads(text, parse_int=_verbatim, parse_float=_verbatim)
        except (ValueError, RecursionError):
            raise RunFileError(f"{where}: nested too deeply; remove what another wrote") from None
        kind = KINDS.get(value["kind"])
        if kind is None:
            self.removed[f"lines of kind {value['kind']}"] += 1
            return b""
        copied = self._struct(value, inspect.type_info(kind), value["kind"])
        return msgspec.json.encode({"kind": value["kind"], **copied}) + b"\n"

    def _struct(self, value: Mapping[str, Any], kind: inspect.Type, where: str) -> dict[str, Any]:
        assert isinstance(kind, inspect.StructType)
        known = {field.encode_name: field.type for field in kind.fields}
        for name in value.keys() - known.keys() - {"kind"}:
            self.removed[f"{where}.{name}"] += 1
        return {
            name: self._field(item, known[name], f"{where}.{name}")
            for name, item in value.items()
            if name in known
        }

    def _field(self, value: Any, kind: inspect.Type, where: str) -> Any:
        match where:
            case "run.machine":
                return self._tree(value, MACHINE, where)
            case "run.settings":
                return self._tree(value, SETTINGS, where)
            case "run.command":
                if value:
                    self.removed[where] += 1
                return []
            case "run.label":
                return value
        return self._typed(value, kind, where)

    def _typed(self, value: Any, kind: inspect.Type, where: str) -> Any:
        if isinstance(kind, inspect.UnionType) and value is not None:
            kind = next(t for t in kind.types if not isinstance(t, inspect.NoneType))
        match value:
            case dict() if isinstance(kind, inspect.StructType):
                return self._struct(value, kind, where)
            case dict():
                assert isinstance(kind, inspect.DictType)
                return {
                    self._text(name, where): self._typed(item, kind.value_type, where)
                    for name, item in value.items()
                }
            case list():
                assert isinstance(kind, inspect.ListType)
                return [self._typed(item, kind.item_type, where) for item in value]
            case str():
                return self._text(value, where)
        return value

    def _tree(self, value: Any, tree: Tree, where: str) -> Any:
        """Copy what `tree` lists of an object whose fields the schema leaves open."""
        match value:
            case dict():
                kept = {}
                for name, item in value.items():
                    inner = tree.get(name, tree.get(EACH))
                    if inner is None or (_holds_objects(item) and not inner):
                        self.removed[f"{where}.{name}"] += 1
                        continue
                    key = self._text(name, f"{where}.keys") if EACH in tree else name
                    kept[key] = self._tree(item, inner, f"{where}.{name}")
                return kept
            case list():
                return [self._tree(item, tree, where) for item in value]
            case str():
                return self._text(value, where)
        return value

    def _text(self, text: str, where: str) -> str:
        field = "unknown" if ".unknown" in where else where.rpartition(".")[2]
        if field == "model" and not where.endswith("cpu.model"):
            # A file is named by its last part; `package.module:factory` stays as it is.
            cleaned = self._scrubber.prose(re.sub(r"^.*[\\/]", "", text))
        elif text in self._ids and field in ("id", "case", "sweep"):
            cleaned = self._ids[text]
        elif field in NAMES or where.endswith("cpu.model"):
            cleaned = self._scrubber.name(text)
        else:
            cleaned = self._scrubber.prose(text)
        if cleaned != text:
            self.changed[where] += 1
        return cleaned


def _holds_objects(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_holds_objects, value)))


def _verbatim(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())
