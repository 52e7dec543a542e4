"""What is outside our hands, and runs that cannot be: a sentence, a documented status, nothing left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import SMALL, Abench

from abench.config import load_run, model_config
from abench.errors import OutputClosed, UserError, outside_cause, short
from abench.progress import Lines
from abench.runs.machine_memory import main_bytes
from abench.runs.plan_memory import check_memory, gpu_bytes, needed_bytes
from abench.streams import LastingStream

NEEDS_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")


def shell(command: str, **more: str) -> "subprocess.CompletedProcess[str]":
    program = f"{sys.executable} -P -m abench"
    line = command.replace("abench", program)
    env = {**os.environ, **more}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, env=env)


@NEEDS_FULL
def test_a_full_output_is_a_sentence() -> None:
    run = shell("abench list configs >/dev/full")
    assert (run.returncode, run.stderr) == (
        2,
        "abench: cannot write the output: No space left on device\n",
    )


def test_a_reader_that_has_gone_ends_the_command_as_sigpipe_does() -> None:
    run = shell("(sleep 0; abench list configs; echo status $? >&2) | exec true")
    assert run.stderr == "status 141\n"


def test_a_run_whose_reader_has_gone_ends_without_a_word(tmp_path: Path) -> None:
    options = f"{' '.join(SMALL)} --variants topk --k 4 --results {tmp_path}"
    run = shell(f"(abench run {options} 2>&1; echo status $? >&3) 3>{tmp_path / 'status'} | head -1")
    assert len(run.stdout.splitlines()) == 1
    assert (tmp_path / "status").read_text() == "status 141\n"


INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
from abench.cli import main
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_an_interrupted_run_ends_with_one_sentence_and_gives_its_leases_back(tmp_path: Path) -> None:
    options = [*SMALL, "--tokens", "40960000", "--variants", "topk", "--k", "4", "--results", tmp_path / "r"]
    command = [sys.executable, "-P", "-c", INTERRUPTIBLE, "run", *map(str, options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None and run.stdout is not None
        first = [run.stderr.readline() for _ in range(3)]  # the last of them is about the training
        run.send_signal(signal.SIGINT)
        rest = run.stderr.read().splitlines()
        assert run.wait(120) == 130
        assert run.stdout.read() == ""
    assert first[-1].startswith("training ")
    (said,) = [line for line in rest if not line.startswith("training ")]
    assert said == "abench: interrupted; run the same command again to resume"
    assert list((tmp_path / "r" / "leases").iterdir()) == []


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_count_as_dev_null(closed: str) -> None:
    run = shell(f"abench list configs {closed}")
    assert (run.returncode, run.stderr) == (0, "")


@NEEDS_FULL
def test_a_full_stderr_hides_no_status() -> None:
    assert shell("abench list nothing 2>/dev/full").returncode == 2


def test_an_output_without_unicode_ends_no_command() -> None:
    assert shell("abench tinyworld show --kind é", PYTHONIOENCODING="ascii").returncode == 2


@NEEDS_FULL
def test_progress_that_cannot_be_written_costs_no_cell() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - closed below
    with Path("/dev/full").open("w") as full, os.fdopen(writing, "w") as gone, nowhere:
        Lines(LastingStream(full)).say("a line")  # type: ignore[arg-type]
        with pytest.raises(OutputClosed):
            Lines(LastingStream(gone)).say("a line")  # type: ignore[arg-type]
        for stream in (full, gone):  # closing them would fail on what they still hold
            os.dup2(nowhere.fileno(), stream.fileno())


BAD_RUNS = [
    (["--width", "1000000000000"], "item 1 of --width must be at most 1,000,000,000"),
    (["--width", "100000000"], "this machine has"),
    (["--set", "training.learning_rate=.inf"], "must be a finite number"),
    (["--set", "training.betas=[1,1]"], "item 1 of --set training.betas must be below 1"),
    (["--name", "x" * 300], ": --name: it has 300 characters, more than 100"),
    (["--limit", str(10**20)], "--limit: 100000000000000000000 is too large\n"),
    (["--checkpoint-every", "nan"], "not a number of seconds"),
    (["--set", "a=2020-13-45"], "--set a: unknown key; known: "),
    (["--set", "training.batch_size=true"], "a number is needed, not true or false"),
    (["--set", "training.buffer_tokens=10000000000000"], "--set training.buffer_tokens"),
    (["--set", "context=2"], "--set context must be at least 3 (got 2)"),
    (["--set", "seeds=" + "x" * 2_000_000], "--set seeds"),
    (["--preset", ""], "--preset is empty"),
    (["--preset="], "--preset is empty"),
    ([""], "an argument is empty"),
    (["--tokens", "10"], "--tokens: training: tokens (10) must be at least one batch"),
    (["--set", "training.batch_size=10000000"], "--set training.batch_size: training: tokens"),
    (["--k", ",".join(map(str, range(1, 900))), "--width", ",".join(map(str, range(1000, 1100)))], "has 2"),
    (["--set", "variant_options.gated.coefficient=.nan"], "option 'coefficient' of variant 'gated'"),
    (["--set", "a.b.c.d.e.f.g.h.i.j.k.l=1"], "is not a key path"),
    (["--set", "model.x=1"], "--set model.x: 'model.x' cannot be set: 'model' holds a value"),
    (["--set", "training.tokens.x=1"], "must be a whole number"),
]


@pytest.mark.parametrize(("options", "sentence"), BAD_RUNS, ids=[" ".join(o)[:50] for o, _ in BAD_RUNS])
def test_a_run_that_cannot_be_fails_before_anything_is_written(
    abench: Abench, tmp_path: Path, options: list[str], sentence: str
) -> None:
    result = abench("run", *options, "--results", tmp_path / "results")
    assert result.code == 2
    assert sentence in result.err
    assert "configs/runs/default.yaml" not in result.err
    assert len(result.err) < 1000
    assert list(tmp_path.iterdir()) == []


def test_the_file_s_line_is_blamed_for_what_the_file_says(abench: Abench, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: tiny\ntask_options:\n  core:\n    outlier_norm: -1\nvariants: [nothing]\n")
    assert f"{file}:4: option 'outlier_norm' of task 'core'" in abench("status", file).err.replace("\n", " ")
    file.write_text("variants: [topk]\nk: [1, 2, 99999]\n")
    assert f"{file}:2: k = 99999 must be smaller" in abench("status", file).err
    file.write_text("preset: tinny\n")
    assert f"{file}:1: there is no preset 'tinny'; did you mean 'tiny'?" in abench("status", file).err


def test_options_without_effect_are_reported(abench: Abench, tmp_path: Path) -> None:
    given = ("variant_options.gated.coefficient=1", "task_options.recovery.epsilon=0.2")
    asked = [each for assignment in given for each in ("--set", assignment)]
    result = abench("run", "--dry-run", *asked, "--results", tmp_path)
    assert result.code == 0
    assert result.err.splitlines() == [
        "--set task_options.recovery.epsilon: task_options.recovery has no effect because "
        "the run has no task recovery",
        "--set variant_options.gated.coefficient: variant_options.gated has no effect because "
        "the run has no variant gated",
    ]
    # A preset has options for variants that a run may leave out.
    quiet = abench("run", "--dry-run", "--preset", "paper-code", "--variants", "topk", "--results", tmp_path)
    assert (quiet.code, quiet.err) == (0, "")


def test_memory_is_compared_with_the_machine_s() -> None:
    model = model_config("tiny")
    fits = load_run(None, {})
    check_memory(fits, model)
    assert sum(needed_bytes(fits, model).values()) < 1 << 30
    assert (main_bytes() or 1) > 0
    assert gpu_bytes() >= 0
    with pytest.raises(UserError, match=r"needs at least .* GiB of memory and this machine has .* GiB"):
        check_memory(load_run(None, {"width": (10**8,)}), model)


@pytest.mark.parametrize("name", ["task", "none", "x" * 100, "é", "1a", "../x", "a-b", "class", "A", "_"])
def test_a_task_that_could_not_be_imported_is_not_written(abench: Abench, tmp_path: Path, name: str) -> None:
    result = abench("new", "task", name, "--dir", tmp_path / "tasks")
    assert result.code == 2
    assert "cannot be the name of a task" in result.err
    assert not (tmp_path / "tasks").exists()


def test_a_refusal_of_the_machine_is_a_sentence_with_the_path(abench: Abench, tmp_path: Path) -> None:
    result = abench("new", "task", "mine", "--dir", f"{tmp_path}/{'x' * 300}")
    assert result.code == 2
    assert result.err.endswith("File name too long\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_memory_that_is_used_up_is_no_bug(error: Exception) -> None:
    assert str(outside_cause(error)).startswith("there is not enough memory")
    assert outside_cause(RuntimeError("shapes do not fit")) is None


def test_values_are_shortened_in_messages() -> None:
    assert short("topk") == "'topk'"
    assert len(short("x" * 2_000_000)) <= 82
    assert len(short([list(range(10_000))])) <= 82
    assert short(10**5000).endswith("bits")
