"""The table as data frames and flat files."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from causalsat.effects.table import EffectTable


def to_frame(table: "EffectTable") -> "pd.DataFrame":
    """The columns as a pandas data frame (text columns as Python text)."""
    import pandas as pd

    return pd.DataFrame({n: v.tolist() if v.dtype.kind == "U" else v.copy() for n, v in table.columns.items()})
