"""What steering experiments compute: replies of full length, and questions, at every setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from abench import Cost, Work

if TYPE_CHECKING:
    from abench import CostSetting

_TINY_REPLY, _TINY_PROMPT, _TINY_QUESTION, _TINY_QUESTIONS = 24, 12, 20, 360
_REQUEST, _QUESTION, _SUBJECTS = 40, 110, 57
_MMLU = {"validation": 1531, "test": 14042}
"""Questions of MMLU's parts."""
_BATCH = 64
_CANDIDATES = 2


class Steered(NamedTuple):
    """The options that the cost depends on."""

    strengths: int
    """In both directions."""
    concept_prompts: int
    validation_requests: int
    test_requests: int
    validation_questions: int | None
    shots: int
    max_new_tokens: int


def priced(setting: CostSetting, options: Steered) -> Cost:
    """The cost with replies of full length; shorter replies cost less."""
    tiny = setting.data.source == "tinyworld"
    prompt = _TINY_PROMPT if tiny else _REQUEST
    reply = min(options.max_new_tokens, _TINY_REPLY) if tiny else options.max_new_tokens
    question = _TINY_QUESTION if tiny else _QUESTION * (1 + options.shots)

    def questions(part: str, most: int | None) -> int:
        size = _TINY_QUESTIONS if tiny else _MMLU[part]
        subjects = 1 if tiny else _SUBJECTS
        limits = [each for each in (most, setting.evaluation.limit) if each is not None]
        return min(size, subjects * min(limits, default=size))

    def exam(asked: int, requests: int) -> Work:
        requests = 2 * max(2, setting.limited(requests))
        read = asked * question + requests * prompt
        return Work(
            lower=read,
            upper=read,
            logits=read,
            generated=requests * reply,
            passes=-(-asked // _BATCH) + -(-requests // _BATCH) * reply,
            requests=0 if tiny else requests / 2,
        )

    validation = exam(questions("validation", options.validation_questions), options.validation_requests)
    test = exam(questions("test", None), options.test_requests)
    method = options.strengths * (_CANDIDATES * validation + test)
    concepts = 2 * max(2, setting.limited(options.concept_prompts)) * prompt
    found = 2 * setting.read(concepts)
    # A clamped latent encodes and decodes every activation of a pass.
    patched = Work(encoded=method.lower + method.generated, decoded=method.lower + method.generated)
    return Cost(
        found + method,
        found + method + patched + Work(encoded=concepts),
        validation + test,
        assumes=f"replies have {reply} tokens",
    )
