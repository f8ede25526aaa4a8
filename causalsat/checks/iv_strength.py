"""How strongly the instruments move the treatments, in numbers and in words."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.checks.iv_critical_values import (
    CriticalValues,
    bias_critical_values,
    effective_critical_values,
    size_critical_values,
)
from causalsat.checks.iv_rank import (
    FirstStageScores,
    cragg_donald,
    first_stage_scores,
    kleibergen_paap,
    pencil,
    sanderson_windmeijer,
)
from causalsat.checks.iv_tests import LEVEL, Test, f_law, in_words, wald
from causalsat.checks.result import CheckResult
from causalsat.inference.iv_rows import PRECISIONS, IvRows
from causalsat.inference.options import Sandwich

_EXACT = 1e-13
RULE_OF_THUMB = 10.0


@dataclass(frozen=True)
class FirstStage:
    """Numbers of the first stage; one entry per treatment where a tuple of arrays says (p,).

    Attributes
    ----------
    treatments : tuple of str
        Names.
    partial_r2 : np.ndarray
        (p,) share of each treatment's variance, net of covariates, explained by the instruments.
    shea_r2 : np.ndarray
        (p,) Shea's partial R^2: the share that is also independent of the other instrumented treatments.
    f_classical, f_robust : np.ndarray
        (p,) F of the instruments, homoskedastic and under the study's covariance.
    p_classical, p_robust : np.ndarray
        (p,) their p-values.
    law_classical, law_robust : str
        Their laws; "" for the classical F with unequal weights, whose p-values are NaN.
    f_effective : float
        Effective F of Montiel Olea and Pflueger (one treatment, else NaN).
    effective_critical : dict of int to float
        5, 10, 20, 30 per cent of the worst-case bias -> critical value.
    effective_degrees : dict of int to float
        Effective degrees of freedom K behind each critical value.
    cragg_donald, kleibergen_paap : Test
        Rank tests; ``f`` is the printed F.
    sanderson_windmeijer : np.ndarray
        (p,) conditional F of each treatment given the others; with one treatment the classical F.
    conditional : tuple of Test
        The same with laws and p-values.
    stock_yogo_bias, stock_yogo_size : CriticalValues
        Critical values of the classical (Cragg-Donald) F.
    covariance : str
        Kind and factor of the covariance behind the robust numbers, in words.
    factor : float
        Finite-sample factor inside that covariance.
    unavailable : dict of str to str
        Name of a missing number -> reason.
    unequal : bool
        Whether weights differ. The laws of the classical, Cragg-Donald and conditional F then take them for precisions,
        and these numbers are held against no critical value.
    """

    treatments: tuple[str, ...]
    partial_r2: np.ndarray
    shea_r2: np.ndarray
    f_classical: np.ndarray
    f_robust: np.ndarray
    p_classical: np.ndarray
    p_robust: np.ndarray
    law_classical: str
    law_robust: str
    f_effective: float
    effective_critical: dict[int, float]
    effective_degrees: dict[int, float]
    cragg_donald: Test
    kleibergen_paap: Test
    sanderson_windmeijer: np.ndarray
    conditional: tuple[Test, ...]
    stock_yogo_bias: CriticalValues
    stock_yogo_size: CriticalValues
    covariance: str
    factor: float
    unavailable: dict[str, str] = field(default_factory=dict)
    unequal: bool = False

    @property
    def weak(self) -> bool:
        """Whether the instruments count as weak.

        One treatment: the effective F does not exceed its 10 % value. Several: the smallest conditional F, or the
        Kleibergen-Paap F, does not exceed ten; with unequal weights the Kleibergen-Paap F alone. A number that does
        not exist counts as weak.
        """
        if len(self.treatments) == 1:
            return not self.f_effective > self.effective_critical[10]
        if self.unequal:
            return not self.kleibergen_paap.f > RULE_OF_THUMB
        low = float(self.sanderson_windmeijer.min())
        rank = self.kleibergen_paap.f if not math.isnan(self.kleibergen_paap.f) else self.cragg_donald.f
        return not (low > RULE_OF_THUMB and rank > RULE_OF_THUMB)


def first_stage(rows: IvRows, sandwich: Sandwich) -> FirstStage:
    """Every number about the strength of the instruments.

    The first stage X = Z Pi + V is fitted on rows net of the covariates. Degrees of freedom: d1 = n - q - m where
    ``rows.dof`` is "small", n where it is "none".

    Parameters
    ----------
    rows : IvRows
        The study, n rows, p treatments, q >= p linearly independent instruments.
    sandwich : Sandwich
        Covariance of the robust numbers: any kind but "hc3"; "classical" is read as "hc1" with unequal weights.

    Returns
    -------
    FirstStage

    Raises
    ------
    OptionError
        ``sandwich`` needs clusters or coordinates that the rows do not have, or is "hc3".

    References
    ----------
    Shea (1997); Cragg & Donald (1993); Stock & Yogo (2005); Kleibergen & Paap (2006); Montiel Olea & Pflueger (2013);
    Sanderson & Windmeijer (2016).
    """
    scores, found, conditional = first_stage_scores(rows, sandwich), pencil(rows), sanderson_windmeijer(rows)
    partial, shea = partial_r2(rows)
    classical, p_classical, law_classical = _classical_f(rows)
    robust, p_robust, law_robust, unavailable = _robust_f(rows, scores)
    effective, critical, reason = _effective(rows, scores)
    if reason:
        unavailable["effective_f"] = reason
    return FirstStage(
        treatments=rows.treatments,
        partial_r2=partial,
        shea_r2=shea,
        f_classical=classical,
        f_robust=robust,
        p_classical=p_classical,
        p_robust=p_robust,
        law_classical=law_classical,
        law_robust=law_robust,
        f_effective=effective,
        effective_critical=critical.values,
        effective_degrees=critical.degrees or {},
        cragg_donald=cragg_donald(rows, found),
        kleibergen_paap=kleibergen_paap(rows, found, scores),
        sanderson_windmeijer=np.array([test.statistic for test in conditional]),
        conditional=conditional,
        stock_yogo_bias=bias_critical_values(rows.p, rows.q),
        stock_yogo_size=size_critical_values(rows.p, rows.q),
        covariance=scores.words,
        factor=scores.factor,
        unavailable=unavailable,
        unequal=rows.unequal,
    )


def partial_r2(rows: IvRows) -> tuple[np.ndarray, np.ndarray]:
    """Partial R^2 of each treatment and Shea's, both (p,).

    Partial: X_j'P_Z X_j/X_j'X_j. Shea: (X'X)^{-1}_jj/(X'P_Z X)^{-1}_jj, equal to the first for one treatment.
    """
    moments = rows.moments
    partial = np.diag(moments.XPX) / np.diag(moments.XX)
    if rows.p == 1:
        return partial, partial.copy()
    size = np.sqrt(np.diag(moments.XX))
    scale = np.outer(size, size)
    total = np.diag(np.linalg.inv(moments.XX / scale))
    projected = np.diag(np.linalg.pinv(moments.XPX / scale, hermitian=True))
    return partial, total / projected


def _odds(rows: IvRows) -> np.ndarray:
    moments = rows.moments
    inside, outside = np.diag(moments.XPX), np.diag(moments.XMX)
    exact = outside <= _EXACT * (inside + outside)
    return np.where(exact, math.inf, inside / np.where(exact, 1.0, outside))


def _classical_f(rows: IvRows) -> tuple[np.ndarray, np.ndarray, str]:
    df = float(rows.d1) if rows.dof == "small" else math.inf
    values = _odds(rows) * (rows.d1 if rows.dof == "small" else rows.n) / rows.q
    if rows.unequal:
        return values, np.full(rows.p, np.nan), ""
    laws = [f_law(float(value), rows.q, df) for value in values]
    return values, np.array([p for p, _ in laws]), laws[0][1]


def _robust_f(rows: IvRows, scores: FirstStageScores) -> tuple[np.ndarray, np.ndarray, str, dict[str, str]]:
    q, exact = rows.q, np.isinf(_odds(rows))
    values, p_values, reasons, law = np.full(rows.p, np.nan), np.full(rows.p, np.nan), {}, ""
    for j, name in enumerate(rows.treatments):
        block = slice(j * q, (j + 1) * q)
        value, reason = (math.inf, None) if exact[j] else wald(rows.moments.B[:, j], scores.variance[block, block])
        values[j] = rows.n * value / q
        p_values[j], law = f_law(float(values[j]), q, scores.df)
        if reason is not None:
            reasons[f"f_robust[{name}]"] = reason
    return values, p_values, law, reasons


def _effective(rows: IvRows, scores: FirstStageScores) -> tuple[float, CriticalValues, str]:
    """F_eff = n pi'pi/tr(W) with orthonormal instruments, and its critical values."""
    critical = effective_critical_values(scores.variance[: rows.q, : rows.q])
    if rows.p > 1:
        missing = dict.fromkeys(critical.values, math.nan)
        return math.nan, CriticalValues(missing), "the effective F is defined for one treatment"
    if math.isinf(_odds(rows)[0]):
        return math.inf, critical, ""
    if critical.reason:
        return math.nan, critical, critical.reason
    b = rows.moments.B[:, 0]
    return float(rows.n * (b @ b) / np.trace(scores.variance)), critical, ""


