"""Studies for the tests of the instrumental-variable checks: rows net of covariates by QR."""

import numpy as np

from causalsat.inference.iv_rows import IvRows
from causalsat.inference.sampling import Sampling

CARD_CONTROLS = ["exper", "expersq", "black", "smsa", "south", "smsa66", *(f"reg66{k}" for k in range(2, 10))]


def partialled(y, X, Z, C, *, dof="small", weights=None, cluster=None, names=("x",), instruments=("z",)):
    """IvRows of raw columns; C includes the constant."""
    y, X, Z, C = (np.asarray(a, dtype=np.float64) for a in (y, X, Z, C))
    X, Z = X.reshape(len(y), -1), Z.reshape(len(y), -1)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64) / np.mean(weights)
    root = np.sqrt(w)
    basis = np.linalg.qr(C * root[:, None])[0]

    def net(a):
        scaled = a * root[:, None]
        for _ in range(2):
            scaled = scaled - basis @ (basis.T @ scaled)
        return scaled / root[:, None]

    sampling = Sampling(len(y), cluster=None if cluster is None else np.asarray(cluster))
    m = C.shape[1]
    if len(names) != X.shape[1]:
        names = tuple(f"x{j}" for j in range(X.shape[1]))
    if len(instruments) != Z.shape[1]:
        instruments = tuple(f"z{j}" for j in range(Z.shape[1]))
    return IvRows(net(y[:, None])[:, 0], net(X), net(Z), w, C, m, m, sampling, "y", names, instruments, dof)


def card_columns(instruments=("nearc4",)):
    from linearmodels.datasets import card

    data = card.load()
    C = np.column_stack([np.ones(len(data)), data[CARD_CONTROLS].to_numpy(float)])
    return data["lwage"].to_numpy(float), data[["educ"]].to_numpy(float), data[list(instruments)].to_numpy(float), C


def card(instruments=("nearc4",), **options):
    return partialled(*card_columns(instruments), names=("educ",), instruments=tuple(instruments), **options)


def mroz_columns():
    from linearmodels.datasets import mroz

    data = mroz.load().query("inlf == 1")
    C = np.ones((len(data), 1))
    Z = data[["age", "kidslt6", "kidsge6"]].to_numpy(float)
    return data["lwage"].to_numpy(float), data[["educ", "exper"]].to_numpy(float), Z, C


def mroz(**options):
    return partialled(*mroz_columns(), names=("educ", "exper"), instruments=("age", "kidslt6", "kidsge6"), **options)
