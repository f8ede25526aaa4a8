"""Functionals of average quantile functions, given by their means over 200 equal cells of (0, 1)."""

import math

import numpy as np

from causalsat.errors import DataError, OptionError
from causalsat.estimators.r3d_functional_columns import MIDPOINTS, level_between, lorenz_level
from causalsat.estimators.r3d_functional_names import Functional

_CALLED = (
    "A callable is called with two arrays (200,), the means of an average quantile function over 200 equal cells of "
    "(0, 1) and the midpoints of the cells, and returns one number."
)
# What code of the caller raises on arguments it did not expect.
_FAULTS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def curve_functional(f: Functional, values: np.ndarray, beside: np.ndarray | None = None) -> np.ndarray:
    """(...) functional of quantile functions whose means over [(k - 1)/200, k/200] are (..., 200); NaN without one.

    Integrals over (0, 1) are means over the 200 cells. ``beside`` (...) adds what cells hide. For variance and sd it
    is the mean square of a unit's quantile function around its cell means, averaged over units: the average's own
    where the quantile functions of units differ by a shift, else a little more, chance in the draws of a cell
    included. That chance makes up for a part of the spread that few draws miss in a long tail. For shares at a level
    inside a cell it is the integral from the start of that cell. "exceed" is one less the level at which the L2
    projection of the curve on nondecreasing functions, linear between the midpoints, reaches the threshold. Callables
    get the cell means and the midpoints.
    """
    if f.kind == "callable":
        return _called(f, values)
    if f.kind == "exceed":
        return 1.0 - _inverse(values, f.arguments[0])
    mean = values.mean(axis=-1)
    if f.kind in ("variance", "sd"):
        variance = ((values - mean[..., None]) ** 2).mean(axis=-1)
        variance = variance if beside is None else variance + np.maximum(beside, 0.0)
        return np.asarray(variance if f.kind == "variance" else np.sqrt(variance))
    scale = np.where(mean > 0.0, mean, 1.0)
    if f.kind == "gini":
        part = (values @ (2.0 * MIDPOINTS - 1.0)) / MIDPOINTS.size / scale
    else:
        part = _integral(f, values, beside) / scale
        part = 1.0 - part if f.kind == "share_top" else part
    return np.where(mean > 0.0, part, np.nan)


def _integral(f: Functional, values: np.ndarray, beside: np.ndarray | None) -> np.ndarray:
    """(...) integral of curves (..., 200) from 0 to the level of a share; cells are flat without ``beside``."""
    p, cell = lorenz_level(f), 1.0 / MIDPOINTS.size
    if beside is None or level_between(f) is None:
        return np.asarray(values @ np.clip(p - (MIDPOINTS - 0.5 * cell), 0.0, cell))
    return np.asarray(values[..., : math.floor(p * MIDPOINTS.size)].sum(axis=-1) * cell + beside)


def _inverse(values: np.ndarray, z: float) -> np.ndarray:
    """Level at which projected curves (..., 200) pass z: 0 below their least value, 1 from their largest on.

    The projection is the slope of the greatest convex minorant of the cumulated values, so the part that stays at or
    below z ends where the cumulated sum of (value - z) is least (Groeneboom's switch relation), and the slopes of the
    minorant on both sides of that point are its steepest chords from the left and its flattest to the right.
    """
    size = MIDPOINTS.size
    flat = values.reshape(-1, size)
    sums = np.concatenate([np.zeros((len(flat), 1)), np.cumsum(flat - z, axis=1)], axis=1)
    reached = size - np.argmin(sums[:, ::-1], axis=1)
    rise = np.take_along_axis(sums, reached[:, None], 1) - sums
    run = reached[:, None] - np.arange(size + 1)[None, :]
    chords = rise / np.where(run == 0, 1, run)
    first = np.where(run > 0, chords, -np.inf).max(axis=1)
    second = np.where(run < 0, chords, np.inf).min(axis=1)
    inside = (reached > 0) & (reached < size)
    share = np.where(inside, -first, 0.0) / np.where(inside, second - first, 1.0)
    level = (reached - 0.5 + share) / size
    return np.asarray(np.where(inside, level, reached / size)).reshape(values.shape[:-1])


def _called(f: Functional, values: np.ndarray) -> np.ndarray:
    if f.call is None:
        raise DataError("a functional of kind callable needs its callable.")
    flat = values.reshape(-1, values.shape[-1])
    found = np.array([_one_number(f, row) for row in flat])
    return found.reshape(values.shape[:-1])


def _one_number(f: Functional, row: np.ndarray) -> float:
    try:
        value = f.call(row.copy(), MIDPOINTS.copy()) if f.call is not None else None
        number = np.asarray(value, dtype=np.float64)
    except _FAULTS as error:
        raise OptionError(
            f'functionals: "{f.name}" raised {type(error).__name__} ({error}). {_CALLED} A function of the values '
            "alone is written lambda values, levels: np.median(values)."
        ) from error
    if number.size != 1:
        raise OptionError(
            f'functionals: "{f.name}" must return one number, not an array of shape {number.shape}. {_CALLED}'
        )
    return float(number.reshape(()))
