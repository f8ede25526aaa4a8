"""The inference of the R package R3D, version 0.1.0, for results that were made with it."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from causalsat.errors import CompatibilityWarning, OptionError, warn
from causalsat.estimators.r3d_fit import ColumnFit, R3dFit, fit_curves, monotone
from causalsat.estimators.r3d_inference import R3dInference, infer
from causalsat.estimators.r3d_options import COMPAT, Bandwidth, R3dChoices
from causalsat.estimators.r3d_tests import R3dTest
from causalsat.progress import Progress

_POINTS = 1001


def compat_fit(
    design: Any,
    h: np.ndarray,
    choices: R3dChoices,
    *,
    h_treatment: np.ndarray | None = None,
    extra: np.ndarray | None = None,
) -> R3dFit:
    """Curves and residuals as that version made them.

    Curves are projected without cell weights ("frechet"), or interpolated at 1,001 levels, sorted and read back as
    quantiles of type 7 ("pointwise"). Residuals are taken from each unit's own projected curve, those of units whose
    weight in the limit is not positive are zero, and the treatment's residuals carry the weights of the outcome's
    first quantile. None of this is needed for new work: see the defaults of `r3d`.

    Parameters
    ----------
    design : R3dDesign
        Units without covariates, unit weights or clusters.
    h : np.ndarray
        (2,) or (2, M) bandwidths given by the user.
    choices : R3dChoices
        Of the call.
    h_treatment : np.ndarray, optional
        (2,) bandwidths of the treatment.
    extra : np.ndarray, optional
        (n, k) further unit-level columns.

    Raises
    ------
    OptionError
        Data or options that the package did not know.

    Warns
    -----
    CompatibilityWarning
        Always.
    """
    _refuse(design, choices)
    warn(
        f'compat="{COMPAT}" reproduces old results: units with negative weights add no variance, residuals are not '
        "corrected for leverage, and bands and p-values are too small in small samples. Leave compat out for new work.",
        CompatibilityWarning,
    )
    fit = fit_curves(
        design, h, estimator=choices.estimator, kernel=choices.kernel, order=choices.order, h_treatment=h_treatment,
        extra=extra,
    )  # fmt: skip
    m = fit.n_quantiles
    if choices.estimator == "frechet":
        curves = monotone(fit.columns.raw[:, :m], np.ones(m), "frechet")
    else:
        curves = np.stack([read_back(curve, design.quantiles) for curve in fit.columns.raw[:, :m]])
    columns = replace(fit.columns, residuals=_outcome_residuals(design, fit, extra))
    treatment = None if fit.treatment is None else _treatment(design, fit, fit.treatment)
    return replace(fit, columns=columns, curves=curves, tau=curves[0] - curves[1], treatment=treatment)


def compat_infer(design: Any, fit: R3dFit, choices: R3dChoices, *, progress: Progress = False) -> R3dInference:
    """Uncertainty as that version stated it.

    Normal multipliers on weights times residuals, a band of constant width from the order statistic
    ceil(level (B + 1)) of the draws' suprema, tests without studentization whose p-value is the share of draws at or
    above the statistic and whose critical value is a quantile of type 7. Standard errors and pointwise intervals,
    which that version lacked, follow from the same residuals and the normal law.
    """
    own = replace(
        choices, band=None if choices.band is None else "constant", critical="normal", residuals="hc0", tests=()
    )
    found = infer(design, fit, own, progress=progress)
    tests = tuple(_test(name, design.quantiles, found, choices) for name in choices.tests)
    return replace(found, tests=tests, notes=found.notes | {"compat": COMPAT})


def read_back(curve: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """(M,) rearranged curve: interpolated at 1,001 even levels, read back as type-7 quantiles of those values."""
    if curve.size == 1:
        return curve
    levels = (quantiles - quantiles[0]) / (quantiles[-1] - quantiles[0])
    dense = np.interp(np.linspace(quantiles[0], quantiles[-1], _POINTS), quantiles, curve)
    return np.asarray(np.quantile(dense, levels))


def _refuse(design: Any, choices: R3dChoices) -> None:
    reasons = {
        "covariates": design.covariates is not None and design.covariates.shape[1] > 0,
        "unit_weights": not bool((design.omega == 1.0).all()),
        "clusters": design.sampling.cluster is not None,
        "an automatic bandwidth_treatment": isinstance(choices.bandwidth_treatment, Bandwidth),
        'a quantile_rule other than "type7"': choices.quantile_rule != "type7",
        "small_sample": choices.small_sample is not None,
        f'Bootstrap(scheme="{choices.bootstrap.scheme}")': choices.bootstrap.scheme != "multiplier",
        'the test "dominance"': "dominance" in choices.tests,
    }
    unknown = [what for what, present in reasons.items() if present]
    if unknown:
        raise OptionError(
            f'compat="{COMPAT}" cannot reproduce {", ".join(unknown)}: the package had no such thing. Leave it out, or '
            "leave compat out."
        )


def _positive(fit: ColumnFit) -> np.ndarray:
    """(n, K) or (n, 1) bool, units whose weight in their side's limit is positive."""
    positive = np.asarray((fit.limits > 0.0).any(axis=0))
    return positive.T if fit.by_column else positive[:, None]


