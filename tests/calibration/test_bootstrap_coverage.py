"""Coverage of every bootstrap scheme and interval on the design it is made for.

Predicted coverage comes from the studies' own finite-sample theory, computed here without the library: for normal data
the statistic T = (estimate - truth)/sd* with sd* the exact bootstrap standard deviation is a scaled Student t, and given
T the number of draws below the truth is Binomial(b, Phi(T)), so the coverage of an order-statistic interval is exact.
"""

import functools
import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy import integrate, stats

from causalsat.errors import FewClustersWarning
from causalsat.inference.coverage import SIZES, Cell, Outcomes, gather, run_cell
from causalsat.inference.intervals import acceleration, interval
from causalsat.inference.joint import sup_t
from causalsat.inference.moments import MeanMoments, OlsMoments
from causalsat.inference.options import Bootstrap
from causalsat.inference.planar import equal_area, unit_vectors
from causalsat.inference.sampling import Sampling
from causalsat.inference.seam import bootstrap_draws, multiplier_draws
from causalsat.inference.wild import wild_draws

SHORT, LONG = 200, 2000
DETECTS = "a true coverage of 0.85 with the short run (two-sided gate +-0.05), 0.93 with the long one (+-0.016)"
B = 399
LEVEL = 0.95


def order_statistic_size(alpha: float, df: float, scale: float, b: int = B) -> float:
    """Pr(p <= alpha) of the percentile p-value when T = scale * t(df): binomial count of draws below the truth."""
    rank = math.floor((b + 1) * alpha / 2 + 1e-9)

    def miss(t: float) -> float:
        below = stats.binom.cdf(rank - 1, b, stats.norm.cdf(scale * t)) + stats.binom.sf(
            b - rank, b, stats.norm.cdf(scale * t)
        )
        return below * stats.t.pdf(t, df)

    return 2.0 * integrate.quad(miss, 0.0, 30.0, limit=400)[0]


def predictions(df: float, scale: float, derivation: str) -> dict:
    """Cell fields predicted for T = scale * t(df); mean(se*)/sd(estimate) is E[chi(df)]/sqrt(df)/scale."""
    c4 = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) * math.sqrt(2 / df)
    rejection = {a: order_statistic_size(a, df, scale) for a in SIZES}
    return {
        "coverage": 1 - order_statistic_size(1 - LEVEL, df, scale),
        "rejection": rejection,
        "se_ratio": c4 / scale,
        "derivation": derivation,
    }


def limits(kind: str, theta: float, se: float, draws: np.ndarray, truth: float, **extra) -> tuple:
    """One study as (estimate, standard error of the scheme, low, high, p-value at the truth)."""
    out = interval(kind, np.array([theta]), np.array([se]), level=LEVEL, draws=draws, null=truth, **extra)
    spread = se if kind in ("normal", "studentized") else float(np.nanstd(draws))
    return theta, spread, out.low[0], out.high[0], out.p_value[0]


def mean_study(seed: int, scheme: str, groups: int, size: int, truth: float) -> dict[str, tuple]:
    """Mean of clustered normal data (intraclass correlation one half; size 1: independent rows), all intervals."""
    g = np.random.default_rng(seed)
    shared, own = g.normal(size=groups), g.normal(size=(groups, size))
    y = truth + ((shared[:, None] + own) if size > 1 else own).reshape(-1, 1)
    cluster = np.repeat(np.arange(groups), size)
    sampling = Sampling(y.size, cluster=None if scheme == "iid" or size == 1 else cluster)
    draws = bootstrap_draws(
        (y, np.ones_like(y)), Bootstrap(B, scheme), sampling, seed=seed, moments=MeanMoments(1), std_error=True
    )
    theta = float(y.mean())
    phi = y - theta
    sums = phi.reshape(groups, size).sum(axis=1) if sampling.cluster is not None else phi[:, 0]
    se = math.sqrt((sums**2).sum()) / y.size
    a = acceleration(phi, sampling.cluster)
    kinds = {kind: limits(kind, theta, se, draws.values, truth) for kind in ("percentile", "basic")}
    kinds["bca"] = limits("bca", theta, se, draws.values, truth, acceleration=a)
    kinds["studentized"] = limits("studentized", theta, se, draws.values, truth, draw_std_error=draws.std_error)
    return kinds


