"""Batch after batch: where a GPU begins to win, where throughput saturates, what still fits."""

from bench.suites import Suite

SUITE = Suite(
    name="batch-sweep",
    question="From which batch does a GPU win, where does throughput saturate, what still fits?",
    phases=("forward", "training_step"),
    share=0.25,
    batches={
        "quick": (1, 8, 64),
        "standard": tuple(2**power for power in range(13)),
        "thorough": tuple(2**power for power in range(17)),
    },
    is_plain=True,
    finds_limit=True,
)
