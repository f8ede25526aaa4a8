"""Longitude and latitude: from two columns or from a table's own geometry; anything else is refused with the cure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, OptionError

if TYPE_CHECKING:
    from causalsat.study.frame import Frame


def degrees_of(table: Any) -> np.ndarray | None:
    """Degrees WGS84 (n, 2) of a GeoDataFrame's geometry (a point inside each shape), or None for other tables."""
    if not hasattr(table, "geom_type") or getattr(table, "_geometry_column_name", None) not in table.columns:
        return None
    if table.crs is None:
        raise DataError(
            "data is a GeoDataFrame without a coordinate system; say which one its coordinates are in, for example "
            'data.set_crs("EPSG:4326") for degrees.'
        )
    shapes = table.geometry
    usable = (~(shapes.isna() | shapes.is_empty)).to_numpy()
    lonlat = np.full((len(shapes), 2), np.nan)
    shapes = shapes[usable]
    points = shapes.where(shapes.geom_type == "Point", shapes.representative_point()).to_crs("EPSG:4326")
    lonlat[usable] = np.column_stack([points.x.to_numpy(), points.y.to_numpy()])
    return lonlat


def study_lonlat(frame: "Frame", coords: Sequence[str] | None) -> np.ndarray | None:
    """Degrees (n, 2) of every row from ``coords``, else the table's geometry, else None (raises DataError)."""
    if coords is None:
        if frame.lonlat is None:
            return None
        return _checked(frame.lonlat, "the geometry of the data")
    if isinstance(coords, str) or len(coords) != 2:
        raise OptionError(f"coords={coords!r} must be two column names, longitude then latitude.")
    lon_name, lat_name = coords
    what = f"coords=({lon_name!r}, {lat_name!r})"
    if lon_name.lower().startswith("lat") and lat_name.lower().startswith("lon"):
        raise DataError(f"{what} names latitude first; longitude comes first: coords=({lat_name!r}, {lon_name!r}).")
    pair = [frame.column(name, "coords").numbers("coords") for name in coords]
    return _checked(np.column_stack(pair), what)


def _checked(lonlat: np.ndarray, what: str) -> np.ndarray:
    missing = ~np.isfinite(lonlat).all(axis=1)
    if missing.any():
        raise DataError(
            f"{what} is missing or infinite in {int(missing.sum())} of {len(lonlat)} rows (first: row "
            f"{int(np.flatnonzero(missing)[0])}); distances need every place. Fill the coordinates or drop those rows."
        )
    lon, lat = lonlat.T
    beyond = (np.abs(lat) > 90.0) | (np.abs(lon) > 360.0)
    if beyond.any():
        row = int(np.flatnonzero(beyond)[0])
        swapped = bool((np.abs(lon) <= 90.0).all() and (np.abs(lat) <= 360.0).all())
        cure = (
            "Longitude comes first: swap the two columns."
            if swapped
            else "They look like projected metres: pass a GeoDataFrame with its coordinate system set, or reproject "
            'them to degrees with to_crs("EPSG:4326").'
        )
        raise DataError(
            f"{what} holds ({lon[row]:g}, {lat[row]:g}) in row {row} ({int(beyond.sum())} such rows), which is no "
            f"longitude and latitude in degrees (latitude lies in [-90, 90]). {cure}"
        )
    return np.column_stack([np.where(lon > 180.0, lon - 360.0, np.where(lon < -180.0, lon + 360.0, lon)), lat])
