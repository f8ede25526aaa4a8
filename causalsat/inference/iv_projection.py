"""Projection of the joint robust Anderson-Rubin set on one of several effects."""

import math

import numpy as np

from causalsat.inference.iv_quadratic import LINE, Pieces, moved
from causalsat.inference.iv_robust_ar import ReducedForm, angular_set, tangents

_ANGLES = 721
_GRID = 41
_GOLDEN = 36
_CYCLES = 6
_EDGE = 0.5 * math.pi - 1e-9
_RATIO = 0.5 * (math.sqrt(5.0) - 1.0)


def projected_set(form: ReducedForm, j: int, critical: float) -> Pieces:
    """Values of effect j for which some values of the others keep the joint statistic at most ``critical``.

    Conservative: the joint set has the stated coverage, so its projection has at least that (Dufour & Taamouti 2005,
    "Projection-based statistical inference in linear structural models with possibly weak instruments").

    Parameters
    ----------
    form : ReducedForm
        Moments of several treatments with their robust variance.
    j : int
        Treatment.
    critical : float
        Chi-squared quantile with q degrees of freedom.

    Returns
    -------
    tuple of (float, float)
        Sorted disjoint pieces in raw units.
    """
    profile = Profile(form, j)

    def excess(angles: np.ndarray) -> np.ndarray:
        return profile(np.cos(angles), profile.step * np.sin(angles)) - critical

    found = tangents(angular_set(excess, _ANGLES))
    if found == LINE:
        return LINE
    scale = form.pencil.scale
    return moved(found, float(profile.step * scale[0] / scale[j + 1]), float(form.pencil.centre[j]))


def projected_test(form: ReducedForm, j: int, null: float) -> float:
    """Smallest joint statistic over the other effects when effect j is ``null``."""
    scale = form.pencil.scale
    distance = (null - form.pencil.centre[j]) * scale[j + 1] / scale[0]
    size = math.hypot(1.0, distance)
    return float(Profile(form, j)(np.array([1.0 / size]), np.array([distance / size]))[0])


class Profile:
    """Minimum of the joint statistic over the other effects, for many values of effect j at once.

    The other effects are searched along axes on which their information at TSLS is the identity, each axis over the
    whole line (angles, then golden section), in cycles; with two treatments one cycle is a global search up to the
    spacing of the angles.

    Parameters
    ----------
    form : ReducedForm
        Moments with their robust variance.
    j : int
        Treatment whose effect is held.
    """

    def __init__(self, form: ReducedForm, j: int) -> None:
        self.form = form
        self.j = j
        p = form.pencil.p
        self.others = np.setdiff1d(np.arange(p), [j])
        B = form.g[:, 1:]
        information = B.T @ np.linalg.pinv(form.V[0, 0]) @ B
        block = information[np.ix_(self.others, self.others)]
        self.slope = -np.linalg.pinv(block) @ information[self.others, j]
        values, vectors = np.linalg.eigh(block)
        lowest = max(float(values[-1]) * 1e-10, 1e-300)
        self.axes = vectors / np.sqrt(form.pencil.n * np.maximum(values, lowest))[None, :]
        self.step = math.sqrt(max(float(np.linalg.pinv(information)[j, j]), 0.0) / form.pencil.n)

    def __call__(self, first: np.ndarray, held: np.ndarray) -> np.ndarray:
        """(k,) smallest statistic along combinations first * (y - X b_tsls) - held * x_j - others."""
        place = np.zeros((first.size, self.others.size))
        best = self._value(first, held, place)
        for _ in range(_CYCLES if self.others.size > 1 else 1):
            before = best
            for axis in range(self.others.size):
                place, best = self._along(first, held, place, best, axis)
            if np.all(before - best <= 1e-9 * (1.0 + best)):
                break
        return best

    def _along(
        self, first: np.ndarray, held: np.ndarray, place: np.ndarray, best: np.ndarray, axis: int
    ) -> tuple[np.ndarray, np.ndarray]:
        def at(angles: np.ndarray) -> np.ndarray:
            """(c, k) statistics at c candidate angles (c, k) of this axis."""
            repeats = angles.shape[0]
            trial = np.tile(place, (repeats, 1))
            trial[:, axis] = np.tan(angles).reshape(-1)
            return self._value(np.tile(first, repeats), np.tile(held, repeats), trial).reshape(angles.shape)

        grid = np.linspace(-_EDGE, _EDGE, _GRID)
        start = np.argmin(at(np.repeat(grid[:, None], first.size, axis=1)), axis=0)
        low, high = grid[np.maximum(start - 1, 0)], grid[np.minimum(start + 1, _GRID - 1)]
        for _ in range(_GOLDEN):
            inner = _RATIO * (high - low)
            left, right = high - inner, low + inner
            both = at(np.stack([left, right]))
            nearer = both[0] <= both[1]
            low, high = np.where(nearer, low, left), np.where(nearer, right, high)
        candidates = np.stack([0.5 * (low + high), grid[start]])
        found = at(candidates)
        chosen = np.argmin(found, axis=0)
        rows = np.arange(first.size)
        value, angle = found[chosen, rows], candidates[chosen, rows]
        better = value < best
        return np.where(better[:, None], _moved_to(place, axis, angle), place), np.where(better, value, best)

    def _value(self, first: np.ndarray, held: np.ndarray, place: np.ndarray) -> np.ndarray:
        combination = np.zeros((first.size, self.form.pencil.p + 1))
        combination[:, 0] = first
        combination[:, self.j + 1] = -held
        free = held[:, None] * self.slope[None, :] + place @ self.axes.T
        combination[:, self.others + 1] = -free
        return self.form.statistic(combination)


def _moved_to(place: np.ndarray, axis: int, angle: np.ndarray) -> np.ndarray:
    moved_place = place.copy()
    moved_place[:, axis] = np.tan(angle)
    return moved_place
