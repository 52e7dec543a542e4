"""Keys: in no file, no message, no log, whole or in part."""

import base64
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import abench.tasks
import pandas as pd
import pytest
from chat_server import Says, chat_server, without_proxies
from command import SMALL, Abench
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import abench
from abench.errors import UserError
from abench.judges import Endpoint
from abench.kept import FolderKept
from abench.plugins import find_tasks
from abench.progress import Bars, Lines
from abench.report.csvfile import write_frame
from abench.report.manifest import Manifest, write_manifest
from abench.sanitize import secrets
from abench.sanitize.printable import printable
from abench.sanitize.secrets import hidden, keep_secret, notice, without_secrets
from abench.storage.files import write_parts, write_text, write_whole

KEY = "sk-very-secret-0123456789-ABCDEF"
ODD = 'p"ss&w<rd\\+/= 0123456789'


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_kept", set())
    without_proxies(monkeypatch)


def parts(text: str) -> set[str]:
    return {text[i : i + 12] for i in range(len(text) - 11)}


def leaks(text: str, secret: str = KEY) -> bool:
    return any(part in text for part in parts(secret))


# Forms


def base64_after(before: str) -> Callable[[str], str]:
    return lambda text: base64.b64encode(f"{before}{text}".encode()).decode()


@pytest.mark.parametrize("secret", [KEY, ODD])
@pytest.mark.parametrize(
    "form",
    [
        str,
        json.dumps,
        repr,
        html.escape,
        quote,
        lambda text: quote(text, safe=""),
        quote_plus,
        str.upper,
        lambda text: f"xx{text}yy{text}{text}",
        base64_after(""),
        base64_after("u:"),
        base64_after("me:"),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    ],
)
def test_no_form_of_a_secret_is_left(secret: str, form: Callable[[str], str]) -> None:
    keep_secret(secret)
    text = f"before {form(secret)} after"
    out = hidden(text)
    assert "[key]" in out and out.startswith("before ") and out.endswith(" after")
    assert not parts(form(secret).strip("'\"")) & parts(out)


@settings(max_examples=50)
@given(st.data())
def test_no_part_of_12_characters_survives_a_cut(data: st.DataObject) -> None:
    keep_secret(KEY)
    begin = data.draw(st.integers(0, len(KEY) - 12))
    end = data.draw(st.integers(begin + 12, len(KEY)))
    around = st.text(
        st.characters(exclude_characters=KEY + KEY.swapcase(), exclude_categories=["Cs"]), max_size=9
    )
    before, after = data.draw(around), data.draw(around)
    assert hidden(before + KEY[begin:end] + after) == f"{before}[key]{after}"


@settings(max_examples=30)
@given(st.text(max_size=60))
def test_other_texts_stay_as_they_are(text: str) -> None:
    keep_secret(KEY)
    assert hidden(text) == text


@pytest.mark.parametrize("word", ["", "x", "EMPTY", "ollama", " none "])
def test_a_word_where_a_server_asks_for_no_key_is_no_secret(word: str) -> None:
    keep_secret(word)
    assert hidden(f"an {word} index of none") == f"an {word} index of none"


def test_without_secrets_reaches_every_text() -> None:
    keep_secret(KEY)
    value = {"a": [1, None, 0.5, True, {KEY: (f"x{KEY}", "y")}]}
    assert without_secrets(value) == {"a": [1, None, 0.5, True, {"[key]": ["x[key]", "y"]}]}


# What is a secret


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "OPENAI_API_KEY", "MY_PASSWORD", "AWS_SECRET_ACCESS_KEY", "gemini_api_key", "TOKEN"]
)
def test_variables_named_like_secrets_are_secrets_though_nothing_reads_them(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, KEY)
    assert hidden(f"it is {KEY}") == "it is [key]"


@pytest.mark.parametrize(
    ("name", "value"), [("MY_PATH", KEY), ("MY_API_KEY", "/run/my/secret"), ("TOKENS", KEY)]
)
def test_other_variables_are_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert hidden(f"it is {value}") == f"it is {value}"


def test_the_password_of_a_proxy_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2hunter2@proxy:3128")
    assert hidden("http://me:hunter2hunter2@proxy:3128") == "http://me:[key]@proxy:3128"


@pytest.mark.parametrize(
    ("text", "out"),
    [
        (f"a={KEY}", "a=[key]"),
        ("hf_abcdefghijKLMNOPQRST0123", "[key]"),
        ("hf_internal_testing_with_a_long_name", "hf_internal_testing_with_a_long_name"),
        ("https://me:hunter2hunter2@h/v1", "https://me:[key]@h/v1"),
        ("https://h/v1?api_key=abcdefgh12&x=1", "https://h/v1?api_key=[key]&x=1"),
        ("sk-learn-contrib-and-other-words", "sk-learn-contrib-and-other-words"),
        ("task-0123456789abcdefghij", "task-0123456789abcdefghij"),
    ],
)
def test_what_looks_like_a_key_in_options_is_a_secret(text: str, out: str) -> None:
    notice(text)
    assert hidden(text) == out


