"""Embeddings in Parquet: one file, or the folder of an embedding job."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, UnfinishedJobError
from causalsat.files import whole_file
from causalsat.study.embeddings import Embeddings

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
_OPTIONAL = ("lonlat", "footprint", "footprint_crs", "chip_sha256", "image_date")
_OF_THE_PART = ("feature_names", "fields", "shard", "n_rows", "schema_version")
_BOX = ("minx", "miny", "maxx", "maxy")
# A wrong path is ignored by pyarrow without a word: a test reads the encoding back.
_ENCODED_PATH = "embedding.list.element"


def write_embeddings(embeddings: Embeddings, path: Path) -> None:
    """Write one Parquet file in the row layout of an embedding job; equal embeddings give equal bytes."""
    import pyarrow.parquet as pq

    about = {
        "schema_version": SCHEMA_VERSION,
        "feature_names": list(embeddings.feature_names),
        "fields": [name for name in _OPTIONAL if getattr(embeddings, name) is not None],
        "provenance": embeddings.provenance,
    }
    table = _table(embeddings).replace_schema_metadata(
        {"causalsat": json.dumps(about, sort_keys=True), "geo": json.dumps(_geo(), sort_keys=True)}
    )
    with whole_file(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            use_dictionary=["source_id", "status", "chip_crs"],
            use_byte_stream_split=[_ENCODED_PATH],
        )


def read_embeddings(path: Path, *, partial: bool) -> Embeddings:
    """Embeddings from a Parquet file or a job folder, rows sorted by ``row``."""
    if path.is_dir():
        return _join([_read_part(part) for part in _parts(path, partial=partial)], path)
    if not path.is_file():
        raise DataError(f"embeddings={str(path)!r} is neither a Parquet file nor the folder of an embedding job.")
    return _join([_read_part(path)], path)


def _parts(folder: Path, *, partial: bool) -> list[Path]:
    found = sorted((folder / "parts").glob("part-*.parquet"))
    if not (folder / "job.json").is_file() and not found:
        raise DataError(f"embeddings={str(folder)!r} is not the folder of an embedding job: it has no job.json.")
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        if not partial:
            raise UnfinishedJobError(
                f"embeddings={str(folder)!r} is not finished: {len(found)} parts are done and manifest.json is not "
                "written yet. Run the same embed call again to resume it, or read what is there with "
                "Embeddings.read(path, partial=True)."
            )
        if not found:
            raise UnfinishedJobError(f"embeddings={str(folder)!r} has no finished part yet; run embed again to resume.")
        return found
    named = [folder / "parts" / part["name"] for part in json.loads(manifest.read_text())["parts"]]
    lost = [part.name for part in named if not part.is_file()]
    if lost:
        raise DataError(
            f"embeddings={str(folder)!r} lacks {len(lost)} of {len(named)} parts listed in its manifest, for example "
            f"{lost[0]}; run the same embed call again to make them anew."
        )
    return named


def _read_part(path: Path) -> "tuple[pa.Table, dict[str, Any]]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}); write it again.") from error
    metadata = table.schema.metadata or {}
    absent = [name for name in ("unit_id", "row", "embedding", "status") if name not in table.column_names]
    if b"causalsat" not in metadata or absent:
        raise DataError(
            f"{path} is Parquet but holds no embeddings of causalsat (columns: {', '.join(table.column_names[:12])}). "
            "Read its columns into a matrix and call Embeddings.from_matrix(matrix, ids=...)."
        )
    return table, json.loads(metadata[b"causalsat"])


def _join(parts: "list[tuple[pa.Table, dict[str, Any]]]", path: Path) -> Embeddings:
    names = {tuple(about["feature_names"]) for _, about in parts}
    if len(names) != 1:
        raise DataError(f"{path} holds parts with different features; they come from different jobs.")
    feature_names = names.pop()
    counts = [table.num_rows for table, _ in parts]
    matrix = np.empty((sum(counts), len(feature_names)), np.float32)
    start = 0
    for table, _ in parts:
        _fill(matrix[start : start + table.num_rows], table)
        start += table.num_rows
    columns = _columns([table for table, _ in parts])
    order = np.argsort(columns.pop("row"), kind="stable")
    about = parts[0][1]
    kept = set(about.get("fields", _OPTIONAL))
    provenance = about.get("provenance", {k: v for k, v in about.items() if k not in _OF_THE_PART})
    sorted_already = np.array_equal(order, np.arange(len(order)))
    return Embeddings(
        matrix=matrix if sorted_already else matrix[order],
        feature_names=feature_names,
        provenance=provenance,
        **{name: column[order] for name, column in columns.items() if name not in _OPTIONAL or name in kept},
    )


def _fill(matrix: np.ndarray, table: "pa.Table") -> None:
    """Copy the vectors of a part into its rows (m, d) of the whole matrix, chunk by chunk."""
    start = 0
    for chunk in table["embedding"].chunks:
        # Not .to_numpy on the list array: one object per row.
        matrix[start : start + len(chunk)] = chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1)
        start += len(chunk)


def _columns(tables: "list[pa.Table]") -> dict[str, np.ndarray]:
    import pyarrow as pa
    import shapely

    light = pa.concat_tables(
        [_plain(t.drop_columns(["embedding"]).replace_schema_metadata(None)) for t in tables], promote_options="default"
    )

    def column(name: str) -> Any:
        return light[name].to_pylist() if pa.types.is_string(light[name].type) else light[name].to_numpy()

    points = shapely.from_wkb(light["geometry"].to_numpy())
    absent = shapely.is_missing(points)
    lonlat = np.where(absent[:, None], np.nan, np.column_stack([shapely.get_x(points), shapely.get_y(points)]))
    return {
        "row": column("row"),
        "ids": np.array(column("unit_id"), dtype=str),
        "status": np.array(column("status"), dtype=str),
        "valid_frac": column("valid_frac").astype(np.float32),
        "lonlat": lonlat,
        "footprint": np.column_stack([column(name) for name in _BOX]).astype(np.float64),
        "footprint_crs": np.array([text or "" for text in column("chip_crs")], dtype=str),
        "chip_sha256": np.array([text or "" for text in column("chip_sha256")], dtype=str),
        "image_date": column("date").astype("datetime64[D]"),
    }


def _plain(table: "pa.Table") -> "pa.Table":
    """Dictionaries as text, so that parts with different levels join."""
    import pyarrow as pa

    fields = [
        pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type, f.nullable)
        for f in table.schema
    ]
    return table.cast(pa.schema(fields))


def _table(embeddings: Embeddings) -> "pa.Table":
    import pyarrow as pa

    n = len(embeddings)
    unknown, blank = np.full(n, np.nan, np.float32), np.full(n, "")
    flat = pa.array(np.ascontiguousarray(embeddings.matrix).reshape(-1), from_pandas=False)
    dates = np.full(n, "NaT", "datetime64[D]") if embeddings.image_date is None else embeddings.image_date
    box = np.full((n, 4), np.nan) if embeddings.footprint is None else embeddings.footprint
    hashes = blank if embeddings.chip_sha256 is None else embeddings.chip_sha256
    columns = {
        "unit_id": pa.array(embeddings.ids.tolist(), pa.string()),
        "row": pa.array(np.arange(n, dtype=np.int64)),
        "date": pa.array(dates.astype("datetime64[us]"), pa.timestamp("us")),
        "draw": pa.array(np.zeros(n, np.int16)),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, embeddings.d),
        "valid_frac": pa.array(embeddings.valid_frac),
        "masked_frac": pa.array(unknown),
        "n_frames": pa.array(np.zeros(n, np.int16)),
        "centre_offset_m": pa.array(unknown),
        "native_gsd_m": pa.array(unknown),
        "warped": pa.array(np.zeros(n, bool)),
        "source_id": _dictionary(blank),
        "n_sources": pa.array(np.zeros(n, np.int16)),
        "status": _dictionary(embeddings.status),
        "chip_sha256": pa.array(hashes.tolist(), pa.string()),
        **{name: pa.array(np.ascontiguousarray(box[:, i])) for i, name in enumerate(_BOX)},
        "chip_crs": _dictionary(blank if embeddings.footprint_crs is None else embeddings.footprint_crs),
        "geometry": pa.array(_points(embeddings), pa.binary()),
    }
    return pa.table(columns)


def _dictionary(values: np.ndarray) -> "pa.DictionaryArray":
    import pyarrow as pa

    levels, codes = np.unique(values, return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(levels.tolist(), pa.string()))


def _points(embeddings: Embeddings) -> list[bytes | None]:
    import shapely

    if embeddings.lonlat is None:
        return [None] * len(embeddings)
    known = np.isfinite(embeddings.lonlat).all(axis=1)
    packed = shapely.to_wkb(shapely.points(np.where(known[:, None], embeddings.lonlat, 0.0)), byte_order=1)
    return [point if ok else None for point, ok in zip(packed.tolist(), known.tolist())]


def _geo() -> dict[str, Any]:
    from pyproj import CRS

    column = {"encoding": "WKB", "geometry_types": ["Point"], "crs": CRS.from_epsg(4326).to_json_dict()}
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
