"""Latents of an SAE: codes, decoding, top contexts, the two views."""
