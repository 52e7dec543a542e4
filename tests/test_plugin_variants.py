"""Variants in folders and other packages: found, run next to abench's own, distinguished by their code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import indent
from types import ModuleType

import pandas as pd
import pytest
from command import SMALL, Abench
from own_variants import RIDGE, ridge
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

from abench.errors import UserError
from abench.identity import code_identity, module_digest
from abench.plugins import find_tasks
from abench.runs.planner import RunRequest, plan_run
from abench.variants import SAEShape, find_variants, get_variant, save_sae

PLAIN = """
from typing import ClassVar

from abench.variants import AbsTopK


class Mine(AbsTopK):
    \"\"\"AbsTopK under another name.\"\"\"

    name: ClassVar[str] = "mine"
    title: ClassVar[str] = "My own"
"""


__all__ = ["ridge"]  # a fixture


def folder_with(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    return folder


def key_of(folder: Path) -> str:
    request = RunRequest(options={"variants": ("mine",), "k": (4,)}, plugins=(folder,))
    return plan_run(request, fetch=False, say=print).saes[0].key


def test_it_runs_beside_abenchs_own_and_tables_show_its_title(
    tmp_path: Path, abench: Abench, ridge: Path
) -> None:
    where = ("--plugins", ridge, "--results", tmp_path / "results")
    run = abench("run", "--variants", "ridgetopk,abstopk", "--k", "4", *SMALL, *where)
    assert run.code == 0, run.err
    assert "Ridge TopK" in run.out and "AbsTopK" in run.out
    page = (tmp_path / "results" / "reports" / "default" / "index.html").read_text(encoding="utf-8")
    assert "Ridge TopK" in page
    scores = pd.read_csv(tmp_path / "results" / "reports" / "default" / "data.csv")
    assert set(scores["variant"]) == {"ridgetopk", "abstopk"} and "settings" not in run.out
    status = abench("status", "--variants", "ridgetopk,abstopk", "--k", "4", *SMALL, *where)
    assert status.code == 0


WRONG = {
    "regulariser = 3": "its regulariser must be one line of text, not 3",
    'title = "a\\nb"': "its title must be one line of text",
    'signed = "yes"': "signed must be True or False",
    "version = 1": 'its version must be None or text such as "1", not 1',
    'name = "../x"': "its name: '../x' must consist of letters",
    'name = "topk"': "the name 'topk' is already taken by abench.variants.topk",
    "code: int = 3": "an option cannot be called 'code'",
    'thing: float = float("nan")': "its options cannot be written as JSON",
}


def test_broken_files_and_wrong_declarations_are_rows_with_the_reason(tmp_path: Path, abench: Abench) -> None:
    for number, line in enumerate(WRONG):
        name = line.split("=")[0].split(":")[0].strip()
        kept = [each for each in PLAIN.splitlines() if not each.startswith(f"    {name}:")]
        text = "\n".join([*kept, f"    {line}"]).replace('"mine"', f'"mine_{number}"')
        folder_with(tmp_path, **{f"wrong_{number}": text})
    folder_with(tmp_path, broken="import nothing_like_it\n", leaves="raise SystemExit('bye')\n", fine=PLAIN)
    listed = abench("list", "variants", "--plugins", tmp_path, "--json")
    assert listed.code == 0
    rows = {Path(row["source"]).stem: row for row in json.loads(listed.out) if row["source"].endswith(".py")}
    for number, reason in enumerate(WRONG.values()):
        assert rows[f"wrong_{number}"]["title"] == "broken"
        assert reason in rows[f"wrong_{number}"]["regulariser"]
    assert "No module named 'nothing_like_it'" in rows["broken"]["regulariser"]
    assert rows["leaves"]["regulariser"] == "SystemExit: bye"
    assert rows["fine"]["title"] == "My own"
    assert find_variants([tmp_path])["topk"].source == "abench.variants.topk"
    refused = abench("run", "--variants", "broken", "--plugins", tmp_path, "--dry-run")
    assert refused.code == 2
    assert "variant 'broken' (" in refused.err and "cannot be imported: ModuleNotFoundError" in refused.err


def test_an_unknown_variant_is_answered_with_how_to_add_one(tmp_path: Path, abench: Abench) -> None:
    unknown = abench("run", "--variants", "mine", "--dry-run").err
    assert "unknown variant 'mine'" in unknown
    assert "`abench new variant NAME`" in unknown and "--plugins" in unknown
    folder_with(tmp_path, broken="import nothing_like_it\n")
    unknown = abench("run", "--variants", "mine", "--plugins", tmp_path, "--dry-run").err
    assert "broken.py: ModuleNotFoundError" in unknown  # a long path is shortened


def test_changed_code_is_another_result_unless_a_version_is_declared(tmp_path: Path) -> None:
    first = key_of(folder_with(tmp_path, mine=PLAIN))
    assert key_of(folder_with(tmp_path, mine=PLAIN)) == first
    assert key_of(folder_with(tmp_path, mine=PLAIN + "    # another comment\n")) != first
    assert key_of(folder_with(tmp_path, mine=PLAIN)) == first
    declared = PLAIN + '    version: ClassVar[str | None] = "1"\n'
    versioned = key_of(folder_with(tmp_path, mine=declared))
    assert versioned != first
    assert key_of(folder_with(tmp_path, mine=declared + "    # another comment\n")) == versioned
    assert key_of(folder_with(tmp_path, mine=declared.replace('"1"', '"2"'))) != versioned


def test_keys_of_abenchs_own_variants_are_those_of_their_options() -> None:
    assert get_variant("topk").recorded() == {
        "name": "topk",
        "decoder_init_norm": 1.0,
        "aux_loss_coefficient": 1.0,
    }
    assert code_identity(type(get_variant("topk"))) == {}


def test_code_that_is_in_no_file_needs_a_version() -> None:
    space: dict[str, object] = {"__name__": "nowhere"}
    exec(PLAIN, space)
    with pytest.raises(UserError, match=r"the code of 'mine' cannot be read .* declare `version"):
        code_identity(space["Mine"])  # type: ignore[arg-type]


def test_code_that_an_editable_installation_keeps_elsewhere_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package's folder may lie outside that of the package above it, as tasks/ of this project does."""
    package, elsewhere = tmp_path / "package", tmp_path / "elsewhere"
    for folder in (package, elsewhere):
        folder.mkdir()
        (folder / "__init__.py").write_text("")
    for name, folder in (("mapped", package), ("mapped.inner", elsewhere)):
        module = ModuleType(name)
        module.__path__ = [str(folder)]
        monkeypatch.setitem(sys.modules, name, module)
    found = [module_digest("mapped.inner")]
    for folder in (package, elsewhere):
        (folder / "__init__.py").write_text("changed = True\n")
        found.append(module_digest("mapped.inner"))
    assert len(set(found)) == 3


