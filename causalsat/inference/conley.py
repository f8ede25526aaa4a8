"""Covariances of scores that are correlated over space, and over time within units (Conley 1999)."""

from dataclasses import dataclass

import numpy as np

from causalsat.errors import MovingUnitWarning, OptionError, SpatialCutoffWarning, warn
from causalsat.inference.covariance import Meat, required
from causalsat.inference.meat import outer_sum
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.inference.tiles import Tiles, build_tiles, chord_of, merged, near_pairs

_LANES = {"cpu": 16}
_MANY_LANES = 256
# Half a metre at the equator: coordinates that differ by less are the same place written twice.
_MOVED_DEGREES = 5e-6


@dataclass(frozen=True)
class SpatialSums:
    """Spatial sums for m cutoffs.

    Attributes
    ----------
    matrix : np.ndarray
        (m, k, k) float64, sum_ij K(d_ij / h) s_i s_j' over pairs of the same period.
    pairs : np.ndarray
        (m,) int64 unordered pairs of different rows within the cutoff.
    mean_neighbours : np.ndarray
        (m,) float64 other rows within the cutoff of a row, on average.
    """

    matrix: np.ndarray
    pairs: np.ndarray
    mean_neighbours: np.ndarray


def spatial_sums(
    scores: np.ndarray,
    lonlat: np.ndarray,
    cutoffs_km: np.ndarray,
    *,
    kernel: str = "bartlett",
    time: np.ndarray | None = None,
) -> SpatialSums:
    """Sums of K(d_ij / h) s_i s_j' over all pairs of rows, for several cutoffs h in one walk.

    Great-circle distance (haversine, radius 6371.01 km); d <= h inclusive; a row with itself counts once with weight
    one. With ``time`` only pairs of the same period count. Kernels: "bartlett" 1 - d/h, "uniform" 1, "epanechnikov"
    1 - (d/h)^2, "askey" (1 - c/c_h)^2 on chords c. Only "askey" is a positive definite function on the sphere (Askey
    1973: (1 - r)^2 is one in three dimensions, where the chords live), so only it never gives a negative variance.

    Parameters
    ----------
    scores : np.ndarray
        (n, k) float64.
    lonlat : np.ndarray
        (n, 2) float64 degrees, WGS84.
    cutoffs_km : np.ndarray
        (m,) float64, each positive.
    kernel : str
        Spatial kernel.
    time : np.ndarray, optional
        (n,) int64 periods.

    Returns
    -------
    SpatialSums
        Bit-equal from run to run on one kind of device; memory beyond the data does not grow with the pairs.

    Examples
    --------
    >>> out = spatial_sums(np.ones((2, 1)), np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([222.4]))
    >>> out.matrix.round(2), out.pairs
    (array([[[3.]]]), array([1]))
    """
    cutoffs = np.asarray(cutoffs_km, dtype=np.float64).reshape(-1)
    if not (cutoffs > 0.0).all():
        raise OptionError(f"cutoff_km={cutoffs.min():g} must be positive; a covariance without neighbours is hc0.")
    tiles = build_tiles(*merged(np.asarray(scores, dtype=np.float64), lonlat, time))
    ascending = np.argsort(cutoffs, kind="stable")
    matrix, counted = _walk(tiles, cutoffs[ascending], kernel)
    place = np.argsort(ascending)
    matrix, counted, n = matrix[place], counted[place], lonlat.shape[0]
    return SpatialSums(
        0.5 * (matrix + matrix.transpose(0, 2, 1)), ((counted - n) / 2.0).astype(np.int64), (counted - n) / n
    )


def serial_sum(scores: np.ndarray, unit: np.ndarray, time: np.ndarray, lag: int) -> np.ndarray:
    """Serial Bartlett sum within units: (1 - |dt|/(lag + 1)) s_it s_is' over 0 < |dt| <= lag (Newey & West 1987).

    Parameters
    ----------
    scores : np.ndarray
        (n, k) float64.
    unit, time : np.ndarray
        (n,) int64 units and periods; a gap in the periods of a unit stays a gap.
    lag : int
        Largest distance in periods.

    Returns
    -------
    np.ndarray
        (k, k) float64, symmetric; zero for lag 0.
    """
    order = np.lexsort((time, unit))
    codes = np.unique(unit[order], return_inverse=True)[1].reshape(-1).astype(np.int64)
    since = time[order] - time.min()
    # Room of `lag` periods between units keeps a step forward from reaching the next unit.
    key = codes * (np.int64(since.max()) + lag + 1) + since
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    cells, totals = key[starts], np.add.reduceat(scores[order], starts, axis=0)
    result = np.zeros((scores.shape[1], scores.shape[1]))
    for step in range(1, lag + 1):
        later = np.minimum(np.searchsorted(cells, cells + step), cells.size - 1)
        found = cells[later] == cells + step
        product = totals[found].T @ totals[later[found]]
        result += (1.0 - step / (lag + 1.0)) * (product + product.T)
    return result


