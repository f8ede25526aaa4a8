"""Logistic ridge across training sets: choice of the penalty by inner log loss, final fits, Platt scaling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from causalsat.kernels.cross_fit_ridge import Family, Plan, Rows, Sets, tile_share
from causalsat.kernels.logistic import (
    Batch,
    batch_coefficients,
    fixed_hessian_logistic,
    newton_logistic,
    platt_line,
)
from causalsat.kernels.ridge_path import Basis, penalty_ratios

WINDOW = 5
SEARCH_RTOL, SEARCH_STEPS = 1e-5, 300
FINAL_RTOL, FINAL_STEPS = 1e-8, 2000


class LogisticFamily(NamedTuple):
    """``coefficients`` (K, q), ``choice`` and ``penalty`` (K,), ``inner`` (t, r, K) logits, ``converged`` ()."""

    coefficients: Array
    choice: Array
    penalty: Array
    inner: Array
    converged: Array


def _share(cross: Array, totals: Array) -> Array:
    """Training share of ones, held inside (0, 1)."""
    return jnp.clip(cross[:, 0] / jnp.where(totals > 0, totals, 1.0), 1e-3, 1.0 - 1e-3)


def _linear_start(basis: Basis, cross: Array, penalty: Array) -> Array:
    """(s, l, q) starting theta: the logit of the mean and ridge slopes divided by p(1-p)."""
    share = _share(cross, basis.gram[:, 0])
    spread = (share * (1.0 - share))[:, None, None]
    rotated = jnp.einsum("sqr,sq->sr", basis.map, cross)[:, None, :]
    curvature = basis.gram[:, None, :] * spread + penalty[:, :, None] * basis.penalised[:, None, :]
    live = (basis.gram > 0)[:, None, :]
    theta = jnp.where(live, rotated / jnp.where(live, curvature, 1.0), 0.0)
    return theta.at[:, :, 0].set(jnp.log(share / (1.0 - share))[:, None])


def _held_out_loss(rows: Rows, sets: Sets, w: Array, y: Array, coefficients: Array) -> Array:
    """(P, 2, l) log loss of the pair models (P, l, q) on the rows they score for either end."""
    p, l, q = coefficients.shape
    flat = coefficients.reshape(p * l, q)

    def add(total: Array, tile: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        v, target, weight, share = tile
        eta = v @ flat.T
        loss = weight @ (jax.nn.softplus(eta) - target[:, None] * eta)
        return total + share[:, :, None] * loss.reshape(p, l)[:, None, :], None

    start = jnp.zeros((p, 2, l), w.dtype)
    return lax.scan(add, start, (rows.v, y, w, tile_share(sets.scored, rows)))[0]


def _windows(family: Family, plan: Plan) -> Array:
    """(K, 5) places in the grid around the ridge choice, moved by log p(1-p).

    The logistic information is about p(1-p) times the Gram, so equal shrinkage means a penalty p(1-p) times as large.
    """
    n_outer = family.choice.shape[0]
    share = _share(family.cross[:n_outer], family.basis.gram[:n_outer, 0])
    move = jnp.round(jnp.log10(share * (1.0 - share)) * (plan.n_penalties - 1) / 8.0).astype(jnp.int32)
    half = WINDOW // 2
    centre = jnp.clip(family.choice.astype(jnp.int32) + move, half, plan.n_penalties - 1 - half)
    return centre[:, None] + jnp.arange(-half, half + 1, dtype=jnp.int32)[None, :]


def _search(rows: Rows, sets: Sets, w: Array, y: Array, family: Family, plan: Plan) -> tuple[Array, Array]:
    """Choice (K,) by inner log loss, and theta (P, 2, q) of the chosen inner models, roughly solved."""
    ratios = penalty_ratios(plan.n_penalties)
    n_outer, n_pairs = sets.outer.shape[0], sets.pair.shape[0]
    basis, cross = _part(family.basis, n_outer, None), family.cross[n_outer:]
    if plan.full or plan.n_penalties < WINDOW:
        window = jnp.tile(jnp.arange(plan.n_penalties, dtype=jnp.int32)[None, :], (n_outer, 1))
        grid = ratios[window[sets.ends[:, 0]]]
    else:
        window = _windows(family, plan)
        grid = ratios[window[sets.ends]].reshape(n_pairs, 2 * WINDOW)
    penalty = grid * basis.scale[:, None]
    batch = Batch(basis, cross, penalty, tile_share(sets.pair, rows))
    start = _linear_start(basis, cross, penalty)
    theta, _ = fixed_hessian_logistic(rows.v, y, w, batch, start, rtol=SEARCH_RTOL, max_steps=SEARCH_STEPS)
    loss = _held_out_loss(rows, sets, w, y, batch_coefficients(batch, theta))
    width = window.shape[1]
    halves = (0, 0) if grid.shape[1] == width else (0, width)
    own = jnp.stack([loss[:, e, halves[e] : halves[e] + width] for e in (0, 1)], axis=1)
    best = jnp.argmin(jnp.zeros((n_outer, width), w.dtype).at[sets.ends].add(own), axis=1)
    place = best[sets.ends] + jnp.array(halves)[None, :]
    chosen = jnp.take_along_axis(window, best[:, None], axis=1)[:, 0]
    return chosen, jnp.take_along_axis(theta, place[:, :, None], axis=1)


def _part(basis: Basis, first: int | None, last: int | None) -> Basis:
    """The bases of some of the training sets."""
    return Basis(*(stacked[first:last] for stacked in basis))


def _inner_logits(rows: Rows, sets: Sets, coefficients: Array) -> Array:
    """(t, r, K) logits of each row by the inner model of every outer fold, from (P, 2, q); its own fold gives 0."""
    p, _, q = coefficients.shape
    every = jnp.einsum("trq,mq->trm", rows.v, coefficients.reshape(2 * p, q))
    place = jnp.moveaxis(sets.pair_of, 0, -1)[rows.fold]
    logits = jnp.take_along_axis(every, jnp.maximum(place, 0), axis=2)
    return jnp.where(place >= 0, logits, 0.0)


def _newton_sets(
    rows: Rows, w: Array, y: Array, basis: Basis, penalty: Array, start: Array, member: Array
) -> tuple[Array, Array]:
    """Newton fits (s, q) on stacked training sets and whether each converged (s,)."""

    def fit(one: tuple[Basis, Array, Array, Array]) -> tuple[Array, Array]:
        own, lam, theta, share = one
        weight = w * share[rows.atom][:, None]
        found = newton_logistic(rows.v, y, weight, own, lam, theta)
        return found.coefficients, found.converged

    return lax.map(fit, (basis, penalty, start, member))


def logistic_family(
    rows: Rows, sets: Sets, w: Array, y: Array, family: Family, plan: Plan, *, inner: bool
) -> LogisticFamily:
    """Logistic ridge of y (0/1) for every outer training set; one beyond the K folds takes their median penalty.

    The penalty is the one with the least log loss of the inner models, among 5 around the ridge choice (screened) or
    all. Without inner models it is the ridge choice, moved by p(1-p). The last solve is Newton's. ``inner``: also the
    inner out-of-fold logits at the chosen penalties.
    """
    inner = inner and sets.pair.shape[0] > 0
    solve = _penalised_fits if plan.searched else _free_fits
    coefficients, choice, penalty, models, converged = solve(rows, sets, w, y, family, plan, inner)
    k = sets.pair_of.shape[0]
    logits = _inner_logits(rows, sets, models) if inner else jnp.zeros((*y.shape, k), y.dtype)
    return LogisticFamily(coefficients, choice, penalty, logits, converged)


def _free_fits(
    rows: Rows, sets: Sets, w: Array, y: Array, family: Family, plan: Plan, inner: bool
) -> tuple[Array, Array, Array, Array, Array]:
    """Maximum likelihood on every training set: nothing carries a penalty."""
    n_outer, n_pairs = sets.outer.shape[0], sets.pair.shape[0]
    member = jnp.concatenate([sets.outer, sets.pair]) if inner else sets.outer
    n_sets = member.shape[0]
    basis, none = _part(family.basis, None, n_sets), jnp.zeros((n_sets,), y.dtype)
    start = _linear_start(basis, family.cross[:n_sets], none[:, None])[:, 0]
    coefficients, done = _newton_sets(rows, w, y, basis, none, start, member)
    models = jnp.repeat(coefficients[n_outer:, None], 2, axis=1) if inner else jnp.zeros((n_pairs, 2, 0), y.dtype)
    return coefficients[:n_outer], family.choice, none[:n_outer], models, jnp.all(done)


def _penalised_fits(
    rows: Rows, sets: Sets, w: Array, y: Array, family: Family, plan: Plan, inner: bool
) -> tuple[Array, Array, Array, Array, Array]:
    """Choose the penalties, then solve the outer sets and, for calibration, the inner models at the choice."""
    k, n_outer, n_pairs = sets.pair_of.shape[0], sets.outer.shape[0], sets.pair.shape[0]
    ratios = penalty_ratios(plan.n_penalties)
    if n_pairs:
        choice, theta = _search(rows, sets, w, y, family, plan)
    else:
        choice = _windows(family, plan)[:, WINDOW // 2] if plan.n_penalties >= WINDOW else family.choice
        theta = jnp.zeros((0, 2, rows.v.shape[-1]), y.dtype)
    if n_outer > k:
        choice = choice.at[k].set(jnp.round(jnp.median(choice[:k].astype(y.dtype))).astype(choice.dtype))
    wanted = jnp.tile(choice[:n_outer, None], (1, 2))
    wanted = jnp.concatenate([wanted, choice[sets.ends]]) if inner else wanted
    n_sets = wanted.shape[0]
    basis, cross = _part(family.basis, None, n_sets), family.cross[:n_sets]
    penalty = ratios[wanted] * basis.scale[:, None]
    start = _linear_start(basis, cross, penalty)
    start = start.at[n_outer:].set(theta) if inner else start
    member = jnp.concatenate([sets.outer, sets.pair]) if inner else sets.outer
    batch = Batch(basis, cross, penalty, tile_share(member, rows))
    theta, done = fixed_hessian_logistic(rows.v, y, w, batch, start, rtol=FINAL_RTOL, max_steps=FINAL_STEPS)
    outer = _part(basis, None, n_outer)
    coefficients, exact = _newton_sets(rows, w, y, outer, penalty[:n_outer, 0], theta[:n_outer, 0], sets.outer)
    models = batch_coefficients(batch, theta)[n_outer:]
    return coefficients, choice, penalty[:n_outer, 0], models, jnp.all(exact) & jnp.all(done[n_outer:])


def platt(inner: Array, rows: Rows, w: Array, share: Array) -> Array:
    """(K, 2) calibration line of each outer fold, from inner out-of-fold logits (t, r, K) of its training rows."""

    def fit(one: tuple[Array, Array]) -> Array:
        logit, member = one
        weight = w * member[:, None]
        return platt_line(logit.reshape(-1), rows.treated.reshape(-1), weight.reshape(-1))

    return lax.map(fit, (jnp.moveaxis(inner, -1, 0), share.T))
