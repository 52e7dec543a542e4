"""Texts, data sets, files, and the activations that SAEs are trained on."""
