"""How a run's report looks: captions, labels, panels and sizes. Changes no number and no key."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from abench.config.spec import Prose, Spec, Word

Inches = Annotated[float, Field(ge=1, le=40)]
Panel = Literal["training_mse", "nmse", "loss_recovered_zero"]


class ReportSpec(Spec):
    """How a run's report looks."""

    caption: Prose | None = None
    """Caption of the LaTeX tables; null uses the report's title."""
    label: Annotated[Word, Field(pattern=r"^[A-Za-z0-9:._-]+$")] | None = None
    r"""Label of the LaTeX table, e.g. tab:main, for `\ref`. Further tables get the label with their number,
    e.g. tab:main-2; null writes no labels."""
    panels: tuple[Panel, ...] | None = None
    """Panels of the reconstruction figure, from left to right; null shows all that have values."""
    figure_size: tuple[Inches, Inches] | None = None
    """Width and height of every figure in inches; null chooses a size for each figure."""

    @field_validator("panels")
    @classmethod
    def _each_panel_once(cls, panels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if panels is not None and (not panels or len(set(panels)) < len(panels)):
            raise ValueError("at least one is needed, and none twice")
        return panels
