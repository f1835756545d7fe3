"""Pairs of a duet, of a project's own pytest-benchmark tests: pytest in each environment, in turn.

The tests are run unchanged by the environment's own pytest. A plugin that bench carries along
notes what ran and what disturbed it; the times are those that pytest-benchmark writes.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.catalog import PACKAGE
from bench.comparing.pairs import is_control
from bench.errors import RequestError
from bench.results.schema import BlockLine, CaseLine, OutcomeLine
from bench.running.noise import Noise
from bench.running.pytest_runner import Ran, Runner
from bench.running.sides import SIDES, Note, Pairing, PairWorking, Side, SideLine

SUITE: Final = "pytest"
BACKEND: Final = "pytest-benchmark"
NOT_TOLD: Final = "pytest-benchmark does not tell"
TURN_SECONDS: Final = 4.0
"""A side works about so long before it is the other's turn: neighbours then befall both."""
FIRST_SHARE: Final = 0.3
TEST_SECONDS: Final = 0.1
"""What a test takes besides its rounds: its setup, pytest-benchmark's calibration."""
LONGEST_TEST_SECONDS: Final = 0.2
SHORTEST_TEST_SECONDS: Final = 0.05
LEAST_PROCESS_SECONDS: Final = 0.3
"""A process times its tests for at least so long together: starting it takes longer."""
MOST_SAMPLES: Final = 400
AGAIN_SHARE: Final = 0.5
"""Of the tests of a pair may be measured again, later in the pair, where the moment was noisy."""


