"""Which rasters touch which windows: all pairs at once, in arrays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from causalsat.raster.grid import first_pixel, metres_at, metres_per_unit, project
from causalsat.raster.sources import Sources

FEW_SOURCES = 4


@dataclass(frozen=True)
class Geometry:
    """Header geometry of all rasters as arrays with one row per raster (s rows)."""

    crs: np.ndarray
    inverse: np.ndarray
    bounds: np.ndarray
    width: np.ndarray
    height: np.ndarray
    aligned: np.ndarray
    north_up: np.ndarray
    area: np.ndarray
    first_day: np.ndarray
    last_day: np.ndarray

    @classmethod
    def of(cls, sources: Sources) -> "Geometry":
        """Collect the arrays from the headers."""
        items = sources.items
        position = {name: i for i, name in enumerate(sources.crs)}
        transforms = np.array([i.transform for i in items], float)
        a, b, c, d, e, f = transforms.T
        area = a * e - b * d
        inverse = np.stack([e, -b, b * f - e * c, -d, a, d * c - a * f], axis=1) / area[:, None]
        return cls(
            np.array([position[i.crs] for i in items]),
            inverse,
            np.array([i.bounds for i in items]),
            np.array([i.width for i in items]),
            np.array([i.height for i in items]),
            np.array([i.axis_aligned for i in items]),
            np.array([i.north_up for i in items]),
            np.abs(area),
            np.array([i.first_day for i in items], "datetime64[D]"),
            np.array([i.last_day for i in items], "datetime64[D]"),
        )


@dataclass(frozen=True)
class Pairs:
    """Place and raster that may meet (m pairs).

    Attributes
    ----------
    place, source : ndarray (m,) int64
    x, y : ndarray (m,) float64
        The place in the raster's CRS; longitude is shifted by whole turns to the raster's side.
    metres_x, metres_y : ndarray (m,) float64
        Metres on the ground in one unit of that CRS.
    """

    place: np.ndarray
    source: np.ndarray
    x: np.ndarray
    y: np.ndarray
    metres_x: np.ndarray
    metres_y: np.ndarray

    def __len__(self) -> int:
        return len(self.place)

    def take(self, which: np.ndarray) -> "Pairs":
        """The pairs chosen by a mask or by positions, in that order."""
        return Pairs(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    @cached_property
    def n_places(self) -> int:
        """Distinct places."""
        return len(np.unique(self.place))


def candidate_pairs(sources: Sources, geometry: Geometry, rows: np.ndarray, ids: np.ndarray, lon: np.ndarray,
                    lat: np.ndarray, half_m: float) -> Pairs:  # fmt: skip
    """Pairs whose boxes meet, one CRS at a time; keyed rasters meet their own place only.

    Parameters
    ----------
    rows : ndarray (j,) int64
        Usable places.
    ids, lon, lat : ndarray (J,)
        All places.
    half_m : float
        Half the side of the window, metres.
    """
    found = [_in_crs(sources, geometry, k, rows, ids, lon, lat, half_m) for k in range(len(sources.crs))]
    return Pairs(*(np.concatenate([getattr(p, name) for p in found]) for name in Pairs.__dataclass_fields__))


def _in_crs(sources: Sources, geometry: Geometry, k: int, rows: np.ndarray, ids: np.ndarray, lon: np.ndarray,
            lat: np.ndarray, half_m: float) -> Pairs:  # fmt: skip
    from pyproj import CRS

    here = np.flatnonzero(geometry.crs == k)
    crs = CRS.from_user_input(sources.crs[k])
    own = None
    if sources.keyed:
        own = np.array([sources.by_key.get(i, -1) for i in ids[rows].tolist()], np.int64).reshape(-1)
        keep = (own >= 0) & (geometry.crs[own] == k)
        rows, own = rows[keep], own[keep]
    x, y = project(crs, lon[rows], lat[rows])
    fine = np.isfinite(x) & np.isfinite(y)
    rows, x, y = rows[fine], x[fine], y[fine]
    metres_x, metres_y = metres_at(crs, lon[rows], lat[rows])
    half_x, half_y = half_m / metres_x, half_m / metres_y
    if own is not None:
        first, source = np.arange(len(rows)), own[fine]
        turns = np.zeros(len(rows))
        if crs.is_geographic:
            turns = 360.0 * np.round((geometry.bounds[source][:, [0, 2]].mean(axis=1) - x) / 360.0)
    else:
        first, source, turns = _meeting(geometry, here, x, y, half_x, half_y, wraps=crs.is_geographic)
    return Pairs(rows[first], source, x[first] + turns, y[first], metres_x[first], metres_y[first])


def _meeting(geometry: Geometry, here: np.ndarray, x: np.ndarray, y: np.ndarray, half_x: np.ndarray,
             half_y: np.ndarray, *, wraps: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Positions of places and rasters whose boxes meet, and the whole turns (degrees) added to x."""
    boxes = geometry.bounds[here]
    # A pixel of margin: the native window is snapped, so it may reach half a pixel beyond its nominal box.
    pad = np.sqrt(geometry.area[here].max()) if len(here) else 0.0
    parts = []
    for turn in (-360.0, 0.0, 360.0) if wraps else (0.0,):
        low_x, high_x = x + turn - 1.05 * half_x - pad, x + turn + 1.05 * half_x + pad
        low_y, high_y = y - 1.05 * half_y - pad, y + 1.05 * half_y + pad
        if len(here) <= FEW_SOURCES:
            meet = (
                (low_x[:, None] < boxes[None, :, 2]) & (high_x[:, None] > boxes[None, :, 0])
                & (low_y[:, None] < boxes[None, :, 3]) & (high_y[:, None] > boxes[None, :, 1])
            )  # fmt: skip
            place, source = np.nonzero(meet)
        else:
            place, source = _tree(boxes, low_x, low_y, high_x, high_y)
        parts.append((place, here[source], np.full(len(place), turn)))
    place, source, turns = (np.concatenate([part[i] for part in parts]) for i in range(3))
    # A window can meet a raster of more than a full turn twice: the side where the place itself lies comes first.
    middle = geometry.bounds[source][:, [0, 2]].mean(axis=1)
    order = np.lexsort((np.abs(x[place] + turns - middle), source, place))
    place, source, turns = place[order], source[order], turns[order]
    once = np.ones(len(place), bool)
    once[1:] = (place[1:] != place[:-1]) | (source[1:] != source[:-1])
    return place[once], source[once], turns[once]


