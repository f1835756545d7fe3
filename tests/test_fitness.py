from typing import Any

import pytest

from bench.fitness import Finding, check
from bench.machine import NO_DRIVER

GIB = 2**30


def machine(**groups: Any) -> dict[str, Any]:
    """Describe a machine with nothing to complain about, with some groups changed."""
    fit: dict[str, Any] = {
        "cpu": {
            "model": "Example 9000",
            "cores_present": 8,
            "threads_present": 16,
            "cores_allowed": 8,
            "governor": "performance",
            "boost": True,
            "hypervisor": False,
            "frequency_hertz": 3_000_000_000,
        },
        "memory": {"available_bytes": 32 * GIB},
        "gpus": [],
        "system": {"clocksource": "tsc", "loadavg": [0.1, 0.1, 0.1]},
        "packages": {"numpy": "2.4.6"},
        "libraries": {},
        "environment": {},
        "unknown": {"gpus": NO_DRIVER},
    }
    for name, fields in groups.items():
        fit[name] = fields if isinstance(fields, list) else {**fit[name], **fields}
    return fit


def gpu(**fields: Any) -> list[dict[str, Any]]:
    """Describe a single GPU in order, with some fields changed."""
    fit = {
        "index": 3,
        "name": "NVIDIA H200",
        "memory_bytes": 141 * GIB,
        "driver": "570.86",
        "power_limit_watts": 700.0,
        "power_limit_default_watts": 700.0,
        "mig": False,
        "other_processes": 0,
        "ecc": True,
    }
    return [{**fit, **fields}]


def complaints(described: dict[str, Any], **pressure: float) -> list[Finding]:
    found = [finding for finding in check(described, pressure) if finding.level != "ok"]
    assert all(finding.remedy for finding in found)
    return found


def the_complaint(described: dict[str, Any], **pressure: float) -> Finding:
    (finding,) = complaints(described, **pressure)
    return finding


def line(described: dict[str, Any], subject: str) -> Finding:
    (finding,) = (finding for finding in check(described) if finding.subject == subject)
    return finding


def test_a_fit_machine_gets_only_ok_lines() -> None:
    assert complaints(machine(gpus=gpu()), cpu_some_avg10=0.5, steal=0.0, load_per_core=0.05) == []
    subjects = [finding.subject for finding in check(machine(gpus=gpu()))]
    assert subjects == [
        "CPU",
        "governor",
        "clocks",
        "timer",
        "memory",
        "NumPy",
        "GPU 3",
        "other work",
    ]


@pytest.mark.parametrize("unknown", [{}, {"cpu": None, "memory": {}, "gpus": None}])
def test_what_is_not_known_is_not_held_against_the_machine(unknown: dict[str, Any]) -> None:
    assert [f.subject for f in complaints({**unknown, "packages": {"numpy": "2"}})] == []


def test_every_null_field_is_passed_over() -> None:
    described: dict[str, Any] = {
        name: dict.fromkeys(fields) if isinstance(fields, dict) else fields
        for name, fields in machine().items()
    }
    described |= {"packages": {"numpy": "2"}, "gpus": [dict.fromkeys(gpu()[0])]}
    assert complaints(described) == []


def test_a_small_slice_of_a_big_machine_is_no_cpu_to_buy() -> None:
    finding = the_complaint(machine(cpu={"cores_allowed": 2, "cores_present": 384}))
    assert finding.level == "warning"
    assert "2 of 384 cores: this CPU is not one you would buy" in finding.what


@pytest.mark.parametrize(("allowed", "present"), [(4, 8), (8, 8), (1, 2), (1, 1)])
def test_half_the_cores_or_more_are_no_small_slice(allowed: int, present: int) -> None:
    described = machine(cpu={"cores_allowed": allowed, "cores_present": present})
    assert complaints(described) == []
    assert f"{allowed} of {present} cores" in line(described, "CPU").what


def test_a_governor_that_follows_the_load_is_warned_of_with_the_command() -> None:
    finding = the_complaint(machine(cpu={"governor": "powersave"}))
    assert finding.level == "warning"
    assert finding.remedy == "sudo cpupower frequency-set -g performance"


