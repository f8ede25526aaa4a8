"""Unit-level columns that functionals of `r3d` need beside the quantiles of the grid."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.estimators.r3d_functional_names import POSITIVE, Functional
from causalsat.study.distributions import QuantileMatrix
from causalsat.study.unit_cells import UnitCells, cell_means, matrix_cell_means

CELLS = np.arange(201) / 200.0
MIDPOINTS = (np.arange(200) + 0.5) / 200.0
_SHARES = ("lorenz", "share_top", "share_bottom")


@dataclass(frozen=True, eq=False)
class FunctionalColumns:
    """Columns to be fitted with the quantiles (``extra`` of `fit_curves`), and which functional reads which.

    Attributes
    ----------
    values : np.ndarray
        (n, k) finite columns; a unit without a value has 0 there and stands in ``undefined``.
    linear : dict of str to int
        Name of a linear or unit-level functional -> its column.
    curve : int or None
        First of the 200 columns that hold the means of the quantile functions over the cells [(k - 1)/200, k/200].
    beside : dict of str to int
        Name of a functional of the average distributions -> the column it needs besides: mean square of a unit's
        quantile function around its cell means (variance and sd), or the integral over a part of a cell (shares at
        levels between two cells).
    undefined : dict of str to np.ndarray
        Name -> (n,) bool, units that rule the functional out when they are in the window.
    why : dict of str to str
        Name -> what ails those units.
    notes : tuple of str
        What a reader should know about the columns.
    """

    values: np.ndarray
    linear: dict[str, int]
    curve: int | None
    beside: dict[str, int] = field(default_factory=dict)
    undefined: dict[str, np.ndarray] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def functional_columns(functionals: Sequence[Functional], design: Any) -> FunctionalColumns:
    """Columns for ``functionals``, one row per unit.

    Means are exact. "unit:" functionals are those of each unit's own draws (weights and counts included). Levels of
    iqr and range are quantiles by the design's rule. Functionals of the average distributions read the means of each
    unit's draws over 200 cells of (0, 1), which no rule of interpolation enters and whose mean is the unit's mean;
    small_sample="half" corrects them like quantiles. Where quantiles were given instead of draws, everything comes
    from them: linear between their levels, flat beyond the outermost ones, integrated exactly.

    Parameters
    ----------
    functionals : sequence of Functional
        From `parsed_functionals`.
    design : R3dDesign
        n units; ``at_levels``, ``unit_column``, ``means``, ``draws``, ``matrix`` and ``quantiles`` are read.
    """
    parts: list[np.ndarray] = []
    known: dict[tuple[Any, ...], int] = {}
    linear: dict[str, int] = {}
    for f in functionals:
        if not f.linear:
            continue
        key = (f.kind, f.arguments)
        if key not in known:
            known[key] = len(parts)
            parts.append(_column(f, design))
        linear[f.name] = known[key]
    undefined, why = _undefined(functionals, design, {f.name: parts[linear[f.name]] for f in functionals if f.unit})
    start: int | None = None
    beside: dict[str, int] = {}
    curved = [f for f in functionals if f.needs_curve]
    if curved:
        start = len(parts)
        columns, beside = _curve_columns(curved, design)
        beside = {name: start + k for name, k in beside.items()}
        parts += list(columns.T)
    values = np.column_stack(parts) if parts else np.zeros((len(design.means), 0))
    values = np.where(np.isfinite(values), values, 0.0)
    return FunctionalColumns(values, linear, start, beside, undefined, why, _notes(functionals, design))


def _column(f: Functional, design: Any) -> np.ndarray:
    """(n,) column of a unit-level or linear functional; iqr and range by the design's own quantiles."""
    if f.kind in ("iqr", "range"):
        ends = design.at_levels(np.array(levels_of(f)))
        return np.asarray(ends[:, 1] - ends[:, 0])
    return np.asarray(design.unit_column(f.kind, *f.arguments), dtype=np.float64)


