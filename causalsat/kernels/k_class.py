"""k-class estimators from second moments: pure functions of one study, mapped over draws or simulated studies.

All moments are net of covariates and divided by n. X'(I - kappa M_Z)X is formed as kappa X'P_Z X + (1 - kappa) X'X,
exact at kappa = 0 and kappa = 1 and defined when M_Z X is singular.
"""

import jax.numpy as jnp
from jax import Array


def k_class_point(XPX: Array, XPy: Array, XX: Array, Xy: Array, kappa: Array) -> Array:
    """The root b of X'(I - kappa M_Z)(y - Xb) = 0.

    Parameters
    ----------
    XPX, XX : Array
        (p, p) X'P_Z X/n and X'X/n.
    XPy, Xy : Array
        (p,) X'P_Z y/n and X'y/n.
    kappa : Array
        (); 0 is least squares, 1 two-stage least squares.

    Returns
    -------
    Array
        (p,); not finite when the matrix is singular.
    """
    scale = jnp.sqrt(jnp.diagonal(XX))
    left = (kappa * XPX + (1.0 - kappa) * XX) / (scale[:, None] * scale[None, :])
    right = (kappa * XPy + (1.0 - kappa) * Xy) / scale
    return jnp.linalg.solve(left, right[:, None])[:, 0] / scale


def liml_kappa(projected: Array, total: Array, just_identified: bool) -> Array:
    """kappa of limited information maximum likelihood, 1/(1 - theta).

    theta is the smallest eigenvalue of the pencil (Y'P_Z Y, Y'Y), Y = [y X]. Unlike the smallest eigenvalue of
    (Y'Y, Y'M_Z Y) it exists when a treatment, or a combination of treatments, lies in the span of the instruments.

    Parameters
    ----------
    projected, total : Array
        (1 + p, 1 + p) Y'P_Z Y/n and Y'Y/n, the second positive definite.
    just_identified : bool
        As many instruments as treatments (static): kappa is 1 without rounding.

    Returns
    -------
    Array
        ().

    References
    ----------
    Anderson & Rubin (1949), "Estimation of the parameters of a single equation in a complete system of stochastic
    equations".
    """
    if just_identified:
        return jnp.ones((), total.dtype)
    scale = jnp.sqrt(jnp.diagonal(total))
    across = scale[:, None] * scale[None, :]
    lower = jnp.linalg.cholesky(total / across)
    half = jnp.linalg.solve(lower, projected / across)
    whitened = jnp.linalg.solve(lower, half.T)
    theta = jnp.linalg.eigvalsh(0.5 * (whitened + whitened.T))[0]
    return 1.0 / (1.0 - jnp.clip(theta, 0.0, 1.0))


def ridge_tsls_point(B: Array, w: Array, penalty: Array) -> Array:
    """Ridge-penalised two-stage least squares (B'B + penalty I)^{-1} B'w.

    Parameters
    ----------
    B : Array
        (q, p) L^{-1} Z'X/n with L L' = Z'Z/n.
    w : Array
        (q,) L^{-1} Z'y/n.
    penalty : Array
        () >= 0.

    Returns
    -------
    Array
        (p,).
    """
    left, size, right = jnp.linalg.svd(B, full_matrices=False)
    return right.T @ (size / (size**2 + penalty) * (left.T @ w))