def strength_checks(rows: IvRows, sandwich: Sandwich, found: FirstStage | None = None) -> list[CheckResult]:
    """The strength of the instruments in sentences.

    Names: "first_stage[<treatment>]" per treatment, "effective_f", "cragg_donald", "stock_yogo", "kleibergen_paap",
    and with several treatments "sanderson_windmeijer".

    Parameters
    ----------
    rows, sandwich
        As in :func:`first_stage`.
    found : FirstStage, optional
        The numbers, where they are already there.

    Returns
    -------
    list of CheckResult
    """
    stage = first_stage(rows, sandwich) if found is None else found
    out = [_relevance_check(rows, stage, j) for j in range(rows.p)]
    out += [_effective_check(stage), _rank_check(stage.cragg_donald), _stock_yogo_check(rows, stage)]
    out.append(_rank_check(stage.kleibergen_paap))
    if rows.p > 1:
        out.append(_conditional_check(stage))
    return out


def _relevance_check(rows: IvRows, stage: FirstStage, j: int) -> CheckResult:
    name = stage.treatments[j]
    shea = f" (Shea's {stage.shea_r2[j]:.4g})" if rows.p > 1 else ""
    robust = (
        f"{stage.f_robust[j]:.4g} ({stage.covariance}; {stage.law_robust}, {in_words(float(stage.p_robust[j]))})"
        if not math.isnan(stage.f_robust[j])
        else f"not available: {stage.unavailable[f'f_robust[{name}]']}"
    )
    law = "no p-value, since its law takes the unequal weights for precisions"
    if stage.law_classical:
        law = f"{stage.law_classical}, {in_words(float(stage.p_classical[j]))}"
    text = (
        f"{rows.q} instrument{'s' * (rows.q > 1)} of {name}: partial R2 {stage.partial_r2[j]:.4g}{shea}; classical F "
        f"{stage.f_classical[j]:.4g} ({law}); F under the study's covariance {robust}."
    )
    judged = float(stage.p_robust[j])
    passed = None if math.isnan(judged) else judged < LEVEL
    if passed is False:
        text += (
            " The instruments do not detectably move this treatment: read the Anderson-Rubin set, not the estimates."
        )
    table: dict[str, list[Any]] = {
        "quantity": ["partial_r2", "shea_r2", "f_classical", "p_classical", "f_robust", "p_robust"],
        "value": [
            float(column[j])
            for column in (
                stage.partial_r2, stage.shea_r2, stage.f_classical, stage.p_classical, stage.f_robust, stage.p_robust,
            )
        ],
    }  # fmt: skip
    return CheckResult(f"first_stage[{name}]", passed, float(stage.f_robust[j]), text, table)


