"""Writing a table and reading it back, bit for bit."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.effects.build import freeze
from causalsat.effects.carried import Carried
from causalsat.effects.table import EffectTable
from causalsat.errors import DataError, OptionError
from causalsat.files import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT, VERSION, KEY = "causalsat.EffectTable", 1, b"causalsat"
_VECTORS = ("df", "null", "acceleration")
_LISTS = ("covariance", "places", "draws", "influence", "draw_std_error")
_ACROSS = ("draws", "influence", "draw_std_error")


def write(table: EffectTable, path: str | Path) -> Path:
    """Write ``path`` (Parquet, the whole table) and, beside it, the same name with ``.json`` (to read by eye).

    Every file appears whole or not at all. One Parquet row per effect; draws, influence values and covariance are
    list columns whose names start with an underscore; ``meta`` is JSON in the file's metadata under ``causalsat``.
    """
    import pyarrow.parquet as pq

    target = Path(path)
    if target.suffix != ".parquet":
        raise OptionError(f"path={str(path)!r} must end in .parquet; the JSON file takes the same name beside it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as temporary:
        pq.write_table(_arrow(table), temporary, compression="zstd")
    facts = {"format": FORMAT, "version": VERSION, "meta": table.meta, "columns": table.to_dict()}
    with whole_file(target.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(_strict(facts), indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    return target


def _arrow(table: EffectTable) -> "pa.Table":
    import pyarrow as pa

    arrays = {name: pa.array(v.tolist(), pa.string()) if v.dtype.kind == "U" else pa.array(v)
              for name, v in table.columns.items()}  # fmt: skip
    for name in _VECTORS:
        values = getattr(table.carried, name)
        if values is not None:
            arrays[f"_{name}"] = pa.array(values)
    for name in _LISTS:
        values = getattr(table.carried, name)
        if values is not None:
            by_row = np.ascontiguousarray(values.T if name in _ACROSS else values)
            flat = pa.array(by_row.reshape(-1))
            arrays[f"_{name}"] = pa.FixedSizeListArray.from_arrays(flat, by_row.shape[1])
    told = {"format": FORMAT, "version": VERSION, "index_names": list(table.index_names), "meta": table.meta}
    return pa.table(arrays).replace_schema_metadata({KEY: json.dumps(told).encode()})


def read(path: str | Path) -> EffectTable:
    """Read a table written by :func:`write`; every float comes back bit for bit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        stored = pq.read_table(Path(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}); it must be a file that EffectTable.write made.") \
            from error  # fmt: skip
    told = json.loads((stored.schema.metadata or {}).get(KEY, b"{}"))
    if told.get("format") != FORMAT:
        raise DataError(f"{path} is a Parquet file, but no effect table; read tables that EffectTable.write made.")
    if told["version"] > VERSION:
        raise DataError(
            f"{path} was written by a newer causalsat (format {told['version']}); this one knows {VERSION}."
        )
    columns = {name: _numpy(stored.column(name)) for name in stored.column_names if not name.startswith("_")}
    carried = Carried(**{name: _carried(stored, name) for name in (*_VECTORS, *_LISTS)})  # type: ignore[arg-type]
    return freeze(tuple(told["index_names"]), columns, told["meta"], carried)


def _numpy(column: "pa.ChunkedArray") -> np.ndarray:
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=np.str_)
    return np.asarray(column.combine_chunks().to_numpy(zero_copy_only=False))


def _carried(stored: "pa.Table", name: str) -> np.ndarray | None:
    if f"_{name}" not in stored.column_names:
        return None
    column = stored.column(f"_{name}").combine_chunks()
    if name in _VECTORS:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    by_row = np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), column.type.list_size)
    return by_row.T if name in _ACROSS else by_row


def _strict(value: Any) -> Any:
    """JSON without NaN: null for NaN, text for infinity."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def same_table(left: EffectTable, right: EffectTable) -> bool:
    """Equal columns (names, order, kinds, values; NaN equals NaN), facts and travelling arrays."""
    if left.index_names != right.index_names or list(left.columns) != list(right.columns):
        return False
    if json.dumps(left.meta, sort_keys=True) != json.dumps(right.meta, sort_keys=True):
        return False
    pairs = [(left.columns[name], right.columns[name]) for name in left.columns]
    pairs += [(getattr(left.carried, name), getattr(right.carried, name)) for name in (*_VECTORS, *_LISTS)]
    return all(_same_array(a, b) for a, b in pairs)


def _same_array(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype.kind == b.dtype.kind and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
