"""Keys: a hash of everything that can change a number."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(spec: Mapping[str, Any]) -> str:
    """JSON with sorted keys and without whitespace; raises ValueError for NaN and infinities."""
    return canonical_value(spec)


# Created once: `json.dumps` creates an encoder per call, which takes longer than encoding a small value.
_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def canonical_value(value: Any) -> str:
    """Canonical JSON, as `canonical_json`, of any JSON value."""
    return _encoded(value)


def canonical_of_parts(parts: Mapping[str, str]) -> str:
    """The canonical JSON of a mapping whose values are already canonical JSON."""
    return "{" + ",".join([f"{_encoded(name)}:{parts[name]}" for name in sorted(parts)]) + "}"


def key_of(spec: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON, 64 hex digits."""
    return digest_of(canonical_json(spec))


def digest_of(canonical: str) -> str:
    """The key of the spec with this canonical JSON."""
    return begun_digest(canonical).hexdigest()


def begun_digest(beginning: str) -> "hashlib._Hash":
    """The hash of the beginning of a canonical JSON; copies of it go on with different ends."""
    return hashlib.sha256(beginning.encode())


def difference(left: Any, right: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """The key paths at which two specs differ, with both values (None for a key that is absent)."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        names = sorted(set(left) | set(right))
        inner = [difference(left.get(n), right.get(n), f"{path}.{n}" if path else str(n)) for n in names]
        return [each for found in inner for each in found]
    return [] if left == right else [(path, left, right)]
