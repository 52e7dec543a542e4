"""Shared fixtures: real parts, small."""

import os

# Without a network the hub's clients would try for minutes.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
# A dry run would measure the machine for seconds each time; tests of prices do so on purpose.
os.environ["ABENCH_CALIBRATION"] = "0"
# As the command line does: threads that wait soon sleep, so that tests do not crawl on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is first imported, by whatever part of torch

from abench._torchvision import hide_if_broken

hide_if_broken()

from architectures import build_model, build_tokenizer  # noqa: E402
from browser import browser  # noqa: E402
from command import Abench  # noqa: E402

# The same examples every time, however slow a busy machine makes them.
settings.register_profile(
    "abench", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("abench")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes stay out of the names of tests: gzip writes the time into them, and pytest-xdist
    refuses to run workers that collected tests of different names."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a Hugging Face folder of one of the six architectures, once a session."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            path = tmp_path_factory.mktemp(architecture)
            build_model(architecture).save_pretrained(path)
            build_tokenizer(bos=architecture not in {"qwen3-4b", "pythia-70m"}).save_pretrained(path)
            made[architecture] = path
        return made[architecture]

    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser; a module has its own, since its event loop would disturb other tests."""
    with browser() as started:
        yield started


@pytest.fixture
def abench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Abench:
    """Calls the command line in this process; gives exit status, stdout and stderr."""
    return Abench(capsys, monkeypatch)
