import subprocess
import sys

import pytest

from bench.running.worker_process import ALLOCATOR, THREAD_VARIABLES, worker_environment

LAYOUT = {"hash_seed": 7, "padding": 100}
ALLOCATE = """
import resource

for _ in range(20):
    array = b"x" * (16 << 20)
    del array
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    array = b"x" * (16 << 20)
    del array
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(environment: dict[str, str]) -> int:
    """Return the page faults of a process that makes a new array of 16 MiB twenty times."""
    command = [sys.executable, "-c", ALLOCATE]
    return int(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def test_threads_are_set_before_the_import_and_the_layout_is_drawn() -> None:
    environment = worker_environment(3, "1", LAYOUT)
    assert {environment[name] for name in THREAD_VARIABLES} == {"3"}
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["PYTHONHASHSEED"] == "7"
    assert len(environment["BENCH_PADDING"]) == 100


def test_threads_that_never_rest_are_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert "OMP_WAIT_POLICY" not in worker_environment(2, None, LAYOUT)


def test_the_users_own_settings_of_the_allocator_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "65536")
    environment = worker_environment(2, None, LAYOUT)
    assert environment["MALLOC_MMAP_MAX_"] == "65536"
    assert {name: environment[name] for name in ALLOCATOR} != ALLOCATOR


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator of glibc")
def test_a_worker_does_not_get_the_pages_of_its_arrays_anew_in_each_call() -> None:
    environment = worker_environment(2, None, LAYOUT)
    assert ALLOCATOR.items() <= environment.items()
    assert faults(environment) < 100  # each array has 4096 pages
