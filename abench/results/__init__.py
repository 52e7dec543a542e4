"""The results folder: SAEs and cells, their records and their paths."""
