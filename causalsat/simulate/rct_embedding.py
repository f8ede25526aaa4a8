"""A trial whose effect varies with what the embedding shows."""

import math
from typing import Any

import numpy as np

from causalsat.errors import count, one_of
from causalsat.study.embeddings import Embeddings

EFFECTS = ("linear", "quadratic", "null")
ASSIGNMENTS = ("row", "site")
ATE = 0.4


def rct_embedding(
    n_sites: int = 400,
    rows: int = 5,
    d: int = 64,
    seed: int = 0,
    *,
    effect: str = "linear",
    assignment: str = "row",
) -> tuple[dict[str, np.ndarray], Embeddings, dict[str, Any]]:
    """Sites with one embedding and several rows each; treatment is randomised with probability one half.

    U ~ N(0, I_2) per site; M = A U + .7 N(0, I_d), A (d, 2) iid N(0, 1); mu0 = .7 U1 - .5 U2; Y = mu0 + W tau +
    N(0, 1). Effects: "linear" tau = .4 + U1 - U2, "quadratic" .4 + (U1^2 - 1) - U2, "null" .4. The ATE is .4 in all.

    Parameters
    ----------
    n_sites, rows, d : int
        Sites, rows per site, width of the embedding.
    seed : int
        Seed of the generator.
    effect : str
        "linear", "quadratic" or "null".
    assignment : str
        Treatment by "row" or by "site".

    Returns
    -------
    data : dict of str to np.ndarray
        Columns y, w (float64) and site (str).
    embeddings : Embeddings
        (n_sites, d).
    truth : dict
        ate, tau (n,), u (n_sites, 2); for "linear" also autoc and qini of the priority S = tau (a priority with
        correlation rho to tau scales them by rho).

    Examples
    --------
    >>> data, images, truth = rct_embedding(n_sites=20, rows=2, d=4)
    >>> len(data["y"]), images.d, round(truth["autoc"], 4)
    (40, 4, 1.2773)
    """
    one_of("effect", effect, EFFECTS)
    one_of("assignment", assignment, ASSIGNMENTS)
    n_sites, rows, d = count("n_sites", n_sites, 2), count("rows", rows, 1), count("d", d, 1)
    rng = np.random.default_rng(count("seed", seed))
    u = rng.standard_normal((n_sites, 2))
    loading = rng.standard_normal((d, 2))
    matrix = u @ loading.T + 0.7 * rng.standard_normal((n_sites, d))
    tau = ATE + {"linear": u[:, 0] - u[:, 1], "quadratic": u[:, 0] ** 2 - 1.0 - u[:, 1], "null": 0.0 * u[:, 0]}[effect]
    site = np.repeat(np.arange(n_sites), rows)
    coin = rng.random(n_sites)[site] if assignment == "site" else rng.random(n_sites * rows)
    w = (coin < 0.5).astype(np.float64)
    y = 0.7 * u[site, 0] - 0.5 * u[site, 1] + w * tau[site] + rng.standard_normal(n_sites * rows)
    ids = np.array([f"site{j:05d}" for j in range(n_sites)])
    truth: dict[str, Any] = {"ate": ATE, "tau": tau[site], "u": u, "propensity": 0.5}
    if effect == "linear":
        truth |= {"autoc": math.sqrt(2.0) * UNIT_AUTOC, "qini": math.sqrt(2.0) * UNIT_QINI}
    return {"y": y, "w": w, "site": ids[site]}, Embeddings.from_matrix(matrix, ids), truth


def toc(q: np.ndarray) -> np.ndarray:
    """TOC of the priority S = tau in the linear design, sqrt 2 phi(z_{1-q}) / q for shares q in (0, 1].

    Examples
    --------
    >>> toc(np.array([0.5])).round(4).tolist()
    [1.1284]
    """
    from scipy import stats

    share = np.asarray(q, dtype=np.float64)
    return np.asarray(math.sqrt(2.0) * stats.norm.pdf(stats.norm.ppf(1.0 - share)) / share)


# Integrals over q in (0, 1) of phi(z_{1-q})/q and phi(z_{1-q}) for a normal effect of unit variance.
UNIT_AUTOC = 0.9031972855686257
UNIT_QINI = 0.5 / math.sqrt(math.pi)
