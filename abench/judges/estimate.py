"""The expected cost of questions to an endpoint, before the first one is sent."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from abench.judges.endpoint import Endpoint
from abench.judges.exchange import Messages

if TYPE_CHECKING:
    from abench.judges.asker import Asker

_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Estimate:
    """The expected cost of judging, without repeated requests for answers that cannot be read."""

    requests: int
    """Number of questions to send."""
    tokens: int
    """Approximate tokens of these questions and their answers: four characters per token, no reasoning."""
    kept: int
    """Number of questions whose answer is cached."""

    @classmethod
    def of(cls, asker: "Asker", questions: Iterable[Messages], *, answer_tokens: int) -> "Estimate":
        """The cost of asking these questions once each; sends no request and needs no key."""
        every = list(questions)
        missing = [each for each in every if asker.kept_answer(each) is None]
        distinct = {tuple(message["content"] for message in each): each for each in missing}
        tokens = sum(question_tokens(each) + answer_tokens for each in distinct.values())
        return cls(len(distinct), tokens, len(every) - len(missing))

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.requests + other.requests, self.tokens + other.tokens, self.kept + other.kept)

    def sentence(self, endpoint: Endpoint) -> str:
        return (
            f"judging with {endpoint.model} at {endpoint.base_url}: {self.requests:,} requests, about "
            f"{self.tokens:,} tokens; {self.kept:,} verdicts are already cached"
        )


def question_tokens(messages: Messages) -> int:
    """Approximate tokens of a question."""
    return ceil(sum(len(message["content"]) for message in messages) / _CHARACTERS_PER_TOKEN)
