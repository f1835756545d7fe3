from pathlib import Path

import pytest

from bench.backends.numpy import NumpyBackend
from bench.measuring import memory
from bench.measuring.memory import PeakMemory
from tests.fakes import FakeDevice


def process(folder: Path, resident_kib: int, peak_kib: int) -> None:
    """Write what the kernel tells of a process."""
    (folder / "status").write_text(
        f"Name:\tpython\nVmPeak:\t 9000000 kB\nVmHWM:\t {peak_kib} kB\nVmRSS:\t {resident_kib} kB\n"
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    return tmp_path


def test_a_device_tells_its_own_peak_without_what_other_cases_hold(folder: Path) -> None:
    device = FakeDevice()
    others = device.empty(100)
    with PeakMemory(device, 0) as peak:
        mine = device.empty(1000)
        device.empty(500)
    assert peak.bytes == 4000 + 2000
    assert len({id(others), id(mine)}) == 2, "both are still held"


def test_a_gpu_without_a_counter_is_not_taken_for_the_process(folder: Path) -> None:
    class Uncounted(FakeDevice):
        def peak_bytes(self) -> int | None:
            return None

    with PeakMemory(Uncounted(), 0) as peak:
        pass
    assert peak.bytes is None
    assert peak.unknown == "fake counts no peak of its device's memory"


def test_a_peak_of_before_does_not_count(folder: Path) -> None:
    device = FakeDevice()
    device.empty(100_000)
    with PeakMemory(device, 0) as peak:
        device.empty(1000)
    assert peak.bytes == 4000


def test_on_a_cpu_it_is_what_the_process_took_on_top(folder: Path) -> None:
    process(folder, 50_000, 90_000)
    with PeakMemory(NumpyBackend(), least=1000) as peak:
        process(folder, 60_000, 70_000)
    assert peak.bytes == 20_000 * 1024
    assert (folder / "clear_refs").read_text() == "5", "the kernel was asked to forget the peak"


def test_memory_that_was_used_again_leaves_the_peak_unknown(folder: Path) -> None:
    process(folder, 50_000, 50_000)
    with PeakMemory(NumpyBackend(), least=1024 * 1024) as peak:
        process(folder, 50_000, 50_100)
    assert peak.bytes is None
    assert peak.unknown == "too small for the process's memory counters"


def test_a_system_that_does_not_tell_leaves_the_peak_unknown(folder: Path) -> None:
    folder.rmdir()
    with PeakMemory(NumpyBackend(), least=0) as peak:
        pass
    assert peak.bytes is None
    assert peak.unknown == "this system does not tell a process's peak of memory"


def test_an_error_passes_through_the_watch(folder: Path) -> None:
    with pytest.raises(ValueError, match="of its own"), PeakMemory(FakeDevice(), 0):
        raise ValueError("of its own")
