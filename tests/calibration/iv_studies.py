"""Many simulated studies with one treatment at once: `drive` and its comparators mapped over the kernels.

`jax.vmap` of the kernels replaces a call of the verb per study; tests/calibration/test_drive_coverage.py shows that both
give the same numbers.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from causalsat.inference.coverage import study_seeds
from causalsat.kernels.drive_root import Reduced, drive_root, reduced, threshold
from causalsat.kernels.k_class import k_class_point, liml_kappa
from causalsat.simulate.iv import iv

CAP = 0.5
GAMMA = 5.0
METHODS = ("drive", "ols", "tsls", "liml", "fuller", "anchor", "ridge")
N, Q, B0 = 500, 4, 1.0


class Studies(NamedTuple):
    """R studies: y (R, n), x (R, n), Z (R, n, q)."""

    y: np.ndarray
    x: np.ndarray
    Z: np.ndarray


class Fits(NamedTuple):
    """What one study gives; unit scale unless said otherwise.

    ``estimates`` (methods,) raw units; ``unit`` sd_y/sd_x; ``reduced``, ``rho``, ``lam``, ``b`` of DRIVE; ``y``, ``x``
    (n,) scaled; ``T`` (q, n) instruments with T T'/n = I; ``limit`` rho at which the law ends.
    """

    estimates: Array
    unit: Array
    reduced: Reduced
    rho: Array
    lam: Array
    b: Array
    y: Array
    x: Array
    T: Array
    limit: Array


def first_seed(name: str) -> int:
    """Seed of the first study of a cell; the others follow it."""
    return int(study_seeds(0, name, 1)[0])


def studies(runs: int, seed: int, **options) -> Studies:
    """``runs`` draws of the simulator with seeds that depend on the run only."""
    drawn = [iv(**({"n": N, "q": Q, "effect": B0} | options), seed=seed + r)[0] for r in range(runs)]
    q = sum(name.startswith("z") for name in drawn[0])
    return Studies(
        np.stack([d["y"] for d in drawn]),
        np.stack([d["x"] for d in drawn]),
        np.stack([np.column_stack([d[f"z{j + 1}"] for j in range(q)]) for d in drawn]),
    )


def fit_all(many: Studies) -> Fits:
    """Fits of every study, arrays with a leading axis R, NumPy."""
    return jax.tree.map(np.asarray, _fit_all(*map(jnp.asarray, many)))


def fit_one(y: Array, x: Array, Z: Array) -> Fits:
    """One study with a constant as its only covariate and the radius of rule "theory" under HC1."""
    n, q = Z.shape
    d1 = n - q - 1
    y, x, Z = y - y.mean(), x - x.mean(), Z - Z.mean(axis=0)[None, :]
    sd_y, sd_x = jnp.sqrt(jnp.mean(y**2)), jnp.sqrt(jnp.mean(x**2))
    y, x = y / sd_y, x / sd_x
    T = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(Z.T @ Z / n), Z.T, lower=True)
    B, w = T @ x / n, T @ y / n
    red = reduced(B[:, None], w, q == 1)
    v = x - T.T @ B
    many = jnp.mean(jnp.sum(T**2, axis=0) * v**2) / d1
    rho = CAP * jnp.maximum(red.a[0] - many, 0.0)
    root = drive_root(red, rho)
    Y, F = jnp.stack([y, x]), jnp.stack([w, B])
    total, projected = Y @ Y.T / n, F @ F.T
    kappa = liml_kappa(projected, total, q == 1)

    def at(k: Array | float) -> Array:
        return k_class_point(
            projected[1:, 1:], projected[1:, 0], total[1:, 1:], total[1:, 0], jnp.asarray(k, total.dtype)
        )[0]

    ridge = red.a[0] * red.b_tsls[0] / (red.a[0] + rho)
    fitted = [root.b[0], at(0.0), at(1.0), at(kappa), at(kappa - 1.0 / d1), at((GAMMA - 1.0) / GAMMA), ridge]
    unit = sd_y / sd_x
    return Fits(jnp.stack(fitted) * unit, unit, red, rho, root.lam, root.b[0], y, x, T, threshold(red))


_fit_all = jax.jit(jax.vmap(fit_one))


def estimates(many: Studies) -> dict[str, np.ndarray]:
    """(R,) estimates per method."""
    found = fit_all(many).estimates
    return {method: found[:, i] for i, method in enumerate(METHODS)}


def median_error(values: np.ndarray, seed: int = 0, draws: int = 400) -> float:
    """Bootstrap standard error of a median."""
    rows = np.random.default_rng(seed).integers(0, values.size, (draws, values.size))
    return float(np.median(values[rows], axis=1).std(ddof=1))


class Bands(NamedTuple):
    """Intervals of one study in raw units, two numbers per level: (levels, 2)."""

    limit: Array
    wald: Array


@partial(jax.jit, static_argnames=("levels",))
def law_and_wald(fits: Fits, normals: Array, levels: tuple[float, ...]) -> Bands:
    """Limit law (simulated with ``normals`` (draws, q)) and Wald TSLS, HC1, for every study."""
    return jax.lax.map(lambda fit: _law_and_wald(fit, normals, levels), fits, batch_size=20)


def _law_and_wald(fit: Fits, normals: Array, levels: tuple[float, ...]) -> Bands:
    n = fit.T.shape[1]
    a, b = fit.reduced.a[0], fit.reduced.b_tsls[0]
    B = fit.T @ fit.x / n
    scores = fit.T * (fit.y - fit.x * b)[None, :]
    omega = scores @ scores.T / (n - 2)
    c = b / jnp.sqrt(1.0 + b**2)
    v = jnp.sqrt(fit.rho) * c / a / jnp.sqrt(jnp.maximum(1.0 - fit.rho * c**2 / a, 0.0))
    draws = normals @ jnp.linalg.cholesky(omega).T
    tsls = draws @ B / a
    apart = jnp.linalg.norm(draws - tsls[:, None] * B[None, :], axis=1)
    shift = (tsls - apart * v) / jnp.sqrt(n)
    error = jnp.sqrt(B @ omega @ B / n) / a
    tails = 0.5 * (1.0 - jnp.asarray(levels))
    low, high = jnp.quantile(shift, tails), jnp.quantile(shift, 1.0 - tails)
    normal = jax.scipy.stats.norm.ppf(1.0 - tails)
    limit = jnp.stack([fit.b - high, fit.b - low], axis=1)
    wald = jnp.stack([b - normal * error, b + normal * error], axis=1)
    return Bands(limit * fit.unit, wald * fit.unit)


def bootstrap_bands(
    many: Studies, fits: Fits, draws: int, seed: int, levels: tuple[float, ...]
) -> dict[str, np.ndarray]:
    """Recentred basic intervals and plain percentile intervals (R, levels, 2) in raw units, rows drawn afresh."""
    runs, n = many.y.shape
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {"recentred": [], "percentile": []}
    chunk = 20
    for start in range(0, runs, chunk):
        # Twenty studies share their resampling weights, which saves memory and leaves each study's law as it is.
        weights = jnp.asarray(rng.multinomial(n, np.full(n, 1.0 / n), size=draws).astype(np.float64))
        part = jax.tree.map(lambda leaf, s=start: jnp.asarray(leaf[s : s + chunk]), fits)
        recentred, plain = (np.asarray(a) for a in _resampled(part, weights))
        for i in range(recentred.shape[0]):
            b, base = float(part.b[i]), float(part.reduced.b_tsls[i, 0])
            unit = float(part.unit[i])
            shift = np.sort(recentred[i] - base)
            sorted_plain = np.sort(plain[i])
            ranks = [int(np.floor((draws + 1) * 0.5 * (1.0 - level) + 1e-9)) for level in levels]
            found["recentred"].append(np.array([[b - shift[-k], b - shift[k - 1]] for k in ranks]) * unit)
            found["percentile"].append(np.array([[sorted_plain[k - 1], sorted_plain[-k]] for k in ranks]) * unit)
    return {name: np.stack(values) for name, values in found.items()}


@jax.jit
def _resampled(fits: Fits, weights: Array) -> tuple[Array, Array]:
    """(studies, draws) DRIVE from moments recentred at TSLS, and from plain moments."""
    return jax.lax.map(lambda fit: _resample_one(fit, weights), fits)


def _resample_one(fit: Fits, weights: Array) -> tuple[Array, Array]:
    q, n = fit.T.shape
    columns = jnp.concatenate([fit.T, fit.x[None, :], fit.y[None, :]])
    i, j = np.triu_indices(q + 2)
    sums = weights @ columns.T / n
    products = weights @ (columns[i] * columns[j]).T / n
    missed = fit.T @ (fit.y - fit.x * fit.reduced.b_tsls[0]) / n

    def solve(mean: Array, product: Array, shift: Array) -> Array:
        moments = jnp.zeros((q + 2, q + 2), product.dtype).at[i, j].set(product)
        moments = moments + jnp.triu(moments, 1).T - mean[:, None] * mean[None, :]
        lower = jnp.linalg.cholesky(moments[:q, :q])
        sides = jnp.stack([moments[:q, q], moments[:q, q + 1] - shift], axis=1)
        solved = jax.scipy.linalg.solve_triangular(lower, sides, lower=True)
        return drive_root(reduced(solved[:, :1], solved[:, 1], q == 1), fit.rho).b[0]

    every = jax.vmap(solve, in_axes=(0, 0, None))
    return every(sums, products, missed), every(sums, products, jnp.zeros(q))


def weak_tests(fits: Fits, b0: float) -> dict[str, np.ndarray]:
    """(R,) p-values at b0 (raw units) of AR (homoskedastic and HC1) and CLR for every study."""
    from scipy import stats

    q, n = fits.T.shape[1:]
    d1 = n - q - 1
    e = fits.y - fits.x * (b0 / fits.unit)[:, None]
    inside = np.einsum("rqn,rn->rq", fits.T, e) / n
    explained = n * (inside**2).sum(axis=1)
    ar = d1 * explained / ((e**2).sum(axis=1) - explained)
    # The variance is that under the null: of the scores themselves, not of what is left of them beside Z.
    scores = fits.T * e[:, None, :]
    variance = np.einsum("rqn,rpn->rqp", scores, scores) / d1
    robust = n * np.einsum("rq,rq->r", inside, np.linalg.solve(variance, inside[:, :, None])[:, :, 0])
    return {
        "ar": stats.chi2.sf(ar, q),
        "ar robust": stats.chi2.sf(robust, q),
        "clr": _clr_p_value(fits, b0),
    }


def _clr_p_value(fits: Fits, b0: float) -> np.ndarray:
    """Moreira's (2003) conditional likelihood ratio, its law by quadrature."""
    from scipy import stats

    q, n = fits.T.shape[1:]
    Y = np.stack([fits.y, fits.x], axis=1)
    inside = np.einsum("rqn,rin->rqi", fits.T, Y) / n
    G = n * np.einsum("rqi,rqj->rij", inside, inside)
    omega = (np.einsum("rin,rjn->rij", Y, Y) - G) / (n - q - 1)
    across = np.linalg.solve(omega, G)
    smallest = np.linalg.eigvals(across).real.min(axis=1)
    line = np.stack([np.ones(len(fits.y)), -b0 / fits.unit], axis=1)
    q_s = np.einsum("ri,rij,rj->r", line, G, line) / np.einsum("ri,rij,rj->r", line, omega, line)
    q_t = np.trace(across, axis1=1, axis2=2) - q_s
    ratio = np.maximum(q_s - smallest, 1e-12)
    # S = sin(phi) with phi = (pi/2) u^4: nodes crowd at zero, where the integrand turns when the ratio is small.
    u, weights = np.polynomial.legendre.leggauss(400)
    u, weights = 0.5 * (u + 1.0), weights * (0.5 * (u + 1.0)) ** 3
    phi = 0.5 * np.pi * u**4
    weights = weights * np.cos(phi) ** (q - 2)
    level = (q_t + ratio)[:, None] / (1.0 + (q_t / ratio)[:, None] * np.sin(phi)[None, :] ** 2)
    return 1.0 - stats.chi2.cdf(level, q) @ (weights / weights.sum())
