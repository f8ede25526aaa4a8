"""Quantile RD on pooled pixels beside `causalsat.r3d` on the same data."""

import numpy as np

from causalsat.estimators.r3d_fit import fit_columns
from causalsat.simulate import r3d as simulate

LEVELS = (0.1, 0.9)
EFFECTS = {"normal": 1.0, "mixture": 0.0}
H = 0.5
GRID = 200


def pooled_quantiles(x: np.ndarray, draws: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(2, M) quantiles right and left of the cutoff of the distribution of all pixels there.

    The local linear fit of 1{Z <= z} on a grid of z, every pixel one observation, made monotone and inverted (Frandsen,
    Frolich and Melly 2012). Units with the same number of pixels: their shares below z are what is fitted.
    """
    n, k = draws.shape
    grid = np.quantile(draws, np.linspace(0.002, 0.998, GRID))
    place = np.searchsorted(grid, draws) + (GRID + 1) * np.arange(n)[:, None]
    counts = np.bincount(place.reshape(-1), minlength=n * (GRID + 1)).reshape(n, GRID + 1)
    below = np.cumsum(counts, axis=1)[:, :GRID] / k
    fit = fit_columns(x, x >= 0.0, np.ones(n), np.zeros((n, 0)), below, np.full(2, H), order=1)
    cdf = np.maximum.accumulate(fit.raw, axis=1) + 1e-12 * np.arange(GRID)[None, :]
    return np.stack([np.interp(levels, side, grid) for side in cdf])


def errors(design: str, repeats: int, *, units: int, draws: int) -> dict[tuple[str, float], np.ndarray]:
    """(repeats,) (estimate - tau) / tau of both at every level."""
    make = getattr(simulate, design)
    levels = np.array(LEVELS)
    out = {(method, level): np.empty(repeats) for method in ("pooled", "ours") for level in LEVELS}
    for r in range(repeats):
        data, truth = make(n=units, n_draws=draws, effect=EFFECTS[design], seed=r, quantiles=LEVELS, long=False)
        x, tau = data["x"], truth["tau"]
        sides = pooled_quantiles(x, truth["draws"], levels)
        Q = np.quantile(truth["draws"], levels, axis=1).T
        fit = fit_columns(x, x >= 0.0, np.ones(units), np.zeros((units, 0)), Q, np.full(2, H), order=1)
        for name, found in (("pooled", sides[0] - sides[1]), ("ours", fit.raw[0] - fit.raw[1])):
            for j, level in enumerate(LEVELS):
                out[name, level][r] = (found[j] - tau[j]) / tau[j]
    return out
