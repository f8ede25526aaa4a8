"""Places whose distance to a border is asked for: points, and polygons that must lie on one side."""

from typing import Any

import numpy as np

from causalsat.errors import DataError, nearest
from causalsat.study.boundary_lines import WGS84, Shape, cut_of
from causalsat.study.boundary_turns import all_around, full_turn, unrolled

# A polygon with more than this share of its area on either side belongs to neither.
STRADDLE_SHARE = 0.01
# Pieces this near to the border, as a share of the polygon's size, touch it.
TOUCH = 1e-9
COORDINATES = (("longitude", "latitude"), ("lon", "lat"))


def read_places(places: Any) -> tuple[np.ndarray, Any]:
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
        return checked(lonlat), shapes
    if hasattr(places, "columns"):
        columns = [str(c) for c in places.columns]
        pair = next((p for p in COORDINATES if set(p) <= set(columns)), None)
        if pair is None:
            raise DataError(
                f"places has no columns longitude, latitude (or lon, lat); it has: {', '.join(columns)}."
                f"{nearest('longitude', columns)} Rename them, or pass a GeoDataFrame."
            )
        return checked(np.column_stack([_degrees(places[name], f"places[{name!r}]") for name in pair])), None
    lonlat = _degrees(places, "places")
    if lonlat.ndim != 2 or lonlat.shape[1] != 2:
        raise DataError(f"places has shape {lonlat.shape}; pass (n, 2) longitudes and latitudes, or a table.")
    return checked(lonlat), None


def _degrees(values: Any, argument: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{argument} cannot be read as degrees ({error}); convert it to numbers.") from error


def checked(lonlat: np.ndarray) -> np.ndarray:
    """(n, 2) degrees with longitudes in [-180, 180]; rows without coordinates are NaN, impossible ones a DataError."""
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


def on_one_side(lonlat: np.ndarray, polygons: Any, area: Shape, exclude: Shape | None) -> np.ndarray:
    """Points to measure at (n, 2); raises DataError for polygons on both sides of the border.

    A polygon that crosses excluded stretches only (a district that reaches into the sea) is measured at a point of its
    treated part, if that is the larger.
    """
    import shapely

    if polygons is None:
        return lonlat
    rows, shapes = _areal(polygons, area)
    if not rows.size:
        return lonlat
    bounds = shapely.total_bounds(shapes)
    ground = all_around(area.geometry, area.crs, (bounds[0], bounds[2]))
    border = shapely.boundary(ground)
    shapely.prepare(border)
    meets = shapely.intersects(border, shapes)
    rows, shapes = rows[meets], shapely.make_valid(shapes[meets])
    share = shapely.area(shapely.intersection(shapes, ground)) / shapely.area(shapes)
    both = (share > STRADDLE_SHARE) & (share < 1.0 - STRADDLE_SHARE)
    rows, shapes, share = rows[both], shapes[both], share[both]
    if not rows.size:
        return lonlat
    if exclude is None:
        mixed = np.ones(len(rows), bool)
    else:
        cut = all_around(cut_of(exclude, area.crs), area.crs, (bounds[0], bounds[2]))
        mixed = _meet_both(shapes, ground, shapely.difference(border, cut))
    if mixed.any():
        first = int(np.argmax(mixed))
        raise DataError(
            f"{int(mixed.sum())} places lie on both sides of the border; the first is {polygons.index[rows[first]]!r} "
            f"with {share[first]:.0%} of its area treated. Its outcome mixes both sides: split it along the border, "
            "or drop it."
        )
    _refuse_smaller_part(polygons.index[rows], share)
    return _moved_inside(lonlat, rows, shapely.intersection(shapes, ground), area)


def _areal(polygons: Any, area: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Rows that hold polygons, and these in the CRS of the area, whole across the seam of longitudes."""
    import shapely

    shapes = np.asarray(polygons.to_crs(area.crs).array, dtype=object)
    rows = np.flatnonzero(np.isin(shapely.get_type_id(shapes), (3, 6)) & ~shapely.is_empty(shapes))
    shapes, turn = shapes[rows], full_turn(area.crs)
    if turn is not None and not polygons.crs.is_geographic:
        bounds = shapely.bounds(shapes)
        for i in np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 0.5 * turn):
            shapes[i] = unrolled(shapes[i], turn)
    return rows, shapes


def _meet_both(shapes: np.ndarray, ground: Any, border: Any) -> np.ndarray:
    """Whether pieces of either side, each above the share that counts, lie along the border that is left."""
    import shapely

    near = TOUCH * np.sqrt(shapely.area(shapes))
    out = np.ones(len(shapes), bool)
    for pieces in (shapely.intersection(shapes, ground), shapely.difference(shapes, ground)):
        parts, owner = shapely.get_parts(pieces, return_index=True)
        touch = shapely.dwithin(parts, border, near[owner])
        along = np.bincount(owner, shapely.area(parts) * touch, len(shapes))
        out &= along > STRADDLE_SHARE * shapely.area(shapes)
    return out


def _refuse_smaller_part(labels: Any, share: np.ndarray) -> None:
    small = np.flatnonzero(share < 0.5)
    if small.size:
        raise DataError(
            f"{small.size} places cross excluded stretches of the border with the larger part of their area; the first "
            f"is {labels[small[0]]!r} with {share[small[0]]:.0%} of it treated, so its side cannot be told. Clip it to "
            "the land it stands for (polygons.clip), or drop it."
        )


def _moved_inside(lonlat: np.ndarray, rows: np.ndarray, inside: np.ndarray, area: Shape) -> np.ndarray:
    """Points of these rows inside the treated part of their polygon, where they are not already."""
    import shapely
    from pyproj import Transformer

    there = Transformer.from_crs(WGS84, area.crs, always_xy=True)
    back = Transformer.from_crs(area.crs, WGS84, always_xy=True)
    x, y = there.transform(lonlat[rows, 0], lonlat[rows, 1])
    turn, out = full_turn(area.crs), lonlat.copy()
    held = np.zeros(len(rows), bool)
    for by in (0.0,) if turn is None else (0.0, turn, -turn):
        held |= shapely.contains_xy(inside, np.asarray(x) + by, np.asarray(y))
    points = shapely.point_on_surface(inside[~held])
    lon, lat = back.transform(shapely.get_x(points), shapely.get_y(points))
    out[rows[~held]] = checked(np.column_stack([lon, lat]))
    return out
