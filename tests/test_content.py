"""Hashes of files and folders: all that can be read counts, and nothing is read twice for nothing."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from abench import UserError
from abench.lm.catalogue import find_model, local_commit
from abench.lm.origins import folder_hash
from abench.storage import content
from abench.storage.content import content_hash, files_under, folder_digest, unchanged
from abench.tinyworld import MODEL_DIR


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "additional_chat_templates").mkdir(parents=True)
    for name in ("config.json", "merges.txt", "additional_chat_templates/tools.jinja", "any.thing"):
        (folder / name).write_text(name)
    return folder


def test_every_file_of_a_folder_counts(folder: Path) -> None:
    seen = {folder_digest(folder)}
    for number, name in enumerate(files_under(folder)):
        before = (folder / name).read_text()
        (folder / name).write_text(f"{before}, other")
        seen.add(folder_digest(folder))
        assert len(seen) == number + 2, name
        (folder / name).write_text(before)
    assert folder_digest(folder) in seen


def test_a_new_file_and_another_name_count(folder: Path) -> None:
    seen = [folder_digest(folder)]
    (folder / "vocab.json").write_text("{}")
    seen.append(folder_digest(folder))
    (folder / "vocab.json").rename(folder / "added_tokens.json")
    assert len({*seen, folder_digest(folder)}) == 3


def test_hidden_files_are_not_read_when_a_model_is_opened(folder: Path) -> None:
    before, of_all = folder_digest(folder), content_hash(folder)
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "when.metadata").write_text("today")
    assert folder_digest(folder) == before
    assert content_hash(folder) != of_all


def test_links_are_their_content_and_never_followed_in_a_circle(folder: Path, tmp_path: Path) -> None:
    plain = folder_digest(folder), content_hash(folder)
    elsewhere = tmp_path / "elsewhere"
    (folder / "additional_chat_templates").rename(elsewhere)
    (folder / "merges.txt").rename(tmp_path / "merges.txt")
    (folder / "additional_chat_templates").symlink_to(elsewhere, target_is_directory=True)
    (folder / "merges.txt").symlink_to(tmp_path / "merges.txt")
    assert (folder_digest(folder), content_hash(folder)) == plain
    (elsewhere / "circle").symlink_to(folder, target_is_directory=True)
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    assert (folder_digest(folder), content_hash(folder)) == plain
    (elsewhere / "tools.jinja").write_text("other")
    assert folder_digest(folder) != plain[0]
    assert content_hash(folder) != plain[1]


def test_what_was_hashed_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = content_hash(folder)
    read: list[Path] = []
    hashed: Callable[[Path], str] = content.file_hash
    monkeypatch.setattr(content, "file_hash", lambda file: read.append(file) or hashed(file))
    assert content_hash(folder) == first
    assert read == []
    # Of the same length, and with its times set back.
    status = (folder / "merges.txt").stat()
    (folder / "merges.txt").write_text("m" * status.st_size)
    os.utime(folder / "merges.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_hash(folder) != first
    assert len(read) == 4


def test_a_file_that_changes_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(file: Path) -> str:
        (folder / "merges.txt").write_text(f"as long as {file} was read")
        return hashlib.sha256(file.read_bytes()).hexdigest()

    monkeypatch.setattr(content, "file_hash", slowly)
    with pytest.raises(UserError, match=r"model changed while it was read \(merges\.txt\): run the same"):
        content_hash(folder)


def test_a_file_that_changes_while_a_model_is_opened(folder: Path) -> None:
    with unchanged(folder):
        (folder / ".hidden").write_text("")
    with pytest.raises(UserError, match=r"changed while it was read \(vocab\.json\)"), unchanged(folder):
        (folder / "vocab.json").write_text("{}")


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone cannot be read: .*No such file"):
        folder_digest(tmp_path / "gone")


def test_the_bundled_model_keeps_the_name_that_its_results_have(tmp_path: Path) -> None:
    assert local_commit(find_model("tiny")[1]) == "c6a1fb491eb87600c00f42891c8e5e814776175b"
    copy = tmp_path / "model"
    copy.mkdir()
    for file in MODEL_DIR.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert folder_hash(copy) == folder_hash(MODEL_DIR)
    for name in ("generation_config.json", "chat_template.jinja", "properties.json"):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(whole + b" ")
        assert folder_hash(copy) != folder_hash(MODEL_DIR), name
        (copy / name).write_bytes(whole)


def test_a_folder_of_the_files_that_always_counted_keeps_its_name(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"[]"}
    digest = hashlib.sha256()
    for name, whole in files.items():
        (tmp_path / name).write_bytes(whole)
        digest.update(f"{name}\0{len(whole)}\0".encode() + whole)
    assert folder_hash(tmp_path) == digest.hexdigest()[:40]