def _effective_check(stage: FirstStage) -> CheckResult:
    shares = list(stage.effective_critical)
    table: dict[str, list[Any]] = {
        "bias_share_percent": shares,
        "critical_value": [stage.effective_critical[s] for s in shares],
    }
    reason = stage.unavailable.get("effective_f")
    if reason:
        return CheckResult("effective_f", None, math.nan, f"No effective F: {reason}.", table)
    passed = stage.f_effective > stage.effective_critical[10]
    values = ", ".join(f"{stage.effective_critical[s]:.2f} ({s} %)" for s in shares)
    text = (
        f"Effective F {stage.f_effective:.4g} ({stage.covariance}). To reject at the 5 % level that the bias of TSLS "
        f"exceeds a share of its worst case, it must exceed {values}: simplified critical values of Montiel Olea and "
        "Pflueger, quantiles of a noncentral chi-squared. "
    )
    text += (
        "It exceeds the 10 % value."
        if passed
        else "It does not exceed the 10 % value: the instruments are weak, Wald and limit intervals may be far off, "
        "and the Anderson-Rubin set is the one to quote."
    )
    return CheckResult("effective_f", passed, stage.f_effective, text, table)


def _rank_check(test: Test) -> CheckResult:
    if not test.law:
        return CheckResult(test.name, None, test.f, test.text)
    table: dict[str, list[Any]] = {
        "quantity": ["f", "chi2", "df", "p_value", "factor"],
        "value": [test.f, test.statistic, test.df[0], test.p_value, test.factor],
    }
    passed = test.p_value < LEVEL
    text = test.text if passed else test.text + " Identification is not established."
    return CheckResult(test.name, passed, test.f, text, table)


