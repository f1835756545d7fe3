from collections.abc import Sequence
from typing import Any

import pytest

from bench.results.schema import (
    FAULTS,
    BlockLine,
    CaseLine,
    Interval,
    Measurement,
    OutcomeLine,
    Status,
)
from bench.results.summary import summarise

UNREACHED = "not reached within --minutes 1"


def case(n: int = 64, **fields: Any) -> CaseLine:
    values: dict[str, Any] = {
        "id": f"matmul/n={n}/call/float32/numpy",
        "suite": "matmul",
        "workload": "matmul",
        "workload_version": 3,
        "size": f"n={n}",
        "sizes": {"n": n},
        "phase": "call",
        "dtype": "float32",
        "backend": "numpy",
        "threads": 2,
        "device": "cpu",
        "flops": 2 * n**3,
        "bytes_moved": 12 * n * n,
    }
    return CaseLine(**{**values, **fields})


def block(number: int, seconds: Sequence[float] = (1.0,), n: int = 64, **fields: Any) -> BlockLine:
    values: dict[str, Any] = {
        "suite": "matmul",
        "case": f"matmul/n={n}/call/float32/numpy",
        "block": number,
        "input_digest": "0a1b",
        "verified": "full",
        "seconds": list(seconds),
        "host_seconds": [2 * s for s in seconds],
        "calls_per_sample": 4,
        "warmup_calls": 3,
        "first_call_seconds": 0.1,
        "order": 0,
    }
    return BlockLine(**{**values, **fields})


def outcome(status: Status, number: int = 0, n: int = 64) -> OutcomeLine:
    name = f"matmul/n={n}/call/float32/numpy"
    return OutcomeLine(suite="matmul", case=name, block=number, status=status, reason="why")


def one(
    blocks: Sequence[BlockLine] = (), outcomes: Sequence[OutcomeLine] = (), **fields: Any
) -> Measurement:
    (found,) = summarise([case(**fields)], blocks, outcomes, UNREACHED)
    return found


def test_a_measurement_is_the_case_with_its_blocks_in_order() -> None:
    planned = case(batch=8, variant="tuned", model="m")
    (found,) = summarise([planned], [block(1, [3.0]), block(0, [2.0])], [], UNREACHED)
    for name in set(CaseLine.__struct_fields__) - {"skipped"}:
        assert getattr(found, name) == getattr(planned, name), name
    assert [b.seconds for b in found.blocks] == [[2.0], [3.0]]
    assert found.blocks[0].calls_per_sample == 4
    assert (found.status, found.reason) == ("ok", None)
    assert (found.input_digest, found.verified) == ("0a1b", "full")


def test_a_time_is_the_median_of_the_medians_of_the_blocks() -> None:
    found = one([block(0, [1.0, 1.0, 9.0]), block(1, [2.0]), block(2, [0.5, 3.0, 4.0])])
    assert found.seconds is not None
    assert (found.seconds.median, found.seconds.min) == (2.0, 0.5)
    assert found.seconds.low is not None
    assert found.seconds.low < 2.0


def test_one_block_has_a_time_but_no_interval() -> None:
    found = one([block(0, [1.0, 2.0, 4.0])])
    assert found.seconds == Interval(median=2.0, low=None, high=None, min=1.0)


def test_a_skipped_case_has_its_reason_and_no_number() -> None:
    found = one(skipped="not installed: pip install cupy-cuda12x")
    assert (found.status, found.reason) == ("skipped", "not installed: pip install cupy-cuda12x")
    assert (found.seconds, found.blocks, found.unknown) == (None, [], {})


def test_a_case_without_a_block_was_not_reached() -> None:
    found = one([block(0, n=128)])
    assert (found.status, found.reason) == ("skipped", UNREACHED)


@pytest.mark.parametrize("status", sorted(FAULTS))
def test_what_went_wrong_counts_even_after_blocks_that_went_well(status: Status) -> None:
    found = one([block(0), block(1)], [outcome(status, 2)])
    assert (found.status, found.reason) == (status, "why")
    assert [getattr(found, metric) for metric in Measurement.metrics] == [None] * 4
    assert (found.relative_error, found.peak_bytes) == (None, None)
    assert len(found.blocks) == 2
    assert found.input_digest == "0a1b"


