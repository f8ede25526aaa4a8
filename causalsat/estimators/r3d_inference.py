"""Uncertainty of `r3d`: errors, degrees of freedom, draws, bands, tests and sets for all quantiles at once.

``infer(design, fit, choices)`` reads the fit of :func:`causalsat.estimators.r3d_fit.fit_curves` and returns an
:class:`R3dInference`. Letters: M quantiles, k further unit-level columns, K = M + k, B draws, g clusters (units
without clusters) with weight in a window.
"""

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from causalsat.errors import WeakFirstStageWarning, warn
from causalsat.estimators.r3d_ar import RobustSets, robust_sets
from causalsat.estimators.r3d_bands import CurveInference, curve_inference, reach_of, shortfall
from causalsat.estimators.r3d_contributions import Contributions, contributions
from causalsat.estimators.r3d_df import degrees, merged_degrees
from causalsat.estimators.r3d_draws import Multipliers, chi_square_factors, law_of, multipliers
from causalsat.estimators.r3d_fit import R3dFit
from causalsat.estimators.r3d_options import R3dChoices
from causalsat.estimators.r3d_refit import SCHEMES, Refits, refits
from causalsat.estimators.r3d_tests import R3dTest, tests_of
from causalsat.progress import Progress

__all__ = ["CurveInference", "R3dInference", "R3dTest", "RobustSets", "infer"]

WEAK = 3.2
_ROUNDING = 1e-11
_TIED = "the units in the window leave no residual here (ties): its standard error is zero"
_EXACT = "the treatment has no residual in the window: its jump is known exactly"


@dataclass(frozen=True, eq=False)
class R3dInference:
    """Uncertainty of one fit.

    Attributes
    ----------
    curve : CurveInference
        The M effects on quantiles (per unit of treatment in fuzzy designs).
    extra : CurveInference
        The k further columns on the same scale, no band.
    first_stage : CurveInference or None
        The jump of the treatment (K = 1), fuzzy designs.
    tests : tuple of R3dTest
        The tests asked for, in the order of ``choices.tests``.
    sets : RobustSets or None
        Anderson-Rubin sets of the M effects, fuzzy designs.
    contributions : Contributions
        (g, K) contributions of clusters to both limits, and of the treatment.
    merged : np.ndarray
        (g, K) contributions to the effects; their products are the covariance.
    n_failed : dict
        Failed draws by reason.
    n_clusters : int
        g.
    n_window, n_effective : np.ndarray
        (2,) units with weight, and 1 / sum of squared weights, right and left.
    residuals : str
        "hc0" to "hc3", or "cr0" to "cr3" for clusters of more than one unit.
    numerator_draws : np.ndarray
        (B, K) draws of the jumps before division by the first stage.
    fit, choices, drawn
        What was asked, and the source of the draws.
    notes : dict
        Facts for ``meta``.
    """

    curve: CurveInference
    extra: CurveInference
    first_stage: CurveInference | None
    tests: tuple[R3dTest, ...]
    sets: RobustSets | None
    contributions: Contributions
    merged: np.ndarray
    n_failed: dict[str, int]
    n_clusters: int
    n_window: np.ndarray
    n_effective: np.ndarray
    residuals: str
    numerator_draws: np.ndarray
    fit: R3dFit
    choices: R3dChoices
    drawn: Multipliers | Refits
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def se(self) -> np.ndarray:
        """(M,) standard errors of the effects on quantiles."""
        return self.curve.se

    @property
    def draws(self) -> np.ndarray:
        """(B, M) draws of the effects on quantiles, centred at zero."""
        return self.curve.draws

    @functools.cached_property
    def covariance(self) -> np.ndarray:
        """(K, K) analytic covariance of the effects on quantiles and of the further columns."""
        return np.asarray(self.merged.T @ self.merged)

    @functools.cached_property
    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.drawn, Refits):
            return self.drawn.right, self.drawn.left
        right = self.drawn.right()
        return right, right - self.numerator_draws

    def side_draws(self) -> tuple[np.ndarray, np.ndarray]:
        """(B, K) draws of the limits right and left, centred at zero, jointly with ``draws``; made on first use.

        They are draws of the numerator: right minus left equals ``numerator_draws``, which in sharp designs are
        ``curve.draws`` and ``extra.draws`` side by side.
        """
        return self._sides

    def sides(self) -> tuple[CurveInference, CurveInference]:
        """Uncertainty of the M average quantiles right and left of the cutoff, with bands; made on first use."""
        return self._side_curves

    @functools.cached_property
    def _side_curves(self) -> tuple[CurveInference, CurveInference]:
        m, C = self.fit.n_quantiles, self.contributions
        out = []
        for side, own in enumerate((C.plus[:, :m], C.minus[:, :m])):
            se = np.sqrt((own**2).sum(axis=0))
            df = _column_degrees(C, m, side)
            live = se > _floor(self.fit)[:m]
            draws = self.side_draws()[side][:, :m]
            out.append(
                curve_inference(
                    self.fit.curves[side], se, df, draws, _factors(df, self.choices, draws, se),
                    level=self.choices.level, critical=self.choices.critical, band=self.choices.band, live=live,
                    reason=_TIED,
                )
            )  # fmt: skip
        return out[0], out[1]


