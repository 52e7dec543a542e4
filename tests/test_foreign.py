"""Bars and notices of other libraries stay out of a log; warnings that mean something reach it."""

import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from abench.foreign import WithoutBars

LOUD = '''
"""A task whose libraries print bars, advice and warnings."""

import logging
import os
import time
import warnings
from typing import Any, ClassVar

from abench import SAE, Amount, Context, LanguageModel, Metric, Scores, Task


class Loud(Task):
    """It is loud."""

    name: ClassVar[str] = "loud"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("m", None, headline=True),)

    def prepare(self, lm: LanguageModel, ctx: Context) -> Any:
        import numpy as np
        from datasets import Dataset
        from sklearn.linear_model import LogisticRegression
        from tqdm import tqdm

        list(tqdm(range(30)))
        for leave in (True, False):
            for _ in tqdm(range(30), disable=False, desc="explicit", mininterval=0, leave=leave):
                pass
        Dataset.from_list([{"a": n} for n in range(100)]).map(lambda row: {"b": row["a"]})
        for library in ("lm_eval", "transformers", "datasets", "huggingface_hub"):
            logging.getLogger(library + ".part").warning("advice of a library")
        warnings.warn("an old name", FutureWarning)
        warnings.warn("numbers are\\nnot finite", RuntimeWarning)
        LogisticRegression(max_iter=1).fit(np.random.default_rng(0).normal(size=(50, 5)), np.arange(50) % 2)
        lm.tokenizer(["some words and more"] * 2000)
        child = os.fork()
        if not child:
            lm.tokenizer(["some words and more"] * 2000)
            os._exit(0)
        os.waitpid(child, 0)
        ctx.used(Amount("texts", 1, 1))

    def score(self, sae: SAE, prepared: Any, lm: LanguageModel, ctx: Context) -> Scores:
        logging.getLogger("transformers.part").error("a library has failed")
        return {"m": 1.0}
'''
SETTINGS = (
    "training.batch_size=512",
    "training.buffer_tokens=1024",
    "evaluation.limit=16",
    "task_options.safety_utility.strengths=[0.5]",
    "task_options.safety_utility.test_requests=4",
    "task_options.safety_utility.validation_requests=4",
    "task_options.safety_utility.validation_questions=8",
)


def logged(folder: Path, *more: str) -> str:
    (folder / "tasks").mkdir()
    (folder / "tasks" / "loud.py").write_text(LOUD)
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, *more, "-P", "-m", "abench", "run", "--tasks-dir", "tasks"]
    command += ["--tasks", "loud,safety_utility", "--variants", "topk", "--k", "4", "--width", "64"]
    command += ["--tokens", "2048", *settings]
    own = {
        name: value for name, value in os.environ.items() if "PARALLELISM" not in name and "TQDM" not in name
    }
    with (folder / "log").open("wb") as log:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, env=own, check=False)
    text = (folder / "log").read_bytes().decode()
    assert done.returncode == 0, text
    return text


def test_a_log_holds_only_lines_of_abench(tmp_path: Path) -> None:
    text = logged(tmp_path)
    assert "\r" not in text and "\x1b" not in text
    foreign = r"%\||it/s|s/it|explicit|examples|advice|an old name|Custom kwargs|forked|Warning:|\.py:"
    assert not [line for line in text.splitlines() if re.search(foreign, line)]
    lines = text.splitlines()
    assert "warning (loud): numbers are not finite" in lines
    assert [line for line in lines if line.startswith("warning (sklearn): lbfgs failed to converge")]
    assert [line for line in lines if line.endswith("a library has failed")]
    assert [line for line in lines if line.startswith("scoring loud at")]


def test_pythons_own_option_shows_every_warning() -> None:
    script = (
        "import warnings; from abench.foreign import own_output; own_output(); "
        "warnings.warn('an old name', FutureWarning)"
    )
    for options, shown in (([], ""), (["-W", "default"], "warning (<string>): an old name\n")):
        done = subprocess.run([sys.executable, *options, "-c", script], capture_output=True, check=True)
        assert done.stderr.decode() == shown


def test_settings_of_the_user_stay() -> None:
    script = (
        "import os; from abench.foreign import own_output; own_output(); print(os.environ['TQDM_DISABLE'])"
    )
    for own, expected in (({"TQDM_DISABLE": "0"}, "0\n"), ({}, "1\n")):
        environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"} | own
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, check=True, env=environment
        )
        assert done.stdout.decode() == expected


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (["a line\n", "\r 0%", "\r 50%", "\n", "another\n"], "a line\nanother\n"),
        (["\r 0%", "\r    \r", "a line", "\n"], "a line\n"),
        (["before\n 0%\r 50%\r"], "before\n"),
        (["a\r\nb\r\n"], "a\r\nb\r\n"),
        (["\r 0%", "\n\n\x1b[A", "\r 9%", "\n", "\n", "a", "\n", "\n"], "a\n\n"),
        (["", "\n", "a"], "\na"),
    ],
)
def test_lines_that_overwrite_themselves_are_dropped(written: list[str], left: str) -> None:
    stream = io.StringIO()
    without = WithoutBars(stream)
    for text in written:
        assert without.write(text) == len(text)
    assert stream.getvalue() == left


def test_the_environment_of_a_fork_is_restored() -> None:
    script = (
        "import os; from abench.foreign import own_output; own_output(); child = os.fork()\n"
        "if not child: os._exit(os.environ['TOKENIZERS_PARALLELISM'] != 'false')\n"
        "assert os.waitpid(child, 0)[1] == 0 and 'TOKENIZERS_PARALLELISM' not in os.environ"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_warnings_are_as_before_in_this_process() -> None:
    with pytest.warns(FutureWarning):
        warnings.warn("an old name", FutureWarning, stacklevel=1)
