"""Two tabular confounders and one that only the image shows."""

from typing import Any

import numpy as np

from causalsat.errors import OptionError, count
from causalsat.study.embeddings import Embeddings

SIDE = 32
GRADIENT = 0.02
POPULATION = {"none": 3.972, "tabular": 2.852, "image": 3.480, "both": 2.0}


def tabular_image(
    n: int = 1000, seed: int = 0, *, pixels: bool = False
) -> tuple[dict[str, np.ndarray], Any, dict[str, Any]]:
    """n rows with one image each; the effect is 2 and both X and the image confound it.

    C, X1, X2 ~ N(0, 1); W ~ Bern(sigmoid(C + X1 + X2)); Y = 2W + C + X1 + X2 + N(0, 1). The red band of a 32 x 32 x 3
    chip is C scaled to [0, 1] over the sample, green and blue are uniform constants, and every band carries a gradient
    of .02 down its rows. Adjusting for a set estimates, in the population: none 3.972, tabular (X1, X2) 2.852, image
    (C) 3.480, both 2. 8.9% of propensities lie outside [.05, .95].

    Parameters
    ----------
    n : int
        Rows (and images), at least 10.
    seed : int
        Seed of the generator.
    pixels : bool
        Return the chips instead of their band means.

    Returns
    -------
    data : dict of str to np.ndarray
        Columns y, w, x1, x2 (float64) and image (str).
    images : Embeddings or np.ndarray
        Band means (n, 3), or chips (n, 3, 32, 32) float32.
    truth : dict
        ate, population (per adjustment set), c (n,), propensity (n,).

    Examples
    --------
    >>> data, images, truth = tabular_image(n=50, seed=1)
    >>> len(data["y"]), len(images), truth["ate"]
    (50, 50, 2.0)
    """
    n = count("n", n, minimum=10)
    rng = np.random.default_rng(count("seed", seed))
    c, x1, x2 = rng.standard_normal((3, n))
    propensity = 1.0 / (1.0 + np.exp(-(c + x1 + x2)))
    w = (rng.random(n) < propensity).astype(np.float64)
    y = 2.0 * w + c + x1 + x2 + rng.standard_normal(n)
    red = (c - c.min()) / (c.max() - c.min())
    bands = np.column_stack([red, rng.random((n, 2))])
    ids = np.array([f"img{i:06d}" for i in range(n)])
    data = {"y": y, "w": w, "x1": x1, "x2": x2, "image": ids}
    truth = {"ate": 2.0, "population": dict(POPULATION), "c": c, "propensity": propensity}
    if pixels:
        return data, _chips(bands), truth
    means = bands + GRADIENT / 2.0
    return data, Embeddings.from_matrix(means, ids, feature_names=("red", "green", "blue")), truth


def _chips(bands: np.ndarray) -> np.ndarray:
    if bands.shape[0] > 200_000:
        raise OptionError(f"pixels=True with n={bands.shape[0]} needs more than 2 GB; use pixels=False.")
    gradient = np.linspace(0.0, GRADIENT, SIDE)
    chips = bands[:, :, None, None] + gradient[None, None, :, None]
    return np.broadcast_to(chips, (*bands.shape, SIDE, SIDE)).astype(np.float32)
