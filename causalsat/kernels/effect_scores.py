"""Estimates and influence values of binary-treatment effects, given the nuisances.

Arrays are (n,): outcome ``y``, treatment ``d`` (0.0 or 1.0), outcome regressions ``g0, g1`` = E[y | d=a, x],
propensity ``m`` = P(d=1 | x), row weights ``w`` that multiply every sum (their mean should be one; only their ratios
matter). Every score returns ``(theta, phi)``: the estimate, and phi (n,) with the weights inside, sum zero, and
estimate - truth ~ mean(phi), so that its variance is a sum of products of phi over n^2.
phi is the derivative of theta in the row weights with the nuisances held. That is the whole influence function for
the orthogonal scores (aipw); the ipw scores treat m as known. Which estimand holds, under unconfoundedness given x
and overlap, is said at each function.
"""

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


def rescale_arm(d: Array, m: Array, w: Array) -> Pair:
    """Propensities whose inverse weights average one in each arm: (m of treated rows, 1 - m of control rows).

    ``m mean(d/m)`` and ``(1 - m) mean((1-d)/(1-m))``; each array is (n,), and only its own arm's rows are used.
    Pass the pair as ``rescaled=``. The constants tend to one, and the influence values hold them fixed.
    """
    treated = weighted_mean(d / jnp.where(d > 0, m, 1.0), w)
    control = weighted_mean((1.0 - d) / jnp.where(d > 0, 1.0, 1.0 - m), w)
    return m * treated, (1.0 - m) * control


def rescale_odds(d: Array, m: Array, w: Array) -> Pair:
    """The pair for the ATT whose control odds (1-d) m/(1-m) sum to the number of treated rows.

    The control entry q is the probability whose odds (1-q)/q are the rescaled ones; the treated entry is m itself.
    """
    odds = (1.0 - d) * m / jnp.where(d > 0, 1.0, 1.0 - m)
    factor = jnp.sum(w * d) / jnp.sum(w * odds)
    return m, 1.0 / (1.0 + factor * m / jnp.where(m < 1.0, 1.0 - m, 1.0))


def inverse_weights(d: Array, m: Array, rescaled: Pair | None = None) -> Pair:
    """``d / m`` and ``(1-d) / (1-m)``; an arm's rows never touch the other arm's denominators."""
    treated, control = (m, 1.0 - m) if rescaled is None else rescaled
    return d / jnp.where(d > 0, treated, 1.0), (1.0 - d) / jnp.where(d > 0, 1.0, control)


def control_odds(d: Array, m: Array, rescaled: Pair | None = None) -> Array:
    """``(1-d) m / (1-m)``, the weights that make controls look like the treated."""
    control = 1.0 - m if rescaled is None else rescaled[1]
    safe = jnp.where(d > 0, 1.0, control)
    return (1.0 - d) * (1.0 - safe) / safe


def aipw_rows(y: Array, d: Array, g0: Array, g1: Array, m: Array, *, rescaled: Pair | None = None) -> Array:
    """(n,) doubly robust rows ``g1 - g0 + d (y-g1)/m - (1-d)(y-g0)/(1-m)`` (Robins, Rotnitzky and Zhao 1994)."""
    a1, a0 = inverse_weights(d, m, rescaled)
    return g1 - g0 + a1 * (y - g1) - a0 * (y - g0)


def aipw_ate(y: Array, d: Array, g0: Array, g1: Array, m: Array, w: Array, *, rescaled: Pair | None = None) -> Pair:
    """Average effect: the mean of the doubly robust rows."""
    return solved(aipw_rows(y, d, g0, g1, m, rescaled=rescaled), jnp.ones_like(y), w)


def aipw_att(y: Array, d: Array, g0: Array, g1: Array, m: Array, w: Array, *, rescaled: Pair | None = None) -> Pair:
    """Average effect on the treated: ``sum [d (y-g0) - (1-d)(y-g0) m/(1-m)] / sum d``; g1 cancels and is not read."""
    del g1
    return solved((d - control_odds(d, m, rescaled)) * (y - g0), d, w)


def aipw_ato_fitted(
    y: Array, d: Array, g0: Array, g1: Array, m: Array, w: Array, *, rescaled: Pair | None = None
) -> Pair:
    """Average effect weighted by the fitted overlap h = m(1-m): ``sum h a / sum h`` over doubly robust rows a.

    The target is defined by the fitted m (like trimming); the influence values hold given h. ``rescaled`` enters the
    inverse weights, never h.
    """
    h = m * (1.0 - m)
    return solved(h * aipw_rows(y, d, g0, g1, m, rescaled=rescaled), h, w)


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
