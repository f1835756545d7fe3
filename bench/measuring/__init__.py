"""Inside a worker: from a workload and its inputs to the samples of one block."""
