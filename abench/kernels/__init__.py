"""Sparse sums and selections on CPUs and GPUs, which training steps and codes are computed with."""
