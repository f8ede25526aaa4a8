"""Coverage of every standard error on the design it is made for, and of some on designs that must break them.

Regressors, clusters and places of a cell are fixed and its errors are Gaussian, so the coverage c0 that the standard
error must have on that very design is known exactly (``quadratic_forms``, which shares no code with the library).
Gates are two-sided around c0 at 1e-3: the count lies between exact binomial quantiles, the mean error and the mean
squared standard error within 3.29 of their exact standard deviations, the sum of squared errors between chi-square
quantiles. Nothing is widened: where normal-law intervals under-cover in a finite sample, c0 says by how much.
R = 200 catches a shift of five points from .95; R = 2000 one of 1.6 points. Cells marked ``breaks`` must also fail
the gate around the nominal level.

``python -m tests.calibration.test_covariance_coverage 2000`` prints the table.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from scipy import stats

from causalsat.inference.covariance import influence_covariance
from causalsat.inference.ols import ols_covariance
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from tests.calibration import quadratic_forms as qf
from tests.inference.conley_reference import haversine_km

pytestmark = pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")
SEED = 20_240_611
LEVELS = (0.95, 0.99, 0.90)
ERROR = 1e-3
Z = stats.norm.isf(ERROR / 2)


@dataclass(frozen=True)
class Cell:
    """One design with one standard error: regressors X (n, k), coefficient j, errors root @ normals, its exact form."""

    X: np.ndarray
    j: int
    root: np.ndarray
    sandwich: Sandwich
    sampling: Sampling
    form: qf.Form
    df: float
    influence: bool = False
    breaks: bool = False


@dataclass(frozen=True)
class Outcome:
    error: np.ndarray
    std_error: np.ndarray
    df: float


def run(cell: Cell, index: int, replications: int) -> Outcome:
    """Errors and standard errors of the library over replications with keys (seed, cell, replication)."""
    truth = np.arange(1.0, cell.X.shape[1] + 1)
    solve = np.linalg.pinv(cell.X)
    errors, std_errors, df = np.empty(replications), np.empty(replications), np.nan
    for r in range(replications):
        # A spawn key, since [seed, 1] and [seed, 1, 0] are one stream and designs are drawn from the former.
        key = np.random.SeedSequence(SEED, spawn_key=(index, r))
        u = cell.root @ np.random.default_rng(key).normal(size=cell.root.shape[1])
        y = cell.X @ truth + u
        b = solve @ y
        e = y - cell.X @ b
        if cell.influence:
            phi = y.size * (e[:, None] * solve.T)
            got = influence_covariance(phi, cell.sandwich, cell.sampling)
        else:
            got = ols_covariance(cell.X, e, cell.sandwich, cell.sampling)
        errors[r], std_errors[r], df = b[cell.j] - truth[cell.j], got.std_error[cell.j], got.df
    return Outcome(errors, std_errors, df)


def design(seed: int, n: int = 120) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng([SEED, seed])
    return rng, np.column_stack([np.ones(n), rng.normal(size=n)])


def heteroskedastic(kind: str) -> Cell:
    """Standard deviations that grow with the regressor."""
    _, X = design(1)
    n = X.shape[0]
    factor, df = {"hc0": (1.0, np.inf), "hc1": (n / (n - 2), n - 2), "hc3": (1.0, n - 2)}[kind]
    form = qf.pair_form(X, 1, np.eye(n), factor, divide_leverage=kind == "hc3")
    return Cell(X, 1, np.diag(0.5 + np.abs(X[:, 1])), Sandwich(kind), Sampling(n), form, df)


def homoskedastic() -> Cell:
    """The classical covariance, whose t law is exact."""
    _, X = design(2, 30)
    return Cell(X, 1, np.eye(30), Sandwich("classical"), Sampling(30), qf.classical_form(X, 1), 28)


def clustered(kind: str, g: int, *, small_sample: str = "auto", influence: bool = False, breaks: bool = False) -> Cell:
    """Random effects of clusters of unequal size, a regressor that varies mostly between clusters."""
    rng = np.random.default_rng([SEED, 3, g])
    codes = np.repeat(np.arange(g), rng.integers(3, 10, g))
    n = codes.size
    X = np.column_stack([np.ones(n), rng.normal(size=g)[codes] + 0.5 * rng.normal(size=n)])
    root = np.linalg.cholesky(0.6 * qf.same(codes) + np.eye(n))
    if kind == "crv3":
        form, df = qf.jackknife_form(X, 1, codes), g - 1.0
    elif kind == "hc1":
        form, df = qf.pair_form(X, 1, np.eye(n), n / (n - 2)), n - 2.0
    elif kind == "classical":
        form, df = qf.classical_form(X, 1), n - 2.0
    else:
        crv1 = small_sample == "auto" and not influence
        factor = (n - 1) / (n - 2) * g / (g - 1) if crv1 else 1.0
        form, df = qf.pair_form(X, 1, qf.same(codes), factor), g - 1.0 if crv1 else np.inf
    sandwich = Sandwich(kind, small_sample=small_sample)
    return Cell(X, 1, root, sandwich, Sampling(n, cluster=codes), form, df, influence, breaks)


def crv3_of_a_mean() -> Cell:
    """One-step leave-one-cluster-out values of a mean over 12 unequal clusters: exact there."""
    rng = np.random.default_rng([SEED, 4])
    codes = np.repeat(np.arange(12), rng.integers(4, 12, 12))
    X = np.ones((codes.size, 1))
    root = np.linalg.cholesky(0.5 * qf.same(codes) + np.eye(codes.size))
    form = qf.jackknife_form(X, 0, codes)
    return Cell(X, 0, root, Sandwich("crv3"), Sampling(codes.size, cluster=codes), form, 11.0, influence=True)


def two_way(kind: str, *, breaks: bool = False) -> Cell:
    """Random effects of rows and of columns of a 25 x 25 grid with holes."""
    rng = np.random.default_rng([SEED, 5])
    one, two = np.divmod(np.flatnonzero(rng.uniform(size=625) < 0.6), 25)
    n = one.size
    X = np.column_stack([np.ones(n), rng.normal(size=25)[one] + rng.normal(size=25)[two] + rng.normal(size=n)])
    root = np.linalg.cholesky(0.5 * qf.same(one) + 0.5 * qf.same(two) + np.eye(n))
    K = {
        "twoway": qf.same(one) + qf.same(two) - qf.same(one) * qf.same(two),
        "cluster": qf.same(one),
        "hc1": np.eye(n),
    }[kind]
    factor = n / (n - 2) if kind == "hc1" else (n - 1) / (n - 2) * 25 / 24
    df = n - 2.0 if kind == "hc1" else 24.0
    sampling = Sampling(n, cluster=one, second=two)
    return Cell(X, 1, root, Sandwich(kind), sampling, qf.pair_form(X, 1, K, factor), df, breaks=breaks)


def spatial(
    place: str, kernel: str, cutoff: float, *, influence: bool = False, kind: str = "conley", breaks: bool = False
) -> Cell:
    """Errors and regressor with exponential covariances of ranges 60 and 90 km, 500 x 500 km around a place."""
    lon, lat = {"equator": (30.0, 0.0), "date line": (180.0, -17.0), "arctic": (20.0, 69.0)}[place]
    rng = np.random.default_rng([SEED, 6])
    offset = rng.uniform(-250.0, 250.0, (260, 2)) / 111.2
    lonlat = np.stack([lon + offset[:, 0] / np.cos(np.radians(lat)), lat + offset[:, 1]], axis=1)
    lonlat[:, 0] = np.mod(lonlat[:, 0] + 180.0, 360.0) - 180.0
    distance = haversine_km(lonlat)
    n = distance.shape[0]
    X = np.column_stack([np.ones(n), np.linalg.cholesky(np.exp(-distance / 30.0)) @ rng.normal(size=n)])
    root = np.linalg.cholesky(0.8 * np.exp(-distance / 20.0) + 0.2 * np.eye(n))
    K = np.eye(n) if kind == "hc0" else qf.near(lonlat, cutoff, kernel)
    sandwich = Sandwich(kind, cutoff_km=cutoff, kernel=kernel)
    form = qf.pair_form(X, 1, K)
    return Cell(X, 1, root, sandwich, Sampling(n, lonlat=lonlat), form, np.inf, influence, breaks)


def short_panel(lag: int, *, breaks: bool = False) -> Cell:
    """45 places in 6 periods: a new spatial field each period plus autocorrelated errors of each unit."""
    rng = np.random.default_rng([SEED, 7])
    unit, time = np.repeat(np.arange(45), 6), np.tile(np.arange(6), 45)
    lonlat = rng.uniform(0.0, 4.0, (45, 2))[unit]
    distance, gap, n = haversine_km(lonlat), np.abs(time[:, None] - time[None, :]), 270
    field = np.exp(-distance / 25.0) * qf.same(time)
    persistent = qf.same(unit) * 0.8**gap
    X = np.column_stack([np.ones(n), np.linalg.cholesky(0.5 * field + 0.5 * persistent) @ rng.normal(size=n)])
    root = np.linalg.cholesky(0.3 * field + 0.7 * persistent)
    K = qf.near(lonlat, 80.0, "bartlett", time) + (qf.serial(unit, time, lag) if lag else 0.0)
    sampling = Sampling(n, lonlat=lonlat, time=time, unit=unit)
    sandwich = Sandwich("conley", cutoff_km=80.0, lag=lag)
    return Cell(X, 1, root, sandwich, sampling, qf.pair_form(X, 1, K), np.inf, breaks=breaks)


CELLS: dict[str, Callable[[], Cell]] = {
    "classical, homoskedastic, n=30": homoskedastic,
    "hc0, heteroskedastic": lambda: heteroskedastic("hc0"),
    "hc1, heteroskedastic": lambda: heteroskedastic("hc1"),
    "hc3, heteroskedastic": lambda: heteroskedastic("hc3"),
    "cluster crv1, 40 clusters": lambda: clustered("cluster", 40),
    "cluster without factor, 40 clusters": lambda: clustered("cluster", 40, small_sample="none"),
    "cluster of influence values, 80 clusters": lambda: clustered("cluster", 80, influence=True),
    "crv3, 10 clusters": lambda: clustered("crv3", 10),
    "crv3 one-step, mean of 12 clusters": crv3_of_a_mean,
    "two-way": lambda: two_way("twoway"),
    "conley bartlett, equator": lambda: spatial("equator", "bartlett", 90.0),
    "conley bartlett, date line, influence": lambda: spatial("date line", "bartlett", 90.0, influence=True),
    "conley epanechnikov, arctic": lambda: spatial("arctic", "epanechnikov", 70.0),
    "conley uniform, equator": lambda: spatial("equator", "uniform", 50.0),
    "conley askey, arctic": lambda: spatial("arctic", "askey", 140.0),
    "panel conley, lag 4": lambda: short_panel(4),
    "BREAKS classical under clusters": lambda: clustered("classical", 40, breaks=True),
    "BREAKS hc1 under clusters": lambda: clustered("hc1", 40, breaks=True),
    "BREAKS hc1 under two ways": lambda: two_way("hc1", breaks=True),
    "BREAKS hc0 under a spatial field": lambda: spatial("equator", "bartlett", 90.0, kind="hc0", breaks=True),
    "BREAKS panel conley without lag": lambda: short_panel(0, breaks=True),
}


@cache
def cell_of(name: str) -> Cell:
    return CELLS[name]()


@cache
def exact_coverage(name: str, level: float) -> float:
    cell = cell_of(name)
    return qf.coverage(cell.form, cell.root, quantile(level, cell.df))


def quantile(level: float, df: float) -> float:
    return float(stats.norm.ppf(0.5 + level / 2) if np.isinf(df) else stats.t.ppf(0.5 + level / 2, df))


def covered(outcome: Outcome, level: float) -> int:
    """Intervals that cover; one that does not exist does not."""
    reach = quantile(level, outcome.df) * outcome.std_error
    return int((np.abs(outcome.error) <= np.where(np.isfinite(reach), reach, -1.0)).sum())


def limits(c0: float, replications: int) -> tuple[int, int]:
    low, high = stats.binom.ppf([ERROR / 2, 1 - ERROR / 2], replications, c0)
    return int(low), int(high)


def judge(name: str, replications: int) -> dict[str, float]:
    """Run a cell, assert its gates and return its row of the table."""
    cell, index = cell_of(name), list(CELLS).index(name)
    outcome = run(cell, index, replications)
    assert outcome.df == cell.df
    row: dict[str, float] = {}
    for level in LEVELS:
        c0, count = exact_coverage(name, level), covered(outcome, level)
        low, high = limits(c0, replications)
        assert low <= count <= high, f"{name}: {count} of {replications} cover at {level}, allowed {low} to {high}"
        row |= {f"exact {level}": c0, f"found {level}": count / replications}
    low, high = limits(0.95, replications)
    if cell.breaks:
        assert covered(outcome, 0.95) < low, f"{name} is expected to fail the nominal gate and did not"
    variance, mean, spread = qf.variance_moments(cell.form, cell.root)
    failed = int((~np.isfinite(outcome.std_error)).sum())
    squared = outcome.std_error[np.isfinite(outcome.std_error)] ** 2
    assert failed <= 0.01 * replications
    assert abs(outcome.error.mean()) <= Z * np.sqrt(variance / replications)
    chi = stats.chi2.ppf([ERROR / 2, 1 - ERROR / 2], replications)
    assert chi[0] <= (outcome.error**2).sum() / variance <= chi[1]
    if not failed:
        assert abs(squared.mean() - mean) <= Z * spread / np.sqrt(replications)
    ratio = float(np.sqrt(squared.mean()) / outcome.error.std())
    return row | {"se ratio": ratio, "exact ratio": float(np.sqrt(mean / variance)), "failed": failed}


@pytest.mark.parametrize("name", CELLS)
def test_short(name: str) -> None:
    judge(name, 200)


@pytest.mark.calibration
@pytest.mark.parametrize("name", CELLS)
def test_long(name: str) -> None:
    judge(name, 2000)


def test_the_exact_coverage_of_a_t_interval_is_its_level() -> None:
    for level in LEVELS:
        assert exact_coverage("classical, homoskedastic, n=30", level) == pytest.approx(level, abs=1e-7)


@pytest.mark.parametrize("name", [n for n in CELLS if not n.startswith("BREAKS")])
def test_designs_are_ones_where_the_standard_error_is_nearly_right(name: str) -> None:
    # Finite-sample shortfall of these designs, stated as a number and not hidden in a gate.
    assert 0.88 <= exact_coverage(name, 0.95) <= 0.975


def main() -> None:
    """Print the table of all cells."""
    replications = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    head = [f"{kind} {level}" for level in LEVELS for kind in ("exact", "found")] + [
        "se ratio",
        "exact ratio",
        "failed",
    ]
    sys.stdout.write(f"R = {replications}\n{'cell':42s}" + "".join(f"{h:>12s}" for h in head) + "\n")
    for name in CELLS:
        row = judge(name, replications)
        sys.stdout.write(f"{name:42s}" + "".join(f"{row[h]:12.4f}" for h in head) + "\n")


if __name__ == "__main__":
    main()
