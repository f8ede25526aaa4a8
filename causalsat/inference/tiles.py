"""Points on the sphere in tiles of 128 neighbours, and the pairs of tiles that a cutoff can reach."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from causalsat.kernels.sphere import CHORD_ROUNDING, EARTH_RADIUS_KM, TILE

_BOX_ROWS = 64
_LONGEST_LIST = 1 << 19


@dataclass(frozen=True)
class Tiles:
    """Points of one or several periods in tiles; no tile holds two periods.

    Attributes
    ----------
    points : np.ndarray
        (t, 128, 3) float64 unit vectors; padding repeats the tile's first point.
    scores : np.ndarray
        (t, 128, k) float64, zero in the padding.
    sizes : np.ndarray
        (t, 128) float64 rows at each point, zero in the padding.
    period : np.ndarray
        (t,) int64 period of each tile.
    """

    points: np.ndarray
    scores: np.ndarray
    sizes: np.ndarray
    period: np.ndarray


def unit_vectors(lonlat: np.ndarray) -> np.ndarray:
    """Unit vectors of longitudes and latitudes in degrees: (n, 2) to (n, 3)."""
    lon, lat = np.radians(lonlat[:, 0]), np.radians(lonlat[:, 1])
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def chord_of(distance_km: float | np.ndarray) -> np.ndarray:
    """Chord 2 sin(d / 2R) between unit vectors for a great-circle distance; half the globe and beyond give 2."""
    angle = np.minimum(np.asarray(distance_km, dtype=np.float64) / (2.0 * EARTH_RADIUS_KM), 0.5 * np.pi)
    return 2.0 * np.sin(angle)


def distance_of(chord: np.ndarray) -> np.ndarray:
    """Great-circle distance in kilometres, 2 R asin(c / 2), of a chord between unit vectors."""
    return 2.0 * EARTH_RADIUS_KM * np.arcsin(np.minimum(0.5 * chord, 1.0))


def merged(scores: np.ndarray, lonlat: np.ndarray, time: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Rows at the same place and period as one point: sums of scores, places, periods, rows per point.

    Exact, because every kernel is one at distance zero; many rows that share an image cost as much as one.
    """
    # -180 and 180, or 0 and 360, are one meridian.
    east = np.mod(lonlat[:, 0], 360.0)
    periods = np.zeros(lonlat.shape[0], dtype=np.int64) if time is None else time
    order = np.lexsort((lonlat[:, 1], east, periods))
    lon, lat, when = lonlat[order, 0], lonlat[order, 1], periods[order]
    fresh = (np.diff(east[order]) != 0.0) | (lat[1:] != lat[:-1]) | (when[1:] != when[:-1])
    starts = np.flatnonzero(np.concatenate([[True], fresh]))
    sizes = np.diff(np.append(starts, lon.size)).astype(np.float64)
    totals = np.add.reduceat(scores[order], starts, axis=0)
    return totals, np.stack([lon[starts], lat[starts]], axis=1), when[starts], sizes


def build_tiles(scores: np.ndarray, lonlat: np.ndarray, period: np.ndarray, sizes: np.ndarray) -> Tiles:
    """Tiles of 128 neighbouring points, period by period (``period`` ascending)."""
    vectors = unit_vectors(lonlat)
    edges = np.flatnonzero(np.concatenate([[True], period[1:] != period[:-1], [True]]))
    slots = []
    for lo, hi in itertools.pairwise(edges):
        order = lo + neighbour_order(vectors[lo:hi])
        padded = np.full(-(-order.size // TILE) * TILE, -1, dtype=np.int64)
        padded[: order.size] = order
        slots.append(padded.reshape(-1, TILE))
    slot = np.concatenate(slots)
    real = slot >= 0
    shown = np.where(real, slot, slot[:, :1])
    return Tiles(
        vectors[shown],
        np.where(real[:, :, None], scores[shown], 0.0),
        np.where(real, sizes[shown], 0.0),
        period[slot[:, 0]],
    )


def neighbour_order(vectors: np.ndarray) -> np.ndarray:
    """Order of points (n, 3) in which each run of 128 is compact: halves along the widest axis, again and again.

    Full tiles and boxes close to cubes whatever the density; no seam at the poles or the date line.
    """
    order = np.arange(vectors.shape[0])
    pending = [(0, order.size)]
    while pending:
        lo, hi = pending.pop()
        if hi - lo <= TILE:
            continue
        part = order[lo:hi]
        held = vectors[part]
        axis = int(np.argmax(held.max(axis=0) - held.min(axis=0)))
        middle = (-(-(hi - lo) // TILE) // 2) * TILE
        order[lo:hi] = part[np.argpartition(held[:, axis], middle)]
        pending += [(lo, lo + middle), (lo + middle, hi)]
    return order


def near_pairs(tiles: Tiles, chords: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Unordered pairs of tiles of one period within reach of the largest of ``chords`` (m,), ascending.

    They come in lists of bounded length, so that a wide cutoff over many places does not fill the memory.

    Yields
    ------
    left, right, first : np.ndarray
        (p,) int32 tiles, and the position of the first chord that reaches the pair, in ascending order of it.
    """
    low, high = tiles.points.min(axis=1), tiles.points.max(axis=1)
    limits = (chords + CHORD_ROUNDING) ** 2
    waiting: list[np.ndarray] = []
    for lo in range(0, low.shape[0], _BOX_ROWS):
        rows = slice(lo, min(lo + _BOX_ROWS, low.shape[0]))
        squared = np.zeros((rows.stop - lo, low.shape[0] - lo))
        for axis in range(3):
            gap = np.maximum(
                low[rows, None, axis] - high[None, lo:, axis], low[None, lo:, axis] - high[rows, None, axis]
            )
            squared += np.maximum(gap, 0.0) ** 2
        i, j = np.nonzero((squared <= limits[-1]) & (tiles.period[rows, None] == tiles.period[None, lo:]))
        i, j = i[j >= i], j[j >= i]
        found = np.stack([i + lo, j + lo, np.searchsorted(limits, squared[i, j])]).astype(np.int32)
        waiting.append(found)
        if sum(part.shape[1] for part in waiting) > _LONGEST_LIST:
            yield _by_reach(waiting)
            waiting = []
    if waiting:
        yield _by_reach(waiting)


def _by_reach(waiting: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    listed = np.concatenate(waiting, axis=1)
    left, right, first = listed[:, np.argsort(listed[2], kind="stable")]
    return left, right, first
