"""Zones on the pixel grid of a raster: read once, bent with the projection, each place owned by one file."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, RasterCoverageWarning, nearest, warn
from causalsat.raster.places import read_table
from causalsat.raster.sources import Item, Sources
from causalsat.raster.zonal_turns import (
    cut_at_seam,
    full_turn,
    map_seam,
    meets_seam,
    same_turn,
    turn_copies,
    whole_on_longitudes,
    wrapped,
)

if TYPE_CHECKING:
    from pyproj import CRS

BEND_PIXELS = 0.01
MAX_PIECES = 10_000


@dataclass(frozen=True, eq=False)
class Zones:
    """Polygons asked for, in the order given.

    Attributes
    ----------
    ids : ndarray (n,)
        Unique labels; text, or the numbers given.
    shapes : ndarray (n,) object
        Polygons in ``crs``; None where a zone has no geometry.
    crs : pyproj.CRS
    id_column : str or None
        Column that ``ids`` come from; None: the index.
    """

    ids: np.ndarray
    shapes: np.ndarray
    crs: "CRS"
    id_column: str | None

    def __len__(self) -> int:
        return len(self.ids)


def read_zones(zones: Any, zone_id: str | None) -> Zones:
    """Read polygons from a GeoDataFrame, a GeoSeries or a vector file; raises DataError for anything unusable."""
    import shapely
    from pyproj import CRS

    table = read_table(zones)
    if not hasattr(table, "geom_type") or not hasattr(table, "crs"):
        raise DataError(
            f"zones is a {type(zones).__name__}; pass a GeoDataFrame or a GeoSeries of polygons, or the path of a "
            "vector file (.gpkg, .geojson, .shp, .fgb, .geoparquet)."
        )
    if table.crs is None:
        raise DataError(
            'zones has no CRS; say which one its coordinates are in, for example zones.set_crs("EPSG:4326").'
        )
    shapes = np.array(table.geometry.array, dtype=object)
    if not len(shapes):
        raise DataError("zones holds no row; pass at least one polygon.")
    ids, column = _labels(table, zone_id)
    empty = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    _refuse_shapes(shapes, ids, ~empty)
    shapes[empty] = None
    return Zones(ids, shapes, CRS.from_user_input(table.crs), column)


def _labels(table: Any, zone_id: str | None) -> tuple[np.ndarray, str | None]:
    columns = [str(c) for c in getattr(table, "columns", [])]
    name = zone_id if zone_id is not None else ("zone" if "zone" in columns else None)
    if name is not None and name not in columns:
        raise DataError(
            f"zone_id={name!r} is not a column of zones; it has: {', '.join(columns)}.{nearest(name, columns)}"
        )
    labels = table.index if name is None else table[name]
    if getattr(labels, "nlevels", 1) > 1 and name is None:
        first = ", ".join(map(str, labels[0]))
        raise DataError(
            f"zones has an index of {labels.nlevels} levels, for example ({first}), and a zone has one label: name a "
            "column of unique labels with zone_id=, or join the levels into one index."
        )
    missing = np.flatnonzero(np.asarray(labels.isna()))
    if missing.size:
        raise DataError(f"zone_id={name!r} has no label in row {missing[0]}; give each zone one, or drop the row.")
    repeated = labels[labels.duplicated()]
    if len(repeated):
        raise DataError(
            f"zone_id={name!r} repeats {np.asarray(repeated)[0]!r}: a label names one zone. Join its polygons first "
            f"(zones.dissolve({name!r})), or choose another column."
        )
    return np.asarray(labels), name


def _refuse_shapes(shapes: np.ndarray, ids: np.ndarray, present: np.ndarray) -> None:
    import shapely

    kinds = shapely.get_type_id(shapes)
    wrong = np.flatnonzero(present & (kinds != 3) & (kinds != 6))
    if wrong.size:
        raise DataError(
            f"Zone {ids[wrong[0]]!r} is a {shapes[wrong[0]].geom_type} ({wrong.size} zones are no polygon); pixels "
            "belong to areas: buffer points in a metric CRS, or drop these rows."
        )
    invalid = np.flatnonzero(present & ~shapely.is_valid(shapes))
    if invalid.size:
        raise DataError(
            f"Zone {ids[invalid[0]]!r} is not a valid polygon ({shapely.is_valid_reason(shapes[invalid[0]])}; "
            f"{invalid.size} zones): its inside is ambiguous. Repair it, for example with zones.make_valid()."
        )


@dataclass(frozen=True, eq=False)
class OnGrid:
    """Zones that touch one raster, in its pixel coordinates: x = column, y = height − row (north up for any grid).

    Attributes
    ----------
    item : int
        Position of the raster among the sources.
    codes : ndarray (m,) int64
        Positions of the zones.
    shapes : ndarray (m,) object
        Polygons in pixels, less what an earlier raster covers.
    inside : ndarray (m,) float64
        Share of the full zone's area that this raster owns.
    """

    item: int
    codes: np.ndarray
    shapes: np.ndarray
    inside: np.ndarray


def on_grids(zones: Zones, sources: Sources) -> list[OnGrid]:
    """Zones on the grid of every raster that they touch, in reading order.

    Zones are reprojected, pixels never: edges are divided until their bend under the projection is below a hundredth
    of a pixel. Where rasters overlap, the one listed first owns the ground. Keyed rasters meet their own zone only.
    """
    import shapely

    systems = {crs: _Projected(zones, [i for i in sources.items if i.crs == crs]) for crs in sources.crs}
    claims = {} if sources.keyed else _claims(sources)
    out = []
    for position, item in enumerate(sources.items):
        codes, shapes = systems[item.crs].touching(item)
        if sources.keyed:
            own = np.array([str(zones.ids[c]) == item.key for c in codes], dtype=bool)
            codes, shapes = codes[own], shapes[own]
        pixels = to_pixels(shapes, item)
        whole = shapely.area(pixels)
        if position in claims:
            pixels = shapely.difference(pixels, claims[position])
        frame = shapely.box(0, 0, item.width, item.height)
        keep = shapely.intersects(pixels, frame)
        if keep.any():
            inside = _area_within(pixels[keep], frame) / np.maximum(whole[keep], np.finfo(float).tiny)
            out.append(OnGrid(position, codes[keep], pixels[keep], inside))
    return out


def _area_within(shapes: np.ndarray, frame: Any) -> np.ndarray:
    import shapely

    out = shapely.covered_by(shapes, frame)
    area = np.asarray(shapely.area(shapes))
    area[~out] = shapely.area(shapely.intersection(shapes[~out], frame))
    return area


class _Projected:
    """All zones in one coordinate system, with copies a full turn east or west where longitudes need them."""

    def __init__(self, zones: Zones, items: list[Item]) -> None:
        import shapely
        from pyproj import CRS

        target = CRS.from_user_input(items[0].crs)
        step = min(_pixel_side(i) for i in items)
        names = np.array([f"Zone {label!r}" for label in zones.ids.tolist()], dtype=object)
        shapes = project(zones.shapes, zones.crs, target, BEND_PIXELS * step, names)
        codes = np.flatnonzero(~shapely.is_missing(shapes))
        copies = turn_copies(shapes[codes], full_turn(target), max(abs(b) for i in items for b in i.bounds[::2]))
        self.codes, self.shapes = np.tile(codes, len(copies)), np.concatenate(copies)
        self.tree = shapely.STRtree(self.shapes)

    def touching(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        found = np.sort(self.tree.query(outline(item)))
        return self.codes[found], self.shapes[found]


def outline(item: Item) -> Any:
    """The raster's rectangle in its own CRS."""
    import shapely

    a, b, c, d, e, f = item.transform
    corners = [(0, 0), (item.width, 0), (item.width, item.height), (0, item.height)]
    return shapely.Polygon([(a * i + b * j + c, d * i + e * j + f) for i, j in corners])


