"""Distance to a border as the score of a geographic discontinuity."""

import math
from typing import Any

import numpy as np

from causalsat.errors import DataError, number
from causalsat.study.boundary_lines import (
    MAX_EDGE_M,
    WGS84,
    Edges,
    Shape,
    edges_of,
    line_of,
    metres_per_unit,
    read_shape,
    treated_area,
    without,
)
from causalsat.study.boundary_places import on_one_side, read_places
from causalsat.study.boundary_result import SignedDistance
from causalsat.study.boundary_turns import all_around, full_turn

ON_LINE_M = 1e-4
BLOCK_PLACES = 2048

__all__ = ["SignedDistance", "signed_distance"]


def signed_distance(
    places: Any,
    boundary: Any,
    *,
    treated: Any = None,
    exclude: Any = None,
    segment_km: float | None = None,
) -> SignedDistance:
    """Measure how far places lie from a policy border, treated side positive.

    The nearest point is found in an azimuthal equidistant projection around each place, where all distances from the
    place are true; the length is that of the geodesic to it on WGS84. Edges of the border are straight in the CRS of
    its layer. Longitudes may run over 180° in any form: −180 to 180, 0 to 360, or polygons cut there, whose halves are
    joined.

    Parameters
    ----------
    places : GeoDataFrame, GeoSeries, data frame or ndarray (n, 2)
        Points, or polygons that are measured at a point inside; tables without geometry have columns ``longitude,
        latitude`` (or ``lon, lat``); arrays hold longitude and latitude in degrees.
    boundary : GeoDataFrame, GeoSeries, path or shapely geometry (degrees)
        A line; or polygons of the treated area, whose outer border counts. Gaps between neighbouring polygons are
        borders too: close them first.
    treated : like ``boundary``, optional
        Needed for a line: polygons of the treated area, or one point on the treated side. A point needs a line that
        divides the map in two; ends are continued straight.
    exclude : like ``boundary``, optional
        Polygons over stretches that are no policy border (coast, foreign frontier), or lines along them (1 m). The
        side of a place still follows from the whole border; a polygon that crosses excluded stretches only is measured
        in its treated part, which must be the larger.
    segment_km : float, optional
        Cut each connected line into equal stretches of about this length and say which is nearest.

    Returns
    -------
    SignedDistance

    Raises
    ------
    DataError
        A layer without CRS or geometry, a line without treated side, a polygon on both sides (more than 1 % of its
        area on each), a border cut out entirely.

    Notes
    -----
    Candidates come from chords in space between the place and the middle of border edges of at most 500 m. A great
    circle is no parallel: a place due north of the parallel 49°N is nearest to it along its meridian.

    Examples
    --------
    >>> import shapely
    >>> import causalsat as cs
    >>> border = shapely.LineString([(10, 40), (10, 50)])
    >>> east = cs.signed_distance([[11.0, 45.0], [9.0, 45.0]], border, treated=shapely.Point(12, 45))
    >>> east.metres.round(-2).tolist()
    [78800.0, -78800.0]
    """
    length = None if segment_km is None else number("segment_km", segment_km, 0.0, 1e5)
    layer = read_shape(boundary, "boundary")
    line, areal = line_of(layer), layer.geometry.geom_type in ("Polygon", "MultiPolygon")
    lonlat, polygons = read_places(places)
    if not areal and treated is None:
        raise DataError(
            "boundary is a line, which has no inside: pass treated=, polygons of the treated area or one point on the "
            "treated side."
        )
    if areal and treated is not None:
        raise DataError("boundary holds polygons, whose inside is treated: leave treated out, or pass a line.")
    reach = _in_crs(lonlat, layer)
    area = layer if areal else treated_area(line, layer.crs, read_shape(treated, "treated"), reach)
    cut = None if exclude is None else read_shape(exclude, "exclude")
    lonlat = on_one_side(lonlat, polygons, area, cut)
    edges = edges_of(without(line, cut, layer.crs), layer.crs)
    border = float(edges.length.sum())
    excluded = 0.0 if cut is None else max(_geodesic_length(line, layer.crs) - border, 0.0)
    metres, foot, edge, share = _nearest(lonlat, edges)
    metres = np.where(_inside(lonlat, area), metres, -metres)
    metres = np.where(np.abs(metres) < ON_LINE_M, 0.0, metres)
    segment = None if length is None else _segments(edges, edge, share, length * 1000.0)
    return SignedDistance(metres, segment, foot, border / 1000.0, excluded / 1000.0)


def _in_crs(lonlat: np.ndarray, shape: Shape) -> np.ndarray:
    from pyproj import Transformer

    convert = Transformer.from_crs(WGS84, shape.crs, always_xy=True)
    return np.column_stack(convert.transform(lonlat[:, 0], lonlat[:, 1]))


def _inside(lonlat: np.ndarray, area: Shape) -> np.ndarray:
    import shapely

    xy, ground, turn = _in_crs(lonlat, area), all_around(area.geometry, area.crs), full_turn(area.crs)
    if turn is not None:
        # A pole is a point of the ground but lies on the edge of the map.
        xy[:, 1] = np.clip(xy[:, 1], -0.25 * turn + 1e-9, 0.25 * turn - 1e-9)
    shapely.prepare(ground)
    return np.asarray(shapely.contains_xy(ground, np.nan_to_num(xy, nan=np.inf, posinf=np.inf)))