class _Jump(NamedTuple):
    """Jump of the treatment: value, standard error, degrees of freedom, and whether it has any error."""

    value: float
    se: float
    df: float
    live: bool


def infer(
    design: Any, fit: R3dFit, choices: R3dChoices, *, progress: Progress = False, blocks: np.ndarray | None = None
) -> R3dInference:
    """Uncertainty of a fit at its bandwidths.

    Units (or clusters, or blocks) are independent; bandwidths are held fixed. Contributions of both sides, and of the
    treatment with its own window, weights and residuals, merge before standard errors, degrees of freedom and sups.

    Parameters
    ----------
    design : R3dDesign
        Units as arrays.
    fit : R3dFit
        Their fit by :func:`causalsat.estimators.r3d_fit.fit_curves`.
    choices : R3dChoices
        ``residuals``, ``bootstrap``, ``critical``, ``band``, ``tests``, ``test_range``, ``level``, ``seed``.
    progress : bool or callable, optional
        Progress bar of refits.
    blocks : np.ndarray, optional
        (n,) spatial blocks laid over more units than these, scheme "block".

    Raises
    ------
    DataError
        A single cluster in the window.
    OptionError
        A scheme that the data or its options do not allow; a test range without quantiles.

    Warns
    -----
    FewClustersWarning, WeakFirstStageWarning
        Fewer than 20 clusters; a first stage under 3.2 standard errors.
    """
    C = contributions(design, fit, choices.residuals, choices.bootstrap, choices.seed, blocks)
    jump = _first_stage(fit, C)
    merged, live = _merged(fit, C, jump)
    drawn, numerator, of_jump = _draws(design, fit, C, jump, live, choices, progress)
    curve, extra = _curves(fit, C, jump, (merged, live), (numerator, of_jump), choices)
    own = merged[:, : fit.n_quantiles]
    tests = tests_of(
        curve, own.T @ own, design.quantiles, design.cells, choices.tests, test_range=choices.test_range,
        level=choices.level, studentized=choices.band != "constant",
    )  # fmt: skip
    return R3dInference(
        curve, extra, _first_stage_inference(jump, of_jump, choices, numerator.shape[0]), tests,
        _sets(fit, C, jump, numerator, of_jump, curve, choices), C, merged,
        drawn.n_failed if isinstance(drawn, Refits) else {}, C.groups.g, _window(design, fit), fit.columns.n_effective,
        ("hc" if C.groups.single else "cr") + choices.residuals[2:], numerator, fit, choices, drawn,
        _notes(C, choices, drawn),
    )  # fmt: skip


def _curves(
    fit: R3dFit,
    C: Contributions,
    jump: _Jump | None,
    merged: tuple[np.ndarray, np.ndarray],
    drawn: tuple[np.ndarray, np.ndarray | None],
    choices: R3dChoices,
) -> tuple[CurveInference, CurveInference]:
    """Effects on quantiles with their band, and on the further columns without one."""
    effects, m = _effects(fit), fit.n_quantiles
    shifts = drawn[0] if drawn[1] is None else drawn[0] - drawn[1][:, None] * effects[None, :]
    if fit.treatment is not None:
        shifts = shifts / fit.first_stage
    df, se = _effect_degrees(fit, C, jump, effects), np.sqrt((merged[0] ** 2).sum(axis=0))
    factors = _factors(df, choices, shifts, se)

    def part(columns: slice, band: str | None) -> CurveInference:
        return curve_inference(
            effects[columns], se[columns], df[columns], shifts[:, columns],
            factors if factors.shape[1] == 1 else factors[:, columns], level=choices.level, critical=choices.critical,
            band=band, live=merged[1][columns], reason=_TIED,
        )  # fmt: skip

    return part(slice(0, m), choices.band), part(slice(m, None), None)


