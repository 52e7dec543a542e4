"""RAVEL's parts: files and their faults, tokens and places, completions; on six architectures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from abench.tasks.ravel.answers import Known, PromptRow, ask, complete, tokenised
from abench.tasks.ravel.bank import Bank
from abench.tasks.ravel.mask import Fit, effect, learn_mask
from abench.tasks.ravel.pairs import Pair, experiments
from abench.tasks.ravel.prompts import TINY_ATTRIBUTES, Prompt, folder_prompts, prompts_by_kind, tiny_prompts
from architectures import ARCHITECTURES, VOCABULARY
from ravel_files import ATTRIBUTES, cache, files, write

from abench import Context, LanguageModel, Skip, UserError, site_name
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import MODEL_DIR

Folder = Callable[[str], Path]
SITE = "blocks.1.hook_resid_post"
HUB = Context(SITE, EvaluationSpec(), DataSpec(source="hub"), context_size=64)
PROMPTS = [
    Prompt("city", "country", "the city of ", "Santa Ana", " lies in", "x"),
    Prompt("city", "country", "", "Catdog", " is in", "y"),
    Prompt("city", "country", '{"city": "', "Łódź", '", "country": "', "z"),
    Prompt("city", "country", "on the mat of ", "Mat", "", "x"),
]


@pytest.fixture(params=sorted(ARCHITECTURES))
def lm(request: pytest.FixtureRequest, model_folder: Folder) -> LanguageModel:
    return LanguageModel.load(model_folder(request.param), name=request.param, dtype="float64")


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def test_the_entity_s_last_token_is_found_with_and_without_bos(lm: LanguageModel) -> None:
    rows, positions = tokenised(lm, PROMPTS)
    for prompt, row, position in zip(PROMPTS, rows, positions, strict=True):
        assert (row[0] == lm.bos_id) == (lm.bos_id is not None)
        begun = int(lm.bos_id is not None)
        until = prompt.before + prompt.entity
        assert lm.tokenizer.decode(row[begun : position + 1]) == until
        assert lm.tokenizer.decode(row[begun:position]) != until


def test_the_entity_s_last_token_is_found_where_spaces_belong_to_words(
    model_folder: Folder, tmp_path: Path
) -> None:
    """As in the tokenizers of Gemma and Llama 2, here with a token that begins the text by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["▁the", "▁city", "▁of", "▁Santa", "▁Ana", "▁lies", "▁in"]
    vocabulary = {word: number for number, word in enumerate(["<bos>", "<eos>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    for file in model_folder("llama-3.1-8b").glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(tmp_path)
    rows, positions = tokenised(LanguageModel.load(tmp_path, name="metaspace"), PROMPTS[:1])
    assert rows == [[0, 3, 4, 5, 6, 7, 8, 9]]
    assert positions == [5]


def test_places_in_the_tiny_world_are_names(tiny: LanguageModel) -> None:
    prompts = [*tiny_prompts("city", TINY_ATTRIBUTES["city"]), *tiny_prompts("person", ("field",))]
    rows, positions = tokenised(tiny, prompts)
    for prompt, row, position in zip(prompts, rows, positions, strict=True):
        assert tiny.tokenizer.decode(row[position]) == prompt.entity.split()[-1]


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_next_logits_are_those_of_a_full_pass(lm: LanguageModel, layer: int) -> None:
    site = site_name(layer)
    tokens = torch.randint(5, VOCABULARY, (4, 12), generator=torch.Generator().manual_seed(0))
    last = torch.tensor([11, 3, 7, 0])
    logits = lm.next_logits_from(lm.residual(tokens, site), tokens, last, site)
    for row, place in enumerate(last.tolist()):
        alone = lm.logits(tokens[row : row + 1, : place + 1])[0, -1]
        torch.testing.assert_close(logits[row], alone, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(lm.logits(tokens)[0, -1], logits[0], atol=1e-8, rtol=1e-6)


def test_next_logits_leave_no_trace_even_after_an_error(lm: LanguageModel) -> None:
    tokens = torch.full((2, 5), 9)
    before = lm.logits(tokens)
    with pytest.raises(RuntimeError):
        lm.next_logits_from(torch.zeros(2, 5, 7), tokens, torch.tensor([4, 4]), SITE)
    torch.testing.assert_close(lm.logits(tokens), before, rtol=0, atol=0)


def test_gradients_reach_the_residual_stream_and_nothing_else(lm: LanguageModel) -> None:
    tokens = torch.randint(5, VOCABULARY, (2, 8), generator=torch.Generator().manual_seed(1))
    residual = lm.residual(tokens, SITE).clone().requires_grad_()

    def total(x: torch.Tensor) -> torch.Tensor:
        return lm.next_logits_from(x, tokens, torch.tensor([7, 4]), SITE).log_softmax(-1)[:, 5].sum()

    (gradient,) = torch.autograd.grad(total(residual), residual)
    assert not gradient[1, 5:].any()
    step = torch.randn(residual.shape, dtype=residual.dtype, generator=torch.Generator().manual_seed(2))
    # A large step, because norms compute in float32 whatever the model's dtype.
    with torch.no_grad():
        numeric = (total(residual + 1e-2 * step) - total(residual - 1e-2 * step)) / 2e-2
    assert float((gradient * step).sum()) == pytest.approx(float(numeric), rel=0.02, abs=1e-3)
    assert all(parameter.grad is None for parameter in lm.model.parameters())


def greedy(lm: LanguageModel, row: list[int], steps: int, at: int, value: torch.Tensor | None) -> list[int]:
    """Completion by transformers' own forward of the whole text, with a hook that replaces one position."""

    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if value is not None:
            output[0, at] = value
        return output

    handle = lm._layers[1].register_forward_hook(hook)
    ids = list(row)
    with torch.no_grad():
        for _ in range(steps):
            ids.append(int(lm.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    handle.remove()
    return ids[len(row) :]


def test_completions_are_greedy_with_and_without_a_patch(lm: LanguageModel) -> None:
    rows, positions = tokenised(lm, PROMPTS)
    # A label nothing but itself can settle, so that all four tokens are written.
    asked = [PromptRow(row, p.text, "United States") for row, p in zip(rows, PROMPTS, strict=True)]
    generator = torch.Generator().manual_seed(3)
    values = 3 * torch.randn(len(rows), lm.d_model, dtype=torch.float64, generator=generator)

    def start(_numbers: list[int], tokens: torch.Tensor) -> torch.Tensor:
        return lm.residual(tokens, SITE)

    def patch(numbers: list[int], residual: torch.Tensor) -> torch.Tensor:
        patched = residual.clone()
        for row, number in enumerate(numbers):
            patched[row, positions[number]] = values[number]
        return patched

    written, _ = complete(lm, SITE, asked, 4, start)
    changed, _ = complete(lm, SITE, asked, 4, start, patch)
    for number, (row, at) in enumerate(zip(rows, positions, strict=True)):
        assert written[number] == greedy(lm, row, 4, at, None)
        assert changed[number] == greedy(lm, row, 4, at, values[number])
    assert changed != written


def test_what_a_settled_completion_would_go_on_with_is_not_asked(tiny: LanguageModel) -> None:
    known = ask(tiny, SITE, tiny_prompts("city", ("country",))[:8], 6)
    asked = [PromptRow(k.row, k.prompt.text, k.prompt.label) for k in known]
    written, right = complete(tiny, SITE, asked, 6, lambda _, tokens: tiny.residual(tokens, SITE))
    assert all(right)
    assert [len(each) for each in written] == [1] * len(known)


def test_an_effect_is_that_of_the_values_at_the_entity(tiny: LanguageModel) -> None:
    """Counted again pair by pair, with transformers' own forward and a hook."""
    known = ask(tiny, SITE, tiny_prompts("city", TINY_ATTRIBUTES["city"])[:96], 6)
    (made, *_) = experiments(known, {"city": TINY_ATTRIBUTES["city"]}, pairs=24, train_share=0.5, seed=0)
    bank = Bank(tiny, SITE, known, set(range(len(known))))
    values = bank.at_entity([pair.source for pair in made.test]) * 0.9
    right: dict[bool, list[bool]] = {False: [], True: []}
    for pair, value in zip(made.test, values, strict=True):
        base, target = known[pair.base], known[pair.target]
        right[pair.isolates].append(greedy(tiny, base.row, 1, base.position, value) == [target.first])
    result = effect(values, made.test, bank, tiny, SITE, 6)
    assert result.cause == sum(right[False]) / len(right[False]) > 0
    assert result.isolation == sum(right[True]) / len(right[True]) < 1


def test_a_mask_is_learnt_on_every_architecture(lm: LanguageModel) -> None:
    from signed import flipped, random_sae

    rows, positions = tokenised(lm, PROMPTS)
    known = [
        Known(p, row, at, 5 + n) for n, (p, row, at) in enumerate(zip(PROMPTS, rows, positions, strict=True))
    ]
    bank = Bank(lm, SITE, known, {0, 1, 2, 3})
    pairs = [Pair(0, 1, isolates=False), Pair(2, 0, isolates=True), Pair(3, 2, isolates=False)]
    sae = random_sae(d_in=32, width=64, k=8).to(torch.float64)
    masks = [learn_mask(each, pairs, bank, lm, SITE, Fit(1e-2, 4, 2)) for each in (sae, flipped(sae))]
    assert torch.equal(*masks)
    assert 0 < int(masks[0].sum()) < 64


def test_prompts_come_from_the_hub_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache(tmp_path, monkeypatch)
    found = prompts_by_kind(ATTRIBUTES, HUB, None)
    assert {kind: len(each) for kind, each in found.items()} == {"city": 600, "nobel_prize_winner": 400}
    tiny = [p for p in tiny_prompts("city", TINY_ATTRIBUTES["city"]) if p.entity == found["city"][0].entity]
    assert found["city"][:12] == tiny
    limited = prompts_by_kind(ATTRIBUTES, HUB, 7)
    assert {kind: len(each) for kind, each in limited.items()} == {"city": 21, "nobel_prize_winner": 14}
    assert limited == prompts_by_kind(ATTRIBUTES, HUB, 7)


def test_without_cache_and_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"the files of adamkarvonen/ravel_prompts are not on this"):
        prompts_by_kind(ATTRIBUTES, HUB, None)


def test_faults_of_files_are_sentences(tmp_path: Path) -> None:
    write(tmp_path / "a", without="ravel_city_entity_attributes.json")
    with pytest.raises(UserError, match=r"ravel_city_entity_attributes\.json is missing from"):
        folder_prompts(tmp_path / "a", "city", ("country",))
    (tmp_path / "a" / "ravel_city_entity_attributes.json").write_text("{")
    with pytest.raises(UserError, match="is not valid JSON"):
        folder_prompts(tmp_path / "a", "city", ("country",))
    (tmp_path / "a" / "ravel_city_entity_attributes.json").write_text("[]")
    with pytest.raises(UserError, match="has no entries"):
        folder_prompts(tmp_path / "a", "city", ("country",))


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("attribute_to_prompts", {"language": ["%s"]}, "has no attribute 'country'; it has language"),
        ("attribute_to_prompts", {"country": ["the city"]}, "'the city' must contain %s"),
        ("attribute_to_prompts", {"country": ["%s and %s"]}, "must contain %s, for the entity, exactly once"),
        ("entity_attributes", {"Ulm": {"continent": "x"}}, "'Ulm' in .* has no attribute 'country'"),
        ("entity_attributes", {"": {"country": "x"}}, "has an empty name"),
    ],
)
def test_columns_that_are_missing(tmp_path: Path, file: str, content: Any, sentence: str) -> None:
    write(tmp_path)
    (tmp_path / f"ravel_city_{file}.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=sentence):
        folder_prompts(tmp_path, "city", ("country",))


def test_values_that_ravel_does_not_know_are_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    name = "ravel_city_entity_attributes.json"
    values = {entity: dict(each) for entity, each in files("city")[name].items()}
    values[next(iter(values))]["country"] = ""
    (tmp_path / name).write_text(json.dumps(values))
    assert len(folder_prompts(tmp_path, "city", ("country",))) == 4 * (len(values) - 1)


def test_a_prompt_must_fit_into_the_context(model_folder: Folder) -> None:
    lm = LanguageModel.load(model_folder("gpt2"), name="gpt2")
    long = Prompt("city", "country", "the cat " * 80, "Ulm", " is", "x")
    with pytest.raises(UserError, match="longer than the model's context"):
        tokenised(lm, [PROMPTS[0], long])
    with pytest.raises(UserError, match=r"text 0 of 1 has no tokens"):
        tokenised(lm, [Prompt("city", "country", "", "", "", "x")])


def test_a_tokenizer_without_offsets_is_a_reason_to_skip(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tiny.tokenizer), "is_fast", False)
    with pytest.raises(Skip, match="does not report the positions of tokens in a text"):
        tokenised(tiny, PROMPTS)


def test_only_what_the_model_completes_right_is_known(tiny: LanguageModel) -> None:
    prompts = tiny_prompts("city", ("country",))[:40]
    wrong = [Prompt(p.kind, p.attribute, p.before, p.entity, p.after, "nowhere") for p in prompts[:10]]
    known = ask(tiny, SITE, [*wrong, *prompts], 6)
    assert 30 < len(known) <= 40
    for each in known:
        assert each.prompt.label == tiny.tokenizer.decode(each.first)


def test_pairs_differ_in_their_label_and_each_prompt_is_a_base_once(tiny: LanguageModel) -> None:
    known = ask(tiny, SITE, tiny_prompts("city", TINY_ATTRIBUTES["city"]), 6)
    for pairs in (50, 5000):
        made = experiments(known, {"city": TINY_ATTRIBUTES["city"]}, pairs=pairs, train_share=0.7, seed=0)
        for each in made:
            every = [*each.train, *each.test]
            cause = [pair for pair in every if not pair.isolates]
            assert len(every) == 2 * len(cause)
            assert len(each.train) == int(0.7 * len(every))
            assert len(cause) == min(pairs, sum(k.prompt.attribute == each.attribute for k in known))
            assert len({pair.base for pair in cause}) == len(cause)
            for pair in every:
                base, source = known[pair.base].prompt, known[pair.source].prompt
                assert base.label != source.label
                assert base.attribute == source.attribute
                assert (base.attribute != each.attribute) == pair.isolates
