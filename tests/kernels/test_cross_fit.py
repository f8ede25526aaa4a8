"""The cross-fit kernel against loops over folds: nested penalties, Grams, logistic choices, training sets."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from causalsat.estimators.nuisance_layout import assemble, lay_out, split_rows
from causalsat.estimators.nuisances import NuisanceOptions, cross_fit_nuisances
from causalsat.kernels.cross_fit_ridge import block_moments

RATIOS = 10.0 ** np.linspace(-4, 4, 30)


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(5)
    n, d = 300, 12
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / 3 + 2.0
    treated = (rng.random(n) < 1 / (1 + np.exp(-1.5 * (x[:, 0] - 2.0)))).astype(float)
    y = x @ rng.normal(size=d) * 0.3 + treated + 2.0 * rng.normal(size=n) + 5.0
    return x, y, treated, rng.permutation(n) % 4, rng.uniform(0.5, 2.0, size=n)


def scaled(x, w, train):
    """The design in training means and deviations."""
    mean = np.average(x[train], axis=0, weights=w[train])
    return (x - mean) / np.sqrt(np.average((x[train] - mean) ** 2, axis=0, weights=w[train]))


def ridge_fit(x, y, w, train, ratio):
    z = scaled(x, w, train)
    return Ridge(alpha=ratio * w[train].sum()).fit(z[train], y[train], sample_weight=w[train]).predict(z)


def nested_ridge(x, y, w, arm, trains, fold):
    """Brute force: every outer fold, every inner fold, every penalty is a scikit-learn fit of its own."""
    out, chosen = np.empty(len(y)), []
    for k, train in enumerate(trains):
        error = np.zeros(30)
        for j in range(len(trains)):
            if j == k:
                continue
            inner, held = train & trains[j] & arm, (fold == j) & train & arm
            for i, ratio in enumerate(RATIOS):
                error[i] += np.sum(w[held] * (y - ridge_fit(x, y, w, inner, ratio))[held] ** 2)
        chosen.append(int(error.argmin()))
        out[fold == k] = ridge_fit(x, y, w, train & arm, RATIOS[chosen[-1]])[fold == k]
    return out, chosen


def all_but(fold):
    return np.stack([fold != k for k in range(fold.max() + 1)])


def buffered(fold, x):
    """Training sets that lose the rows close to a test row along one axis."""
    near = np.stack([np.abs(x[:, None, 1] - x[None, fold == k, 1]).min(axis=1) < 0.002 for k in range(fold.max() + 1)])
    return all_but(fold) & ~near


@pytest.mark.parametrize("buffer", [False, True])
def test_nested_choice_is_the_brute_force_loop(study, buffer):
    x, y, treated, fold, w = study
    train = buffered(fold, x) if buffer else None
    trains = all_but(fold) if train is None else train
    found = cross_fit_nuisances(None, x, y, treated, fold, weights=w, train=train, need=("g0", "g1"))
    w = w / w.mean()
    for arm, name in enumerate(("g0", "g1")):
        rows = treated == arm
        expected, chosen = nested_ridge(x, y, w, rows, trains, fold)
        sizes = np.array([w[t & rows].sum() for t in trains])
        np.testing.assert_allclose(found.penalties[name], RATIOS[chosen] * sizes, rtol=1e-9)
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-8, atol=1e-9)


def logistic_fit(x, d, w, train, lam):
    z = scaled(x, w, train)
    model = LogisticRegression(C=1 / lam, tol=1e-11, max_iter=1000, solver="newton-cholesky")
    return model.fit(z[train], d[train], sample_weight=w[train]).decision_function(z)


def test_full_logistic_search_and_platt_are_the_loops(study):
    x, _, d, fold, w = study
    w, options = w / w.mean(), NuisanceOptions(penalty_search="full", n_penalties=9, clip=0.0)
    found = cross_fit_nuisances(None, x, d, d, fold, weights=w, options=options, need=("m",))
    ratios, trains = 10.0 ** np.linspace(-4, 4, 9), all_but(fold)
    expected = np.empty(len(d))
    for k, train in enumerate(trains):
        loss, logits = np.zeros(9), np.zeros((9, len(d)))
        for j in (j for j in range(4) if j != k):
            inner, held = train & trains[j], (fold == j) & train
            for i, ratio in enumerate(ratios):
                eta = logistic_fit(x, d, w, inner, ratio * w[inner].sum())
                logits[i, held] = eta[held]
                loss[i] += np.sum(w[held] * (np.logaddexp(0, eta[held]) - d[held] * eta[held]))
        best = loss.argmin()
        lam = ratios[best] * w[train].sum()
        np.testing.assert_allclose(found.penalties["m"][k], lam, rtol=1e-9)
        line = LogisticRegression(C=np.inf, tol=1e-12).fit(logits[best][train, None], d[train], sample_weight=w[train])
        eta = line.decision_function(logistic_fit(x, d, w, train, lam)[:, None])
        expected[fold == k] = (1 / (1 + np.exp(-eta)))[fold == k]
    np.testing.assert_allclose(found.m, expected, atol=2e-6)


def test_screened_search_stays_close_to_the_full_one(study):
    x, _, d, fold, w = study
    full, quick = (
        cross_fit_nuisances(None, x, d, d, fold, weights=w, need=("m",), options=NuisanceOptions(penalty_search=search))
        for search in ("full", "screened")
    )
    same = np.isclose(full.penalties["m"], quick.penalties["m"], rtol=1e-9)
    assert same.sum() >= 3
    np.testing.assert_allclose(quick.m[same[fold]], full.m[same[fold]], atol=1e-7)
    assert np.abs(quick.m - full.m).mean() < 0.02


def test_sums_of_blocks_are_direct_grams(study):
    x, y, treated, fold, w = study
    columns = assemble(None, x, len(y), None)
    rows, sets = lay_out(columns, y, treated, split_rows(fold, len(y), buffered(fold, x)))
    weights = jnp.where(rows.valid > 0, jnp.asarray(w)[rows.row], 0.0)
    control, treatment = block_moments(rows, weights, sets.outer.shape[1])
    v = np.column_stack([np.ones(len(y)), x - x.mean(axis=0)])
    for k, train in enumerate(buffered(fold, x)):
        for arm, moments in enumerate((control, treatment)):
            direct = v[train & (treated == arm)]
            gram = np.tensordot(sets.outer[k], np.asarray(moments.gram), axes=1)
            np.testing.assert_allclose(gram, (direct.T * w[train & (treated == arm)]) @ direct, rtol=1e-9, atol=1e-9)
            assert np.linalg.eigvalsh(gram).min() > 0


def test_missing_values_take_the_training_mean_of_each_training_set(study):
    x, y, treated, fold, _ = study
    w, table = np.ones(len(y)), x[:, :3].copy()
    table[np.random.default_rng(0).random(table.shape) < 0.1] = np.nan
    options = NuisanceOptions(tabular_penalised=True)
    found = cross_fit_nuisances(table, None, y, treated, fold, options=options, need=("g1",))
    expected, arm, trains = np.empty(len(y)), treated == 1, all_but(fold)
    for k, train in enumerate(trains):
        error = np.zeros(30)
        for j in (j for j in range(4) if j != k):
            inner, held = train & trains[j] & arm, (fold == j) & arm
            design = imputed(table, inner)
            error += [np.sum((y - ridge_fit(design, y, w, inner, r))[held] ** 2) for r in RATIOS]
        whole = train & arm
        expected[fold == k] = ridge_fit(imputed(table, whole), y, w, whole, RATIOS[error.argmin()])[fold == k]
    np.testing.assert_allclose(found.g1, expected, rtol=1e-8)


def imputed(table, train):
    missing = np.isnan(table)
    return np.column_stack([np.where(missing, np.nanmean(table[train], axis=0), table), missing.astype(float)])
