"""Boundaries as short edges on the ellipsoid: which ground is treated, what is cut out, how segments are counted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError
from causalsat.study.boundary_turns import all_around, border_of, full_turn, one_window, unrolled

if TYPE_CHECKING:
    from pyproj import CRS

MAX_EDGE_M = 500.0
METRES_PER_DEGREE = 111_320.0
EXCLUDE_LINE_M = 1.0
WGS84 = "EPSG:4326"


@dataclass(frozen=True, eq=False)
class Shape:
    """Union of a layer and the CRS in which its edges are straight."""

    geometry: Any
    crs: "CRS"


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of at most 500 m; a point of edge e is ``start + t (end − start)`` in the boundary's own CRS.

    Attributes
    ----------
    start, end : ndarray (m, 2) float64
        In ``crs``.
    start_lonlat, end_lonlat : ndarray (m, 2) float64
        Degrees WGS84.
    part : ndarray (m,) int64
        Connected line of the edge.
    along : ndarray (m,) float64
        Length of its line before the edge, metres.
    length : ndarray (m,) float64
        Geodesic, metres.
    """

    crs: "CRS"
    start: np.ndarray
    end: np.ndarray
    start_lonlat: np.ndarray
    end_lonlat: np.ndarray
    part: np.ndarray
    along: np.ndarray
    length: np.ndarray


def read_shape(layer: Any, argument: str) -> Shape:
    """Union of a GeoDataFrame, GeoSeries, path or bare shapely geometry (degrees WGS84); raises DataError.

    Parts of a layer in degrees that meet at 180° are joined there.
    """
    import shapely
    from pyproj import CRS

    if isinstance(layer, shapely.Geometry):
        shapes, crs = np.array([layer], dtype=object), CRS.from_user_input(WGS84)
        if not layer.is_empty and not _degrees(layer):
            raise DataError(
                f"{argument} is a bare geometry with bounds {[round(v, 1) for v in layer.bounds]}: these are not "
                "degrees. Pass a GeoSeries with its CRS."
            )
    else:
        table = _table(layer, argument)
        if table.crs is None:
            raise DataError(
                f'{argument} has no CRS; say which one its coordinates are in, for example set_crs("{WGS84}").'
            )
        shapes, crs = np.asarray(table.geometry.array, dtype=object), CRS.from_user_input(table.crs)
    shapes = shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]
    if not len(shapes):
        raise DataError(f"{argument} has no geometry.")
    invalid = shapes[~shapely.is_valid(shapes)]
    if len(invalid):
        raise DataError(
            f"{argument} is not valid ({shapely.is_valid_reason(invalid[0])}); repair it first, for example with "
            "make_valid()."
        )
    turn = full_turn(crs)
    return Shape(shapely.union_all(shapes if turn is None else one_window(shapes, turn)), crs)


def _degrees(geometry: Any) -> bool:
    west, south, east, north = geometry.bounds
    return bool(west >= -360.0 and east <= 360.0 and south >= -90.0 and north <= 90.0)


def _table(layer: Any, argument: str) -> Any:
    from pathlib import Path

    if isinstance(layer, (str, Path)):
        import geopandas as gpd

        if not Path(layer).exists():
            raise DataError(f"{argument}={str(layer)!r} is not a file.")
        return gpd.read_parquet(layer) if str(layer).endswith("parquet") else gpd.read_file(layer)
    if hasattr(layer, "geom_type") and hasattr(layer, "crs"):
        return layer
    raise DataError(
        f"{argument} is a {type(layer).__name__}; pass a GeoDataFrame, a GeoSeries, a vector file, or a shapely "
        "geometry in degrees (WGS84)."
    )


def moved(shape: Shape, crs: "CRS") -> Any:
    """The geometry in another CRS, edges divided to 500 m first so that they keep their course."""
    import shapely
    from pyproj import Transformer

    if shape.crs.equals(crs, ignore_axis_order=True):
        return shape.geometry
    convert = Transformer.from_crs(shape.crs, crs, always_xy=True)
    dense = shapely.segmentize(shape.geometry, MAX_EDGE_M / metres_per_unit(shape.crs))
    out = shapely.transform(dense, lambda xy: np.column_stack(convert.transform(xy[:, 0], xy[:, 1])))
    if not np.isfinite(shapely.get_coordinates(out)).all():
        raise DataError(
            f"A geometry in {shape.crs.name} cannot be expressed in {crs.name}; use one CRS for all layers."
        )
    turn = None if shape.crs.is_geographic else full_turn(crs)
    return out if turn is None else unrolled(out, turn)


def metres_per_unit(crs: "CRS") -> float:
    """Metres of one coordinate unit, roughly for degrees."""
    if crs.is_geographic:
        return METRES_PER_DEGREE * float(np.degrees(crs.axis_info[0].unit_conversion_factor))
    return float(crs.axis_info[0].unit_conversion_factor)


def line_of(boundary: Shape) -> Any:
    """The boundary as lines: themselves, or the outer border of polygons; raises DataError for anything else."""
    import shapely

    kind = boundary.geometry.geom_type
    if kind in ("Polygon", "MultiPolygon"):
        return border_of(boundary.geometry, boundary.crs)
    if kind in ("LineString", "MultiLineString", "LinearRing"):
        return shapely.line_merge(shapely.union_all([boundary.geometry]))
    raise DataError(f"boundary is a {kind}; pass a line, or polygons of the treated area.")