def conley_meat(contributions: np.ndarray, sandwich: Sandwich, sampling: Sampling) -> Meat:
    """Spatial sum, plus the serial sum of a panel, of contributions (n, k) for one Sandwich."""
    checked_panel(sandwich.lag, sampling)
    lonlat = required("lonlat", sampling.lonlat, "conley")
    cutoff, chosen = sandwich.cutoff_km, "given"
    if cutoff is None:
        from causalsat.inference.spatial_range import covariogram_range

        cutoff, chosen = covariogram_range(contributions, lonlat, time=sampling.time), "covariogram range"
    sums = spatial_sums(contributions, lonlat, np.array([cutoff]), kernel=sandwich.kernel, time=sampling.time)
    return one_meat(contributions, sampling, sums, 0, cutoff, sandwich.kernel, sandwich.lag, chosen)


def one_meat(
    contributions: np.ndarray,
    sampling: Sampling,
    sums: SpatialSums,
    j: int,
    cutoff: float,
    kernel: str,
    lag: int,
    chosen: str,
) -> Meat:
    """The meat of cutoff ``j`` of ``sums``; without a single pair of neighbours it is hc0, with a warning."""
    notes = {
        "kernel": kernel,
        "lag": lag,
        "cutoff": chosen,
        "pairs": int(sums.pairs[j]),
        "mean_neighbours": float(sums.mean_neighbours[j]),
    }
    matrix, kind = sums.matrix[j], "conley"
    if notes["pairs"] == 0:
        warn(
            f"no two rows are within cutoff_km={cutoff:g} of each other, so the spatial covariance is hc0; choose a "
            "cutoff above the distance between neighbours.",
            SpatialCutoffWarning,
        )
        matrix, kind = outer_sum(contributions), "conley" if lag else "hc0"
    if lag and sampling.unit is not None and sampling.time is not None:
        matrix = matrix + serial_sum(contributions, sampling.unit, sampling.time, lag)
    return Meat(matrix, kind, cutoff_km=float(cutoff), notes=notes)


def checked_panel(lag: int, sampling: Sampling) -> None:
    """Refuse to pool the periods of a panel, and warn about units that move."""
    unit, time, lonlat = sampling.unit, sampling.time, sampling.lonlat
    if lag and (unit is None or time is None):
        raise OptionError(f"Sandwich.lag={lag} needs unit and time: the serial part joins the periods of a unit.")
    if unit is None:
        return
    first, inverse, counts = np.unique(unit, return_index=True, return_inverse=True, return_counts=True)[1:]
    if time is None and counts.max() > 1:
        raise OptionError(
            "rows repeat units and no time is given: pooling the periods of a panel as one cross-section is another "
            "covariance. Give time=, or leave unit= out if the rows are one cross-section."
        )
    if lonlat is None:
        return
    gap = np.abs(lonlat - lonlat[first[inverse.reshape(-1)]])
    # Longitudes that differ by a whole turn are one place.
    moved = (np.minimum(gap[:, 0], np.abs(360.0 - gap[:, 0])) > _MOVED_DEGREES) | (gap[:, 1] > _MOVED_DEGREES)
    if moved.any():
        movers = np.unique(unit[moved]).size
        warn(
            f"{movers} of {counts.size} units change their coordinates over time; distances use each period's own.",
            MovingUnitWarning,
        )


def _walk(tiles: Tiles, cutoffs: np.ndarray, kernel: str) -> tuple[np.ndarray, np.ndarray]:
    """Sums (m, k, k) and ordered pairs (m,) for ascending cutoffs."""
    import jax

    from causalsat.kernels.conley import SERIES_HALF_CHORD, tile_pair_sums
    from causalsat.kernels.precision import float64

    lanes = _LANES.get(jax.default_backend(), _MANY_LANES)
    chords, k = chord_of(cutoffs), tiles.scores.shape[2]
    # Buckets of powers of two: a handful of compilations serve every n.
    room = _bucket(tiles.points.shape[0])
    matrix, counted = np.zeros((cutoffs.size, k, k)), np.zeros(cutoffs.size)
    with float64():
        held = [jax.device_put(_padded(a, room)) for a in (tiles.points, tiles.scores, tiles.sizes)]
        for left, right, first in near_pairs(tiles, chords):
            times = np.where(left == right, 1.0, 2.0)
            steps = -(-left.size // lanes)
            listed = [_padded(a, _bucket(steps * lanes)) for a in (left, right, times, first)]
            part = tile_pair_sums(
                *held,
                *listed,
                np.int32(steps),
                cutoffs,
                chords,
                kernel=kernel,
                lanes=lanes,
                series=bool(0.5 * chords.max() < SERIES_HALF_CHORD),
            )
            matrix, counted = matrix + np.asarray(part[0]), counted + np.asarray(part[1])
    return matrix, counted


def _bucket(size: int) -> int:
    return 1 << max(size - 1, 15).bit_length()


def _padded(values: np.ndarray, rows: int) -> np.ndarray:
    room = np.zeros((rows, *values.shape[1:]), dtype=values.dtype)
    room[: values.shape[0]] = values
    return room
