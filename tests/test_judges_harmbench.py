"""HarmBench's classifiers: their prompts to the letter, their answers read by a small Llama that has them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from short_memory import short_of_memory

from abench.errors import UserError
from abench.judges import Exchange, HarmBenchClassifier, Judge
from abench.judges.harmbench_prompts import CONTEXTUAL, STANDARD, prompt_of
from abench.storage.keys import canonical_json

WORDS = ("cat", "dog", "tree", "house", "river", "stone")
EXCHANGES = [
    Exchange(" ".join(WORDS[: 1 + i % 6]), " ".join(WORDS[i % 5 :] * (1 + i)), "river" if i % 3 == 0 else "")
    for i in range(24)
]
VERDICTS = {"yes": "harmful", "no": "safe", "maybe": "invalid"}
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Writes a small Llama that answers one of the words given or else "maybe", depending on the prompt."""

    def write(*answers: str, context: int = 1024) -> Path:
        from transformers import LlamaConfig, LlamaForCausalLM

        tokenizer = _tokenizer()
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=context,
            tie_word_embeddings=False,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = LlamaForCausalLM(config)
            for parameter in model.parameters():
                parameter.data += 0.3 * torch.randn_like(parameter)
            head = model.lm_head.weight.data
            rows = torch.randn(len(answers), head.shape[1])
        head.zero_()
        for answer, row in zip(answers, rows, strict=True):
            head[tokenizer.convert_tokens_to_ids(answer)] = row
        folder = tmp_path_factory.mktemp("classifier")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


def _tokenizer() -> Any:
    """Words as tokens, BOS in front, no padding: as Llama 2 has it. If all logits are 0 "maybe" wins."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    texts = [prompt_of(each) for each in EXCHANGES]
    found = {word for text in texts for word, _ in split.pre_tokenize_str(text)}
    vocabulary = {w: i for i, w in enumerate(["maybe", "Yes", "yes", "no", "<s>", "</s>", "<unk>"])}
    for word in sorted(found - set(vocabulary)):
        vocabulary[word] = len(vocabulary)
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = split
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def plain_answers(folder: Path, exchanges: list[Exchange], last: int = 10**6) -> list[str]:
    """What transformers generates for each prompt alone, after BOS and its last tokens: one greedy token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers = []
    for each in exchanges:
        ids = tokenizer(prompt_of(each), return_tensors="pt").input_ids
        ids = torch.cat([ids[:, :1], ids[:, 1:][:, -last:]], dim=1)
        mask = torch.ones_like(ids)
        made = model.generate(ids, attention_mask=mask, max_new_tokens=1, do_sample=False, pad_token_id=0)
        answers.append(tokenizer.decode(made[0, ids.shape[1] :]))
    return answers


# Prompts


def test_the_prompts_are_harmbenchs_to_the_letter() -> None:
    """Lengths and hashes of eval_utils.LLAMA2_CLS_PROMPT at commit 37150ed7 of HarmBench's repository."""
    assert [len(STANDARD), len(CONTEXTUAL)] == [1359, 1401]
    assert [hashlib.sha256(text.encode()).hexdigest() for text in (STANDARD, CONTEXTUAL)] == [
        "788f4f6aa1491c433c4da76c9140cfc30966cea3ff3875c4d0fcb336d92f60e0",
        "5d6bb9e3cf4d1e5f3f7620093113222ee115af75b0b2913f00e4c7225ec9f219",
    ]


def test_a_context_chooses_the_contextual_prompt() -> None:
    plain, contextual = prompt_of(Exchange("B {x}", "R {y}")), prompt_of(Exchange("B", "R", "C"))
    assert "[BEHAVIOR]:\nB {x}\n\n[GENERATION]:\nR {y}\n\n---" in plain and "[CONTEXT]" not in plain
    assert "[CONTEXT]:\nC\n\n[BEHAVIOR]:\nB\n\n[GENERATION]:\nR\n\n---" in contextual


# Answers


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_verdicts_are_those_of_each_prompt_alone(make: Make, batch_size: int) -> None:
    folder = make("yes", "no", "maybe")
    judge: Judge = HarmBenchClassifier(str(folder), dtype="float32", batch_size=batch_size)
    wanted = plain_answers(folder, EXCHANGES)
    assert {"yes", "no", "maybe"} == set(wanted)
    assert judge.judge(EXCHANGES) == [VERDICTS[answer.lower()] for answer in wanted]


def test_a_batch_that_runs_out_of_memory_is_judged_in_parts(make: Make) -> None:
    judge = HarmBenchClassifier(str(make("yes", "no", "maybe")), dtype="float32", batch_size=9)
    wanted, spec = judge.judge(EXCHANGES), judge.spec()
    with short_of_memory(judge._model, 2) as failed:
        assert judge.judge(EXCHANGES) == wanted
    assert 9 in failed and judge.spec() == spec


def test_case_does_not_count(make: Make) -> None:
    folder = make("Yes", "no")
    wanted = plain_answers(folder, EXCHANGES)
    assert "Yes" in wanted
    judge = HarmBenchClassifier(str(folder), dtype="float32")
    assert judge.judge(EXCHANGES) == [VERDICTS[answer.lower()] for answer in wanted]


def test_an_answer_that_is_neither_is_invalid(make: Make) -> None:
    judge = HarmBenchClassifier(str(make()), dtype="float32")
    assert judge.judge(EXCHANGES[:3]) == ["invalid"] * 3
    assert judge.judge([]) == []


def test_replies_are_cut(make: Make) -> None:
    folder = make("yes", "no", "maybe")
    judge = HarmBenchClassifier(str(folder), dtype="float32", reply_tokens=4)
    long = [Exchange(e.request, f"cat dog tree {e.request.split()[-1]} {e.reply}") for e in EXCHANGES]
    cut = [Exchange(e.request, " ".join(e.reply.split()[:4])) for e in long]
    assert judge.judge(long) == judge.judge(cut)
    assert len({*judge.judge(long)}) > 1


def test_a_prompt_longer_than_the_context_loses_its_beginning(make: Make) -> None:
    folder = make("yes", "no", "maybe", context=280)
    wanted = plain_answers(folder, EXCHANGES, last=279)
    assert wanted != plain_answers(folder, EXCHANGES)
    judge = HarmBenchClassifier(str(folder), dtype="float32")
    assert judge.judge(EXCHANGES) == [VERDICTS[answer.lower()] for answer in wanted]


# What can go wrong


def test_the_spec_follows_the_weights_and_not_their_place(make: Make, tmp_path: Path) -> None:
    first, same, other = make("yes", "no"), make("yes", "no"), make("yes", "maybe")
    specs = [canonical_json(HarmBenchClassifier(str(folder)).spec()) for folder in (first, same, other)]
    assert specs[0] == specs[1] != specs[2]
    assert str(first) not in specs[0]
    assert HarmBenchClassifier(str(first), reply_tokens=9).spec() != HarmBenchClassifier(str(first)).spec()


def test_weights_that_cannot_be_had_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weights of nobody/nothing are not on this machine"):
        HarmBenchClassifier("nobody/nothing")
    with pytest.raises(UserError, match="not a Hugging Face model folder"):
        HarmBenchClassifier(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match="is a pickle, which abench does not load"):
        HarmBenchClassifier(str(tmp_path))
