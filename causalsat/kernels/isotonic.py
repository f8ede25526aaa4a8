"""Nondecreasing curves: weighted isotonic regression and rearrangement, without branches."""

import jax
import jax.numpy as jnp

Array = jax.Array


def isotonic(values: Array, weights: Array) -> Array:
    """(M,) least-squares projection of ``values`` on nondecreasing sequences with positive ``weights``.

    The max-min form: fitted_k = max over a <= k of min over b >= k of the weighted mean of a..b (Robertson, Wright and
    Dykstra 1988, theorem 1.4.4), from cumulated sums in O(M^2).
    """
    m = values.shape[0]
    zero = jnp.zeros(1, values.dtype)
    sums = jnp.concatenate([zero, jnp.cumsum(values * weights)])
    mass = jnp.concatenate([zero, jnp.cumsum(weights)])
    first, last = jnp.arange(m)[:, None], jnp.arange(m)[None, :]
    total = sums[1:][None, :] - sums[:-1][:, None]
    size = mass[1:][None, :] - mass[:-1][:, None]
    mean = jnp.where(last >= first, total / jnp.where(last >= first, size, 1.0), jnp.inf)
    # min over b >= k: a cumulated minimum from the right along each row a, where entries b < a never win.
    low = jax.lax.cummin(mean, axis=1, reverse=True)
    low = jnp.where(last >= first, low, -jnp.inf)
    return jnp.max(low, axis=0)


def rearranged(values: Array, weights: Array) -> Array:
    """(M,) monotone rearrangement: values sorted with their cell weights, read back at the centres of the cells.

    On an even grid this is a sort (Chernozhukov, Fernandez-Val and Galichon 2010).
    """
    order = jnp.argsort(values)
    ordered, mass = values[order], weights[order]
    upper = jnp.cumsum(mass)
    centre = jnp.cumsum(weights) - 0.5 * weights
    at = jnp.searchsorted(upper, centre * (1.0 + 1e-14), side="left")
    return ordered[jnp.minimum(at, values.shape[0] - 1)]
