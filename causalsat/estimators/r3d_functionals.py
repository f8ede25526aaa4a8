"""Discontinuities of functionals of a distribution, from the draws of both average quantile functions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import DataError
from causalsat.estimators.r3d_bands import shortfall
from causalsat.estimators.r3d_curve_functionals import curve_functional
from causalsat.estimators.r3d_fit import R3dFit, monotone
from causalsat.estimators.r3d_functional_columns import MIDPOINTS, FunctionalColumns, levels_of
from causalsat.estimators.r3d_functional_names import POSITIVE, Functional
from causalsat.inference.intervals import MAX_FAILED

_EXACT = 1e-12
_NOT_PER_UNIT = "difference of the two averages, not per unit of treatment"
_W2_REASON = "W2 is bounded at zero and not normal there: read its interval and its test"


@dataclass(frozen=True, eq=False)
class SideDraws:
    """Centred draws of the limits of K columns on both sides of the cutoff, and what is known of their effects.

    Attributes
    ----------
    sides : callable
        Returns the (B, K) draws of the limits right and left, centred at zero, quantiles of the grid first as in the
        fit; called only when a functional of the average distributions needs them.
    effect : np.ndarray
        (B, K) centred draws of the columns' effects: per unit of treatment in a fuzzy design.
    std_error, df : np.ndarray
        (K,) standard errors of the effects and their degrees of freedom (inf: the normal law).
    factors : np.ndarray
        (B, 1) or (B, K), sqrt(df / chi-squared) by which draws are multiplied.
    lacking : float
        What the draws' spread must be multiplied by (Bayesian weights; it is part of the factors).
    """

    sides: Callable[[], tuple[np.ndarray, np.ndarray]]
    effect: np.ndarray
    std_error: np.ndarray
    df: np.ndarray
    factors: np.ndarray
    lacking: float = 1.0

    def factor(self, k: int) -> np.ndarray:
        """(B,) factors of column k."""
        return np.asarray(self.factors[:, 0 if self.factors.shape[1] == 1 else k])


def side_draws(inference: Any) -> SideDraws:
    """The draws of an `R3dInference`, quantiles and further columns side by side."""
    both = (inference.curve, inference.extra)
    factors = inference.curve.factors
    if any(part.factors.shape[1] > 1 for part in both):
        factors = np.concatenate([np.broadcast_to(part.factors, part.draws.shape) for part in both], axis=1)
    df = np.concatenate([part.df for part in both])
    bayes = inference.choices.bootstrap.scheme == "bayes"
    return SideDraws(
        sides=inference.side_draws,
        effect=np.concatenate([part.draws for part in both], axis=1),
        std_error=np.concatenate([part.se for part in both]),
        df=np.full(df.size, np.inf) if inference.choices.critical == "normal" else df,
        factors=factors,
        lacking=float(np.median(shortfall(inference.curve.draws, inference.curve.se))) if bayes else 1.0,
    )


@dataclass(frozen=True, eq=False)
class FunctionalRow:
    """Effect on one functional.

    Attributes
    ----------
    name : str
        "gini", "unit:exceed(30)", ...
    estimate, std_error, conf_low, conf_high, p_value : float
        NaN where they do not exist; ``reason`` says why.
    above, below : float
        The functional right and left of the cutoff (NaN for w2).
    reason : str
        Why numbers are missing, or "".
    note : str
        What the row measures, where its name does not say it.
    draws : np.ndarray
        (B,) draws around the estimate (empty where there are none).
    """

    name: str
    estimate: float = math.nan
    std_error: float = math.nan
    conf_low: float = math.nan
    conf_high: float = math.nan
    p_value: float = math.nan
    above: float = math.nan
    below: float = math.nan
    reason: str = ""
    note: str = ""
    draws: np.ndarray = field(default_factory=lambda: np.zeros(0))


def functional_rows(
    functionals: Sequence[Functional],
    columns: FunctionalColumns,
    fit: R3dFit,
    draws: SideDraws,
    *,
    quantiles: np.ndarray,
    level: float = 0.95,
) -> list[FunctionalRow]:
    """Effects on functionals, in the order asked for.

    Linear and unit-level functionals are local polynomials of a unit-level column: standard error and t interval as
    for a quantile. A functional F of the average distributions has estimate F(m+) - F(m-), with m the monotone curves
    of cell means over [(k - 1)/200, k/200], and draws F(m+ + nu+) - F(m- + nu-); the test and the symmetric interval
    use the draws less the estimate (recentred), times the t factor, and the standard error is their standard
    deviation. W2 = (int tau^2)^1/2, of the cell means alone (without the spread within cells, so a little short where
    the top cell is wide), has no standard error: its test compares int tau^2 with int G^2, and
    [max(0, W2 - c), W2 + c] with c the quantile of (int G^2)^1/2 covers by the triangle inequality, at zero and away
    from it.

    Averages of quantile functions of draws depend on how many draws units have: few draws reach less far into a tail.
    Where the two sides differ in that, so do these functionals and W2, without any effect: of lognormal(0, 1) units
    the variance of the average is 3.89 with 100 draws, 3.98 with 130 (4.03 as measured here, for chance within cells
    counts as spread) and 4.67 with very many. Many units see such differences; more draws lessen them.

    In a fuzzy design linear functionals, unit-level ones and w2 are per unit of treatment; the others are the
    difference of the two average distributions (the effect of being on the treated side).

    Parameters
    ----------
    functionals : sequence of Functional
        From `parsed_functionals`.
    columns : FunctionalColumns
        Whose ``values`` were the ``extra`` columns of ``fit``.
    fit : R3dFit
        Curves.
    draws : SideDraws
        Draws of all columns of ``fit``.
    quantiles : np.ndarray
        (M,) levels of the grid.
    level : float
        Of the intervals.
    """
    context = _Context(columns, fit, draws, np.asarray(quantiles), level)
    rows = []
    for f in functionals:
        reason = context.undefined(f)
        if reason:
            rows.append(FunctionalRow(f.name, reason=reason))
        elif f.linear:
            rows.append(_linear_row(f, context))
        elif f.kind == "w2":
            rows.append(_w2_row(f, context))
        else:
            rows.append(_curve_row(f, context))
    return rows


def functional_findings(rows: Sequence[FunctionalRow], columns: FunctionalColumns) -> list[str]:
    """What must be read beside the rows: scales that differ in a fuzzy design, and tails that were not seen."""
    whole = [row.name for row in rows if row.note == _NOT_PER_UNIT]
    found = list(columns.notes)
    if whole:
        found.append(
            f"{', '.join(whole)}: difference of the two average distributions at the cutoff, not per unit of treatment "
            '(a nonlinear functional of an average has no such ratio); the other rows, "unit:" ones included, are per '
            "unit of treatment and not to be compared with it"
        )
    return found


@dataclass(eq=False)
class _Context:
    """What all rows of a call share."""

    columns: FunctionalColumns
    fit: R3dFit
    draws: SideDraws
    quantiles: np.ndarray
    level: float
    _curves: np.ndarray | None = None
    _moved: np.ndarray | None = None

    def undefined(self, f: Functional) -> str:
        outside = self.columns.undefined.get(f.name)
        if outside is None:
            return ""
        weights = self.fit.columns.weights
        found = int((outside & ((weights if weights.ndim == 1 else weights.max(axis=0)) > 0.0)).sum())
        if not found:
            return ""
        units = "1 unit of the window has" if found == 1 else f"{found} units of the window have"
        return f"{f.kind} is defined for nonnegative outcomes with a positive mean; {units} {self.columns.why[f.name]}"

    def midpoints(self) -> slice:
        if self.columns.curve is None:
            raise DataError("the columns at the midpoints are missing: pass all functionals to functional_columns.")
        first = self.fit.n_quantiles + self.columns.curve
        return slice(first, first + MIDPOINTS.size)

    def factor(self) -> np.ndarray:
        """(B,) factors of the t law of the curves; they share one bandwidth, hence one law."""
        return self.draws.factor(self.midpoints().start)

    def curves(self) -> np.ndarray:
        """(2, 200) monotone averages of the cell means."""
        if self._curves is None:
            cells = np.full(MIDPOINTS.size, 1.0 / MIDPOINTS.size)
            self._curves = monotone(self.fit.columns.raw[:, self.midpoints()], cells, self.fit.estimator)
        return self._curves

    def beside(self, f: Functional) -> np.ndarray | None:
        """(2,) limits of the column that a functional needs besides its curve; None where it needs none."""
        at = self.columns.beside.get(f.name)
        return None if at is None else self.fit.columns.raw[:, self.fit.n_quantiles + at]

    def moved_functional(self, f: Functional) -> np.ndarray:
        """(B,) F(m+ + nu+) - F(m- + nu-), NaN where a draw failed; "exceed" makes draws monotone first."""
        if self._moved is None:
            columns = self.midpoints()
            self._moved = self.curves()[:, None, :] + np.stack([nu[:, columns] for nu in self.draws.sides()])
        fine = np.isfinite(self._moved).all(axis=(0, 2))
        curves, further = self._moved[:, fine], self.beside(f)
        if further is not None:
            at = self.fit.n_quantiles + self.columns.beside[f.name]
            further = further[:, None] + np.stack([nu[fine, at] for nu in self.draws.sides()])
        if f.kind == "exceed" and self.fit.estimator == "pointwise":
            curves = np.sort(curves, axis=-1)
        values = curve_functional(f, curves, further)
        moved = np.full(fine.size, np.nan)
        moved[fine] = values[0] - values[1]
        return moved


def _linear_row(f: Functional, context: _Context) -> FunctionalRow:
    fit, draws = context.fit, context.draws
    k = fit.n_quantiles + context.columns.linear[f.name]
    above, below = (float(v) for v in fit.columns.raw[:, k])
    if f.kind in ("iqr", "range") and not f.unit:
        above, below = _on_grid(f, context, above, below)
    estimate, se = (above - below) / fit.first_stage, float(draws.std_error[k])
    note = "; ".join(part for part in (_unit_note(f), _fuzzy_note(fit)) if part)
    moved = estimate + draws.effect[:, k]
    if not se > _EXACT * max(abs(above), abs(below)):
        return FunctionalRow(
            f.name, estimate, above=above, below=below, draws=moved, note=note,
            reason="its standard error is zero: the column does not vary around its fit",
        )  # fmt: skip
    low, high, p = _t_interval(estimate, se, context.level, float(draws.df[k]))
    return FunctionalRow(f.name, estimate, se, low, high, p, above, below, note=note, draws=moved)


def _on_grid(f: Functional, context: _Context, above: float, below: float) -> tuple[float, float]:
    """Differences of the monotone curves where both levels are on the grid, as the table of quantiles shows them."""
    ends = levels_of(f)
    at = [int(np.argmin(np.abs(context.quantiles - level))) for level in ends]
    if max(abs(float(context.quantiles[j]) - level) for j, level in zip(at, ends, strict=True)) > 1e-12:
        return above, below
    curves = context.fit.curves
    return float(curves[0, at[1]] - curves[0, at[0]]), float(curves[1, at[1]] - curves[1, at[0]])


def _t_interval(estimate: float, se: float, level: float, df: float) -> tuple[float, float, float]:
    from scipy import stats

    law = stats.t(df) if math.isfinite(df) else stats.norm()
    width = float(law.ppf(0.5 + level / 2.0)) * se
    return estimate - width, estimate + width, float(2.0 * law.sf(abs(estimate) / se))


def _curve_row(f: Functional, context: _Context) -> FunctionalRow:
    above, below = (float(v) for v in curve_functional(f, context.curves(), context.beside(f)))
    note = "" if context.fit.treatment is None else _NOT_PER_UNIT
    estimate = above - below
    if not math.isfinite(estimate):
        reason = "it does not exist for the average distribution of a side"
        if f.kind in POSITIVE:
            reason = "the average distribution of a side has no positive mean"
        return FunctionalRow(f.name, above=above, below=below, reason=reason, note=note)
    moved = context.moved_functional(f)
    spread = (moved - estimate) * context.factor()
    fine = spread[np.isfinite(spread)]
    failed = spread.size - fine.size
    if failed > MAX_FAILED * spread.size or fine.size < 2:
        reason = f"{failed} of {spread.size} draws have no value (more than 10%)"
        return FunctionalRow(f.name, estimate, above=above, below=below, reason=reason, note=note, draws=moved)
    se = float(np.nanstd(moved, ddof=1)) * context.draws.lacking
    if not se > _EXACT * max(abs(above), abs(below)):
        reason = "its draws do not vary"
        return FunctionalRow(f.name, estimate, above=above, below=below, reason=reason, note=note, draws=moved)
    size = np.sort(np.abs(fine))
    c = critical_value(size, context.level)
    p = exceedance(size, abs(estimate))
    return FunctionalRow(f.name, estimate, se, estimate - c, estimate + c, p, above, below, "", note, moved)


def _w2_row(f: Functional, context: _Context) -> FunctionalRow:
    """W2 of the cell means: each is linear in the average quantile functions, so it is zero where those are equal."""
    fit = context.fit
    curves = context.curves()
    estimate = math.sqrt(float(((curves[0] - curves[1]) ** 2).mean())) / abs(fit.first_stage)
    size = np.sqrt((context.draws.effect[:, context.midpoints()] ** 2).mean(axis=1)) * context.factor()
    size = np.sort(size[np.isfinite(size)])
    c = critical_value(size, context.level)
    return FunctionalRow(
        f.name, estimate, conf_low=max(0.0, estimate - c), conf_high=estimate + c, p_value=exceedance(size, estimate),
        reason=_W2_REASON, note=_fuzzy_note(fit),
    )  # fmt: skip


def critical_value(size: np.ndarray, level: float) -> float:
    """Order statistic ceil(level (B + 1)) of sorted sizes (B,); the largest where B is too small for the level."""
    rank = math.ceil(level * (size.size + 1) - 1e-9)
    return float(size[min(rank, size.size) - 1])


def exceedance(size: np.ndarray, observed: float) -> float:
    """(1 + #{size >= observed}) / (B + 1) of sorted sizes (B,)."""
    return float(1 + size.size - int(np.searchsorted(size, observed, side="left"))) / float(size.size + 1)


def _unit_note(f: Functional) -> str:
    if f.kind == "exceed":
        return "average share of a unit's draws above the threshold"
    if f.unit and f.kind in ("variance", "sd"):
        return "spread within units; the bare name is the spread of the average distribution"
    return ""


def _fuzzy_note(fit: R3dFit) -> str:
    return "" if fit.treatment is None else "per unit of treatment"
