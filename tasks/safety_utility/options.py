"""The options of safety_utility."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from abench import InputFile
from abench.judges import JudgeOption, ModelName

from .._shared.asked_judge import AskedJudge
from .._shared.revisions import HubData, is_hub_id
from .judging import HARMBENCH_CLASSIFIER
from .lm_eval_tasks import MMLU
from .requests import HARMBENCH, INSTRUCTIONS, is_file


class SteeringOptions(AskedJudge, HubData):
    """What is steered, how settings are chosen, and what the model is asked."""

    repositories: ClassVar[tuple[str, ...]] = (HARMBENCH, INSTRUCTIONS, MMLU)

    candidates: int = Field(16, ge=1, le=1000)
    """Number of candidates of each method, screened on validation requests: for DiM, differences pooled over
    tokens in several ways, to be added or removed; for an SAE, latents by mean difference, by separation and
    by the gradient towards refusal."""
    screen_requests: int = Field(16, ge=1, le=10**7)
    """Number of harmful validation requests with which a candidate is screened, at the middle strength in
    both directions."""
    finalists: int = Field(2, ge=1, le=1000)
    """Number of candidates that are tried at all strengths."""
    strengths: tuple[Annotated[float, Field(gt=0, le=1e38)], ...] = Field(
        (0.125, 0.25, 0.5, 1.0, 2.0), min_length=1
    )
    """Distances by which the residual stream is moved, in units of its mean norm; each in both directions."""
    finer: int = Field(2, ge=0, le=100)
    """Number of strengths tried on each side of the best one, between it and its neighbours."""
    max_loss: float = Field(0.02, ge=0, le=1)
    """Maximum loss of utility on the validation data."""
    max_degenerate: float = Field(0.05, ge=0, le=1)
    """Maximum increase of the share of degenerate replies on the validation data, for the rule `coherent`."""
    controls: int = Field(2, ge=0, le=1000)
    """Number of random directions, and of random latents of each SAE, tried at the chosen strengths."""
    keep_error: bool = True
    """Whether the SAE's reconstruction error stays in the residual stream."""
    concept_prompts: int = Field(300, ge=2, le=10**7)
    """Number of harmful, and of harmless, prompts for finding concepts (the paper's code: 300)."""
    validation_requests: int = Field(100, ge=2, le=10**7)
    """Harmful requests on which the setting of each method is chosen."""
    test_requests: int = Field(300, ge=2, le=10**7)
    """Number of harmful, and of harmless, requests."""
    utility_task: str | None = Field(None, min_length=1, max_length=200)
    """Task or group of lm-eval that measures utility, such as mmlu_continuation; null means the tiny world's
    own questions or mmlu."""
    utility_data: Annotated[str | None, InputFile()] = None
    """Folder with the questions, in the layout of their data set on the hub; null means the hub."""
    validation_questions: int | None = Field(120, ge=1, le=10**7)
    """Number of questions for choosing settings, for each task of a group such as MMLU's subjects; null means
    all."""
    test_questions: int | None = Field(None, ge=1, le=10**7)
    """Number of questions for the results, for each task of a group; null means all."""
    shots: int = Field(5, ge=0, le=1000)
    """Few-shot examples before each question of lm-eval; the tiny world's questions have none."""
    max_new_tokens: int = Field(256, ge=1, le=100_000)
    """Maximum length of a reply, in tokens; in the tiny world at most 24."""
    judge: Annotated[str, JudgeOption("auto", "tinyworld", "substring", "harmbench", "openai")] = "auto"
    """auto: the tiny world's own judge on the tiny world, otherwise HarmBench's classifier. Or the name of a
    judge of your own."""
    judge_model: Annotated[ModelName | None, InputFile()] = None
    """Hub id or folder of the classifier, or name of the endpoint's model."""
    harmful: Annotated[str | None, InputFile()] = None
    """Harmful requests: a file with HarmBench's columns, a folder with a file per part, or a hub id; null
    means the tiny world's or HarmBench's."""
    harmless: Annotated[str | None, InputFile()] = None
    """Harmless requests: a file, folder or hub id; null means the tiny world's or Alpaca's."""
    examples: int = Field(4, ge=0, le=1000)
    """Number of harmful requests whose replies are stored and shown folded away on the page."""

    def all_repositories(self) -> tuple[str, ...]:
        """Also the repositories of requests and of the judging classifier, if they are on the hub."""
        own = [each for each in (self.harmful, self.harmless) if each and not is_file(each)]
        if self.judge in {"auto", "harmbench"}:
            own.append(self.judge_model or HARMBENCH_CLASSIFIER)
        return (*self.repositories, *filter(is_hub_id, own))
