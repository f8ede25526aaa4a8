"""Plots of an instrumental-variable study: the path over the radius, strength of instruments, sets of every shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from causalsat.effects.plots import COLOURS, GREY, MARKERS, _quiet, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class PathPicture:
    """One coefficient along the radius.

    Attributes
    ----------
    x : np.ndarray
        (r,) positive radii in units of the smallest eigenvalue.
    estimate, low, high : np.ndarray
        (r,) coefficient and its interval; NaN where no law holds.
    name : str
        Treatment.
    verticals : mapping of str to float
        Marks on the radius axis: cap, smallest eigenvalue, threshold, chosen.
    horizontals : mapping of str to float
        Marks on the coefficient axis: TSLS, OLS, zero.
    threshold : float
        Where the pseudo-true region begins, in the units of ``x``.
    """

    x: np.ndarray
    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    name: str
    verticals: Mapping[str, float] = field(default_factory=dict)
    horizontals: Mapping[str, float] = field(default_factory=dict)
    threshold: float = np.inf


@dataclass(frozen=True)
class SetLine:
    """One method: its estimate (NaN for a set) and the pieces of its set, with infinite ends allowed."""

    label: str
    estimate: float
    pieces: tuple[tuple[float, float], ...]
    text: str = ""


def plot_path(picture: PathPicture, ax: "Axes | None" = None) -> "Axes":
    """Coefficient against rho over the smallest eigenvalue (log axis), hatched where the limit is pseudo-true."""
    ax = new_axes(7.2, 4.2) if ax is None else ax
    ax.fill_between(picture.x, picture.low, picture.high, color=COLOURS[0], alpha=0.2, linewidth=0)
    ax.plot(picture.x, picture.estimate, color=COLOURS[0], linewidth=1.8)
    ax.set_xscale("log")
    ax.set_xlim(float(picture.x[0]), float(picture.x[-1]))
    if picture.threshold < picture.x[-1]:
        ax.axvspan(
            max(picture.threshold, float(picture.x[0])), float(picture.x[-1]), facecolor="none", edgecolor=GREY,
            hatch="///", linewidth=0, alpha=0.5, label="pseudo-true",
        )  # fmt: skip
    for i, (name, at) in enumerate(picture.verticals.items()):
        if picture.x[0] <= at <= picture.x[-1]:
            ax.axvline(at, color=COLOURS[(i + 1) % len(COLOURS)], linestyle=("--", ":", "-.", "-")[i % 4], label=name)
    for name, at in picture.horizontals.items():
        ax.axhline(at, color=GREY, linewidth=0.8, zorder=0)
        ax.annotate(name, (1.005, at), xycoords=("axes fraction", "data"), va="center", fontsize="small", color=GREY)
    ax.set_xlabel("rho / smallest eigenvalue")
    ax.set_ylabel(f"effect of {picture.name}")
    ax.legend(frameon=False, fontsize="small", loc="best")
    _quiet(ax, "y")
    return ax


def plot_strength(
    bars: Sequence[tuple[str, float, float]],
    points: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ax: "Axes | None" = None,
) -> "Axes":
    """F statistics against their critical values, beside partial residuals of the treatment on each instrument.

    Parameters
    ----------
    bars : sequence of (name, statistic, critical value)
        A critical value may be NaN.
    points : mapping of instrument to (x, y)
        Partial residuals.
    ax : matplotlib Axes, optional
        Takes the bars; the scatter is drawn on axes beside it, when ``ax`` is None.
    """
    alone = ax is not None
    if ax is None:
        ax = new_axes(9.6, 0.6 + 0.5 * max(len(bars), 6))
    place = np.arange(len(bars))
    ax.barh(place, [b[1] for b in bars], color=COLOURS[0], height=0.5)
    for i, (_, _, critical) in enumerate(bars):
        if np.isfinite(critical):
            ax.plot([critical, critical], [i - 0.35, i + 0.35], color=COLOURS[1], linewidth=2.5)
    ax.set_yticks(place, [b[0] for b in bars])
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ax.set_xlabel("F (mark: critical value)")
    _quiet(ax, "x")
    if not alone:
        _scatters(ax, points)
    return ax


def plot_sets(lines: Sequence[SetLine], null: float, ax: "Axes | None" = None) -> "Axes":
    """One line per method: arrows for unbounded sets, gaps between pieces, the word "empty" for empty ones."""
    if ax is None:
        ax = new_axes(7.2, 1.3 + 0.35 * max(len(lines), 3))
    low, high = _window(lines, null)
    ax.axvline(null, color=GREY, linewidth=0.9, zorder=0)
    for i, line in enumerate(lines):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        if not line.pieces:
            ax.annotate("empty", (null, i), va="center", color=GREY, fontsize="small")
        for left, right in line.pieces:
            ends = max(left, low), min(right, high)
            ax.plot(ends, [i, i], color=colour, linewidth=2.6, solid_capstyle="butt")
            for end, at, shape in ((left, low, "<"), (right, high, ">")):
                if not np.isfinite(end):
                    ax.plot([at], [i], marker=shape, color=colour, markersize=8, clip_on=False)
        if np.isfinite(line.estimate):
            ax.plot([line.estimate], [i], marker=marker, color=colour, markersize=6, markeredgecolor="white")
    ax.set_yticks(range(len(lines)), [line.label for line in lines])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.set_xlim(low, high)
    ax.set_xlabel("effect (arrows: unbounded)")
    _quiet(ax, "x")
    return ax


def _window(lines: Sequence[SetLine], null: float) -> tuple[float, float]:
    """Room for every finite end, the null and a margin."""
    ends = [end for line in lines for piece in line.pieces for end in piece if np.isfinite(end)]
    ends += [line.estimate for line in lines if np.isfinite(line.estimate)] + [null]
    low, high = min(ends), max(ends)
    margin = 0.08 * (high - low) if high > low else 1.0
    return low - margin, high + margin


def _scatters(ax: "Axes", points: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    grid = ax.figure.add_gridspec(1, 2, width_ratios=(1.0, 0.75))
    ax.set_subplotspec(grid[0, 0])
    side = ax.figure.add_subplot(grid[0, 1])
    for i, (name, (x, y)) in enumerate(points.items()):
        colour = COLOURS[i % len(COLOURS)]
        side.plot(x, y, linestyle="", marker=".", markersize=2, color=colour, alpha=0.5, label=name)
        slope = float(x @ y / (x @ x))
        span = np.array([x.min(), x.max()])
        side.plot(span, slope * span, color=colour, linewidth=1.2)
    side.set_xlabel("instrument, net of controls")
    side.set_ylabel("treatment, net of controls")
    side.legend(frameon=False, fontsize="small")
