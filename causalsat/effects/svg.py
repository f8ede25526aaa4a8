"""Figures as inline SVG with the same bytes every time."""

import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_NAMESPACE = re.compile(r'\s+xmlns(:\w+)?="[^"]*"')
_ID = re.compile(r'(\bid="|href="#|url\(#)')
_LAYOUT_STEPS, _STILL = 12, 1e-12


def figure_of(drawn: Any) -> "Figure":
    """The figure of axes, or the figure itself."""
    owner = getattr(drawn, "get_figure", None)
    found = owner() if callable(owner) else None
    return drawn if found is None else found


def _settle(figure: "Figure") -> None:
    """Draw until the layout stands still: each drawing of a constrained layout starts from the one before."""
    before: list[float] = []
    for _ in range(_LAYOUT_STEPS):
        figure.draw_without_rendering()
        now = [float(end) for axes in figure.axes for end in axes.get_position().bounds]
        if before and max(abs(a - b) for a, b in zip(now, before)) < _STILL:
            return
        before = now


def inline_svg(drawn: Any, prefix: str) -> str:
    """The figure as an ``svg`` element: text stays text, ids carry ``prefix``, nothing refers outside the element.

    Dates, creator and namespaces (which an HTML parser supplies) are left out, and ids are salted with ``prefix``,
    so equal figures give equal text.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    blank = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure = figure_of(drawn)
    with mpl.rc_context({"svg.hashsalt": f"causalsat {prefix}", "svg.fonttype": "none"}):
        _settle(figure)
        figure.savefig(buffer, format="svg", metadata=blank)
    text = buffer.getvalue()
    text = _METADATA.sub("", text[text.index("<svg") :])
    head, body = text.split(">", 1)
    head = _NAMESPACE.sub("", head)
    return (head + ' role="img">' + _ID.sub(rf"\g<1>{prefix}-", body)).strip()