@pytest.mark.parametrize(
    ("cpu", "said"),
    [
        ({"hypervisor": True, "frequency_hertz": None}, "virtual machine"),
        ({"hypervisor": True, "boost": False}, "boost is off"),
        ({"boost": True}, "boost is on"),
    ],
)
def test_what_can_be_known_of_the_clocks_is_noted(cpu: dict[str, Any], said: str) -> None:
    assert said in line(machine(cpu=cpu), "clocks").what


@pytest.mark.parametrize(
    ("available", "level"),
    [
        (GIB - 1, "problem"),
        (GIB, "warning"),
        (4 * GIB - 1, "warning"),
        (4 * GIB, "ok"),
        (0, "problem"),
    ],
)
def test_too_little_memory_is_told_before_workers_are_killed(available: int, level: str) -> None:
    assert line(machine(memory={"available_bytes": available}), "memory").level == level


@pytest.mark.parametrize(
    ("pressure", "level"),
    [
        ({"cpu_some_avg10": 9.0}, "ok"),
        ({"cpu_some_avg10": 11.0}, "warning"),
        ({"cpu_some_avg10": 51.0}, "problem"),
        ({"load_per_core": 0.2}, "ok"),
        ({"load_per_core": 0.3}, "warning"),
        ({"load_per_core": 0.6}, "problem"),
        ({"load_per_core": 0.1, "cpu_some_avg10": 60.0}, "problem"),
    ],
)
def test_other_work_is_a_warning_and_half_the_machine_a_problem(
    pressure: dict[str, float], level: str
) -> None:
    (finding,) = (f for f in check(machine(), pressure) if f.subject == "other work")
    assert finding.level == level


def test_without_a_live_reading_the_load_average_speaks_for_all_cpus() -> None:
    finding = the_complaint(machine(system={"loadavg": [12.0, 1.0, 1.0]}))
    assert (finding.subject, finding.level) == ("other work", "problem")
    assert "0.75 per core" in finding.what
    assert complaints(machine(system={"loadavg": [12.0, 1.0, 1.0]}), load_per_core=0.0) == []


@pytest.mark.parametrize(("steal", "level"), [(0.02, "warning"), (0.2, "problem")])
def test_time_stolen_by_the_host_is_told(steal: float, level: str) -> None:
    finding = the_complaint(machine(), steal=steal)
    assert (finding.subject, finding.level) == ("stolen time", level)
    assert f"{steal:.1%}" in finding.what


def test_a_machine_without_numpy_is_unfit() -> None:
    finding = the_complaint(machine(packages={"numpy": None}))
    assert (finding.subject, finding.level) == ("NumPy", "problem")
    assert "pip install" in (finding.remedy or "")


def pool(user_api: str, prefix: str, num_threads: int | None = 8) -> dict[str, Any]:
    return {
        "user_api": user_api,
        "prefix": prefix,
        "version": "1.0",
        "num_threads": num_threads,
        "architecture": None,
    }


@pytest.mark.parametrize(
    ("pools", "kind"),
    [
        ([pool("blas", "libscipy_openblas"), pool("blas", "libmkl_rt")], "BLAS"),
        ([pool("openmp", "libgomp"), pool("openmp", "libiomp")], "OpenMP"),
    ],
)
def test_two_runtimes_of_a_kind_in_one_process_are_named(
    pools: list[dict[str, Any]], kind: str
) -> None:
    (finding,) = complaints(machine(libraries={"torch-cpu": {"threadpools": pools}}))
    assert (finding.subject, finding.level) == ("torch-cpu", "warning")
    assert f"2 {kind} libraries" in finding.what
    assert all(f"{one['prefix']} 1.0" in finding.what for one in pools)


def test_a_blas_beside_an_openmp_or_in_another_process_is_as_it_should_be() -> None:
    described = machine(
        libraries={
            "torch-cpu": {"threadpools": [pool("blas", "openblas"), pool("openmp", "libgomp")]},
            "numpy": {"threadpools": [pool("blas", "openblas")]},
            "cupy": {"version": "14"},
            "other": {"threadpools": [pool("blas", "blis", None)]},
        }
    )
    assert complaints(described) == []
    assert "openblas 1.0 with 8 threads" in line(described, "numpy").what


