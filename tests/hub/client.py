"""Real clients that talk to the stand-in hub, in a process of their own: its address is read on import."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.server import Hub


def client_environment(
    hub: Hub, home: Path, *, token: str | None = None, offline: bool = False
) -> dict[str, str]:
    """This process's environment, but its clients ask `hub` and keep what they fetch in `home`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HF_") and not name.lower().endswith("_proxy")
    }
    more = {"HF_TOKEN": token} if token else {}
    more |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} if offline else {}
    return kept | more | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}


def ask(environment: Mapping[str, str], *requests: list[Any] | str) -> list[dict[str, Any]]:
    """Carry out requests one after the other in one new process; what came of each.

    A list is a command line of abench and gives `code`, `out` and `err`; a string is Python and gives its
    variable `answer`, or `error`.
    """
    script = Path(__file__).with_name("client_main.py")
    asked = [each if isinstance(each, str) else [str(word) for word in each] for each in requests]
    run = subprocess.run(
        [sys.executable, "-P", str(script)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env=dict(environment),
        check=False,
    )
    if run.returncode:
        raise RuntimeError(run.stderr)
    answers: list[dict[str, Any]] = json.loads(run.stdout)
    return answers