def test_the_blocks_of_a_case_that_went_wrong_do_not_touch_the_others() -> None:
    cases = [case(n) for n in range(1, 8)]
    blocks = [block(b, [1 + 0.01 * b + 0.001 * n * b], n) for n in range(1, 7) for b in range(3)]
    wild = [block(b, [10.0**b], 7) for b in range(3)]
    alone = summarise(cases[:6], blocks, [], UNREACHED)
    beside = summarise(cases, [*blocks, *wild], [outcome("wrong", n=7)], UNREACHED)
    assert beside[:6] == alone
    assert beside[6].status == "wrong"


def test_cases_share_what_they_tell_about_the_spread() -> None:
    cases = [case(n) for n in range(1, 7)]
    blocks = [block(b, [1 + 0.01 * n * (b - 1)], n) for n in range(1, 7) for b in range(3)]
    together = summarise(cases, blocks, [], UNREACHED)
    alone = summarise(cases[5:], blocks, [], UNREACHED)
    assert together[5].seconds is not None
    assert alone[0].seconds is not None
    assert together[5].seconds.high is not None
    assert alone[0].seconds.high is not None
    assert together[5].seconds.high < alone[0].seconds.high


def test_the_same_id_in_two_suites_is_two_cases() -> None:
    cases = [case(), case(suite="passes")]
    found = summarise(cases, [block(0), block(0, [3.0], suite="passes")], [], UNREACHED)
    assert [m.seconds.median for m in found if m.seconds] == [1.0, 3.0]


def test_on_a_cpu_end_to_end_is_the_time_of_the_host() -> None:
    found = one([block(0, [1.0, 3.0])])
    assert found.host_seconds is not None
    assert (found.host_seconds.median, found.host_seconds.min) == (4.0, 2.0)
    assert found.end_to_end_seconds == found.host_seconds
    assert found.device_seconds is None
    assert "CPU has no clock" in found.unknown["device_seconds"]


def test_on_a_gpu_each_clock_has_its_own_time() -> None:
    times: dict[str, Any] = {"device_seconds": [0.5], "end_to_end_seconds": [7.0, 9.0]}
    found = one([block(0, **times), block(1, **times)], device="cuda")
    assert found.seconds is not None
    assert found.host_seconds is not None
    assert found.device_seconds is not None
    assert found.end_to_end_seconds is not None
    assert found.host_seconds.median == 2.0
    assert found.device_seconds.median == 0.5
    assert (found.end_to_end_seconds.median, found.end_to_end_seconds.min) == (8.0, 7.0)
    assert set(found.unknown) == {"relative_error", "peak_bytes", "energy_joules"}


def test_a_clock_that_some_blocks_lack_is_taken_from_the_others() -> None:
    found = one([block(0, device_seconds=[0.5]), block(1)], device="cuda")
    assert found.device_seconds == Interval(median=0.5, low=None, high=None, min=0.5)


def test_the_error_is_the_worst_and_the_memory_the_largest_of_all_blocks() -> None:
    blocks = [
        block(0, relative_error=1e-7, peak_bytes=30),
        block(1, relative_error=3e-7, peak_bytes=None),
        block(2, relative_error=2e-7, peak_bytes=40),
    ]
    found = one(blocks)
    assert (found.relative_error, found.peak_bytes) == (3e-7, 40)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_null_of_a_measured_case_has_a_reason(device: str) -> None:
    found = one([block(0, host_seconds=[])], device=device, flops=None, bytes_moved=None)
    numbers = {*Measurement.metrics, "peak_bytes", "energy_joules", "relative_error"}
    nulls = {n for n in (*numbers, "flops", "bytes_moved") if getattr(found, n) is None}
    assert len(nulls) == 8
    assert set(found.unknown) == nulls
    assert all(found.unknown.values())


def test_inputs_that_differ_between_blocks_are_not_one_input() -> None:
    found = one([block(0), block(1, input_digest="ffff")])
    assert found.input_digest is None
    assert found.unknown["input_digest"] == "the blocks had different inputs"


@pytest.mark.parametrize(
    ("notes", "flags"),
    [
        ([["no_steady_state"], ["no_steady_state"], [], []], ["no_steady_state"]),
        ([["no_steady_state"], [], []], []),
        ([["no_steady_state"] * 2, [], []], []),
        ([["disturbed: steal 3%"], [], [], []], ["disturbed"]),
        ([["discarded: steal 3%"]] * 4, []),
        ([["nonlinear", "launch_bound"]], ["launch_bound", "nonlinear"]),
    ],
)
def test_a_flag_is_what_befell_half_of_the_blocks_or_any_disturbance(
    notes: list[list[str]], flags: list[str]
) -> None:
    assert one([block(i, notes=note) for i, note in enumerate(notes)]).flags == flags
