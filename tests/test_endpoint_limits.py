"""Servers that answer badly: each is an error of that question, in time, and nothing else is."""

import gzip
import json
import signal
import subprocess
import sys
import time
from itertools import repeat
from pathlib import Path
from typing import Any

import openai  # noqa: F401 - takes seconds, which are not the endpoint's
import pytest
from chat_server import ChatServer, Says, chat_server, without_proxies
from misbehaviour import ENDLESS, Misbehaviour, compressed, counted, sends, writes

from abench.errors import UserError
from abench.judges import Asker, Endpoint, Exchange, OpenAIJudge
from abench.kept import FolderKept, MemoryKept

KEY = "sk-very-secret-0123456789"
QUESTION = [{"role": "user", "content": "well?"}]
SECONDS = 0.6
# For what answers by itself: a busy machine may take longer than SECONDS over it.
PATIENT = 30.0
NONSENSE = "returned no chat completion but"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    without_proxies(monkeypatch)


def asker(server: ChatServer, **changes: Any) -> Asker:
    options: dict[str, Any] = {"timeout": PATIENT, "retries": 0} | changes
    return Asker(Endpoint("m", server.base_url, "JUDGE_KEY", **options), MemoryKept())


def completion(**changes: Any) -> str:
    choice = {"message": {"content": "yes"}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"total_tokens": 6}} | changes)


def nested(depth: int) -> str:
    return f'{{"choices": {"[" * depth}{"]" * depth}}}'


@pytest.mark.parametrize(
    ("misbehave", "sentence"),
    [
        pytest.param(sends(ENDLESS), "answered with more than 1 MiB", id="endless"),
        pytest.param(sends(ENDLESS, status=500), r"more than 1 MiB \(status 500\)", id="endless error"),
        pytest.param(sends(repeat(b" "), seconds=0.05), "did not answer within 0.6 seconds", id="drip"),
        pytest.param(
            writes(b"", repeat(b"H"), seconds=0.05), "could not be reached|did not answer", id="drip status"
        ),
        pytest.param(
            writes(b"HTTP/1.1 200 OK\r\n", repeat(b"A: b\r\n"), seconds=0.05),
            "did not answer",
            id="drip headers",
        ),
        pytest.param(
            writes(b"HTTP/1.1 200 OK\r\n", repeat(b"A: b\r\n" * 999)), "could not be reached", id="headers"
        ),
        pytest.param(
            writes(b"", repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), seconds=0.001), "did not", id="continue"
        ),
        pytest.param(sends(compressed(), Content_Encoding="gzip"), "more than 1 MiB", id="gzip"),
        pytest.param(
            sends(gzip.compress(gzip.compress(bytes(1 << 24))), Content_Encoding="gzip, gzip"),
            "compressed more than once",
            id="gzip twice",
        ),
        pytest.param(sends(b"not gzip", Content_Encoding="gzip"), "incorrect header check", id="no gzip"),
        pytest.param(
            writes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
            "could not be reached",
            id="cut",
        ),
        pytest.param(writes(b"\x16\x03\x01\x02\x00"), "could not be reached", id="no HTTP"),
    ],
)
def test_what_never_ends_ends_in_time(misbehave: Misbehaviour, sentence: str) -> None:
    with chat_server(Says(misbehave=misbehave)) as server:
        hangs = "did not" in sentence
        patience = SECONDS if hangs else PATIENT
        began = time.monotonic()
        with pytest.raises(UserError, match=sentence) as raised:
            asker(server, timeout=patience).ask(QUESTION)
        assert time.monotonic() - began < patience + 3
    assert server.base_url in str(raised.value)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize("headers", [{}, {"Content_Encoding": "gzip"}])
def test_no_more_is_taken_than_the_limit(headers: dict[str, str]) -> None:
    sent: list[int] = []
    pieces = compressed() if headers else repeat(bytes(1 << 16))
    endless = Says(misbehave=sends(counted(pieces, sent), **headers))
    with chat_server(endless) as server, pytest.raises(UserError, match="more than 1 MiB"):
        asker(server, timeout=20).ask(QUESTION)
    # What the kernel's buffers hold comes on top.
    assert sum(sent) < 32 << 20


# Garbage may be collected at the bottom of the recursion, where a finalizer has no room to run.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("depth", [500, 10_000, 100_000])
def test_nested_json_is_a_sentence(status: int, depth: int) -> None:
    with chat_server(Says(body=nested(depth), status=status)) as server, pytest.raises(UserError) as raised:
        asker(server).ask(QUESTION)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    "body",
    [
        completion(usage=0).replace("0}", '{"total_tokens": NaN}}'),
        completion(usage=0).replace("0}", "NaN}"),
        completion(usage={"total_tokens": -1}),
        completion(usage={"total_tokens": 10**30}),
        completion(usage={"total_tokens": "many"}),
        completion(usage={"total_tokens": 1.5}),
        completion(usage=[1]),
        completion(x=0).replace("0}", "1e999}"),
        completion(x=0).replace("0}", "1" * 5000 + "}"),
        completion().replace("yes", "\xff").encode("latin-1"),
        completion().replace('"stop"', "7"),
        '"yes"',
        "null",
        "7",
    ],
)
def test_what_is_no_completion_is_a_sentence(body: str | bytes) -> None:
    content = body.encode() if isinstance(body, str) else body
    says = Says(misbehave=sends(content))
    with chat_server(says) as server, pytest.raises(UserError, match=NONSENSE) as raised:
        asker(server).ask(QUESTION)
    assert len(str(raised.value)) < 600 and str(raised.value).isprintable()


