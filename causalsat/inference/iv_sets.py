"""Confidence sets that hold whatever the strength of the instruments: Anderson-Rubin, CLR and LM."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from causalsat.errors import OptionError, number, one_of
from causalsat.inference.iv_clr import clr_level, clr_p_value, lm_levels
from causalsat.inference.iv_covariance import tested_sandwich
from causalsat.inference.iv_pencil import Pencil, level_set, pencil_of, ratio, roots, subset_ratio, undefined
from causalsat.inference.iv_quadratic import LINE, Pieces, shape, union, written
from causalsat.inference.iv_rows import PRECISIONS, IvRows
from causalsat.inference.options import Sandwich

if TYPE_CHECKING:
    from causalsat.inference.iv_robust_ar import ReducedForm

METHODS = ("ar", "clr", "lm")
AR_LAWS = ("chi2", "f")
ONE_TREATMENT = "this test is inverted for one treatment only; with several, read the Anderson-Rubin sets"
FEWER = "there are fewer instruments than treatments: no effect is identified"
WEIGHTED = f"{PRECISIONS}: neither a p-value nor a set is given; read the robust Anderson-Rubin set"
_EMPTY = "empty: the model is rejected, no effect makes the instruments unrelated to the residuals; it is not precision"
_LINE = "the whole line: the data exclude no effect"


class SetTest(NamedTuple):
    """A test at one value: statistic, degrees of freedom, p-value, and the law with its scaling.

    Where there is no p-value, ``law`` says why.
    """

    statistic: float
    df: float
    p_value: float
    law: str = ""


@dataclass(frozen=True)
class ConfidenceSet:
    """All values of an effect that a test does not reject.

    Attributes
    ----------
    method : str
        "ar", "clr" or "lm".
    kind : str
        "homoskedastic" or "robust".
    pieces : tuple of (float, float)
        Sorted disjoint closed pieces in units of the outcome per unit of the treatment; ends may be infinite.
    shape : str
        "interval", "rays", "line", "empty", "ray", "intervals" or "mixed".
    level : float
        Confidence level.
    text : str
        The set in words.
    """

    method: str
    kind: str
    pieces: Pieces
    shape: str
    level: float
    text: str

    def hull(self) -> tuple[float, float]:
        """Smallest and largest value in the set; NaN when it is empty."""
        return (self.pieces[0][0], self.pieces[-1][1]) if self.pieces else (math.nan, math.nan)

    def contains(self, b: float) -> bool:
        """Whether ``b`` is in the set."""
        return any(low <= b <= high for low, high in self.pieces)


@dataclass(frozen=True)
class SetRow:
    """One method for one treatment: the test at the null and the set, or why there is none.

    Attributes
    ----------
    method, treatment, kind : str
        "ar", "clr" or "lm"; name of the treatment; "homoskedastic" or "robust".
    statistic, p_value : float
        The test of effect = null; NaN where undefined.
    found : ConfidenceSet, optional
        The set.
    reason : str, optional
        Why there is no set.
    """

    method: str
    treatment: str
    kind: str
    statistic: float
    p_value: float
    found: ConfidenceSet | None
    reason: str | None = None


def confidence_sets(
    rows: IvRows,
    methods: str | Sequence[str],
    *,
    level: float = 0.95,
    sandwich: Sandwich | None = None,
    ar_law: str = "chi2",
    null: float = 0.0,
) -> tuple[SetRow, ...]:
    """Weak-instrument sets of every treatment by each method.

    They hold with instruments of any strength, assuming that instruments and the structural error are uncorrelated;
    "homoskedastic" sets assume in addition an error of constant variance and independent rows; unequal (sampling)
    weights break their laws even then, so that they are reasons, beside their statistics. Several treatments: the
    homoskedastic set of one effect compares the smallest root of the pencil of [y - x_j b_j, other treatments] with
    a chi-squared law of q - p + 1 degrees of freedom; the robust one projects the joint set (conservative); CLR and LM
    are reasons.

    Parameters
    ----------
    rows : IvRows
        The study, net of what was partialled out.
    methods : str or sequence of str
        Any of "ar", "clr", "lm".
    level : float
        Confidence level.
    sandwich : Sandwich, optional
        Covariance of the robust Anderson-Rubin set; None or "classical" leaves it out, but "classical" is read as "hc1"
        with unequal weights.
    ar_law : str
        "chi2", or "f" for the F law of the homoskedastic Anderson-Rubin test.
    null : float
        Value at which each row's test is reported.

    Returns
    -------
    tuple of SetRow
        For each treatment: methods in the order given, homoskedastic before robust.

    Raises
    ------
    OptionError
        An unknown method or law, a level outside (0, 1).

    References
    ----------
    Anderson & Rubin (1949); Moreira (2003); Kleibergen (2002); Mikusheva (2010); Guggenberger, Kleibergen, Mavroeidis &
    Chen (2012), "On the asymptotic sizes of subset Anderson-Rubin and Lagrange multiplier tests".

    Examples
    --------
    >>> from causalsat.inference.sampling import Sampling
    >>> z = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    >>> x = z + np.array([0.1, -0.2, 0.1, 0.2, -0.1, -0.1])
    >>> y = 2.0 * x + np.array([0.1, 0.1, -0.2, 0.1, 0.1, -0.2])
    >>> one, rows_of = np.ones(6), Sampling(6)
    >>> rows = IvRows(y, x[:, None], z[:, None], one, np.zeros((6, 0)), 1, 1, rows_of)
    >>> confidence_sets(rows, "ar")[0].found.shape
    'interval'
    """
    wanted = (methods,) if isinstance(methods, str) else tuple(methods)
    for method in wanted:
        one_of("sets", method, METHODS)
    one_of("ar_law", ar_law, AR_LAWS)
    number("level", level, 0.0, 1.0)
    if not 0.0 < level < 1.0:
        raise OptionError(f"level={level:g} must lie strictly between 0 and 1; 0.95 is usual.")
    pencil = pencil_of(rows)
    used = None if sandwich is None else tested_sandwich(sandwich, rows)
    form = None if used is None or used.kind == "classical" or "ar" not in wanted else _form(rows, used)
    found: list[SetRow] = []
    for j in range(rows.p):
        for method in wanted:
            found.append(_homoskedastic(rows, pencil, method, j, level, ar_law, null))
            if method == "ar" and form is not None:
                found.append(_robust(form, rows.treatments[j], j, level, null))
    return tuple(found)


def ar_test(rows: IvRows, b: np.ndarray, *, sandwich: Sandwich | None = None, law: str = "chi2") -> SetTest:
    """Anderson-Rubin test of the whole vector of effects.

    Homoskedastic: (d1/q) e'P_Z e/e'M_Z e with e = y - X b, against chi-squared(q)/q or F(q, d1). Robust:
    n g'V^{-1} g against chi-squared(q), with g the moments of e and V the robust variance of z e under the null.

    Parameters
    ----------
    rows : IvRows
        The study.
    b : np.ndarray
        (p,) effects under the null, raw units.
    sandwich : Sandwich, optional
        None or "classical" is the homoskedastic test.
    law : str
        "chi2" or "f".

    Returns
    -------
    SetTest
        NaN statistic, with the reason as its law, where undefined; the homoskedastic test has no p-value with unequal
        weights.

    References
    ----------
    Anderson & Rubin (1949), "Estimation of the parameters of a single equation in a complete system of stochastic
    equations"; Stock & Wright (2000), "GMM with weak identification", for the robust variance under the null.
    """
    one_of("ar_law", law, AR_LAWS)
    value = np.asarray(b, dtype=np.float64).reshape(rows.p)
    if sandwich is not None and sandwich.kind != "classical":
        from causalsat.inference.iv_robust_ar import robust_ar_test

        return SetTest(*robust_ar_test(rows, value, sandwich))
    pencil = pencil_of(rows)
    why = undefined(pencil)
    if why:
        return SetTest(math.nan, math.nan, math.nan, why)
    return _withheld(rows, _f_scale(ratio(pencil, value), rows.q, rows.d1, law))


def clr_test(rows: IvRows, b: float) -> SetTest:
    """Conditional likelihood ratio test of one effect (Moreira 2003), homoskedastic.

    Parameters
    ----------
    rows : IvRows
        A study with one treatment.
    b : float
        Effect under the null, raw units.

    Returns
    -------
    SetTest
        df is NaN: the law is conditional on the strength statistic Q_T.
    """
    if rows.p != 1:
        return SetTest(math.nan, math.nan, math.nan, ONE_TREATMENT)
    pencil = pencil_of(rows)
    why = undefined(pencil)
    if why:
        return SetTest(math.nan, math.nan, math.nan, why)
    low, high = eigenvalues(pencil)
    reached = ratio(pencil, np.array([float(b)]))
    statistic = max(reached - low, 0.0)
    tau = high if math.isinf(high) else max(low + high - reached, 0.0)
    test = SetTest(statistic, math.nan, clr_p_value(statistic, tau, rows.q), f"conditional on Q_T = {tau:.4g}")
    return _withheld(rows, test)


def lm_test(rows: IvRows, b: np.ndarray) -> SetTest:
    """Lagrange multiplier (K) test of the whole vector of effects (Kleibergen 2002), homoskedastic.

    d1 e'P e/e'M_Z e, with P the projection on P_Z X less its part that is correlated with e; chi-squared(p).

    Parameters
    ----------
    rows : IvRows
        The study.
    b : np.ndarray
        (p,) effects under the null, raw units.

    Returns
    -------
    SetTest
    """
    value = np.asarray(b, dtype=np.float64).reshape(rows.p)
    pencil = pencil_of(rows)
    why = undefined(pencil)
    if why:
        return SetTest(math.nan, math.nan, math.nan, why)
    moments = rows.moments
    g, residual = moments.w - moments.B @ value, moments.My - moments.MX @ value
    spread = float(np.mean(rows.weights * residual**2))
    slope = (rows.weights * residual) @ moments.MX / (rows.n * spread)
    basis = np.linalg.qr((moments.B - np.outer(g, slope)) / pencil.scale[None, 1:])[0]
    statistic = rows.d1 * float(np.sum((basis.T @ g) ** 2)) / spread
    return _withheld(rows, SetTest(statistic, rows.p, _chi2_tail(statistic, rows.p), f"chi-squared({rows.p})"))


def eigenvalues(pencil: Pencil) -> tuple[float, float]:
    """mu_min and mu_max, the eigenvalues of Omega^{-1} G for one treatment; mu_min is exactly 0 when q is 1."""
    found = pencil.d1 * roots(pencil.G, pencil.M)
    return (0.0 if pencil.q == 1 else float(found[0])), float(found[-1])


def made_set(method: str, kind: str, pieces: Pieces, level: float, note: str = "") -> ConfidenceSet:
    """A set with its shape and its words."""
    name = shape(pieces)
    text = _EMPTY if name == "empty" else _LINE if name == "line" else written(pieces)
    return ConfidenceSet(method, kind, pieces, name, level, f"{text}; {note}" if note else text)


def _homoskedastic(rows: IvRows, pencil: Pencil, method: str, j: int, level: float, ar_law: str, null: float) -> SetRow:
    name = rows.treatments[j]
    why = undefined(pencil) or (ONE_TREATMENT if method != "ar" and rows.p > 1 else None)
    if why is None and rows.q < rows.p:
        why = FEWER
    if why:
        return SetRow(method, name, "homoskedastic", math.nan, math.nan, None, why)
    df = rows.q - rows.p + 1
    if method == "ar":
        test = _withheld(rows, _f_scale(subset_ratio(pencil, j, null), df, rows.d1, ar_law))
    else:
        test = clr_test(rows, null) if method == "clr" else lm_test(rows, np.array([null]))
    if rows.unequal:
        return SetRow(method, name, "homoskedastic", test.statistic, math.nan, None, WEIGHTED)
    if method == "ar":
        pieces = level_set(pencil, j, _critical(df, rows.d1, 1.0 - level, ar_law))
    else:
        pieces = _clr_pieces(pencil, 1.0 - level) if method == "clr" else _lm_pieces(pencil, 1.0 - level)
    note = "one of the pieces may be spurious" if method == "lm" and len(pieces) > 1 and rows.q > 1 else ""
    made = made_set(method, "homoskedastic", pieces, level, note)
    return SetRow(method, name, "homoskedastic", test.statistic, test.p_value, made)


def _withheld(rows: IvRows, test: SetTest) -> SetTest:
    """The test without its p-value where weights are unequal."""
    return test._replace(p_value=math.nan, law=WEIGHTED) if rows.unequal else test


def _form(rows: IvRows, sandwich: Sandwich) -> "ReducedForm | str":
    from causalsat.inference.iv_robust_ar import robust_form

    return FEWER if rows.q < rows.p else robust_form(rows, sandwich)


def _robust(form: "ReducedForm | str", name: str, j: int, level: float, null: float) -> SetRow:
    from causalsat.inference.iv_robust_ar import robust_ar_set

    if isinstance(form, str):
        return SetRow("ar", name, "robust", math.nan, math.nan, None, form)
    statistic, p_value, pieces, note = robust_ar_set(form, j, level, null)
    powerless = form.powerless(level)
    if powerless:
        return SetRow("ar", name, "robust", statistic, p_value, None, powerless)
    return SetRow("ar", name, "robust", statistic, p_value, made_set("ar", "robust", pieces, level, note))


def _clr_pieces(pencil: Pencil, alpha: float) -> Pieces:
    if pencil.q == 1:
        return level_set(pencil, 0, _critical(1, pencil.d1, alpha, "chi2"))
    level = clr_level(*eigenvalues(pencil), pencil.q, alpha)
    return LINE if math.isinf(level) else level_set(pencil, 0, level)


def _lm_pieces(pencil: Pencil, alpha: float) -> Pieces:
    critical = _critical(1, pencil.d1, alpha, "chi2")
    if pencil.q == 1:
        return level_set(pencil, 0, critical)
    lower, upper = lm_levels(*eigenvalues(pencil), critical)
    if math.isinf(lower):
        return LINE
    far = () if math.isinf(upper) else level_set(pencil, 0, upper, above=True)
    return union(level_set(pencil, 0, lower), far)


def _f_scale(statistic: float, df: int, d1: int, law: str) -> SetTest:
    """A statistic d1 e'Pe/e'Me divided by its degrees of freedom, with the p-value of its law."""
    from scipy import special

    if law == "f":
        return SetTest(statistic / df, df, float(special.fdtrc(df, d1, statistic / df)), f"F({df}, {d1})")
    return SetTest(statistic / df, df, _chi2_tail(statistic, df), f"chi-squared({df})/{df}")


def _critical(df: int, d1: int, alpha: float, law: str) -> float:
    """Quantile on the scale of a chi-squared statistic."""
    from scipy import special, stats

    return float(df * stats.f.isf(alpha, df, d1)) if law == "f" else float(special.chdtri(df, alpha))


def _chi2_tail(statistic: float, df: int) -> float:
    from scipy import special

    return float(special.chdtrc(df, statistic))