def to_pixels(shapes: np.ndarray, item: Item) -> np.ndarray:
    """Shapes in the raster's CRS as shapes in its pixels, x = column, y = height − row."""
    import shapely
    from affine import Affine

    back = ~Affine(*item.transform)

    def convert(xy: np.ndarray) -> np.ndarray:
        x, y = xy[:, 0], xy[:, 1]
        row = back.d * x + back.e * y + back.f
        return np.column_stack([back.a * x + back.b * y + back.c, item.height - row])

    return np.asarray(shapely.transform(shapes, convert), dtype=object)


def _pixel_side(item: Item) -> float:
    a, b, _, d, e, _ = item.transform
    return float(np.sqrt(abs(a * e - b * d)))


def project(
    shapes: np.ndarray, source: "CRS", target: "CRS", tolerance: float, names: np.ndarray | None = None
) -> np.ndarray:
    """Shapes in another CRS, edges divided until they bend by less than ``tolerance`` (units of the target).

    Shapes with a point that the target cannot hold become None. On longitudes, shapes across 180° stay whole (they may
    reach beyond it) and shapes that hold a pole are closed over it. Shapes across the meridian at which the target's
    map is cut open are cut there too. ``names`` are for messages.
    """
    if source.equals(target, ignore_axis_order=True):
        return shapes
    seam, base = map_seam(target), target.geodetic_crs
    if seam is not None and base is not None:
        across = meets_seam(shapes, source, base, seam)
        if across.any():
            return _by_degrees(shapes, across, (source, base, target), seam, tolerance, names)
    return _bent(shapes, source, target, tolerance, names)


def _by_degrees(
    shapes: np.ndarray,
    across: np.ndarray,
    systems: "tuple[CRS, CRS, CRS]",
    seam: float,
    tolerance: float,
    names: np.ndarray | None,
) -> np.ndarray:
    """Shapes across the seam of the target's map go by way of longitudes, where they are cut along it."""
    source, base, target = systems
    turn = full_turn(base) or 360.0
    metre = turn / 40_030_000.0 * target.axis_info[0].unit_conversion_factor
    out = np.empty(len(shapes), dtype=object)
    out[~across] = _bent(shapes[~across], source, target, tolerance, names)
    degrees = project(shapes[across], source, base, tolerance * metre, None if names is None else names[across])
    out[across] = _bent(cut_at_seam(degrees, seam, turn), base, target, tolerance, names)
    return out


