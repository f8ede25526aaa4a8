"""What a test of an instrumental-variable study returns, and the laws it is read against."""

import math
from dataclasses import dataclass, replace

import numpy as np

from causalsat.inference.iv_rows import PRECISIONS, IvRows

LEVEL = 0.05


@dataclass(frozen=True)
class Test:
    """One statistic with the law it is compared with.

    Attributes
    ----------
    name : str
        Short name: "sargan".
    statistic : float
        The statistic on the scale of ``law``; NaN when there is nothing to test.
    df : tuple of float
        Degrees of freedom of ``law``: one for chi-squared, two for F; empty when there is nothing to test.
    p_value : float
        Probability of a larger statistic under ``law``.
    law : str
        "chi2(2)", "F(2, 424)", "chi2(3)/3", or "" when there is nothing to test or no law to test against.
    text : str
        What is tested, the law, the finite-sample factor and the finding, in words.
    f : float
        The same statistic as it is printed on the scale of an F (Cragg-Donald and Kleibergen-Paap), else NaN.
    factor : float
        Finite-sample factor on the variance inside the printed statistic.
    """

    name: str
    statistic: float
    df: tuple[float, ...]
    p_value: float
    law: str
    text: str
    f: float = math.nan
    factor: float = 1.0


def absent(name: str, reason: str) -> Test:
    """A test that cannot be run, with the reason."""
    return Test(name, math.nan, (), math.nan, "", reason)


def withheld(test: Test, rows: IvRows, found: str, instead: str) -> Test:
    """A homoskedastic test, whose p-value and law are withheld where weights are unequal.

    Its law needs Var(sum w z e) = sigma^2 sum w z z', true of precision weights; sampling weights give
    sigma^2 sum w^2 z z'. ``found`` is the statistic in words, ``instead`` what to read.
    """
    if not rows.unequal:
        return test
    text = f"{found}, without a p-value: {PRECISIONS}; {instead}."
    return replace(test, p_value=math.nan, law="", text=text)


def chi2_law(statistic: float, df: float) -> tuple[float, str]:
    """p-value and name of a chi-squared law."""
    from scipy.stats import chi2

    return float(chi2.sf(statistic, df)), f"chi2({df:g})"


def f_law(statistic: float, df: float, df2: float) -> tuple[float, str]:
    """p-value and name of an F law; an infinite ``df2`` is a chi-squared divided by ``df``."""
    from scipy.stats import chi2
    from scipy.stats import f as fisher

    if math.isinf(df2):
        return float(chi2.sf(statistic * df, df)), f"chi2({df:g})/{df:g}" if df > 1 else "chi2(1)"
    return float(fisher.sf(statistic, df, df2)), f"F({df:g}, {df2:g})"


def in_words(p_value: float) -> str:
    """A p-value for a sentence: "p = .0199" or "p < .0001"."""
    if math.isnan(p_value):
        return "p not available"
    return "p < .0001" if p_value < 1e-4 else f"p = {p_value:.4f}"


def wald(estimate: np.ndarray, variance: np.ndarray) -> tuple[float, str | None]:
    """estimate' variance^{-1} estimate, or NaN and the reason why it does not exist.

    Parameters
    ----------
    estimate : np.ndarray
        (r,) float64.
    variance : np.ndarray
        (r, r) float64 symmetric.

    Returns
    -------
    statistic : float
        NaN where the variance is not finite or not positive definite up to rounding.
    reason : str or None
    """
    if not np.isfinite(variance).all():
        return math.nan, "the covariance of the moments has a variance that is negative or not finite"
    size = np.sqrt(np.diag(variance))
    if not (size > 0.0).all():
        return math.nan, "the covariance of the moments is singular"
    values, vectors = np.linalg.eigh(variance / np.outer(size, size))
    if values[0] <= 1e-12 * values[-1]:
        kind = "not positive definite" if values[0] < -1e-12 * values[-1] else "singular"
        return math.nan, (
            f"the covariance of the {estimate.size} moments is {kind} (with clusters, more clusters than moments are "
            "needed), so the statistic does not exist under it"
        )
    turned = vectors.T @ (estimate / size)
    return float((turned**2 / values).sum()), None
