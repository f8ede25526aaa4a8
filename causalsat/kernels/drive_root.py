"""Distributionally robust instrumental variables from moments: one decomposition, then a root in one dimension.

Notation. ``B = L^{-1} Z'X/n`` (q, p) and ``w = L^{-1} Z'y/n`` (q,) with ``L L' = Z'Z/n``, so that
``||P_Z(y - X b)||^2/n = ||w - B b||^2 = J0 + (b - b_tsls)'A(b - b_tsls)`` with ``A = B'B``. DRIVE (Qu and Kwon 2024)
minimises ``||w - B b|| + sqrt(rho) sqrt(1 + ||b||^2)``. Its first-order condition:
``b(lam) = (A + lam I)^{-1} A b_tsls`` at the root of ``lam t(lam) = sqrt(rho) s(lam)``, s the root of the loss, t
that of ``1 + ||b||^2``.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

BISECTIONS = 100
NEWTON_STEPS = 2
OK, SINGULAR, CLIPPED = 0, 1, 100
_RANK = 1e-10
_FLAT = 1e-13


class Reduced(NamedTuple):
    """All that the zero-target problem sees of the data.

    Attributes
    ----------
    a : (p,) float64
        Eigenvalues of A, descending; zeros where there are fewer instruments than treatments.
    U : (p, p) float64
        Eigenvectors in columns.
    h : (p,) float64
        ``U' b_tsls``.
    j0 : () float64
        ``||w - B b_tsls||^2``; exactly zero when just identified.
    b_tsls : (p,) float64
        Minimiser at rho = 0 (of least norm where A is singular).
    """

    a: Array
    U: Array
    h: Array
    j0: Array
    b_tsls: Array


class Root(NamedTuple):
    """A solution.

    Attributes
    ----------
    b : (p,) float64
        Minimiser.
    lam : () float64
        The implicit ridge penalty, or 1 - kappa for the target "ols".
    s, t : () float64
        Root of the loss, and the penalty's factor, at b.
    status : () int32
        ``OK``, ``SINGULAR`` (b is NaN or not unique at rho = 0) or ``CLIPPED`` (rho above the one that gives least
        squares).
    """

    b: Array
    lam: Array
    s: Array
    t: Array
    status: Array


def reduced(B: Array, w: Array, just_identified: bool) -> Reduced:
    """Thin singular value decomposition of B (q, p), and the loss at its minimum from the residual.

    Parameters
    ----------
    B, w : (q, p), (q,) float64
        Moments, see the module.
    just_identified : bool
        q equals p: J0 is set to exactly zero, since round-off under a root would look like shrinkage.
    """
    q, p = B.shape
    left, sigma, right = jnp.linalg.svd(B, full_matrices=q < p)
    usable = sigma > _RANK * jnp.max(sigma)
    h = jnp.where(usable, (left.T @ w) / jnp.where(usable, sigma, 1.0), 0.0)
    if q < p:
        sigma, h = jnp.pad(sigma, (0, p - q)), jnp.pad(h, (0, p - q))
    b_tsls = right.T @ h
    j0 = jnp.zeros((), B.dtype) if just_identified or q < p else jnp.sum((w - B @ b_tsls) ** 2)
    return Reduced(sigma**2, right.T, h, j0, b_tsls)


def threshold(red: Reduced) -> Array:
    """Largest rho at which a just-identified fit is TSLS: (1 + ||b||^2)/(b'A^{-1}b) at b_tsls, infinite at zero."""
    live = red.a > 0.0
    size = jnp.sum(jnp.where(live, red.h**2 / jnp.where(live, red.a, 1.0), 0.0))
    return jnp.where(size > 0.0, (1.0 + jnp.sum(red.h**2)) / jnp.where(size > 0.0, size, 1.0), jnp.inf)


def drive_root(red: Reduced, rho: Array) -> Root:
    """Minimiser of ``||w - B b|| + sqrt(rho (1 + ||b||^2))``.

    The objective is strictly convex for rho > 0. Derivatives follow from the implicit function theorem; at rho = 0,
    where the one-sided derivative in rho is infinite unless J0 = 0, that derivative is returned as zero.

    Parameters
    ----------
    red : Reduced
        From :func:`reduced`.
    rho : () float64
        Squared radius of the Wasserstein ball, not negative. Map over several with ``jax.vmap``.
    """
    a, h, j0 = red.a, red.h, red.j0
    radius = _safe_sqrt(rho)

    def slope(lam: Array) -> Array:
        moved = a + lam
        live = moved > 0.0
        shrunk = jnp.where(live, a * h**2 / jnp.where(live, moved, 1.0) ** 2, 0.0)
        size = jnp.sqrt(1.0 + jnp.sum(a * shrunk))
        return size - radius * _safe_sqrt(_over_square(j0, lam) + jnp.sum(shrunk))

    top = radius * jnp.sqrt(j0 + jnp.sum(a * h**2))
    kept = (j0 == 0.0) & (rho <= threshold(red))
    lam = _root(slope, top, kept | (rho <= 0.0) | (top <= 0.0))
    factor = jnp.where(a + lam > 0.0, a / jnp.where(a + lam > 0.0, a + lam, 1.0), 0.0)
    b = jnp.where(lam > 0.0, red.U @ (factor * h), red.b_tsls)
    loss = jnp.sum(a * (lam * factor * h / jnp.where(a > 0.0, a, 1.0)) ** 2)
    s, t = _safe_sqrt(j0 + loss), jnp.sqrt(1.0 + jnp.sum(b**2))
    status = jnp.where(jnp.all(jnp.isfinite(b)), OK, SINGULAR)
    return Root(b, lam, s, t, status.astype(jnp.int32))


def ols_root(B: Array, w: Array, V: Array, v: Array, u: Array, rho: Array, just_identified: bool) -> Root:
    """Minimiser of ``||w - B b|| + sqrt(rho) m(b)`` with m(b)^2 = u - 2 v'b + b'V b: shrinkage towards least squares.

    A k-class estimator with kappa = 1 - lam, lam = sqrt(rho) s/m in [0, 1]: ``b = (A + lam V)^{-1}(B'w + lam v)``.
    Solved in the basis that makes A + V the identity and A diagonal, so V may be singular. Above
    rho_ols = (m/s)^2 at least squares the answer is least squares, with status ``CLIPPED``.

    Parameters
    ----------
    B, w : (q, p), (q,) float64
        Moments, see the module.
    V, v, u : (p, p), (p,), () float64
        X'M_Z X/n, X'M_Z y/n, y'M_Z y/n.
    rho : () float64
        Squared radius, free of units.
    just_identified : bool
        q equals p.
    """
    lower = jnp.linalg.cholesky(B.T @ B + V)
    inner = jax.scipy.linalg.solve_triangular(lower, B.T, lower=True).T
    red = reduced(inner, w, just_identified)
    turn = jax.scipy.linalg.solve_triangular(lower, red.U, lower=True, trans=1)
    theta, c = red.a, red.a * red.h
    omega = jnp.maximum(jnp.sum(turn * (V @ turn), axis=0), 0.0)
    omega = jnp.where(omega > _FLAT, omega, 0.0)
    d = jnp.where(omega > 0.0, turn.T @ v, 0.0)
    apart = theta * d - omega * c
    safe = jnp.where(theta > 0.0, theta, 1.0)

    def beta(lam: Array) -> Array:
        return (c + lam * d) / (safe + lam * omega)

    def penalty(lam: Array) -> Array:
        at = beta(lam)
        return _safe_sqrt(jnp.maximum(u - 2.0 * jnp.sum(d * at) + jnp.sum(omega * at**2), 0.0))

    def moved(lam: Array) -> Array:
        return jnp.sum(apart**2 / (safe * (safe + lam * omega) ** 2))

    radius, one, none = _safe_sqrt(rho), jnp.ones((), B.dtype), jnp.zeros((), B.dtype)

    def slope(lam: Array) -> Array:
        return penalty(lam) - radius * _safe_sqrt(_over_square(red.j0, lam) + moved(lam))

    kept = (rho <= 0.0) | ((red.j0 == 0.0) & (penalty(none) >= radius * _safe_sqrt(moved(none))))
    clipped = slope(one) < 0.0
    lam = jnp.where(clipped, one, _root(slope, one, kept | clipped))
    b = turn @ jnp.where(lam > 0.0, beta(lam), red.h)
    s = _safe_sqrt(red.j0 + lam**2 * moved(lam))
    status = jnp.where(jnp.all(jnp.isfinite(b)), jnp.where(clipped, CLIPPED, OK), SINGULAR)
    return Root(b, lam, s, penalty(lam), status.astype(jnp.int32))


def _root(slope: Callable[[Array], Array], top: Array, at_zero: Array) -> Array:
    """The sign change of ``slope`` in (0, top], negative before it; zero where ``at_zero`` holds.

    ``slope`` is the first-order condition divided by lam, which has the same sign and also serves a loss of zero.
    """

    def guarded(lam: Array) -> Array:
        return slope(jnp.where(at_zero, 1.0, lam)) * jnp.where(at_zero, 0.0, 1.0) + jnp.where(at_zero, lam, 0.0)

    def solve(function: Callable[[Array], Array], _: Array) -> Array:
        def halve(step: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = 0.5 * (low + high)
            below = function(middle) < 0.0
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (jnp.zeros_like(top), top))
        lam = 0.5 * (low + high)
        for _step in range(NEWTON_STEPS):
            value, rate = jax.jvp(function, (lam,), (jnp.ones_like(lam),))
            proposal = lam - value / jnp.where(rate > 0.0, rate, jnp.inf)
            better = (proposal >= low) & (proposal <= high) & (jnp.abs(function(proposal)) < jnp.abs(value))
            lam = jnp.where(better, proposal, lam)
        return jnp.where(at_zero, 0.0, lam)

    def tangent(linear: Callable[[Array], Array], y: Array) -> Array:
        return y / linear(jnp.ones_like(y))

    return jax.lax.custom_root(guarded, top, solve, tangent)


def _safe_sqrt(x: Array) -> Array:
    """Square root with derivative zero at zero."""
    positive = x > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _over_square(j0: Array, lam: Array) -> Array:
    """J0/lam^2, zero where J0 is."""
    return jnp.where(j0 > 0.0, (jnp.sqrt(jnp.where(j0 > 0.0, j0, 1.0)) / lam) ** 2, 0.0)
