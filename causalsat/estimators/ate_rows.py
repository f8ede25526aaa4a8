"""The rows of an effect table as functions of the cells: effects, differences between sets, shrinkage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.estimators.ate_design import Cell
from causalsat.study.exposure import EFFECTS


@dataclass(frozen=True)
class Row:
    """One row: the estimate of a cell, or ``difference`` and ``shrinkage`` of a cell against its reference.

    The term of an estimate is ``effect``, or ``direct``, ``spillover`` or ``total`` for a cell with exposure.
    """

    term: str
    cell: int
    reference: int = -1


def table_rows(cells: Sequence[Cell], reference: str) -> tuple[Row, ...]:
    """Effects of all cells, then what each set changes against the reference set."""
    rows = [Row(cell.estimand if cell.estimand in EFFECTS else "effect", i) for i, cell in enumerate(cells)]
    for term in ("difference", "shrinkage"):
        for i, cell in enumerate(cells):
            j = _reference_cell(cells, cell, reference)
            if j is not None and j != i and _comes_after(cell, reference) and cell.estimand not in EFFECTS:
                rows.append(Row(term, i, j))
    return tuple(rows)


def _comes_after(cell: Cell, reference: str) -> bool:
    order = ("none", "tabular", "image", "both")
    return order.index(cell.adjust) > order.index(reference)


def _reference_cell(cells: Sequence[Cell], cell: Cell, reference: str) -> int | None:
    for j, other in enumerate(cells):
        same = other.treatment == cell.treatment and other.estimand == cell.estimand
        if same and other.adjust == reference and (reference == "none" or other.method == cell.method):
            return j
    return None


def derived_estimates(rows: Sequence[Row], theta: Any, stack: Any = np.stack) -> Any:
    """Estimates (k,) of the rows from the cells' estimates (c,); NumPy or JAX arrays alike.

    Shrinkage is ``s = 1 - theta_set / theta_ref``, difference is ``theta_ref - theta_set``.
    """
    values = []
    for row in rows:
        if row.reference < 0:
            values.append(theta[row.cell])
        elif row.term == "difference":
            values.append(theta[row.reference] - theta[row.cell])
        else:
            values.append(1.0 - theta[row.cell] / theta[row.reference])
    return stack(values)


def derived_influence(rows: Sequence[Row], theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Influence (n, k) of the rows from the cells' influence (n, c), by the delta rule."""
    columns = []
    for row in rows:
        own = phi[:, row.cell]
        if row.reference < 0:
            columns.append(own)
            continue
        other = phi[:, row.reference]
        if row.term == "difference":
            columns.append(other - own)
        else:
            base = theta[row.reference]
            columns.append(-own / base + theta[row.cell] * other / base**2)
    return np.stack(columns, axis=1)
