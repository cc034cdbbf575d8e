"""Ourselves and the peers against the clock, one file a stage: the parts of `python -m pipeline.benchmark_speed`."""