# Where texts leave


def test_files_hold_no_secret_whoever_writes_them(tmp_path: Path) -> None:
    keep_secret(KEY)
    write_whole(tmp_path / "a.json", json.dumps({"x": KEY}))
    assert (tmp_path / "a.json").read_text() == '{"x": "[key]"}'


def test_the_hub_s_tokens_are_secrets_though_they_stand_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "stored_tokens"))
    first, second, third = (f"hf_{letter * 30}" for letter in "abc")
    (tmp_path / "token").write_text(f"{first}\n")
    (tmp_path / "stored_tokens").write_text(f"[two]\nhf_token = {second}\nrefresh_token = {third}\n\n")
    assert hidden(f"{first} {second} {third} two") == "[key] [key] [key] two"
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path))  # a folder
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "nowhere"))
    assert hidden(first) == first


def test_reports_and_pages_hold_no_secret_though_records_do(tmp_path: Path) -> None:
    """A key may become known after a record was written."""
    keep_secret(KEY)
    write_frame(pd.DataFrame({"variant": ["topk", f"it is {KEY}"], "value": [1.0, 2.0]}), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "variant,value\ntopk,1.0\nit is [key],2.0\n"
    write_manifest(Manifest({f"{KEY}.csv": "0"}, {}, {}), tmp_path)
    write_text(tmp_path / "page.html", f"<p>{KEY}</p>\r\n")
    assert (tmp_path / "page.html").read_bytes() == b"<p>[key]</p>\r\n"
    write_parts(tmp_path / "many.json", ["[\n", f'"{KEY}"\n', "]\n"])
    assert (tmp_path / "many.json").read_bytes() == b'[\n"[key]"\n]\n'
    assert not any(leaks(file.read_text()) for file in tmp_path.iterdir())


def test_every_text_is_written_by_what_hides_secrets() -> None:
    """Others have no text of strangers in them: leases, the bundled model's, curves, a new task's."""
    writes = re.compile(r"\.write_text\(|\.open\(\"w|\.to_csv\(")
    folder, tasks = Path(abench.__path__[0]), Path(abench.tasks.__path__[0])
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.py")}
    # A wheel has the tasks in the package, a checkout beside it.
    files |= {f"tasks/{file.relative_to(tasks).as_posix()}": file for file in tasks.rglob("*.py")}
    found = {name for name, file in files.items() if writes.search(file.read_text(encoding="utf-8"))}
    own = {"cli/new.py", "runs/group_training.py", "storage/lease.py", "tinyworld/training.py"}
    own |= {"tasks/safety_utility/lm_eval_tasks.py"}  # a group of tasks for lm-eval, in a temporary folder
    own |= {"lm/wheels.py"}  # a model's file
    assert found == {"storage/files.py", "report/csvfile.py"} | own


def test_kept_values_hold_no_secret_and_are_found_again(tmp_path: Path) -> None:
    keep_secret(KEY)
    spec = {"question": f"what is {KEY}?"}
    FolderKept(tmp_path).put(spec, {"text": KEY})
    (file,) = tmp_path.rglob("*.json")
    assert not leaks(file.read_text())
    assert FolderKept(tmp_path).get(spec) == {"text": "[key]"}


@pytest.mark.parametrize("progress", [Lines, Bars])
def test_progress_hides_secrets_and_escapes_control_characters(
    progress: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_secret(KEY)
    progress().say(f"a {KEY}\x1b[2J\u202eb\nc\ud800")
    assert capsys.readouterr().err == "a [key]␛[2J<U+202E>b c<U+D800>\n"


@given(st.text())
def test_a_printable_line_is_one_line_that_can_be_written(text: str) -> None:
    line = printable(text)
    assert len(line.splitlines()) <= 1
    line.encode()


SCRIPT = f"""
import logging, sys, warnings
from abench.sanitize.secrets import hide_in_output, keep_secret
hide_in_output()
keep_secret({KEY!r})
print({KEY!r}, file=sys.stdout)
warnings.warn({KEY!r})
logging.warning("key %s", {KEY!r})
try:
    raise ValueError({KEY!r})
except ValueError as error:
    raise RuntimeError(f"headers: Bearer {KEY}") from error
"""


def test_tracebacks_warnings_and_logs_hold_no_secret() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[key]\n"
    assert "Traceback" in done.stderr and "Bearer [key]" in done.stderr and "ValueError: [key]" in done.stderr
    # The lines of the script itself are quoted from no file, so they are not there.
    assert not leaks(done.stdout + done.stderr)


# A key where a variable's name belongs


@pytest.mark.parametrize(
    "value",
    [
        KEY,
        "hunter2",
        "hf_abcdefghijKLMNOPQRST0123",
        "AKIAIOSFODNN7EXAMPLE",
        "a key",
        "ABCDEF0123456789",
        12345678,
        [KEY],
    ],
)
@pytest.mark.parametrize("task", ["bidirectionality", "safety_utility", "autointerp"])
def test_a_key_in_place_of_a_name_is_refused_and_not_repeated(
    abench: Abench, tmp_path: Path, task: str, value: Any
) -> None:
    for option in (f"--set=task_options.{task}.judge_key={json.dumps(value)}", _file(tmp_path, task, value)):
        result = abench("run", "--tasks", task, option, "--results", tmp_path / "results")
        assert result.code == 2 and len(result.err.splitlines()) == 1
        assert "judge_key" in result.err and "environment variable" in result.err
        shown = value[0] if isinstance(value, list) else str(value)
        assert shown not in result.err + result.out
        assert not (tmp_path / "results").exists()


def _file(folder: Path, task: str, value: Any) -> Path:
    file = folder / "run.yaml"
    file.write_text(json.dumps({"task_options": {task: {"judge_key": value}}}))
    return file


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("judge_url", f"https://me:{KEY}@host/v1", "neither a key nor a query"),
        ("judge_url", f"https://host/v1?api_key={KEY}", "neither a key nor a query"),
        ("judge_url", KEY, "neither a key nor a query"),
        ("judge_url", "abcdefghij0123456789", "is not a web address"),
        ("judge_url", "file:///etc/passwd", "'file:///etc/passwd' is not a web address"),
        ("judge_url", "http://host:99999/v1", "is not a web address"),
        ("judge_model", KEY, "looks like a key"),
        ("judge_model", "", "the name of a model"),
        ("judge_parallel", 10**9, "at most 256"),
        ("judge_parallel", float("nan"), "judge_parallel"),
        ("judges", [f"openai:{KEY}", 7], "judges"),
    ],
)
def test_bad_options_of_judges_are_one_sentence(
    abench: Abench, tmp_path: Path, option: str, value: Any, sentence: str
) -> None:
    given = f"--set=task_options.bidirectionality.{option}={json.dumps(value).replace('NaN', '.nan')}"
    result = abench("run", "--tasks", "bidirectionality", given, "--results", tmp_path / "results")
    assert result.code == 2 and len(result.err.splitlines()) == 1
    assert sentence in result.err and option in result.err
    assert not leaks(result.err) and "abcdefghij0123456789" not in result.err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("given", [[f"--set={KEY}"], [f"--set=name={KEY}!"], [f"--model={KEY}"], [f"{KEY}"]])
