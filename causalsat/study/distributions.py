"""Distributions of units that were summarised beforehand: quantile functions and histograms."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError
from causalsat.public import public


@public
@dataclass(frozen=True, eq=False, repr=False)
class QuantileMatrix:
    """One quantile function per unit.

    Attributes
    ----------
    values : ndarray (n, M) float64
        Quantiles in the outcome's unit, nondecreasing along each row; a row of NaN is a unit without a distribution.
    quantiles : ndarray (M,) float64
        Levels, strictly increasing inside (0, 1).
    means : ndarray (n,) float64, optional
        Exact means of the units; None integrates the quantiles.

    Raises
    ------
    DataError
        Shapes that do not agree, levels outside (0, 1) or not increasing, infinite values, a row that decreases (the
        first such unit and level are named).

    Examples
    --------
    >>> import numpy as np
    >>> from causalsat.study.distributions import QuantileMatrix
    >>> len(QuantileMatrix(np.array([[1.0, 2.0], [0.0, 3.0]]), np.array([0.25, 0.75])))
    2
    """

    values: np.ndarray
    quantiles: np.ndarray
    means: np.ndarray | None = None

    def __post_init__(self) -> None:
        values, levels = _numbers("values", self.values), _numbers("quantiles", self.quantiles)
        if values.ndim != 2 or levels.ndim != 1 or values.shape[1] != levels.size or not levels.size:
            raise DataError(
                f"QuantileMatrix: values have shape {values.shape} and quantiles {levels.shape}; give (n, M) and (M,)."
            )
        _check_levels("QuantileMatrix.quantiles", levels)
        partly = np.isnan(values).any(axis=1) & ~np.isnan(values).all(axis=1)
        if np.isinf(values).any() or partly.any():
            row = int(np.flatnonzero(partly | np.isinf(values).any(axis=1))[0])
            raise DataError(
                f"QuantileMatrix: row {row} holds infinite values or NaN beside numbers; a unit has all its quantiles "
                "or none (a row of NaN)."
            )
        _refuse_decreasing(values, levels)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "quantiles", levels)
        if self.means is not None:
            means = _numbers("means", self.means)
            if means.shape != (len(values),):
                raise DataError(f"QuantileMatrix: means have shape {means.shape}; one per unit, ({len(values)},).")
            object.__setattr__(self, "means", means)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"QuantileMatrix({len(self.values)} units, {self.quantiles.size} levels)"


@public
@dataclass(frozen=True, eq=False, repr=False)
class Histogram:
    """Counts of draws per bin and unit, or areas and shares of draws with the number of draws beside them.

    The midpoint of a bin stands for its draws: exact for whole numbers in bins of width one around them, else within
    half a bin's width. How precise a unit's distribution is follows from how many draws stand behind it, so areas and
    coverage shares (:func:`causalsat.pixel_distributions` with weight "area" or "coverage") need ``n_pixels``.

    Attributes
    ----------
    edges : ndarray (k + 1,) float64
        Edges of the bins, strictly increasing.
    counts : ndarray (n, k) float64
        Draws of each unit in each bin, or with ``n_pixels`` their area or share; zero or positive, a row of zeros is
        a unit without draws.
    n_pixels : ndarray (n,) float64, optional
        Draws (pixels) behind each row, taken as independent; None: the counts are numbers of draws. An upper limit
        of what a row is worth where its draws weigh very unequally.

    Raises
    ------
    DataError
        Shapes that do not agree, edges that do not increase, counts that are negative or not finite, rows with counts
        and no pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from causalsat.study.distributions import Histogram
    >>> Histogram(np.array([-0.5, 0.5, 1.5]), np.array([[3, 1], [0, 2]])).centres
    array([0., 1.])
    """

    edges: np.ndarray
    counts: np.ndarray
    n_pixels: np.ndarray | None = None

    def __post_init__(self) -> None:
        edges, counts = _numbers("edges", self.edges), _numbers("counts", self.counts)
        if counts.ndim != 2 or edges.shape != (counts.shape[1] + 1,) or not counts.shape[1]:
            raise DataError(
                f"Histogram: counts have shape {counts.shape} and edges {edges.shape}; give (n, k) and (k + 1,)."
            )
        if not np.isfinite(edges).all() or not (np.diff(edges) > 0.0).all():
            raise DataError("Histogram: edges must be finite and strictly increasing.")
        if not np.isfinite(counts).all() or (counts < 0.0).any():
            row = int(np.flatnonzero(~np.isfinite(counts).all(axis=1) | (counts < 0.0).any(axis=1))[0])
            raise DataError(f"Histogram: counts of row {row} are negative, NaN or infinite; counts are zero or more.")
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "counts", counts)
        if self.n_pixels is not None:
            object.__setattr__(self, "n_pixels", _pixels(self.n_pixels, counts))

    @property
    def centres(self) -> np.ndarray:
        """(k,) midpoints of the bins."""
        return 0.5 * (self.edges[:-1] + self.edges[1:])

    def __len__(self) -> int:
        return len(self.counts)

    def __repr__(self) -> str:
        return f"Histogram({len(self.counts)} units, {self.counts.shape[1]} bins)"


def _pixels(given: Any, counts: np.ndarray) -> np.ndarray:
    n_pixels = _numbers("n_pixels", given)
    if n_pixels.shape != (len(counts),):
        raise DataError(f"Histogram: n_pixels have shape {n_pixels.shape}; one number per unit, ({len(counts)},).")
    bad = ~np.isfinite(n_pixels) | (n_pixels < 0.0) | ((n_pixels < 1.0) & (counts > 0.0).any(axis=1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"Histogram: n_pixels of row {row} is {n_pixels[row]:g}; a row with counts has at least one pixel, and "
            "no number is negative, NaN or infinite."
        )
    return n_pixels


def _check_levels(argument: str, levels: np.ndarray) -> None:
    if not ((levels > 0.0) & (levels < 1.0)).all() or not (np.diff(levels) > 0.0).all():
        raise DataError(f"{argument}: levels must be strictly increasing and inside (0, 1).")


def _refuse_decreasing(values: np.ndarray, levels: np.ndarray) -> None:
    down = np.diff(values, axis=1) < 0.0
    if down.any():
        row = int(np.flatnonzero(down.any(axis=1))[0])
        j = int(np.flatnonzero(down[row])[0]) + 1
        raise DataError(
            f"QuantileMatrix: row {row} decreases at level {levels[j]:.6g} ({values[row, j - 1]:g} before, "
            f"{values[row, j]:g} there; {int(down.any(axis=1).sum())} such rows). A quantile function is "
            "nondecreasing: sort each row, or pass the draws."
        )


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} cannot be read as numbers ({error}).") from error