def test_a_file_with_a_task_and_a_variant_is_executed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = '''
from abench import Metric, Task

class Measure(Task):
    """A task."""

    name = "measure"
    version = "1"
    metrics = (Metric("share", True, headline=True),)

    def score(self, sae, prepared, lm, ctx):
        return {"share": 1.0}

print("executed")
'''
    folder = folder_with(
        tmp_path, both=PLAIN + task, test_both="raise SystemExit", _helper="raise SystemExit"
    )
    assert find_tasks([folder])["measure"].value is not None
    found = find_variants([folder])
    assert found["mine"].value is not None
    assert {each.source for each in found.values() if str(tmp_path) in each.source} == {
        str(tmp_path / "both.py")
    }
    assert capsys.readouterr().err == "executed\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages, as pip leaves it."""
    folder = tmp_path_factory.mktemp("site")
    package, metadata = folder / "their_variants", folder / "their_variants-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(PLAIN)
    (package / "_parts.py").write_text("")
    (package / "broken.py").write_text("import a_package_that_is_not_installed\n")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-variants\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[abench.variants]\ntheirs = their_variants\n")
    return folder


def in_site(site: Path, code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_package_provides_variants_and_its_files_are_part_of_keys(site: Path) -> None:
    code = (
        "import json, sys; from abench.variants import find_variants, get_variant\n"
        "get_variant('topk'); before = 'their_variants' in sys.modules\n"
        "mine = get_variant('mine'); found = find_variants()\n"
        "code, error = mine.recorded()['code'], found['broken'].summary\n"
        "print(json.dumps([before, code, error, 'torch' in sys.modules]))"
    )
    before, first, broken, torch = json.loads(in_site(site, code))
    assert not before, "the package was imported although only abench's own variants were needed"
    assert not torch
    assert "a_package_that_is_not_installed" in broken
    (site / "their_variants" / "_parts.py").write_text("STEPS = 2\n")
    assert json.loads(in_site(site, code))[1] != first


LATER = """
def _later():
{body}


class Own(AbsTopK):
    \"\"\"Imports its SAE classes when they are needed.\"\"\"

    name: ClassVar[str] = "ridgetopk"

    def training_config(self, shape):
        return _later()(**self.selection(shape))
"""


@pytest.mark.slow
def test_an_sae_of_a_packages_variant_opens_although_nothing_has_imported_its_classes(
    ridge: Path, tmp_path: Path
) -> None:
    variant = get_variant("ridgetopk", {}, find_variants([ridge]))
    save_sae(variant.build(SAEShape(24, 96, 8), 0), tmp_path / "sae", scale=1, metadata={})
    classes = RIDGE.partition("class RidgeTopK(Variant)")[0] + "".join(
        RIDGE.partition("register_inference(R")[1:]
    )
    body = indent(f"{classes}\nreturn RidgeTrainingSAEConfig", "    ")
    head = "from typing import ClassVar\nfrom abench.variants import AbsTopK\n"
    package, metadata = tmp_path / "their_ridge", tmp_path / "their_ridge-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").write_text(head + LATER.format(body=body), encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-ridge\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[abench.variants]\ntheirs = their_ridge\n")
    code = (
        "from pathlib import Path; from abench.variants import load_sae\n"
        f"print(load_sae(Path({str(tmp_path / 'sae')!r})).cfg.ridge)"
    )
    assert in_site(tmp_path, code).strip() == "0.1"


def test_the_example_has_no_decorator_that_would_outlive_its_folder() -> None:
    assert "@register" not in RIDGE


@pytest.mark.slow
def test_a_new_variant_runs_as_it_is_and_passes_its_test(
    abench: Abench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    written = abench("new", "variant", "my_prox", "--dir", folder)
    assert written.code == 0 and f"abench run --plugins {folder} --variants my_prox,abstopk" in written.out
    assert abench("new", "variant", "my_prox", "--dir", folder).code == 2
    assert "is taken by a variant that comes with abench" in abench("new", "variant", "topk").err
    assert abench("new", "variant", "variant", "--dir", folder).code == 2
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tested = subprocess.run(
        [*command, "--rootdir", str(folder), str(folder)], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "2 passed" in tested.stdout
    for known in (SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY):
        monkeypatch.setitem(known, "my_prox_sae", None)  # restored, that is removed, after the test
        known.pop("my_prox_sae")
    options = ("--plugins", folder, "--results", tmp_path / "results", "--k", "4", *SMALL)
    run = abench("run", "--variants", "my_prox,abstopk", *options, "--tokens", "10240")
    assert run.code == 0, run.err
    assert "MyProx" in run.out


@pytest.mark.slow
def test_the_generated_test_fails_for_an_operator_that_does_not_minimise(
    abench: Abench, tmp_path: Path
) -> None:
    abench("new", "variant", "my_prox", "--dir", tmp_path)
    file = tmp_path / "my_prox.py"
    right = "abs_top_k(u, k) / (1 + ridge)"
    assert right in file.read_text(encoding="utf-8")
    file.write_text(file.read_text(encoding="utf-8").replace(right, "abs_top_k(u, k)"), encoding="utf-8")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "operator"]
    tested = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 1 and "1 failed" in tested.stdout
