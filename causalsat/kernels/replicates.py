"""Tiles of bootstrap replicates: weights, one matrix product, a batched solve. Failure is a status, never an error."""

import functools
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import jax
import jax.numpy as jnp

from causalsat.kernels.weights import TILE, Sampler, weight_tile

_ROWS = 1024
FIT_BATCH = 5  # divides TILE, so that no remainder runs in another shape
_PIVOT = 1e-11

Array = jax.Array


class Status(IntEnum):
    """Outcome of one fit or one draw."""

    ok = 0
    singular = 1
    no_treatment_variation = 2
    empty_arm = 3
    not_converged = 4
    nonfinite = 5
    negative_variance = 6
    too_few_clusters = 7


def blocked_product(weights: Array, contributions: Array) -> Array:
    """(b, u) x (u, m) summed over fixed blocks of rows, so that no library splits the sum by its thread count."""
    u, m = contributions.shape
    if u <= _ROWS:
        return weights.astype(jnp.float64) @ contributions
    pad = -u % _ROWS
    if pad:
        weights, contributions = jnp.pad(weights, ((0, 0), (0, pad))), jnp.pad(contributions, ((0, pad), (0, 0)))

    def step(block: int, total: Array) -> Array:
        left = jax.lax.dynamic_slice_in_dim(weights, block * _ROWS, _ROWS, axis=1).astype(jnp.float64)
        return total + left @ jax.lax.dynamic_slice_in_dim(contributions, block * _ROWS, _ROWS, axis=0)

    start = jnp.zeros((weights.shape[0], m), jnp.float64)
    return jax.lax.fori_loop(0, contributions.shape[0] // _ROWS, step, start)


def checked(estimates: Array, status: Array) -> tuple[Array, Array]:
    """NaN for a failed draw and for values that are not finite; a draw without any finite value is ``nonfinite``."""
    fine = jnp.isfinite(estimates)
    status = jnp.where((status == Status.ok) & ~jnp.any(fine), int(Status.nonfinite), status)
    return jnp.where((status == Status.ok) & fine, estimates, jnp.nan), status.astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("sampler",))
def weights_only(seed: Array, first: Array, arrays: Any, *, sampler: Sampler) -> Array:
    """(50, u) weights of one tile."""
    return weight_tile(sampler, seed, first, arrays)


@functools.partial(jax.jit, static_argnames=("sampler", "moments", "with_error"))
def moment_tile(
    seed: Array,
    first: Array,
    arrays: Any,
    contributions: Array,
    constants: Any = None,
    *,
    sampler: Sampler,
    moments: Any,
    with_error: bool,
) -> tuple[Array, Array, Array]:
    """One tile of a moment estimator: estimates (50, k), statuses (50,), own standard errors (50, k) or (50, 0).

    ``contributions`` (u, m) are sums per unit; ``moments`` solves the weighted totals (m,) of each replicate, given
    ``constants`` where there are any: arrays that change without compiling again.
    """
    weights = weight_tile(sampler, seed, first, arrays)
    totals = blocked_product(weights, contributions)
    extra = () if constants is None else (constants,)
    estimates, status = jax.vmap(lambda total: checked(*moments.solve(total, *extra)))(totals)
    if not with_error:
        return estimates, status, jnp.zeros((TILE, 0), jnp.float64)

    def error(replicate: tuple[Array, Array, Array]) -> Array:
        w, total, estimate = replicate
        return moments.own_error(w.astype(jnp.float64), contributions, total, estimate)

    return estimates, status, jax.lax.map(error, (weights, totals, estimates))


@functools.partial(jax.jit, static_argnames=("sampler",))
def score_tile(seed: Array, first: Array, arrays: Any, scores: Array, *, sampler: Sampler) -> Array:
    """(50, k) sums of multipliers times unit scores (u, k)."""
    return blocked_product(weight_tile(sampler, seed, first, arrays), scores)


@functools.partial(jax.jit, static_argnames=("sampler", "fit"))
def fit_tile(
    seed: Array, first: Array, arrays: Any, unit: Array, design: Any, *, sampler: Sampler, fit: Callable[..., Any]
) -> tuple[Array, Array]:
    """One tile of ``fit(design, weights)``: estimates (50, k), statuses (50,); ``unit`` (n,) gives a row its unit."""
    weights = weight_tile(sampler, seed, first, arrays)

    def one(w: Array) -> tuple[Array, Array]:
        answer = fit(design, w[unit].astype(jnp.float64))
        estimates, status = answer if isinstance(answer, tuple) else (answer, jnp.int32(Status.ok))
        return checked(jnp.atleast_1d(estimates).astype(jnp.float64), jnp.asarray(status, jnp.int32))

    return jax.lax.map(one, weights, batch_size=FIT_BATCH)


def full_rank_factor(gram: Array) -> tuple[Array, Array, Array]:
    """Cholesky factor of a (p, p) Gram scaled to unit diagonal, the scale (p,), and whether its rank is full.

    The squared pivot of a column is one minus its R^2 on the columns before it. The identity replaces the factor of a
    deficient Gram, so that nothing downstream divides by zero.
    """
    diagonal = jnp.diagonal(gram)
    scale = jnp.sqrt(jnp.where(diagonal > 0.0, diagonal, 1.0))
    factor = jnp.linalg.cholesky(gram / (scale[:, None] * scale[None, :]))
    pivots = jnp.diagonal(factor) ** 2
    fine = jnp.all(jnp.isfinite(factor)) & (jnp.min(pivots) > _PIVOT) & jnp.all(diagonal > 0.0)
    return jnp.where(fine, factor, jnp.eye(gram.shape[0], dtype=jnp.float64)), scale, fine


def solve_gram(gram: Array, cross: Array) -> tuple[Array, Array]:
    """Coefficients of a (p, p) Gram and a (p,) cross moment, with the status ``singular`` for collinear columns."""
    factor, scale, fine = full_rank_factor(gram)
    half = jax.scipy.linalg.solve_triangular(factor, cross / scale, lower=True)
    beta = jax.scipy.linalg.solve_triangular(factor, half, lower=True, trans=1) / scale
    return beta, jnp.where(fine, int(Status.ok), int(Status.singular))


@jax.jit
def wild_tile(
    multipliers: Array, scores: Array, shifts: Array, loadings: Array, curvature: Array
) -> tuple[Array, Array]:
    """Wild bootstrap numerator and own standard error of one coefficient, (b,) each, from cluster sums.

    ``scores`` (g,) s_c = x~_c'u_c; ``shifts`` (g, p) X_c'u_c; ``loadings`` (g, p) x~_c'X_c (X'X)^{-1}; ``curvature``
    x~'x~. The draw's residual is M_X(u o xi), so its cluster score is xi_c s_c - loadings_c . sum_h xi_h shifts_h.
    """
    moved = multipliers @ shifts
    inner = multipliers * scores[None, :] - moved @ loadings.T
    return multipliers @ scores / curvature, jnp.sqrt(jnp.sum(inner**2, axis=1)) / curvature
