"""Serves requests for some seconds, and tells what each of their clients waited for.

In a closed loop each client sends its next request when its answer is there. In an open loop
requests arrive at random moments (Poisson), whether or not the service has time for them, and wait
in one queue: the server scenario of MLPerf Inference (Reddi et al., 2020). What a request takes
counts from its arrival, not from when somebody came to it, so that a slow answer is seen in all
those that waited behind it.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

from bench.backends.base import Backend
from bench.measuring.exchange import HostArray
from bench.measuring.sampling import Clock
from bench.workload import Call

MOST_REQUESTS: Final = 2000
"""Of a case in a block: five blocks then tell the slowest in a thousand."""
SAMPLED_SHARE: Final = 0.25
"""Of a visit's time goes to samples; requests are served in the rest."""
SPIN_SECONDS: Final = 200e-6
"""Before an arrival the clock is watched: a sleep may end a timer's slack of 50 us too late."""


@dataclass
class Server:
    """Answers one request at a time.

    On a GPU the inputs in `arriving` are copied into the arrays that the call reads, and the answer
    is fetched, all outputs or the first `answers` of them; on a CPU they are in their places
    already.
    """

    backend: Backend
    call: Call
    arriving: Sequence[tuple[Any, HostArray]] = ()
    answers: int | None = None
    output: Any = None
    """The last answer, where the device left it."""

    def __call__(self) -> None:
        """Answer a request."""
        on_host = not self.backend.asynchronous
        for array, sent in () if on_host else self.arriving:
            self.backend.refill(array, sent)
        self.output = self.call()
        self.backend.synchronize()
        if not on_host:
            several = isinstance(self.output, (tuple, list))
            outputs = self.output if several else (self.output,)
            for array in outputs[: self.answers]:
                self.backend.fetch(array)


@dataclass(frozen=True)
class Served:
    """What each request took, in the order of arrival, and how long they were served; seconds."""

    request_seconds: Sequence[float]
    serving_seconds: float


@dataclass
class Service:
    """Serves requests with one thread for each server; with one server, in this thread.

    Time stands still between two calls of `serve`: who waited at the end of one is served first in
    the next, and has not waited meanwhile. A queue thus need not build up anew each time.
    """

    servers: Sequence[Callable[[], Any]]
    rate: float | None = None
    """Requests that arrive in a second; None: a closed loop."""
    seed: int = 0
    clock: Clock = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    worked: float = 0.0
    """Seconds that all servers together have spent on requests."""
    requests: int = 0
    lasted: float = 0.0

    _left: int = 0
    _failed: bool = False
    _origin: float = 0.0
    """The moment of the clock at which the service would have begun, had it never paused."""
    _lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        several = len(self.servers) > 1
        self._threads = ThreadPoolExecutor(len(self.servers)) if several else None
        self._random = random.Random(self.seed)
        self._due = self._random.expovariate(self.rate) if self.rate else 0.0

    @property
    def utilisation(self) -> float | None:
        """The share of their time that the servers need for what arrives; None in a closed loop.

        From 1 on the queue grows without end: requests arrive faster than they are answered.
        """
        if self.rate is None or not self.requests:
            return None
        return self.rate * self.worked / self.requests / len(self.servers)

    def warm_up(self) -> None:
        """Have each server answer once here, and once in a thread, where it starts its own."""
        for server in self.servers:
            server()
        if self._threads is not None:
            self._together(lambda server: [server()])

    def serve(self, seconds: float, most: int = MOST_REQUESTS) -> Served:
        """Serve for `seconds` or until `most` requests are answered; whoever is served, is so.

        A closed loop has at least one request. What a request raises is raised here, when all
        servers have stopped.
        """
        begin = self.clock()
        self._origin, self._left = begin - self.lasted, most
        end = begin + seconds
        answered = sorted(self._together(lambda server: self._work(server, end, most)))
        served = self.clock() - begin
        self.lasted += served
        self.requests += len(answered)
        self.worked += sum(worked for _, _, worked in answered)
        # A nanosecond is as far as clocks tell, and nothing takes none.
        return Served([max(round(took, 9), 1e-9) for _, took, _ in answered], served)

    def answers(self) -> list[Any]:
        """Return the last answer of each server."""
        return [server.output for server in self.servers if isinstance(server, Server)]

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()

    def _work(
        self, server: Callable[[], Any], end: float, most: int
    ) -> list[tuple[float, float, float]]:
        """Answer requests until `end`; return when each came, what it took, and the work alone."""
        found = []
        while (arrival := self._next(end, most)) is not None:
            start = self.clock()
            server()
            stop = self.clock()
            found.append((arrival, stop - arrival, stop - start))
        return found

    def _next(self, end: float, most: int) -> float | None:
        """Return when the next request came; None if there is none any more.

        The server that is to take it waits for it, and the others behind that one.
        """
        with self._lock:
            now = self.clock()
            if self._failed or not self._left:
                return None
            if self.rate is None:
                if now >= end and self._left < most:
                    return None
                self._left -= 1
                return now
            arrival = self._origin + self._due
            self._wait_until(min(arrival, end))
            if self._failed or max(now, arrival) >= end:
                return None
            self._due += self._random.expovariate(self.rate)
            self._left -= 1
            return arrival

    def _wait_until(self, moment: float) -> None:
        while (left := moment - self.clock()) > 0:
            # A sleep of 0 lets another thread have the interpreter.
            self.sleep(left - SPIN_SECONDS if left > SPIN_SECONDS else 0.0)

    def _together(self, work: Callable[[Callable[[], Any]], list[Any]]) -> list[Any]:
        """Let every server work at the same time, each in a thread; return what all found."""
        if self._threads is None:
            return work(self.servers[0])
        started = threading.Barrier(len(self.servers))

        def one(server: Callable[[], Any]) -> list[Any]:
            started.wait()
            try:
                return work(server)
            except BaseException:
                self._failed = True
                raise

        tasks = [self._threads.submit(one, server) for server in self.servers]
        wait(tasks)
        return [item for task in tasks for item in task.result()]


def open_service(
    server: Server,
    prepare: Callable[..., Call],
    inputs: Sequence[Any],
    serving: Mapping[str, Any],
    clock: Clock,
    sleep: Callable[[float], None],
) -> Service:
    """Set up a server for each request that is under way at a time, and warm them up.

    The first is `server`. Each other has a call that `prepare(*inputs)` gives, whose workspace no
    other one writes to, and on a GPU arriving inputs of its own; what does not come with a request,
    such as parameters, they may share. `serving` is that of an `Order`.
    """
    backend, servers = server.backend, [server]
    sent = [host for _, host in server.arriving] if backend.asynchronous else []
    for _ in range(1, serving["concurrency"]):
        own = [backend.to_device(array) for array in sent]
        call = prepare(*own, *inputs[len(own) :])
        servers.append(Server(backend, call, list(zip(own, sent, strict=True)), server.answers))
    service = Service(servers, serving["rate"], serving["seed"], clock, sleep)
    service.warm_up()
    return service