def without(line: Any, exclude: Shape | None, crs: "CRS") -> Any:
    """The line less the stretches inside ``exclude`` (or within a metre of its lines); raises DataError if all goes."""
    import shapely

    if exclude is None:
        left = line
    else:
        west, _, east, _ = line.bounds
        left = shapely.difference(line, all_around(cut_of(exclude, crs), crs, (west, east)))
    if left.is_empty:
        raise DataError("exclude cuts out the whole boundary; nothing is left to measure distance from.")
    return shapely.line_merge(left) if left.geom_type == "MultiLineString" else left


def cut_of(exclude: Shape, crs: "CRS") -> Any:
    """Ground on which nothing is a border: polygons as given, lines with a metre on either side."""
    import shapely

    cut = moved(exclude, crs)
    if cut.geom_type in ("Polygon", "MultiPolygon"):
        return cut
    return shapely.buffer(cut, EXCLUDE_LINE_M / metres_per_unit(crs))


def edges_of(line: Any, crs: "CRS") -> Edges:
    """Cut a line into edges of at most 500 m, with geodesic lengths (WGS84)."""
    import shapely
    from pyproj import Geod, Transformer

    dense = shapely.segmentize(line, MAX_EDGE_M / metres_per_unit(crs))
    parts = shapely.get_parts(dense)
    xy, of_part = shapely.get_coordinates(parts, return_index=True)
    convert = Transformer.from_crs(crs, WGS84, always_xy=True)
    lonlat = np.column_stack(convert.transform(xy[:, 0], xy[:, 1]))
    if not np.isfinite(lonlat).all():
        raise DataError(f"The boundary in {crs.name} has points outside the domain of its CRS; check the CRS.")
    first = np.flatnonzero(of_part[1:] == of_part[:-1])
    a, b = lonlat[first], lonlat[first + 1]
    length = np.asarray(Geod(ellps="WGS84").inv(a[:, 0], a[:, 1], b[:, 0], b[:, 1])[2])
    keep = length > 0.0
    first, a, b, length = first[keep], a[keep], b[keep], length[keep]
    part = of_part[first]
    total = np.cumsum(length) - length
    starts = np.flatnonzero(np.r_[True, part[1:] != part[:-1]])
    along = total - np.repeat(total[starts], np.diff(np.r_[starts, len(part)]))
    return Edges(crs, xy[first], xy[first + 1], a, b, np.unique(part, return_inverse=True)[1], along, length)


def treated_area(line: Any, crs: "CRS", treated: Shape, reach: Any) -> Shape:
    """The treated side: polygons as given, or the face of the plane, split by the line, that holds a point.

    An open line is continued straight, along the direction between its ends, until it leaves the map. In degrees the
    map is the turn of longitudes around the middle of the line.

    Parameters
    ----------
    line : geometry
        The whole boundary, nothing cut out, in ``crs``.
    reach : ndarray (n, 2) float64
        Places in ``crs``, which the map must hold.
    """
    import shapely

    if treated.geometry.geom_type in ("Polygon", "MultiPolygon"):
        return treated
    if treated.geometry.geom_type != "Point":
        raise DataError(
            f"treated is a {treated.geometry.geom_type}; pass polygons of the treated area, or one point on its side."
        )
    turn, middle = full_turn(crs), 0.5 * (line.bounds[0] + line.bounds[2])
    places = _nearest_turn(np.vstack([shapely.get_coordinates(moved(treated, crs)), reach]), middle, turn)
    point = shapely.Point(places[0])
    known = np.vstack([places[np.isfinite(places).all(axis=1)], shapely.get_coordinates(line)])
    low, high = known.min(axis=0), known.max(axis=0)
    margin = 0.1 * float(np.max(high - low)) + 1e-9
    frame = shapely.box(*(low - margin), *(high + margin))
    cutter = _continued(line, 4.0 * float(np.hypot(*(high - low))) + 4.0 * margin)
    faces = shapely.get_parts(
        shapely.polygonize([shapely.union_all([frame.boundary, shapely.intersection(cutter, frame)])])
    )
    if len(faces) != 2:
        raise DataError(
            f"The line divides the map into {len(faces)} parts, so a point does not tell the treated side; pass "
            "polygons of the treated area as treated=."
        )
    holds = shapely.contains_properly(faces, point)
    if not holds.any():
        raise DataError("The point treated= lies on the boundary; choose one on the treated side.")
    face = faces[int(np.argmax(holds))]
    if turn is not None and high[0] - low[0] + 2.0 * margin > turn:
        face = shapely.intersection(face, shapely.box(middle - 0.5 * turn, -turn, middle + 0.5 * turn, turn))
    return Shape(face, crs)


def _nearest_turn(xy: np.ndarray, middle: float, turn: float | None) -> np.ndarray:
    """Places moved by whole turns to within half a turn of a longitude."""
    if turn is None:
        return xy
    return xy - np.column_stack([turn * np.round((xy[:, 0] - middle) / turn), np.zeros(len(xy))])


def _continued(line: Any, length: float) -> Any:
    import shapely

    out = []
    for part in shapely.get_parts(line):
        xy = shapely.get_coordinates(part)
        chord = xy[-1] - xy[0]
        size = float(np.hypot(*chord))
        if size > 0.0:
            step = chord / size * length
            xy = np.vstack([xy[0] - step, xy, xy[-1] + step])
        out.append(shapely.LineString(xy))
    return shapely.union_all(out)
