"""Tests of a whole curve of effects: none anywhere, the same everywhere, nowhere negative."""

import math
from dataclasses import dataclass

import numpy as np

from causalsat.errors import OptionError
from causalsat.estimators.r3d_bands import CurveInference, order_statistic, share_above, sups_of


@dataclass(frozen=True)
class R3dTest:
    """One test on a range of quantiles.

    Attributes
    ----------
    name : str
        "nullity", "homogeneity" or "dominance".
    statistic, critical_value, p_value : float
        Sup statistic, order statistic of the draws' sups at the level, (1 + #{T_b >= T}) / (B + 1); NaN with a reason.
    n_levels : int
        Quantiles in the sup.
    test_range : (float, float)
        Smallest and largest quantile in the sup.
    unavailable : str
        Why there is no answer, or "".
    """

    name: str
    statistic: float
    critical_value: float
    p_value: float
    n_levels: int
    test_range: tuple[float, float]
    unavailable: str = ""


def tests_of(
    curve: CurveInference,
    covariance: np.ndarray,
    quantiles: np.ndarray,
    cells: np.ndarray,
    names: tuple[str, ...],
    *,
    test_range: tuple[float, float] | None,
    level: float,
    studentized: bool,
) -> tuple[R3dTest, ...]:
    """Sup tests from draws centred at zero.

    nullity: sup |tau| / se. homogeneity: sup |tau - mean tau| / sd, mean with cell weights, draws demeaned in the same
    way, sd from the demeaned contributions. dominance: sup of the negative part of tau / se, one-sided, against
    Q+ >= Q- everywhere. Without ``studentized`` nothing is divided.

    Parameters
    ----------
    curve : CurveInference
        Effects on M quantiles.
    covariance : np.ndarray
        (M, M).
    quantiles, cells : np.ndarray
        (M,) levels and weights in means over them.
    names : tuple of str
        The tests wanted.
    test_range : (float, float), optional
        Quantiles in use, both ends included; all by default.
    level : float
        One minus the size of the tests.
    studentized : bool
        Whether sups are of studentized curves.

    Raises
    ------
    OptionError
        A range without any quantile.
    """
    inside = np.ones(quantiles.size, dtype=bool)
    if test_range is not None:
        inside = (quantiles >= test_range[0] - 1e-12) & (quantiles <= test_range[1] + 1e-12)
    if names and not inside.any():
        raise OptionError(
            f"test_range={test_range} holds none of the {quantiles.size} quantiles, which run from {quantiles.min():g} "
            f"to {quantiles.max():g}."
        )
    return tuple(_test(name, curve, covariance, quantiles, cells, inside, level, studentized) for name in names)


def _test(
    name: str,
    curve: CurveInference,
    covariance: np.ndarray,
    quantiles: np.ndarray,
    cells: np.ndarray,
    inside: np.ndarray,
    level: float,
    studentized: bool,
) -> R3dTest:
    reach = (float(quantiles[inside].min()), float(quantiles[inside].max()))
    kept = inside & np.isfinite(curve.se)
    values, draws, se = curve.estimate, curve.draws, curve.se
    if name == "homogeneity":
        values, draws, se = _demeaned(curve, covariance, cells, inside)
        scale = np.nanmax(np.where(inside, curve.se, np.nan)) if kept.any() else 0.0
        kept &= se > 1e-9 * scale
    why = _missing(name, kept, inside)
    if why:
        return R3dTest(name, math.nan, math.nan, math.nan, int(kept.sum()), reach, why)
    used = curve.factors if curve.factors.shape[1] == 1 else curve.factors[:, kept]
    scale = se[kept] if studentized else np.ones(int(kept.sum()))
    own, one_sided = values[kept] / scale, name == "dominance"
    statistic = max(0.0, float((-own).max())) if one_sided else float(np.abs(own).max())
    sups = sups_of(draws if kept.all() else draws[:, kept], scale, used, one_sided=one_sided)
    found = quantiles[kept]
    return R3dTest(
        name, statistic, order_statistic(sups, level), share_above(sups, statistic), int(kept.sum()),
        (float(found.min()), float(found.max())),
    )  # fmt: skip


def _demeaned(
    curve: CurveInference, covariance: np.ndarray, cells: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effects, draws and standard errors net of their mean over the quantiles in use."""
    weights = np.where(inside, cells, 0.0)
    weights = weights / weights.sum()
    across = covariance @ weights
    variance = np.diagonal(covariance) - 2.0 * across + weights @ across
    values = curve.estimate - weights @ curve.estimate
    return values, curve.draws - (curve.draws @ weights)[:, None], np.sqrt(np.maximum(variance, 0.0))


def _missing(name: str, kept: np.ndarray, inside: np.ndarray) -> str:
    if name == "homogeneity" and int(inside.sum()) < 2:
        return "effects at a single quantile are the same everywhere"
    if not kept.any():
        return "no quantile in the range has a standard error"
    return ""
