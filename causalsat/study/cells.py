"""Cells of a study area: names, centres, outlines, and the one cell that holds a point."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError
from causalsat.study.frame import Frame, read_frame


@dataclass(frozen=True, eq=False)
class Cells:
    """J cells that do not overlap.

    Attributes
    ----------
    frame : Frame
        The table they came from.
    unit : ndarray (J,)
        Names, each once.
    outline : ndarray (J,) of shapely Polygon or MultiPolygon
        In ``crs``.
    centre : ndarray (J, 2) float64
        Longitude and latitude of the centroids, degrees WGS84.
    crs : object
        Coordinate system of the outlines (anything pyproj reads).
    """

    frame: Frame
    unit: np.ndarray
    outline: np.ndarray
    centre: np.ndarray
    crs: Any


def read_cells(cells: Any, unit: str, bounds: Sequence[str]) -> Cells:
    """Cells from a GeoDataFrame of polygons, or from a table whose ``bounds`` columns are degrees WGS84.

    Raises
    ------
    DataError
        Names that repeat or are missing, shapes that are not polygons, a box of no area.
    """
    import shapely

    frame = read_frame(cells)
    codes, labels = frame.column(unit, "unit").codes("unit")
    if (codes < 0).any() or len(labels) < frame.n:
        raise DataError(
            f"unit column {unit!r} must name each of the {frame.n} cells once; it has {len(labels)} names and "
            f"{int((codes < 0).sum())} missing. Pass the cells without their periods, one row each."
        )
    if frame.lonlat is not None:
        outline, crs = _polygons(cells), cells.crs
    else:
        outline, crs = _boxes(frame, bounds), "EPSG:4326"
    centre = shapely.get_coordinates(shapely.centroid(outline))
    return Cells(frame, labels[codes], outline, _to_degrees(centre, crs), crs)


def _polygons(cells: Any) -> np.ndarray:
    import shapely

    outline = np.asarray(cells.geometry.array, dtype=object)
    polygon = np.isin(shapely.get_type_id(outline), (3, 6)) & ~shapely.is_empty(outline)
    if not polygon.all():
        row = int(np.flatnonzero(~polygon)[0])
        raise DataError(
            f"cells has {int((~polygon).sum())} rows whose geometry is no polygon (first: row {row}); give each cell "
            "its outline, or columns with its bounds."
        )
    return outline


def _boxes(frame: Frame, bounds: Sequence[str]) -> np.ndarray:
    import shapely

    if isinstance(bounds, str) or len(bounds) != 4:
        raise OptionError(f"bounds={bounds!r} must be four columns: west, south, east, north.")
    west, south, east, north = (frame.column(name, "bounds").numbers("bounds") for name in bounds)
    bad = ~((west < east) & (south < north) & (np.abs(np.stack([south, north])) <= 90.0).all(axis=0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"bounds {tuple(bounds)} of row {row} are ({west[row]:g}, {south[row]:g}, {east[row]:g}, {north[row]:g}) "
            f"({int(bad.sum())} such rows); they must be degrees with west < east and south < north. Cells in metres: "
            "pass a GeoDataFrame with its coordinate system."
        )
    return np.asarray(shapely.box(west, south, east, north), dtype=object)


def _to_degrees(points: np.ndarray, crs: Any) -> np.ndarray:
    from pyproj import Transformer

    return np.column_stack(Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*points.T))


def holding_cell(cells: Cells, lonlat: np.ndarray) -> np.ndarray:
    """Cell that holds each point.

    Edges are half-open: a box holds its west and south edge and not its east and north one, so that a point on a
    shared edge or corner of a grid lies in exactly one cell. For polygons the same follows from counting the edges that
    a ray to the east crosses, each edge with its lower end and without its upper one.

    Parameters
    ----------
    cells : Cells
    lonlat : ndarray (m, 2) float64
        Degrees WGS84; NaN where unknown.

    Returns
    -------
    ndarray (m,) int64
        Position among the cells; -1 where no cell holds the point.
    """
    import shapely
    from pyproj import Transformer

    held = np.full(len(lonlat), -1, dtype=np.int64)
    known = np.flatnonzero(np.isfinite(lonlat).all(axis=1))
    if not len(known):
        return held
    xy = np.column_stack(Transformer.from_crs("EPSG:4326", cells.crs, always_xy=True).transform(*lonlat[known].T))
    points = shapely.points(xy)
    which, cell = shapely.STRtree(cells.outline).query(points, predicate="intersects")
    inside = shapely.contains_properly(cells.outline[cell], points[which])
    held[known[which[inside]]] = cell[inside]
    for i, j in zip(which[~inside].tolist(), cell[~inside].tolist()):
        if held[known[i]] < 0 and _crossings(cells.outline[j], xy[i]) % 2:
            held[known[i]] = j
    return held


def _crossings(outline: Any, point: np.ndarray) -> int:
    """Edges of an outline that a ray from ``point`` to the east crosses."""
    import shapely

    x, y = point
    total = 0
    for ring in shapely.get_rings(outline):
        ends = shapely.get_coordinates(ring)
        a, b = ends[:-1], ends[1:]
        # Two cells walk a shared edge in opposite directions; the same order of its ends gives both the same rounding.
        down = (a[:, 1] > b[:, 1])[:, None]
        low, high = np.where(down, b, a), np.where(down, a, b)
        spans = (low[:, 1] <= y) & (y < high[:, 1])
        low, high = low[spans], high[spans]
        at = low[:, 0] + (y - low[:, 1]) / (high[:, 1] - low[:, 1]) * (high[:, 0] - low[:, 0])
        total += int((x < at).sum())
    return total


def region_codes(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Codes of two label arrays in one numbering, and how many labels there are; "" has the code -1."""
    labels, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    codes = np.where(labels[codes] == "", -1, codes)
    return codes[: len(first)], codes[len(first) :], len(labels)


def texts_of_column(frame: Frame, name: str, role: str) -> np.ndarray:
    """A column as text (n,), "" where missing; whole numbers without a decimal point."""
    codes, labels = frame.column(name, role).codes(role)
    return np.append(np.asarray(labels).astype(str), "")[codes]


def checked_names(names: Sequence[str], taken: Mapping[str, Any]) -> None:
    """Refuse treatment names that stand twice or that another column has (raises DataError)."""
    for name in names:
        if name in taken or list(names).count(name) > 1:
            raise DataError(f"Two columns of the result would be called {name!r}; rename the labels of a group.")
