"""The tiny world: texts with known concepts for every word, and a small language model trained on them.

The names listed here are public: tasks use the world's texts, facts and labels through them. Importing this
package is cheap; torch and transformers are imported only when a model is built or measured.
"""

from pathlib import Path

from abench.tinyworld.axes import AXES
from abench.tinyworld.document import Document
from abench.tinyworld.entities import TEMPLATES, Entity
from abench.tinyworld.exchanges import Request, is_refusal
from abench.tinyworld.facts import HAZARDOUS, SUBJECTS, Fact
from abench.tinyworld.lexicon import labels
from abench.tinyworld.properties import Entropy, Properties, Share, measure
from abench.tinyworld.questions import LETTERS, Question
from abench.tinyworld.spelling import SPELLING_PROMPT
from abench.tinyworld.splits import SPLITS
from abench.tinyworld.training import Progress, Recipe, build
from abench.tinyworld.world import MIXTURE, World, show_samples

MODEL_DIR = Path(__file__).parent / "model"
"""The trained model: an ordinary Hugging Face folder with an additional file `properties.json`."""

__all__ = [
    "AXES",
    "HAZARDOUS",
    "LETTERS",
    "MIXTURE",
    "MODEL_DIR",
    "SPELLING_PROMPT",
    "SPLITS",
    "SUBJECTS",
    "TEMPLATES",
    "Document",
    "Entity",
    "Entropy",
    "Fact",
    "Progress",
    "Properties",
    "Question",
    "Recipe",
    "Request",
    "Share",
    "World",
    "build",
    "is_refusal",
    "labels",
    "measure",
    "show_samples",
]
