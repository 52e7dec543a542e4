"""The generated parts of the documentation: they name everything that the code has, and say what it means."""

import re
from pathlib import Path

import pytest
from generators import keys, names, reliability, tasks, variants
from generators.fields import described, field_docstrings, field_table
from generators.pages import PARTS, filled
from generators.staging import contents
from pydantic import Field
from test_packaging import PUBLIC

from abench.config import DataSpec
from abench.config.spec import Count, Spec

DOCS = Path(__file__).parents[1] / "docs"


class Example(Spec):
    many: tuple[Count, ...] | None = None
    """|Some| of them,
    or `a|b`."""
    share: float = Field(0.5, ge=0, lt=1)
    told: bool
    inner: DataSpec = DataSpec()
    bare: int | None = Field(None, ge=2)


def test_the_table_of_a_class() -> None:
    assert field_table(Example).splitlines() == [
        "| key | values | default | meaning |",
        "|---|---|---|---|",
        "| `many` | list: whole number ≥ 1, ≤ 10,000,000, or null | null | \\|Some\\| of them, or `a|b`. |",
        "| `share` | number ≥ 0, < 1 | 0.5 |  |",
        "| `told` | true or false | required |  |",
        "| `inner` | mapping | see below | The source of the text. |",
        "| `bare` | whole number ≥ 2, or null | null |  |",
    ]
    assert described(dict[str, tuple[float, float]]) == "mapping to list of 2: number"


@pytest.mark.parametrize("name", keys.SPECS)
def test_every_key_of_a_configuration_is_explained(name: str) -> None:
    spec = keys.SPECS[name]
    assert set(spec.model_fields) <= set(field_docstrings(spec))


@pytest.mark.parametrize("name", tasks.built_in())
def test_every_option_and_metric_of_a_task_is_explained(name: str) -> None:
    task = tasks.built_in()[name]
    assert set(task.model_fields) <= set(field_docstrings(task))
    assert all(metric.description for metric in task.metrics)


@pytest.mark.parametrize("name", variants.built_in())
def test_every_option_of_a_variant_is_explained(name: str) -> None:
    variant = variants.built_in()[name]
    assert set(variant.model_fields) <= set(field_docstrings(variant))


@pytest.mark.parametrize(
    ("folder", "known", "marks"),
    [
        ("tasks", tasks.built_in(), ("definition", "reliability", "declared")),
        ("variants", variants.built_in(), ("variant",)),
    ],
)
def test_each_task_and_variant_has_a_page_of_its_own(
    folder: str, known: dict[str, type], marks: tuple[str, ...]
) -> None:
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (DOCS / folder).glob("*.md")}
    assert sorted(pages) == sorted(known)
    for name, text in pages.items():
        assert all(f"\n{{{{ {mark} {name} }}}}\n" in text for mark in marks)


def test_the_figures_of_a_task_s_present_version_are_on_its_page(tmp_path: Path) -> None:
    assert "No figures of version 4" in reliability.figures("scr", tmp_path)
    head = (
        "model,site,variant,k,width,task,task_version,view,metric,title,headline,mean,reseed,training,trainings,"
        "discrimination,resolves,truth,validity,validity_p,validity_n,validity_low,validity_high"
    )
    rows = [
        f"tiny,mlp,topk,16,2048,scr,{version},native,x{version},SCR,{headline},0.5,0.0371,0.1,3,{measured}"
        for version, headline, measured in [
            ("3", "True", ",2,,,,0,,"),
            ("4", "True", "1.23,0.2,planted.auroc,-0.9,0.01,7,-0.99,-0.35"),
            ("4", "False", ",2,planted.auroc,,,3,,"),
        ]
    ]
    (tmp_path / "some.csv").write_text("\n".join([head, *rows, ""]), encoding="utf-8")
    # A study at a site where the task cannot be scored comes first by name.
    nothing = rows[1].replace("tiny,mlp", "tiny,late").replace("0.5,0.0371", ",")
    (tmp_path / "a.csv").write_text("\n".join([head, nothing, ""]), encoding="utf-8")
    shown = reliability.figures("scr", tmp_path)
    assert shown.startswith("Measured for topk, k = 16, on tiny, mlp ")
    assert "| `x4` | native | 0.0371 | 0.1 | 1.23 | 0.2 | −0.90 [−0.99, −0.35] (p = 0.01, n = 7) |" in shown
    assert "| `x4` | native | 0.0371 | 0.1 | — | 2 | — |" in shown
    assert "x3" not in shown
    assert "### What these metrics can and cannot tell\n\n- **SCR** hardly tells SAEs" in shown
    assert "With 3 seeds, it cannot resolve differences of two variants below 0.2." in shown
    assert "Its order of these SAEs opposes the truth" in shown


def test_the_whole_table_of_the_stored_study_is_quoted() -> None:
    quoted = filled((DOCS / "statistics.md").read_text(encoding="utf-8"))
    assert "#### Reliability: tiny, " in quoted
    for name, task in tasks.built_in().items():
        if "language" in task.kinds:
            assert re.search(rf"\| +{name} v", quoted.replace("\\_", "_")), name


def test_all_public_names_are_in_the_reference() -> None:
    assert tuple(names.MODULES) == PUBLIC


def test_no_mark_of_a_generated_part_is_left() -> None:
    assert [page for page, text in contents().items() if isinstance(text, str) and "\n{{ " in text] == []
    with pytest.raises(KeyError):
        filled("{{ nothing of_it }}")


def test_a_mark_is_replaced_only_on_a_line_of_its_own() -> None:
    assert filled("a {{ tasks }}") == "a {{ tasks }}"
    assert filled("{{ tasks }}").count("\n") > len(tasks.built_in())
    assert all(re.fullmatch(r"\w+", name) for name in PARTS)
