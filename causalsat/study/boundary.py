"""Distance to a border as the score of a geographic discontinuity."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, nearest, number
from causalsat.facts import as_html, as_text, counted
from causalsat.public import public
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

# A polygon with more than this share of its area on either side belongs to neither.
STRADDLE_SHARE = 0.01
ON_LINE_M = 1e-4
BLOCK_PLACES = 2048
COORDINATES = (("longitude", "latitude"), ("lon", "lat"))


@public
@dataclass(frozen=True, eq=False, repr=False)
class SignedDistance:
    """Distance of each place to a border; an array of metres wherever an array is asked for.

    ``places["distance_m"] = result`` and ``np.asarray(result)`` give ``metres``. Printed, it tells how many places lie
    on each side and how far, and how long the border is.

    Attributes
    ----------
    metres : ndarray (n,) float64
        Geodesic, positive on the treated side, 0 on the line, NaN for places without geometry.
    segment : ndarray (n,) int64 or None
        Stretch of the border that holds the nearest point, from 0; −1 for places without geometry; None unless
        ``segment_km`` was given.
    nearest : ndarray (n, 2) float64
        Nearest point of the border, degrees WGS84.
    border_km : float
        Geodesic length of the border that was measured to; NaN unknown.
    excluded_km : float
        Length that ``exclude`` cut out of it; NaN unknown.
    """

    metres: np.ndarray
    segment: np.ndarray | None
    nearest: np.ndarray
    border_km: float = math.nan
    excluded_km: float = 0.0

    def __len__(self) -> int:
        return len(self.metres)

    def __repr__(self) -> str:
        return as_text(*_told(self))

    def _repr_html_(self) -> str:
        return as_html(*_told(self))

    def __iter__(self) -> Iterator[float]:
        return iter(self.metres.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        metres = self.metres if dtype is None else self.metres.astype(dtype)
        return metres.copy() if copy or metres is self.metres else metres


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
    its layer.

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
        side of a place still follows from the whole border.
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
    lonlat, polygons = _places(places)
    if not areal and treated is None:
        raise DataError(
            "boundary is a line, which has no inside: pass treated=, polygons of the treated area or one point on the "
            "treated side."
        )
    if areal and treated is not None:
        raise DataError("boundary holds polygons, whose inside is treated: leave treated out, or pass a line.")
    reach = _in_crs(lonlat, layer)
    area = layer if areal else treated_area(line, layer.crs, read_shape(treated, "treated"), reach)
    _refuse_straddling(polygons, area)
    cut = None if exclude is None else read_shape(exclude, "exclude")
    edges = edges_of(without(line, cut, layer.crs), layer.crs)
    border = float(edges.length.sum())
    excluded = 0.0 if cut is None else max(_geodesic_length(line, layer.crs) - border, 0.0)
    metres, foot, edge, share = _nearest(lonlat, edges)
    metres = np.where(_inside(lonlat, area), metres, -metres)
    metres = np.where(np.abs(metres) < ON_LINE_M, 0.0, metres)
    segment = None if length is None else _segments(edges, edge, share, length * 1000.0)
    return SignedDistance(metres, segment, foot, border / 1000.0, excluded / 1000.0)


def _told(found: SignedDistance) -> tuple[str, list[tuple[str, str]]]:
    """Headline and facts of a printed distance."""
    metres = found.metres
    facts = [
        ("treated side", _reach(metres[metres > 0.0])),
        ("other side", _reach(-metres[metres < 0.0])),
        ("on the border", counted(int((metres == 0.0).sum()), "place")),
    ]
    lost = int(np.isnan(metres).sum())
    if lost:
        facts.append(("no geometry", f"{counted(lost, 'place')}, distance NaN"))
    if not math.isnan(found.border_km):
        cut = f"; {found.excluded_km:.1f} km more excluded" if found.excluded_km >= 0.05 else ""
        cut = "; a part of unknown length excluded" if math.isnan(found.excluded_km) else cut
        facts.append(("border", f"{found.border_km:.1f} km{cut}"))
    if found.segment is not None:
        held = np.unique(found.segment[found.segment >= 0], return_counts=True)[1]
        each = f", each to {held.min()} to {held.max()} places" if held.size else ""
        facts.append(("segments", f"{held.size} are nearest to some place{each}"))
    return f"SignedDistance: {counted(len(found), 'place')}, metres to the border, positive on the treated side", facts


def _reach(away: np.ndarray) -> str:
    many = counted(away.size, "place")
    if not away.size:
        return many
    low, high = f"{away.min():.1f}", f"{away.max():.1f}"
    return f"{many}, {low} m away" if low == high else f"{many}, {low} to {high} m away"


def _places(places: Any) -> tuple[np.ndarray, Any]:
    """Degrees (n, 2), NaN where there is no geometry, and the layer when it may hold polygons."""
    if hasattr(places, "geom_type") and hasattr(places, "crs"):
        if places.crs is None:
            raise DataError(f'places has no CRS; set it, for example places.set_crs("{WGS84}").')
        shapes = places.geometry
        usable = (~(shapes.isna() | shapes.is_empty)).to_numpy()
        lonlat = np.full((len(shapes), 2), np.nan)
        some = shapes[usable]
        points = some.where(some.geom_type == "Point", some.representative_point()).to_crs(WGS84)
        lonlat[usable] = np.column_stack([points.x.to_numpy(), points.y.to_numpy()])
        return _checked(lonlat), shapes
    if hasattr(places, "columns"):
        columns = [str(c) for c in places.columns]
        pair = next((p for p in COORDINATES if set(p) <= set(columns)), None)
        if pair is None:
            raise DataError(
                f"places has no columns longitude, latitude (or lon, lat); it has: {', '.join(columns)}."
                f"{nearest('longitude', columns)} Rename them, or pass a GeoDataFrame."
            )
        return _checked(np.column_stack([_degrees(places[name], f"places[{name!r}]") for name in pair])), None
    lonlat = _degrees(places, "places")
    if lonlat.ndim != 2 or lonlat.shape[1] != 2:
        raise DataError(f"places has shape {lonlat.shape}; pass (n, 2) longitudes and latitudes, or a table.")
    return _checked(lonlat), None


def _degrees(values: Any, argument: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{argument} cannot be read as degrees ({error}); convert it to numbers.") from error


def _checked(lonlat: np.ndarray) -> np.ndarray:
    good = np.isfinite(lonlat).all(axis=1)
    beyond = np.flatnonzero(good & ((np.abs(lonlat[:, 1]) > 90.0) | (np.abs(lonlat[:, 0]) > 360.0)))
    if beyond.size:
        raise DataError(
            f"places holds {lonlat[beyond[0]].tolist()} in row {beyond[0]}: not degrees of longitude, then latitude. "
            "Swap the two, or pass a GeoDataFrame with its CRS."
        )
    turned = np.column_stack([(lonlat[:, 0] + 180.0) % 360.0 - 180.0, lonlat[:, 1]])
    inside = np.abs(lonlat[:, :1]) <= 180.0
    return np.where(good[:, None], np.where(inside, lonlat, turned), np.nan)


def _in_crs(lonlat: np.ndarray, shape: Shape) -> np.ndarray:
    from pyproj import Transformer

    convert = Transformer.from_crs(WGS84, shape.crs, always_xy=True)
    return np.column_stack(convert.transform(lonlat[:, 0], lonlat[:, 1]))


def _inside(lonlat: np.ndarray, area: Shape) -> np.ndarray:
    import shapely

    xy = _in_crs(lonlat, area)
    shapely.prepare(area.geometry)
    return np.asarray(shapely.contains_xy(area.geometry, np.nan_to_num(xy, nan=np.inf, posinf=np.inf)))


def _refuse_straddling(polygons: Any, area: Shape) -> None:
    import shapely

    if polygons is None:
        return
    shapes = np.asarray(polygons.to_crs(area.crs).array, dtype=object)
    rows = np.flatnonzero(np.isin(shapely.get_type_id(shapes), (3, 6)) & ~shapely.is_empty(shapes))
    if not rows.size:
        return
    border = shapely.boundary(area.geometry)
    shapely.prepare(border)
    rows = rows[shapely.intersects(border, shapes[rows])]
    sound = shapely.make_valid(shapes[rows])
    share = shapely.area(shapely.intersection(sound, area.geometry)) / shapely.area(sound)
    both = (share > STRADDLE_SHARE) & (share < 1.0 - STRADDLE_SHARE)
    if both.any():
        first = int(np.argmax(both))
        raise DataError(
            f"{int(both.sum())} places lie on both sides of the border; the first is {polygons.index[rows[first]]!r} "
            f"with {share[first]:.0%} of its area treated. Its outcome mixes both sides: split it along the border, "
            "or drop it."
        )


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