def _notes(C: Contributions, choices: R3dChoices, drawn: Multipliers | Refits) -> dict[str, Any]:
    refit = isinstance(drawn, Refits)
    return {
        "scheme": choices.bootstrap.scheme,
        "law": None if refit else law_of(choices.bootstrap),
        "refit": refit,
        "independent": C.groups.kind,
    }


def _window(design: Any, fit: R3dFit) -> np.ndarray:
    """(2,) units with weight right and left; of the narrowest window where columns have their own."""
    inside = np.atleast_2d(fit.columns.weights) > 0.0
    right = np.asarray(design.treated, dtype=bool)[None, :]
    return np.array([(inside & right).sum(axis=1).min(), (inside & ~right).sum(axis=1).min()])


def _effects(fit: R3dFit) -> np.ndarray:
    """(K,) effects on quantiles, then on the further columns."""
    extra = fit.extra
    return np.concatenate([fit.effect, (extra[0] - extra[1]) / fit.first_stage])


def _floor(fit: R3dFit) -> np.ndarray:
    """(K,) what a standard error must exceed to be more than rounding."""
    size = np.sqrt((fit.columns.limits**2).sum(axis=-1).sum(axis=0))
    return np.asarray(_ROUNDING * np.abs(fit.columns.raw).max(axis=0) * size)


def _first_stage(fit: R3dFit, C: Contributions) -> _Jump | None:
    if fit.treatment is None or C.treatment is None or C.treatment_basis is None:
        return None
    se = float(np.sqrt((C.treatment**2).sum()))
    floor = _ROUNDING * float(np.abs(fit.treatment.raw).max() * np.sqrt((fit.treatment.limits**2).sum()))
    value, live = fit.first_stage, se > floor
    if live and abs(value) < WEAK * se:
        warn(
            f"the treatment jumps by {value:.4g} at the cutoff, {abs(value) / se:.2f} standard errors (fewer than "
            f"{WEAK}): intervals around an effect per unit of treatment do not hold. Read the Anderson-Rubin sets, "
            "which hold however small the jump is.",
            WeakFirstStageWarning,
        )
    loadings = C.treatment_basis.loadings
    return _Jump(value, se, degrees(C.groups, C.treatment_basis, loadings[0] - loadings[1]), live)


def _merged(fit: R3dFit, C: Contributions, jump: _Jump | None) -> tuple[np.ndarray, np.ndarray]:
    """(g, K) contributions to the effects, and (K,) whether they have any error."""
    floor, merged = _floor(fit), C.jump
    if jump is not None:
        effects = _effects(fit)
        if jump.live and C.treatment is not None:
            merged = merged - C.treatment[:, None] * effects[None, :]
            floor = floor + _ROUNDING * np.abs(effects) * jump.se
        merged, floor = merged / jump.value, floor / abs(jump.value)
    live = np.sqrt((merged**2).sum(axis=0)) > floor
    return np.where(live[None, :], merged, 0.0), live


def _draws(
    design: Any,
    fit: R3dFit,
    C: Contributions,
    jump: _Jump | None,
    live: np.ndarray,
    choices: R3dChoices,
    progress: Progress,
) -> tuple[Multipliers | Refits, np.ndarray, np.ndarray | None]:
    """The source of the draws, (B, K) draws of the jumps and (B,) of the treatment's jump."""
    if choices.bootstrap.scheme in SCHEMES:
        made = refits(design, fit, C, choices.bootstrap, seed=choices.seed, progress=progress)
        return made, made.right - made.left, made.treatment
    own = np.sqrt((C.jump**2).sum(axis=0)) > _floor(fit)
    moves = jump is not None and jump.live
    source = multipliers(C, own, moves, choices.bootstrap, choices.seed, fit.n_quantiles)
    numerator, of_jump = source.jumps()
    return source, numerator, of_jump


