"""The table as HTML."""

import html
from typing import TYPE_CHECKING

from causalsat.effects.layout import display
from causalsat.effects.notes import notes
from causalsat.effects.render_text import constant_text

if TYPE_CHECKING:
    from causalsat.effects.table import EffectTable

NOTEBOOK_STYLE = (
    "<style>.causalsat-table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    ".causalsat-table th,.causalsat-table td{padding:.25em .7em;text-align:left}"
    ".causalsat-table .num{text-align:right}.causalsat-table thead th{border-bottom:1px solid currentColor}"
    ".causalsat-table caption{text-align:left;font-weight:bold;padding:.25em .7em}"
    ".causalsat-notes{font-size:.85em;padding-left:.9em;list-style:none}</style>"
)


def html_table(table: "EffectTable", caption: str | None, with_notes: bool) -> str:
    """A ``table`` element, then its notes; no style, no script, every text escaped."""
    shown = display(table)
    lines = ['<table class="causalsat-table">']
    if caption is not None:
        lines.append(f"<caption>{escape(caption)}</caption>")
    lines += ["<thead>", _line("th", shown.header, shown.numeric, head=True), "</thead>", "<tbody>"]
    lines += [_line("td", row, shown.numeric) for row in shown.rows]
    lines += ["</tbody>", "</table>"]
    if with_notes:
        told = [("All rows", constant_text(shown))] if shown.constant else []
        lines += ['<ul class="causalsat-notes">', *(note_item(*note) for note in told + notes(table)), "</ul>"]
    return "\n".join(lines) + "\n"


def note_item(heading: str, text: str) -> str:
    """One note as a list item whose class is the heading ("assumes", "rows-left-out", "warning")."""
    kind = heading.lower().replace(" ", "-")
    return f'<li class="{kind}"><b>{escape(heading)}:</b> {escape(text)}</li>'


def plain_table(columns: dict[str, list]) -> str:
    """A dict of equally long lists as a ``table`` element."""
    from causalsat.effects.format import show_number

    names = list(columns)
    numeric = [all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in columns[n]) for n in names]
    rows = [
        [show_number(v, None) if isinstance(v, float) else str(v) for v in row]
        for row in zip(*(columns[n] for n in names))
    ]
    lines = [
        '<table class="causalsat-table">',
        "<thead>",
        _line("th", names, numeric, head=True),
        "</thead>",
        "<tbody>",
    ]
    return "\n".join([*lines, *(_line("td", row, numeric) for row in rows), "</tbody>", "</table>"]) + "\n"


def _line(tag: str, cells: list[str], numeric: list[bool], head: bool = False) -> str:
    scope = ' scope="col"' if head else ""
    parts = [
        f"<{tag}{scope}{' class=' + chr(34) + 'num' + chr(34) if right else ''}>{escape(cell)}</{tag}>"
        for cell, right in zip(cells, numeric)
    ]
    return f"<tr>{''.join(parts)}</tr>"


def escape(text: str) -> str:
    """Text that a browser shows as it stands."""
    return html.escape(text, quote=True)
