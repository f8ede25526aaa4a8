"""Designs as plain arrays, choices with one thing changed, and dense textbook versions of what is computed by parts."""

from types import SimpleNamespace

import numpy as np
from scipy import linalg

from causalsat.estimators.r3d_options import validated_choices
from causalsat.inference.sampling import Sampling

KERNELS = {
    "triangular": lambda u: np.maximum(1 - abs(u), 0),
    "epanechnikov": lambda u: 0.75 * np.maximum(1 - u**2, 0),
    "uniform": lambda u: 0.5 * (abs(u) <= 1),
}


def chosen(**changed):
    base = {
        "estimator": "frechet", "order": 2, "kernel": "triangular", "bandwidth": 0.5, "bandwidth_treatment": None,
        "quantile_rule": "type7", "small_sample": None, "functionals": (), "thresholds": (),
        "tests": ("nullity", "homogeneity", "dominance"), "test_range": None, "band": "studentized", "critical": "t",
        "residuals": "hc2", "donut": 0.0, "tie": "treated", "level": 0.95, "inference": None, "n_boot": None, "seed": 3,
        "checks": None, "compat": None,
    }  # fmt: skip
    return validated_choices(**{**base, **changed})


def arrays(x, Q, *, T=None, W=None, omega=None, cluster=None, lonlat=None, quantiles=None):
    """What the fit and its inference read of a design."""
    n, m = Q.shape
    levels = np.arange(1, m + 1) / (m + 1) if quantiles is None else quantiles
    cells = np.ones(1) if m == 1 else np.gradient(levels)
    return SimpleNamespace(
        x=x, treated=x >= 0, Q=Q, quantiles=levels, cells=cells, omega=np.ones(n) if omega is None else omega,
        treatment=T, covariates=np.zeros((n, 0)) if W is None else W, sampling=Sampling(n, cluster=cluster, lonlat=lonlat),
        names={} if cluster is None else {"cluster": "cluster"},
    )  # fmt: skip


def simulated(n=120, m=7, seed=0, fuzzy=False, covariates=0, draws=60, **more):
    """Units of random location and scale, with a jump of one that rises with the level."""
    g = np.random.default_rng(seed)
    x = g.uniform(-1, 1, n)
    mean = 3 + x + x**2 + g.normal(size=n) + (x >= 0)
    scale = np.exp(0.2 * g.normal(size=n)) * (1 + 0.3 * (x >= 0))
    levels = np.arange(1, m + 1) / (m + 1)
    Q = np.quantile(mean[:, None] + scale[:, None] * g.normal(size=(n, draws)), levels, axis=1).T
    T = (g.random(n) < np.where(x >= 0, 0.85, 0.15)).astype(float) if fuzzy else None
    W = g.normal(size=(n, covariates)) if covariates else None
    if W is not None:
        Q = Q + 0.5 * W[:, :1]
    return arrays(x, Q, T=T, W=W, **more)


def dense(design, h, kernel="triangular", order=2):
    """Hat matrix (n, n), weights of both limits (2, n) and kernel weights (n,) by explicit normal equations."""
    h = np.broadcast_to(h, (2,))
    right = design.treated
    u = design.x / np.where(right, h[0], h[1])
    k = design.omega * KERNELS[kernel](u)
    base = u[:, None] ** np.arange(order + 1)
    W = design.covariates - (k @ design.covariates / k.sum())[None, :]
    R = np.column_stack([base * right[:, None], base * ~right[:, None], W])
    S = np.linalg.solve(R.T @ (k[:, None] * R), R.T * k)
    return R @ S, S[[0, order + 1]], k


def block_contributions(design, h, codes, kind, **options):
    """(g, 2, M) contributions by explicit block corrections, and the (g, n) rows a_g of the jump."""
    H, s, k = dense(design, h, **options)
    inside = k > 0
    errors = np.where(inside[:, None], design.Q - H @ design.Q, 0.0)
    out, rows = [], []
    for code in np.unique(codes[inside]):
        own = np.flatnonzero((codes == code) & inside)
        root = np.sqrt(k[own])
        block = np.eye(own.size) - H[np.ix_(own, own)]
        if kind == "cr2":
            symmetric = root[:, None] * block / root[None, :]
            fix = np.linalg.inv(linalg.sqrtm((symmetric + symmetric.T) / 2).real) * root[None, :] / root[:, None]
        else:
            fix = np.linalg.inv(block) if kind == "cr3" else np.eye(own.size)
        out.append(s[:, own] @ fix @ errors[own])
        loading = np.zeros(design.x.size)
        loading[own] = (s[0] - s[1])[own] @ fix
        rows.append((np.diag(inside.astype(float)) - H * inside[:, None]).T @ loading)
    return np.stack(out), np.stack(rows)


def satterthwaite(rows):
    gram = rows @ rows.T
    return np.trace(gram) ** 2 / (gram**2).sum()
