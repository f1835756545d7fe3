"""Every error that a user or a workload can cause, as one tree.

BenchError                 shown by the command line as one line, never as a traceback
├── RequestError           the request is bad: an option, a name, a size, a path      exit 2
├── RunFileError           a run file cannot be used: says which line and what to do  exit 2
├── OutputError            the run file cannot be written any further                 exit 2
├── BackendAbsent          a library, its build, the driver or the device is missing
└── CaseError              one case cannot be measured; carries the status it gets
    └── WorkerError        the worker process died, hung or could not start

Any other exception is a fault of bench itself and keeps its traceback.
"""


class BenchError(Exception):
    """An error whose message says what is wrong, where, and what to do."""


class RequestError(BenchError):
    """The request cannot be carried out as it was made."""


class RunFileError(BenchError):
    """A run file cannot be read or used."""


class OutputError(BenchError):
    """Results cannot be written; what was written before is intact."""


class BackendAbsent(BenchError):
    """The backend cannot run here: `reason` says why, `remedy` which command mends it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class CaseError(BenchError):
    """A case ends with `status` instead of a number; the other cases go on."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class WorkerError(CaseError):
    """The worker process itself is gone; whoever holds it must start another."""
