"""All that the stand-in hub can serve, by real id."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from hub import corpora, labelled, questions, requests
from hub.models import LAYOUTS, model_repository
from hub.repository import Repository
from hub.server import Hub

DATASETS: Mapping[str, Callable[[Path], Repository]] = {
    "LabHC/bias_in_bios": labelled.bias_in_bios,
    "canrager/amazon_reviews_mcauley_1and5": labelled.amazon_reviews,
    "fancyzhx/ag_news": labelled.ag_news,
    "Helsinki-NLP/europarl": labelled.europarl,
    "codeparrot/github-code": labelled.github_code,
    "adamkarvonen/ravel_prompts": questions.ravel_prompts,
    "cais/wmdp": questions.wmdp,
    "cais/mmlu": questions.mmlu,
    "walledai/HarmBench": requests.harmbench,
    "tatsu-lab/alpaca": requests.alpaca,
    "cais/wmdp-bio-forget-corpus": corpora.bio_forget_corpus,
    "Salesforce/wikitext": corpora.wikitext,
    "monology/pile-uncopyrighted": corpora.pile,
    "Skylion007/openwebtext": corpora.openwebtext,
}
"""Id -> writes the data set's files to a folder."""

ALIASES = {"wikitext": "Salesforce/wikitext"}
"""Former ids, which the real hub redirects and sae-bench still uses."""


def make_hub(
    folder: Path,
    *,
    models: Iterable[str] = tuple(LAYOUTS),
    datasets: Iterable[str] = tuple(DATASETS),
    small: bool = False,
) -> Hub:
    """A hub with models (abench's names) and data sets (hub ids), whose files are written to `folder`.

    Models have their real depth and width, or are `small` (`hub.models.small_config`).
    """
    made = [model_repository(name, _new(folder / "models" / name), small=small) for name in models]
    made += [DATASETS[name](_new(folder / "datasets" / name)) for name in datasets]
    return Hub(made, aliases=ALIASES)


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
