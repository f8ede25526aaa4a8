"""Polygons from a plane onto longitudes and latitudes: followed across 180° and closed over the poles."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError

if TYPE_CHECKING:
    from pyproj import CRS

# Steps of longitude above a sixth of a turn say nothing certain about the way taken.
SURE_STEP = 1.0 / 6.0
# A ring this near to a pole runs through it, metres.
POLE_M = 1e-3
MAX_ROUNDS = 60

# Distance kept from the seam of a map, as a share of a turn: 0.1 mm on the ground. PROJ leaves longitudes up to 6e-11
# degrees beyond the seam where they are, so that nearer ones may come out on either side.
SEAM_GAP = 3e-12
FAR_M = 1e6

Forward = Callable[[np.ndarray], np.ndarray]


def full_turn(crs: "CRS") -> float | None:
    """A whole turn of longitude in units of the CRS; None where coordinates are no longitudes."""
    return float(2.0 * np.pi / crs.axis_info[0].unit_conversion_factor) if crs.is_geographic else None


def wrapped(steps: np.ndarray, turn: float) -> np.ndarray:
    """Differences of longitude in [−turn / 2, turn / 2]."""
    return np.asarray(steps - turn * np.round(steps / turn))


def same_turn(source: "CRS", target: "CRS", forward: Forward) -> Forward:
    """Between longitudes and longitudes: results in the turn that the input is in, however many turns it spans."""
    here, there = full_turn(source), full_turn(target)
    if here is None or there is None:
        return forward

    def kept(xy: np.ndarray) -> np.ndarray:
        out = forward(xy)
        if len(xy):
            with np.errstate(invalid="ignore"):
                out[:, 0] -= there * np.round((out[:, 0] - xy[:, 0] * (there / here)) / there)
        return out

    return kept


def turn_copies(shapes: np.ndarray, turn: float | None, reach: float) -> list[np.ndarray]:
    """The shapes, and their copies a turn west and east if anything lies beyond half a turn."""
    import shapely

    if turn is None or not len(shapes):
        return [shapes]
    bounds = shapely.total_bounds(shapes)[[0, 2]]
    if max(np.abs(bounds).max(), reach) <= 0.5 * turn * (1 + 1e-9):
        return [shapes]
    return [shapes, *(_moved(shapes, by) for by in (-turn, turn))]


def whole_on_longitudes(
    dense: np.ndarray, moved: np.ndarray, forward: Forward, source: "CRS", target: "CRS", names: np.ndarray
) -> np.ndarray:
    """Shapes from a plane, edges already divided, that cross 180° or meet a pole, put together again.

    Parameters
    ----------
    dense, moved : ndarray (n,) object
        Polygons in the source, and point by point in the target, a CRS of longitudes and latitudes.
    names : ndarray (n,)
        Labels for messages.

    Raises
    ------
    DataError
        A ring that meets the poles more than once, or goes around both.
    """
    import shapely

    turn = full_turn(target)
    if turn is None:
        return moved
    out = moved.copy()
    for i in np.flatnonzero(_doubtful(moved, turn)):
        rings = _Rings(forward, source, target, turn, str(names[i]))
        parts = [rings.polygon(part) for part in shapely.get_parts(dense[i])]
        out[i] = _sound(shapely.union_all(parts) if len(parts) > 1 else parts[0])
    return out


def _doubtful(moved: np.ndarray, turn: float) -> np.ndarray:
    """Shapes with a long step of longitude, or with a point at a pole."""
    import shapely

    parts, of_shape = shapely.get_parts(moved, return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    xy, of_ring = shapely.get_coordinates(rings, return_index=True)
    owner, out = of_shape[of_part[of_ring]], np.zeros(len(moved), bool)
    with np.errstate(invalid="ignore"):
        out[owner[np.abs(xy[:, 1]) > 0.25 * turn * (1.0 - 1e-9)]] = True
        long = (of_ring[1:] == of_ring[:-1]) & (np.abs(np.diff(xy[:, 0])) > SURE_STEP * turn)
    out[owner[1:][long]] = True
    return out


def map_seam(target: "CRS") -> float | None:
    """Longitude, in the CRS under a map, at which the map is cut open; None for maps without such a cut."""
    from pyproj import Transformer

    operation, base = target.coordinate_operation, target.geodetic_crs
    if target.is_geographic or operation is None or base is None:
        return None
    origins = [p for p in operation.params if p.name.startswith("Longitude of")]
    turn = full_turn(base)
    if not origins or turn is None:
        return None
    origin = float(origins[0].value) * origins[0].unit_conversion_factor * turn / (2.0 * np.pi)
    ends = origin + np.array([0.5, -0.5]) * turn * (1.0 - 1e-9)
    x, y = Transformer.from_crs(base, target, always_xy=True).transform(ends, np.full(2, turn / 360.0))
    apart = np.hypot(x[0] - x[1], y[0] - y[1]) * target.axis_info[0].unit_conversion_factor
    return origin + 0.5 * turn if np.isfinite(apart) and apart > FAR_M else None


def meets_seam(shapes: np.ndarray, source: "CRS", base: "CRS", seam: float) -> np.ndarray:
    """Shapes that reach a map's seam, or that go so far around the globe that they may."""
    import shapely
    from pyproj import Transformer

    turn, here = full_turn(base) or 360.0, full_turn(source)
    if here is not None:
        west, _, east, _ = shapely.bounds(shapes).T * (turn / here)
        slack = turn / 36_000.0
        with np.errstate(invalid="ignore"):
            return np.asarray(np.floor((east + slack - seam) / turn) >= np.ceil((west - slack - seam) / turn))
    xy, owner = shapely.get_coordinates(shapes, return_index=True)
    lon = np.asarray(Transformer.from_crs(source, base, always_xy=True).transform(xy[:, 0], xy[:, 1])[0])
    finite = np.isfinite(lon)
    lon, owner = wrapped(lon[finite] - seam - 0.5 * turn, turn), owner[finite]
    low, high = np.full(len(shapes), np.inf), np.full(len(shapes), -np.inf)
    np.minimum.at(low, owner, lon)
    np.maximum.at(high, owner, lon)
    return np.asarray(high - low > 0.5 * turn)


