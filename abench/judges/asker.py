"""Questions to a model behind an endpoint, with a cache so that no question is sent twice."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from abench.judges.endpoint import Endpoint
from abench.judges.exchange import Messages
from abench.kept import Kept
from abench.storage.keys import canonical_json

if TYPE_CHECKING:
    from abench.judges.connection import Connection

Answer = TypeVar("Answer")

_ONE_WORD = "Answer with one word only: yes or no."


class Asker:
    """Sends questions to an endpoint and caches every question with its answer in `kept`."""

    def __init__(self, endpoint: Endpoint, kept: Kept) -> None:
        self.endpoint = endpoint
        self._kept = kept
        self._answered = False
        """Whether the endpoint has answered before."""

    @cached_property
    def _connection(self) -> "Connection":
        return self.endpoint.open()

    def kept_answer(self, messages: Messages) -> str | None:
        """The cached answer, or None; sends no request and needs no key."""
        kept = self._kept.get(self._spec(messages))
        answer = kept.get("text") if isinstance(kept, dict) else None
        return answer if isinstance(answer, str) else None

    def ask(self, messages: Messages) -> str:
        """The answer, cached or new; raises UserError if the endpoint gives none."""
        answer = self.kept_answer(messages)
        if answer is None:
            completion = self._connection.complete(messages)
            self._kept.put(self._spec(messages), asdict(completion))
            self._answered = True
            answer = completion.text
        return answer

    def ask_yes_no(self, messages: Messages) -> bool | None:
        """True for yes, False for no; if the answer is neither, ask once more and then return None."""
        return self.ask_until_read(messages, read_yes_no, _ONE_WORD)

    def ask_until_read(
        self, messages: Messages, read: Callable[[str], Answer | None], again: str
    ) -> Answer | None:
        """What `read` makes of the answer; if that is None, ask once more with the request `again` added."""
        found = read(self.ask(messages))
        return read(self.ask(_again(messages, again))) if found is None else found

    def each(self, ask: Callable[[Messages], Answer], questions: Sequence[Messages]) -> list[Answer]:
        """The results of `ask` for all questions, in order; identical questions are sent once.

        `ask` is one of the methods above or calls them. Up to `endpoint.parallel` requests run in parallel,
        but only one until the endpoint has answered for the first time, so that a wrong key or address costs
        one request. After an error no further question is sent, and answers to the running ones are still
        cached; the error of the earliest question is raised. An interrupt ends the running requests and
        returns at once.
        """
        keys = [canonical_json(self._spec(question)) for question in questions]
        distinct = dict(zip(keys, questions, strict=True))
        waiting, answers = deque(distinct.values()), []
        while waiting and not self._answered:
            answers.append(ask(waiting.popleft()))
        try:
            answers += _at_once(ask, waiting, self.endpoint.parallel, self._abandon)
        except KeyboardInterrupt:
            # Later calls in the same process open a new connection.
            self.__dict__.pop("_connection", None)
            raise
        found = dict(zip(distinct, answers, strict=True))
        return [found[key] for key in keys]

    def unasked(self, messages: Messages) -> Messages | None:
        """The first question that `ask_yes_no` would send; None if all its answers are cached."""
        answer = self.kept_answer(messages)
        if answer is None:
            return messages
        if read_yes_no(answer) is not None or self.kept_answer(_again(messages, _ONE_WORD)) is not None:
            return None
        return _again(messages, _ONE_WORD)

    def _abandon(self) -> None:
        """End the running requests if a connection is open; does not open one, which would need the key."""
        if (connection := self.__dict__.get("_connection")) is not None:
            connection.abandon()

    def _spec(self, messages: Messages) -> dict[str, Any]:
        return {"chat": self.endpoint.spec() | {"messages": [dict(message) for message in messages]}}


def _at_once(
    ask: Callable[[Messages], Answer],
    questions: Iterable[Messages],
    parallel: int,
    abandon: Callable[[], None] = lambda: None,
) -> list[Answer]:
    stopped = Event()

    def unless_stopped(question: Messages) -> Answer:
        if stopped.is_set():
            raise CancelledError
        try:
            return ask(question)
        except BaseException:
            stopped.set()
            raise

    pool = ThreadPoolExecutor(parallel)
    try:
        begun = [pool.submit(unless_stopped, each) for each in questions]
        faults = [each.exception() for each in begun]
    except BaseException:
        # On an interrupt, the pool would wait for its threads, and they for the endpoint.
        stopped.set()
        abandon()
        raise
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
    # A question may have been cancelled because of an error in a later one, which is raised instead.
    for fault in faults:
        if fault is not None and not isinstance(fault, CancelledError):
            raise fault
    return [each.result() for each in begun]


def read_yes_no(answer: str) -> bool | None:
    """True for yes, False for no, None for anything else; ignores case, quotes, stars and a full stop."""
    return {"yes": True, "no": False}.get(answer.strip().strip("\"'*`.!").lower())


def _again(messages: Messages, request: str) -> Messages:
    """The same question with an explicit request for an answer that can be read.

    It stays one message, because some servers refuse two consecutive messages of a role, and others an empty
    assistant message.
    """
    *before, last = messages
    return [*before, {**last, "content": f"{last['content']}\n\n{request}"}]
