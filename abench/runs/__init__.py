"""From the description of a run to its results and report."""
