"""Any data frame, mapping of arrays or file as named columns, read once."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, nearest
from causalsat.study.columns import Column, column_of
from causalsat.study.coordinates import degrees_of

if TYPE_CHECKING:
    import pyarrow as pa

_VECTOR_FILES = (".gpkg", ".geojson", ".json", ".shp", ".fgb")
_ALLOWED = ".csv, .csv.gz, .parquet, .geoparquet, .gpkg, .geojson, .shp, .fgb"
_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Frame:
    """A table of n rows.

    Attributes
    ----------
    n : int
        Number of rows.
    names : tuple of str
        Column names, without geometries.
    series : mapping
        Each column as it came.
    lonlat : ndarray (n, 2) float64, optional
        Degrees WGS84 of the table's own geometry, NaN where a row has none; None for a table without geometry.
    """

    n: int
    names: tuple[str, ...]
    series: Mapping[str, Any]
    lonlat: np.ndarray | None = None
    _typed: dict[str, Column] = field(default_factory=dict, repr=False)

    def column(self, name: str, role: str) -> Column:
        """The column ``name`` with its missing values found (raises DataError naming ``role``)."""
        if name not in self.series:
            raise DataError(
                f"{role}={name!r} is not a column of the data; it has: "
                f"{_listed(self.names)}.{nearest(name, self.names)}"
            )
        if name not in self._typed:
            self._typed[name] = column_of(self.series[name], name)
        return self._typed[name]


def read_frame(data: Any) -> Frame:
    """Columns of a data frame, a mapping of arrays, or a file.

    Parameters
    ----------
    data : frame, mapping or path
        pandas, polars, pyarrow, GeoDataFrame or anything else narwhals reads eagerly; a mapping of name to array (n,);
        a path to CSV, Parquet, GeoParquet, GeoPackage or another vector file.

    Returns
    -------
    Frame

    Raises
    ------
    DataError
        Not a table, no rows, repeated column names, columns of different lengths, a geometry without coordinate
        system, a file that is absent or of an unknown kind.

    Examples
    --------
    >>> from causalsat.study.frame import read_frame
    >>> read_frame({"y": [1.0, 2.0], "w": [0, 1]}).names
    ('y', 'w')
    """
    table = _load(Path(data)) if isinstance(data, (str, Path)) else data
    if isinstance(table, Mapping):
        return _from_mapping(table)
    _refuse_repeated_names(table)
    lonlat = degrees_of(table)
    import narwhals as nw

    try:
        frame = nw.from_native(table, eager_only=True)
    except TypeError as error:
        raise DataError(
            f"data is a {type(table).__name__}; pass a data frame (pandas, polars, pyarrow, GeoDataFrame), a mapping "
            f"of column name to array, or the path of a file."
        ) from error
    columns = {str(name): frame[name] for name in frame.columns if not _is_geometry(table, name)}
    return _checked(len(frame), columns, lonlat)


def _checked(n: int, columns: Mapping[str, Any], lonlat: np.ndarray | None = None) -> Frame:
    if n == 0:
        raise DataError(
            f"data has no rows (columns: {_listed(tuple(columns))}); check the filter or the file it comes from."
        )
    return Frame(n, tuple(columns), columns, lonlat)


def _from_mapping(table: Mapping[Any, Any]) -> Frame:
    columns = {str(name): _array(name, values) for name, values in table.items()}
    lengths = Counter(len(values) for values in columns.values())
    if not columns:
        raise DataError("data is an empty mapping; give one array per column name.")
    if len(lengths) > 1:
        usual = lengths.most_common(1)[0][0]
        odd = next(name for name, values in columns.items() if len(values) != usual)
        raise DataError(
            f"data[{odd!r}] has {len(columns[odd])} values and other columns have {usual}; give one per row."
        )
    return _checked(next(iter(lengths)), columns)


def _array(name: Any, values: Any) -> np.ndarray:
    if isinstance(values, (list, tuple)) and any(value is None or isinstance(value, str) for value in values):
        # np.asarray would turn a list of numbers and texts into texts.
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"data[{name!r}] has shape {array.shape}; a column is one-dimensional, one value per row.")
    return array


def _refuse_repeated_names(table: Any) -> None:
    if hasattr(table, "collect"):
        raise DataError(f"data is a lazy {type(table).__name__}; call .collect() on it first and pass the result.")
    names = getattr(table, "column_names", None)
    if names is None:
        names = getattr(table, "columns", ())
    if names is None or callable(names):
        return
    if any(isinstance(name, tuple) for name in names):
        raise DataError(
            "data has columns of several levels; give each one name, for example "
            'data.columns = ["_".join(map(str, c)) for c in data.columns].'
        )
    repeated = [name for name, times in Counter(str(name) for name in names).items() if times > 1]
    if repeated:
        raise DataError(
            f"data has {len(repeated)} column names more than once, for example {repeated[0]!r}; rename or drop "
            "them, so that a role means one column."
        )


def _is_geometry(table: Any, name: Any) -> bool:
    return str(getattr(table[name], "dtype", "")) == "geometry"


def _load(path: Path) -> Any:
    if not path.is_file():
        raise DataError(
            f"data={str(path)!r} is not a file; check the path (relative paths start at the working folder)."
        )
    ending = path.suffix.lower() if path.suffix.lower() != ".gz" else "".join(path.suffixes[-2:]).lower()
    if ending in (".csv", ".csv.gz"):
        return _read_csv(path)
    if ending in (".parquet", ".geoparquet"):
        return _read_parquet(path)
    if ending in _VECTOR_FILES:
        import geopandas as gpd
        from pyogrio.errors import DataSourceError

        try:
            return gpd.read_file(path)
        except DataSourceError as error:
            raise DataError(f"data={str(path)!r} cannot be read ({error}); write it again as GeoPackage.") from error
    raise DataError(
        f"data={str(path)!r} ends in {ending!r}; allowed: {_ALLOWED}. Convert it, or pass the frame itself."
    )


def _read_csv(path: Path) -> "pa.Table":
    """Empty fields and unquoted NA are missing; a quoted "NA" is text, as R's write.csv means it."""
    import pyarrow as pa
    from pyarrow import csv

    # One block: types are inferred from the first block only, and a later float would not fit an integer column.
    block = min(max(path.stat().st_size + 1, 1 << 20) * (20 if path.suffix == ".gz" else 1), (1 << 31) - 1)
    missing = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    try:
        return csv.read_csv(path, read_options=csv.ReadOptions(block_size=block), convert_options=missing)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"data={str(path)!r} cannot be read as CSV ({error}); it needs commas and one header line."
        ) from error


def _read_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if b"geo" in (pq.read_schema(path).metadata or {}):
            import geopandas as gpd

            return gpd.read_parquet(path)
        return pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"data={str(path)!r} cannot be read as Parquet ({error}); write it again.") from error


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
