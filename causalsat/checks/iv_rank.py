"""How far the instruments move every combination of the treatments: the pencil, Cragg-Donald and Kleibergen-Paap."""

import math
from dataclasses import dataclass

import numpy as np

from causalsat.checks.iv_tests import Test, absent, chi2_law, f_law, in_words, wald, withheld
from causalsat.errors import IdentificationError
from causalsat.inference.covariance import Covariance
from causalsat.inference.iv_covariance import iv_covariance, resolved_sandwich, tested_sandwich
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich

_EXACT = 1e-13


@dataclass(frozen=True, eq=False)
class FirstStageScores:
    """Covariance of all first-stage coefficients, instruments made orthonormal.

    Attributes
    ----------
    variance : np.ndarray
        (p q, p q) float64 variance of sqrt(n) L^{-1} Z'X/n, the q moments of each treatment together; the factor is
        inside. Entries are NaN where no usable variance exists.
    factor : float
        Finite-sample factor inside ``variance``.
    df : float
        Denominator degrees of freedom of F laws (infinite: chi-squared).
    words : str
        Kind and factor, for sentences.
    """

    variance: np.ndarray
    factor: float
    df: float
    words: str


def first_stage_scores(rows: IvRows, sandwich: Sandwich) -> FirstStageScores:
    """Covariance of the first-stage coefficients of all treatments at once.

    Parameters
    ----------
    rows : IvRows
        The study.
    sandwich : Sandwich
        Any kind but "hc3"; "classical" is read as "hc1" with unequal weights.

    Returns
    -------
    FirstStageScores
    """
    moments, asked = rows.moments, sandwich
    sandwich = tested_sandwich(sandwich, rows)
    if sandwich.kind == "classical":
        small = rows.dof == "small"
        factor = rows.n / rows.d1 if small else 1.0
        words = f"homoskedastic covariance, factor {_ratio('n/(n - q - m)', factor, small)}"
        variance = np.kron(moments.XMX * factor, np.eye(rows.q))
        return FirstStageScores(variance, factor, float(rows.d1) if small else math.inf, words)
    whitened = np.linalg.solve(moments.L, (rows.Z * rows.weights[:, None]).T).T
    scores = (moments.MX[:, :, None] * whitened[:, None, :]).reshape(rows.n, rows.p * rows.q)
    used = resolved_sandwich(sandwich, rows)
    found = iv_covariance(rows, scores, used, columns=rows.q)
    df = math.inf if rows.dof == "none" else found.df
    words = covariance_words(found)
    if asked != sandwich:
        words += " (classical takes the unequal weights for precisions)"
    return FirstStageScores(rows.n * found.matrix, found.factor, df, words)


def covariance_words(found: Covariance) -> str:
    """Kind, clusters or cutoff, and factor of a covariance in words."""
    inside = ""
    if found.n_clusters is not None:
        inside = f" over {found.n_clusters} clusters"
    elif found.cutoff_km is not None:
        inside = f" within {found.cutoff_km:g} km"
    return f"{found.kind} covariance{inside}, factor {found.factor:.6g}"


def _ratio(formula: str, factor: float, small: bool) -> str:
    return f"{formula} = {factor:.6g}" if small else "1"


@dataclass(frozen=True, eq=False)
class Pencil:
    """Combinations of the treatments, ordered by how much of their variance the instruments explain.

    Attributes
    ----------
    share : np.ndarray
        (p,) float64 eigenvalues of (X'P_Z X, X'X), ascending, in [0, 1].
    odds : np.ndarray
        (p,) float64 share/(1 - share), from residual rows; infinite for a combination inside the span of Z.
    combinations : np.ndarray
        (p, p) float64, one combination of the treatments per column, X'X/n-orthonormal.
    """

    share: np.ndarray
    odds: np.ndarray
    combinations: np.ndarray


def pencil(rows: IvRows) -> Pencil:
    """Eigenvalues of (X'P_Z X, X'X), which exist also when M_Z X is rank-deficient.

    Parameters
    ----------
    rows : IvRows
        The study; X has full column rank.

    Returns
    -------
    Pencil
        Smallest odds times d1 = Cragg-Donald.

    Raises
    ------
    IdentificationError
        Treatments that are collinear.
    """
    moments = rows.moments
    size = np.sqrt(np.diag(moments.XX))
    correlation = moments.XX / np.outer(size, size)
    if np.linalg.eigvalsh(correlation)[0] <= _EXACT:
        raise IdentificationError(
            f"the treatments {', '.join(rows.treatments)} are collinear once the covariates are partialled out, so no "
            "instrument can tell their effects apart; drop one of them."
        )
    lower = np.linalg.cholesky(correlation)
    half = np.linalg.solve(lower, (moments.B / size[None, :]).T)
    share, vectors = np.linalg.eigh(half @ half.T)
    combinations = np.linalg.solve(lower.T, vectors) / size[:, None]
    inside = ((moments.B @ combinations) ** 2).sum(axis=0)
    outside = np.einsum("ij,ik,kj->j", combinations, moments.XMX, combinations)
    exact = outside <= _EXACT * (inside + outside)
    odds = np.where(exact, math.inf, inside / np.where(exact, 1.0, outside))
    return Pencil(np.where(share > 0.0, share, 0.0), odds, combinations)