def _outcome_residuals(design: Any, fit: R3dFit, extra: np.ndarray | None) -> np.ndarray:
    """(n, K) outcome less the fitted curve of the unit, which "frechet" projects; zero without positive weight."""
    m, own = fit.n_quantiles, fit.columns
    positive = _positive(own)
    residuals = own.residuals.copy()
    if fit.estimator == "frechet":
        rows = np.flatnonzero(positive[:, 0])
        fitted = design.Q[rows] - residuals[rows, :m]
        residuals[rows, :m] = design.Q[rows] - monotone(fitted, np.ones(m), "frechet")
    return np.asarray(np.where(positive, residuals, 0.0))


def _treatment(design: Any, fit: R3dFit, own: ColumnFit) -> ColumnFit:
    """The treatment's limits, with residuals from its own polynomial but window and weights of the outcome."""
    first = fit.columns
    h, limits, leverage, weights = first.h, first.limits, first.leverage, first.weights
    if first.by_column:
        h, limits, leverage, weights = h[:, 0], limits[:, 0], leverage[0], weights[0]
    received = np.asarray(design.treatment, dtype=np.float64)
    residuals = np.zeros(received.size)
    powers = np.vander(design.x / own.h.max(), own.order + 1, increasing=True)
    for side in (design.treated, ~design.treated):
        inside = np.flatnonzero(side & (own.weights > 0.0))
        used = np.flatnonzero(side & (limits > 0.0).any(axis=0))
        root = np.sqrt(own.weights[inside])
        beta = np.linalg.lstsq(powers[inside] * root[:, None], received[inside] * root, rcond=None)[0]
        residuals[used] = received[used] - powers[used] @ beta
    return replace(own, h=h, limits=limits, leverage=leverage, weights=weights, residuals=residuals[:, None])


def _test(name: str, quantiles: np.ndarray, found: R3dInference, choices: R3dChoices) -> R3dTest:
    low, high = choices.test_range or (float(quantiles[0]), float(quantiles[-1]))
    inside = (quantiles >= low - 1e-12) & (quantiles <= high + 1e-12)
    if not inside.any():
        raise OptionError(
            f"test_range={choices.test_range} holds none of the {quantiles.size} quantiles, which run from "
            f"{quantiles[0]:g} to {quantiles[-1]:g}."
        )
    reach = (float(quantiles[inside].min()), float(quantiles[inside].max()))
    values, draws = found.curve.estimate[inside], found.curve.draws[:, inside]
    if name == "homogeneity":
        if values.size < 2:
            why = "effects at a single quantile are the same everywhere"
            return R3dTest(name, math.nan, math.nan, math.nan, values.size, reach, why)
        values, draws = values - values.mean(), draws - draws.mean(axis=1)[:, None]
    statistic, sups = float(np.abs(values).max()), np.abs(draws).max(axis=1)
    critical = float(np.quantile(sups, choices.level))
    return R3dTest(name, statistic, critical, float((sups >= statistic).mean()), values.size, reach)
