"""Judges of replies (harmful, a refusal or degenerate?) and of latents (what are their two sides about?).

The names listed here are public. Importing this package is cheap; the dependencies of a judge are imported
when the judge is used.
"""

from abench.judges.asker import Asker
from abench.judges.by_name import JudgeOption, own_judge, own_pole_judge
from abench.judges.endpoint import Endpoint
from abench.judges.estimate import Estimate
from abench.judges.exchange import Exchange, Judge, Verdict
from abench.judges.harmbench import HarmBenchClassifier
from abench.judges.openai_judge import OpenAIJudge
from abench.judges.options import MOST_PARALLEL, EndpointAddress, KeyVariable, ModelName
from abench.judges.oracle import TinyWorldOracle
from abench.judges.own import OwnJudge, OwnPoleJudge
from abench.judges.poles import PoleJudge, PoleKind, PoleVerdict
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
    "JudgeOption",
    "KeyVariable",
    "ModelName",
    "OpenAIJudge",
    "OwnJudge",
    "OwnPoleJudge",
    "PoleJudge",
    "PoleKind",
    "PoleVerdict",
    "Share",
    "SubstringJudge",
    "TinyWorldOracle",
    "Verdict",
    "is_degenerate",
    "is_refusal",
    "own_judge",
    "own_pole_judge",
    "share",
]
