"""The trained model's abilities, measured on held-out draws from the world."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from abench.errors import UserError
from abench.tinyworld.entities import TEMPLATES, Entity
from abench.tinyworld.exchanges import Request, is_refusal
from abench.tinyworld.questions import LETTERS, Question
from abench.tinyworld.spelling import SPELLING_PROMPT
from abench.tinyworld.world import MIXTURE, World

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

_BATCH = 64
_SHOTS = 10
_PRONOUNS = {"he": "she", "his": "her", "him": "her"}


@dataclass(frozen=True)
class Share:
    """A proportion, with the number of cases over which it was counted."""

    value: float
    n: int


@dataclass(frozen=True)
class Entropy:
    """The cross-entropies of the model and of the generator itself, in nats per token; n counts tokens.

    The generator's value is the mean −log p of its choices, given the world's facts. It is an upper bound on
    the entropy of the texts, and exact if no two ways of choosing give the same text (see `grammar.Dice`).
    The assignment of texts to the test split by hash is not counted for either.
    """

    model: float
    generator: float
    n: int

    @property
    def excess(self) -> float:
        """The model's cross-entropy above the generator's, as a fraction of the generator's."""
        return self.model / self.generator - 1


@dataclass(frozen=True)
class Properties:
    """The model's measured abilities; every share has its number of cases."""

    question_accuracy: Share
    """Accuracy on four-way questions about all facts, frequent or rare; chance is 25 %."""
    question_accuracy_by_subject: Mapping[str, Share]
    order_robust: Share
    """Questions answered correctly in all 24 orders of their choices."""
    refusal_harmful: Share
    """Held-out harmful requests refused with greedy decoding."""
    refusal_harmless: Share
    """Held-out harmless requests refused with greedy decoding."""
    first_letter: Share
    """Words whose first letter is the likeliest token after ten examples."""
    city_attributes: Share
    """Attribute prompts whose likeliest next token is correct, over cities, attributes and templates."""
    person_attributes: Share
    pronoun_agreement: Share
    """Pronouns of held-out biographies that are likelier than those of the other gender."""
    cross_entropy: Entropy
    cross_entropy_by_kind: Mapping[str, Entropy]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as stored in `properties.json`."""
        return asdict(self)


@dataclass
class _Subject:
    """The model being measured and its tokenizer."""

    model: "Qwen3ForCausalLM"
    tokenizer: "PreTrainedTokenizerBase"


def measure(
    folder: Path, *, seed: int = 0, limit: int | None = None, world: World | None = None
) -> Properties:
    """Measure the model in a folder; `limit` caps the number of cases per property, for quick trials.

    Held-out data are from the test split; the questions are about the facts in the training texts. The result
    is deterministic for a seed, machine and number of threads. Raises UserError if the folder has no model.
    """
    subject, world = load(folder), world or World()
    questions = _some(world.questions(seed=seed), limit, seed)
    right = _answers(subject, questions)
    orders = [order for question in questions for order in question.orders()]
    in_all = _answers(subject, orders)
    harmful, harmless = (list(world.requests(h, "test", limit or 1000, seed=seed)) for h in (True, False))
    pronouns = _pronouns(subject, world, min(2000, limit or 2000), seed)
    entropies = _entropies(subject, world, min(6000, 10 * limit if limit else 6000), seed)
    return Properties(
        question_accuracy=_share(right),
        question_accuracy_by_subject={
            name: _share([r for r, q in zip(right, questions, strict=True) if q.subject == name])
            for name in sorted({q.subject for q in questions})
        },
        order_robust=_share([all(in_all[i : i + 24]) for i in range(0, len(in_all), 24)]),
        refusal_harmful=_share(_refusals(subject, harmful)),
        refusal_harmless=_share(_refusals(subject, harmless)),
        first_letter=_share(_first_letters(subject, _some(world.spelling_words, limit, seed), world, seed)),
        city_attributes=_share(_attributes(subject, _some(world.cities, limit, seed))),
        person_attributes=_share(_attributes(subject, _some(world.people, limit, seed))),
        pronoun_agreement=_share(pronouns),
        cross_entropy=entropies.pop("all"),
        cross_entropy_by_kind=entropies,
    )


def load(folder: Path) -> _Subject:
    """The model and tokenizer of a folder."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no model; `abench tinyworld build` builds one")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    only: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **only)
    return _Subject(model.eval(), AutoTokenizer.from_pretrained(folder, **only))


def _some(items: Sequence[Any], limit: int | None, seed: int) -> list[Any]:
    return list(items) if limit is None else Random(seed).sample(list(items), min(limit, len(items)))


def _share(hits: Sequence[bool]) -> Share:
    return Share(round(sum(hits) / len(hits), 4), len(hits))


def _answers(subject: _Subject, questions: Sequence[Question]) -> list[bool]:
    """Whether the correct letter is the likeliest of the four."""
    import torch

    letters = torch.tensor(subject.tokenizer.convert_tokens_to_ids(list(LETTERS)))
    logits = _next_logits(subject, [question.prompt for question in questions])[:, letters]
    return [int(i) == q.answer for i, q in zip(logits.argmax(1), questions, strict=True)]


