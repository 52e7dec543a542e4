"""The version of abench, which is recorded with every cell and SAE."""

__version__ = "0.1.0"