def cragg_donald(rows: IvRows, found: Pencil) -> Test:
    """Cragg-Donald test that some combination of the treatments is not moved by the instruments.

    lambda_CD = d1 theta/(1 - theta), theta the smallest eigenvalue of (X'P_Z X, X'X): chi-squared with q - p + 1
    degrees of freedom under homoskedasticity, and lambda_CD/q is the F that Stock and Yogo (2005) tabulate.
    """
    scale = rows.d1 if rows.dof == "small" else rows.n
    statistic = float(scale * found.odds[0])
    df = rows.q - rows.p + 1
    p_value, law = chi2_law(statistic, df)
    f = statistic / rows.q
    text = (
        f"Cragg-Donald: F {f:.4g}; the statistic {statistic:.4g} (= F times q = {rows.q}, scaled by "
        f"{'n - q - m' if rows.dof == 'small' else 'n'} = {scale}) follows {law} when one combination of the "
        f"treatments is not moved by the instruments and errors are homoskedastic ({in_words(p_value)})."
    )
    made = Test("cragg_donald", statistic, (float(df),), p_value, law, text, f, rows.n / scale)
    return withheld(made, rows, f"Cragg-Donald: F {f:.4g}, statistic {statistic:.4g}", "read Kleibergen-Paap")


def kleibergen_paap(rows: IvRows, found: Pencil, scores: FirstStageScores) -> Test:
    """Kleibergen-Paap rank test under heteroskedasticity, clustering or spatial dependence.

    With Theta = S^{1/2} Pi Sigma_vv^{-1/2}, rk = n lambda' Omega^{-1} lambda for lambda = U_2' Theta v_p, v_p the
    right vector of the smallest singular value and U_2 the left complement of the others. Theta v_p is written as
    B gamma with gamma the smallest pencil combination, so that a singular Sigma_vv does no harm. chi-squared with
    q - p + 1 degrees of freedom; the printed F is rk/q times the inverse factor of the covariance. With one treatment
    it is the robust first-stage F.

    References
    ----------
    Kleibergen & Paap (2006), "Generalized reduced rank tests using the singular value decomposition".
    """
    if math.isinf(found.odds[0]):
        return absent("kleibergen_paap", "Every combination of the treatments is a linear function of the instruments.")
    q, p, moments = rows.q, rows.p, rows.moments
    gamma = found.combinations[:, 0]
    complement = np.linalg.qr(moments.B @ found.combinations[:, 1:], mode="complete")[0][:, p - 1 :]
    mapped = np.kron(gamma[None, :], complement.T)
    variance = mapped @ scores.variance @ mapped.T
    value, reason = wald(complement.T @ moments.B @ gamma, 0.5 * (variance + variance.T))
    if reason is not None:
        return absent("kleibergen_paap", f"Kleibergen-Paap is not available: {reason}.")
    printed = rows.n * value
    statistic, df = printed * scores.factor, q - p + 1
    p_value, law = chi2_law(statistic, df)
    text = (
        f"Kleibergen-Paap rk: F {printed / q:.4g} ({scores.words}); the statistic {statistic:.4g} without the factor "
        f"follows {law} when one combination of the treatments is not moved by the instruments ({in_words(p_value)})."
    )
    return Test("kleibergen_paap", statistic, (float(df),), p_value, law, text, printed / q, scores.factor)


def sanderson_windmeijer(rows: IvRows) -> tuple[Test, ...]:
    """Conditional F of each treatment given the others, homoskedastic; with one treatment the classical F.

    r = X_j - X_{-j} delta with delta by TSLS; F_j = (r'P_Z r/(q - p + 1))/(r'M_Z r/d1), law F(q - p + 1, d1) when the
    instruments do not move X_j beyond what moves the other treatments.

    References
    ----------
    Sanderson & Windmeijer (2016), "A weak instrument F-test in linear IV models with multiple endogenous variables".
    """
    return tuple(_conditional(rows, j) for j in range(rows.p))


def _conditional(rows: IvRows, j: int) -> Test:
    moments, others = rows.moments, np.arange(rows.p) != j
    delta = np.linalg.lstsq(moments.B[:, others], moments.B[:, j], rcond=None)[0]
    combination = np.zeros(rows.p)
    combination[j], combination[others] = 1.0, -delta
    projected = moments.B @ combination
    inside, outside = float(projected @ projected), float(combination @ moments.XMX @ combination)
    df, small = rows.q - rows.p + 1, rows.dof == "small"
    total = float(combination**2 @ np.diag(moments.XX))
    odds = math.inf if outside <= _EXACT * total else inside / outside
    statistic = odds * (rows.d1 if small else rows.n) / df
    p_value, law = f_law(statistic, df, float(rows.d1) if small else math.inf)
    text = f"conditional F of {rows.treatments[j]} {statistic:.4g}, law {law}, no factor ({in_words(p_value)})"
    freedom = (float(df), float(rows.d1)) if small else (float(df),)
    made = Test(f"sanderson_windmeijer[{rows.treatments[j]}]", statistic, freedom, p_value, law, text)
    return withheld(made, rows, f"conditional F of {rows.treatments[j]} {statistic:.4g}", "read Kleibergen-Paap")
