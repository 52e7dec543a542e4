"""SIGKILL at every write operation of a small run: the next run ends with the same bits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("kill_points.py")


@pytest.mark.parametrize(("part", "fewest"), [("training", 100), ("report", 15)])
@pytest.mark.slow
def test_a_run_killed_at_any_write_ends_with_the_same_bits(part: str, fewest: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HARNESS), part, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["wrong"] == [], done.stderr[-3000:]
    assert result["operations"] >= fewest