class PairedTests(Pairing):
    """Measures a project's own tests in two environments."""

    def __init__(
        self, runner: Runner, tests: Mapping[tuple[str, str], str], seconds: float, seed: int
    ) -> None:
        """Know pytest's name of every case, and for how long each test is timed."""
        self.runner = runner
        self.tests = tests
        self.seconds = seconds
        self.rng = random.Random(seed)
        self.digests: dict[str, str] = {}
        self.shared_modules: set[str] = set()
        self._noise = Noise()

    def measure(
        self, cases: Sequence[CaseLine], pair: int, is_late: Callable[[], bool]
    ) -> Iterator[SideLine | Note | PairWorking]:
        """Measure one pair of every test, a few at a time on one side and then on the other."""
        queue = self._chunks(cases)
        allowed = round(AGAIN_SHARE * len(cases)) + 1
        again: set[tuple[str, str]] = set()
        place = 0
        while queue and not is_late():
            chunk = queue.pop(0)
            yield PairWorking(chunk[0], pair, place / max(1, len(cases)))
            ran = self._both(chunk)
            # What ends pytest itself must not take the other tests along: each has its own process.
            lost = [case for case in chunk if len(chunk) > 1 and self._is_lost(case, ran)]
            queue = [[case] for case in lost] + queue
            repeated = []
            for case in chunk:
                if case in lost:
                    continue
                lines, disturbed = self._lines(case, ran, pair, place)
                if disturbed and case.key not in again and len(again) < allowed:
                    again.add(case.key)
                    repeated.append(case)
                    continue
                place += 1
                yield from lines
            if repeated:
                queue.append(repeated)

    def close(self) -> None:
        """Remove what pytest wrote."""
        self.runner.close()

    def shared_sources(self) -> list[str]:
        """Return the modules outside both environments that both imported, but for the tests."""
        folders = {(self.runner.root / t.partition("::")[0]).parent for t in self.tests.values()}
        around = {"conftest.py", "__init__.py"}
        return [
            path
            for path in sorted(self.shared_modules)
            if Path(path).name not in around
            and not {"site-packages", "dist-packages"} & set(Path(path).parts)
            and not Path(path).is_relative_to(PACKAGE)
            and not any(Path(path).is_relative_to(folder.resolve()) for folder in folders)
        ]

    def _chunks(self, cases: Sequence[CaseLine]) -> list[list[CaseLine]]:
        size = max(1, round(TURN_SECONDS / (self.seconds + TEST_SECONDS)))
        chunks: list[list[CaseLine]] = []
        for control in (False, True):
            own = [case for case in cases if is_control(case.variant) == control]
            self.rng.shuffle(own)
            chunks += [own[start : start + size] for start in range(0, len(own), size)]
        self.rng.shuffle(chunks)
        return chunks

    def _both(self, chunk: Sequence[CaseLine]) -> dict[Side, Ran]:
        tests = [self.tests[case.key] for case in chunk]
        seconds = max(self.seconds, LEAST_PROCESS_SECONDS / len(tests))
        ran: dict[Side, Ran] = {}
        for side in self.rng.sample(SIDES, 2):
            where: Side = "base" if is_control(chunk[0].variant) else side
            ran[side] = self.runner.run(where, tests, seconds)
        both = [set(ran[side].found.get("modules", ())) for side in SIDES]
        if not is_control(chunk[0].variant):
            self.shared_modules |= both[0] & both[1]
        return ran

    def _is_lost(self, case: CaseLine, ran: Mapping[Side, Ran]) -> bool:
        """Tell whether pytest ended before it said anything of a test."""
        test = self.tests[case.key]
        return any(
            one.end
            and test not in one.times
            and "outcome" not in one.found.get("tests", {}).get(test, {})
            for one in ran.values()
        )

    def _lines(
        self, case: CaseLine, ran: Mapping[Side, Ran], pair: int, place: int
    ) -> tuple[list[SideLine], bool]:
        test = self.tests[case.key]
        lines = [SideLine(side, self._line(case, test, ran[side], pair, place)) for side in SIDES]
        blocks = [found.line for found in lines if isinstance(found.line, BlockLine)]
        if len(blocks) < len(lines):
            return [found for found in lines if isinstance(found.line, OutcomeLine)], False
        for block, side in zip(blocks, SIDES, strict=True):
            self._noise.note(block.key, side, block.canary)
        return lines, any(map(self._noise.is_noisy, blocks, SIDES))

    def _line(
        self, case: CaseLine, test: str, ran: Ran, pair: int, place: int
    ) -> BlockLine | OutcomeLine:
        seen = ran.found.get("tests", {}).get(test, {})
        stats = ran.times.get(test)
        reason = _why_no_time(seen, stats, ran, test)
        if reason or stats is None:
            return OutcomeLine(
                suite=case.suite, case=case.id, block=pair, status="failed", reason=reason
            )
        data = [float(value) for value in stats["data"]]
        canary = [float(value) for value in seen.get("canary", [])]
        step = -(-len(data) // MOST_SAMPLES)
        disturbed = seen.get("disturbances", [])
        if len(canary) != len(data) or not all(value > 0 for value in canary):
            canary = []  # a pytest-benchmark that has no place for it, or a test with its own clock
        return BlockLine(
            suite=case.suite,
            case=case.id,
            block=pair,
            pair=pair,
            order=place,
            input_digest=self._digest(test),
            verified="by the test itself",
            seconds=data[::step],
            visits=[1 for _ in canary[::step]],
            canary=canary[::step],
            calls_per_sample=int(stats["iterations"]),
            warmup_calls=None,
            first_call_seconds=None,
            worked_seconds=sum(data) * int(stats["iterations"]),
            notes=[f"disturbed: {'; '.join(disturbed)}"] if disturbed else [],
            unknown=dict.fromkeys(("warmup_calls", "first_call_seconds"), NOT_TOLD),
        )

    def _digest(self, test: str) -> str:
        """Return a digest of the test and its file, which are the same on both sides."""
        if test not in self.digests:
            path = self.runner.root / test.partition("::")[0]
            content = path.read_bytes() if path.is_file() else b""
            self.digests[test] = hashlib.sha256(test.encode() + content).hexdigest()[:32]
        return self.digests[test]


def _why_no_time(
    seen: Mapping[str, Any], stats: Mapping[str, Any] | None, ran: Ran, test: str
) -> str:
    """Return why a test has no time that counts; empty if it has one."""
    if seen.get("outcome", "passed") != "passed":
        return f"the test {seen['outcome']}: {seen.get('reason', 'it said nothing')}"
    if stats is not None and seen:
        data = stats.get("data")
        if isinstance(data, list) and data and all(value > 0 for value in data):
            return ""
        return "pytest-benchmark recorded no time above zero"
    if not_collected := _why_not_collected(test, ran):
        return not_collected
    if ran.end:
        return ran.end
    return "the test recorded nothing: it does not call `benchmark`" if seen else "it did not run"


def _why_not_collected(test: str, ran: Ran) -> str:
    """Return what pytest said of the file or class of a test; empty if it said nothing."""
    told = (line for place, line in _problems(ran).items() if test.startswith(place))
    return next(told, "")


def _problems(ran: Ran) -> dict[str, str]:
    """Return a line for each file or class that cannot be collected."""
    errors = ran.found.get("errors", {})
    return {place: f"{place} cannot be collected: {reason}" for place, reason in errors.items()}


@dataclass(frozen=True)
class Learned:
    """What is known of a project's tests before any is timed."""

    tests: Mapping[tuple[str, str], str]
    """pytest's names by the keys of the cases, those that either side collects."""
    absent: Mapping[Side, Mapping[tuple[str, str], str]]
    """Why a side cannot run a test that the other one has."""
    problems: Sequence[str]
    """What head could not collect."""
    start_seconds: float
    """How long pytest takes to start."""


def learn_tests(runner: Runner, path: str) -> Learned:
    """Have pytest collect the tests that use pytest-benchmark, on both sides.

    Raises:
        RequestError: There is no test that uses pytest-benchmark.
    """
    place, colons, name = path.partition("::")
    if not Path(place).exists():
        raise RequestError(f"--pytest {path}: no such file or folder; give that of your tests")
    # pytest names the tests from its own folder, which need not be the one where the user stands.
    whole = f"{Path(place).absolute()}{colons}{name}"
    ran: dict[Side, Ran] = {"base": runner.collect("base", whole)}
    begin = time.monotonic()
    ran["head"] = runner.collect("head", whole)
    start = time.monotonic() - begin
    collected = {side: dict.fromkeys(one.found.get("collected", ())) for side, one in ran.items()}
    problems = list(_problems(ran["head"]).values())
    if not collected["head"]:
        end = ran["head"].end
        why = "; ".join(problems) or end or "no test there uses the fixture `benchmark`"
        raise RequestError(f"--pytest {path}: {why}; see what pytest {path} says in head")
    tests = {(SUITE, case_id(name)): name for own in reversed(collected.values()) for name in own}
    absent = {
        side: {
            key: _why_not_collected(name, one) or one.end or "pytest does not collect it"
            for key, name in tests.items()
            if name not in collected[side]
        }
        for side, one in ran.items()
    }
    return Learned(tests, absent, problems, start)


def case_id(test: str) -> str:
    """Return the id of a test's case, as `bench import` would name it."""
    workload, bracket, parameters = test.partition("[")
    size = parameters.removesuffix("]") if bracket else "-"
    return f"{workload}/{size}/call/unknown/{BACKEND}"


def make_case(key: tuple[str, str], test: str, threads: int) -> CaseLine:
    """Return the case of a test."""
    workload, bracket, parameters = test.partition("[")
    return CaseLine(
        id=key[1],
        suite=SUITE,
        workload=workload,
        workload_version=1,
        size=parameters.removesuffix("]") if bracket else "-",
        sizes={},
        phase="call",
        dtype="unknown",
        backend=BACKEND,
        threads=threads,
        device="unknown",
    )


def seconds_per_test(minutes: float, tests: int, pairs: int, start: float) -> float:
    """Return for how long each test is timed, for the first stage to take its share of the minutes.

    `start` is how long pytest takes to start, in seconds.
    """
    side = FIRST_SHARE * 60 * minutes / (2 * pairs)
    processes = 1 + max(1, round(side / (start + TURN_SECONDS)))  # the controls have their own
    whole = (side - processes * start) / tests - TEST_SECONDS
    return min(LONGEST_TEST_SECONDS, max(SHORTEST_TEST_SECONDS, whole))
