"""Finding, selecting and naming the rows of a table."""

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from causalsat.effects.build import freeze, index_column
from causalsat.effects.plain import is_missing, plain_column, plain_meta
from causalsat.effects.statistic_names import needed
from causalsat.effects.table import EffectTable
from causalsat.errors import DataError, OptionError


def row_labels(table: EffectTable) -> tuple[str, ...]:
    """One short unique label per row: the values of :func:`telling_columns`, joined by ":"."""
    texts = [[show_value(value) for value in table[name].tolist()] for name in telling_columns(table)]
    return tuple(":".join(parts) for parts in zip(*texts))


def telling_columns(table: EffectTable) -> tuple[str, ...]:
    """The fewest identity columns that tell all rows apart, the earlier ones first; the term when one row is all."""
    names = (*table.index_names, "term")
    shown = {name: [show_value(value) for value in table[name].tolist()] for name in names}
    varying = [name for name in names if len(set(shown[name])) > 1]
    for size in range(1, len(varying)):
        for chosen in itertools.combinations(varying, size):
            if len(set(zip(*(shown[name] for name in chosen)))) == len(table):
                return chosen
    return tuple(varying) or ("term",)


def show_value(value: object) -> str:
    """An index value as text; floats to twelve significant digits, so that 0.1 + 0.2 reads 0.3."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def matching_rows(table: EffectTable, index: Mapping[str, Any]) -> np.ndarray:
    """Positions of the rows whose columns hold the given value, or one of the given values."""
    keep = np.ones(len(table), dtype=bool)
    for name, wanted in index.items():
        values = wanted if isinstance(wanted, (list, tuple, set, np.ndarray)) else [wanted]
        column = table[name].tolist()
        keep &= np.array([any(_same(value, w) for w in values) for value in column], dtype=bool)
    if not keep.any():
        present = {name: sorted({show_value(v) for v in table[name].tolist()}) for name in index}
        raise DataError(f"No row has {dict(index)!r}; the table has {present}.")
    return np.flatnonzero(keep)


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) and isinstance(wanted, (int, float)):
        return math.isclose(value, wanted, rel_tol=1e-12) or (is_missing(value) and is_missing(wanted))
    return bool(value == wanted)


def one_row(table: EffectTable, index: Mapping[str, Any]) -> dict[str, Any]:
    """The only row that matches, as plain Python."""
    rows = matching_rows(table, index)
    if rows.size != 1:
        labels = [table.labels[i] for i in rows[:8]]
        raise OptionError(f"{dict(index)!r} matches {rows.size} rows ({', '.join(labels)}); name one of them.")
    return {name: plain_column(values[rows])[0] for name, values in table.columns.items()}


def take_rows(table: EffectTable, rows: ArrayLike) -> EffectTable:
    """The rows at these positions; a boolean mask is accepted too."""
    positions = np.asarray(rows)
    if positions.dtype == bool and positions.shape == (len(table),):
        positions = np.flatnonzero(positions)
    positions = np.atleast_1d(positions).astype(np.int64)
    if positions.size and (positions.min() < -len(table) or positions.max() >= len(table)):
        raise DataError(f"Row {int(positions.max())} was asked for; the table has rows 0 to {len(table) - 1}.")
    positions = positions % max(len(table), 1)
    columns = needed({name: values[positions] for name, values in table.columns.items()})
    meta = copied(table.meta)
    old = meta.pop("unavailable", {})
    meta["unavailable"] = {str(i): old[str(p)] for i, p in enumerate(positions.tolist()) if str(p) in old}
    return freeze(table.index_names, columns, meta, table.carried.take(positions))


def copied(meta: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of plain facts."""
    facts: dict[str, Any] = json.loads(json.dumps(meta))
    return facts


def add_meta(table: EffectTable, facts: Mapping[str, Any]) -> EffectTable:
    """A copy with further facts; those that the table computes itself are refused."""
    owned = sorted({"level", "interval", "unavailable", "supplied", "joint"} & set(facts))
    if owned:
        raise OptionError(f"meta {owned} is computed by the table; use interval() or joint() to change it.")
    return freeze(table.index_names, table.columns, copied(table.meta) | plain_meta(facts), table.carried)


def add_index(table: EffectTable, values: Mapping[str, Any]) -> EffectTable:
    """A copy with further index columns in front."""
    taken = sorted(set(values) & set(table.columns))
    if taken:
        raise DataError(f"The table has the columns {taken} already; choose other names.")
    k = len(table)
    scalars = {name: np.ndim(value) == 0 for name, value in values.items()}
    added = {n: index_column(n, [v] * k if scalars[n] else v, k) for n, v in values.items()}
    return freeze((*added, *table.index_names), added | table.columns, copied(table.meta), table.carried)
