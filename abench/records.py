"""What the results folder keeps of a scored cell and of a trained SAE."""

from dataclasses import dataclass, field
from typing import Any, Literal

from abench.plan import SCHEMA

Status = Literal["done", "failed", "skipped", "missing", "damaged"]
"""`damaged`: there is a file, and what it holds is not what was written."""


@dataclass(frozen=True)
class Record:
    """What is kept of one cell, and handed to reports."""

    key: str
    status: Status
    labels: dict[str, Any]
    metrics: list[dict[str, Any]]
    """The metrics the task declares."""
    scores: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    """What the task gave for figures beside its scores; plain JSON."""
    used: list[dict[str, Any]] = field(default_factory=list)
    """How much data the task used, of how much was requested: `what`, `used`, `requested` (abench.Amount)."""
    reason: str | None = None
    """Why it failed or was skipped: one sentence."""
    traceback: str | None = None
    limited: bool = False
    sae_key: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    """What the key is the hash of."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """What is recorded but cannot change the number: device, host, packages, seconds, ..."""
    schema: int = SCHEMA


@dataclass(frozen=True)
class SAERecord:
    """What is kept of one trained SAE beside its files."""

    key: str
    status: Literal["done", "failed"]
    labels: dict[str, Any]
    spec: dict[str, Any]
    reason: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    """sha256 of each file, by name."""
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA
