"""The pytest plugin, on top of pytest-benchmark: the fixture `device_benchmark`, and whole suites.

It stays silent where pytest-benchmark is not installed or switched off. PYTEST_DONT_REWRITE: this
file has no assertions that pytest would have to explain.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

CALIBRATION: Final = 100
"""A round lasts so many times what reading the timer costs, synchronisation included: 1% of it."""

_TORCH_GPUS: Final = ("cuda", "xpu")
"""Modules of PyTorch; ROCm's is called `cuda`, too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what chooses the cases of a suite."""
    group = parser.getgroup("bench", "suites of nn-bench as benchmarks (needs pytest-benchmark)")
    group.addoption(
        "--bench-suite",
        action="append",
        default=[],
        metavar="NAME",
        help="Time the cases of a suite, such as matmul (repeatable). Without paths, these alone.",
    )
    group.addoption(
        "--bench-preset",
        default="quick",
        metavar="NAME",
        help="Which sizes: quick, standard or thorough. Default: %(default)s.",
    )
    group.addoption(
        "--bench-only",
        action="append",
        default=[],
        metavar="GLOB",
        help="Only cases whose id matches, of any preset (repeatable).",
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Begin to work if pytest-benchmark does."""
    suites = config.getoption("--bench-suite")
    if config.getoption("benchmark_timer", None) is not None:
        config.pluginmanager.register(DeviceBenchmark(), "bench-device")
        if suites:
            from bench.pytest_suite import SuiteCases

            config.pluginmanager.register(SuiteCases(config), "bench-suite")
    elif suites:
        raise pytest.UsageError(
            "--bench-suite needs pytest-benchmark, which is not installed or switched off;"
            " pip install pytest-benchmark"
        )


class DeviceBenchmark:
    """Gives the tests that ask for `device_benchmark` a timer that waits for the device."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Set the options of a test before pytest-benchmark reads them; what it says itself holds.

        The nearest mark is the one that counts, so that it repeats what the others say.
        """
        if "device_benchmark" not in getattr(item, "fixturenames", ()):
            return
        mark = item.get_closest_marker("benchmark")
        own = dict(mark.kwargs) if mark else {}
        clock = own.get("timer") or _clock(item.config)
        options = {
            "warmup": True,
            "calibration_precision": max(
                CALIBRATION, item.config.getoption("benchmark_calibration_precision")
            ),
            **own,
            "timer": synchronised(clock),
        }
        # Other arguments of the mark are an error that pytest-benchmark explains.
        args = mark.args if mark else ()
        item.add_marker(pytest.mark.benchmark(*args, **options), append=False)

    @pytest.fixture
    def device_benchmark(self, benchmark: Any) -> Any:
        """Return pytest-benchmark's `benchmark`, warmed up, with the device waited for.

        Before and after every round all work launched through PyTorch or CuPy is finished, so that
        a GPU's time is that of the work and not of its launch. On a CPU nothing differs but the
        warm-up.
        """
        return benchmark


def _clock(config: pytest.Config) -> Callable[[], float]:
    """Return the function that --benchmark-timer names."""
    module, _, name = config.getoption("benchmark_timer").rpartition(".")
    __import__(module)
    clock: Callable[[], float] = getattr(sys.modules[module], name)
    return clock


def synchronised(clock: Callable[[], float]) -> Callable[[], float]:
    """Return a timer that waits for the devices, then reads `clock`.

    Each has an identity of its own, because pytest-benchmark remembers what a timer costs: before
    a GPU is first used that is less than after it.
    """

    def timer() -> float:
        synchronize()
        return clock()

    timer.__name__ = f"synchronised_{getattr(clock, '__name__', 'clock')}"
    return timer


def synchronize() -> None:
    """Wait for all work on the devices that this process has used; import nothing for it."""
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        _synchronize_torch(torch)
    cupy: Any = sys.modules.get("cupy")
    if cupy is not None and cupy.is_available():
        cupy.cuda.Device().synchronize()


def _synchronize_torch(torch: Any) -> None:
    for name in _TORCH_GPUS:
        module = getattr(torch, name, None)
        if module is not None and module.is_initialized():
            _synchronize_all(torch, name, module)
    if hasattr(torch, "backends") and torch.backends.mps.is_available():
        torch.mps.synchronize()


def _synchronize_all(torch: Any, name: str, module: Any) -> None:
    """Wait for every GPU that has a context: waiting for another one would open one on it."""
    count = module.device_count()
    is_used = getattr(getattr(torch, "_C", None), f"_{name}_hasPrimaryContext", None)
    if count == 1 or is_used is None:
        module.synchronize()
        return
    for index in filter(is_used, range(count)):
        module.synchronize(index)
