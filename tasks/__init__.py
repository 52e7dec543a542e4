"""The evaluations that come with abench, one file each, written against the public API only."""
