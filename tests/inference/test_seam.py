"""The seam: draws equal refits, moments equal fits, failures are counted, bits do not move."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from causalsat.errors import BootstrapFailureWarning, DataError, FewClustersWarning, OptionError
from causalsat.inference.intervals import interval
from causalsat.inference.moments import MeanMoments, OlsMoments
from causalsat.inference.options import Bootstrap
from causalsat.inference.resampling import resampling_weights
from causalsat.inference.sampling import Sampling
from causalsat.inference.seam import STATUS_TEXTS, bootstrap_draws, multiplier_draws, status_text
from causalsat.kernels import replicates
from causalsat.kernels.replicates import Status

SCHEMES = [
    Bootstrap(scheme="iid", n=70),
    Bootstrap(scheme="cluster", n=70),
    Bootstrap(scheme="bayes", n=70),
    Bootstrap(scheme="block", block_km=50.0, n=70),
]


def study(n=160, p=3, seed=0):
    g = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), g.normal(size=(n, p - 1))])
    cluster = g.permutation(np.arange(n) % 40)
    y = X @ np.arange(1.0, p + 1) + g.normal(size=40)[cluster] + g.normal(size=n)
    return X, y, Sampling(n, cluster=cluster, lonlat=g.uniform(0, 3, (n, 2)))


def wls(X, y, w):
    return np.linalg.solve((X * w[:, None]).T @ X, (X * w[:, None]).T @ y)


def ols_fit(design, weights):
    X, y = design
    gram = (X * weights[:, None]).T @ X
    return jnp.linalg.solve(gram, X.T @ (weights * y))


@pytest.mark.parametrize("bootstrap", SCHEMES, ids=lambda b: b.scheme)
def test_moments_fit_host_and_a_plain_loop_agree(bootstrap):
    X, y, s = study()
    by_moments = bootstrap_draws((X, y), bootstrap, s, seed=1, moments=OlsMoments(3))
    by_fit = bootstrap_draws((X, y), bootstrap, s, seed=1, fit=ols_fit)
    by_host = bootstrap_draws((X, y), bootstrap, s, seed=1, fit=lambda d, w: wls(*d, w), host=True)
    w = resampling_weights(bootstrap, s, seed=1)
    plain = np.stack([wls(X, y, row) for row in w])
    for draws in (by_moments, by_fit, by_host):
        np.testing.assert_allclose(draws.values, plain, rtol=1e-9)
        assert draws.n_failed == {}
        assert draws.refit


def test_a_draw_is_the_fit_on_repeated_rows():
    X, y, s = study()
    draws = bootstrap_draws((X, y), SCHEMES[1], s, seed=2, moments=OlsMoments(3))
    w = resampling_weights(SCHEMES[1], s, seed=2)[0].astype(int)
    repeated = np.repeat(np.arange(s.n), w)
    np.testing.assert_allclose(draws.values[0], np.linalg.lstsq(X[repeated], y[repeated], rcond=None)[0], rtol=1e-9)


@pytest.mark.parametrize("how", ["moments", "fit", "host"])
@pytest.mark.parametrize("bootstrap", SCHEMES, ids=lambda b: b.scheme)
def test_chunks_and_prefixes_are_bit_equal(bootstrap, how):
    X, y, s = study()
    extra = {"moments": OlsMoments(3)} if how == "moments" else {"fit": ols_fit, "host": how == "host"}
    design = (jnp.asarray(X), jnp.asarray(y)) if how == "host" else (X, y)
    whole = bootstrap_draws(design, bootstrap, s, seed=1, **extra).values
    for first, number in [(0, 1), (0, 10), (33, 20), (69, 1)]:
        part = bootstrap_draws(design, bootstrap, s, seed=1, first=first, count=number, **extra)
        np.testing.assert_array_equal(part.values, whole[first : first + number])
        assert part.first == first


SCRIPT = """
import os, sys, hashlib
if sys.argv[1] == "1":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
from causalsat.inference.moments import OlsMoments
from causalsat.inference.options import Bootstrap
from causalsat.inference.sampling import Sampling
from causalsat.inference.seam import bootstrap_draws, multiplier_draws
g = np.random.default_rng(0)
n = 30_000
X = np.column_stack([np.ones(n), g.normal(size=(n, 4))])
y = X.sum(axis=1) + g.normal(size=n)
a = bootstrap_draws((X, y), Bootstrap(n=60), Sampling(n), seed=1, moments=OlsMoments(5)).values
b = bootstrap_draws((X, y), Bootstrap(n=60, scheme="bayes"), Sampling(n), seed=1, moments=OlsMoments(5)).values
c = multiplier_draws(np.zeros(5), X, Bootstrap(n=60, scheme="multiplier"), Sampling(n), seed=1).values
print(hashlib.sha256(a.tobytes() + b.tobytes() + c.tobytes()).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="thread count is set by affinity on Linux only")
def test_thread_count_and_default_settings_do_not_move_a_bit():
    """Also runs without this suite's x64 switch: the library asks for float64 itself."""
    found = {
        subprocess.run([sys.executable, "-c", SCRIPT, k], capture_output=True, text=True, check=True).stdout
        for k in "12"
    }
    assert len(found) == 1


