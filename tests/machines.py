"""Runs of invented machines, written as files, for the tests of comparisons."""

from pathlib import Path
from typing import Any

from bench import catalog
from bench.comparing.document import Questions, comparison_document
from bench.comparing.machines import Machine, machines
from bench.comparing.prices import Price, Prices, Use
from bench.comparing.side_by_side import choose_baseline, compare
from bench.report import Request
from bench.results.schema import Latency, Measurement, Run
from bench.results.writing import encode
from tests.runs import HOSTILE, hostile_run, interval, measurement, run

PRICES = Prices(
    currency="EUR",
    electricity_per_kwh=0.3,
    cooling_factor=1.0,
    lifetime_months=36.0,
    is_lifetime_assumed=False,
    use=Use(200.0, 4),
    machines={
        "desktop": Price(purchase=1000.0, hourly=None, as_of=None, source=None),
        "server": Price(purchase=None, hourly=0.69, as_of=None, source=None),
        "unseen": Price(purchase=3.0, hourly=None, as_of=None, source=None),
    },
)
NETWORKS = {"resnet50": 0.05, "mlp": 0.001}


def describe(gpu: str | None = "Synthetic GPU", **fields: Any) -> dict[str, Any]:
    """Return the description of a machine."""
    gpus = [{"name": gpu, "driver": "1.0"}] if gpu else []
    return {"cpu": {"model": "Synthetic CPU"}, "gpus": gpus, **fields}


def passes(
    factor: float = 1.0,
    *,
    watts: float | None = None,
    spread: float | None = 0.02,
    batches: tuple[int, ...] = (8, 32),
    **fields: Any,
) -> list[Measurement]:
    """Return networks forward and in training on a CPU, and `factor` as slow on a GPU."""
    found = []
    for network, seconds in NETWORKS.items():
        for phase, share in (("forward", 1), ("training_step", 3)):
            for batch in batches:
                for backend, device, slow in (
                    ("torch-cpu", "cpu", 20.0),
                    ("torch-cuda", "gpu", factor),
                ):
                    time = seconds * share * batch / 8 * slow
                    case: dict[str, Any] = {
                        "name": "imagenet",
                        "sizes": {"batch": batch},
                        "phase": phase,
                        "suite": "passes",
                        "device": device,
                        "spread": spread,
                        "input_digest": f"{network} {batch}",
                        "energy_joules": watts * time if watts and device == "gpu" else None,
                        **fields,
                    }
                    found.append(measurement(network, backend, time, **case))
    return found


def served(p99: float, *, spread: float | None = 0.02) -> Measurement:
    """Return a case of the latency suite."""
    latency = Latency(
        requests=1000,
        p50=interval(p99 / 2, spread),
        p90=interval(p99 * 0.8, spread),
        p99=interval(p99, spread),
        p999=None,
        jitter=None,
        requests_per_second=None,
    )
    return measurement(
        "resnet50",
        "torch-cuda",
        p99 / 2,
        name="imagenet",
        sizes={"batch": 1},
        phase="forward",
        suite="latency",
        device="gpu",
        input_digest="one request",
        concurrency=1,
        latency=latency,
    )


def box(label: str, factor: float = 1.0, *more: Measurement, **fields: Any) -> Run:
    """Return the run of a machine whose GPU takes `factor` times as long."""
    header = {"machine": fields.pop("machine", describe())}
    return run(*passes(factor, **fields), *more, label=label, **header)


def started(found: Run, moment: str) -> Run:
    """Return the run as begun at another moment, under another id."""
    found.header.started = moment
    found.header.id = f"run at {moment}"
    return found


def machine(found: Run) -> Machine:
    """Return one run as a machine."""
    return machines([found])[0]


def write(folder: Path, *runs: Run) -> list[Path]:
    """Write each run to a file of its own."""
    paths = []
    for number, found in enumerate(runs):
        path = folder / f"{number}.jsonl"
        lines = [found.header, *found.measurements, *([found.end] if found.end else [])]
        path.write_bytes(b"".join(encode(line) for line in lines))
        paths.append(path)
    return paths


def compared_page(*runs: Run, prices: Prices | None = PRICES) -> str:
    """Return the page of these runs beside each other."""
    found = machines(runs)
    comparison = compare(found, choose_baseline(found, None))
    document = comparison_document(comparison, found, Questions(prices=prices))
    return str(catalog.comparison_reports()["page"].render(document, Request()))


def cost_page() -> str:
    """Return the page of two machines with their prices."""
    return compared_page(box("desktop"), box("server", 0.2))


def hostile_page() -> str:
    """Return the page of two machines with texts that would be more than text."""
    other = hostile_run()
    other.header.label = f"{HOSTILE} two"
    return compared_page(hostile_run(), other, prices=None)
