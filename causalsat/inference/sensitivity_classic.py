"""Classical sensitivity numbers: partial R2 bounds of a regression coefficient, and the E-value."""

import math
from dataclasses import dataclass

from causalsat.errors import OptionError, number, one_of


def ols_bias(std_error: float, df: float, r2_y: float, r2_d: float) -> float:
    """Largest bias of an OLS coefficient: se sqrt(df) sqrt(r2_y r2_d / (1 - r2_d)).

    Parameters
    ----------
    std_error : float
        *Classical* standard error of the coefficient.
    df : float
        Residual degrees of freedom.
    r2_y, r2_d : float
        Partial R2 of the omitted variable with the outcome (given treatment and covariates) and with the treatment
        (given covariates).

    References
    ----------
    Cinelli and Hazlett (2020), "Making sense of sensitivity: extending omitted variable bias".

    Examples
    --------
    >>> round(ols_bias(0.1, 100, 0.2, 0.2), 4)
    0.2236
    """
    r2_y = number("r2_y", r2_y, 0.0, 1.0, open_ends=False)
    if number("r2_d", r2_d, 0.0, 1.0, open_ends=False) == 1.0:
        raise OptionError("r2_d=1 means that the omitted variable determines the treatment; give a value below 1.")
    return std_error * math.sqrt(df * r2_y * r2_d / (1.0 - r2_d))


def ols_robustness_value(t: float, df: float, q: float = 1.0) -> float:
    """RV_q: the common partial R2 with treatment and outcome that removes the share q of an OLS coefficient.

    (sqrt(f^4 + 4 f^2) - f^2) / 2 with f = q |t| / sqrt(df) (Cinelli and Hazlett 2020).

    Examples
    --------
    >>> round(ols_robustness_value(4.18, 783), 3)
    0.139
    """
    f2 = (q * t) ** 2 / df
    return (math.sqrt(f2**2 + 4.0 * f2) - f2) / 2.0


@dataclass(frozen=True)
class EValue:
    """E-values of an estimate and of the confidence limit nearest to no effect.

    Attributes
    ----------
    risk_ratio : float
        The risk ratio they refer to.
    point, limit : float
        Each at least 1; ``limit`` is 1 when the interval covers no effect, NaN without an interval.
    approximation : str
        How the risk ratio was obtained; empty when it was given.
    """

    risk_ratio: float
    point: float
    limit: float
    approximation: str = ""

    def in_words(self) -> str:
        """What the number means."""
        how = f" ({self.approximation})" if self.approximation else ""
        return (
            f"An omitted variable associated with both treatment and outcome by risk ratios of {self.point:.2f} each, "
            f"beyond the covariates, could explain away the risk ratio {self.risk_ratio:.2f}{how}; {self.limit:.2f} "
            "would move the confidence limit to no effect."
        )


def e_value(risk_ratio: float, low: float | None = None, high: float | None = None, *, how: str = "") -> EValue:
    """E-value of a risk ratio: RR + sqrt(RR (RR - 1)); a ratio below one is inverted.

    References
    ----------
    VanderWeele and Ding (2017), "Sensitivity analysis in observational research: introducing the E-value".

    Examples
    --------
    >>> round(e_value(3.9, 1.8, 8.7).point, 2), round(e_value(3.9, 1.8, 8.7).limit, 1)
    (7.26, 3.0)
    """
    for name, value in (("risk_ratio", risk_ratio), ("low", low), ("high", high)):
        if value is not None:
            number(name, value, 0.0, math.inf)
    limit = math.nan
    if low is not None and high is not None:
        limit = 1.0 if low <= 1.0 <= high else _e(low if risk_ratio > 1.0 else high)
    return EValue(float(risk_ratio), _e(risk_ratio), limit, how)


def _e(ratio: float) -> float:
    r = ratio if ratio >= 1.0 else 1.0 / ratio
    return r + math.sqrt(r * (r - 1.0))


def e_value_difference(
    d: float, low: float | None = None, high: float | None = None, *, rule: str = "gaussian"
) -> EValue:
    """E-value of a standardised difference of a continuous outcome (effect over its standard deviation).

    Approximations: "gaussian" RR = exp(.91 d); "logistic" log odds ratio = pi d / sqrt 3 and RR = sqrt(OR).

    Examples
    --------
    >>> round(e_value_difference(0.5).risk_ratio, 4)
    1.5762
    """
    one_of("rule", rule, ("gaussian", "logistic"))
    slope = 0.91 if rule == "gaussian" else math.pi / (2.0 * math.sqrt(3.0))
    how = "approximation exp(.91 d)" if rule == "gaussian" else "approximation sqrt(exp(pi d / sqrt 3))"
    ends = [None if v is None else math.exp(slope * v) for v in (low, high)]
    return e_value(math.exp(slope * d), *ends, how=how)
