"""Copies between host and GPU: what a call costs whose data is not there yet."""

from bench.suites import Suite

SUITE = Suite(
    name="transfer",
    question="How fast is data copied to a GPU and back, from ordinary and from pinned memory?",
    phases=("to_device", "to_host"),
    devices=("gpu",),
    dtypes=("float32",),  # bytes are bytes
    share=0.5,
)
