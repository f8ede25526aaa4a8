"""Local polynomials on both sides of a cutoff as one weighted least squares, on arrays of fixed length.

Units outside the window have weight zero, so shapes never depend on the bandwidth.
"""

from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Kernel(IntEnum):
    """Kernel on |u| <= 1."""

    triangular = 0
    epanechnikov = 1
    uniform = 2


class LocalFit(NamedTuple):
    """Linear maps of a joint fit: columns are [1, u, ..., u^p] right of the cutoff, the same left of it, covariates.

    ``coefficients`` (2(p + 1) + c, n): row 0 gives the limit from the right, row p + 1 that from the left, when applied
    to outcomes; ``columns`` (n, 2(p + 1) + c) the regressors; ``weights`` (n,) omega K; ``leverage`` (n,) diagonal of
    the hat matrix; ``rcond`` (2,) reciprocal condition of the Gram in u, right and left.
    """

    coefficients: Array
    columns: Array
    weights: Array
    leverage: Array
    rcond: Array

    def limits(self, order: int) -> Array:
        """(2, n) weights of the limits from the right and from the left."""
        return jnp.stack([self.coefficients[0], self.coefficients[order + 1]])


def kernel_values(u: Array, kernel: Array) -> Array:
    """(n,) K(u); the kernel is data, a code of ``Kernel``, so that all kernels share compiled code."""
    size = jnp.abs(u)
    curved = jnp.where(
        kernel == Kernel.epanechnikov, 0.75 * jnp.maximum(1.0 - size**2, 0.0), 0.5 * (size <= 1.0).astype(u.dtype)
    )
    return jnp.where(kernel == Kernel.triangular, jnp.maximum(1.0 - size, 0.0), curved)


def powers(u: Array, order: int) -> Array:
    """(n, order + 1) columns 1, u, ..., u^order."""
    return jnp.stack([u**j for j in range(order + 1)], axis=1)


def joint_fit(
    x: Array, right: Array, omega: Array, covariates: Array, h: Array, *, kernel: Array, order: int
) -> LocalFit:
    """Local polynomial of ``order`` with bandwidths ``h`` (2,), right and left, and slopes of covariates in common.

    ``kernel`` is a code of ``Kernel``, ``x`` (n,) the centred running variable, ``right`` (n,) 1.0 or 0.0, ``omega``
    (n,) unit weights, ``covariates`` (n, c), which are centred at their kernel-weighted mean so that the limits refer
    to it.
    """
    u = x / jnp.where(right > 0.5, h[0], h[1])
    weights = omega * kernel_values(u, kernel)
    sides = jnp.stack([right, 1.0 - right])
    base = powers(u, order)
    total = jnp.maximum(jnp.sum(weights), jnp.finfo(jnp.float64).tiny)
    centred = covariates - (weights @ covariates / total)[None, :]
    columns = jnp.concatenate([base * sides[0][:, None], base * sides[1][:, None], centred], axis=1)
    weighted = columns * weights[:, None]
    gram = columns.T @ weighted
    rcond = jnp.stack(
        [_rcond(gram[: order + 1, : order + 1]), _rcond(gram[order + 1 : 2 * order + 2, order + 1 : 2 * order + 2])]
    )
    scale = jnp.sqrt(jnp.diagonal(gram))
    scale = jnp.where(scale > 0.0, scale, 1.0)
    solved = jnp.linalg.solve(gram / (scale[:, None] * scale[None, :]), (weighted / scale[None, :]).T)
    coefficients = solved / scale[:, None]
    leverage = jnp.sum(columns * coefficients.T, axis=1)
    return LocalFit(coefficients, columns, weights, leverage, rcond)


def fitted(fit: LocalFit, outcomes: Array) -> tuple[Array, Array]:
    """Coefficients (2(p + 1) + c, M) and residuals (n, M) of outcomes (n, M); residuals outside the window are zero."""
    beta = fit.coefficients @ outcomes
    inside = (fit.weights > 0.0).astype(outcomes.dtype)
    return beta, (outcomes - fit.columns @ beta) * inside[:, None]


def _rcond(gram: Array) -> Array:
    values = jnp.linalg.eigvalsh(gram)
    return values[0] / jnp.maximum(values[-1], jnp.finfo(jnp.float64).tiny)