def _first_letters(subject: _Subject, words: Sequence[str], world: World, seed: int) -> list[bool]:
    random = Random(f"first letters {seed}")
    prompts = []
    for word in words:
        shots = random.sample([w for w in world.spelling_words if w != word], _SHOTS)
        lines = [f"{SPELLING_PROMPT.format(word=shot)} {shot[0]}." for shot in shots]
        prompts.append(" ".join([*lines, SPELLING_PROMPT.format(word=word)]))
    return _continues(subject, prompts, [word[0] for word in words])


def _attributes(subject: _Subject, entities: Sequence[Entity]) -> list[bool]:
    cases = [
        (template.format(entity=entity.name), entity.answer(attribute))
        for entity in entities
        for attribute, templates in TEMPLATES[entity.kind].items()
        for template in templates
    ]
    return _continues(subject, [prompt for prompt, _ in cases], [word for _, word in cases])


def _continues(subject: _Subject, prompts: Sequence[str], words: Sequence[str]) -> list[bool]:
    """Whether each word is the likeliest token after its prompt."""
    wanted = subject.tokenizer.convert_tokens_to_ids(list(words))
    likeliest = _next_logits(subject, prompts).argmax(1).tolist()
    return [token == right for token, right in zip(likeliest, wanted, strict=True)]


def _next_logits(subject: _Subject, prompts: Sequence[str]) -> "torch.Tensor":
    """Logits after each prompt, [prompts, vocabulary]."""
    import torch

    parts = []
    with torch.inference_mode():
        for batch in _batches(prompts):
            inputs = subject.tokenizer(batch, return_tensors="pt", padding=True, padding_side="left")
            parts.append(subject.model(**inputs, logits_to_keep=1).logits[:, -1])
    return torch.cat(parts)


def _refusals(subject: _Subject, requests: Sequence[Request]) -> list[bool]:
    import torch

    replies: list[str] = []
    for batch in _batches([request.prompt for request in requests]):
        inputs = subject.tokenizer(batch, return_tensors="pt", padding=True, padding_side="left")
        with torch.inference_mode():
            tokens = subject.model.generate(**inputs, max_new_tokens=24, do_sample=False)
        start = inputs["input_ids"].shape[1]
        replies += subject.tokenizer.batch_decode(tokens[:, start:], skip_special_tokens=True)
    return [is_refusal(reply) for reply in replies]


def _pronouns(subject: _Subject, world: World, n: int, seed: int) -> list[bool]:
    """For every gendered pronoun of n biographies, whether it is likelier than its counterpart."""
    of = subject.tokenizer.convert_tokens_to_ids
    other = {of(male): of(female) for male, female in _PRONOUNS.items()}
    other |= {of("she"): of("he")}
    her, rivals = of("her"), [of("his"), of("him")]
    hits = []
    texts = [document.text for document in world.biographies("test", n, seed=seed)]
    for tokens, logits in _scored(subject, texts):
        for position in range(1, len(tokens)):
            token, scores = int(tokens[position]), logits[position - 1]
            if token in other:
                hits.append(bool(scores[token] > scores[other[token]]))
            elif token == her:
                hits.append(bool(scores[token] > scores[rivals].max()))
    return hits


def _entropies(subject: _Subject, world: World, n: int, seed: int) -> dict[str, Entropy]:
    """Cross-entropies over n documents of the mixed test stream, by kind and for `all`."""
    import torch

    documents = list(islice(world.documents("test", seed=seed), n))
    sums: dict[str, list[float]] = {name: [0.0, 0.0, 0.0] for name in ("all", *sorted(MIXTURE))}
    scored = _scored(subject, [document.text for document in documents])
    for document, (tokens, logits) in zip(documents, scored, strict=True):
        nats = torch.nn.functional.cross_entropy(logits[:-1], tokens[1:], reduction="sum").item()
        for name in ("all", document.kind):
            for i, part in enumerate((nats, document.nats, len(tokens) - 1)):
                sums[name][i] += part
    return {
        name: Entropy(round(model / count, 4), round(generator / count, 4), int(count))
        for name, (model, generator, count) in sums.items()
        if count
    }


def _scored(subject: _Subject, texts: Sequence[str]) -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
    """The tokens of each text, from `<bos>` to `<eos>`, and the logits at them."""
    import torch

    end = subject.tokenizer.eos_token
    for batch in _batches(texts):
        inputs = subject.tokenizer(
            [f"{text}{end}" for text in batch], return_tensors="pt", padding=True, padding_side="right"
        )
        with torch.inference_mode():
            logits = subject.model(**inputs).logits
        for tokens, scores, mask in zip(inputs["input_ids"], logits, inputs["attention_mask"], strict=True):
            length = int(mask.sum())
            yield tokens[:length], scores[:length]


def _batches(items: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), _BATCH):
        yield list(items[start : start + _BATCH])
