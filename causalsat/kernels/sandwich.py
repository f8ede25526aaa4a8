"""Leave-one-cluster-out coefficients of a linear regression from Gram matrices."""

import jax
import jax.numpy as jnp
from jax import Array


@jax.jit
def leave_cluster_out(gram: Array, cluster_grams: Array, cluster_scores: Array) -> tuple[Array, Array]:
    """Change of the coefficients when each cluster is left out, exactly.

    With A = X'WX and the scores S_c = X_c'W_c e_c of cluster c at the full solution, the normal equations without c
    give b_(c) - b = -(A - A_c)^{-1} S_c (MacKinnon, Nielsen & Webb 2023, section 3).

    Parameters
    ----------
    gram : (k, k) float64
        A, positive definite.
    cluster_grams : (g, k, k) float64
        A_c.
    cluster_scores : (g, k) float64
        S_c.

    Returns
    -------
    (g, k) and (g,) float64
        b_(c) - b, and the smallest eigenvalue of A - A_c in the scale in which A has a unit diagonal: near zero, the
        rows outside c do not identify the coefficients.
    """
    scale = jnp.sqrt(jnp.diagonal(gram))
    unit = scale[:, None] * scale[None, :]
    rest = (gram[None, :, :] - cluster_grams) / unit[None, :, :]
    values, vectors = jnp.linalg.eigh(rest)
    turned = jnp.einsum("gji,gj->gi", vectors, cluster_scores / scale[None, :])
    safe = jnp.where(values > 0.0, values, jnp.ones_like(values))
    shift = jnp.einsum("gij,gj->gi", vectors, turned / safe) / scale[None, :]
    return -shift, values[:, 0]
