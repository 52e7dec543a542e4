"""Sealed files: what is read is what was written, or it is damage."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abench.storage.sealed import (
    Damaged,
    Verified,
    content_of,
    fields_of,
    manifest_of,
    read_sealed,
    rest_of,
    sealed_text,
    write_sealed,
)

CONTENT = {"key": "c0ffee", "scores": {"nmse": 0.1 + 0.2}, "text": "ä\n\"'", "nothing": None}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name != "sha256"), plain, min_size=1, max_size=5))
def test_what_is_sealed_is_what_is_read(content: dict[str, object]) -> None:
    raw = sealed_text(content).encode()
    assert content_of(raw) == content
    assert {name: value for name, value in json.loads(raw).items() if name != "sha256"} == content


@given(st.dictionaries(st.text(min_size=1), st.none() | st.integers() | st.text(), min_size=1, max_size=5))
def test_single_fields_are_read_without_the_rest(content: dict[str, object]) -> None:
    content = {"before": {"key": [1]}, **content} if "before" not in content else content
    content.pop("sha256", None)
    raw = sealed_text(content | {"last": 1}).encode()
    names = [name for name, value in content.items() if not isinstance(value, dict)]
    assert fields_of(raw, *names, "last") == [*(content[name] for name in names), 1]
    assert fields_of(raw, "not there") == [None]
    with pytest.raises(Damaged):
        fields_of(raw[:-1], "last")


@given(
    st.dictionaries(st.text().filter(lambda name: name != "sha256"), plain, min_size=1, max_size=5), st.data()
)
def test_fields_are_left_out_and_the_rest_is_read(content: dict[str, object], data: st.DataObject) -> None:
    raw = sealed_text(content).encode()
    left_out = data.draw(st.lists(st.sampled_from([*content, "not there"]), unique=True))
    rest, texts = rest_of(raw, *left_out)
    assert rest == {name: value for name, value in content.items() if name not in left_out}
    found = {name: json.loads(text) for name, text in zip(left_out, texts, strict=True) if text is not None}
    assert found == {name: value for name, value in content.items() if name in left_out}
    with pytest.raises(Damaged):
        rest_of(raw[:-1], *left_out)


def test_every_bit_and_every_missing_byte_is_noticed() -> None:
    raw = sealed_text(CONTENT).encode()
    for place in range(len(raw)):
        with pytest.raises(Damaged):
            content_of(raw[:place])
        for bit in range(8):
            changed = bytearray(raw)
            changed[place] ^= 1 << bit
            with pytest.raises(Damaged):
                content_of(bytes(changed))
    with pytest.raises(Damaged):
        content_of(raw + b"\n")


@pytest.mark.parametrize("raw", [b"null", b"{}", b"[]", b'{"sha256": "0"}', b"\xff\xfe", b"\0" * 200])
def test_what_was_never_sealed_is_damage(raw: bytes) -> None:
    with pytest.raises(Damaged):
        content_of(raw)


@pytest.mark.parametrize("content", [{}, {"sha256": "x"}, {"x": float("nan")}, {"x": {1}}])
def test_what_cannot_be_sealed_is_not_written(content: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError)):
        write_sealed(tmp_path / "file.json", content)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_not_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_sealed(tmp_path / "file.json")


def test_a_folder_in_the_place_of_a_file_is_damage_and_makes_way(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    (file / "inside").mkdir(parents=True)
    with pytest.raises(Damaged, match="cannot be read"):
        read_sealed(file)
    write_sealed(file, CONTENT)
    assert read_sealed(file) == CONTENT
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("size", [0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 3 << 16])
def test_a_file_is_hashed_whole_whatever_its_size(size: int, tmp_path: Path) -> None:
    content = bytes(place % 251 for place in range(size))
    (tmp_path / "file").write_bytes(content)
    assert manifest_of(tmp_path) == {"file": hashlib.sha256(content).hexdigest()}


def test_a_manifest_tells_changed_files_and_hashes_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from abench.storage import sealed

    file = tmp_path / "weights"
    file.write_bytes(b"w" * 100)
    digest = manifest_of(tmp_path)["weights"]
    hashed: list[Path] = []
    right = sealed.file_hash
    monkeypatch.setattr(sealed, "file_hash", lambda path: hashed.append(path) or right(path))
    verified = Verified()
    for _ in range(3):
        verified.check(file, digest)
    assert hashed == [file]
    # The same file does not pass for another.
    with pytest.raises(Damaged, match="checksum"):
        verified.check(file, "0" * 64)
    assert hashed == [file]
    os.utime(file, ns=(0, 0))
    verified.check(file, digest)
    file.write_bytes(b"w" * 99 + b"v")
    with pytest.raises(Damaged, match="checksum"):
        verified.check(file, digest)
    assert len(hashed) == 3
    file.unlink()
    with pytest.raises(Damaged, match="it is missing"):
        verified.check(file, digest)
