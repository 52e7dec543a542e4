"""What reading labelled texts costs, for `Task.cost`; no text is read for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abench import CostSetting

TINY_TOKENS = 28.5
"""Mean tokens of the tiny world's biographies and reviews, BOS and padding included."""
LONG_TEXTS = "texts are as long as the context"
_TINY_CLASSES = {
    "tinyworld/biographies": 5,
    "tinyworld/biographies_gender": 2,
    "tinyworld/reviews": 5,
    "tinyworld/reviews_sentiment": 2,
}
_HUB_CLASSES = {"fancyzhx/ag_news": 4, "canrager/amazon_reviews_mcauley_1and5_sentiment": 2}
"""Classes of sae-bench's data sets that do not have five."""


def is_tiny(setting: CostSetting) -> bool:
    return setting.data.source == "tinyworld"


def text_tokens(setting: CostSetting, context: int) -> float:
    """Tokens of an average labelled text, cut at `context`."""
    return min(TINY_TOKENS, context) if is_tiny(setting) else context


def classes_of(names: Sequence[str]) -> list[int]:
    """Numbers of classes of data sets; a file counts as having two."""
    files = (".csv", ".jsonl", ".parquet")
    known = _TINY_CLASSES | _HUB_CLASSES
    return [known.get(n, 2 if n.endswith(files) or n.startswith("sae-probes/") else 5) for n in names]


def limited_texts(number: int, setting: CostSetting) -> int:
    """Texts per probe under the evaluation's limit, as labelled data sets apply it."""
    limit = setting.evaluation.limit
    return number if limit is None else max(4, min(number, limit))
