"""What the trained model can do: its properties, measured on held-out draws from the world."""

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
    """A proportion and the number of cases it was counted over."""

    value: float
    n: int


@dataclass(frozen=True)
class Entropy:
    """The model's cross-entropy and the generator's own, in nats a token; n in tokens.

    The generator's figure is the mean of its choices' −log p, given the world's facts: an upper bound on the
    entropy of the texts, met where no two ways of choosing give the same text (see `grammar.Dice`). That a
    text's hash put it in the test split is counted for neither.
    """

    model: float
    generator: float
    n: int

    @property
    def excess(self) -> float:
        """How far the model's cross-entropy lies above the generator's, as a fraction of it."""
        return self.model / self.generator - 1


@dataclass(frozen=True)
class Properties:
    """What the model can do; every share with its number of cases."""

    question_accuracy: Share
    """Four-way questions about all facts, told often or hardly ever; chance is 25 %."""
    question_accuracy_by_subject: Mapping[str, Share]
    order_robust: Share
    """Questions answered right under all 24 orders of their choices."""
    refusal_harmful: Share
    """Held-out harmful requests refused under greedy decoding."""
    refusal_harmless: Share
    """Held-out harmless requests refused under greedy decoding."""
    first_letter: Share
    """Words whose first letter is the likeliest token after ten examples."""
    city_attributes: Share
    """Attribute prompts whose likeliest next token is right, over cities, attributes and templates."""
    person_attributes: Share
    pronoun_agreement: Share
    """Pronouns of held-out biographies that are likelier than those of the other gender."""
    cross_entropy: Entropy
    cross_entropy_by_kind: Mapping[str, Entropy]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as `properties.json` keeps it."""
        return asdict(self)


@dataclass
class _Subject:
    """The model being measured and its tokenizer."""

    model: "Qwen3ForCausalLM"
    tokenizer: "PreTrainedTokenizerBase"


def measure(
    folder: Path, *, seed: int = 0, limit: int | None = None, world: World | None = None
) -> Properties:
    """Measure the model in a folder; `limit` caps the cases of each property for a quick look.

    Held-out means the test split; the facts asked for are those the training texts tell. Deterministic for a
    seed, machine and number of threads. Raises UserError if the folder holds no model.
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
    """The model and tokenizer of a folder, ready to be measured."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no model; `abench tinyworld build` makes one")
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
    """Whether the right letter is the likeliest of the four."""
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
    """Logits after each prompt: (prompts, vocabulary)."""
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
    """For every gendered pronoun of n biographies, whether it beats its counterpart."""
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
    """Each text's tokens, from `<bos>` to `<eos>`, and the logits at them."""
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
