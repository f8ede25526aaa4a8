"""Studies and radii for the tests of the radius."""

import numpy as np

from causalsat.estimators.drive_options import DriveOptions
from causalsat.estimators.drive_problem import drive_problem
from causalsat.estimators.drive_radius import RadiusReport, choose_radius
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich
from tests.checks.iv_studies import partialled


def raw_study(n=600, q=4, p=1, effect=1.0, strength=0.3, seed=0):
    rng = np.random.default_rng(seed)
    C = np.column_stack([np.ones(n), rng.standard_normal((n, 2))])
    Z = rng.standard_normal((n, q)) + 0.3 * C[:, 1:2]
    v = rng.standard_normal((n, p)) * np.sqrt(0.5 + 0.5 * Z[:, :1] ** 2)
    X = Z @ (strength * rng.uniform(0.5, 1.0, (q, p))) + v
    y = X @ np.full(p, effect) + C[:, 1] + 0.6 * v[:, 0] + rng.standard_normal(n)
    return y, X, Z, C


def study(**given) -> IvRows:
    return clustered(*raw_study(**given))


def clustered(y, X, Z, C, weights=None, **given) -> IvRows:
    return partialled(y, X, Z, C, weights=weights, cluster=np.arange(len(y)) // 10, **given)


def radius(rows: IvRows, rule, sandwich="hc1", environments=None, fine=None, **problem) -> RadiusReport:
    return choose_radius(
        drive_problem(rows, sandwich=Sandwich(sandwich), **problem), rule, fine or DriveOptions(), Sandwich(sandwich), seed=0,
        environments=environments,
    )  # fmt: skip


def environments(n, g=5, seed=0):
    """Environments that hold the clusters of ten rows whole."""
    codes = np.random.default_rng(seed).integers(0, g, -(-n // 10)).repeat(10)[:n]
    return codes, np.array([f"region {e}" for e in range(g)])