def _nearest(lonlat: np.ndarray, edges: Edges) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Geodesic metres (n,), nearest points (n, 2), edges (n,) and positions on them (n,) in [0, 1]."""
    from scipy.spatial import cKDTree

    n = len(lonlat)
    metres, foot = np.full(n, np.nan), np.full((n, 2), np.nan)
    edge, share = np.full(n, -1, np.int64), np.full(n, np.nan)
    middle = (_in_space(edges.start_lonlat) + _in_space(edges.end_lonlat)) / 2.0
    tree = cKDTree(middle)
    good = np.flatnonzero(np.isfinite(lonlat).all(axis=1))
    for first in range(0, len(good), BLOCK_PLACES):
        rows = good[first : first + BLOCK_PLACES]
        point = _in_space(lonlat[rows])
        chord = tree.query(point)[0]
        # Half an edge at either end; an arc of chord c is longer by c³ / 24 r², r between 6335 and 6400 km.
        slack = float(edges.length.max()) * 1.01 + 0.03 * chord**3 / (24.0 * 6.3e6**2)
        found = tree.query_ball_point(point, chord + slack)
        owner = np.repeat(np.arange(len(rows)), [len(f) for f in found])
        candidate = np.concatenate([np.asarray(f, dtype=np.int64) for f in found])
        distance, t = _to_edges(lonlat[rows][owner], edges, candidate)
        order = np.lexsort((candidate, distance, owner))
        best = order[np.r_[True, np.diff(owner[order]) != 0]]
        edge[rows], share[rows] = candidate[best], t[best]
    foot[good], metres[good] = _lengths(lonlat[good], edges, edge[good], share[good])
    return metres, foot, edge, share


def _in_space(lonlat: np.ndarray) -> np.ndarray:
    """Points of the ellipsoid WGS84 in space, metres (n, 3)."""
    from pyproj import Transformer

    convert = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    return np.column_stack(convert.transform(lonlat[:, 0], lonlat[:, 1], np.zeros(len(lonlat))))


def _to_edges(origin: np.ndarray, edges: Edges, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance from each place to a candidate edge, and where, in the equidistant projection around the place."""
    a, b = _around(origin, edges.start_lonlat[candidate]), _around(origin, edges.end_lonlat[candidate])
    run = b - a
    t = np.clip(-np.sum(a * run, axis=1) / np.maximum(np.sum(run * run, axis=1), np.finfo(float).tiny), 0.0, 1.0)
    return np.hypot(*(a + t[:, None] * run).T), t


def _around(origin: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Azimuthal equidistant coordinates, metres: distance times direction of the geodesic from the origin."""
    from pyproj import Geod

    azimuth, _, metres = Geod(ellps="WGS84").inv(origin[:, 0], origin[:, 1], target[:, 0], target[:, 1])
    angle = np.radians(azimuth)
    return np.column_stack([metres * np.sin(angle), metres * np.cos(angle)])


def _lengths(lonlat: np.ndarray, edges: Edges, edge: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points on the edges in their own CRS, in degrees, and geodesic metres to them."""
    from pyproj import Geod, Transformer

    at = edges.start[edge] + share[:, None] * (edges.end[edge] - edges.start[edge])
    convert = Transformer.from_crs(edges.crs, WGS84, always_xy=True)
    foot = np.column_stack(convert.transform(at[:, 0], at[:, 1]))
    metres = Geod(ellps="WGS84").inv(lonlat[:, 0], lonlat[:, 1], foot[:, 0], foot[:, 1])[2]
    foot[:, 0] -= np.where(np.abs(foot[:, 0]) > 180.0, 360.0 * np.round(foot[:, 0] / 360.0), 0.0)
    return foot, np.asarray(metres)


def _geodesic_length(line: Any, crs: Any) -> float:
    """Metres along a line; NaN where its CRS does not reach."""
    import shapely
    from pyproj import Geod, Transformer

    convert, total = Transformer.from_crs(crs, WGS84, always_xy=True), 0.0
    for part in shapely.get_parts(shapely.segmentize(line, MAX_EDGE_M / metres_per_unit(crs))):
        xy = shapely.get_coordinates(part)
        lon, lat = convert.transform(xy[:, 0], xy[:, 1])
        known = np.isfinite(lon).all() and np.isfinite(lat).all()
        total += Geod(ellps="WGS84").line_length(lon, lat) if known else math.nan
    return float(total)


def _segments(edges: Edges, edge: np.ndarray, share: np.ndarray, length: float) -> np.ndarray:
    """Stretch of the nearest point: each connected line in equal pieces as near to ``length`` as they come."""
    total = np.zeros(int(edges.part.max()) + 1)
    np.add.at(total, edges.part, edges.length)
    pieces = np.maximum(1, np.round(total / length)).astype(np.int64)
    before = np.cumsum(pieces) - pieces
    known = edge >= 0
    out = np.full(len(edge), -1, np.int64)
    part = edges.part[edge[known]]
    position = edges.along[edge[known]] + share[known] * edges.length[edge[known]]
    piece = np.floor(position / total[part] * pieces[part]).astype(np.int64)
    out[known] = before[part] + np.minimum(piece, pieces[part] - 1)
    return out
