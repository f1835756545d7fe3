"""Whole networks: inference, and training step by step."""

from bench.suites import Suite

SUITE = Suite(
    name="passes",
    question="How fast is a whole network: inference, backward, a training step?",
    phases=(
        "forward",
        "forward_training",
        "backward",
        "training_step",
        "training_step_adam",
    ),
    share=0.5,
)
