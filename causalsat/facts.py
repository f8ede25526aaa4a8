"""A result in a few plain lines, a headline and named facts, for the terminal and for notebooks."""

import html
import textwrap
from collections.abc import Sequence

WIDTH = 100
Facts = Sequence[tuple[str, str]]


def as_text(headline: str, facts: Facts) -> str:
    """The headline, then one line per fact with the names in a column; long facts are wrapped."""
    margin = max((len(name) for name, _ in facts), default=0) + 2
    lines = [
        textwrap.fill(text, WIDTH, initial_indent=name.ljust(margin), subsequent_indent=" " * margin)
        for name, text in facts
    ]
    return "\n".join([headline, *([""] if lines else []), *lines])


def as_html(headline: str, facts: Facts) -> str:
    """The headline above a table of two columns, every text escaped; no script."""
    left = 'style="text-align:left"'
    rows = "".join(
        f'<tr><th scope="row" {left}>{_safe(name)}</th><td {left}>{_safe(text)}</td></tr>' for name, text in facts
    )
    return f"<p>{_safe(headline)}</p><table><tbody>{rows}</tbody></table>"


def counted(n: int, noun: str) -> str:
    """ "1 place", "2 places"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
