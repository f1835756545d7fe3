import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.measuring import interference
from bench.measuring.interference import REST_CAP_SECONDS, Counters, disturbances, rest


def tree(
    folder: Path, *, waited_ms: int = 0, steal_ticks: int = 0, throttled: int = 0
) -> tuple[Path, Path]:
    """Write the files of the kernel that are read, as it writes them."""
    proc, cgroup = folder / "proc", folder / "cgroup"
    cgroup.mkdir(exist_ok=True)
    for task, share in (("71", 3), ("72", 1)):  # two threads, as 3 to 1
        (proc / "self/task" / task).mkdir(parents=True, exist_ok=True)
        waited = waited_ms * 1_000_000 * share // 4
        (proc / "self/task" / task / "schedstat").write_text(f"99999999999 {waited} 17\n")
    (proc / "stat").write_text(
        f"cpu  7123 11 6001 99990 401 0 77 {steal_ticks} 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
    )
    (cgroup / "cpu.stat").write_text(
        f"usage_usec 1\nnr_periods 10\nnr_throttled {throttled}\nthrottled_usec 5\n"
    )
    return proc, cgroup


def at(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    wall: float,
    *,
    waited_ms: int = 0,
    steal_ticks: int = 0,
    throttled: int = 0,
) -> Counters:
    """Read the counters at a moment of the clock; 100 ticks are a second."""
    proc, cgroup = tree(folder, waited_ms=waited_ms, steal_ticks=steal_ticks, throttled=throttled)
    monkeypatch.setattr(interference, "time", SimpleNamespace(perf_counter=lambda: wall))
    monkeypatch.setattr("os.sysconf", lambda _: 100)
    return Counters.read(proc, cgroup)


def test_a_quiet_time_is_undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = at(tmp_path, monkeypatch, 10.0, waited_ms=4, steal_ticks=70, throttled=3)
    after = at(tmp_path, monkeypatch, 12.0, waited_ms=104, steal_ticks=72, throttled=3)
    assert disturbances(before, after, cores=2) == []


def test_threads_that_wait_for_a_core_disturb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = at(tmp_path, monkeypatch, 10.0, waited_ms=1000)
    after = at(tmp_path, monkeypatch, 12.0, waited_ms=3000)
    assert disturbances(before, after, 2) == ["threads waited for a core 50% of the time"]


def test_a_hypervisor_that_takes_the_cores_disturbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = at(tmp_path, monkeypatch, 10.0, steal_ticks=100)
    after = at(tmp_path, monkeypatch, 12.0, steal_ticks=140)
    assert disturbances(before, after, 2) == ["the hypervisor took 10% of the cores' time"]
    assert disturbances(before, after, 20) == [], "of twenty cores it is one part in a hundred"


def test_a_quota_that_stops_the_process_disturbs_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = at(tmp_path, monkeypatch, 10.0, throttled=4)
    after = at(tmp_path, monkeypatch, 12.0, throttled=7)
    assert disturbances(before, after, 2) == ["the CPU quota stopped the process 3 times"]


def test_of_a_very_short_time_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = at(tmp_path, monkeypatch, 10.0)
    after = at(tmp_path, monkeypatch, 10.015, waited_ms=10, steal_ticks=5, throttled=1)
    assert disturbances(before, after, 2) == []


def test_the_older_place_of_the_quota_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.stat").write_text("nr_periods 1\nnr_throttled 12\n")
    assert Counters.read(tmp_path, tmp_path).throttled == 12


def test_a_system_that_tells_nothing_is_no_disturbance(tmp_path: Path) -> None:
    nothing = Counters.read(tmp_path, tmp_path)
    assert (nothing.waited, nothing.steal, nothing.throttled) == (None, None, None)
    later = Counters(nothing.wall + 5, None, None, None)
    assert disturbances(nothing, later, 2) == []
    known = Counters(nothing.wall + 5, 99.0, 99.0, 99)
    assert disturbances(nothing, known, 2) == [], "one reading alone says nothing"


def test_files_that_hold_something_else_are_passed_over(tmp_path: Path) -> None:
    proc, cgroup = tree(tmp_path)
    for task in proc.glob("self/task/*/schedstat"):
        task.write_text("")
    (proc / "stat").write_text("cpu 1 2\n")
    (cgroup / "cpu.stat").write_text("nr_throttled many\n")
    found = Counters.read(proc, cgroup)
    assert (found.waited, found.steal, found.throttled) == (None, None, None)


class Process:
    """A process in virtual time whose threads use `busy` cores until a moment."""

    def __init__(self, busy: float, until: float) -> None:
        self.now, self.used = 100.0, 0.0
        self.busy, self.until = busy, 100.0 + until

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.used

    def sleep(self, seconds: float) -> None:
        self.used += self.busy * max(0.0, min(seconds, self.until - self.now))
        self.now += seconds


@pytest.mark.parametrize(
    ("process", "least", "most"),
    [
        (Process(busy=0.0, until=9.0), 0.0, 0.01),
        (Process(busy=2.0, until=0.11), 0.11, 0.12),
        (Process(busy=2.0, until=9.0), REST_CAP_SECONDS, REST_CAP_SECONDS + 0.01),
    ],
    ids=["idle", "spinning for 110 ms", "never resting"],
)
def test_a_worker_rests_until_its_threads_do(
    process: Process, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interference, "time", process)
    rest()
    assert least <= process.now - 100.0 <= most


def test_the_counters_of_this_very_system_can_be_read() -> None:
    begin = time.perf_counter()
    assert Counters.read().wall >= begin
