"""Pairs of prompts: a base, and a source from which an attribute's value is patched into the base.

Pairs are drawn in sae-bench's order from the same kind of generator, so that the same seed gives the same
pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from .answers import Known


@dataclass(frozen=True)
class Pair:
    """Indices of two known prompts about the same attribute with different labels."""

    base: int
    source: int
    isolates: bool
    """True: the prompts are about an attribute that should not change, so the base's answer should stay.
    False: the source's answer should appear."""

    @property
    def target(self) -> int:
        """The index of the prompt whose answer is correct."""
        return self.base if self.isolates else self.source


@dataclass(frozen=True)
class Experiment:
    """The pairs for one attribute."""

    kind: str
    attribute: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]


def experiments(
    known: Sequence[Known],
    attributes: Mapping[str, tuple[str, ...]],
    *,
    pairs: int,
    train_share: float,
    seed: int,
) -> list[Experiment]:
    """One experiment per attribute of each kind, with at most as many isolation pairs as cause pairs.

    Each known prompt is the base of at most one cause pair about its attribute, so there may be fewer than
    `pairs`. Every attribute needs known prompts with two different labels.
    """
    random = Random(seed)
    made = []
    for kind, names in attributes.items():
        members = {
            name: [i for i, k in enumerate(known) if (k.prompt.kind, k.prompt.attribute) == (kind, name)]
            for name in names
        }
        for name in names:
            cause = _draw(known, members[name], pairs, random)
            other = [p for rest in names if rest != name for p in _draw(known, members[rest], pairs, random)]
            random.shuffle(other)
            both = [Pair(*each, isolates=False) for each in cause]
            both += [Pair(*each, isolates=True) for each in other[: len(cause)]]
            random.shuffle(both)
            cut = int(len(both) * train_share)
            made.append(Experiment(kind, name, tuple(both[:cut]), tuple(both[cut:])))
    return made


def _draw(known: Sequence[Known], members: list[int], pairs: int, random: Random) -> list[tuple[int, int]]:
    """(base, source) pairs, in which each source has another label than its base."""
    others = {
        label: [i for i in members if known[i].prompt.label != label]
        for label in {known[i].prompt.label for i in members}
    }
    bases = members if len(members) < pairs else random.sample(members, pairs)
    return [(base, random.choice(others[known[base].prompt.label])) for base in bases]
