"""The table as data frames, flat files and what peer packages ask for."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.effects.plain import plain_column
from causalsat.effects.statistic_names import RATIO, names_of
from causalsat.errors import DataError
from causalsat.files import whole_file

if TYPE_CHECKING:
    import pandas as pd

    from causalsat.effects.table import EffectTable

STAT_KEYS = ("N", "level", "n_boot", "n_clusters")


def to_frame(table: "EffectTable") -> "pd.DataFrame":
    """The columns as a pandas data frame (text columns as Python text)."""
    import pandas as pd

    return pd.DataFrame({n: v.tolist() if v.dtype.kind == "U" else v.copy() for n, v in table.columns.items()})


def to_csv(table: "EffectTable", path: str | Path) -> Path:
    """UTF-8 CSV with floats in their shortest exact form; NaN is an empty cell."""
    target = Path(path)
    lists = [[_cell(v) for v in plain_column(values)] for values in table.columns.values()]
    with whole_file(target) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(zip(*lists))
    return target


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else repr(value)
    return str(value)


def to_geoparquet(table: "EffectTable", path: str | Path) -> Path:
    """GeoParquet with one point (EPSG:4326) per row; a row without a place has no geometry."""
    import geopandas as gpd
    import pyarrow.parquet as pq

    if table.places is None:
        raise DataError("to_geoparquet() needs places: build the table with places=(k, 2) longitude and latitude.")
    known = np.isfinite(table.places).all(axis=1)
    points = gpd.points_from_xy(np.where(known, table.places[:, 0], 0.0), np.where(known, table.places[:, 1], 0.0))
    geometry = [point if there else None for point, there in zip(points, known)]
    frame = gpd.GeoDataFrame(to_frame(table), geometry=geometry, crs="EPSG:4326")
    target = Path(path)
    with whole_file(target) as temporary:
        frame.to_parquet(temporary, index=False)
        stored = pq.read_table(temporary)
        facts = {**(stored.schema.metadata or {}), b"causalsat": json.dumps({"meta": table.meta}).encode()}
        pq.write_table(stored.replace_schema_metadata(facts), temporary, compression="zstd")
    return target


def maketables_frame(table: "EffectTable") -> "pd.DataFrame":
    """Rows named by their labels with the columns b, se, t, p and the interval (``ci95l, ci95u`` at level 0.95).

    t is NaN where the statistic of a row is another one.
    """
    import pandas as pd

    level = f"{100.0 * table.level:g}"
    columns = {"b": "estimate", "se": "std_error", "t": "statistic", "p": "p_value"}
    columns |= {f"ci{level}l": "conf_low", f"ci{level}u": "conf_high"}
    index = pd.Index(list(table.labels), name="Coefficient")
    frame = pd.DataFrame({short: table[name].copy() for short, name in columns.items()}, index=index)
    frame["t"] = frame["t"].where(names_of(table) == RATIO)
    return frame


def maketables_stat(table: "EffectTable", key: str) -> Any:
    """A fact about the fit: "N" (when all rows share it), "se_type", or any plain entry of ``meta``; else None."""
    if key == "N":
        counts = set(table["n_obs"].tolist())
        return counts.pop() if len(counts) == 1 else None
    if key == "se_type":
        return std_error_kind(table)
    value = table.meta.get(key)
    return value if isinstance(value, (str, int, float)) else None


def std_error_kind(table: "EffectTable") -> str:
    """Where the standard errors come from: the resampling scheme, else the covariance, else the interval method."""
    told = (table.meta.get("resampling"), table.meta.get("covariance"), table.meta["interval"])
    return next(str(kind) for kind in told if kind not in (None, "", "none"))
