"""Plots of a distributional regression discontinuity. Each takes ``ax=None`` and returns the axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalsat.effects.plots import COLOURS, GREY, _quiet, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MAX_BINS = 400
ON_EDGE = 1e-9
# Values nearer than this share of the largest differ by the rounding of a subtracted cutoff only.
SAME_VALUE = 1e-11


@dataclass(frozen=True)
class Curve:
    """A curve over quantile levels with its pointwise interval and uniform band; arrays (M,), NaN where unavailable."""

    quantiles: np.ndarray
    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    band_low: np.ndarray
    band_high: np.ndarray
    name: str = ""


@dataclass(frozen=True)
class Scatter:
    """One quantile level against the running variable: units, bins, the fitted polynomial inside the window."""

    x: np.ndarray
    y: np.ndarray
    bin_x: np.ndarray
    bin_y: np.ndarray
    fit_x: np.ndarray
    fit_y: np.ndarray
    h: tuple[float, float]
    name: str


@dataclass(frozen=True, eq=False)
class RunningBins:
    """Bins of the running variable less cutoff: edges (m + 1,), one of them 0, units in each (m,) int64, the width."""

    edges: np.ndarray
    counts: np.ndarray
    width: float


def plot_effect(curve: Curve, title: str = "", ax: "Axes | None" = None) -> "Axes":
    """Effect by quantile: dark fill pointwise interval, hatched lines uniform band, grey hatch where there is none."""
    ax = new_axes(7.2, 4.2) if ax is None else ax
    q = curve.quantiles
    ax.axhline(0.0, color=GREY, linewidth=0.9, zorder=0)
    if np.isfinite(curve.band_low).any():
        low, high, colour = curve.band_low, curve.band_high, COLOURS[0]
        ax.fill_between(q, low, high, color=colour, alpha=0.12, linewidth=0, label="uniform band")
        for edge in (low, high):
            ax.plot(q, edge, color=colour, linewidth=0.8, linestyle="--")
    ax.fill_between(q, curve.low, curve.high, color=COLOURS[0], alpha=0.35, linewidth=0, label="pointwise interval")
    ax.plot(q, curve.estimate, color="black", linewidth=1.6, marker="o" if q.size < 25 else None, markersize=3.5)
    for level in q[~np.isfinite(curve.low)]:
        step = 0.5 * float(np.min(np.diff(q))) if q.size > 1 else 0.01
        ax.axvspan(level - step, level + step, facecolor="none", edgecolor=GREY, hatch="///", linewidth=0)
    ax.set_xlabel("quantile of the unit's distribution")
    ax.set_ylabel("effect")
    ax.set_title(title, fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    _quiet(ax, "y")
    return ax


def plot_averages(curves: Sequence[Curve], title: str = "", ax: "Axes | None" = None) -> "Axes":
    """Average quantile functions right and left of the cutoff with their uniform bands."""
    ax = new_axes(7.2, 4.2) if ax is None else ax
    for i, curve in enumerate(curves):
        colour = COLOURS[i % len(COLOURS)]
        ax.fill_between(curve.quantiles, curve.band_low, curve.band_high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(
            curve.quantiles, curve.estimate, color=colour, linewidth=1.6, linestyle="-" if i == 0 else "--",
            label=curve.name,
        )  # fmt: skip
    ax.set_xlabel("quantile of the unit's distribution")
    ax.set_ylabel("average quantile")
    ax.set_title(title, fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    _quiet(ax, "y")
    return ax


def plot_rd(scatters: Sequence[Scatter], title: str = "", ax: "Axes | None" = None) -> "Axes":
    """Unit quantiles in bins of the running variable, fitted polynomials inside the shaded window."""
    ax = new_axes(7.2, 4.2) if ax is None else ax
    if scatters:
        right, left = scatters[0].h
        ax.axvspan(-left, right, color=GREY, alpha=0.1, linewidth=0)
    for i, one in enumerate(scatters):
        colour = COLOURS[i % len(COLOURS)]
        ax.plot(one.bin_x, one.bin_y, linestyle="", marker="osD^vPX"[i % 7], markersize=4, color=colour, alpha=0.7)
        for side in (one.fit_x < 0.0, one.fit_x >= 0.0):
            ax.plot(one.fit_x[side], one.fit_y[side], color=colour, linewidth=1.6, label=one.name if side[-1] else None)
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.set_xlabel("running variable minus cutoff")
    ax.set_ylabel("unit quantile")
    ax.set_title(title, fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    _quiet(ax, "y")
    return ax


def plot_bandwidths(
    h: np.ndarray, effects: Mapping[str, np.ndarray], p_values: np.ndarray, chosen: float, ax: "Axes | None" = None
) -> "Axes":
    """Effects at chosen levels against the bandwidth, with the p-value of "no effect anywhere" on the right axis."""
    ax = new_axes(7.2, 4.2) if ax is None else ax
    for i, (name, values) in enumerate(effects.items()):
        ax.plot(h, values, color=COLOURS[i % len(COLOURS)], marker="osD^vPX"[i % 7], markersize=4, label=name)
    ax.axvline(chosen, color="black", linewidth=0.8, linestyle="--", label="selected")
    ax.axhline(0.0, color=GREY, linewidth=0.8, zorder=0)
    ax.set_xlabel("bandwidth")
    ax.set_ylabel("effect")
    side = ax.twinx()
    side.plot(h, p_values, color=GREY, linewidth=1.0, linestyle=":")
    side.set_ylabel("p-value of no effect (dotted)")
    side.set_ylim(0.0, 1.0)
    ax.legend(frameon=False, fontsize="small")
    _quiet(ax, "y")
    return ax


def running_bins(x: np.ndarray, right: np.ndarray | None = None) -> RunningBins:
    """Histogram of the running variable in bins of one width, counted from the cutoff, so that none holds both sides.

    The width is McCrary's, b = 2 sd(x) n^(-1/2) over all n units. It is doubled until 400 bins hold the sample, more
    than a page shows, and, where units share values (fewer distinct values than half the units), rounded up to a whole
    multiple of the smallest gap between values, so that every bin holds equally many possible values.

    Parameters
    ----------
    x : ndarray (n,) float64
        Running variable less cutoff, its own unit.
    right : ndarray (n,) bool, optional
        Units that count as right of the cutoff; None takes x >= 0. When units at zero count as left, bins hold their
        upper edges, else their lower ones.

    References
    ----------
    McCrary (2008), "Manipulation of the running variable in the regression discontinuity design: a density test",
    section 3.

    Examples
    --------
    >>> bins = running_bins(np.array([-1.0, -0.5, 0.0, 0.5]))
    >>> bins.edges.round(2).tolist(), bins.counts.tolist()
    ([-1.29, -0.65, 0.0, 0.65], [1, 1, 2])
    """
    own = x >= 0.0 if right is None else right
    width = _bin_width(x)
    position = x / width
    # A value on an edge is a whole number only up to rounding; without this, lattice values would jump bins.
    whole = np.rint(position)
    position = np.where(np.abs(position - whole) <= ON_EDGE * np.maximum(np.abs(whole), 1.0), whole, position)
    upper = bool((~own & (whole == 0.0) & (position == 0.0)).any())
    at = (np.ceil(position) - 1.0 if upper else np.floor(position)).astype(np.int64)
    at = np.where(own, np.maximum(at, 0), np.minimum(at, -1))
    first, last = min(int(at.min()), -1), max(int(at.max()), 0)
    counts = np.bincount(at - first, minlength=last - first + 1)
    return RunningBins(width * np.arange(first, last + 2), counts, width)


def _bin_width(x: np.ndarray) -> float:
    scale = float(np.abs(x).max())
    width = 2.0 * float(np.std(x, ddof=1)) / np.sqrt(x.size) if x.size > 1 else scale
    if not width > 0.0:
        return scale or 1.0
    while (x.max() - x.min()) / width > MAX_BINS - 2:
        width *= 2.0
    gaps = np.diff(np.unique(x))
    gaps = gaps[gaps > SAME_VALUE * scale]
    if gaps.size + 1 < 0.5 * x.size:
        # Over the whole range a gap is known better than from two neighbours.
        span = float(x.max() - x.min())
        gap = span / np.rint(span / gaps.min())
        width = gap * max(1.0, np.ceil(width / gap - 1e-6))
    return float(width)


def plot_running(
    x: np.ndarray,
    windows: tuple[float, float],
    title: str = "",
    ax: "Axes | None" = None,
    right: np.ndarray | None = None,
) -> "Axes":
    """Histogram of the running variable (:func:`running_bins`), window shaded; ``windows`` are (right, left)."""
    ax = new_axes(7.2, 3.6) if ax is None else ax
    bins = running_bins(x, right)
    colours = [COLOURS[1] if left < 0.0 else COLOURS[0] for left in bins.edges[:-1]]
    line = 0.6 if bins.counts.size <= 100 else 0.0
    ax.bar(
        bins.edges[:-1], bins.counts, width=bins.width, align="edge", color=colours, alpha=0.7, edgecolor="white",
        linewidth=line,
    )  # fmt: skip
    ax.axvspan(-windows[1], windows[0], color=GREY, alpha=0.15, linewidth=0)
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.set_xlabel("running variable minus cutoff")
    ax.set_ylabel(f"units per bin of {bins.width:.3g}")
    ax.set_title(title, fontsize="medium")
    _quiet(ax, "y")
    return ax


def plot_units(
    lonlat: np.ndarray,
    right: np.ndarray,
    inside: np.ndarray,
    title: str = "",
    ax: "Axes | None" = None,
    border: Sequence[np.ndarray] | None = None,
) -> "Axes":
    """Units on a map: side of the cutoff by colour and marker, outside the window faint; border by pieces (m, 2)."""
    ax = new_axes(6.0, 5.4) if ax is None else ax
    for side, colour, marker, name in ((right, COLOURS[0], "o", "treated side"), (~right, COLOURS[1], "s", "control")):
        for shown, alpha in ((inside, 0.9), (~inside, 0.2)):
            keep = side & shown
            ax.plot(
                lonlat[keep, 0], lonlat[keep, 1], linestyle="", marker=marker, markersize=3, color=colour, alpha=alpha,
                label=name if alpha > 0.5 else None,
            )  # fmt: skip
    frame = ax.axis()
    for i, piece in enumerate(border or ()):
        ax.plot(piece[:, 0], piece[:, 1], color="black", linewidth=1.2, label=None if i else "border")
    # The border may run far beyond the units.
    ax.axis(frame)
    ax.set_aspect(1.0 / max(np.cos(np.deg2rad(float(np.mean(lonlat[:, 1])))), 0.05))
    ax.set_xlabel("longitude")
    ax.set_ylabel("latitude")
    ax.set_title(title, fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    _quiet(ax, "both")
    return ax
