"""How far scores are correlated: the binned covariogram and its range; spacing and extent of places."""

import math
from dataclasses import dataclass

import numpy as np

from causalsat.errors import DataError, SpatialCutoffWarning, warn
from causalsat.inference.tiles import chord_of, distance_of, merged, unit_vectors

BINS = 20
_SHARE = 0.05
_PROBES = 200
_MAX_PAIRS = 500_000
# 5% of the zero value is three standard errors of a bin of 3,600 uncorrelated pairs; fewer cannot show it.
_PAIRS_PER_BIN = 3_600
_DIRECTIONS = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) > (0, 0, 0)])


@dataclass(frozen=True)
class Covariogram:
    """Binned covariance of scores against distance.

    Attributes
    ----------
    distance_km : np.ndarray
        (20,) float64 mean distance of the pairs of each bin.
    covariance : np.ndarray
        (20,) float64 mean product of standardised scores in each bin; the zero value is one.
    pairs : np.ndarray
        (20,) int64 pairs used.
    range_km : float
        First distance with a covariance below 5% of the zero value, in whole kilometres, at least one; the largest
        bin's distance if none is.
    reached : bool
        Whether a bin fell below 5%.
    """

    distance_km: np.ndarray
    covariance: np.ndarray
    pairs: np.ndarray
    range_km: float
    reached: bool


def covariogram(scores: np.ndarray, lonlat: np.ndarray, *, time: np.ndarray | None = None) -> Covariogram:
    """Covariogram of scores over 20 bins with equally many pairs, up to a third of the extent.

    Columns are centred and scaled to mean square one (the zero value) and their products averaged, so that several
    effects share one range. Rows at one place (and period) are averaged first. If already the first bin is below 5%,
    the largest distance shrinks to that bin's edge, as long as bins keep 3,600 pairs: equal counts make the first
    bin reach 22% of the largest distance. Beyond half a million pairs they come from fixed subsamples of places.

    Parameters
    ----------
    scores : np.ndarray
        (n, k) or (n,) float64 influence values or residuals.
    lonlat : np.ndarray
        (n, 2) float64 degrees, WGS84.
    time : np.ndarray, optional
        (n,) int64 periods; only pairs of one period are used.

    Returns
    -------
    Covariogram
        See its attributes.

    Raises
    ------
    DataError
        Fewer than 20 pairs of different places, or scores without variation.
    """
    values = np.asarray(scores, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    totals, places, period, sizes = merged(values, lonlat, time)
    z = totals / sizes[:, None]
    z = z - z.mean(axis=0)
    spread = np.sqrt((z**2).mean(axis=0))
    if not (spread > 0.0).any():
        raise DataError("the scores do not vary over places, so their covariogram has no range; give cutoff_km.")
    z = z[:, spread > 0.0] / spread[spread > 0.0]
    vectors = unit_vectors(places)
    reach = extent_km(places) / 3.0
    rng = np.random.default_rng(0)
    found: Covariogram | None = None
    while True:
        i, j, distance = _near_pairs(vectors, period, reach, rng)
        if found is not None and i.size < BINS * _PAIRS_PER_BIN:
            return found
        if i.size < BINS:
            raise DataError(
                f"{i.size} pairs of places are within {reach:g} km of each other, too few for a covariogram of {BINS} "
                "bins; give cutoff_km."
            )
        found, edge = _binned(z, i, j, distance)
        if found.covariance[0] >= _SHARE or edge >= reach:
            return found
        reach = edge


def covariogram_range(scores: np.ndarray, lonlat: np.ndarray, *, time: np.ndarray | None = None) -> float:
    """Distance in whole kilometres at which the covariogram of the scores first falls below 5% of its zero value.

    See :func:`covariogram`. Scores that stay correlated up to a third of the extent give that distance, with a
    warning: no cutoff inside the data then covers the dependence.
    """
    found = covariogram(scores, lonlat, time=time)
    if not found.reached:
        warn(
            f"the scores are still correlated at {found.range_km:g} km, a third of the extent of the places: no "
            "distance cutoff covers their dependence. Cluster by region, or model the trend over space.",
            SpatialCutoffWarning,
        )
    return found.range_km


def extent_km(lonlat: np.ndarray) -> float:
    """Largest great-circle distance between places, from the outermost ones in 26 directions."""
    vectors = unit_vectors(lonlat)
    along = vectors @ _DIRECTIONS.T.astype(np.float64)
    outer = vectors[np.unique(np.concatenate([along.argmin(axis=0), along.argmax(axis=0)]))]
    gaps = outer[:, None, :] - outer[None, :, :]
    return float(distance_of(np.sqrt((gaps**2).sum(axis=2)).max()))


def neighbour_distances(lonlat: np.ndarray) -> np.ndarray:
    """Great-circle distance in kilometres from each distinct place to its nearest other place."""
    from scipy.spatial import cKDTree

    vectors = np.unique(unit_vectors(lonlat), axis=0)
    if vectors.shape[0] < 2:
        raise DataError("all rows are at one place, so there are no distances between places.")
    return distance_of(cKDTree(vectors).query(vectors, k=2)[0][:, 1])


def _near_pairs(
    vectors: np.ndarray, period: np.ndarray, reach: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs i < j of one period within ``reach`` km: all of them, or those of a subsample of points."""
    from scipy.spatial import cKDTree

    chord = float(chord_of(reach))
    # Periods as a fourth axis, farther apart than any chord, keep pairs inside a period.
    codes = np.unique(period, return_inverse=True)[1].reshape(-1)
    located = np.concatenate([vectors, 4.0 * codes[:, None]], axis=1)
    n = located.shape[0]
    probes = rng.permutation(n)[:_PROBES]
    found = cKDTree(located).query_ball_point(located[probes], chord, return_length=True).sum() / probes.size
    # With a share q of the points on both sides, q^2 n found / 2 pairs are expected.
    share = min(1.0, math.sqrt(2.0 * _MAX_PAIRS / (n * found)))
    anchors = np.sort(rng.permutation(n)[: math.ceil(share * n)])
    close = cKDTree(located[anchors]).query_pairs(chord, output_type="ndarray")
    i, j = anchors[close[:, 0]], anchors[close[:, 1]]
    return i, j, distance_of(np.sqrt(((vectors[i] - vectors[j]) ** 2).sum(axis=1)))


def _binned(z: np.ndarray, i: np.ndarray, j: np.ndarray, distance: np.ndarray) -> tuple[Covariogram, float]:
    """Covariogram over equal-count bins, and the far edge of the first bin."""
    order = np.argsort(distance, kind="stable")
    product = np.einsum("pk,pk->p", z[i[order]], z[j[order]]) / z.shape[1]
    edges = np.linspace(0, order.size, BINS + 1).astype(np.int64)
    counts = np.diff(edges)
    covariance = np.add.reduceat(product, edges[:-1]) / counts
    mean_distance = np.add.reduceat(distance[order], edges[:-1]) / counts
    below = np.flatnonzero(covariance < _SHARE)
    chosen = mean_distance[below[0]] if below.size else mean_distance[-1]
    result = Covariogram(mean_distance, covariance, counts, float(max(math.ceil(chosen), 1)), bool(below.size))
    return result, float(distance[order[counts[0] - 1]])
