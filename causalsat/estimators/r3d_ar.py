"""Sets of effects per unit of treatment that hold however small the first stage is (Anderson and Rubin 1949)."""

import math
from dataclasses import dataclass

import numpy as np

from causalsat.estimators.r3d_bands import order_statistic
from causalsat.inference.iv_quadratic import Pieces, quadratic_set

_PERFECT = 1e-10


@dataclass(frozen=True)
class RobustSets:
    """Anderson-Rubin sets of the effects on M quantiles.

    Attributes
    ----------
    pointwise, uniform : tuple of Pieces
        M sets as sorted disjoint closed pieces: ((low, high),) an interval, ((-inf, a), (b, inf)) two rays,
        ((-inf, inf),) the line; never truncated. () where there is no standard error.
    pointwise_shape, uniform_shape : tuple of str
        "interval", "rays", "ray", "line", or "" where there is no set.
    critical : float
        Critical value of the uniform sets.
    level : float
        Confidence level.
    """

    pointwise: tuple[Pieces, ...]
    uniform: tuple[Pieces, ...]
    pointwise_shape: tuple[str, ...]
    uniform_shape: tuple[str, ...]
    critical: float
    level: float


def robust_sets(
    numerator: np.ndarray,
    jump: float,
    covariance: tuple[np.ndarray, np.ndarray, float],
    draws: tuple[np.ndarray, np.ndarray],
    factors: np.ndarray,
    reach: np.ndarray,
    level: float,
) -> RobustSets:
    """All effects theta that N - theta D does not reject, quantile by quantile and for all quantiles at once.

    With V the covariance of (N, D), the set is (N - theta D)^2 <= c^2 (V_NN - 2 theta V_ND + theta^2 V_DD). The uniform
    c is the order statistic of the sup over quantiles of sqrt(nu' V^{-1} nu), nu the draws of (N, D): at most that for
    any theta(q), so the sets are conservative.

    Parameters
    ----------
    numerator : np.ndarray
        (M,) jumps of the outcome.
    jump : float
        Jump of the treatment.
    covariance : tuple
        V_NN (M,), V_ND (M,), V_DD.
    draws : tuple
        (B, M) of N and (B,) of D, centred at zero.
    factors : np.ndarray
        (B, 1) or (B, M) factors of the t law.
    reach : np.ndarray
        (M,) pointwise critical values.
    level : float
        Confidence level.
    """
    v_nn, v_nd, v_dd = covariance
    live = (v_nn > 0.0) | (v_dd > 0.0)
    sups = np.sqrt(_squared_length(draws, v_nn, v_nd, v_dd)) * factors
    critical = order_statistic(sups[:, live].max(axis=1), level) if live.any() else math.nan
    sets: list[tuple[Pieces, ...]] = []
    for c in (reach, np.full(numerator.size, critical)):
        sets.append(
            tuple(
                _set(float(n), jump, float(nn), float(nd), v_dd, float(own)) if fine and np.isfinite(own) else ()
                for n, nn, nd, own, fine in zip(numerator, v_nn, v_nd, c, live)
            )
        )
    shapes = [tuple(_shape(pieces) for pieces in own) for own in sets]
    return RobustSets(sets[0], sets[1], shapes[0], shapes[1], critical, level)


def _set(n: float, d: float, nn: float, nd: float, dd: float, c: float) -> Pieces:
    square = c * c
    a, b, e = d * d - square * dd, n * d - square * nd, n * n - square * nn
    size = (d * d + square * dd, abs(n * d) + square * abs(nd), n * n + square * nn)
    return quadratic_set(a, b, e, size)


def _shape(pieces: Pieces) -> str:
    if not pieces:
        return ""
    if len(pieces) == 2:
        return "rays"
    ends = sum(math.isinf(end) for end in pieces[0])
    return ("interval", "ray", "line")[ends]


def _squared_length(
    draws: tuple[np.ndarray, np.ndarray], v_nn: np.ndarray, v_nd: np.ndarray, v_dd: float
) -> np.ndarray:
    """(B, M) nu' V^+ nu; a direction without variance has no draws and is left out."""
    s_n, s_d = np.sqrt(v_nn), math.sqrt(v_dd)
    z = draws[0] / np.where(s_n > 0.0, s_n, 1.0)[None, :]
    w = draws[1][:, None] / (s_d if s_d > 0.0 else 1.0)
    both = (s_n > 0.0) & (s_d > 0.0)
    r = np.where(both, v_nd / np.where(both, s_n * s_d, 1.0), 0.0)
    rest = 1.0 - r**2
    partial = np.where(rest > _PERFECT, 1.0 / np.where(rest > _PERFECT, rest, 1.0), 0.0)
    alone = np.where(s_n[None, :] > 0.0, z**2, w**2)
    joint = w**2 + partial[None, :] * (z - r[None, :] * w) ** 2
    return np.asarray(np.where(both[None, :], joint, alone))
