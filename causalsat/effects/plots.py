"""Plots of a table. Every function takes ``ax=None``, returns the axes and leaves matplotlib's global state alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalsat.effects.format import show_percent
from causalsat.errors import one_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalsat.effects.table import EffectTable

KINDS = ("coef", "map", "waterfall")
# Okabe and Ito's palette, told apart with every common colour blindness; markers carry the same information.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4D4D4D")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
GREY = "#8a8a8a"
DODGE = 0.7


@dataclass(frozen=True)
class _Layout:
    """Where the rows go: ``position`` on the category axis, ``series`` for colour, names of both."""

    position: np.ndarray
    categories: list[str]
    series: np.ndarray
    names: list[str]
    title: str


def new_axes(width: float, height: float) -> "Axes":
    """Axes on a figure that pyplot does not know, so that no global state changes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure.add_subplot()


def plot_table(table: "EffectTable", ax: "Axes | None" = None, kind: str = "coef") -> "Axes":
    """Estimates with their intervals, simultaneous bands where :meth:`EffectTable.joint` made them, and the null.

    Parameters
    ----------
    table : EffectTable
        A row that is NaN keeps its place and says "not available".
    ax : matplotlib Axes, optional
        None draws on a new figure (``ax.figure.savefig(...)`` saves it).
    kind : str
        "coef": one line per row; along the axis of a number ("quantile", "horizon") when that is all that differs.
        "map": the estimates at their places. "waterfall": the contributions of ``group_shapley``, from the value in
        A to the value in B (:func:`causalsat.effects.waterfall.plot_waterfall`, which also sorts them).

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    OptionError
        Another kind.
    DataError
        "map" without places; "waterfall" of a table that holds no contributions.
    """
    if one_of("kind", kind, KINDS) == "map":
        from causalsat.effects.maps import plot_map

        return plot_map(table, ax)
    if kind == "waterfall":
        from causalsat.effects.waterfall import plot_waterfall

        return plot_waterfall(table, ax)
    running = _running(table)
    return _along(table, running, ax) if running else _rows(table, ax)


def _running(table: "EffectTable") -> str | None:
    """The one numeric column that tells the rows apart, if it alone does."""
    from causalsat.effects.rows import telling_columns

    varying = telling_columns(table)
    alone = len(varying) == 1 and len(table) > 2 and table[varying[0]].dtype.kind in "if"
    return varying[0] if alone else None


def _layout(table: "EffectTable") -> _Layout:
    """With two or more telling columns, "adjust" (else "method", else the last) becomes the series."""
    from causalsat.effects.rows import show_value, telling_columns

    varying = telling_columns(table)
    split = len(varying) > 1
    by = next((n for n in ("adjust", "method") if n in varying), varying[-1]) if split else ""
    kept = [n for n in varying if n != by] if split else varying
    texts = {n: [show_value(v) for v in table[n].tolist()] for n in (*varying, "term")}
    rows = [" · ".join(texts[n][i] for n in (kept or ["term"])) for i in range(len(table))]
    categories, names = list(dict.fromkeys(rows)), list(dict.fromkeys(texts[by])) if split else [""]
    series = np.array([names.index(texts[by][i]) if split else 0 for i in range(len(table))], dtype=np.int64)
    offset = DODGE * ((series + 0.5) / len(names) - 0.5)
    base = np.array([categories.index(row) for row in rows], dtype=np.float64)
    return _Layout(base + offset, categories, series, names, by)


def _rows(table: "EffectTable", ax: "Axes | None") -> "Axes":
    """Horizontal intervals, the first row on top."""
    place = _layout(table)
    if ax is None:
        ax = new_axes(7.2, 1.3 + 0.3 * max(len(table), len(place.categories)))
    ax.axvline(_null(table), color=GREY, linewidth=0.9, zorder=0)
    for i in range(len(table)):
        _one_row(ax, table, i, float(place.position[i]), int(place.series[i]))
    ax.set_yticks(range(len(place.categories)), place.categories)
    ax.set_ylim(len(place.categories) - 0.4, -0.6)
    ax.set_xlabel(_axis_text(table))
    if len(place.names) > 1:
        _legend(ax, place)
    _quiet(ax, "x")
    return ax


def _one_row(ax: "Axes", table: "EffectTable", i: int, y: float, series: int) -> None:
    colour, marker = COLOURS[series % len(COLOURS)], MARKERS[series % len(MARKERS)]
    if np.isnan(table["estimate"][i]):
        ax.annotate("not available", (_null(table), y), xytext=(6, 0), textcoords="offset points", va="center",
                    color=GREY, fontsize="small")  # fmt: skip
        return
    if "band_low" in table.columns:
        ax.plot([table["band_low"][i], table["band_high"][i]], [y, y], color=colour, linewidth=0.9, alpha=0.7)
    ax.plot([table["conf_low"][i], table["conf_high"][i]], [y, y], color=colour, linewidth=2.6, solid_capstyle="butt")
    ax.plot([table["estimate"][i]], [y], marker=marker, color=colour, markersize=6, markeredgecolor="white")


def _legend(ax: "Axes", place: _Layout) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=COLOURS[j % len(COLOURS)], marker=MARKERS[j % len(MARKERS)], linewidth=2.6, label=name)
        for j, name in enumerate(place.names)
    ]
    ax.legend(handles=handles, title=place.title, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)


def _along(table: "EffectTable", name: str, ax: "Axes | None") -> "Axes":
    """Estimates along a number: interval as a ribbon, simultaneous band as thin lines."""
    if ax is None:
        ax = new_axes(7.2, 3.8)
    order = np.argsort(table[name], kind="stable")
    x = table[name][order].astype(np.float64)
    ax.axhline(_null(table), color=GREY, linewidth=0.9, zorder=0)
    ax.fill_between(x, table["conf_low"][order], table["conf_high"][order], color=COLOURS[0], alpha=0.25, linewidth=0)
    for end in ("band_low", "band_high"):
        if end in table.columns:
            ax.plot(x, table[end][order], color=COLOURS[0], linewidth=0.9, linestyle="--")
    ax.plot(x, table["estimate"][order], color=COLOURS[0], marker="o", markersize=4, linewidth=1.4)
    ax.set_xlabel(name)
    ax.set_ylabel(_axis_text(table))
    _quiet(ax, "y")
    return ax


def _null(table: "EffectTable") -> float:
    values = set(table.carried.null.tolist())
    return values.pop() if len(values) == 1 else 0.0


def _axis_text(table: "EffectTable") -> str:
    band = ",\nthin: simultaneous band" if "band_low" in table.columns else ""
    return f"estimate ({show_percent(table.level)} interval{band})"


def _quiet(ax: "Axes", grid: str) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(axis=grid, color="#e3e3e3", linewidth=0.6)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
