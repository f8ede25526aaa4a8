"""Studies with instruments for the tests of sets: Card, Mroz and simulated ones."""

import numpy as np

from causalsat.inference.iv_rows import IvRows
from causalsat.inference.sampling import Sampling

CARD_CONTROLS = ["exper", "expersq", "black", "smsa", "south", "smsa66", *[f"reg{r}" for r in range(662, 670)]]


def net(y, X, Z, C, *, weights=None, sampling=None, treatments=None):
    """Rows net of C by weighted least squares."""
    n = y.shape[0]
    w = np.ones(n) if weights is None else weights * n / weights.sum()
    root = np.sqrt(w)[:, None]
    together = np.column_stack([y, X, Z])
    left = together - C @ np.linalg.lstsq(C * root, together * root, rcond=None)[0]
    p = X.shape[1]
    names = tuple(f"x{j}" for j in range(p)) if treatments is None else treatments
    return IvRows(
        left[:, 0], left[:, 1 : 1 + p], left[:, 1 + p :], w, C, C.shape[1], C.shape[1],
        Sampling(n) if sampling is None else sampling, treatments=names,
    )  # fmt: skip


def card_arrays(instruments):
    from linearmodels.datasets import card

    data = card.load()
    C = np.column_stack([np.ones(len(data)), data[CARD_CONTROLS].to_numpy(float)])
    return data["lwage"].to_numpy(float), data[["educ"]].to_numpy(float), data[instruments].to_numpy(float), C


def mroz_arrays():
    from linearmodels.datasets import mroz

    data = mroz.load().dropna(subset=["lwage"])
    X, Z = data[["educ", "exper"]].to_numpy(float), data[["age", "kidslt6", "kidsge6"]].to_numpy(float)
    return data["lwage"].to_numpy(float), X, Z, np.ones((len(data), 1))


def simulated(seed, *, n=120, q=3, p=1, strength=0.3, b=1.0, direct=0.0, confounding=0.6, noise=1.0, spread=None):
    """y, X, Z, C of a linear study; ``strength`` per treatment (or (q, p)), ``direct`` (q,) breaks exclusion."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, q))
    V = rng.standard_normal((n, p))
    e = noise * (confounding * V.sum(axis=1) / np.sqrt(p) + np.sqrt(1 - confounding**2) * rng.standard_normal(n))
    e = e if spread is None else e * spread(Z)
    first = np.broadcast_to(np.asarray(strength, dtype=float), (q, p)) if p == 1 else np.asarray(strength)
    X = Z @ first + V
    y = X @ np.broadcast_to(np.asarray(b, dtype=float), (p,)) + e + Z @ np.broadcast_to(direct, (q,))
    C = np.column_stack([np.ones(n), rng.standard_normal(n)])
    return y + C @ [1.0, 0.5], X + C @ np.ones((2, p)), Z, C


def permitted(excess, grid, pieces, *, slack):
    """The brute-force decision on a grid agrees with the pieces away from their ends."""
    inside = np.array([any(low <= b <= high for low, high in pieces) for b in grid])
    ends = np.array([end for piece in pieces for end in piece if np.isfinite(end)])
    clear = np.ones(grid.size, dtype=bool)
    if ends.size:
        clear = np.abs(grid[:, None] - ends[None, :]).min(axis=1) > slack * (1.0 + np.abs(grid))
    return bool(np.array_equal((excess <= 0.0)[clear], inside[clear]))