def _tree(boxes: np.ndarray, low_x: np.ndarray, low_y: np.ndarray, high_x: np.ndarray,
          high_y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    import shapely

    tree = shapely.STRtree(shapely.box(*boxes.T))
    place, source = tree.query(shapely.box(low_x, low_y, high_x, high_y))
    return place, source


def positions(geometry: Geometry, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Fractional column and row of each pair's place, rows counted from the north for aligned rasters."""
    source = pairs.source
    ia, ib, ic, id_, ie, if_ = geometry.inverse[source].T
    column, row = ia * pairs.x + ib * pairs.y + ic, id_ * pairs.x + ie * pairs.y + if_
    left, top, step_x, step_y = geometry.north_up[source].T
    aligned = geometry.aligned[source]
    column = np.where(aligned, (pairs.x - left) / np.where(aligned, step_x, 1.0), column)
    return column, np.where(aligned, (top - pairs.y) / np.where(aligned, step_y, 1.0), row)


def coverage(geometry: Geometry, pairs: Pairs, native: np.ndarray, n: int, half_m: float) -> np.ndarray:
    """Share of each pair's window that lies on the raster, ``(m,)`` float64.

    Exact for windows on the raster's own grid; for windows that will be warped, of the upright box around them.
    """
    column, row = positions(geometry, pairs)
    ia, ib, _, id_, ie, _ = np.abs(geometry.inverse[pairs.source].T)
    half_x, half_y = half_m / pairs.metres_x, half_m / pairs.metres_y
    half_column, half_row = ia * half_x + ib * half_y, id_ * half_x + ie * half_y
    column0 = np.where(native, first_pixel(column, n), column - half_column)
    row0 = np.where(native, first_pixel(row, n), row - half_row)
    column1 = np.where(native, column0 + n, column + half_column)
    row1 = np.where(native, row0 + n, row + half_row)
    wide = np.minimum(column1, geometry.width[pairs.source]) - np.maximum(column0, 0.0)
    high = np.minimum(row1, geometry.height[pairs.source]) - np.maximum(row0, 0.0)
    share = np.maximum(wide, 0.0) * np.maximum(high, 0.0) / ((column1 - column0) * (row1 - row0))
    rounded: np.ndarray = np.round(share, 9)
    return rounded


def unit_of(name: str) -> float:
    """Metres in one unit of a CRS given by name; NaN for degrees."""
    from pyproj import CRS

    return metres_per_unit(CRS.from_user_input(name))
