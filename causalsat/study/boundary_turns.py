"""Longitudes on a circle: layers in one window of a turn, copies a turn away, borders without the map's own seam."""

from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError

if TYPE_CHECKING:
    from pyproj import CRS


def full_turn(crs: "CRS") -> float | None:
    """A whole turn of longitude in units of the CRS; None where coordinates are no longitudes."""
    return float(2.0 * np.pi / crs.axis_info[0].unit_conversion_factor) if crs.is_geographic else None


def shifted(geometry: Any, by: float) -> Any:
    """A geometry, or an array of them, moved east."""
    import shapely

    return shapely.transform(geometry, lambda xy: xy + np.array([[by, 0.0]])) if by else geometry


def one_window(shapes: np.ndarray, turn: float) -> np.ndarray:
    """Parts of a layer moved by whole turns next to each other, whatever meridian the layer was cut at.

    The cut goes to the middle of the widest gap of longitudes without any part; most parts stay where they are. A layer
    all around the globe is left as it is.
    """
    import shapely

    parts = shapely.get_parts(shapes)
    bounds = shapely.bounds(parts)
    west, width = bounds[:, 0], bounds[:, 2] - bounds[:, 0]
    start = np.mod(west, turn)
    order = np.argsort(start)
    reach = np.maximum.accumulate((start + width)[order])
    gap = np.append(start[order][1:], start[order[0]] + turn) - reach
    widest = int(np.argmax(gap))
    if gap[widest] <= 0.0:
        return shapes
    cut = reach[widest] + 0.5 * gap[widest]
    turns = np.ceil((cut - west) / turn).astype(np.int64)
    kinds, many = np.unique(turns, return_counts=True)
    turns -= kinds[np.argmax(many)]
    if not turns.any():
        return shapes
    out = parts.copy()
    for k in np.unique(turns[turns != 0]):
        out[turns == k] = shifted(parts[turns == k], float(k) * turn)
    return out


def all_around(geometry: Any, crs: "CRS", reach: tuple[float, float] | None = None) -> Any:
    """The geometry with its copies a turn east and west, if longitudes in ``reach`` (±half a turn) may meet them."""
    import shapely

    turn = full_turn(crs)
    if turn is None or geometry.is_empty:
        return geometry
    half = 0.5 * turn * (1.0 + 1e-12)
    west, _, east, _ = geometry.bounds
    low, high = reach or (-half, half)
    if west > -0.5 * turn and east < 0.5 * turn and low >= -half and high <= half:
        return geometry
    return shapely.union_all([geometry, shifted(geometry, turn), shifted(geometry, -turn)])


def border_of(area: Any, crs: "CRS") -> Any:
    """Outer border of polygons, less what is only an edge of the map: the poles, and the seam of a full turn."""
    import shapely

    border, turn = area.boundary, full_turn(crs)
    if turn is None:
        return border
    west, south, east, north = area.bounds
    pole = 0.25 * turn
    map_edges = [shapely.LineString([(west, y), (east, y)]) for y in (south, north) if abs(y) >= pole * (1.0 - 1e-12)]
    if abs(east - west - turn) <= 1e-9 * turn:
        seam = shapely.union_all([shapely.LineString([(x, south), (x, north)]) for x in (west, east)])
        outer = all_around(area, crs, (-turn, turn)).boundary
        map_edges.append(shapely.difference(shapely.intersection(border, seam), outer))
    if not map_edges:
        return border
    left = shapely.difference(border, shapely.union_all(map_edges))
    return shapely.line_merge(left) if left.geom_type == "MultiLineString" else left


def unrolled(geometry: Any, turn: float) -> Any:
    """Rings and lines followed point by point across the seam of longitudes; raises DataError around a pole."""
    import shapely

    if not len(shapely.get_coordinates(geometry)) or np.ptp(shapely.get_coordinates(geometry)[:, 0]) <= 0.5 * turn:
        return geometry
    parts = []
    for part in shapely.get_parts(geometry):
        if part.geom_type == "Polygon":
            shell, *holes = (_followed(ring, turn) for ring in (part.exterior, *part.interiors))
            middle = 0.5 * (shell[:, 0].min() + shell[:, 0].max())
            for hole in holes:
                away = 0.5 * (hole[:, 0].min() + hole[:, 0].max()) - middle
                hole[:, 0] -= turn * np.round(away / turn)
            parts.append(shapely.Polygon(shell, holes))
        elif part.geom_type == "Point":
            parts.append(part)
        else:
            parts.append(shapely.LineString(_followed(part, turn)))
    return shapely.union_all(one_window(np.array(parts, dtype=object), turn))


def _followed(line: Any, turn: float) -> np.ndarray:
    import shapely

    xy = np.asarray(shapely.get_coordinates(line))
    xy[:, 0] = np.unwrap(xy[:, 0], period=turn)
    if line.is_closed and abs(xy[-1, 0] - xy[0, 0]) > 0.5 * turn:
        raise DataError(
            "A polygon holds a pole, where it has no edges in degrees; use the CRS of that polygon for all layers, or "
            "cut it along a meridian to the pole."
        )
    return xy