def _column_degrees(C: Contributions, number: int, side: int | None) -> np.ndarray:
    """(number,) degrees of freedom of the jumps, or of the limits of one side."""
    known: dict[int, float] = {}
    for basis in C.bases:
        if id(basis) not in known:
            loadings = basis.loadings[0] - basis.loadings[1] if side is None else basis.loadings[side]
            known[id(basis)] = degrees(C.groups, basis, loadings)
    if len(C.bases) == 1:
        return np.full(number, known[id(C.bases[0])])
    return np.array([known[id(basis)] for basis in C.bases[:number]])


def _effect_degrees(fit: R3dFit, C: Contributions, jump: _Jump | None, effects: np.ndarray) -> np.ndarray:
    """(K,) degrees of freedom of the effects; the same for all where all regressions share one window."""
    own, basis = fit.treatment, C.treatment_basis
    if jump is None or not jump.live or own is None or basis is None:
        return _column_degrees(C, effects.size, None)
    if np.array_equal(np.broadcast_to(own.weights, fit.columns.weights.shape), fit.columns.weights):
        return _column_degrees(C, effects.size, None)
    rows = C.groups.rows
    errors, received = fit.columns.residuals[rows], own.residuals[rows, 0]
    theirs = (basis, basis.loadings[0] - basis.loadings[1])
    out = np.empty(effects.size)
    for at, mine in enumerate(C.bases):
        columns = slice(None) if len(C.bases) == 1 else slice(at, at + 1)
        both = (mine.root > 0.0) & (basis.root > 0.0)
        e, t = errors[both][:, columns], received[both][:, None]
        moments = np.stack([(e * e).mean(axis=0), (e * t).mean(axis=0), np.full(e.shape[1], (t * t).mean())])
        out[columns] = merged_degrees(
            C.groups, (mine, mine.loadings[0] - mine.loadings[1]), theirs, effects[columns], moments
        )
    return out


def _factors(df: np.ndarray, choices: R3dChoices, draws: np.ndarray, se: np.ndarray) -> np.ndarray:
    """(B, 1) or (B, K) factors of draws whose standard errors are ``se``.

    Bayesian weights are never zero, and the spread of their draws falls short of standard errors that are corrected
    for leverage; resampled counts have that spread.
    """
    n = draws.shape[0]
    factors = np.ones((n, 1)) if choices.critical != "t" else chi_square_factors(df, n, choices.seed)
    if choices.bootstrap.scheme != "bayes":
        return factors
    lacking = shortfall(draws, se)
    return factors * (lacking[None, :] if factors.shape[1] > 1 else float(np.median(lacking)))


def _first_stage_inference(
    jump: _Jump | None, draws: np.ndarray | None, choices: R3dChoices, n: int
) -> CurveInference | None:
    if jump is None:
        return None
    own = np.zeros((n, 1)) if draws is None else draws[:, None]
    df, se = np.array([jump.df]), np.array([jump.se])
    return curve_inference(
        np.array([jump.value]), se, df, own, _factors(df, choices, own, se), level=choices.level,
        critical=choices.critical, band=None, live=np.array([jump.live]), reason=_EXACT,
    )  # fmt: skip


def _sets(
    fit: R3dFit,
    C: Contributions,
    jump: _Jump | None,
    numerator: np.ndarray,
    of_jump: np.ndarray | None,
    curve: CurveInference,
    choices: R3dChoices,
) -> RobustSets | None:
    if jump is None or C.treatment is None:
        return None
    m = fit.n_quantiles
    own = C.jump[:, :m]
    v_nn = (own**2).sum(axis=0)
    v_nn = np.where(np.sqrt(v_nn) > _floor(fit)[:m], v_nn, 0.0)
    v_nd = np.where(v_nn > 0.0, C.treatment @ own, 0.0) if jump.live else np.zeros(m)
    reach = reach_of(curve.df, choices.level, choices.critical)
    drawn = np.zeros(numerator.shape[0]) if of_jump is None else of_jump
    v_dd = jump.se**2 if jump.live else 0.0
    return robust_sets(
        fit.tau, jump.value, (v_nn, v_nd, v_dd), (numerator[:, :m], drawn), curve.factors, reach, choices.level
    )
