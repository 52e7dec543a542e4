"""What unlearning computes, from numbers of questions and the length of its prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abench import Cost, Work
from abench.tinyworld import SUBJECTS

if TYPE_CHECKING:
    from abench import CostSetting

_TINY_QUESTIONS, _TINY_PROMPT, _TINY_KNOWN = 72, 23.5, 0.75
"""The tiny world's questions per subject, their tokens, and the share that its model knows."""
_TINY_ROWS = {"forget": 230, "retain": 422}
"""Rows of the tiny world's texts; they are short, so there are fewer than requested."""
_FORGET_QUESTIONS, _RETAIN_QUESTIONS = 1273, 725
"""Questions of WMDP's biology and of sae-bench's four subjects of MMLU."""
_PROMPT, _FORGET_SHARE, _KNOWN = 110, 0.64, 0.3
_TOUCHED = 0.5
"""Share of the known questions in which a clamped latent fires."""
_ORDERS_OF_UNKNOWN = 2
"""Orders of choices in which a question is asked before it proves to be unknown."""


@dataclass(frozen=True)
class ClampedQuestions:
    """The options that the cost depends on."""

    orders: int
    settings: int
    """Sets of clamped latents, times the codes that they are clamped to."""
    dataset_size: int
    seq_len: int
    retain_subjects: Sequence[str] | None


def priced(setting: CostSetting, asked: ClampedQuestions) -> Cost:
    """The cost, with the recorded number of known questions if there is one."""
    tiny = setting.data.source == "tinyworld"
    if tiny:
        subjects = len(SUBJECTS) if asked.retain_subjects is None else 1 + len(asked.retain_subjects)
        questions, prompt = subjects * setting.limited(_TINY_QUESTIONS), _TINY_PROMPT
        size = min(asked.seq_len, setting.context_size)
        rows = sum(setting.limited(min(each, asked.dataset_size)) for each in _TINY_ROWS.values())
        share = 1 / subjects
    else:
        subjects = 4 if asked.retain_subjects is None else len(asked.retain_subjects)
        retain = _RETAIN_QUESTIONS * subjects / 4
        questions = setting.limited(_FORGET_QUESTIONS) + setting.limited(round(retain))
        prompt, size, share = _PROMPT, asked.seq_len, _FORGET_SHARE
        rows = 2 * setting.limited(asked.dataset_size)
    known = setting.amounts.get("known questions", (_TINY_KNOWN if tiny else _KNOWN) * questions)
    times = known * asked.orders + (questions - known) * min(_ORDERS_OF_UNKNOWN, asked.orders)
    told = Work(lower=times * prompt, upper=times * prompt, logits=times)
    reading = setting.read(known * prompt + rows * size)
    control = Work(upper=share * known * prompt, logits=share * known)
    touched = _TOUCHED * known * asked.settings
    of_sae = Work(upper=touched * prompt, logits=touched, encoded=known * prompt + rows * size)
    of_model = told + Work(passes=2 * -(-times * prompt // setting.batch_tokens))
    of_sae += Work(passes=asked.settings * -(-known * prompt // setting.batch_tokens))
    each = "75 %" if tiny else "30 %"
    recorded = "known questions" in setting.amounts
    assumes = "a clamped latent fires in half of the known questions"
    return Cost(
        reading + control, of_sae, of_model, assumes if recorded else f"{each} of the questions are known"
    )
