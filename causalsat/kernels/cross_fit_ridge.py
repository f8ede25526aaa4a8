"""Ridge across training sets: moments by block of rows, every penalty, the choice by held-out error.

Rows are dealt into tiles; the rows of a tile share a block: an atom (a fold and a pattern of training sets it belongs
to) and a treatment arm. One pass over the rows gives ``M_block = sum w v v'``. Every training Gram, outer or inner, of
either arm or of both, is then a sum of block moments of the rows in it. Nothing is subtracted, so no Gram can turn
indefinite and held-out rows enter no sum.

Inner models leave two folds {k, l} out; each scores l for the outer fold k and k for the outer fold l.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from causalsat.kernels.ridge_path import (
    Basis,
    gcv_scores,
    path_coefficients,
    penalty_ratios,
    ridge_basis,
    squared_error,
)


class Rows(NamedTuple):
    """Rows in tiles (t tiles of r rows), padded with rows that are not valid.

    Attributes
    ----------
    v : (t, r, q) float64
        ``(1, free columns, penalised columns)``.
    y, treated, valid : (t, r) float64
        Outcome, treatment 0/1, 1 for real rows.
    fold : (t, r) int32
        Test fold, 0..K-1.
    row : (t, r) int32
        Position of the row in the data.
    place : (n,) int32
        Position of a row of the data in the flattened tiles.
    atom, arm : (t,) int32
        Block of a tile.
    """

    v: Array
    y: Array
    treated: Array
    valid: Array
    fold: Array
    row: Array
    place: Array
    atom: Array
    arm: Array


class Sets(NamedTuple):
    """Which atoms (A of them) train and score what, as 0/1 float64.

    Attributes
    ----------
    outer : (K, A)
        Training set of each test fold.
    pair : (P, A)
        Training set that leaves two folds out.
    ends : (P, 2) int32
        The two folds left out.
    scored : (P, 2, A)
        ``scored[p, e]``: the rows that model p scores for the outer fold ``ends[p, e]``.
    pair_of : (K, K) int32
        ``2p + e`` for (outer fold, scored fold).
    """

    outer: Array
    pair: Array
    ends: Array
    scored: Array
    pair_of: Array


class Plan(NamedTuple):
    """Static choices: what is compiled."""

    n_free: int
    fills: tuple[tuple[int, int], ...]
    n_penalties: int
    searched: bool
    full: bool
    platt: bool
    logistic_outcome: bool
    linear_treatment: bool
    control: bool
    treated: bool
    propensity: bool
    in_sample: bool = False
    standardize: bool = True


class Moments(NamedTuple):
    """Sums per atom: ``gram (A, q, q)``, ``cross (A, q)`` with the target, ``square (A,)`` of the target."""

    gram: Array
    cross: Array
    square: Array


class Family(NamedTuple):
    """Ridge fits of one target on s training sets: the outer ones, then the pairs.

    Attributes
    ----------
    basis : Basis
        Stacked: ``map (s, q, q)``.
    cross : (s, q) float64
        ``sum w v y``; its first column is the sum of the target.
    coefficients : (K, q) float64
        The chosen fit of each outer set.
    choice : (K,) int
        Its place in the penalty grid.
    penalty : (K,) float64
    """

    basis: Basis
    cross: Array
    coefficients: Array
    choice: Array
    penalty: Array


def block_moments(rows: Rows, w: Array, n_atoms: int) -> tuple[Moments, Moments]:
    """Moments per atom with the outcome as target, for controls and for treated; one pass over the rows."""
    q = rows.v.shape[-1]
    block = 2 * rows.atom + rows.arm

    def add(total: Moments, tile: tuple[Array, Array, Array, Array]) -> tuple[Moments, None]:
        v, y, weight, b = tile
        weighted = v * weight[:, None]
        gram = total.gram.at[b].add(weighted.T @ v)
        cross = total.cross.at[b].add(weighted.T @ y)
        return Moments(gram, cross, total.square.at[b].add(jnp.sum(weight * y * y))), None

    dtype = rows.v.dtype
    empty = Moments(
        jnp.zeros((2 * n_atoms, q, q), dtype), jnp.zeros((2 * n_atoms, q), dtype), jnp.zeros((2 * n_atoms,), dtype)
    )
    total = lax.scan(add, empty, (rows.v, rows.y, w, block))[0]
    return Moments(*(a[0::2] for a in total)), Moments(*(a[1::2] for a in total))


def _sum_over(share: Array, moments: Moments) -> Moments:
    """Moments of the rows whose atoms are in ``share`` (A,)."""
    return Moments(*(jnp.tensordot(share, a, axes=1) for a in moments))


def ridge_family(moments: Moments, sets: Sets, plan: Plan) -> Family:
    """Ridge fits of one target: every penalty on every training set, one penalty per outer fold by held-out error.

    The error of penalty lam for outer fold k adds the squared errors on every other fold l of the model fitted
    without k and l. Penalties are compared at equal ratio to the mean diagonal of their own training Gram. Without
    inner models (fewer than three folds) the rule is generalised cross-validation on the training part.
    """
    ratios = penalty_ratios(plan.n_penalties) if plan.searched else jnp.zeros((1,), jnp.float64)

    n_outer = sets.outer.shape[0]
    scored = jnp.concatenate([jnp.zeros((n_outer, *sets.scored.shape[1:]), ratios.dtype), sets.scored])

    def fit(one: tuple[Array, Array]) -> tuple[Basis, Array, Array, Array, Array]:
        share, score = one
        total = _sum_over(share, moments)
        basis = ridge_basis(total.gram, plan.n_free, fills=plan.fills, standardize=plan.standardize)
        path = path_coefficients(basis, total.cross, ratios * basis.scale)
        blind = gcv_scores(basis, total.gram, total.cross, total.square, ratios * basis.scale)
        held = jax.vmap(lambda part: squared_error(*_sum_over(part, moments), path))(score)
        return basis, total.cross, path, blind, held

    basis, cross, path, error, held = lax.map(fit, (jnp.concatenate([sets.outer, sets.pair]), scored))
    error = error[:n_outer]
    if sets.pair.shape[0]:
        error = jnp.zeros_like(error).at[sets.ends].add(held[n_outer:])
    choice = jnp.argmin(error, axis=1)
    chosen = jnp.take_along_axis(path[:n_outer], choice[:, None, None], axis=1)[:, 0]
    return Family(basis, cross, chosen, choice, ratios[choice] * basis.scale[:n_outer])


def predicted(rows: Rows, coefficients: Array) -> Array:
    """(t, r) linear predictor of every row from the model of its own fold, coefficients (K, q)."""
    every = jnp.einsum("trq,kq->trk", rows.v, coefficients)
    return jnp.take_along_axis(every, rows.fold[:, :, None], axis=2)[:, :, 0]


def tile_share(member: Array, rows: Rows) -> Array:
    """(t, ...) membership of each tile's atom, member (..., A)."""
    return jnp.moveaxis(member, -1, 0)[rows.atom]
