"""A worker as the parent holds it: started fresh, asked, waited for, ended for certain."""

import contextlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
from typing import IO, Any, Final

from bench.catalog import PACKAGE
from bench.errors import BackendAbsent, CaseError, WorkerError

START_SECONDS: Final = 120.0  # importing PyTorch from a cold disk, opening a CUDA context
CHORE_SECONDS: Final = 600.0  # drawing the inputs of the largest cases takes minutes
END_SECONDS: Final = 5.0
PADDING_BYTES: Final = 4096
THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
ALLOCATOR: Final = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""glibc keeps what is freed, as PyTorch's allocator for GPUs does. By default a large array is new
memory in each call, which the kernel fills page by page: evidence/allocator.py shows how long that
takes. It would also depend on which arrays the process has freed before."""


class WorkerProcess:
    """One process with one backend. Its memory layout is drawn at random and recorded."""

    def __init__(
        self,
        backend: str,
        threads: int,
        gpu: str | None,
        rng: random.Random,
        setup: str | None = None,
        python: str | None = None,
    ) -> None:
        """Start it; `gpu` is the UUID of the only GPU that it is going to see.

        `python` is the interpreter of another environment, which needs nothing of bench.
        """
        self.backend = backend
        self.threads = threads
        self.setup = setup
        # One layout is one sample of the space of layouts, however often it is timed
        # (Mytkowicz et al., "Producing Wrong Data Without Doing Anything Obviously Wrong!", 2009).
        self.layout = {"hash_seed": rng.randrange(2**32), "padding": rng.randrange(PADDING_BYTES)}
        self.description: dict[str, Any] = {}
        self._replies: queue.Queue[str | None] = queue.Queue()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [python or sys.executable, "-P", str(PACKAGE / "worker.py"), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=worker_environment(threads, gpu, self.layout),
            # Ctrl-C reaches the parent alone, which then ends its workers in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def open(self, memory_limit: int | None) -> None:
        """Have it import its library.

        Raises:
            BackendAbsent: The library, the driver or the device is missing.
            CaseError: It died, or has more threads than it was given.
        """
        self.send(
            do="open",
            backend=self.backend,
            threads=self.threads,
            setup=self.setup,
            memory_limit=memory_limit,
        )
        self.description = self.receive(START_SECONDS)
        for pool in self.description.get("threadpools", ()):
            if pool["num_threads"] > self.threads:
                raise CaseError(
                    "failed",
                    f"{pool.get('prefix')} runs {pool['num_threads']} threads where"
                    f" {self.threads} were asked for",
                )

    def ask(self, *, timeout: float = CHORE_SECONDS, **message: Any) -> Any:
        """Send one message and wait for its answer."""
        self.send(**message)
        return self.receive(timeout)

    def send(self, **message: Any) -> None:
        """Send one message."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._death() from None

    def receive(self, timeout: float) -> Any:
        """Wait for an answer.

        Raises:
            CaseError: The workload failed; the worker is still there.
            WorkerError: The worker died, or did not answer within `timeout` seconds.
        """
        try:
            line = self._replies.get(timeout=timeout)
        except queue.Empty:
            self.kill()
            raise WorkerError("timed_out", f"no answer within {timeout:g} s") from None
        if line is None:
            raise self._death()
        reply = json.loads(line)
        if "absent" in reply:
            raise BackendAbsent(**reply["absent"])
        if "error" in reply:
            raise CaseError(**reply["error"])
        return reply["ok"]

    def close(self) -> None:
        """End it in peace, or else by force."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._end()
        self._release()

    def kill(self) -> None:
        """End it now, with everything it started."""
        self._end()
        self._release()

    def _end(self) -> None:
        if sys.platform == "win32":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _release(self) -> None:
        """Close the pipes and the file of its error messages."""
        self._reader.join(END_SECONDS)
        files = [self._process.stdin, self._errors]
        if not self._reader.is_alive():
            files.append(self._process.stdout)
        for file in files:
            with contextlib.suppress(OSError):  # what was not sent is of no use any more
                if file is not None:
                    file.close()

    def _read(self) -> None:
        stdout: IO[bytes] | None = self._process.stdout
        assert stdout is not None
        for line in stdout:
            self._replies.put(line.decode())
        self._replies.put(None)

    def _death(self) -> WorkerError:
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._end()
            code = -signal.SIGKILL
        reason = describe_exit(code, self._last_words())
        self._release()
        return WorkerError("crashed", reason)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


def worker_environment(threads: int, gpu: str | None, layout: dict[str, int]) -> dict[str, str]:
    """Return the environment of a worker: threads before import, one GPU, a layout of its own."""
    environment = dict(os.environ)
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    # Threads that never rest would take the cores of whoever measures next. The default spins for
    # some milliseconds and is kept: with PASSIVE small products were seen to take ten times longer.
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        environment.pop(name, None)
    # OpenBLAS's threads spin for 2^26 cycles after a product; after 2^22 (some milliseconds) calls
    # in a row still find them awake.
    environment.setdefault("OPENBLAS_THREAD_TIMEOUT", "22")
    for name, value in ALLOCATOR.items():
        environment.setdefault(name, value)
    environment["PYTHONHASHSEED"] = str(layout["hash_seed"])
    environment["BENCH_PADDING"] = "x" * layout["padding"]
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order in which the driver counts
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    return environment


def describe_exit(code: int, last_words: str) -> str:
    """Say how a process ended."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (the kernel does so when memory runs out)" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}" + (f": {last_words}" if last_words else "")
    return f"the process ended with exit code {code}" + (f": {last_words}" if last_words else "")