def _bent(shapes: np.ndarray, source: "CRS", target: "CRS", tolerance: float, names: np.ndarray | None) -> np.ndarray:
    import shapely
    from pyproj import Transformer

    convert = Transformer.from_crs(source, target, always_xy=True)

    def plain(xy: np.ndarray) -> np.ndarray:
        return np.column_stack(convert.transform(xy[:, 0], xy[:, 1])) if len(xy) else xy

    forward, turn = same_turn(source, target, plain), full_turn(target)
    dense = _divided(shapes, forward, tolerance, turn)
    moved = np.asarray(shapely.transform(dense, forward), dtype=object)
    coordinates, owner = shapely.get_coordinates(moved, return_index=True)
    moved[np.unique(owner[~np.isfinite(coordinates).all(axis=1)])] = None
    if source.is_geographic:
        return moved
    names = np.full(len(shapes), "The outline of a raster", dtype=object) if names is None else names
    return whole_on_longitudes(dense, moved, forward, source, target, names)


def _divided(shapes: np.ndarray, forward: Any, tolerance: float, turn: float | None) -> np.ndarray:
    """Shapes with more points: an edge's bend falls with the square of its length."""
    import shapely

    parts, of_shape = shapely.get_parts(shapes, return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    xy, of_ring = shapely.get_coordinates(rings, return_index=True)
    if not len(xy):
        return shapes
    first = np.flatnonzero(of_ring[1:] == of_ring[:-1])
    a, b = xy[first], xy[first + 1]
    bend = _bend(forward(a), forward((a + b) / 2.0), forward(b), turn)
    pieces = np.clip(np.ceil(np.sqrt(np.nan_to_num(bend, posinf=0.0) / tolerance)), 1, MAX_PIECES)
    step = np.full(len(shapes), np.inf)
    length = np.hypot(*(b - a).T)
    bent = pieces > 1
    np.minimum.at(step, of_shape[of_part[of_ring[first]]][bent], (length / pieces)[bent])
    longest = np.zeros(len(shapes))
    np.maximum.at(longest, of_shape[of_part[of_ring[first]]], length)
    out = shapes.copy()
    some = np.flatnonzero(np.isfinite(step))
    floor = longest[some] / MAX_PIECES
    out[some] = shapely.segmentize(shapes[some], np.maximum(step[some], floor))
    return out


def _bend(start: np.ndarray, middle: np.ndarray, end: np.ndarray, turn: float | None) -> np.ndarray:
    """How far middles of edges lie from the straight line between their ends, across the seam of longitudes too."""
    with np.errstate(invalid="ignore"):
        x, y = (middle - (start + end) / 2.0).T
        if turn is not None:
            across = wrapped(middle[:, 0] - start[:, 0], turn) - wrapped(end[:, 0] - start[:, 0], turn) / 2.0
            x = np.where(np.abs(across) < np.abs(x), across, x)
        return np.asarray(np.hypot(x, y))


def _claims(sources: Sources) -> dict[int, Any]:
    """Ground that earlier rasters own, in the pixels of each later raster that overlaps them."""
    import shapely
    from pyproj import CRS

    if len(sources.items) < 2:
        return {}
    tree = shapely.STRtree(np.asarray(sources.footprints().geometry.array, dtype=object))
    later, earlier = tree.query(tree.geometries, predicate="intersects")
    claims: dict[int, list[Any]] = {}
    for i, j in zip(later.tolist(), earlier.tolist()):
        if j >= i:
            continue
        item, other = sources.items[i], sources.items[j]
        tolerance = BEND_PIXELS * _pixel_side(item)
        shape = np.array([outline(other)], dtype=object)
        target = CRS.from_user_input(item.crs)
        moved = project(shape, CRS.from_user_input(other.crs), target, tolerance)
        if moved[0] is None:
            continue
        copies = turn_copies(moved, full_turn(target), max(abs(b) for b in item.bounds[::2]))
        ground = shapely.union_all(to_pixels(np.concatenate(copies), item))
        covered = shapely.intersection(ground, shapely.box(0, 0, item.width, item.height))
        # Neighbours that share an edge overlap by rounding alone.
        if covered.area > 1e-3 * max(item.width, item.height):
            claims.setdefault(i, []).append(covered)
    if claims:
        i, j = next(iter(claims)), len(claims)
        warn(
            f"{j} rasters overlap an earlier one (first: {sources.items[i].name}): where they overlap, pixels are "
            "taken from the one listed first, masked ones too. Build a VRT (gdalbuildvrt) to fill gaps from others.",
            RasterCoverageWarning,
        )
    return {i: shapely.union_all(found) for i, found in claims.items()}
