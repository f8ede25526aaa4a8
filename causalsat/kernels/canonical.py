"""Canonical correlations of two sets of columns."""

import jax.numpy as jnp
from jax import Array


def _inverse_root(gram: Array, ridge: float) -> Array:
    size = gram.shape[0]
    values, vectors = jnp.linalg.eigh(gram + ridge * (jnp.trace(gram) / size) * jnp.eye(size, dtype=gram.dtype))
    roots = jnp.where(values > 0, 1.0 / jnp.sqrt(jnp.where(values > 0, values, 1.0)), 0.0)
    return (vectors * roots[None, :]) @ vectors.T


def canonical_correlations(a: Array, b: Array, w: Array, ridge: float = 1e-6) -> Array:
    """(min(p, q),) canonical correlations of a (n, p) and b (n, q), largest first (Hotelling 1936).

    Singular values of ``(A'A + eI)^-1/2 A'B (B'B + eI)^-1/2`` for columns centred with weights w (n,), with e =
    ``ridge`` times the mean diagonal of each Gram. One column each: the absolute correlation (over 1 + ridge).
    """
    share = w / jnp.sum(w)
    root = jnp.sqrt(share)[:, None]
    left = root * (a - (share @ a)[None, :])
    right = root * (b - (share @ b)[None, :])
    middle = _inverse_root(left.T @ left, ridge) @ (left.T @ right) @ _inverse_root(right.T @ right, ridge)
    return jnp.linalg.svd(middle, compute_uv=False)
