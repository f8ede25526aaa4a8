"""The table as plain text and Markdown."""

import textwrap
from typing import TYPE_CHECKING

from causalsat.effects.format import show_percent
from causalsat.effects.layout import Display, display
from causalsat.effects.notes import notes

if TYPE_CHECKING:
    from causalsat.effects.table import EffectTable

HEAD, TAIL, WIDTH = 12, 4, 100


def headline(table: "EffectTable") -> str:
    """One line: what was estimated, how many rows, which intervals."""
    what = str(table.meta.get("estimator", "effects"))
    rows = "1 row" if len(table) == 1 else f"{len(table)} rows"
    return f"EffectTable: {what}, {rows}, {show_percent(table.level)} intervals ({table.meta['interval']})"


def short_text(table: "EffectTable") -> str:
    """A short deterministic text: the headline and the rows (the middle of a long table is left out)."""
    shown = display(table)
    body = shown.rows
    if len(body) > HEAD + TAIL:
        gap = [["..."] + [""] * (len(shown.header) - 1)]
        body = body[:HEAD] + gap + body[-TAIL:]
    return "\n".join([headline(table), "", *align([shown.header, *body], shown.numeric), *_constant_lines(shown)])


def full_text(table: "EffectTable") -> str:
    """Every row, then the assumptions, the intervals, rows left out, missing numbers and warnings."""
    shown = display(table)
    lines = [headline(table), "", *align([shown.header, *shown.rows], shown.numeric), *_constant_lines(shown), ""]
    for heading, sentence in notes(table):
        lines += textwrap.wrap(f"{heading}: {sentence}", width=WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def markdown(table: "EffectTable") -> str:
    """A pipe table followed by its notes as a list."""
    shown = display(table)
    cells = [[_pipe(cell) for cell in row] for row in (shown.header, *shown.rows)]
    rule = ["---:" if right else "---" for right in shown.numeric]
    lines = ["| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:])]
    told = [("All rows", constant_text(shown))] if shown.constant else []
    return "\n".join([*lines, "", *(f"- **{heading}**: {_pipe(text)}" for heading, text in told + notes(table))]) + "\n"


def constant_text(shown: Display) -> str:
    """ "adjust = image, horizon = 2" for the index columns that all rows share."""
    return ", ".join(f"{name} = {value}" for name, value in shown.constant)


def _constant_lines(shown: Display) -> list[str]:
    return ["", f"All rows: {constant_text(shown)}"] if shown.constant else []


def _pipe(text: str) -> str:
    for mark in ("\\", "|", "*", "_", "`", "<"):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())


def align(cells: list[list[str]], numeric: list[bool]) -> list[str]:
    """Rows of cells as lines: numbers to the right, text to the left, two spaces between columns."""
    widths = [max(len(row[j]) for row in cells) for j in range(len(numeric))]
    lines = []
    for row in cells:
        parts = [cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numeric)]
        lines.append("  ".join(parts).rstrip())
    return lines
