"""Single layers forward and backward: what a network consists of besides its convolutions."""

from bench.suites import Suite

SUITE = Suite(
    name="layers",
    question="How fast are single layers and their gradients: activations, norms, attention, LSTM?",
    phases=("forward", "forward_training", "backward"),
    # Many layers that are seen together.
    share=0.25,
)
