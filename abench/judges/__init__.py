"""Judges of replies: did the model do the harm it was asked for, refuse, or fall apart?

The names listed here are public. Importing it is cheap: what a judge needs is imported when it is asked.
"""

from abench.judges.asker import Asker
from abench.judges.endpoint import Endpoint
from abench.judges.exchange import Exchange, Judge, Verdict
from abench.judges.harmbench import HarmBenchClassifier
from abench.judges.openai_judge import Estimate, OpenAIJudge
from abench.judges.options import MOST_PARALLEL, EndpointAddress, KeyVariable, ModelName
from abench.judges.oracle import TinyWorldOracle
from abench.judges.replies import is_degenerate, is_refusal
from abench.judges.shares import Share, share
from abench.judges.substring import SubstringJudge

__all__ = [
    "MOST_PARALLEL",
    "Asker",
    "Endpoint",
    "EndpointAddress",
    "Estimate",
    "Exchange",
    "HarmBenchClassifier",
    "Judge",
    "KeyVariable",
    "ModelName",
    "OpenAIJudge",
    "Share",
    "SubstringJudge",
    "TinyWorldOracle",
    "Verdict",
    "is_degenerate",
    "is_refusal",
    "share",
]