def _stock_yogo_check(rows: IvRows, stage: FirstStage) -> CheckResult:
    f, bias, size = stage.cragg_donald.f, stage.stock_yogo_bias, stage.stock_yogo_size
    table: dict[str, list[Any]] = {"criterion": [], "percent": [], "critical_value": [], "exceeded": []}
    for name, found in (("bias", bias), ("size", size)):
        for percent, value in found.values.items():
            table["criterion"].append(name)
            table["percent"].append(percent)
            table["critical_value"].append(value)
            table["exceeded"].append(None if math.isnan(value) else f > value)
    if rows.unequal:
        table["exceeded"] = [None] * len(table["exceeded"])
        text = (
            f"Cragg-Donald F {f:.4g} is held against no Stock-Yogo value: {PRECISIONS}; read the effective F or "
            "Kleibergen-Paap."
        )
        return CheckResult("stock_yogo", None, f, text, table)
    judge, words = (
        (bias, "10 % of the bias of OLS") if not bias.reason else (size, "a size of 10 % of the 5 % Wald test")
    )
    if judge.reason:
        text = f"No Stock-Yogo critical value for the Cragg-Donald F of {f:.4g}: {bias.reason}; {size.reason}."
        return CheckResult("stock_yogo", None, f, text, table)
    passed = f > judge.values[10]
    text = (
        f"Cragg-Donald F {f:.4g} {'exceeds' if passed else 'does not exceed'} {judge.values[10]:.2f}, the Stock-Yogo "
        f"value for {words}. These values hold for homoskedastic, independent errors only."
    )
    if not (bias.reason or size.reason):
        text += f" The value for a 10 % size of the 5 % Wald test is {size.values[10]:.2f}."
    missing = "; ".join(found.reason for found in (bias, size) if found.reason)
    return CheckResult("stock_yogo", passed, f, text + (f" Not shown: {missing}." if missing else ""), table)


def _conditional_check(stage: FirstStage) -> CheckResult:
    tests = stage.conditional
    low = float(stage.sanderson_windmeijer.min())
    text = f"Sanderson-Windmeijer: {'; '.join(test.text for test in tests)}."
    ordinary = min(float(value) for value in stage.f_classical)
    if stage.unequal:
        text += " The rule of ten is not applied to them."
    elif low <= RULE_OF_THUMB < ordinary:
        text += (
            f" Every ordinary F exceeds {RULE_OF_THUMB:g}, yet the smallest conditional F is {low:.4g}: the "
            "instruments move the treatments together and cannot tell them apart. Judge identification by this number."
        )
    elif low <= RULE_OF_THUMB:
        text += f" The smallest is at most {RULE_OF_THUMB:g}: the treatments are weakly identified."
    table: dict[str, list[Any]] = {
        "treatment": list(stage.treatments),
        "conditional_f": [test.statistic for test in tests],
        "p_value": [test.p_value for test in tests],
        "f_classical": [float(value) for value in stage.f_classical],
    }
    passed = None if stage.unequal else low > RULE_OF_THUMB
    return CheckResult("sanderson_windmeijer", passed, low, text, table)
