"""The user's own model (`--model`): how it is named, built, looked at, and made a workload."""