def _curve_columns(functionals: Sequence[Functional], design: Any) -> tuple[np.ndarray, dict[str, int]]:
    """The 200 cell means (n, 200 + k), and the columns that functionals need besides, by position."""
    between = {f.name: p for f in functionals if (p := level_between(f)) is not None}
    edges = np.union1d(CELLS, list(between.values()))
    fine = _unit_cells(design, edges)
    coarse = fine.merged(edges, CELLS)
    parts, beside = [coarse.means], {}
    spread = [f.name for f in functionals if f.kind in ("variance", "sd")]
    if spread:
        beside = dict.fromkeys(spread, CELLS.size - 1)
        parts.append(coarse.within(np.diff(CELLS))[:, None])
    for name, p in between.items():
        beside[name] = sum(part.shape[1] for part in parts)
        taken = (edges[:-1] >= CELLS[int(np.floor(p * MIDPOINTS.size))]) & (edges[1:] <= p)
        parts.append((fine.means[:, taken] @ np.diff(edges)[taken])[:, None])
    return np.concatenate(parts, axis=1), beside


def _unit_cells(design: Any, edges: np.ndarray) -> UnitCells:
    if design.draws is not None:
        return cell_means(design.draws, edges, small_sample=design.small_sample)
    given = design.matrix
    return matrix_cell_means(QuantileMatrix(design.Q, design.quantiles) if given is None else given, edges)


def lorenz_level(f: Functional) -> float:
    """Level up to which "lorenz", "share_bottom" and "share_top" integrate."""
    return 1.0 - f.arguments[0] if f.kind == "share_top" else f.arguments[0]


def level_between(f: Functional) -> float | None:
    """That level where it falls inside a cell, else None."""
    if f.kind not in _SHARES:
        return None
    at = lorenz_level(f) * MIDPOINTS.size
    return None if abs(at - round(at)) < 1e-9 else lorenz_level(f)


def levels_of(f: Functional) -> tuple[float, float]:
    """Levels of "iqr" and "range(a,b)"."""
    return (0.25, 0.75) if f.kind == "iqr" else (f.arguments[0], f.arguments[1])


def _undefined(
    functionals: Sequence[Functional], design: Any, own: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Units that rule out Gini, Lorenz and shares: negative draws, and for unit-level ones a mean of zero as well."""
    undefined: dict[str, np.ndarray] = {}
    why: dict[str, str] = {}
    bare = [f.name for f in functionals if f.kind in POSITIVE and not f.unit]
    if bare:
        negative = least_draws(design) < 0.0
        undefined |= dict.fromkeys(bare, negative)
        why |= dict.fromkeys(bare, "a negative draw")
    for f in functionals:
        if f.kind in POSITIVE and f.unit:
            undefined[f.name] = ~np.isfinite(own[f.name])
            why[f.name] = "a negative draw or a mean of zero"
    return undefined, why


def least_draws(design: Any) -> np.ndarray:
    """(n,) smallest draw of each unit; its lowest quantile where quantiles were given."""
    if design.draws is None:
        return np.asarray(design.Q[:, 0] if design.matrix is None else design.matrix.values[:, 0])
    found = np.full(len(design.means), np.nan)
    for block in design.draws.blocks():
        found[block.rows] = np.where(block.shares() > 0.0, block.finite(), np.inf).min(axis=1)
    return found


def _notes(functionals: Sequence[Functional], design: Any) -> tuple[str, ...]:
    spread = [f.name for f in functionals if f.kind not in ("mean", "iqr", "range")]
    if design.draws is not None or not spread:
        return ()
    levels = design.quantiles if design.matrix is None else design.matrix.quantiles
    return (
        f"{', '.join(spread)}: read from quantile functions given on [{levels[0]:.4g}, {levels[-1]:.4g}] and held "
        "flat beyond: the tails are not seen, and spread and inequality come out too small where they are long; pass "
        "the draws.",
    )
