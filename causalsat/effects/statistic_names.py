"""What the statistic of each row is, told only where not all rows hold a t."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from causalsat.errors import DataError

if TYPE_CHECKING:
    from causalsat.effects.table import EffectTable

COLUMN = "statistic_name"
RATIO = "t"


def name_column(names: Sequence[str] | str | None, statistic: np.ndarray, given: bool) -> dict[str, np.ndarray]:
    """The column ``statistic_name`` (k,), empty text for a row without statistic; nothing when every row is a t.

    Raises
    ------
    DataError
        Names of another length, or a name other than "t" for statistics that the table computes itself.
    """
    if names is None:
        return {}
    k = statistic.shape[0]
    words = np.full(k, names) if isinstance(names, str) else np.asarray(names, dtype=np.str_)
    if words.shape != (k,):
        raise DataError(f"statistic_name has shape {words.shape}; the table needs {k} texts, one per row, or one text.")
    column = needed({COLUMN: np.where(np.isnan(statistic), "", words)})
    if column and not given:
        raise DataError(
            f"statistic_name={words[words != RATIO][0]!r}, but the table computes the statistic (estimate - null) / "
            'std_error, which is a "t"; pass statistic= as well.'
        )
    return column


def needed(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns without ``statistic_name`` where it would say "t" in every row."""
    if COLUMN in columns and np.isin(columns[COLUMN], (RATIO, "")).all():
        return {name: values for name, values in columns.items() if name != COLUMN}
    return columns


def names_of(table: "EffectTable") -> np.ndarray:
    """Name of each row's statistic, (k,) text; "" for a row without one where names are told."""
    return table.columns.get(COLUMN, np.full(len(table), RATIO))


def stacked(tables: "Sequence[EffectTable]") -> dict[str, np.ndarray]:
    """The column of stacked tables; nothing when every row is a t."""
    return needed({COLUMN: np.concatenate([names_of(table) for table in tables])})