def test_a_key_in_any_other_place_is_not_repeated(abench: Abench, given: list[str]) -> None:
    result = abench("run", *given)
    assert result.code == 2 and "[key]" in result.err
    assert not leaks(result.err + result.out)


@pytest.mark.parametrize("option", ["judge_key", "judge_url", "judge_model"])
def test_neither_does_the_error_in_python_repeat_it(option: str) -> None:
    found = find_tasks()
    for task in ("bidirectionality", "safety_utility", "autointerp"):
        with pytest.raises(ValidationError, match=option) as raised:
            found[task].value(**{option: KEY})  # type: ignore[misc]
        assert not leaks(str(raised.value) + repr(raised.value))


def test_a_variable_may_have_any_name_if_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="must be the name of an environment variable") as raised:
        Endpoint("m", key_variable="my_key")
    assert "my_key" not in str(raised.value)
    monkeypatch.setenv("my_key", KEY)
    assert Endpoint("m", key_variable="my_key").key() == KEY
    for usual in ("X", "OPENAI_API_KEY", "KEY_2"):
        Endpoint("m", key_variable=usual)


# A run whose endpoint repeats the key


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "results"


@pytest.mark.parametrize(
    "message",
    [
        f"wrong key {KEY}",
        "x" * 170 + " " + KEY,  # across the 200th character
        f"wrong credentials {base64.b64encode(f'me:{KEY}'.encode()).decode()}",
        f"wrong {quote(KEY)} \x1b[2J",
    ],
)
def test_an_endpoint_that_repeats_the_key(
    abench: Abench, trained: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    body = json.dumps({"error": {"message": message, KEY: KEY}})
    with chat_server(Says(status=401, body=body)) as server:
        options = {
            "judge": "openai",
            "judge_model": "m",
            "judge_url": server.base_url,
            "judge_key": "JUDGE_KEY",
            "latents": 4,
        }
        told = [f"--set=task_options.bidirectionality.{name}={value}" for name, value in options.items()]
        sizes = ("--variants", "topk", "--k", "8", "--limit", "4", *SMALL)
        result = abench("run", *sizes, "--tasks", "bidirectionality", *told, "--results", trained)
    assert result.code == 3 and "refuses the key in JUDGE_KEY (status 401:" in result.err
    files = {file: file.read_bytes() for file in trained.rglob("*") if file.is_file()}
    assert any(b"refuses the key" in content for content in files.values())
    secret = {part.encode() for part in parts(KEY)}
    assert not [file for file, content in files.items() if any(part in content for part in secret)]
    assert not leaks(result.out + result.err)
    assert "\x1b" not in result.err
