"""Matrix products: square ones from 64 to 8192, and those of BERT, GPT-2 and DeepBench."""

from bench.suites import Suite

SUITE = Suite(
    name="matmul",
    question="How fast are matrix products, by size, type and device?",
    phases=("call",),
)
