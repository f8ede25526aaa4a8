"""Real instrumental-variable designs, as other software wants them and as rows net of the controls."""

import warnings

import numpy as np

from causalsat.inference.iv_rows import IvRows
from causalsat.inference.sampling import Sampling

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ivmodels import KClass
    from linearmodels.datasets import card

CONTROLS = ["exper", "expersq", "black", "smsa", "south", "smsa66", *(f"reg66{j}" for j in range(2, 10))]


class Data:
    """Columns of one design, as the oracles want them and as rows net of the controls."""

    def __init__(self, frame, outcome, treatments, instruments, controls, *, weights=None, cluster=None, places=None):
        self.y = frame[outcome].to_numpy(np.float64)
        self.X = frame[treatments].to_numpy(np.float64)
        self.Z = frame[instruments].to_numpy(np.float64)
        self.C = np.column_stack([np.ones(len(frame)), frame[controls].to_numpy(np.float64)])
        self.models = {}
        self.p, self.weights, self.cluster, self.places = len(treatments), weights, cluster, places

    def rows(self, dof="small"):
        """IvRows by a QR decomposition of the root-weighted controls."""
        n, m = self.C.shape
        w = np.ones(n) if self.weights is None else self.weights / self.weights.mean()
        root = np.sqrt(w)[:, None]
        basis = np.linalg.qr(self.C * root)[0]

        def net(columns):
            scaled = columns * root
            for _ in range(2):
                scaled = scaled - basis @ (basis.T @ scaled)
            return scaled / root

        sampling = Sampling(n, cluster=self.cluster, lonlat=self.places)
        y, X, Z = net(self.y[:, None])[:, 0], net(self.X), net(self.Z)
        return IvRows(y, X, Z, w, self.C, m, m, sampling, dof=dof)

    def oracle(self, model, kind, debiased, **options):
        """Coefficients and standard errors of linearmodels, the treatments only."""
        clusters = {"clusters": self.cluster} if kind == "clustered" else {}
        key = (model.__name__, *options.items())
        if key not in self.models:
            self.models[key] = model(self.y, self.C, self.X, self.Z, weights=self.weights, **options)
        found = self.models[key].fit(cov_type=kind, debiased=debiased, **clusters)
        return np.asarray(found.params)[-self.p :], np.asarray(found.std_errors)[-self.p :]

    def ivmodels(self, kappa):
        """Coefficients of ivmodels' k-class."""
        found = KClass(kappa=kappa, fit_intercept=False).fit(X=self.X, y=self.y, Z=self.Z, C=self.C)
        return np.asarray(found.coef_)[: self.p]


def card_design(name):
    """Card (1995) on educ: "just" (nearc4), "over" (both colleges), "weighted" (survey weights), "clustered" (40)."""
    frame = card.load()
    instruments = ["nearc4"] if name == "just" else ["nearc2", "nearc4"]
    weights = frame["weight"].to_numpy(np.float64) if name == "weighted" else None
    groups = (np.random.default_rng(3).permutation(len(frame)) % 40).astype(np.int64) if name == "clustered" else None
    return Data(frame, "lwage", ["educ"], instruments, CONTROLS, weights=weights, cluster=groups)


def card_collinear(instruments):
    """Three endogenous treatments of which educ + exper = age - 6 makes M_Z X singular."""
    frame = card.load()
    controls = [c for c in CONTROLS if not c.startswith("exper")]
    treatments = ["educ", "exper", "expersq"]
    return Data(frame.assign(agesq=frame["age"] ** 2), "lwage", treatments, instruments, controls)
