"""The paper's numbers beside ours as rows of text, for the page and as paper.csv, paper.md and paper.tex."""

import csv
import io
from collections.abc import Iterator, Sequence

from abench.report.beside_paper import Beside
from abench.report.csvfile import as_text
from abench.report.latex import escape
from abench.report.paper import FAILING, SCR_TPP, UNLEARNING
from abench.report.style import NO_STYLES, Styles, variant_style

HEADING = "The paper's numbers beside ours"
HEADER = ("table", "model", "layer", "metric", "variant", "paper", "source", "ours", "difference", "setting")
_SOURCES = (
    "paper: arXiv 2510.00404. Source `description`: from a description of the paper; `summary`: second-hand,"
    " from summaries by others."
)
_OURS = (
    "ours: mean ± sample standard deviation over n seeds, of the value whose model, layer, k and number of"
    " latents are nearest to the paper's. difference: ours − paper."
)
_CONFLICTS = (
    "What is known of the paper's setting conflicts: its text trains on batches of 4,096 activations (123"
    " million in all) and keeps k latents per token, its authors' code on batches of 128 (3.84 million) and k"
    " on average over a batch (variants batchabstopk and batchtopk). The presets paper-text and paper-code"
    " follow one each; either counts as the same training here."
)
_TABLE_1 = (
    "Table 1 and 6: safety = 100 − attack success is the most likely meaning of its HarmBench column. How it"
    " chose the latent and the strength, its judge, its subset and its shots of MMLU are unknown."
)
_TABLE_2 = "Table 2: Gemini 2.5 Flash judged there."
_TITLES = {"original": "Original", "dim": "DiM"}


def notes(rows: Sequence[Beside]) -> tuple[str, ...]:
    """The notes below the rows; each is included only if a row needs it."""
    tables = {row.paper.table for row in rows}
    metrics = {row.paper.metric for row in rows}
    return (
        _SOURCES,
        _OURS,
        _CONFLICTS,
        *([_TABLE_1] if tables & {"table1", "table6"} else []),
        *([_TABLE_2] if "table2" in tables else []),
        *([SCR_TPP] if metrics & FAILING else []),
        *([UNLEARNING] if "unlearning" in metrics else []),
    )


def cells(row: Beside, styles: Styles = NO_STYLES) -> tuple[str, ...]:
    """A row as text, one per name in `HEADER`."""
    paper, ours = row.paper, row.ours
    variant = _TITLES.get(paper.variant) or variant_style(paper.variant, styles).title
    spread = "" if ours.sd is None else f" ± {ours.sd:.{row.decimals}f}"
    return (
        *(row.table, paper.model, paper.layer, paper.metric, variant, paper.value, paper.source),
        f"{ours.mean:.{row.decimals}f}{spread} (n = {ours.n})".replace("-", "−"),
        f"{row.difference:+.{row.decimals}f}".replace("-", "−"),
        setting(row),
    )


def setting(row: Beside) -> str:
    """Whether the setting is the same, in words."""
    return f"other: {', '.join(row.differs)}" if row.differs else "the same as far as known"


def as_csv(rows: Sequence[Beside]) -> str:
    """One line per number, with ours in full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = (
        "table",
        "model",
        "layer",
        "metric",
        "variant",
        "paper",
        "source",
        "ours",
        "sd",
        "n",
        "difference",
    )
    ours = ("same_setting", "differs", "our_model", "our_site", "our_variant", "our_k", "our_width")
    writer.writerow([*names, *ours])
    for row in rows:
        mine = row.ours
        line = [
            *(row.table, *row.paper[1:]),
            *(mine.mean, mine.sd, mine.n, row.difference, not row.differs, "; ".join(row.differs)),
            *(mine.model, mine.site, mine.variant, mine.k, mine.width),
        ]
        writer.writerow(["" if each is None else as_text(each) for each in line])
    return out.getvalue()


def as_markdown(rows: Sequence[Beside], styles: Styles = NO_STYLES) -> str:
    """A table for GitHub with its notes."""
    return "\n".join([f"# {HEADING}", "", *_pipes(rows, styles), "", *(f"- {n}" for n in notes(rows))]) + "\n"


def _pipes(rows: Sequence[Beside], styles: Styles) -> Iterator[str]:
    yield f"| {' | '.join(HEADER)} |"
    yield "|" + "---|" * len(HEADER)
    for row in rows:
        yield f"| {' | '.join(text.replace('|', chr(92) + '|') for text in cells(row, styles))} |"


def as_latex(rows: Sequence[Beside], styles: Styles = NO_STYLES, label: str | None = None) -> str:
    """A `longtable`, because the rows may fill several pages."""
    columns = "llrll" + "rlrr" + r"p{0.3\linewidth}"
    head = " & ".join(HEADER) + r" \\"
    lines = [
        "% Needs \\usepackage{booktabs,longtable}.",
        r"\begingroup\footnotesize",
        rf"\begin{{longtable}}{{{columns}}}",
        rf"\caption{{{escape(HEADING)}}}" + (rf"\label{{{label}-paper}}" if label else "") + r" \\",
        rf"\toprule {head} \midrule \endfirsthead",
        rf"\toprule {head} \midrule \endhead",
        r"\bottomrule \endfoot",
        *(" & ".join(map(escape, cells(row, styles))) + r" \\" for row in rows),
        r"\end{longtable}",
        " \\par\n".join(map(escape, notes(rows))),
        r"\par\endgroup",
    ]
    return "\n".join(lines) + "\n"
