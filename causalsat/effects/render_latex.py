"""The table as a LaTeX fragment for booktabs, on one page or on several."""

from typing import TYPE_CHECKING

from causalsat.effects.format import MISSING
from causalsat.effects.layout import Display, display
from causalsat.effects.notes import notes
from causalsat.effects.render_text import constant_text

if TYPE_CHECKING:
    from causalsat.effects.table import EffectTable

# Rows of a tabular that a page holds, caption, header and some notes included.
PAGE_ROWS = 40
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


def latex(
    table: "EffectTable", caption: str | None, label: str | None, with_notes: bool, longtable: bool | None
) -> str:
    """A ``tabular`` (inside a ``table`` when there is a caption or a label), or a ``longtable``.

    Needs ``\\usepackage{booktabs}``, a ``longtable`` also ``\\usepackage{longtable}``; None takes one beyond 40 rows.
    """
    shown = display(table)
    told = [("All rows", constant_text(shown))] if shown.constant else []
    told = told + notes(table) if with_notes else []
    several = len(table) > PAGE_ROWS if longtable is None else longtable
    lines = _on_pages(shown, told, caption, label) if several else _on_one_page(shown, told, caption, label)
    return "\n".join(lines) + "\n"


def _on_one_page(shown: Display, told: list[tuple[str, str]], caption: str | None, label: str | None) -> list[str]:
    lines = [
        rf"\begin{{tabular}}{{{_alignment(shown)}}}",
        *_heading(shown),
        *_body(shown),
        r"\bottomrule",
        *(_note(len(shown.header), heading, text) for heading, text in told),
        r"\end{tabular}",
    ]
    if caption is None and label is None:
        return lines
    return [r"\begin{table}[htbp]", r"\centering", *_captions(caption, label), *lines, r"\end{table}"]


def _on_pages(shown: Display, told: list[tuple[str, str]], caption: str | None, label: str | None) -> list[str]:
    """The header again on every page; notes as paragraphs below, because a spanning cell would set the width."""
    span = rf"\multicolumn{{{len(shown.header)}}}"
    named = ["".join(_captions(caption, label)) + r" \\"] if caption is not None else []
    # Without a caption a row for the label would be empty; the number that it refers to is stepped by the environment.
    named += [rf"\noalign{{\label{{{label}}}}}"] if caption is None and label is not None else []
    return [
        r"% Needs \usepackage{booktabs,longtable}.",
        rf"\begin{{longtable}}{{{_alignment(shown)}}}",
        *named,
        *_heading(shown),
        r"\endfirsthead",
        span + r"{l}{\footnotesize\emph{continued from the previous page}} \\",
        *_heading(shown),
        r"\endhead",
        r"\midrule",
        span + r"{r}{\footnotesize\emph{continued on the next page}} \\",
        r"\endfoot",
        r"\bottomrule",
        r"\endlastfoot",
        *_body(shown),
        r"\end{longtable}",
        *(rf"{{\footnotesize\noindent\emph{{{heading}:}} {escape(text)}\par}}" for heading, text in told),
    ]


def _alignment(shown: Display) -> str:
    return "".join("r" if right else "l" for right in shown.numeric)


def _heading(shown: Display) -> list[str]:
    cells = " & ".join(_head(cell, right) for cell, right in zip(shown.header, shown.numeric))
    return [r"\toprule", cells + r" \\", r"\midrule"]


def _body(shown: Display) -> list[str]:
    return [_row(row, shown.numeric) + r" \\" for row in shown.rows]


def _head(cell: str, right: bool) -> str:
    return rf"\multicolumn{{1}}{{{'r' if right else 'l'}}}{{{escape(cell)}}}"


def _row(cells: list[str], numeric: list[bool]) -> str:
    # After \\ a leading [ or * would be read as its argument.
    texts = [_number(cell) if right else escape(cell) for cell, right in zip(cells, numeric)]
    return " & ".join("{}" + text if text.startswith(("[", "*")) else text for text in texts)


def _number(cell: str) -> str:
    return "--" if cell == MISSING else escape(cell).replace("-", "$-$")


def _note(width: int, heading: str, text: str) -> str:
    room = r"p{\dimexpr\linewidth-2\tabcolsep\relax}"
    return rf"\multicolumn{{{width}}}{{{room}}}{{\footnotesize \emph{{{heading}:}} {escape(text)}}} \\"


def _captions(caption: str | None, label: str | None) -> list[str]:
    lines = [] if caption is None else [rf"\caption{{{escape(caption)}}}"]
    return lines if label is None else [*lines, rf"\label{{{label}}}"]