@pytest.mark.parametrize(
    "text", ["a\ud83d", "\ud83d\ude00", "\x00\x1b[2J\u202e", "x" * 1_000_000, "\x85\u2028"]
)
def test_any_text_can_be_kept_and_written(tmp_path: Path, text: str) -> None:
    body = completion(choices=[{"message": {"content": text}}])
    with chat_server(Says(body=body)) as server:
        endpoint = Endpoint("m", server.base_url, "JUDGE_KEY", retries=0)
        answer = Asker(endpoint, FolderKept(tmp_path)).ask(QUESTION)
        assert Asker(endpoint, FolderKept(tmp_path)).kept_answer(QUESTION) == answer
    answer.encode()
    assert answer == (
        text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


@pytest.mark.parametrize(
    "kind", ["text/html", "application/json; charset=zlib", "application/json; charset=x", "\xff"]
)
def test_the_type_of_the_content_does_not_matter(kind: str) -> None:
    with chat_server(Says(misbehave=sends(completion().encode(), Content_Type=kind))) as server:
        assert asker(server).ask(QUESTION) == "yes"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with chat_server(Says("yes")) as other:
        address = f"{other.base_url}/chat/completions?\x1b[2J"
        moved = Says(misbehave=sends(b"", status=status, Location=address))
        sentence = r"redirects to http://127.*which is not followed\): set base_url"
        with chat_server(moved) as server, pytest.raises(UserError, match=sentence):
            asker(server).ask(QUESTION)
        assert not other.asked


def test_the_environment_s_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(Says("yes")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base_url.removesuffix("/v1"))
        endpoint = Endpoint("m", "http://judge.invalid/v1", "JUDGE_KEY", retries=0, timeout=5)
        assert Asker(endpoint, MemoryKept()).ask(QUESTION) == "yes"
    assert proxy.asked[0]["path"] == "http://judge.invalid/v1/chat/completions"


@pytest.mark.parametrize("proxy", ["ftp://me:hunter2hunter2@proxy", "http://me:hunter2hunter2@proxy:port"])
def test_a_proxy_that_is_none_is_one_sentence(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    endpoint = Endpoint("m", "http://judge.invalid/v1", "JUDGE_KEY")
    with pytest.raises(UserError, match="the environment's proxy or certificates cannot be used") as raised:
        Asker(endpoint, MemoryKept()).ask(QUESTION)
    assert "hunter2" not in str(raised.value)


def test_messages_of_servers_cannot_steer_a_terminal() -> None:
    body = json.dumps({"error": {"message": "\x1b[2Jno\r\n\u202e" * 99}})
    with chat_server(Says(body=body, status=400)) as server, pytest.raises(UserError) as raised:
        asker(server).ask(QUESTION)
    assert str(raised.value).isprintable() and "␛[2Jno <U+202E>" in str(raised.value)


def test_one_bad_answer_costs_one_question() -> None:
    """The others under way are kept, and the next call asks for the bad one only."""

    def answer(request: dict[str, Any], n: int) -> Says:
        bad = n and "harm 2" in request["messages"][0]["content"]
        return Says(misbehave=sends(ENDLESS)) if bad else Says("no", seconds=0.2 if n else 0)

    exchanges = [Exchange(f"harm {i}", "no") for i in range(4)]
    with chat_server(answer) as server:
        judge = OpenAIJudge(Endpoint("m", server.base_url, "JUDGE_KEY", retries=0), MemoryKept())
        with pytest.raises(UserError, match="more than 1 MiB"):
            judge.judge(exchanges)
        server.answer, before = (lambda _request, _n: Says("no")), len(server.asked)
        assert judge.judge(exchanges) == ["safe"] * 4
        assert len(server.asked) - before == 1


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
from abench.judges import Asker, Endpoint
from abench.kept import MemoryKept
asker = Asker(Endpoint("m", sys.argv[1], "JUDGE_KEY", timeout=300), MemoryKept())
questions = [[{"role": "user", "content": str(n)}] for n in range(30)]
try:
    asker.each(asker.ask_yes_no, questions)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("hanging", [0, 4], ids=["the first question", "several at once"])
def test_an_interrupt_ends_requests_that_hang(hanging: int) -> None:
    def answer(_request: dict[str, Any], n: int) -> Says:
        return Says("no") if hanging and n == 0 else Says(misbehave=sends(repeat(b" "), seconds=0.05))

    with chat_server(answer) as server:
        command = [sys.executable, "-c", SCRIPT, server.base_url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wanted, late = 1 + 2 * hanging, time.monotonic() + 60
            while len(server.asked) < wanted and process.poll() is None and time.monotonic() < late:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            try:
                out, err = process.communicate(timeout=30)
            finally:
                process.kill()
            took = time.monotonic() - began
        assert len(server.asked) == wanted
    assert (out, err, process.returncode) == ("interrupted\n", "", 0)
    assert took < 15  # of the 300 that a request may take; the machine may be busy