def test_near_sizes_share_compiled_code():
    g = np.random.default_rng(0)
    replicates.moment_tile.clear_cache()
    for n in (3500, 3501, 3540, 3570):
        X = np.column_stack([np.ones(n), g.normal(size=n)])
        bootstrap_draws((X, X[:, 1]), Bootstrap(n=5), Sampling(n), seed=0, moments=OlsMoments(2))
    assert replicates.moment_tile._cache_size() == 1


def test_means_ratios_and_their_own_errors():
    g = np.random.default_rng(0)
    n = 120
    psi, den = g.normal(size=(n, 2)) + 1.0, g.uniform(0.5, 1.5, (n, 2))
    cluster = np.arange(n) % 30
    bootstrap = Bootstrap(scheme="cluster", n=60)
    s = Sampling(n, cluster=cluster)
    draws = bootstrap_draws((psi, den), bootstrap, s, seed=1, moments=MeanMoments(2), std_error=True)
    w = resampling_weights(bootstrap, s, seed=1)
    np.testing.assert_allclose(draws.values, (w @ psi) / (w @ den), rtol=1e-10)
    # Copies of a cluster are separate clusters: write them out.
    counts = w[7][:30].astype(int)
    theta = draws.values[7]
    sums = np.array([(psi[cluster == c] - theta * den[cluster == c]).sum(axis=0) for c in range(30)])
    copies = np.repeat(sums, counts, axis=0)
    np.testing.assert_allclose(draws.std_error[7], np.sqrt((copies**2).sum(axis=0)) / (w[7] @ den), rtol=1e-10)


def test_ols_own_error_is_the_cluster_sandwich_with_copies_as_clusters():
    import statsmodels.api as sm

    X, y, s = study()
    draws = bootstrap_draws((X, y), SCHEMES[1], s, seed=3, moments=OlsMoments(3, keep=(1, 2)), std_error=True)
    w = resampling_weights(SCHEMES[1], s, seed=3)[4].astype(int)
    rows, groups, label = [], [], 0
    for c in range(40):
        member = np.flatnonzero(s.cluster == c)
        for _ in range(w[member[0]]):
            rows.append(member)
            groups.append(np.full(member.size, label))
            label += 1
    rows, groups = np.concatenate(rows), np.concatenate(groups)
    peer = sm.OLS(y[rows], X[rows]).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    np.testing.assert_allclose(draws.values[4], peer.params[1:], rtol=1e-9)
    np.testing.assert_allclose(draws.std_error[4], peer.bse[1:], rtol=1e-9)


def test_weighted_least_squares_and_doubled_weights():
    X, y, s = study()
    omega = np.random.default_rng(5).uniform(0.5, 2.0, s.n)
    one = bootstrap_draws((X, y, omega), SCHEMES[0], s, seed=1, moments=OlsMoments(3)).values
    two = bootstrap_draws((X, y, 2 * omega), SCHEMES[0], s, seed=1, moments=OlsMoments(3)).values
    np.testing.assert_allclose(one, two, rtol=1e-9)
    w = resampling_weights(SCHEMES[0], s, seed=1)[0]
    np.testing.assert_allclose(one[0], wls(X, y, w * omega), rtol=1e-9)


