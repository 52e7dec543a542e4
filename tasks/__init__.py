"""The evaluations that ship with abench: one module or package per task, using only the public API."""
