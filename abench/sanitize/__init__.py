"""Removing secrets and control characters from everything that leaves the process."""
