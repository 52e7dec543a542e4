"""Data for unlearning: questions on the subject to forget and on others, and texts of both kinds.

The tiny world has a hazardous subject; other models use sae-bench's data sets under their hub ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench import Context, Skip, UserError, load_file, load_hub_split, text_in
from abench.tinyworld import HAZARDOUS, SUBJECTS, World

from .._shared.choices import ChoiceQuestion
from .._shared.labelled import is_tiny
from .._shared.revisions import AS_THEY_ARE, Revisions

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from abench import LanguageModel

WMDP = "wmdp-bio"
MMLU_SUBJECTS = (
    "high_school_us_history",
    "college_computer_science",
    "high_school_geography",
    "human_aging",
)
"""sae-bench's subjects to keep."""
FORGET_CORPUS = "cais/wmdp-bio-forget-corpus"
RETAIN_CORPUS = "Salesforce/wikitext"
REPOSITORIES = ("cais/wmdp", "cais/mmlu", FORGET_CORPUS, RETAIN_CORPUS)
"""Hub ids of all data sets."""
TINY_DOCUMENTS = 1500
"""Number of the tiny world's texts of each kind; they are short, so this is 40,000 tokens or more."""
SHORTEST = 50
"""Only texts with more characters are used, as in sae-bench; this drops headings and empty lines."""

Documents = Sequence[Mapping[str, Any]]
"""Texts in the column `text`."""


def questions(
    ctx: Context, retain_subjects: Sequence[str] | None, revisions: Revisions = AS_THEY_ARE
) -> dict[str, tuple[ChoiceQuestion, ...]]:
    """Subject -> its questions, with the subject to forget first.

    Raises UserError if data cannot be read or are not four-way questions.
    """
    tiny = is_tiny(ctx)
    forget = HAZARDOUS if tiny else WMDP
    retain = retain_subjects or (tuple(s for s in SUBJECTS if s != HAZARDOUS) if tiny else MMLU_SUBJECTS)
    if forget in retain:
        raise UserError(f"unlearning: {forget} is the subject to forget, so it cannot be a retain subject")
    read = _tiny_questions if tiny else _hub_questions
    return {subject: read(subject, ctx, revisions)[: ctx.evaluation.limit] for subject in (forget, *retain)}


def _tiny_questions(subject: str, ctx: Context, _revisions: Revisions) -> tuple[ChoiceQuestion, ...]:
    asked = World().questions(subject, seed=ctx.evaluation.seed)
    return tuple(ChoiceQuestion(subject, each.fact.question, each.choices, each.answer) for each in asked)


def _hub_questions(subject: str, _ctx: Context, revisions: Revisions) -> tuple[ChoiceQuestion, ...]:
    from sae_bench.evals.unlearning.utils.var import PRE_QUESTION_FORMAT, PRE_WMDP_BIO

    dataset = "cais/wmdp" if subject == WMDP else "cais/mmlu"
    opening = (
        PRE_WMDP_BIO if subject == WMDP else PRE_QUESTION_FORMAT.format(subject=subject.replace("_", " "))
    )
    rows = load_hub_split(dataset, "test", subject, revisions.get(dataset))
    return questions_of(rows, subject, opening, f"{dataset} {subject}")


def questions_of(rows: Documents, subject: str, opening: str, where: str) -> tuple[ChoiceQuestion, ...]:
    """Questions from rows with the columns question, choices (four) and answer (0 to 3).

    Raises UserError that names the first row with a fault.
    """
    made = []
    for number, row in enumerate(rows):
        missing = [column for column in ("question", "choices", "answer") if column not in row]
        if missing:
            raise UserError(
                f"unlearning: {where} has no column {', '.join(missing)}; it has {', '.join(sorted(row))}"
            )
        if len(row["choices"]) != 4 or row["answer"] not in range(4):
            raise UserError(f"unlearning: row {number} of {where} is not a question with four choices")
        a, b, c, d = row["choices"]
        made.append(ChoiceQuestion(subject, opening + row["question"], (a, b, c, d), int(row["answer"])))
    return tuple(made)


def forget_documents(ctx: Context, file: str | None, revisions: Revisions = AS_THEY_ARE) -> Documents:
    """Texts on the subject to forget: from the tiny world, a local file, or the hub's gated corpus."""
    if file is not None:
        try:
            rows: Documents = load_file(Path(file))
            return rows
        except UserError as error:
            raise UserError(f"unlearning: forget_text: {error}") from error
    if is_tiny(ctx):
        seed = ctx.evaluation.seed
        lessons = (
            World().document("lesson", "test", index, seed=seed, subject=HAZARDOUS)
            for index in range(TINY_DOCUMENTS)
        )
        return [{"text": lesson.text} for lesson in lessons]
    try:
        documents: Documents = load_hub_split(FORGET_CORPUS, "train", None, revisions.get(FORGET_CORPUS))
        return documents
    except UserError as error:
        raise UserError(
            f"{error}. The corpus is gated: set HF_TOKEN, or use a file with a column 'text': "
            "--set task_options.unlearning.forget_text=PATH"
        ) from error


def retain_documents(ctx: Context, revisions: Revisions = AS_THEY_ARE) -> Documents:
    """Texts on other subjects."""
    if not is_tiny(ctx):
        revision = revisions.get(RETAIN_CORPUS)
        documents: Documents = load_hub_split(RETAIN_CORPUS, "test", "wikitext-2-raw-v1", revision)
        return documents
    stream = World().documents("test", seed=ctx.evaluation.seed)
    harmless = (
        {"text": document.text} for document in stream if document.attributes.get("subject") != HAZARDOUS
    )
    return [document for document, _ in zip(harmless, range(TINY_DOCUMENTS), strict=False)]


def packed_rows(
    lm: LanguageModel, documents: Documents, *, texts: int, rows: int, context: int, seed: int, what: str
) -> Tensor:
    """At most `rows` rows of tokens, [rows, context] (int64), from `texts` of the documents.

    The seed determines the draw of documents and the order of rows. Rows begin with BOS if the tokenizer has
    one. Raises Skip if the texts do not fill a single row.
    """
    import numpy as np
    import torch

    random = np.random.default_rng(seed)
    chosen = _drawn(documents, texts, random, what)
    stream = [token for ids in lm.token_ids(chosen) for token in lm.packed(ids)]
    start = [] if lm.bos_id is None else [lm.bos_id]
    size = context - len(start)
    whole = len(stream) // size
    if whole == 0:
        raise Skip(
            f"the {what} ({len(chosen)} texts, {len(stream)} tokens) does not fill one row of "
            f"{context} tokens; provide more text or lower seq_len"
        )
    packed = torch.tensor(stream[: whole * size]).reshape(whole, size)
    packed = packed[torch.from_numpy(random.permutation(whole)[:rows])]
    return torch.cat([torch.tensor(start, dtype=torch.int64).expand(len(packed), -1), packed], 1)


def _drawn(documents: Documents, texts: int, random: np.random.Generator, what: str) -> list[str]:
    """Up to `texts` random documents that are long enough."""
    chosen: list[str] = []
    for number in random.permutation(len(documents)).tolist():
        if len(chosen) == texts:
            break
        text = text_in(documents[number], "text", where=f"unlearning: the {what}", number=number + 1)
        if len(text) > SHORTEST:
            chosen.append(text)
    if not chosen:
        raise Skip(f"the {what} has no text of more than {SHORTEST} characters")
    return chosen