def cut_at_seam(shapes: np.ndarray, seam: float, turn: float) -> np.ndarray:
    """Shapes on longitudes, in pieces that all lie on the one turn that the map shows."""
    import shapely

    gap, out = SEAM_GAP * turn, shapes.copy()
    window = shapely.box(seam - turn + gap, -turn, seam - gap, turn)
    for i in np.flatnonzero(~shapely.is_missing(shapes)):
        west, _, east, _ = shapes[i].bounds
        turns = range(int(np.ceil((seam - turn - east) / turn)), int(np.floor((seam - west) / turn)) + 1)
        pieces = [shapely.intersection(_moved(shapes[i], k * turn), window) for k in turns]
        out[i] = _sound(shapely.union_all(pieces))
    return out


class _Rings:
    """Follows the rings of one shape."""

    def __init__(self, forward: Forward, source: "CRS", target: "CRS", turn: float, name: str) -> None:
        from pyproj import Transformer

        self.forward, self.turn, self.name, self.crs = forward, turn, name, source.name
        back = Transformer.from_crs(target, source, always_xy=True)
        self.poles = np.column_stack(back.transform([0.0, 0.0], [0.25 * turn, -0.25 * turn]))
        self.near = POLE_M / source.axis_info[0].unit_conversion_factor

    def polygon(self, part: Any) -> Any:
        import shapely

        shell, *holes = (self.filled(ring) for ring in (part.exterior, *part.interiors))
        around = [_moved(hole, by) for hole in holes for by in (-self.turn, 0.0, self.turn)]
        area = shapely.difference(shell, shapely.union_all(around)) if holes else shell
        return self.in_window(area)

    def in_window(self, area: Any) -> Any:
        """What goes all around the globe, cut at half a turn; the rest with its middle in the window."""
        import shapely

        half = 0.5 * self.turn
        west, _, east, _ = area.bounds
        if east - west < self.turn * (1.0 - 1e-9):
            return area
        copies = shapely.union_all([_moved(area, by) for by in (-self.turn, 0.0, self.turn)])
        return _sound(shapely.intersection(copies, shapely.box(-half, -half, half, half)))

    def filled(self, ring: Any) -> Any:
        """The ground inside a ring, its middle within half a turn of longitude 0."""
        import shapely

        plane, lonlat = self._followed(ring)
        polar = np.abs(lonlat[:-1, 1]) > 0.25 * self.turn * (1.0 - 1e-9)
        if polar.any():
            path = self._through_pole(lonlat, polar)
        else:
            path = _running(lonlat, self.turn)
            if abs(path[-1, 0] - path[0, 0]) > 0.5 * self.turn:
                pole = self._pole_inside(plane)
                path = np.vstack([path, [[path[-1, 0], pole], [path[0, 0], pole]]])
        middle = 0.5 * (path[:, 0].min() + path[:, 0].max())
        path[:, 0] -= self.turn * np.round(middle / self.turn)
        return _sound(shapely.Polygon(path))

    def _followed(self, ring: Any) -> tuple[np.ndarray, np.ndarray]:
        """Points of the ring in the plane and in degrees, so many that each step of longitude is sure."""
        import shapely

        for pole in self.poles[np.isfinite(self.poles).all(axis=1)]:
            point = shapely.Point(pole)
            if shapely.distance(ring, point) < self.near:
                ring = shapely.snap(ring, point, self.near)
        plane = shapely.get_coordinates(ring)
        lonlat = self.forward(plane)
        for _ in range(MAX_ROUNDS):
            polar = np.abs(lonlat[:, 1]) > 0.25 * self.turn * (1.0 - 1e-9)
            middle = 0.5 * (plane[1:] + plane[:-1])
            between = self.forward(middle)
            steps = [wrapped(between[:, 0] - end[:, 0], self.turn) for end in (lonlat[:-1], lonlat[1:])]
            long = np.flatnonzero((np.abs(steps).max(axis=0) > SURE_STEP * self.turn) & ~polar[1:] & ~polar[:-1])
            if not long.size:
                break
            plane = np.insert(plane, long + 1, middle[long], axis=0)
            lonlat = np.insert(lonlat, long + 1, between[long], axis=0)
        return plane, lonlat

    def _through_pole(self, lonlat: np.ndarray, polar: np.ndarray) -> np.ndarray:
        """A ring that visits a pole once: up its first meridian and down its last."""
        starts = np.flatnonzero(polar & ~np.roll(polar, 1))
        if len(starts) != 1:
            raise DataError(self._message("meets a pole more than once"))
        turned = np.roll(lonlat[:-1], -starts[0], axis=0)
        way = _running(turned[~np.roll(polar, -starts[0])], self.turn)
        pole = np.copysign(0.25 * self.turn, turned[0, 1])
        return np.vstack([[[way[0, 0], pole]], way, [[way[-1, 0], pole]]])

    def _pole_inside(self, plane: np.ndarray) -> float:
        """Latitude of the pole that the ring goes around."""
        import shapely

        finite = np.isfinite(self.poles).all(axis=1)
        holds = finite & shapely.contains_xy(shapely.Polygon(plane), np.nan_to_num(self.poles, posinf=0.0, neginf=0.0))
        if holds.sum() != 1:
            raise DataError(self._message("goes around the globe"))
        return 0.25 * self.turn * (1.0 if holds[0] else -1.0)

    def _message(self, what: str) -> str:
        return (
            f"{self.name} {what} in {self.crs}, so its inside cannot be told on a raster in degrees. Cut it along a "
            "meridian, or use a raster in the CRS of the zones."
        )


def _running(lonlat: np.ndarray, turn: float) -> np.ndarray:
    steps = wrapped(np.diff(lonlat[:, 0]), turn)
    return np.column_stack([lonlat[0, 0] + np.r_[0.0, np.cumsum(steps)], lonlat[:, 1]])


def _moved(shapes: Any, by: float) -> Any:
    import shapely

    return shapely.transform(shapes, lambda xy: xy + np.array([[by, 0.0]]))


def _sound(shape: Any) -> Any:
    """Polygons alone, without the crossings of rings and the slivers of lines that rounding and cutting bring."""
    import shapely

    if shape.is_valid and shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    parts = shapely.get_parts(shapely.make_valid(shape))
    return shapely.union_all(parts[np.isin(shapely.get_type_id(parts), (3, 6))])
