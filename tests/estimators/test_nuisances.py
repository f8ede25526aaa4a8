"""Out-of-fold nuisances: weights, order, leakage, refit kernel, learners, calibration, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from causalsat.errors import DataError, OptionError
from causalsat.estimators.nuisances import NuisanceOptions, cross_fit_nuisances, nuisance_kernel
from causalsat.kernels.precision import float64

N = 240


def same(a, b, rtol=1e-8):
    for name in ("g0", "g1", "m"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rtol, atol=1e-9)


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(2)
    image, tabular = rng.normal(size=(N, 8)), rng.normal(size=(N, 3))
    treated = (rng.random(N) < 1 / (1 + np.exp(-1.2 * image[:, 0] - 0.5 * tabular[:, 0]))).astype(float)
    y = image[:, 1] + tabular[:, 0] + treated + rng.normal(size=N)
    tabular[rng.random((N, 3)) < [0.08, 0.0, 0.05]] = np.nan
    return tabular, image, y, treated, np.arange(N) % 4


@pytest.fixture(scope="module")
def fitted(study):
    return cross_fit_nuisances(*study)


def test_shape_and_report(study, fitted):
    *_, treated, fold = study
    assert fitted.status == 0
    assert fitted.m_raw.shape == fitted.g0.shape == fitted.m_insample.shape == (N,)
    assert set(fitted.penalties) == {"g0", "g1", "m"}
    assert all(v.shape == (4,) for v in fitted.penalties.values())
    np.testing.assert_array_equal(fitted.fold, fold)
    assert any("missing" in note for note in fitted.notes)
    assert np.corrcoef(fitted.m, treated)[0, 1] > 0.3
    assert np.corrcoef(fitted.m_insample, treated)[0, 1] > np.corrcoef(fitted.m, treated)[0, 1]


def test_doubling_the_weights_is_neutral(study, fitted):
    same(cross_fit_nuisances(*study, weights=np.full(N, 2.0)), fitted)


def test_order_of_rows_is_irrelevant(study, fitted):
    order = np.random.default_rng(0).permutation(N)
    moved = cross_fit_nuisances(*(a[order] for a in study))
    for name in ("g0", "g1", "m"):
        np.testing.assert_allclose(getattr(moved, name), getattr(fitted, name)[order], rtol=1e-8, atol=1e-9)


def test_units_of_features_and_outcome(study, fitted):
    tabular, image, y, treated, fold = study
    moved = cross_fit_nuisances(tabular * [10, 1e4, 1e-3] + 5, image * 1e3 - 2, -3 * y + 7, treated, fold)
    np.testing.assert_allclose(moved.g1, -3 * fitted.g1 + 7, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(moved.m, fitted.m, rtol=1e-7)


def test_held_out_outcomes_and_treatments_do_not_move_their_own_predictions(study, fitted):
    tabular, image, y, treated, fold = study
    rng, held = np.random.default_rng(9), fold == 2
    noise = cross_fit_nuisances(tabular, image, np.where(held, 100 * rng.normal(size=N), y), treated, fold)
    np.testing.assert_allclose(noise.g0[held], fitted.g0[held], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(noise.g1[held], fitted.g1[held], rtol=1e-9, atol=1e-9)
    assert np.abs(noise.g1[~held] - fitted.g1[~held]).max() > 0.1
    flipped = cross_fit_nuisances(tabular, image, y, np.where(held, 1 - treated, treated), fold)
    np.testing.assert_allclose(flipped.m[held], fitted.m[held], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(flipped.g0[held], fitted.g0[held], rtol=1e-9, atol=1e-9)


def test_kernel_under_map_is_a_refit_on_copied_rows(study):
    rng = np.random.default_rng(4)
    counts = np.stack([rng.permutation(np.repeat([0, 1, 2], N // 3)) for _ in range(2)])
    options = NuisanceOptions(tabular_penalised=True)
    kernel = nuisance_kernel(*study, options=options)
    with float64():
        draws = jax.jit(lambda design, w: jax.lax.map(lambda one: kernel.apply(design, one), w))
        out = [np.asarray(a) for a in draws(kernel.design, jnp.asarray(counts, jnp.float64))]
    for b, copies in enumerate(counts):
        rows = np.repeat(np.arange(N), copies)
        direct = cross_fit_nuisances(*(a[rows] for a in study), options=options)
        assert int(out[3][b]) == direct.status == 0
        for place, name in enumerate(("g0", "g1", "m")):
            np.testing.assert_allclose(out[place][b][rows], getattr(direct, name), rtol=1e-8, atol=1e-8)


def test_kernel_equals_the_verb_and_closes_over_its_design(study, fitted):
    kernel = nuisance_kernel(*study)
    compiled = jax.jit(kernel)
    with float64():
        g0, g1, m, status = compiled(jnp.ones(N, jnp.float64))
        again = np.asarray(compiled(jnp.ones(N, jnp.float64))[2])
    for ours, name in ((g0, "g0"), (g1, "g1"), (m, "m")):
        np.testing.assert_allclose(np.asarray(ours), getattr(fitted, name), rtol=1e-10, atol=1e-11)
    np.testing.assert_array_equal(np.asarray(m), again)
    assert int(status) == 0


def test_unpenalised_tabular_columns_are_least_squares_per_arm(study):
    _, image, y, treated, fold = study
    table = image[:, :3]
    found = cross_fit_nuisances(table, None, y, treated, fold, options=NuisanceOptions(calibrate=None, clip=0.0))
    for k in range(4):
        train, test = fold != k, fold == k
        for arm, name in enumerate(("g0", "g1")):
            peer = LinearRegression().fit(table[train & (treated == arm)], y[train & (treated == arm)])
            np.testing.assert_allclose(getattr(found, name)[test], peer.predict(table[test]), rtol=1e-8, atol=1e-10)
        model = LogisticRegression(C=np.inf, tol=1e-12).fit(table[train], treated[train])
        np.testing.assert_allclose(found.m[test], model.predict_proba(table[test])[:, 1], atol=1e-6)
    assert found.edge == []


def test_in_sample_and_without_columns(study):
    tabular, image, y, treated, fold = study
    whole = cross_fit_nuisances(None, None, y, treated, None)
    np.testing.assert_allclose(whole.m, treated.mean(), rtol=1e-10)
    np.testing.assert_allclose(whole.g1, y[treated == 1].mean(), rtol=1e-10)
    assert (whole.fold == -1).all()
    inside = cross_fit_nuisances(tabular, image, y, treated, np.full(N, -1))
    assert any("in sample" in note for note in inside.notes)
    assert np.corrcoef(inside.g0, y)[0, 1] > 0.4
    constant = cross_fit_nuisances(None, np.ones((N, 4)), y, treated, fold)
    plain = cross_fit_nuisances(None, None, y, treated, fold)
    np.testing.assert_allclose(constant.g0, plain.g0, rtol=1e-10)
    np.testing.assert_allclose(constant.m, plain.m, rtol=1e-9)


def test_need_and_known_propensity(study):
    found = cross_fit_nuisances(*study, need=("g0",), known_propensity=0.005)
    assert np.isnan(found.g1).all()
    np.testing.assert_array_equal(found.m, 0.005)
    assert found.clipped == {"control": 0.0, "treated": 0.0}


def test_clip_reports_shares_per_arm(study):
    found = cross_fit_nuisances(*study, need=("m",), options=NuisanceOptions(clip=0.4))
    treated = study[3]
    for arm, name in enumerate(("control", "treated")):
        share = np.mean((found.m_raw[treated == arm] < 0.4) | (found.m_raw[treated == arm] > 0.6))
        np.testing.assert_allclose(found.clipped[name], share)
    assert found.m.min() == 0.4


def test_binary_outcome_by_logistic_ridge(study):
    _, image, y, treated, fold = study
    binary = (y > 0.5).astype(float)
    found = cross_fit_nuisances(None, image, binary, treated, fold, options=NuisanceOptions(outcome="logistic"))
    assert found.status == 0
    assert 0 < found.g0.min() < found.g0.max() < 1
    assert np.corrcoef(found.g1, image[:, 1])[0, 1] > 0.8
    with pytest.raises(DataError, match="0 and 1"):
        cross_fit_nuisances(None, image, y, treated, fold, options=NuisanceOptions(outcome="logistic"))


def test_separation_by_free_columns_is_a_status(study):
    _, image, y, treated, fold = study
    leak = np.column_stack([treated + 0.1 * image[:, 0].clip(-1, 1)])
    found = cross_fit_nuisances(leak, None, y, treated, fold, need=("m",))
    assert found.status == 4
    assert any("separate" in note for note in found.notes)
    penalised = NuisanceOptions(tabular_penalised=True)
    assert cross_fit_nuisances(leak, None, y, treated, fold, need=("m",), options=penalised).status == 0


def test_few_missing_values_in_one_arm_do_not_separate_the_arms(study):
    _, image, y, treated, _ = study
    image, y, treated = (np.concatenate([a, a[:60]]) for a in (image, y, treated))
    table, rare = image[:, :1] ** 2, np.flatnonzero(treated == 1)[:3]
    table[rare] = np.nan
    fold = np.arange(len(y)) % 4
    found = cross_fit_nuisances(table, image, y, treated, fold, need=("m",))
    assert found.status == 0
    assert 0 < found.m_raw.min() < found.m_raw.max() < 1


def test_scikit_learn_learners_are_their_own_loops(study):
    _, image, y, treated, fold = study
    options = NuisanceOptions(outcome=Ridge(alpha=3.0), treatment=LogisticRegression(C=0.5, tol=1e-10), calibrate=None)
    found = cross_fit_nuisances(None, image, y, treated, fold, options=options)
    expected = np.empty((2, N))
    for k in range(4):
        train, test = fold != k, fold == k
        arm = train & (treated == 1)
        z = (image - image[arm].mean(0)) / image[arm].std(0)
        expected[0, test] = Ridge(alpha=3.0).fit(z[arm], y[arm]).predict(z[test])
        z = (image - image[train].mean(0)) / image[train].std(0)
        model = LogisticRegression(C=0.5, tol=1e-10).fit(z[train], treated[train])
        expected[1, test] = model.predict_proba(z[test])[:, 1]
    np.testing.assert_allclose(found.g1, expected[0], rtol=1e-9)
    np.testing.assert_allclose(found.m, expected[1], rtol=1e-6)


def test_scikit_learn_classifier_with_platt_is_seeded(study):
    options = NuisanceOptions(treatment=RandomForestClassifier(n_estimators=10, max_depth=3))
    one, two = (cross_fit_nuisances(None, *study[1:], options=options, need=("m",), seed=s) for s in (3, 3))
    np.testing.assert_array_equal(one.m, two.m)
    assert np.abs(one.m - cross_fit_nuisances(None, *study[1:], options=options, need=("m",), seed=4).m).max() > 0
    assert np.corrcoef(one.m, study[3])[0, 1] > 0.2


def test_isotonic_needs_rows_and_is_monotone():
    rng = np.random.default_rng(0)
    n = 3000
    x = rng.normal(size=(n, 3))
    d = (rng.random(n) < 1 / (1 + np.exp(-x[:, 0]))).astype(float)
    options = NuisanceOptions(calibrate="isotonic", clip=0.0)
    found = cross_fit_nuisances(None, x, d, d, np.arange(n) % 3, need=("m",), options=options)
    plain = cross_fit_nuisances(None, x, d, d, np.arange(n) % 3, need=("m",), options=NuisanceOptions(calibrate=None))
    order = np.argsort(plain.m[::3])
    assert (np.diff(found.m[::3][order]) >= 0).all()
    with pytest.raises(OptionError, match="500"):
        cross_fit_nuisances(None, x[:900], d[:900], d[:900], np.arange(900) % 3, need=("m",), options=options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": np.r_[np.zeros(N - 1, int), 2]}, "0..K-1"),
        ({"train": np.ones((4, N), bool)}, "own fold"),
        ({"treatment": np.full(N, 0.5)}, "0 or 1"),
        ({"weights": np.full(N, -1.0)}, "non-negative"),
        ({"image": np.full((N, 2), np.nan)}, "usable image"),
    ],
)
def test_bad_data_is_refused(study, change, message):
    names = ("tabular", "image", "outcome", "treatment", "fold")
    given = {**dict(zip(names, study, strict=True)), **change}
    with pytest.raises(DataError, match=message):
        cross_fit_nuisances(**given)


def test_bad_options_are_refused(study):
    with pytest.raises(OptionError, match='Did you mean "ridge"'):
        NuisanceOptions(outcome="rigde")
    with pytest.raises(OptionError, match="predict_proba"):
        NuisanceOptions(treatment=object())
    with pytest.raises(OptionError, match="clip"):
        NuisanceOptions(clip=0.7)
    with pytest.raises(OptionError, match="refit=False"):
        nuisance_kernel(*study, options=NuisanceOptions(outcome=Ridge()))
