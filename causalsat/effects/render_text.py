"""The table as plain text."""

from typing import TYPE_CHECKING

from causalsat.effects.format import show_percent

if TYPE_CHECKING:
    from causalsat.effects.table import EffectTable

HEAD, TAIL = 12, 4


def headline(table: "EffectTable") -> str:
    """One line: what was estimated, how many rows, which intervals."""
    what = str(table.meta.get("estimator", "effects"))
    rows = "1 row" if len(table) == 1 else f"{len(table)} rows"
    return f"EffectTable: {what}, {rows}, {show_percent(table.level)} intervals ({table.meta['interval']})"


def short_text(table: "EffectTable") -> str:
    """A short deterministic text: the headline and the rows (the middle of a long table is left out)."""
    from causalsat.effects.layout import display

    shown = display(table)
    body = shown.rows
    if len(body) > HEAD + TAIL:
        gap = [["..."] + [""] * (len(shown.header) - 1)]
        body = body[:HEAD] + gap + body[-TAIL:]
    lines = [headline(table), "", *align([shown.header, *body], shown.numeric)]
    if shown.constant:
        lines += ["", "All rows: " + ", ".join(f"{name} = {value}" for name, value in shown.constant)]
    return "\n".join(lines)


def align(cells: list[list[str]], numeric: list[bool]) -> list[str]:
    """Rows of cells as lines: numbers to the right, text to the left, two spaces between columns."""
    widths = [max(len(row[j]) for row in cells) for j in range(len(numeric))]
    lines = []
    for row in cells:
        parts = [cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numeric)]
        lines.append("  ".join(parts).rstrip())
    return lines