def test_more_threads_than_cores_is_a_problem() -> None:
    pools = [pool("openmp", "libgomp", 8), pool("blas", "openblas", 64)]
    finding = the_complaint(machine(libraries={"numpy": {"threadpools": pools}}))
    assert (finding.subject, finding.level) == ("numpy", "problem")
    assert "openblas 1.0 runs 64 threads on 8 allowed cores" in finding.what


@pytest.mark.parametrize("clock", ["tsc", "kvm-clock", "arch_sys_counter"])
def test_a_fast_clock_is_ok(clock: str) -> None:
    assert line(machine(system={"clocksource": clock}), "timer").level == "ok"


@pytest.mark.parametrize("clock", ["hpet", "acpi_pm", "jiffies"])
def test_a_slow_clock_is_warned_of(clock: str) -> None:
    finding = the_complaint(machine(system={"clocksource": clock}))
    assert (finding.subject, finding.level) == ("timer", "warning")
    assert clock in finding.what


def test_thread_variables_that_the_run_overrides_are_named_together() -> None:
    variables = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "4", "OMP_PROC_BIND": "true"}
    finding = the_complaint(machine(environment=variables))
    assert finding.level == "warning"
    assert finding.what.startswith("OMP_NUM_THREADS=1, MKL_NUM_THREADS=4:")


@pytest.mark.parametrize(
    ("name", "value"),
    [("LD_PRELOAD", "libjemalloc.so"), ("ONEDNN_MAX_CPU_ISA", "AVX2"), ("OPENBLAS_CORETYPE", "x")],
)
def test_a_variable_that_changes_speed_is_warned_of(name: str, value: str) -> None:
    finding = the_complaint(machine(environment={name: value}))
    assert finding.level == "warning"
    assert f"{name}={value}" in finding.what
    assert f"unset {name}" in (finding.remedy or "")


@pytest.mark.parametrize("unknown", [{"gpus": NO_DRIVER}, {"gpus": None}])
def test_a_machine_without_a_gpu_is_fit(unknown: dict[str, Any]) -> None:
    assert line(machine(unknown=unknown), "GPU").level == "ok"


def test_a_driver_that_does_not_answer_is_not_taken_for_a_machine_without_a_gpu() -> None:
    finding = the_complaint(machine(unknown={"gpus": "Driver/library version mismatch"}))
    assert (finding.subject, finding.level) == ("GPU", "warning")
    assert "version mismatch" in finding.what


@pytest.mark.parametrize(("ecc", "said"), [(True, "ECC on"), (False, "ECC off"), (None, "570.86")])
def test_a_gpu_is_named_with_what_tells_it_from_others(ecc: bool | None, said: str) -> None:
    what = line(machine(gpus=gpu(ecc=ecc)), "GPU 3").what
    assert what.startswith("NVIDIA H200, 141 GiB, driver 570.86")
    assert what.endswith(said)


@pytest.mark.parametrize(
    ("fields", "what", "remedy"),
    [
        ({"other_processes": 1}, "1 other process on it", "nvidia-smi"),
        ({"other_processes": 2}, "2 other processes on it", "nvidia-smi"),
        ({"power_limit_watts": 500.0}, "500 W of 700 W", "sudo nvidia-smi -i 3 -pl 700"),
        ({"mig": True}, "MIG is on", "sudo nvidia-smi -i 3 -mig 0"),
    ],
)
def test_a_gpu_that_is_shared_or_held_back_is_warned_of(
    fields: dict[str, Any], what: str, remedy: str
) -> None:
    finding = the_complaint(machine(gpus=gpu(**fields)))
    assert (finding.subject, finding.level) == ("GPU 3", "warning")
    assert what in finding.what
    assert remedy in (finding.remedy or "")


def test_a_power_limit_rounded_by_the_driver_is_not_lowered() -> None:
    assert complaints(machine(gpus=gpu(power_limit_watts=699.9))) == []