def test_failed_draws_stay_counted_and_warned():
    """A dummy for two of 12 clusters: absent from a draw with probability (10/12)^12 = 0.112."""
    n, g = 48, np.random.default_rng(0)
    cluster = np.arange(n) % 12
    X = np.column_stack([np.ones(n), cluster < 2])
    s = Sampling(n, cluster=cluster)
    with (
        pytest.warns(FewClustersWarning),
        pytest.warns(BootstrapFailureWarning, match="singular: columns are collinear"),
    ):
        draws = bootstrap_draws(
            (X, g.normal(size=n)), Bootstrap(scheme="cluster", n=500), s, seed=0, moments=OlsMoments(2)
        )
    failed = draws.n_failed["singular"]
    assert abs(failed / 500 - (10 / 12) ** 12) < 3.29 * np.sqrt(0.112 * 0.888 / 500)
    assert np.isnan(draws.values).all(axis=1).sum() == failed
    assert (draws.status == Status.singular).sum() == failed
    assert len(draws) == 500
    out = interval("percentile", np.zeros(2), np.ones(2), level=0.95, draws=draws.values)
    assert (failed > 50) == (0 in out.unavailable)


def test_an_unavailable_effect_does_not_fail_the_draws_of_the_others():
    def fit(design, weights):
        return jnp.stack([jnp.sum(weights * design), jnp.full((), jnp.nan, jnp.float64)])

    draws = bootstrap_draws(np.arange(30.0), Bootstrap(n=20), Sampling(30), seed=0, fit=fit)
    assert draws.n_failed == {}
    assert np.isfinite(draws.values[:, 0]).all()
    assert np.isnan(draws.values[:, 1]).all()


def test_statuses_from_a_fit_are_kept_and_gaps_are_failures():
    def fit(design, weights):
        empty = weights[0] == 0.0
        status = jnp.where(empty, int(Status.empty_arm), int(Status.ok))
        return jnp.array([weights[0], 1.0]), status

    with pytest.warns(BootstrapFailureWarning, match="empty_arm"):
        draws = bootstrap_draws(np.zeros(3), Bootstrap(n=300), Sampling(30), seed=0, fit=fit)
    w = resampling_weights(Bootstrap(n=300), Sampling(30), seed=0)
    assert draws.n_failed == {"empty_arm": int((w[:, 0] == 0).sum())}

    def gap(design, weights):
        return jnp.array([jnp.where(weights[0] == 0.0, jnp.inf, 1.0), 2.0])

    with pytest.warns(BootstrapFailureWarning, match="nonfinite"):
        draws = bootstrap_draws(np.zeros(3), Bootstrap(n=300), Sampling(30), seed=0, fit=gap)
    assert draws.n_failed == {"nonfinite": int((w[:, 0] == 0).sum())}
    assert np.isfinite(draws.values[:, 1]).all()


def test_every_status_has_words():
    assert set(STATUS_TEXTS) == {status.name for status in Status}
    assert status_text(2) == "the treatment does not vary in the draw"


def test_strata_and_progress_reach_the_draws():
    psi = np.arange(40.0)[:, None]
    level = np.arange(40) % 2
    events = []
    draws = bootstrap_draws(
        (psi, np.ones_like(psi)),
        Bootstrap(n=120, strata="arm"),
        Sampling(40),
        seed=0,
        moments=MeanMoments(1),
        strata=level,
        progress=events.append,
    )
    assert events[-1] == {"what": "bootstrap", "done": 120, "total": 120}
    within = np.mean([psi[level == a].var() / 20 for a in (0, 1)]) / 2
    assert abs(draws.values.var() / within - 1) < 3.29 * np.sqrt(2 / 120)


def test_multiplier_variance_is_the_cluster_variance():
    g = np.random.default_rng(0)
    phi, cluster = g.normal(size=(200, 2)), np.arange(200) % 40
    sums = np.array([phi[cluster == c].sum(axis=0) for c in range(40)]) / 200
    expected = (sums**2).sum(axis=0)
    b = 20_000
    draws = multiplier_draws(
        np.ones(2), phi, Bootstrap(scheme="multiplier", n=b), Sampling(200, cluster=cluster), seed=0
    )
    ratio = ((draws.values - 1.0) ** 2).mean(axis=0) / expected
    assert (np.abs(ratio - 1) < 3.29 * np.sqrt(2 / b)).all()
    assert (draws.refit, draws.law, draws.n_clusters) == (False, "normal", 40)