def ols_study(seed: int, scheme: str, truth: float) -> dict[str, tuple]:
    """Slope with heteroskedastic errors, n = 400."""
    g = np.random.default_rng(seed)
    n = 400
    x = g.uniform(-1, 1, n)
    X, y = np.column_stack([np.ones(n), x]), truth * x + (0.5 + np.abs(x)) * g.normal(size=n)
    draws = bootstrap_draws(
        (X, y), Bootstrap(B, scheme), Sampling(n), seed=seed, moments=OlsMoments(2, keep=(1,)), std_error=True
    )
    bread = np.linalg.inv(X.T @ X)
    beta = bread @ X.T @ y
    phi = n * ((X * (y - X @ beta)[:, None]) @ bread)[:, 1:]
    se, theta = math.sqrt((phi**2).sum()) / n, float(beta[1])
    kinds = {kind: limits(kind, theta, se, draws.values, truth) for kind in ("percentile", "basic")}
    kinds["bca"] = limits("bca", theta, se, draws.values, truth, acceleration=acceleration(phi))
    kinds["studentized"] = limits("studentized", theta, se, draws.values, truth, draw_std_error=draws.std_error)
    return kinds


@functools.cache
def studies(function: Callable, R: int, *arguments) -> dict[str, Outcomes]:
    """All interval kinds of R studies; cells of one design share them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewClustersWarning)
        found = [function(20_000 + r, *arguments) for r in range(R)]
    return {kind: gather([study[kind] for study in found]) for kind in found[0]}


def gated(name: str, R: int, truth: float, function: Callable, kind: str, *arguments, **fields) -> None:
    outcomes = studies(function, R, *arguments)[kind]
    report = run_cell(Cell(f"{name} {kind}", lambda seeds: outcomes, truth, R, DETECTS, LEVEL, **fields))
    assert report.passed, report.text()


runs = pytest.mark.parametrize(
    "R", [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.calibration)]
)
shift_kinds = pytest.mark.parametrize("kind", ["percentile", "basic"])
NORMAL_LAW = (
    "bootstrap law of a mean of G normal cluster means: N(estimate, (G-1)/G s^2/G), so T = sqrt(G/(G-1)) t(G-1)"
)


@runs
@shift_kinds
@pytest.mark.parametrize(("scheme", "groups", "size"), [("iid", 60, 1), ("cluster", 40, 5)])
def test_means(R, scheme, groups, size, kind):
    predicted = predictions(groups - 1, math.sqrt(groups / (groups - 1)), NORMAL_LAW)
    gated(f"mean {scheme}", R, 2.0, mean_study, kind, scheme, groups, size, 2.0, **predicted)


@runs
@shift_kinds
def test_means_bayes(R, kind):
    law = "Dirichlet weights: variance of a draw is sum (y - mean)^2/(n(n+1)), so T = sqrt((n+1)/(n-1)) t(n-1)"
    predicted = predictions(59, math.sqrt(61 / 59), law)
    gated("mean bayes", R, 2.0, mean_study, kind, "bayes", 60, 1, 2.0, **predicted)


def bca_size(alpha: float, df: float, scale: float, b: int = B, R: int = 40_000) -> float:
    """Rejection of BCa (a = 0) in the normal model: the bias correction from b draws adds noise to both levels."""
    g = np.random.default_rng(0)
    T = scale * g.standard_t(df, R)
    # Sorted normal draws enter only through counts: below the estimate, and below the truth.
    below_truth = np.empty(R)
    half = np.empty(R)
    for r in range(R):
        z = g.standard_normal(b)
        half[r], below_truth[r] = (z < 0).mean(), (z <= -T[r]).sum()
    z0 = stats.norm.ppf(half)
    tails = [stats.norm.cdf(s * 2 * z0 + stats.norm.ppf(alpha / 2)) for s in (1, -1)]
    ranks = [np.floor((b + 1) * t + 1e-9) for t in tails]
    return float(((below_truth + 1 <= ranks[0]) | (b - below_truth + 1 <= ranks[1])).mean())


@runs
@pytest.mark.parametrize(("scheme", "groups", "size"), [("iid", 60, 1), ("cluster", 40, 5)])
def test_means_bca(R, scheme, groups, size):
    df, scale = groups - 1, math.sqrt(groups / (groups - 1))
    predicted = predictions(df, scale, NORMAL_LAW + "; bias correction estimated from the draws, by simulation")
    predicted |= {"rejection": {a: bca_size(a, df, scale) for a in SIZES}, "coverage": 1 - bca_size(0.05, df, scale)}
    gated(f"mean {scheme}", R, 2.0, mean_study, "bca", scheme, groups, size, 2.0, **predicted)


@runs
@pytest.mark.parametrize(("scheme", "groups", "size"), [("iid", 60, 1), ("cluster", 40, 5)])
def test_means_studentized(R, scheme, groups, size):
    """Second-order correct: nominal coverage; the standard error has the factor (G-1)/G inside."""
    se_ratio = predictions(groups - 1, math.sqrt(groups / (groups - 1)), "x")["se_ratio"]
    law = "nominal up to 1/G^(3/2); se is the uncorrected cluster one"
    gated(
        f"mean {scheme}",
        R,
        2.0,
        mean_study,
        "studentized",
        scheme,
        groups,
        size,
        2.0,
        se_ratio=se_ratio,
        derivation=law,
    )


@runs
@pytest.mark.parametrize("kind", ["percentile", "basic", "bca", "studentized"])
@pytest.mark.parametrize("scheme", ["iid", "bayes"])
def test_ols_slope(R, scheme, kind):
    gated(f"slope {scheme}", R, 1.0, ols_study, kind, scheme, 1.0)


@runs
def test_iid_on_clusters_must_fail(R):
    gated("mean, clusters ignored", R, 2.0, mean_study, "percentile", "iid", 40, 5, 2.0, must_fail=True)


def score_study(seed: int, k: int, n: int) -> dict[str, tuple]:
    """k correlated means with the multiplier bootstrap on their scores; pointwise and as one family."""
    g = np.random.default_rng(seed)
    z = g.normal(size=(n, k)) + g.normal(size=(n, 1))
    theta = z.mean(axis=0)
    se = np.sqrt(((z - theta) ** 2).sum(axis=0)) / n
    draws = multiplier_draws(theta, z - theta, Bootstrap(B, "multiplier"), Sampling(n), seed=seed).values
    family = np.sort((np.abs(draws - theta) / se).max(axis=1))
    peak = float((np.abs(theta) / se).max())
    p = (1 + int((family >= peak).sum())) / (B + 1)
    bands = sup_t(theta, se, level=LEVEL, draws=draws)
    covered = bool(((bands.low <= 0) & (bands.high >= 0)).all())
    joint = (0.0, 1.0, 0.0 if covered else 1.0, 1.0 if covered else 2.0, p)
    return {"percentile": limits("percentile", theta[0], se[0], draws[:, :1], 0.0), "sup_t": joint}


@runs
def test_multiplier_pointwise(R):
    predicted = predictions(59, math.sqrt(60 / 59), "normal multipliers: the law of a draw is normal given the data")
    gated("scores multiplier", R, 0.0, score_study, "percentile", 5, 60, **predicted)


def family_size(alpha: float, k: int, n: int, R: int = 20_000) -> float:
    """Pr(max |T_j| is among the top draws) from simulated means and variances, with normal draws of equal correlation."""
    g = np.random.default_rng(0)
    root = np.linalg.cholesky(0.5 + 0.5 * np.eye(k))
    reference = np.sort(np.abs(g.standard_normal((200_000, k)) @ root.T).max(axis=1))
    # Sample covariance of n normal rows (Bartlett): its diagonal studentizes the means.
    wishart = stats.wishart(n - 1, (0.5 + 0.5 * np.eye(k)) / n).rvs(R, random_state=1)
    means = g.standard_normal((R, k)) @ root.T / math.sqrt(n)
    peak = (np.abs(means) / np.sqrt(np.diagonal(wishart, axis1=1, axis2=2) / n)).max(axis=1)
    tail = 1.0 - np.searchsorted(reference, peak) / reference.size
    rank = math.floor((B + 1) * alpha + 1e-9)
    return float(stats.binom.cdf(rank - 1, B, tail).mean())


@runs
def test_sup_t_familywise(R):
    predicted = {"rejection": {a: family_size(a, 5, 60) for a in SIZES}, "coverage": 1 - family_size(0.05, 5, 60)}
    law = "max of five studentized correlated normal means against normal draws, simulated from Wishart variances"
    outcomes = studies(score_study, R, 5, 60)["sup_t"]
    report = run_cell(
        Cell("sup-t", lambda s: outcomes, 0.0, R, DETECTS, LEVEL, se_ratio=None, derivation=law, **predicted)
    )
    assert [g for g in report.gates if g.name != "bias" and not g.passed] == [], report.text()


def wild_study(seed: int, groups: int) -> dict[str, tuple]:
    """Slope on a regressor that is nearly constant in few clusters; wild with the null imposed, and pairs of clusters."""
    g = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(groups), 10)
    x = np.exp(g.normal(size=groups))[cluster] + 0.3 * g.normal(size=cluster.size)
    y = x + g.normal(size=groups)[cluster] + g.normal(size=cluster.size)
    X, s = np.column_stack([np.ones(x.size), x]), Sampling(x.size, cluster=cluster)
    wild = wild_draws(X, y, Bootstrap(B, "wild"), s, seed=seed, coefficients=(1,), null=1.0)
    normal = interval("normal", wild.estimate, wild.std_error, level=LEVEL, null=1.0)
    theta, se = float(wild.estimate[0]), float(wild.std_error[0])
    return {
        "wild": (theta, se, np.nan, np.nan, wild.p_value[0]),
        "normal": (theta, se, normal.low[0], normal.high[0], normal.p_value[0]),
    }


@functools.cache
def wild_p_values(groups: int, R: int = 4000) -> np.ndarray:
    """p-values of the same test from refits of whole simulated outcomes: no cluster sums, other random numbers."""
    g, found = np.random.default_rng(99), np.empty(R)
    points = np.sqrt([1.5, 1.0, 0.5]) if groups < 12 else np.ones(1)
    for r in range(R):
        x = (np.exp(g.normal(size=groups))[:, None] + 0.3 * g.normal(size=(groups, 10))).ravel()
        y = (g.normal(size=groups)[:, None] + g.normal(size=(groups, 10))).ravel()
        xi = g.choice(np.concatenate([points, -points]), size=(groups, B))
        outcomes = np.column_stack([y, y.mean() + (y - y.mean())[:, None] * np.repeat(xi, 10, axis=0)])
        d = x - x.mean()
        slope = d @ outcomes / (d @ d)
        e = outcomes - outcomes.mean(axis=0) - d[:, None] * slope
        scores = (d[:, None] * e).reshape(groups, 10, -1).sum(axis=1)
        t = np.abs(slope) / np.sqrt((scores**2).sum(axis=0))
        found[r] = (1 + (t[1:] >= t[0]).sum()) / (B + 1)
    return found


@runs
@pytest.mark.parametrize("groups", [11, 20])
def test_wild_with_few_clusters(R, groups):
    """webb under 12 clusters, rademacher above; unequal clusters make the restricted bootstrap slightly conservative."""
    rates = {a: float((wild_p_values(groups) <= a + 1e-12).mean()) for a in SIZES}
    law = "size of the test in this design with unequal leverage, from 4000 studies of plain refits"
    predicted = {"rejection": rates, "coverage": 1 - rates[0.05], "derivation": law}
    gated(f"wild {groups} clusters", R, 1.0, wild_study, "wild", groups, se_ratio=None, **predicted)


@runs
def test_normal_interval_with_few_clusters_must_fail(R):
    gated("normal, few clusters", R, 1.0, wild_study, "normal", 11, se_ratio=None, must_fail=True)


N_PLACES, RANGE_KM, EXTENT = 250, 120.0, 9.0


@functools.cache
def field() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fixed places, the covariance (askey, range 120 km) of a stationary field at them, and its root."""
    lonlat = np.random.default_rng(5).uniform(0, EXTENT, (N_PLACES, 2))
    covariance = kernel_matrix(lonlat, RANGE_KM) + 0.1 * np.eye(N_PLACES)
    return lonlat, covariance, np.linalg.cholesky(covariance)


