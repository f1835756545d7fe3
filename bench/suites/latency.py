"""Request after request: what the clients of a real-time service wait for."""

from bench.suites import Suite

SUITE = Suite(
    name="latency",
    question="What do a service's clients wait for, and how many requests a second are served?",
    phases=("forward",),
    batches={"quick": (1,), "standard": (1, 8, 32), "thorough": (1, 2, 4, 8, 16, 32, 64)},
    is_plain=True,
    serves=True,
    share=1.5,  # percentiles far out need many requests
)
