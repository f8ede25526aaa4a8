"""Whether the instruments agree with each other, and whether the treatments are endogenous."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.checks.iv_rank import covariance_words
from causalsat.checks.iv_tests import LEVEL, Test, absent, chi2_law, f_law, in_words, wald, withheld
from causalsat.checks.result import CheckResult
from causalsat.inference.iv_covariance import iv_covariance, resolved_sandwich, tested_sandwich
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich

_RANK = 1e-8
_NOTHING = (
    "Nothing to test: there are as many instruments as treatments, so the data cannot speak about their validity. The "
    "exclusion restriction rests on argument alone."
)


_PERFECT = "The treatments fit the outcome exactly: no residual variance is left to test against."
_ROUNDING = 1e-26


def _perfect(rows: IvRows, residual_variance: float) -> bool:
    return residual_variance <= _ROUNDING * float(np.mean(rows.weights * rows.y**2))


def sargan(rows: IvRows) -> Test:
    """Sargan's test of the over-identifying restrictions, homoskedastic.

    n e'P_Z e/e'e with e the TSLS residuals, chi-squared with q - p degrees of freedom when all instruments are valid
    and errors are homoskedastic. The factor is n, whatever ``rows.dof``.

    Parameters
    ----------
    rows : IvRows
        The study.

    Returns
    -------
    Test
        NaN with the reason when q = p; without p-value and law when weights are unequal.

    References
    ----------
    Sargan (1958), "The estimation of economic relationships using instrumental variables".
    """
    if rows.q == rows.p:
        return absent("sargan", _NOTHING)
    moments = rows.moments
    left = moments.w - moments.B @ moments.b_tsls
    residuals = rows.residuals(moments.b_tsls)
    spread = float(np.mean(rows.weights * residuals**2))
    if _perfect(rows, spread):
        return absent("sargan", _PERFECT)
    statistic = float(rows.n * (left @ left) / spread)
    p_value, law = chi2_law(statistic, rows.q - rows.p)
    text = (
        f"Sargan {statistic:.4g}, law {law}, factor n = {rows.n} ({in_words(p_value)}); valid under homoskedasticity."
    )
    made = Test("sargan", statistic, (float(rows.q - rows.p),), p_value, law, text)
    return withheld(made, rows, f"Sargan {statistic:.4g}", "read Hansen's J")


def hansen(rows: IvRows, sandwich: Sandwich) -> Test:
    """Hansen's J of two-step GMM under the study's covariance.

    W = variance of the moments w z (y - X b_TSLS), not centred and without finite-sample factor;
    b_2 = argmin g(b)'W^{-1}g(b); J = n g(b_2)'W^{-1}g(b_2), chi-squared with q - p degrees of freedom when all
    instruments are valid.

    Parameters
    ----------
    rows : IvRows
        The study.
    sandwich : Sandwich
        Any kind but "hc3"; "classical" makes it Sargan's test, and is read as "hc1" with unequal weights.

    Returns
    -------
    Test
        NaN with the reason when q = p, or when the variance cannot be inverted.

    References
    ----------
    Hansen (1982), "Large sample properties of generalized method of moments estimators".
    """
    if rows.q == rows.p:
        return absent("hansen", _NOTHING)
    moments = rows.moments
    if _perfect(rows, float(np.mean(rows.weights * rows.residuals(moments.b_tsls) ** 2))):
        return absent("hansen", _PERFECT)
    variance, words = _moment_weight(rows, sandwich)
    _, reason = wald(moments.w, variance)
    if reason is not None:
        return absent("hansen", f"Hansen's J is not available: {reason}.")
    size = np.sqrt(np.diag(variance))
    lower = np.linalg.cholesky(variance / np.outer(size, size))
    design = np.linalg.solve(lower, moments.B / size[:, None])
    target = np.linalg.solve(lower, moments.w / size)
    left = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    statistic = float(rows.n * (left @ left))
    p_value, law = chi2_law(statistic, rows.q - rows.p)
    text = f"Hansen J {statistic:.4g}, two-step, {words} not centred, law {law}, no factor ({in_words(p_value)})."
    return Test("hansen", statistic, (float(rows.q - rows.p),), p_value, law, text)


def _moment_weight(rows: IvRows, sandwich: Sandwich) -> tuple[np.ndarray, str]:
    """(q, q) variance of the whitened moments at TSLS without its factor, and its name in words."""
    moments = rows.moments
    residuals = rows.residuals(moments.b_tsls)
    sandwich = tested_sandwich(sandwich, rows)
    if sandwich.kind == "classical":
        return float(np.mean(rows.weights * residuals**2)) * np.eye(rows.q), "homoskedastic weight"
    whitened = np.linalg.solve(moments.L, (rows.Z * (rows.weights * residuals)[:, None]).T).T
    found = iv_covariance(rows, whitened, resolved_sandwich(sandwich, rows), columns=rows.p)
    return rows.n * found.matrix / found.factor, f"{found.kind} weight"


_EXOGENOUS = (
    "Every treatment is a linear function of instruments and covariates: it is exogenous by construction, and there is "
    "nothing to test."
)


_READ = "read the robust endogeneity test"


@dataclass(frozen=True, eq=False)
class _Added:
    """OLS with M_Z X added: an orthonormal basis of what it adds, and the residual sums of squares with and without."""

    basis: np.ndarray
    rank: int
    without: float
    gain: float
    residuals: np.ndarray
    reason: str


def _added(rows: IvRows) -> _Added:
    """Regress y on X, then on X and M_Z X; only as many columns are added as M_Z X has rank."""
    root, MX = np.sqrt(rows.weights), rows.moments.MX
    X = rows.X * root[:, None]
    size = np.sqrt((X**2).sum(axis=0))
    X, D = X / size[None, :], MX * root[:, None] / size[None, :]
    left, spread, _ = np.linalg.svd(D, full_matrices=False)
    rank = int((spread > _RANK).sum())
    basis = np.linalg.qr(X)[0]
    added = left[:, :rank]
    for _ in range(2):
        added = added - basis @ (basis.T @ added)
    added = np.linalg.qr(added / np.sqrt((added**2).sum(axis=0))[None, :])[0]
    y = rows.y * root
    residuals = y - basis @ (basis.T @ y)
    along = added.T @ residuals
    without, gain = float(residuals @ residuals), float(along @ along)
    reason = _EXOGENOUS if rank == 0 else _PERFECT if _perfect(rows, (without - gain) / rows.n) else ""
    return _Added(added, rank, without, gain, residuals - added @ along, reason)


def _deficient(rows: IvRows, rank: int) -> str:
    if rank == rows.p:
        return ""
    return (
        f" {rows.p - rank} combination{'s' * (rows.p - rank > 1)} of the treatments "
        f"{'are' if rows.p - rank > 1 else 'is'} a linear function of instruments and covariates, hence exogenous by "
        f"construction; {rank} degree{'s' * (rank != 1)} of freedom remain."
    )


def wu_hausman(rows: IvRows) -> Test:
    """Wu-Hausman test that the treatments are exogenous, homoskedastic.

    RSS_0 and RSS_1 of OLS without and with M_Z X: F = ((RSS_0 - RSS_1)/r)/(RSS_1/(n - p - r - m)), r the rank of M_Z X
    (p unless a combination of the treatments lies in the span of instruments and covariates). Law F(r, n - p - r - m).

    Parameters
    ----------
    rows : IvRows
        The study.

    Returns
    -------
    Test

    References
    ----------
    Wu (1973); Hausman (1978), "Specification tests in econometrics".
    """
    found = _added(rows)
    if found.reason:
        return absent("wu_hausman", found.reason)
    df2 = rows.n - rows.p - found.rank - rows.m
    statistic = (found.gain / found.rank) / ((found.without - found.gain) / df2)
    p_value, law = f_law(statistic, found.rank, float(df2))
    text = f"Wu-Hausman F {statistic:.4g}, law {law}, no factor ({in_words(p_value)}).{_deficient(rows, found.rank)}"
    made = Test("wu_hausman", statistic, (float(found.rank), float(df2)), p_value, law, text)
    return withheld(made, rows, f"Wu-Hausman F {statistic:.4g}", _READ)


def durbin(rows: IvRows) -> Test:
    """Durbin's test that the treatments are exogenous, homoskedastic.

    n (RSS_0 - RSS_1)/RSS_0 with the sums of squares of :func:`wu_hausman`, chi-squared with r degrees of freedom.

    Parameters
    ----------
    rows : IvRows
        The study.

    Returns
    -------
    Test

    References
    ----------
    Durbin (1954), "Errors in variables".
    """
    found = _added(rows)
    if found.reason:
        return absent("durbin", found.reason)
    statistic = rows.n * found.gain / found.without
    p_value, law = chi2_law(statistic, found.rank)
    text = (
        f"Durbin {statistic:.4g}, law {law}, factor n = {rows.n} ({in_words(p_value)}).{_deficient(rows, found.rank)}"
    )
    made = Test("durbin", statistic, (float(found.rank),), p_value, law, text)
    return withheld(made, rows, f"Durbin {statistic:.4g}", _READ)


def robust_endogeneity(rows: IvRows, sandwich: Sandwich) -> Test:
    """Wald test that M_Z X adds nothing to OLS, under the study's covariance.

    The regression of :func:`wu_hausman` with a covariance that allows heteroskedasticity, clusters or distance;
    "classical" makes it the Wu-Hausman F, and is read as "hc1" with unequal weights.

    Parameters
    ----------
    rows : IvRows
        The study.
    sandwich : Sandwich
        Any kind but "hc3".

    Returns
    -------
    Test
        ``statistic`` on the F scale, law F(r, df of the covariance) or chi-squared over r.

    References
    ----------
    Wooldridge (1995), "Score diagnostics for linear models estimated by two stage least squares".
    """
    found = _added(rows)
    if found.reason:
        return absent("endogeneity_robust", found.reason)
    n, columns = rows.n, rows.p + found.rank
    sandwich = tested_sandwich(sandwich, rows)
    coefficient = found.basis.T @ (rows.y * np.sqrt(rows.weights))
    if sandwich.kind == "classical":
        df = float(n - columns - rows.m) if rows.dof == "small" else math.inf
        spread = (found.without - found.gain) / (n if math.isinf(df) else df)
        variance, words = spread * np.eye(found.rank), "homoskedastic covariance"
        factor = 1.0 if math.isinf(df) else n / df
    else:
        influence = n * found.basis * found.residuals[:, None]
        covariance = iv_covariance(rows, influence, resolved_sandwich(sandwich, rows), columns=columns)
        variance, words, factor = covariance.matrix, covariance_words(covariance), covariance.factor
        df = math.inf if rows.dof == "none" else covariance.df
    value, reason = wald(coefficient, variance)
    if reason is not None:
        return absent("endogeneity_robust", f"The robust endogeneity test is not available: {reason}.")
    statistic = value / found.rank
    p_value, law = f_law(statistic, found.rank, df)
    text = (
        f"Robust endogeneity F {statistic:.4g} ({words}), law {law} ({in_words(p_value)})."
        f"{_deficient(rows, found.rank)}"
    )
    freedom = (float(found.rank),) if math.isinf(df) else (float(found.rank), df)
    return Test("endogeneity_robust", statistic, freedom, p_value, law, text, statistic, factor)


def validity_checks(rows: IvRows, sandwich: Sandwich) -> list[CheckResult]:
    """Over-identification and endogeneity in sentences.

    Names: "sargan", "hansen", "wu_hausman", "durbin", "endogeneity_robust". The endogeneity tests have no pass or fail:
    they compare OLS with TSLS.

    Parameters
    ----------
    rows : IvRows
        The study.
    sandwich : Sandwich
        Covariance of Hansen's J and of the robust endogeneity test; any kind but "hc3".

    Returns
    -------
    list of CheckResult
    """
    out = [_restrictions(test) for test in (sargan(rows), hansen(rows, sandwich))]
    tests = (wu_hausman(rows), durbin(rows), robust_endogeneity(rows, sandwich))
    return out + [_endogeneity(test) for test in tests]


def _table(test: Test) -> dict[str, list[Any]]:
    names = ["statistic", *(f"df{k + 1}" for k in range(len(test.df))), "p_value", "factor"]
    return {"quantity": list(names), "value": [test.statistic, *test.df, test.p_value, test.factor]}


def _restrictions(test: Test) -> CheckResult:
    if not test.law:
        return CheckResult(test.name, None, test.statistic, test.text)
    passed = test.p_value >= LEVEL
    text = test.text + (
        " The instruments do not contradict each other, which they also would not if all were invalid in the same way."
        if passed
        else " At least one instrument is invalid, or effects differ across units and the instruments move different "
        "units."
    )
    return CheckResult(test.name, passed, test.statistic, text, _table(test))


def _endogeneity(test: Test) -> CheckResult:
    if not test.law:
        return CheckResult(test.name, None, test.statistic, test.text)
    text = test.text + (
        " TSLS and OLS differ by more than chance."
        if test.p_value < LEVEL
        else " TSLS and OLS do not differ by more than chance, which weak instruments make likely whether or not the "
        "treatments are endogenous."
    )
    return CheckResult(test.name, None, test.statistic, f"{text} Neither outcome is a failure.", _table(test))
