"""Training SAEs: steps with hand-derived gradients, the trainer, checkpoints, `abench.train`."""
