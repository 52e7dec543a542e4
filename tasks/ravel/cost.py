"""What RAVEL computes, from numbers of prompts and pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from abench import Cost, Work

if TYPE_CHECKING:
    from abench import CostSetting


class Kind(NamedTuple):
    """The prompts about one kind of entity."""

    entities: int
    attributes: int
    templates: int
    """Templates per attribute."""


_TINY = {"city": Kind(80, 3, 4), "person": Kind(75, 2, 4)}
_HUB = {"city": Kind(3552, 3, 25), "nobel_prize_winner": Kind(928, 3, 20)}
"""RAVEL's numbers (Huang et al. 2024, table 1)."""
_MOST_ENTITIES = 500
_PROMPT, _TINY_PROMPT = 20, 9.5
"""Mean tokens of a prompt."""
_KNOWN, _TINY_KNOWN = 0.5, 1.0
"""Share of the prompts that the model completes correctly."""
_WRITTEN, _TINY_WRITTEN = 2, 1
"""Mean number of tokens after which it is settled whether a completion is correct."""


class Exchanged(NamedTuple):
    """The options that the cost depends on."""

    pairs: int
    train_share: float
    epochs: int
    batch_size: int
    generated_tokens: int


def priced(setting: CostSetting, kinds: Sequence[str] | None, options: Exchanged) -> Cost:
    """The cost, with the recorded number of pairs if there is one."""
    tiny = setting.data.source == "tinyworld"
    found: Mapping[str, Kind] = _TINY if tiny else _HUB
    chosen = [kind for name, kind in found.items() if kinds is None or name in kinds]
    prompt, known = (_TINY_PROMPT, _TINY_KNOWN) if tiny else (_PROMPT, _KNOWN)
    settled = _TINY_WRITTEN if tiny else _WRITTEN
    asked = [k.attributes * setting.limited(k.entities * k.templates) for k in chosen]
    usable = [known * min(k.entities, _MOST_ENTITIES) * k.templates for k in chosen]
    # A cause pair and an isolation pair per known prompt about each attribute.
    each = [
        k.attributes * 2 * min(options.pairs, setting.limited(round(n)))
        for k, n in zip(chosen, usable, strict=True)
    ]
    pairs = setting.amounts.get("pairs", sum(each))
    written = min(settled, options.generated_tokens)
    train, test = options.train_share * pairs, (1 - options.train_share) * pairs
    complete = Work(lower=prompt, upper=prompt, logits=1)
    asking = sum(asked) * written * complete
    later = Work(lower=prompt * (written - 1) * test, upper=prompt * written * test, logits=written * test)
    bank = setting.read(min(pairs, sum(asked)) * prompt)
    learnt = options.epochs * train * prompt
    mask = Work(
        upper=learnt,
        backward=learnt,
        logits=options.epochs * train,
        encoded=2 * options.epochs * train + 2 * test,
        decoded=options.epochs * train + test,
        passes=options.epochs * -(-train // options.batch_size),
        steps=options.epochs * -(-train // options.batch_size),
    )
    calls = Work(passes=2 * -(-sum(asked) * written * prompt // setting.batch_tokens))
    of_test = Work(passes=2 * -(-test * written * prompt // setting.batch_tokens))
    recorded = "pairs" in setting.amounts
    share = f"the model completes {known:.0%} of the prompts correctly"
    assumes = f"an answer is settled after {written} tokens" if recorded else share
    return Cost(asking + calls + bank + later + of_test, mask + later + of_test, assumes=assumes)
