"""Intervals, p-values, simultaneous bands and adjusted p-values of a table."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from causalsat.effects.carried import Carried
from causalsat.errors import OptionError, nearest

METHODS = ("normal", "percentile", "basic", "bca", "studentized")


@dataclass(frozen=True)
class Tests:
    """Statistic, p-value and interval of each row, arrays (k,), with the reason of each NaN by row."""

    statistic: np.ndarray
    p_value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unavailable: Mapping[int, str]


def compute_tests(
    method: str,
    estimate: np.ndarray,
    std_error: np.ndarray,
    carried: Carried,
    *,
    level: float,
    n_clusters: object = None,
    conf: tuple[np.ndarray, np.ndarray] | None = None,
    p_value: np.ndarray | None = None,
) -> Tests:
    """``statistic = (estimate - null) / std_error``, then the interval and its p-value, unless they are given."""
    usable = np.where(std_error > 0.0, std_error, np.nan)
    statistic = (estimate - carried.null) / usable
    if (conf is not None and p_value is not None) or estimate.shape[0] == 0:
        ends = (estimate, estimate) if conf is None else conf
        return Tests(statistic, estimate if p_value is None else p_value, *ends, {})
    if method not in METHODS and conf is None:
        listed = ", ".join(f'"{name}"' for name in METHODS)
        raise OptionError(f'interval="{method}" is not known; allowed: {listed}.{nearest(method, METHODS)}')
    low, high, p, why = _interval(
        method if method in METHODS else "normal", estimate, std_error, carried, level, n_clusters
    )
    if conf is not None:
        low, high = conf
    return Tests(statistic, p if p_value is None else p_value, low, high, why)


def _interval(
    method: str, estimate: np.ndarray, std_error: np.ndarray, carried: Carried, level: float, n_clusters: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Mapping[int, str]]:
    from causalsat.inference.intervals import interval

    found = interval(
        method, estimate, std_error, level=level, draws=carried.draws, df=carried.df,
        acceleration=_acceleration(method, carried, n_clusters), draw_std_error=carried.draw_std_error,
        null=carried.null,
    )  # fmt: skip
    return found.low, found.high, found.p_value, found.unavailable


def _acceleration(method: str, carried: Carried, n_clusters: object) -> np.ndarray | None:
    """``ΣL³ / (6 (ΣL²)^{3/2})`` of the influence rows; with clusters only the estimator can sum them."""
    if method != "bca" or carried.acceleration is not None:
        return carried.acceleration
    if carried.influence is None or n_clusters is not None:
        raise OptionError(
            'interval="bca" needs acceleration=, or influence= of independent rows; '
            'this table carries neither. Use "percentile", or refit with bca intervals.'
        )
    centred = carried.influence - carried.influence.mean(axis=0)[None, :]
    spread = (centred**2).sum(axis=0)
    cubes = (centred**3).sum(axis=0)
    return np.where(spread > 0.0, cubes / (6.0 * np.where(spread > 0.0, spread, 1.0) ** 1.5), 0.0)
