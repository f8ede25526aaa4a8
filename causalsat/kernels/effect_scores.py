"""Estimates and influence values of binary-treatment effects, given the nuisances.

Arrays are (n,): outcome ``y``, treatment ``d`` (0.0 or 1.0), outcome regressions ``g0, g1`` = E[y | d=a, x],
propensity ``m`` = P(d=1 | x), row weights ``w`` that multiply every sum (their mean should be one; only their ratios
matter). Every score returns ``(theta, phi)``: the estimate, and phi (n,) with the weights inside, sum zero, and
estimate - truth ~ mean(phi), so that its variance is a sum of products of phi over n^2.
phi is the derivative of theta in the row weights with the nuisances held; constants computed from the rows, such as
those that rescale the weights, move with them. That is the whole influence function for the orthogonal scores (aipw);
the ipw scores treat m as known. Which estimand holds, under unconfoundedness given x and overlap, is said at each
function.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

Pair = tuple[Array, Array]


def weighted_mean(x: Array, w: Array) -> Array:
    """``sum w x / sum w``."""
    return jnp.sum(w * x) / jnp.sum(w)


def solved(numerator: Array, denominator: Array, w: Array) -> Pair:
    """theta = sum w a / sum w b and its influence ``w (a - theta b) / (sum w b / n)``."""
    total = jnp.sum(w * denominator)
    theta = jnp.sum(w * numerator) / total
    return theta, w * (numerator - theta * denominator) * (w.shape[0] / total)


class Rescaled(NamedTuple):
    """Propensities with rescaled inverse weights, and how they move with the row weights; every array is (n,).

    ``treated`` and ``control`` stand for m and 1 - m; only their own arm's rows are used. Each holds one constant;
    ``*_slope`` is the derivative of d/treated (of (1-d)/control) in the log of that constant, and ``*_influence``
    the influence values of that log.
    """

    treated: Array
    control: Array
    treated_slope: Array
    control_slope: Array
    treated_influence: Array
    control_influence: Array


def rescale_arm(d: Array, m: Array, w: Array) -> Rescaled:
    """Propensities whose inverse weights average one in each arm: ``m mean(d/m)``, ``(1-m) mean((1-d)/(1-m))``.

    Pass the result as ``rescaled=``. The constants tend to one when m is right. Their own sampling enters the
    influence values; it vanishes there only when the outcome regressions are right too.
    """
    a1, a0 = inverse_weights(d, m)
    treated, control = weighted_mean(a1, w), weighted_mean(a0, w)
    share = w * (w.shape[0] / jnp.sum(w))
    return Rescaled(
        m * treated,
        (1.0 - m) * control,
        a1 / treated,
        a0 / control,
        share * (1.0 - a1 / treated),
        share * (1.0 - a0 / control),
    )


def rescale_odds(d: Array, m: Array, w: Array) -> Rescaled:
    """For the ATT: control odds (1-d) m/(1-m) that sum to the number of treated rows.

    The control entry q is the probability whose odds (1-q)/q are the rescaled ones; the treated entry is m itself.
    """
    odds = control_odds(d, m)
    n_treated, n_odds = jnp.sum(w * d), jnp.sum(w * odds)
    factor = n_treated / n_odds
    nothing = jnp.zeros_like(m)
    moves = w * w.shape[0] * (d / n_treated - odds / n_odds)
    control = 1.0 / (1.0 + factor * m / jnp.where(m < 1.0, 1.0 - m, 1.0))
    return Rescaled(m, control, nothing, factor * odds, nothing, moves)


def with_constants(pair: Pair, rescaled: Rescaled | None, h: Array, u1: Array, u0: Array, total: Array) -> Pair:
    """Add to phi what the constants of ``rescaled`` contribute.

    theta holds ``sum h (a1 u1 - a0 u0) / total`` with a1 = d/treated and a0 = (1-d)/control; h (n,) carries the row
    weights, u1 and u0 (n,) are residuals.
    """
    if rescaled is None:
        return pair
    theta, phi = pair
    slope1 = jnp.sum(h * rescaled.treated_slope * u1) / total
    slope0 = jnp.sum(h * rescaled.control_slope * u0) / total
    return theta, phi + slope1 * rescaled.treated_influence - slope0 * rescaled.control_influence


def inverse_weights(d: Array, m: Array, rescaled: Rescaled | None = None) -> Pair:
    """``d / m`` and ``(1-d) / (1-m)``; an arm's rows never touch the other arm's denominators."""
    treated, control = (m, 1.0 - m) if rescaled is None else (rescaled.treated, rescaled.control)
    return d / jnp.where(d > 0, treated, 1.0), (1.0 - d) / jnp.where(d > 0, 1.0, control)


def control_odds(d: Array, m: Array, rescaled: Rescaled | None = None) -> Array:
    """``(1-d) m / (1-m)``, the weights that make controls look like the treated."""
    control = 1.0 - m if rescaled is None else rescaled.control
    safe = jnp.where(d > 0, 1.0, control)
    return (1.0 - d) * (1.0 - safe) / safe


def aipw_rows(y: Array, d: Array, g0: Array, g1: Array, m: Array, *, rescaled: Rescaled | None = None) -> Array:
    """(n,) doubly robust rows ``g1 - g0 + d (y-g1)/m - (1-d)(y-g0)/(1-m)`` (Robins, Rotnitzky and Zhao 1994)."""
    a1, a0 = inverse_weights(d, m, rescaled)
    return g1 - g0 + a1 * (y - g1) - a0 * (y - g0)


def aipw_ate(y: Array, d: Array, g0: Array, g1: Array, m: Array, w: Array, *, rescaled: Rescaled | None = None) -> Pair:
    """Average effect: the mean of the doubly robust rows."""
    pair = solved(aipw_rows(y, d, g0, g1, m, rescaled=rescaled), jnp.ones_like(y), w)
    return with_constants(pair, rescaled, w, y - g1, y - g0, jnp.sum(w))


def aipw_att(y: Array, d: Array, g0: Array, g1: Array, m: Array, w: Array, *, rescaled: Rescaled | None = None) -> Pair:
    """Average effect on the treated: ``sum [d (y-g0) - (1-d)(y-g0) m/(1-m)] / sum d``; g1 cancels and is not read."""
    del g1
    pair = solved((d - control_odds(d, m, rescaled)) * (y - g0), d, w)
    return with_constants(pair, rescaled, w, jnp.zeros_like(y), y - g0, jnp.sum(w * d))


def aipw_ato_fitted(
    y: Array, d: Array, g0: Array, g1: Array, m: Array, w: Array, *, rescaled: Rescaled | None = None
) -> Pair:
    """Average effect weighted by the fitted overlap h = m(1-m): ``sum h a / sum h`` over doubly robust rows a.

    The target is defined by the fitted m (like trimming); the influence values hold given h. ``rescaled`` enters the
    inverse weights, never h.
    """
    h = m * (1.0 - m)
    pair = solved(h * aipw_rows(y, d, g0, g1, m, rescaled=rescaled), h, w)
    return with_constants(pair, rescaled, w * h, y - g1, y - g0, jnp.sum(w * h))


def aipw_ato_orthogonal(y: Array, d: Array, g0: Array, g1: Array, m: Array, w: Array) -> Pair:
    """Average effect weighted by the true overlap, insensitive to m to first order.

    ``sum [(d-m)^2 (g1-g0) + d(1-m)(y-g1) - (1-d) m (y-g0)] / sum (d-m)^2``, which is the regression of
    y - m g1 - (1-m) g0 on d - m (E[(d-m)^2 | x] = m(1-m)). It has no inverse weights, so nothing to rescale.
    """
    v2 = jnp.square(d - m)
    rows = v2 * (g1 - g0) + d * (1.0 - m) * (y - g1) - (1.0 - d) * m * (y - g0)
    return solved(rows, v2, w)


def hajek(y: Array, a1: Array, a0: Array, w: Array) -> Pair:
    """Difference of two normalised weighted means ``sum a1 y / sum a1 - sum a0 y / sum a0``, a1 and a0 held."""
    mu1, phi1 = solved(a1 * y, a1, w)
    mu0, phi0 = solved(a0 * y, a0, w)
    return mu1 - mu0, phi1 - phi0


def difference_in_means(y: Array, d: Array, w: Array) -> Pair:
    """Mean of the treated minus mean of the controls: the effect if d is as good as random."""
    return hajek(y, d, 1.0 - d, w)


def ipw_ate(y: Array, d: Array, m: Array, w: Array) -> Pair:
    """Average effect by normalised inverse-propensity weights d/m and (1-d)/(1-m), m treated as known."""
    return hajek(y, *inverse_weights(d, m), w)


def ipw_att(y: Array, d: Array, m: Array, w: Array) -> Pair:
    """Effect on the treated by weights d and (1-d) m/(1-m), m treated as known."""
    return hajek(y, d, control_odds(d, m), w)


def ipw_ato(y: Array, d: Array, m: Array, w: Array) -> Pair:
    """Overlap-weighted effect by weights d(1-m) and (1-d)m (Li, Morgan and Zaslavsky 2018), m treated as known."""
    return hajek(y, d * (1.0 - m), (1.0 - d) * m, w)


def outcome_ate(d: Array, g0: Array, g1: Array, m: Array, w: Array) -> Array:
    """Mean of g1 - g0 over all rows: the estimate alone (it has no influence values that are valid given g)."""
    del d, m
    return weighted_mean(g1 - g0, w)


def outcome_att(d: Array, g0: Array, g1: Array, m: Array, w: Array) -> Array:
    """Mean of g1 - g0 over the treated; no influence values."""
    del m
    return weighted_mean(g1 - g0, w * d)


def outcome_ato(d: Array, g0: Array, g1: Array, m: Array, w: Array) -> Array:
    """Mean of g1 - g0 with weights m(1-m); no influence values."""
    del d
    return weighted_mean(g1 - g0, w * m * (1.0 - m))
