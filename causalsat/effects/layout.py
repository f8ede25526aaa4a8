"""What the renderers show: header, cells and notes, the same for text, Markdown, LaTeX and HTML."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from causalsat.effects.format import MISSING, decimals_for, show_number, show_p_value, show_percent
from causalsat.effects.statistic_names import COLUMN

if TYPE_CHECKING:
    import numpy as np

    from causalsat.effects.table import EffectTable

NAMES = {
    "estimate": "Estimate",
    "std_error": "Std. error",
    "statistic": "t",
    "p_value": "p",
    "statistic_name": "Test",
    "n_obs": "N",
    "p_adjusted": "adjusted p",
}
MIXED = "Statistic"


@dataclass(frozen=True)
class Display:
    """Text cells of a table: ``rows`` under ``header``; ``numeric`` marks right-aligned columns.

    ``constant`` holds the (name, value) pairs of index columns equal in all rows, shown under the table.
    """

    header: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    constant: list[tuple[str, str]]


def display(table: "EffectTable") -> Display:
    """Columns for reading: varying index columns, estimate, standard error, t, p, interval, N, band, adjusted p.

    Where not all statistics are a t, the column is headed "Statistic" and the next one names each row's.
    """
    from causalsat.effects.rows import show_value

    header: list[str] = []
    cells: list[list[str]] = []
    numeric: list[bool] = []
    constant: list[tuple[str, str]] = []
    for name in (*table.index_names, "term"):
        texts = ["–" if value != value else show_value(value) for value in table[name].tolist()]
        if len(table) > 1 and len(set(texts)) == 1:
            constant.append((name, texts[0]))
            continue
        header.append(name)
        cells.append(texts)
        numeric.append(table[name].dtype.kind in "if")
    for title, texts in _number_columns(table):
        header.append(title)
        cells.append(texts)
        numeric.append(title != NAMES[COLUMN])
    return Display(header, [list(row) for row in zip(*cells)], numeric, constant)


def _number_columns(table: "EffectTable") -> list[tuple[str, list[str]]]:
    decimals = decimals_for(table["std_error"], table["estimate"])
    columns = [
        (NAMES["estimate"], [show_number(v, decimals) for v in table["estimate"].tolist()]),
        (NAMES["std_error"], [show_number(v, decimals) for v in table["std_error"].tolist()]),
        *_statistics(table),
        (NAMES["p_value"], [show_p_value(v) for v in table["p_value"].tolist()]),
        (f"{show_percent(table.level)} interval", _pairs(table["conf_low"], table["conf_high"], decimals)),
    ]
    if "band_low" in table.columns:
        title = f"{show_percent(table.level)} band"
        columns.append((title, _pairs(table["band_low"], table["band_high"], decimals)))
    if "p_adjusted" in table.columns:
        columns.append((NAMES["p_adjusted"], [show_p_value(v) for v in table["p_adjusted"].tolist()]))
    return [*columns, (NAMES["n_obs"], [str(v) for v in table["n_obs"].tolist()])]


def _statistics(table: "EffectTable") -> list[tuple[str, list[str]]]:
    """The statistics, and beside them what each is where not all are a t."""
    texts = [show_number(v, 2) for v in table["statistic"].tolist()]
    if COLUMN not in table.columns:
        return [(NAMES["statistic"], texts)]
    return [(MIXED, texts), (NAMES[COLUMN], [name or MISSING for name in table[COLUMN].tolist()])]


def _pairs(low: "np.ndarray", high: "np.ndarray", decimals: int | None) -> list[str]:
    ends = [(show_number(a, decimals), show_number(b, decimals)) for a, b in zip(low.tolist(), high.tolist())]
    return [MISSING if MISSING in pair else f"[{pair[0]}, {pair[1]}]" for pair in ends]