def test_enumerated_signs_have_the_exact_second_moment():
    phi, cluster = np.random.default_rng(0).normal(size=(50, 2)), np.arange(50) % 10
    sums = np.array([phi[cluster == c].sum(axis=0) for c in range(10)]) / 50
    with pytest.warns(FewClustersWarning):
        draws = multiplier_draws(
            np.zeros(2), phi, Bootstrap(scheme="multiplier", law="rademacher"), Sampling(50, cluster=cluster), seed=0
        )
    assert draws.notes["enumerated"] == len(draws) == 1024
    np.testing.assert_allclose(draws.values.T @ draws.values / 1024, sums.T @ sums, rtol=1e-10)


def test_dependent_variance_is_conley_with_the_askey_kernel():
    from causalsat.inference.covariance import influence_covariance
    from causalsat.inference.options import Sandwich

    g = np.random.default_rng(0)
    s = Sampling(150, lonlat=g.uniform(0, 2, (150, 2)))
    phi, b = g.normal(size=(150, 1)) + 0.3, 20_000
    conley = influence_covariance(phi, Sandwich("conley", cutoff_km=60.0, kernel="askey"), s)
    draws = multiplier_draws(np.zeros(1), phi, Bootstrap(scheme="dependent", block_km=60.0, n=b), s, seed=0)
    assert abs((draws.values**2).mean() / conley.matrix[0, 0] - 1) < 3.29 * np.sqrt(2 / b)


def test_adding_an_effect_leaves_the_draws_of_the_others():
    phi = np.random.default_rng(0).normal(size=(90, 3))
    boot = Bootstrap(scheme="multiplier", n=50)
    whole = multiplier_draws(np.zeros(3), phi, boot, Sampling(90), seed=0).values
    part = multiplier_draws(np.zeros(2), phi[:, :2], boot, Sampling(90), seed=0).values
    np.testing.assert_allclose(part, whole[:, :2], rtol=1e-12)


def test_bayes_variance_is_close_to_the_cluster_sandwich():
    X, y, s = study(800)
    b = 4000
    draws = bootstrap_draws((X, y), Bootstrap(scheme="bayes", n=b), s, seed=0, moments=OlsMoments(3)).values
    beta = wls(X, y, np.ones(s.n))
    e = y - X @ beta
    sums = np.array([(X[s.cluster == c] * e[s.cluster == c][:, None]).sum(axis=0) for c in range(40)])
    bread = np.linalg.inv(X.T @ X)
    sandwich = np.diag(bread @ sums.T @ sums @ bread)
    # Dirichlet weights give (G - 1)/... of the sandwich: Var = G/(G + 1) times it, up to second-order terms (5%).
    ratio = draws.var(axis=0) / (sandwich * 40 / 41)
    assert (np.abs(ratio - 1) < 3.29 * np.sqrt(2 / b) + 0.05).all()


def test_misuse_is_refused():
    X, y, s = study()
    with pytest.raises(OptionError, match="either fit="):
        bootstrap_draws((X, y), SCHEMES[0], s, seed=0)
    with pytest.raises(OptionError, match="multiplier_draws"):
        bootstrap_draws((X, y), Bootstrap(scheme="multiplier"), s, seed=0, fit=ols_fit)
    with pytest.raises(OptionError, match="use bootstrap_draws"):
        multiplier_draws(np.zeros(1), y[:, None], SCHEMES[0], s, seed=0)
    with pytest.raises(DataError, match="influence has shape"):
        multiplier_draws(np.zeros(2), y[:, None], Bootstrap(scheme="multiplier"), s, seed=0)
    with pytest.raises(OptionError, match="seed"):
        bootstrap_draws((X, y), SCHEMES[0], s, seed=-1, moments=OlsMoments(3))


def test_nothing_changes_outside():
    before = jax.random.normal(jax.random.key(0), (3,))
    X, y, s = study()
    bootstrap_draws((X, y), SCHEMES[0], s, seed=0, moments=OlsMoments(3))
    np.testing.assert_array_equal(before, jax.random.normal(jax.random.key(0), (3,)))
