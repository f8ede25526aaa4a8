"""The table as a LaTeX fragment for booktabs."""

from typing import TYPE_CHECKING

from causalsat.effects.format import MISSING
from causalsat.effects.layout import display
from causalsat.effects.notes import notes
from causalsat.effects.render_text import constant_text

if TYPE_CHECKING:
    from causalsat.effects.table import EffectTable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    MISSING: "--",
}


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands; line breaks become spaces."""
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))


def latex(table: "EffectTable", caption: str | None, label: str | None, with_notes: bool) -> str:
    """A ``tabular`` (inside a ``table`` when there is a caption or a label); needs ``\\usepackage{booktabs}``."""
    shown = display(table)
    header = " & ".join(_head(cell, right) for cell, right in zip(shown.header, shown.numeric))
    body = [_row(row, shown.numeric) for row in shown.rows]
    lines = [
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in shown.numeric)}}}",
        r"\toprule",
        header + r" \\",
        r"\midrule",
        *(row + r" \\" for row in body),
        r"\bottomrule",
    ]
    if with_notes:
        told = [("All rows", constant_text(shown))] if shown.constant else []
        lines += [_note(len(shown.header), heading, text) for heading, text in told + notes(table)]
    lines.append(r"\end{tabular}")
    if caption is not None or label is not None:
        lines = [r"\begin{table}[htbp]", r"\centering", *_captions(caption, label), *lines, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _head(cell: str, right: bool) -> str:
    return rf"\multicolumn{{1}}{{{'r' if right else 'l'}}}{{{escape(cell)}}}"


def _row(cells: list[str], numeric: list[bool]) -> str:
    # After \\ a leading [ or * would be read as its argument.
    texts = [_number(cell) if right else escape(cell) for cell, right in zip(cells, numeric)]
    return " & ".join("{}" + text if text.startswith(("[", "*")) else text for text in texts)


def _number(cell: str) -> str:
    return "--" if cell == MISSING else escape(cell).replace("-", "$-$")


def _note(width: int, heading: str, text: str) -> str:
    return rf"\multicolumn{{{width}}}{{p{{\linewidth}}}}{{\footnotesize \emph{{{heading}:}} {escape(text)}}} \\"


def _captions(caption: str | None, label: str | None) -> list[str]:
    lines = [] if caption is None else [rf"\caption{{{escape(caption)}}}"]
    return lines if label is None else [*lines, rf"\label{{{label}}}"]
