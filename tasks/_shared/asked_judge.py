"""The options of a task whose judge may be a model behind an endpoint."""

from __future__ import annotations

from pydantic import BaseModel, Field

from abench.judges import MOST_PARALLEL, Endpoint, EndpointAddress, KeyVariable, ModelName


class AskedJudge(BaseModel):
    """Options for the judge `openai`: a model that is asked over an OpenAI-compatible interface."""

    judge_model: ModelName | None = None
    """Name of the endpoint's model."""
    judge_url: EndpointAddress = "https://api.openai.com/v1"
    """Address of the endpoint of the judge `openai`."""
    judge_key: KeyVariable = "OPENAI_API_KEY"
    """Name of the environment variable that holds the endpoint's key."""
    judge_parallel: int = Field(8, ge=1, le=MOST_PARALLEL, exclude=True)
    """Number of parallel requests to the endpoint; changes no answer, so it is in no cell's key."""

    def endpoint(self, model: str | None = None) -> Endpoint:
        """The endpoint that is asked: about a model of this name, or else about that of the options."""
        return Endpoint(
            model or str(self.judge_model), self.judge_url, self.judge_key, parallel=self.judge_parallel
        )
