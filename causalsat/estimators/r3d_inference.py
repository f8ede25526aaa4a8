"""Uncertainty of `r3d`: errors, degrees of freedom, draws, bands, tests and sets for all quantiles at once.

``infer(design, fit, choices)`` reads the fit of :func:`causalsat.estimators.r3d_fit.fit_curves` and returns an
:class:`R3dInference`. Letters: M quantiles, k further unit-level columns, K = M + k, B draws, g clusters (units
without clusters) with weight in a window.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.estimators.r3d_ar import RobustSets
from causalsat.estimators.r3d_contributions import Contributions
from causalsat.estimators.r3d_fit import R3dFit
from causalsat.estimators.r3d_options import R3dChoices
from causalsat.estimators.r3d_tests import R3dTest


@dataclass(frozen=True, eq=False)
class CurveInference:
    """Uncertainty of K numbers with one law of draws.

    Attributes
    ----------
    estimate, se, df : np.ndarray
        (K,) estimates, analytic standard errors (NaN where zero), effective degrees of freedom.
    conf_low, conf_high, p_value : np.ndarray
        (K,) pointwise intervals and p-values against zero, from t with ``df`` (critical="normal": the normal law).
    band_low, band_high : np.ndarray
        (K,) uniform band; NaN without one (band=None, or a column that is not part of a curve).
    critical : float
        c of the band: in standard errors (studentized) or in units of the outcome (constant); NaN without a band.
    draws : np.ndarray
        (B, K) draws centred at zero, before the factor of the t law; NaN rows failed.
    factors : np.ndarray
        (B, 1) or (B, K): sqrt(df / chi2_df) by which sups and quantiles of |draws| are multiplied; ones for the
        normal law and for refitted draws.
    unavailable : dict
        Column to the reason why it has no standard error.
    """

    estimate: np.ndarray
    se: np.ndarray
    df: np.ndarray
    conf_low: np.ndarray
    conf_high: np.ndarray
    p_value: np.ndarray
    band_low: np.ndarray
    band_high: np.ndarray
    critical: float
    draws: np.ndarray
    factors: np.ndarray
    unavailable: dict[int, str]


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
    covariance : np.ndarray
        (K, K) analytic covariance of all effects.
    n_failed : dict
        Failed draws by reason.
    n_clusters : int
        g.
    n_window, n_effective : np.ndarray
        (2,) units with weight, and 1 / sum of squared weights, right and left.
    residuals : str
        "hc0" to "hc3", or "cr0" to "cr3" for clusters of more than one unit.
    notes : dict
        Facts for ``meta``.
    """

    curve: CurveInference
    extra: CurveInference
    first_stage: CurveInference | None
    tests: tuple[R3dTest, ...]
    sets: RobustSets | None
    contributions: Contributions
    covariance: np.ndarray
    n_failed: dict[str, int]
    n_clusters: int
    n_window: np.ndarray
    n_effective: np.ndarray
    residuals: str
    notes: dict[str, Any] = field(default_factory=dict)

    # Shortcuts to the curve, (M,) each and (B, M) draws.
    @property
    def se(self) -> np.ndarray:
        """(M,) standard errors of the effects on quantiles."""
        return self.curve.se

    @property
    def draws(self) -> np.ndarray:
        """(B, M) draws of the effects on quantiles, centred at zero."""
        return self.curve.draws

    def side_draws(self) -> tuple[np.ndarray, np.ndarray]:
        """(B, K) draws of the limits right and left, centred at zero, jointly with ``draws`` (made on first use).

        They are draws of the numerator: in sharp designs right minus left equals ``curve.draws`` and ``extra.draws``.
        """
        raise RuntimeError

    def sides(self) -> tuple[CurveInference, CurveInference]:
        """Uncertainty of the M average quantiles right and left of the cutoff, with bands."""
        raise RuntimeError


def infer(design: Any, fit: R3dFit, choices: R3dChoices, *, progress: Any = None) -> R3dInference:
    """Uncertainty of a fit at its bandwidths (see the module)."""
    raise RuntimeError
