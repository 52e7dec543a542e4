"""The records of scored cells and trained SAEs in a results folder."""

from dataclasses import dataclass, field
from typing import Any, Literal

from abench.results.jobs import SCHEMA

Status = Literal["done", "failed", "skipped", "missing", "damaged"]
"""`damaged`: the file exists, but its content is not what was written."""


@dataclass(frozen=True)
class Record:
    """The record of one cell, as stored and passed to reports."""

    key: str
    status: Status
    labels: dict[str, Any]
    metrics: list[dict[str, Any]]
    """The metrics the task declares."""
    scores: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    """Further results of the task, for tables and figures; plain JSON."""
    used: list[dict[str, Any]] = field(default_factory=list)
    """How much data the task used and how much was requested: `what`, `used`, `requested` (abench.Amount)."""
    parts: list[dict[str, Any]] | None = None
    """The parts of the data that the scores rest on: `what`, `used`, `left_out` (abench.Parts), as far as the
    task names any; None in records of versions of abench that did not store them."""
    valid_if: list[dict[str, Any]] = field(default_factory=list)
    """The preconditions of a scored cell (abench.Precondition) with their measured `value`, or None where the
    task's options rule out the measurement; `metrics` names every metric that depends on it."""
    reason: str | None = None
    """Why it failed or was skipped, in one sentence."""
    traceback: str | None = None
    limited: bool = False
    sae_key: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    """The spec whose hash is the key."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Facts that are recorded but not part of the key: device, host, packages, seconds, ..."""
    schema: int = SCHEMA


@dataclass(frozen=True)
class SAERecord:
    """The record of one trained SAE, stored with its files."""

    key: str
    status: Literal["done", "failed"]
    labels: dict[str, Any]
    spec: dict[str, Any]
    reason: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    """sha256 of each file, by name."""
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA
