"""One ridge regression per target on shared columns: one decomposition, a penalty for each target."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from causalsat.kernels.ridge_path import gcv_scores, path_coefficients, penalty_ratios, ridge_basis


@functools.partial(jax.jit, static_argnames=("n_free", "n_penalties"))
def ridge_targets(v: Array, targets: Array, w: Array, *, n_free: int, n_penalties: int) -> tuple[Array, Array]:
    """Coefficients of every target on (1, free, penalised) at its own penalty by generalised cross-validation.

    Parameters
    ----------
    v : (n, q) float64
        Rows (1, free columns, penalised columns), the penalised ones on a common scale.
    targets : (n, k) float64
    w : (n,) float64
        Row weights of mean one over the training rows, zero elsewhere.
    n_free : int
        Free columns beside the constant.
    n_penalties : int
        Points of the grid; 0 for no penalty.

    Returns
    -------
    coefficients : (k, q) float64
    penalty : (k,) float64
        Absolute penalty of each target.
    """
    weighted = v * w[:, None]
    moment = weighted.T @ v
    basis = ridge_basis(moment, n_free, standardize=False)
    cross = weighted.T @ targets
    square = jnp.sum(w[:, None] * jnp.square(targets), axis=0)
    if n_penalties == 0:
        none = jnp.zeros((1,), v.dtype)
        return jax.vmap(lambda c: path_coefficients(basis, c, none)[0])(cross.T), jnp.zeros_like(square)
    penalties = penalty_ratios(n_penalties) * basis.scale

    def fitted(c: Array, s: Array) -> tuple[Array, Array]:
        best = jnp.argmin(gcv_scores(basis, moment, c, s, penalties))
        return path_coefficients(basis, c, penalties)[best], penalties[best]

    return jax.vmap(fitted)(cross.T, square)
