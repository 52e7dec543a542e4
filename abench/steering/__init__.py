"""Interventions at a site, and the directions and latents that represent a concept."""