def kernel_matrix(lonlat: np.ndarray, km: float) -> np.ndarray:
    p = unit_vectors(lonlat)
    chord = np.sqrt(((p[:, None] - p[None]) ** 2).sum(axis=2))
    return np.clip(1 - chord / (2 * math.sin(km / (2 * 6371.01))), 0, None) ** 2


def spatial_study(seed: int, scheme: str, km: float) -> dict[str, tuple]:
    lonlat, _, root = field()
    y = root @ np.random.default_rng(seed).normal(size=N_PLACES)
    theta, s = float(y.mean()), Sampling(N_PLACES, lonlat=lonlat)
    if scheme == "dependent":
        boot = Bootstrap(B, scheme, block_km=km)
        draws = multiplier_draws(np.array([theta]), (y - theta)[:, None], boot, s, seed=seed).values
    else:
        boot = Bootstrap(B, scheme, block_km=km if scheme == "block" else None)
        design = (y[:, None], np.ones((N_PLACES, 1)))
        draws = bootstrap_draws(design, boot, s, seed=seed, moments=MeanMoments(1)).values
    return {"percentile": limits("percentile", theta, 1.0, draws, 0.0)}


def spatial_predictions(meat: np.ndarray, name: str) -> dict:
    """The variance of a draw is a quadratic form y'Qy in a normal field: its mean and variance give scale and df."""
    covariance = field()[1]
    centre = np.eye(N_PLACES) - 1.0 / N_PLACES
    q = centre @ meat @ centre / N_PLACES**2 @ covariance
    mean, truth = np.trace(q), covariance.sum() / N_PLACES**2
    df = mean**2 / np.trace(q @ q)
    return predictions(df, math.sqrt(truth / mean), f"{name}: quadratic form in the field, Satterthwaite df {df:.1f}")


def block_meat(km: float) -> np.ndarray:
    """Share of grid origins for which two places lie in one square tile: (1 - |dx|/L)+ (1 - |dy|/L)+."""
    plane = equal_area(field()[0]) / km
    apart = np.abs(plane[:, None, :] - plane[None, :, :])
    return np.clip(1.0 - apart, 0.0, None).prod(axis=2)


@runs
def test_blocks_on_a_spatial_field(R):
    predicted = spatial_predictions(block_meat(120.0), "tiles with a random origin")
    gated("field block", R, 0.0, spatial_study, "percentile", "block", 120.0, **predicted)


@runs
def test_dependent_multipliers_on_a_spatial_field(R):
    predicted = spatial_predictions(kernel_matrix(field()[0], 150.0), "askey multipliers")
    gated("field dependent", R, 0.0, spatial_study, "percentile", "dependent", 150.0, **predicted)


@runs
def test_iid_on_a_spatial_field_must_fail(R):
    gated("field, dependence ignored", R, 0.0, spatial_study, "percentile", "iid", 0.0, must_fail=True)
