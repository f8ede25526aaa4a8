"""Units with whole distributions on both sides of a cutoff, with the true effect at every quantile."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalsat.errors import count, number

DECILES = tuple(k / 10 for k in range(1, 10))
_NODES = 64

Data = dict[str, np.ndarray]


def normal(
    n: int = 500,
    n_draws: int = 500,
    effect: float = 0.0,
    seed: int = 0,
    *,
    quantiles: Sequence[float] = DECILES,
    long: bool = True,
) -> tuple[Data, dict[str, Any]]:
    """Normal units whose location jumps (first design of Van Dijcke 2025, as read here).

    X ~ U(-1, 1); mu_i ~ N(5 + 5 X_i + effect 1{X_i >= 0}, 1); sigma_i = |N(1 + X_i, 1)|; Z_ij ~ N(mu_i, sigma_i^2).

    Parameters
    ----------
    n, n_draws : int
        Units, draws per unit.
    effect : float
        Shift of every quantile.
    seed : int
        Seed of the generator.
    quantiles : sequence of float
        Levels of ``truth["tau"]``.
    long : bool
        One row per draw (columns unit, x, value); False: one row per unit, and the draws (n, n_draws) in
        ``truth["draws"]``.

    Returns
    -------
    data : dict of str to np.ndarray
        Columns.
    truth : dict
        quantiles, tau (M,), mean, sd.

    Examples
    --------
    >>> data, truth = normal(n=20, n_draws=5, effect=1.0)
    >>> len(data["value"]), truth["tau"][0]
    (100, 1.0)
    """
    rng, x = _start(n, seed)
    mu = 5.0 + 5.0 * x + effect * (x >= 0.0) + rng.normal(size=n)
    sigma = np.abs(1.0 + x + rng.normal(size=n))
    draws = mu[:, None] + sigma[:, None] * rng.normal(size=(n, n_draws))
    levels = np.asarray(quantiles, dtype=np.float64)
    truth = {"quantiles": levels, "tau": np.full(levels.size, float(effect)), "mean": float(effect), "sd": 0.0}
    return _finished({"x": x}, draws, truth, long)


def mixture(
    n: int = 500,
    n_draws: int = 500,
    effect: float = 0.0,
    seed: int = 0,
    *,
    rate_change: float = 0.5,
    quantiles: Sequence[float] = DECILES,
    long: bool = True,
) -> tuple[Data, dict[str, Any]]:
    """Normal plus exponential units whose location and tail jump (second design of Van Dijcke 2025, as read here).

    mu_i ~ U(-5, 5) + 2 X_i, lambda_i ~ U(.5, 1.5), Z_ij = N(mu_i + effect D_i, 1) + 2 Exp(rate lambda_i + rate_change
    D_i), D_i = 1{X_i >= 0}. The truth is ``effect`` plus the difference of the quantile functions averaged over lambda
    (64-point Gauss-Legendre).

    Parameters
    ----------
    rate_change : float
        Change of the exponential's rate at the cutoff.
    n, n_draws, effect, seed, quantiles, long
        As in :func:`normal`.

    Returns
    -------
    data, truth
        As in :func:`normal`.
    """
    rng, x = _start(n, seed)
    right = (x >= 0.0).astype(np.float64)
    mu = rng.uniform(-5.0, 5.0, size=n) + 2.0 * x + effect * right
    rate = rng.uniform(0.5, 1.5, size=n) + rate_change * right
    draws = mu[:, None] + rng.normal(size=(n, n_draws)) + 2.0 * rng.exponential(size=(n, n_draws)) / rate[:, None]
    levels = np.asarray(quantiles, dtype=np.float64)
    tau = effect + _average_tail(levels, rate_change) - _average_tail(levels, 0.0)
    nodes, weights = _rates()
    mean = effect + float(weights @ (2.0 / (nodes + rate_change) - 2.0 / nodes))
    return _finished({"x": x}, draws, {"quantiles": levels, "tau": tau, "mean": mean}, long)


def dispersion_jump(
    n: int = 500,
    n_draws: int = 10,
    factor: float = 2.0,
    seed: int = 0,
    *,
    quantiles: Sequence[float] = DECILES,
    long: bool = True,
) -> tuple[Data, dict[str, Any]]:
    """Normal units whose spread is multiplied at the cutoff: what few draws per unit attenuate.

    Z_ij ~ N(mu_i, sigma_i^2), mu_i ~ N(x_i, .25), sigma = 1 left and ``factor`` right of the cutoff; tau(q) =
    (factor - 1) z_q.

    Parameters
    ----------
    factor : float
        sigma right over sigma left.
    n, n_draws, seed, quantiles, long
        As in :func:`normal`.

    Returns
    -------
    data, truth
        As in :func:`normal`.
    """
    from scipy.stats import norm

    rng, x = _start(n, seed)
    sigma = np.where(x >= 0.0, factor, 1.0)
    mu = x + 0.5 * rng.normal(size=n)
    draws = mu[:, None] + sigma[:, None] * rng.normal(size=(n, n_draws))
    levels = np.asarray(quantiles, dtype=np.float64)
    truth = {"quantiles": levels, "tau": (factor - 1.0) * norm.ppf(levels), "mean": 0.0, "sd": factor - 1.0}
    return _finished({"x": x}, draws, truth, long)


def slope_jump(
    n: int = 500,
    n_draws: int = 50,
    kink: float = 5.0,
    effect: float = 0.0,
    seed: int = 0,
    *,
    quantiles: Sequence[float] = DECILES,
    long: bool = True,
) -> tuple[Data, dict[str, Any]]:
    """Straight lines whose slope changes by ``kink`` at the cutoff: no curvature for a bandwidth to react to.

    Parameters
    ----------
    kink : float
        Change of the slope of the mean in x.
    n, n_draws, effect, seed, quantiles, long
        As in :func:`normal`.

    Returns
    -------
    data, truth
        As in :func:`normal`.
    """
    rng, x = _start(n, seed)
    mu = x + (kink * x + effect) * (x >= 0.0) + 0.5 * rng.normal(size=n)
    draws = mu[:, None] + rng.normal(size=(n, n_draws))
    levels = np.asarray(quantiles, dtype=np.float64)
    truth = {"quantiles": levels, "tau": np.full(levels.size, float(effect)), "mean": float(effect), "sd": 0.0}
    return _finished({"x": x}, draws, truth, long)


def clusters(
    n_clusters: int = 60,
    units: int = 10,
    n_draws: int = 50,
    effect: float = 0.0,
    intraclass: float = 0.5,
    seed: int = 0,
    *,
    straddling: bool = False,
    quantiles: Sequence[float] = DECILES,
    long: bool = True,
) -> tuple[Data, dict[str, Any]]:
    """Clusters of units that share a shock.

    The mean of a unit is 5 + 2 x + effect D + a cluster shock with share ``intraclass`` of a unit variance + its own.

    Parameters
    ----------
    n_clusters, units : int
        Clusters, units per cluster.
    intraclass : float
        Intraclass correlation, in [0, 1].
    straddling : bool
        Clusters reach over the cutoff; False: each lies on one side.
    n_draws, effect, seed, quantiles, long
        As in :func:`normal`.

    Returns
    -------
    data, truth
        As in :func:`normal`, with a column cluster.
    """
    intraclass = number("intraclass", intraclass, 0.0, 1.0, open_ends=False)
    n = count("n_clusters", n_clusters, 2) * count("units", units, 1)
    rng, x = _start(n, seed)
    cluster = np.repeat(np.arange(n_clusters), units)
    if not straddling:
        x = np.abs(x) * np.where(rng.uniform(size=n_clusters) < 0.5, -1.0, 1.0)[cluster]
    shock = np.sqrt(intraclass) * rng.normal(size=n_clusters)[cluster] + np.sqrt(1.0 - intraclass) * rng.normal(size=n)
    mu = 5.0 + 2.0 * x + effect * (x >= 0.0) + shock
    draws = mu[:, None] + rng.normal(size=(n, n_draws))
    levels = np.asarray(quantiles, dtype=np.float64)
    truth = {"quantiles": levels, "tau": np.full(levels.size, float(effect)), "mean": float(effect), "sd": 0.0}
    return _finished({"x": x, "cluster": cluster}, draws, truth, long)


def fuzzy(
    n: int = 500,
    n_draws: int = 100,
    effect: float = 1.0,
    spread: float = 0.5,
    seed: int = 0,
    *,
    weak: bool = False,
    quantiles: Sequence[float] = DECILES,
    long: bool = True,
) -> tuple[Data, dict[str, Any]]:
    """Treatment taken up with probability .2 left and .8 right of the cutoff (weak: .45 and .55), by selected units.

    U_i ~ U(0, 1) orders units by eagerness: T_i = 1{U_i < p(x_i)}; Z_ij ~ N(5 + 3 x_i + 2 (.5 - U_i) + effect T_i,
    (1 + spread T_i)^2). Effects are the same for all units, so tau(q) = effect + spread z_q for compliers too.

    Parameters
    ----------
    effect, spread : float
        Shift of the mean and of the standard deviation by treatment.
    weak : bool
        A small first stage.
    n, n_draws, seed, quantiles, long
        As in :func:`normal`.

    Returns
    -------
    data, truth
        As in :func:`normal`, with a column treatment; truth has first_stage.
    """
    from scipy.stats import norm

    rng, x = _start(n, seed)
    low, high = (0.45, 0.55) if weak else (0.2, 0.8)
    eager = rng.uniform(size=n)
    treatment = (eager < np.where(x >= 0.0, high, low)).astype(np.float64)
    mu = 5.0 + 3.0 * x + 2.0 * (0.5 - eager) + effect * treatment + 0.5 * rng.normal(size=n)
    draws = mu[:, None] + (1.0 + spread * treatment)[:, None] * rng.normal(size=(n, n_draws))
    levels = np.asarray(quantiles, dtype=np.float64)
    truth = {
        "quantiles": levels, "tau": effect + spread * norm.ppf(levels), "mean": float(effect), "sd": float(spread),
        "first_stage": high - low,
    }  # fmt: skip
    return _finished({"x": x, "treatment": treatment}, draws, truth, long)


def _start(n: int, seed: int) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(count("seed", seed))
    return rng, rng.uniform(-1.0, 1.0, size=count("n", n, 4))


def _finished(columns: Data, draws: np.ndarray, truth: dict[str, Any], long: bool) -> tuple[Data, dict[str, Any]]:
    n, k = draws.shape
    columns = {"unit": np.arange(n), **columns}
    if not long:
        return columns, {**truth, "draws": draws}
    return {name: np.repeat(values, k) for name, values in columns.items()} | {"value": draws.reshape(-1)}, truth


def _rates() -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights of the uniform law on (.5, 1.5)."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return 1.0 + 0.5 * nodes, 0.5 * weights


def _average_tail(levels: np.ndarray, rate_change: float) -> np.ndarray:
    """(M,) quantiles of N(0, 1) + 2 Exp(lambda + rate_change), averaged over lambda."""
    nodes, weights = _rates()
    return np.asarray(weights @ _normal_exponential_quantiles(levels, 0.5 * (nodes + rate_change)))


def _normal_exponential_quantiles(levels: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """(r, M) quantiles of N(0, 1) + Exp(rate) by bisection on F(z) = Phi(z) - exp(-rate z + rate^2/2) Phi(z - rate)."""
    from scipy.special import log_ndtr, ndtr

    rate = rates[:, None]
    low = np.full((rates.size, levels.size), -10.0)
    high = np.full((rates.size, levels.size), 200.0)
    for _ in range(80):
        z = 0.5 * (low + high)
        below = ndtr(z) - np.exp(-rate * z + 0.5 * rate**2 + log_ndtr(z - rate)) < levels[None, :]
        low, high = np.where(below, z, low), np.where(below, high, z)
    return np.asarray(0.5 * (low + high))
