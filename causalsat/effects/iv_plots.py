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
class StrengthBar:
    """An F statistic and its critical values, pairs of label and value."""

    name: str
    statistic: float
    marks: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class SetLine:
    """One method: its estimate (NaN for a set) and the pieces of its set, with infinite ends allowed."""

    label: str
    estimate: float
    pieces: tuple[tuple[float, float], ...]
    text: str = ""


def plot_path(pictures: PathPicture | Sequence[PathPicture], ax: "Axes | None" = None) -> "Axes":
    """Coefficients against rho over the smallest eigenvalue (log axis), hatched where the limit is pseudo-true.

    Parameters
    ----------
    pictures : PathPicture or sequence of PathPicture
        One per treatment of an equation, which share radii and thresholds.
    ax : matplotlib Axes, optional
        None draws on a new figure.
    """
    ax = new_axes(7.2, 4.2) if ax is None else ax
    shown = [pictures] if isinstance(pictures, PathPicture) else list(pictures)
    first, several = shown[0], len(shown) > 1
    left, right = float(first.x[0]), float(first.x[-1])
    for i, picture in enumerate(shown):
        colour = COLOURS[i % len(COLOURS)]
        ax.fill_between(picture.x, picture.low, picture.high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(picture.x, picture.estimate, color=colour, linewidth=1.8, label=picture.name if several else None)
    ax.set_xscale("log")
    ax.set_xlim(left, right)
    if first.threshold < right:
        ax.axvspan(
            max(first.threshold, left), right, facecolor="none", edgecolor=GREY, hatch="///", linewidth=0, alpha=0.5,
            label="pseudo-true",
        )  # fmt: skip
    for i, (name, at) in enumerate(first.verticals.items()):
        if left <= at <= right:
            colour = COLOURS[(i + len(shown)) % len(COLOURS)]
            ax.axvline(at, color=colour, linestyle=("--", ":", "-.", "-")[i % 4], label=name)
    _horizontals(ax, shown)
    ax.set_xlabel("rho / smallest eigenvalue")
    ax.set_ylabel("effect" if several else f"effect of {first.name}")
    ax.legend(frameon=False, fontsize="small", loc="best")
    _quiet(ax, "y")
    return ax


def _horizontals(ax: "Axes", shown: Sequence[PathPicture]) -> None:
    """Marks on the coefficient axis; with several paths in their colours, and zero once."""
    for i, picture in enumerate(shown):
        for name, at in picture.horizontals.items():
            common = len(shown) == 1 or name == "0"
            if name == "0" and i > 0:
                continue
            colour, text = (GREY, name) if common else (COLOURS[i % len(COLOURS)], f"{name}, {picture.name}")
            ax.axhline(at, color=colour, linewidth=0.8, zorder=0)
            ax.annotate(
                text, (1.005, at), xycoords=("axes fraction", "data"), va="center", fontsize="small", color=colour
            )


def plot_strength(
    bars: Sequence[StrengthBar],
    points: Mapping[str, tuple[np.ndarray, np.ndarray]],
    treatment: str = "treatment",
    ax: "Axes | None" = None,
) -> "Axes":
    """F statistics against their critical values, beside partial residuals of the treatment on each instrument.

    Parameters
    ----------
    bars : sequence of StrengthBar
        Statistics and the marks they are judged by; a statistic that is not finite is written in words.
    points : mapping of instrument to (x, y)
        Partial residuals.
    treatment : str
        Name of the treatment of the scatter.
    ax : matplotlib Axes, optional
        Axes that are divided: the bars on the left, the scatter on new axes to their right. None makes a new figure.

    Returns
    -------
    matplotlib Axes
        The axes of the bars.
    """
    if ax is None:
        ax = new_axes(9.6, 0.6 + 0.5 * max(len(bars), 6))
    place = np.arange(len(bars))
    finite = [bar.statistic if np.isfinite(bar.statistic) else 0.0 for bar in bars]
    ax.barh(place, finite, color=COLOURS[0], height=0.5)
    labels = list(dict.fromkeys(label for bar in bars for label, _ in bar.marks))
    for i, bar in enumerate(bars):
        if not np.isfinite(bar.statistic):
            ax.annotate("infinite" if np.isinf(bar.statistic) else "not available", (0.0, i), va="center", color=GREY)
        for label, at in bar.marks:
            ax.plot([at, at], [i - 0.35, i + 0.35], color=_mark_colour(labels, label), linewidth=2.5)
    for label in labels:
        ax.plot([], [], color=_mark_colour(labels, label), linewidth=2.5, label=label)
    ax.set_yticks(place, [bar.name for bar in bars])
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ax.set_xlabel("F (marks: critical values; without a mark there is none)")
    if labels:
        ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
    _quiet(ax, "x")
    _scatters(ax, points, treatment)
    return ax


def _mark_colour(labels: Sequence[str], label: str) -> str:
    return COLOURS[1 + labels.index(label) % (len(COLOURS) - 1)]


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


def _scatters(ax: "Axes", points: Mapping[str, tuple[np.ndarray, np.ndarray]], treatment: str) -> None:
    side = _beside(ax)
    for i, (name, (x, y)) in enumerate(points.items()):
        colour = COLOURS[i % len(COLOURS)]
        side.plot(x, y, linestyle="", marker=".", markersize=2, color=colour, alpha=0.5, label=name)
        slope = float(x @ y / (x @ x))
        span = np.array([x.min(), x.max()])
        side.plot(span, slope * span, color=colour, linewidth=1.2)
    side.set_xlabel("instrument, net of controls")
    side.set_ylabel(f"{treatment}, net of controls")
    side.legend(frameon=False, fontsize="small")


def _beside(ax: "Axes") -> "Axes":
    """New axes on the right of ``ax``, which keeps the left part of its place."""
    spec = ax.get_subplotspec()
    if spec is not None:
        grid = spec.subgridspec(1, 2, width_ratios=(1.0, 0.75))
        ax.set_subplotspec(grid[0, 0])
        return ax.figure.add_subplot(grid[0, 1])
    box = ax.get_position()
    ax.set_position((box.x0, box.y0, 0.45 * box.width, box.height))
    return ax.figure.add_axes((box.x0 + 0.62 * box.width, box.y0, 0.38 * box.width, box.height))
