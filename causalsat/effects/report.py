"""One self-contained HTML file: estimates, intervals, assumptions, checks, provenance."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from causalsat.effects.format import show_number
from causalsat.effects.layout import display
from causalsat.effects.notes import notes
from causalsat.effects.render_html import escape, html_table, note_item, plain_table
from causalsat.effects.render_text import constant_text
from causalsat.effects.report_style import STYLE
from causalsat.effects.svg import inline_svg
from causalsat.effects.table import EffectTable
from causalsat.errors import DataError
from causalsat.files import whole_file

VERDICTS = {True: ("passed", "✓ passed"), False: ("failed", "✗ failed"), None: ("open", "? cannot judge")}
LONG_TABLE = 12
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(
    path: str | Path,
    *,
    title: str,
    sections: Mapping[str, Any],
    checks: Sequence[Any] = (),
    provenance: Mapping[str, Any] | None = None,
    figures: Mapping[str, Any] | None = None,
) -> Path:
    """Write a report that a referee can read from top to bottom: effects, assumptions, checks, provenance.

    The file holds everything it shows: no script, no link, no font, no picture comes from elsewhere. The same
    input gives the same bytes.

    Parameters
    ----------
    path : str or Path
        The HTML file; it appears whole or not at all.
    title : str
        Heading of the report.
    sections : mapping of str to EffectTable, dict of lists or str
        In reading order: a table with its notes, a plain table, or paragraphs of text (blank lines separate them).
    checks : sequence of CheckResult
        Anything with ``name, passed, statistic, text, table``. The verdict stands in words.
    provenance : mapping, optional
        Nested facts (versions, files, hashes, seconds), shown as they are.
    figures : mapping of str to matplotlib Axes or Figure, optional
        One whose name is that of a section stands in that section; others follow the sections.

    Returns
    -------
    Path
        ``path``.
    """
    target, drawn = Path(path), dict(figures or {})
    told = _warnings(sections)
    body = [_header(title, sections, checks, told, bool(provenance))]
    body.append("<main>")
    for number, (name, content) in enumerate(sections.items(), start=1):
        body.append(_section(number, name, content, drawn.pop(name, None)))
    body += [
        f'<section id="figure-{i}"><h2>{escape(name)}</h2>{_figure(name, one, f"x{i}")}</section>'
        for i, (name, one) in enumerate(drawn.items(), start=1)
    ]
    body += [_checks(checks), _warning_list(told), _provenance(provenance), "</main>", _footer()]
    page = "\n".join(part for part in body if part)
    with whole_file(target) as temporary:
        temporary.write_text(_page(title, page), encoding="utf-8")
    return target


def _page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _header(
    title: str, sections: Mapping[str, Any], checks: Sequence[Any], told: Sequence[str], has_provenance: bool
) -> str:
    links = [(f"section-{i}", name) for i, name in enumerate(sections, start=1)]
    links += [(anchor, anchor.capitalize()) for anchor, there in
              (("checks", checks), ("warnings", told), ("provenance", has_provenance)) if there]  # fmt: skip
    return "\n".join(
        [
            f"<header>\n<h1>{escape(title)}</h1>",
            f'<p class="lead">{_glance(sections, checks, told)}</p>',
            "<nav>" + "".join(f'<a href="#{anchor}">{escape(text)}</a>' for anchor, text in links) + "</nav>",
            "</header>",
        ]
    )


def _glance(sections: Mapping[str, Any], checks: Sequence[Any], told: Sequence[str]) -> str:
    """How much stands below, in words: effects, verdicts of the checks, warnings."""
    effects = sum(len(content) for content in sections.values() if isinstance(content, EffectTable))
    parts = [_counted(effects, "effect")] if effects else []
    for passed, words in ((True, "passed"), (False, "failed"), (None, "cannot be judged")):
        n = sum(check.passed is passed for check in checks)
        if n:
            parts.append(f"{_counted(n, 'check')} {words}")
    if told:
        parts.append(_counted(len(told), "warning"))
    return "".join(f'<span class="count">{part}</span>' for part in parts)


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _section(number: int, name: str, content: Any, figure: Any) -> str:
    parts = [f'<section id="section-{number}">', f"<h2>{escape(name)}</h2>"]
    if isinstance(content, EffectTable):
        parts += _effects(content, None if figure is None else _figure(name, figure, f"s{number}"))
        figure = None
    elif isinstance(content, Mapping):
        parts.append(_folded(plain_table(dict(content)), _height(content)))
    elif isinstance(content, str):
        parts += [f"<p>{escape(paragraph)}</p>" for paragraph in content.split("\n\n") if paragraph.strip()]
    else:
        kind = type(content).__name__
        raise DataError(f'Section "{name}" is a {kind}; a report shows an EffectTable, a dict of lists, or text.')
    if figure is not None:
        parts.append(_figure(name, figure, f"s{number}"))
    return "\n".join([*parts, "</section>"])


def _effects(table: EffectTable, figure: str | None) -> list[str]:
    """The table, its picture, what it assumes, then how the uncertainty was computed and what is missing."""
    told = notes(table)
    constant = constant_text(display(table))
    first = [("All rows", constant)] if constant else []
    rest = [note for note in told if note[0] not in ("Assumes", "Warning")]
    parts = [f'<div class="scroll">{html_table(table, None, False)}</div>']
    if figure is not None:
        parts.append(figure)
    parts += [_assumptions(table.meta["assumptions"])] if table.meta.get("assumptions") else []
    return [*parts, '<ul class="causalsat-notes">', *(note_item(*note) for note in first + rest), "</ul>"]


def _assumptions(value: Any) -> str:
    items = [value] if isinstance(value, str) else value
    if isinstance(items, Mapping):
        items = [f"{name}: {text}" for name, text in items.items()]
    lines = "".join(f"<li>{escape(str(item))}</li>" for item in items)
    return f'<div class="assumes"><h3>These numbers are causal effects if</h3><ul>{lines}</ul></div>'


def _figure(name: str, drawn: Any, prefix: str) -> str:
    return f"<figure>{inline_svg(drawn, prefix)}<figcaption>{escape(name)}</figcaption></figure>"


def _checks(checks: Sequence[Any]) -> str:
    """Failed checks first, then those that cannot judge, then passed ones, each group in the order given."""
    if not checks:
        return ""
    order = {False: 0, None: 1, True: 2}
    ranked = sorted(checks, key=lambda check: order[check.passed])
    return "\n".join(['<section id="checks"><h2>Checks</h2>', *(_check(check) for check in ranked), "</section>"])


def _check(check: Any) -> str:
    kind, words = VERDICTS[check.passed]
    number = float(check.statistic)
    shown = "" if math.isnan(number) else f'<span class="statistic">statistic {show_number(number, None)}</span>'
    table = _folded(plain_table(dict(check.table)), _height(check.table)) if check.table else ""
    return (
        f'<article class="check {kind}"><span class="badge">{words}</span><h3>{escape(check.name)}</h3>{shown}'
        f"<p>{escape(check.text)}</p>{table}</article>"
    )


def _height(columns: Mapping[str, Any]) -> int:
    return max((len(values) for values in columns.values()), default=0)


def _folded(table: str, rows: int) -> str:
    if rows == 0:
        return ""
    inside = f'<div class="scroll">{table}</div>'
    return inside if rows <= LONG_TABLE else f"<details><summary>Table of {rows} rows</summary>{inside}</details>"


def _warnings(sections: Mapping[str, Any]) -> list[str]:
    tables = [content for content in sections.values() if isinstance(content, EffectTable)]
    return list(dict.fromkeys(str(text) for table in tables for text in table.meta.get("warnings") or []))


def _warning_list(told: Sequence[str]) -> str:
    if not told:
        return ""
    lines = "".join(f"<li>{escape(text)}</li>" for text in told)
    return f'<section id="warnings"><h2>Warnings</h2><ul>{lines}</ul></section>'


def _provenance(facts: Mapping[str, Any] | None) -> str:
    if not facts:
        return ""
    return f'<section id="provenance"><h2>Provenance</h2>{_facts(facts)}</section>'


def _facts(facts: Mapping[str, Any]) -> str:
    lines = []
    for name, value in facts.items():
        shown = _facts(value) if isinstance(value, Mapping) and value else escape(_fact(value))
        lines.append(f"<dt>{escape(str(name))}</dt><dd>{shown}</dd>")
    return f'<dl class="facts">{"".join(lines)}</dl>'


def _fact(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(item) for item in value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _footer() -> str:
    return (
        "<footer><p>An interval at a level covers the true effect in that share of repeated samples when the listed "
        "assumptions hold; a p-value refers to the null value of its row. Checks can refute some assumptions and "
        "prove none.</p></footer>"
    )
