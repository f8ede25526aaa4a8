"""The rows of one shard, and their Parquet bytes."""

import hashlib
import io
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
_ENCODED_PATH = "embedding.list.element"
_TEXT = ("unit_id", "source_id", "status", "chip_sha256", "chip_crs")
_NUMBERS = (
    "row",
    "valid_frac",
    "masked_frac",
    "n_frames",
    "centre_offset_m",
    "native_gsd_m",
    "warped",
    "n_sources",
)
_BOUNDS = ("minx", "miny", "maxx", "maxy")


@dataclass(frozen=True)
class ShardRows:
    """One row per place of a shard, in input order."""

    unit_id: np.ndarray
    row: np.ndarray
    date: np.ndarray
    """(m,) datetime64[D] of the imagery, NaT unknown."""
    embedding: np.ndarray
    """(m, d) float32; NaN where there is none."""
    valid_frac: np.ndarray
    masked_frac: np.ndarray
    n_frames: np.ndarray
    centre_offset_m: np.ndarray
    native_gsd_m: np.ndarray
    warped: np.ndarray
    source_id: np.ndarray
    n_sources: np.ndarray
    status: np.ndarray
    chip_sha256: np.ndarray
    bounds: np.ndarray
    """(m, 4) float64 minx, miny, maxx, maxy in ``chip_crs``."""
    chip_crs: np.ndarray
    lonlat: np.ndarray
    """(m, 2) float64 degrees; NaN for a bad place."""

    def __len__(self) -> int:
        return len(self.row)

    def ordered(self) -> "ShardRows":
        """The same rows by increasing place number."""
        order = np.argsort(self.row, kind="stable")
        return ShardRows(**{name: getattr(self, name)[order] for name in self.__dataclass_fields__})

    @staticmethod
    def concat(shards: Sequence["ShardRows"]) -> "ShardRows":
        """All rows of several shards."""
        names = ShardRows.__dataclass_fields__
        return ShardRows(**{name: np.concatenate([getattr(s, name) for s in shards]) for name in names})


def part_bytes(rows: ShardRows, metadata: dict[str, Any]) -> bytes:
    """The Parquet file of one shard; equal rows and metadata give equal bytes.

    The vectors are a fixed-size list of float32 with byte-stream-split encoding, zstd throughout, WKB points in
    EPSG:4326 under the GeoParquet key, provenance as JSON under the key ``causalsat``.
    """
    import pyarrow.parquet as pq

    table = _table(rows).replace_schema_metadata(
        {"geo": json.dumps(_geo(), sort_keys=True), "causalsat": json.dumps(metadata, sort_keys=True)}
    )
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=["source_id", "status", "chip_crs"],
        use_byte_stream_split=[_ENCODED_PATH],
    )
    return sink.getvalue()


def part_metadata(path: Path) -> tuple[dict[str, Any], int] | None:
    """Provenance and number of rows of a part, or None where the file is not a whole part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
        return json.loads((footer.metadata or {})[b"causalsat"]), int(footer.num_rows)
    except (pa.ArrowInvalid, OSError, KeyError, ValueError):
        return None


def part_rows(path: Path) -> ShardRows:
    """Read one part back, as it was written."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, memory_map=False)
    get = {name: table.column(name).combine_chunks() for name in table.column_names}
    text = {name: np.array(get[name].to_pylist(), dtype=np.str_) for name in _TEXT}
    number = {name: get[name].to_numpy(zero_copy_only=False) for name in _NUMBERS}
    return ShardRows(
        **{name: values if len(values) else values.astype("<U1") for name, values in text.items()},
        **number,
        date=get["date"].to_numpy(zero_copy_only=False).astype("datetime64[D]"),
        # flatten() would drop null vectors and shift rows; there are none, a missing vector is NaN.
        embedding=get["embedding"].flatten().to_numpy().reshape(len(table), -1).copy(),
        bounds=np.column_stack([get[name].to_numpy() for name in _BOUNDS]),
        lonlat=np.array([_lonlat(point) for point in get["geometry"].to_pylist()], dtype=np.float64).reshape(-1, 2),
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _table(rows: ShardRows) -> "pa.Table":
    import pyarrow as pa

    width = rows.embedding.shape[1]
    flat = pa.array(np.ascontiguousarray(rows.embedding, np.float32).reshape(-1), from_pandas=False)
    columns = {
        "unit_id": pa.array(rows.unit_id.astype(str).tolist(), pa.string()),
        "row": pa.array(rows.row.astype(np.int64)),
        "date": pa.array(rows.date.astype("datetime64[us]"), pa.timestamp("us")),
        "draw": pa.array(np.zeros(len(rows), np.int16)),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, width),
        "valid_frac": pa.array(rows.valid_frac.astype(np.float32)),
        "masked_frac": pa.array(rows.masked_frac.astype(np.float32)),
        "n_frames": pa.array(rows.n_frames.astype(np.int16)),
        "centre_offset_m": pa.array(rows.centre_offset_m.astype(np.float32)),
        "native_gsd_m": pa.array(rows.native_gsd_m.astype(np.float32)),
        "warped": pa.array(rows.warped.astype(bool)),
        "source_id": _dictionary(rows.source_id),
        "n_sources": pa.array(rows.n_sources.astype(np.int16)),
        "status": _dictionary(rows.status),
        "chip_sha256": pa.array(rows.chip_sha256.astype(str).tolist(), pa.string()),
        **{name: pa.array(rows.bounds[:, i].astype(np.float64)) for i, name in enumerate(_BOUNDS)},
        "chip_crs": _dictionary(rows.chip_crs),
        "geometry": pa.array(_points(rows.lonlat), pa.binary()),
    }
    return pa.table(columns)


def _dictionary(values: np.ndarray) -> "pa.DictionaryArray":
    import pyarrow as pa

    levels, codes = np.unique(values.astype(str), return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(levels.tolist(), pa.string()))


def _points(lonlat: np.ndarray) -> list[bytes | None]:
    """Little-endian WKB points; None where a coordinate is missing."""
    return [struct.pack("<BIdd", 1, 1, x, y) if np.isfinite(x) and np.isfinite(y) else None for x, y in lonlat]


def _lonlat(point: bytes | None) -> tuple[float, float]:
    return (float("nan"), float("nan")) if point is None else struct.unpack("<dd", point[5:])


def _geo() -> dict[str, Any]:
    from pyproj import CRS

    column = {"encoding": "WKB", "geometry_types": ["Point"], "crs": CRS.from_epsg(4326).to_json_dict()}
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
