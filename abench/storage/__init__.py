"""Crash-safe files with checksums, locks, leases, and the hashes that name results."""
