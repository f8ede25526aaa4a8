"""Places in: any table or vector file to ids, degrees and dates."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, nearest
from causalsat.raster.dates import Dates, period


@dataclass(frozen=True)
class Places:
    """Places asked for, in the order given.

    Attributes
    ----------
    ids : ndarray (J,) str
        Unique, unless dates tell rows apart.
    lon, lat : ndarray (J,) float64
        Degrees (WGS84); NaN where the place is unusable.
    status : ndarray (J,) str
        ``"ok"`` or ``"bad_place"`` (no geometry, not finite, or exactly (0, 0)).
    event : ndarray (J,) datetime64[D], optional
        Treatment date, where dates were asked for.
    anchor : ndarray (J,) datetime64[D], optional
        Date that the window of frames counts from; equals ``event`` unless they are different columns.
    """

    ids: np.ndarray
    lon: np.ndarray
    lat: np.ndarray
    status: np.ndarray
    event: np.ndarray | None = None
    anchor: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)


def read_places(
    places: Any,
    *,
    embedding_key: str | None = None,
    coords: tuple[str, str] = ("longitude", "latitude"),
    dates: Dates | None = None,
) -> Places:
    """Read places from a GeoDataFrame, any data frame, a mapping of columns, or a file.

    Points are taken as they are, polygons by a point inside them. Tables without geometry give longitude and latitude
    in degrees (WGS84) through ``coords``. Places that are missing, not finite or exactly (0, 0) (where surveys put
    clusters of unverified place) keep their row with the status ``bad_place``.

    Parameters
    ----------
    places : GeoDataFrame, data frame, mapping of columns, or path
        A path ends in .gpkg, .geojson, .json, .shp, .fgb, .parquet, .geoparquet or .csv.
    embedding_key : str, optional
        Column with one unique id per place; None: the frame's index, or the row number where there is none.
    coords : (str, str)
        Columns of longitude and latitude.
    dates : Dates, optional
        Names the date columns.

    Returns
    -------
    Places

    Raises
    ------
    DataError
        Unknown column, repeated or missing id, coordinates beyond degrees, a geometry without CRS.

    Examples
    --------
    >>> from causalsat.raster.places import read_places
    >>> read_places({"site": [1, 2], "longitude": [32.5, 0.0], "latitude": [1.2, 0.0]}, embedding_key="site").status
    array(['ok', 'bad_place'], dtype='<U9')
    """
    table = read_table(places)
    columns, index = _columns(table)
    lon, lat = _geometry(table) if hasattr(table, "geometry") and hasattr(table, "crs") else _lonlat(columns, coords)
    ids = _ids(columns, index, embedding_key, len(lon))
    event = anchor = None
    if dates is not None:
        anchor = _dates(columns, dates.column)
        event = anchor if dates.event is None else _event(columns, dates.event, len(lon))
    _refuse_repeats(ids, anchor, embedding_key)
    bad = ~np.isfinite(lon) | ~np.isfinite(lat) | ((lon == 0.0) & (lat == 0.0))
    lon, lat = np.where(bad, np.nan, lon), np.where(bad, np.nan, lat)
    lon = np.where(lon > 180.0, lon - 360.0, np.where(lon < -180.0, lon + 360.0, lon))
    return Places(ids, lon, lat, np.where(bad, "bad_place", "ok"), event, anchor)


def read_table(places: Any) -> Any:
    """Places or zones as a frame: as it is, or read from a vector, Parquet or CSV file (raises DataError)."""
    if not isinstance(places, (str, Path)):
        return places
    path = Path(places)
    if not path.is_file():
        raise DataError(f"places={str(places)!r} is not a file.")
    ending = path.suffix.lower()
    import geopandas as gpd
    import pandas as pd

    if ending in (".gpkg", ".geojson", ".json", ".shp", ".fgb"):
        return gpd.read_file(path)
    if ending in (".parquet", ".geoparquet"):
        import pyarrow.parquet as pq

        has_geometry = b"geo" in (pq.read_schema(path).metadata or {})
        return gpd.read_parquet(path) if has_geometry else pd.read_parquet(path)
    if ending == ".csv":
        return pd.read_csv(path)
    raise DataError(
        f"places={str(places)!r} ends in {ending!r}; allowed: .gpkg, .geojson, .json, .shp, .fgb, .parquet, "
        ".geoparquet, .csv. Convert the file, or read it and pass the frame."
    )


def _columns(table: Any) -> tuple[dict[str, Any], np.ndarray | None]:
    """Columns by name, and the pandas index where there is one."""
    if isinstance(table, Mapping):
        columns = {str(k): np.asarray(v) for k, v in table.items()}
        lengths = {k: len(v) if v.ndim else -1 for k, v in columns.items()}
        if len(set(lengths.values())) > 1 or -1 in lengths.values():
            raise DataError(f"places has columns of different lengths: {lengths}; give one value per place in each.")
        return columns, None
    import narwhals as nw

    try:
        frame = nw.from_native(table, eager_only=True)
    except TypeError as error:
        raise DataError(
            f"places is a {type(table).__name__}; pass a GeoDataFrame, a data frame (pandas, polars, pyarrow), a "
            "mapping of columns, or the path of a file."
        ) from error
    columns = {str(name): frame[name] for name in frame.columns}
    index = getattr(table, "index", None)
    return columns, None if index is None or callable(index) else np.asarray(index)


def _values(columns: dict[str, Any], argument: str, name: str) -> np.ndarray:
    if name not in columns:
        raise DataError(
            f"{argument}={name!r} is not a column of places; it has: {', '.join(columns)}.{nearest(name, columns)}"
        )
    column = columns[name]
    return column if isinstance(column, np.ndarray) else np.asarray(column.to_numpy())


def _lonlat(columns: dict[str, Any], coords: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(coords, str) or len(coords) != 2:
        raise OptionError(f"coords={coords!r} must be two column names: longitude, then latitude.")
    pair = []
    for name in coords:
        raw = _values(columns, "coords", name)
        try:
            pair.append(np.array([np.nan if v is None else v for v in raw], dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise DataError(f"coords column {name!r} is not numeric: {error}. Convert it to degrees.") from error
    lon, lat = pair
    _refuse_projected(lon, lat, f"coords={tuple(coords)!r}")
    return lon, lat


def _refuse_projected(lon: np.ndarray, lat: np.ndarray, what: str) -> None:
    finite = np.isfinite(lon) & np.isfinite(lat)
    beyond = finite & ((np.abs(lat) > 90.0) | (np.abs(lon) > 360.0))
    if not beyond.any():
        return
    i = int(np.flatnonzero(beyond)[0])
    swapped = bool(np.all(np.abs(lon[finite]) <= 90.0) and np.all(np.abs(lat[finite]) <= 360.0))
    cure = (
        "Longitude comes first: swap the two columns."
        if swapped
        else "They look like projected metres: pass a GeoDataFrame with its CRS set (its places are converted)."
    )
    raise DataError(
        f"{what} hold ({lon[i]:g}, {lat[i]:g}) in row {i} ({int(beyond.sum())} such rows): not degrees of longitude "
        f"and latitude (latitude lies in [-90, 90]). {cure}"
    )


def _geometry(table: Any) -> tuple[np.ndarray, np.ndarray]:
    if table.crs is None:
        raise DataError(
            "places is a GeoDataFrame without CRS; say which one its coordinates are in, for example "
            'places.set_crs("EPSG:4326").'
        )
    shapes = table.geometry
    usable = (~(shapes.isna() | shapes.is_empty)).to_numpy()
    lon, lat = np.full(len(shapes), np.nan), np.full(len(shapes), np.nan)
    points = shapes[usable]
    points = points.where(points.geom_type == "Point", points.representative_point()).to_crs("EPSG:4326")
    lon[usable], lat[usable] = points.x.to_numpy(), points.y.to_numpy()
    _refuse_projected(lon, lat, "the geometries of places")
    return lon, lat


def _ids(columns: dict[str, Any], index: np.ndarray | None, key: str | None, n: int) -> np.ndarray:
    raw = (
        np.arange(n)
        if key is None and index is None
        else index
        if key is None
        else _values(columns, "embedding_key", key)
    )
    texts = []
    for row, value in enumerate(raw if raw is not None else ()):
        if (
            value is None
            or (isinstance(value, (float, np.floating)) and np.isnan(value))
            or str(value) in ("<NA>", "NaT")
        ):
            raise DataError(f"embedding_key={key!r} has no id in row {row}; give each place an id, or drop the row.")
        whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
        texts.append(str(int(value)) if whole else str(value))
    return np.array(texts, dtype=np.str_) if texts else np.array([], dtype="<U1")


def _dates(columns: dict[str, Any], name: str) -> np.ndarray:
    raw = _values(columns, "dates", name)
    if np.issubdtype(raw.dtype, np.datetime64):
        return raw.astype("datetime64[D]")
    return np.array([period(value)[0] for value in raw], dtype="datetime64[D]")


def _event(columns: dict[str, Any], event: str, n: int) -> np.ndarray:
    if event in columns:
        return _dates(columns, event)
    try:
        day = period(event)[0]
    except DataError as error:
        raise DataError(
            f"event={event!r} is neither a column of places ({', '.join(columns)}) nor a date YYYY-MM-DD."
            f"{nearest(event, columns)}"
        ) from error
    return np.full(n, day, dtype="datetime64[D]")


def _refuse_repeats(ids: np.ndarray, anchor: np.ndarray | None, key: str | None) -> None:
    rows = list(ids) if anchor is None else list(zip(ids.tolist(), anchor.astype(str).tolist()))
    repeated = [item for item, times in Counter(rows).items() if times > 1]
    if repeated:
        first = repeated[0] if anchor is None else repeated[0][0]
        raise DataError(
            f"embedding_key={key!r} repeats {len(repeated)} ids, for example {str(first)!r}: one id must name one "
            "place. "
            "Keep one row per place (many rows of a study may share it), or pass dates= if they tell the rows apart."
        )
