"""Convolutions forward and backward: the layers of ResNet-50, VGG and DeepBench."""

from bench.suites import Suite

SUITE = Suite(
    name="convolution",
    question="How fast are convolutions and their gradients, layer by layer of real networks?",
    phases=("forward", "input_gradient", "weight_gradient"),
    aliases=("conv",),
    # 23 layers that differ little: the sum over the network is what a reader compares.
    share=0.25,
)
