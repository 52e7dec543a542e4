"""What steering experiments compute: replies of full length, and questions, at every setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from abench import Cost, Work

from .methods import GRADIENT_PROMPTS

if TYPE_CHECKING:
    from abench import CostSetting

_TINY_REPLY, _TINY_PROMPT, _TINY_QUESTION, _TINY_QUESTIONS = 24, 12, 20, 360
_REQUEST, _QUESTION, _SUBJECTS = 40, 110, 57
_MMLU = {"validation": 1531, "test": 14042}
"""Questions of MMLU's parts."""
_BATCH = 64
_CONTINUATIONS = 8
"""Beginnings of refusals and compliances, at most."""
_RULES = 2


class Steered(NamedTuple):
    """The options that the cost depends on."""

    strengths: int
    candidates: int
    screen_requests: int
    finalists: int
    finer: int
    controls: int
    concept_prompts: int
    validation_requests: int
    test_requests: int
    validation_questions: int | None
    test_questions: int | None
    shots: int
    max_new_tokens: int
    own_questions: bool
    """Whether the tiny world's own questions are asked, on the tiny world."""

    @classmethod
    def of(cls, options: Any) -> Steered:
        """From the task's options."""
        plain = {name: getattr(options, name) for name in cls._fields if hasattr(options, name)}
        plain |= {"strengths": len(options.strengths), "own_questions": options.utility_task is None}
        return cls(**plain)


def priced(setting: CostSetting, options: Steered) -> Cost:
    """The cost with replies of full length; shorter replies cost less."""
    tiny = setting.data.source == "tinyworld"
    prompt = _TINY_PROMPT if tiny else _REQUEST
    reply = min(options.max_new_tokens, _TINY_REPLY) if tiny else options.max_new_tokens
    own = tiny and options.own_questions
    question = _TINY_QUESTION if own else _QUESTION * (1 + options.shots)

    def questions(part: str, most: int | None) -> int:
        size = _TINY_QUESTIONS if own else _MMLU[part]
        subjects = 1 if own else _SUBJECTS
        limits = [each for each in (most, setting.evaluation.limit) if each is not None]
        return min(size, subjects * min(limits, default=size))

    def exam(asked: int, harmful: int, harmless: int) -> Work:
        read = asked * question + (harmful + harmless) * prompt
        batches = -(-harmful // _BATCH) + -(-harmless // _BATCH)
        return Work(
            lower=read,
            upper=read,
            logits=read,
            generated=(harmful + harmless) * reply,
            passes=-(-asked // _BATCH) + batches * reply,
            requests=0 if tiny else harmful,
        )

    chosen_on, shown_on = (
        max(2, setting.limited(n)) for n in (options.validation_requests, options.test_requests)
    )
    screen = exam(0, min(options.screen_requests, chosen_on), 0)
    validation = exam(questions("validation", options.validation_questions), chosen_on, 0)
    test = exam(questions("test", options.test_questions), shown_on, shown_on)
    grid = options.finalists * 2 * options.strengths + _RULES * 2 * options.finer
    method = 2 * options.candidates * screen + grid * validation + _RULES * (1 + options.controls) * test
    concepts = 2 * max(2, setting.limited(options.concept_prompts)) * prompt
    found = setting.read(concepts)
    of_latents = 2 * setting.read(concepts)
    sloped = min(GRADIENT_PROMPTS, max(2, setting.limited(options.concept_prompts))) * _CONTINUATIONS
    gradient = Work(
        lower=sloped * prompt,
        upper=sloped * prompt,
        logits=sloped * prompt,
        backward=sloped * prompt,
        passes=-(-sloped // _BATCH),
    )
    # A clamped latent encodes and decodes every activation of a pass.
    patched = Work(encoded=method.lower + method.generated, decoded=method.lower + method.generated)
    unsteered = validation + test
    return Cost(
        found + of_latents + method + gradient,
        method + patched + Work(encoded=2 * concepts),
        unsteered,
        assumes=f"replies have {reply} tokens, and the two rules choose different settings",
    )
