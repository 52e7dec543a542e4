"""report.tex: all tables and figures of a report as one LaTeX document that compiles as it is."""

from collections.abc import Iterable
from pathlib import Path

from abench.report.latex import escape
from abench.sanitize.printable import visible

_HEAD = r"""% Compile it in this folder: pdflatex report.tex
\documentclass[10pt]{article}
\usepackage[a4paper,landscape,margin=1.5cm]{geometry}
\usepackage{graphicx,longtable}
\IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}
% booktabs is not part of the smallest TeX distributions; plain rules do as well.
\IfFileExists{booktabs.sty}{\usepackage{booktabs}}{%
  \newcommand{\toprule}{\hline}\newcommand{\midrule}{\hline}\newcommand{\bottomrule}{\hline}%
  \newcommand{\addlinespace}{}\def\cmidrule(##1)##2{\cline{##2}}}
% More floats than LaTeX keeps waiting by default.
\extrafloats{500}
\begin{document}
"""


def latex_document(title: str, tables: Iterable[str], figures: Iterable[Path]) -> str:
    """The document: `tables` are names of .tex files, `figures` PNG files next to which there is a PDF."""
    lines = [_HEAD, rf"\section*{{{escape(visible(title))}}}"]
    for name in tables:
        lines += [rf"\input{{{name.removesuffix('.tex')}}}", r"\clearpage"]
    for figure in figures:
        # Braces, because names of sites have dots, which would end the name.
        lines += [
            r"\begin{figure}[p]",
            r"\centering",
            rf"\includegraphics[width=\linewidth,height=0.85\textheight,keepaspectratio]{{{{{figure.stem}}}.pdf}}",
            rf"\caption{{\texttt{{{escape(figure.stem)}}}}}",
            r"\end{figure}",
        ]
    return "\n".join([*lines, r"\end{document}"]) + "\n"
