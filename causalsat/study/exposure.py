"""Exposure of a row to the treatment of its neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from causalsat.errors import DataError, OptionError, count, number, one_of
from causalsat.public import public
from causalsat.study.sphere import RADIUS_KM, chord_of_km, unit_vectors

MEASURES = ("share", "any", "log_count")
ROLES = ("covariate", "effect")
EFFECTS = {"direct": ("10", "00"), "spillover": ("01", "00"), "total": ("11", "00")}
"""Effects of treatment and exposure as contrasts of the levels (own treatment, exposed or not)."""
_OWN_PLACE_KM = 1e-3
_CHUNK = 2000


@public
@dataclass(frozen=True)
class Exposure:
    """How spillovers from neighbours enter.

    Neighbours are the other rows in use, by great-circle distance. Rows that share neighbours have related exposures:
    where these vary smoothly over space, ``Sandwich("conley")`` is the safer covariance of spillover effects.

    Attributes
    ----------
    rings_km : sequence of float
        Outer radii of the rings around a row, kilometres, ascending: (10, 25, 50) are 0 to 10, 10 to 25, 25 to 50.
    measure : str
        "share" of the neighbours in the ring that are treated, "any" of them, or "log_count", log(1 + number treated).
    lag : int
        0: neighbours in the same period, which is not settled before treatment, so that as a covariate it changes the
        estimand to the effect at given exposure. 1: neighbours one period earlier, and so on; rows of the first
        period then have no exposure, which is imputed with an indicator, or left out of the effects.
    role : str
        "covariate": exposure is adjusted for. "effect": exposure within the last ring is a second treatment, and the
        table holds direct, spillover and total effects.
    source : str, optional
        Column of 0 and 1 whose neighbours' values are counted; None: the treatment of the row of the table.
    """

    rings_km: Sequence[float] = (10.0, 25.0, 50.0)
    measure: str = "share"
    lag: int = 0
    role: str = "covariate"
    source: str | None = None

    def __post_init__(self) -> None:
        rings = (self.rings_km,) if isinstance(self.rings_km, (int, float)) else tuple(self.rings_km)
        radii = tuple(number("Exposure.rings_km", radius, 0.0, 20_000.0) for radius in rings)
        if not radii or any(a >= b for a, b in pairwise(radii)):
            raise OptionError(f"Exposure.rings_km={self.rings_km!r} must be ascending distances, for example (10, 25).")
        object.__setattr__(self, "rings_km", radii)
        one_of("Exposure.measure", self.measure, MEASURES)
        one_of("Exposure.role", self.role, ROLES)
        object.__setattr__(self, "lag", count("Exposure.lag", self.lag))
        if self.source is not None and not isinstance(self.source, str):
            raise OptionError(f"Exposure.source={self.source!r} must be the name of one column, or None.")

    def names(self, label: str) -> tuple[str, ...]:
        """One name per ring for the exposure to ``label``."""
        inner = (0.0, *self.rings_km[:-1])
        lagged = f", lag {self.lag}" if self.lag else ""
        return tuple(f"exposure({label}, {a:g}-{b:g} km{lagged})" for a, b in zip(inner, self.rings_km))


def neighbour_exposure(
    lonlat: np.ndarray,
    treated: np.ndarray,
    rings_km: Sequence[float],
    *,
    measure: str = "share",
    period: np.ndarray | None = None,
    lag: int = 0,
) -> np.ndarray:
    """Treatment among the neighbours of each row, ring by ring.

    Rows at the same place (within a metre) are the row's own cell and are left out; so are neighbours whose treatment
    is missing. Without neighbours in a ring, nobody there is treated: 0.

    Parameters
    ----------
    lonlat : ndarray (n, 2) float64
        Degrees WGS84.
    treated : ndarray (n,) float64
        0 or 1, NaN unknown.
    rings_km : sequence of float (r,)
        Outer radii, ascending, kilometres of great circle; a ring holds its outer edge and not its inner one.
    measure : str
        "share", "any" or "log_count".
    period : ndarray (n,) int, optional
        Codes 0, 1, ... in order of time; neighbours are sought within a period. None: all rows are one period.
    lag : int
        Neighbours of period t - lag.

    Returns
    -------
    ndarray (n, r) float64
        NaN in rows whose lagged period is not in the data.

    Raises
    ------
    DataError
        A lag without periods.

    Examples
    --------
    >>> import numpy as np
    >>> from causalsat.study.exposure import neighbour_exposure
    >>> places = np.array([[32.0, 0.0], [32.05, 0.0], [32.1, 0.0]])
    >>> neighbour_exposure(places, np.array([0.0, 1.0, 0.0]), (10, 25))
    array([[1., 0.],
           [0., 0.],
           [1., 0.]])
    """
    one_of("measure", measure, MEASURES)
    if lag and period is None:
        raise DataError("Lagged exposure needs the period of every row; give time.")
    n, r = len(treated), len(rings_km)
    codes = np.zeros(n, dtype=np.int64) if period is None else np.asarray(period, dtype=np.int64)
    vectors, edges = unit_vectors(lonlat), _edges(rings_km)
    hit, all_near = np.zeros((n, r)), np.zeros((n, r))
    missing = np.ones(n, dtype=bool)
    for now in np.unique(codes):
        rows = np.flatnonzero(codes == now)
        then = np.flatnonzero((codes == now - lag) & np.isfinite(treated))
        if len(then):
            missing[rows] = False
            hit[rows], all_near[rows] = _counts(vectors[rows], vectors[then], treated[then], edges)
    if measure == "share":
        found = hit / np.maximum(all_near, 1.0)
    else:
        found = (hit > 0).astype(np.float64) if measure == "any" else np.log1p(hit)
    found[missing] = np.nan
    return found


def _edges(rings_km: Sequence[float]) -> np.ndarray:
    """Chords that bound the rings; a rounding step of slack keeps a place exactly at a radius inside."""
    return np.array([chord_of_km(_OWN_PLACE_KM), *(chord_of_km(km) * (1.0 + 1e-9) for km in rings_km)])


def _counts(
    here: np.ndarray, there: np.ndarray, treated: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Treated and all neighbours (m, r) in each ring, in chunks of rows: memory does not grow with m."""
    from scipy.spatial import cKDTree

    tree, r = cKDTree(there), len(edges) - 1
    hit, near = np.zeros((len(here), r)), np.zeros((len(here), r))
    for first in range(0, len(here), _CHUNK):
        part = here[first : first + _CHUNK]
        pairs = cKDTree(part).sparse_distance_matrix(tree, edges[-1], output_type="ndarray")
        ring = np.searchsorted(edges, pairs["v"], side="left") - 1
        inside = ring >= 0
        at = pairs["i"][inside] * r + ring[inside]
        size = len(part) * r
        near[first : first + len(part)] = np.bincount(at, minlength=size).reshape(-1, r)
        weights = treated[pairs["j"][inside]]
        hit[first : first + len(part)] = np.bincount(at, weights, minlength=size).reshape(-1, r)
    return hit, near


def nearest_treated_km(lonlat: np.ndarray, treated: np.ndarray, period: np.ndarray | None = None) -> np.ndarray:
    """Distance (n,) in kilometres to the nearest treated row of the same period; infinite where there is none.

    Parameters
    ----------
    lonlat : ndarray (n, 2) float64
        Degrees WGS84.
    treated : ndarray (n,) float64
        0, 1 or NaN.
    period : ndarray (n,) int, optional
        Codes; None: all rows are one period.
    """
    from scipy.spatial import cKDTree

    codes = np.zeros(len(treated), dtype=np.int64) if period is None else np.asarray(period, dtype=np.int64)
    vectors, found = unit_vectors(lonlat), np.full(len(treated), np.inf)
    for now in np.unique(codes):
        rows = np.flatnonzero(codes == now)
        there = rows[treated[rows] == 1.0]
        if len(there):
            chord, _ = cKDTree(vectors[there]).query(vectors[rows])
            found[rows] = 2.0 * RADIUS_KM * np.arcsin(np.minimum(1.0, chord / 2.0))
    return found
