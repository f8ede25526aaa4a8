"""A waterfall of a decomposition: from the value in A, group by group, to the value in B."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalsat.effects.format import show_percent
from causalsat.effects.plots import COLOURS, GREY, new_axes
from causalsat.errors import DataError, one_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalsat.effects.table import EffectTable

ORDERS = ("value", "given")
_TOTAL = "(total)"
_HALF = 0.32
_MARGIN = 0.08


@dataclass(frozen=True)
class _Bar:
    """One group: where its bar begins and ends, its interval, and whether it is known up to an interval only."""

    name: str
    begin: float
    end: float
    low: float
    high: float
    open: bool


def plot_waterfall(table: "EffectTable", ax: "Axes | None" = None, order: str = "given") -> "Axes":
    """Horizontal waterfall of a :func:`causalsat.group_shapley` table.

    Each bar begins where the one above ends, so the bars lead from v_A to v_B; the thin line is the interval of the
    contribution, drawn from the beginning of its bar. Contributions that are known up to an interval are open bars, all
    drawn from v_A because nothing says where the one before ends; an end that nothing limits runs out of the picture.

    Parameters
    ----------
    table : EffectTable
        With the index column ``group`` and terms "contribution" (and "contribution_lower", "contribution_upper").
    ax : matplotlib Axes, optional
        None draws on a new figure.
    order : str
        "given": groups as they were named; "value": largest contribution first (for open bars
        the middle of the bounds).

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    OptionError
        Another order.
    DataError
        A table that holds no contributions.

    Examples
    --------
    >>> from causalsat.estimators.group_shapley import group_shapley
    >>> table = group_shapley({"": 1.0, "mix": 1.5, "dose": 2.0, "mix+dose": 3.0}, ["mix", "dose"])
    >>> [text.get_text() for text in plot_waterfall(table, order="value").get_yticklabels()]
    ['A', 'dose', 'mix', 'B']
    """
    one_of("order", order, ORDERS)
    if "group" not in table.columns or "contribution" not in table["term"].tolist():
        raise DataError('A waterfall needs the table of group_shapley: an index "group" and the term "contribution".')
    rows = [i for i in _rows(table, "contribution") if table["group"][i] != _TOTAL]
    rows = sorted(rows, key=lambda i: -_size(table, i)) if order == "value" else rows
    start = table.meta.get("value_a")
    bars = _bars(table, rows, 0.0 if start is None else float(start))
    if ax is None:
        ax = new_axes(7.2, 1.6 + 0.42 * (len(bars) + 2))
    return _draw(ax, table, bars)


def _rows(table: "EffectTable", term: str) -> list[int]:
    return [int(i) for i in np.flatnonzero(table["term"] == term)]


def _ends(table: "EffectTable", row: int) -> tuple[float, float]:
    """The contribution twice, or its lower and upper end."""
    known = float(table["estimate"][row])
    if not np.isnan(known):
        return known, known
    found = []
    for term in ("contribution_lower", "contribution_upper"):
        here = [i for i in _rows(table, term) if table["group"][i] == table["group"][row]]
        found.append(float(table["estimate"][here[0]]) if here else np.nan)
    return found[0], found[1]


def _size(table: "EffectTable", row: int) -> float:
    ends = [end for end in _ends(table, row) if np.isfinite(end)]
    return float(np.mean(ends)) if ends else 0.0


def _bars(table: "EffectTable", rows: list[int], start: float) -> list[_Bar]:
    bars, at = [], start
    for i in rows:
        low, high = float(table["conf_low"][i]), float(table["conf_high"][i])
        one, two = _ends(table, i)
        if np.isnan(table["estimate"][i]):
            bars.append(_Bar(str(table["group"][i]), start + one, start + two, start + low, start + high, True))
        else:
            bars.append(_Bar(str(table["group"][i]), at, at + one, at + low, at + high, False))
            at += one
    return bars


def _draw(ax: "Axes", table: "EffectTable", bars: list[_Bar]) -> "Axes":
    start, last = table.meta.get("value_a"), table.meta.get("value_b")
    limits = _limits(bars, [0.0 if start is None else float(start)] + ([] if last is None else [float(last)]))
    names = [_end_name("A", start), *(bar.name for bar in bars), _end_name("B", last)]
    _marker(ax, 0.0, 0.0 if start is None else float(start), 0.0, len(bars) + 1.0)
    for place, bar in enumerate(bars, start=1):
        _one_bar(ax, bar, float(place), limits)
        if not bar.open:
            ax.plot([bar.end, bar.end], [place + _HALF, place + 1.0 - _HALF], color=GREY, linewidth=0.8)
    if last is not None:
        _marker(ax, len(bars) + 1.0, float(last), len(bars) + 1.0, len(bars) + 1.0)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(*limits)
    ax.set_xlabel(_axis_text(table, any(bar.open for bar in bars), start is None))
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(axis="x", color="#e3e3e3", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def _end_name(name: str, value: object) -> str:
    return name if value is not None else f"{name} (unknown)"


def _marker(ax: "Axes", place: float, value: float, first: float, last: float) -> None:
    """The value of a study as a diamond, with a light line down to the other one."""
    if last > first:
        ax.plot([value, value], [first, last], color=GREY, linewidth=0.9, linestyle=":", zorder=0)
    ax.plot([value], [place], marker="D", color="#4D4D4D", markersize=7, linestyle="none")


def _one_bar(ax: "Axes", bar: _Bar, place: float, limits: tuple[float, float]) -> None:
    from matplotlib.patches import Rectangle

    left, right = (float(np.clip(x, *limits)) for x in sorted((bar.begin, bar.end)))
    colour = COLOURS[0] if bar.end >= bar.begin else COLOURS[1]
    face, edge = ("none", "#4D4D4D") if bar.open else (colour, colour)
    ax.add_patch(
        Rectangle((left, place - _HALF), right - left, 2.0 * _HALF, facecolor=face, edgecolor=edge, linewidth=1.4)
    )
    ends = [float(np.clip(x, *limits)) for x in (bar.low, bar.high)]
    if not np.isnan(ends).any():
        ax.plot(ends, [place, place], color="black", linewidth=1.3, solid_capstyle="butt", zorder=3)


def _limits(bars: list[_Bar], ends: list[float]) -> tuple[float, float]:
    """Axis limits around everything finite, with a margin in which unlimited bars run out."""
    seen = np.array(ends + [x for bar in bars for x in (bar.begin, bar.end, bar.low, bar.high)])
    seen = seen[np.isfinite(seen)]
    width = float(seen.max() - seen.min()) or max(abs(float(seen[0])), 1.0)
    return float(seen.min()) - _MARGIN * width, float(seen.max()) + _MARGIN * width


def _axis_text(table: "EffectTable", bounded: bool, from_zero: bool) -> str:
    what = "change from A" if from_zero else "value"
    lines = "" if table.draws is None else f"; lines: {show_percent(table.level)} intervals"
    opened = "; open bars: bounds, each from A" if bounded else ""
    return f"{what}{lines}{opened}"
