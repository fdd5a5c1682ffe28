"""Training: a run folder, a loop, its checkpoints."""
