"""Effects per unit of treatment: merged contributions, Anderson-Rubin sets, tests of whole curves."""

import warnings

import numpy as np
import pytest
from scipy import stats

from causalsat.errors import OptionError, WeakFirstStageWarning
from causalsat.estimators.r3d_ar import robust_sets
from causalsat.estimators.r3d_fit import fit_curves
from causalsat.estimators.r3d_inference import infer
from tests.estimators.r3d_cases import arrays, chosen, dense, satterthwaite, simulated

H, H_T = np.array([0.7, 0.6]), np.array([0.9, 0.8])


def answer(design, h=H, h_treatment=None, **changed):
    fit = fit_curves(design, h, h_treatment=h_treatment)
    return infer(design, fit, chosen(**{"n_boot": 199, **changed}))


def parts(design, h, outcome):
    """Loadings with hc2 factors, residuals and hat matrix of one regression."""
    hat, s, k = dense(design, h)
    inside = k > 0
    loading = (s[0] - s[1]) * np.where(inside, (1 - np.diag(hat)) ** -0.5, 0.0)
    return loading, np.where(inside[:, None], outcome - hat @ outcome, 0.0), hat, inside


def test_treatment_that_is_the_side_gives_the_sharp_numbers():
    design = simulated()
    sharp = answer(design)
    fuzzy = answer(arrays(design.x, design.Q, T=design.treated.astype(float)), h_treatment=H_T)
    np.testing.assert_allclose(fuzzy.se, sharp.se, rtol=1e-9)
    np.testing.assert_allclose(fuzzy.curve.band_low, sharp.curve.band_low, rtol=1e-9)
    np.testing.assert_allclose(fuzzy.curve.df, sharp.curve.df, rtol=1e-9)
    np.testing.assert_allclose(fuzzy.side_draws()[0], sharp.side_draws()[0], rtol=1e-8, atol=1e-11)
    assert [t.p_value for t in fuzzy.tests] == [t.p_value for t in sharp.tests]
    assert fuzzy.first_stage.unavailable and np.isnan(fuzzy.first_stage.se[0])
    for j, pieces in enumerate(fuzzy.sets.pointwise):
        np.testing.assert_allclose(pieces[0], (sharp.curve.conf_low[j], sharp.curve.conf_high[j]), rtol=1e-8)
        np.testing.assert_allclose(
            fuzzy.sets.uniform[j][0], (sharp.curve.band_low[j], sharp.curve.band_high[j]), rtol=1e-8
        )


@pytest.mark.parametrize("cluster", [False, True])
@pytest.mark.parametrize("h_treatment", [None, H_T])
def test_contributions_merge_with_the_treatment_s_own_window_weights_and_residuals(h_treatment, cluster):
    codes = np.arange(500) % 60
    design = simulated(n=500, fuzzy=True, cluster=codes if cluster else None)
    found = answer(design, h_treatment=h_treatment, residuals="hc0" if cluster else "hc2")
    own_h = H if h_treatment is None else H_T
    loading, errors, hat, _ = parts(design, H, design.Q)
    received, gap, hat_t, _ = parts(design, own_h, design.treatment[:, None])
    if cluster:
        loading, received = (dense(design, h)[1][0] - dense(design, h)[1][1] for h in (H, own_h))
    effect, jump = found.curve.estimate, found.fit.first_stage
    merged = (loading[:, None] * errors - received[:, None] * gap * effect) / jump
    if cluster:
        merged = np.stack([merged[codes == c].sum(axis=0) for c in range(60)])
    np.testing.assert_allclose(found.se, np.sqrt((merged**2).sum(axis=0)), rtol=1e-9)
    of_jump = (received * gap[:, 0]) if not cluster else np.bincount(codes, received * gap[:, 0])
    np.testing.assert_allclose(found.first_stage.se[0], np.sqrt((of_jump**2).sum()), rtol=1e-9)
    draws = (found.numerator_draws - found.first_stage.draws * effect) / jump
    np.testing.assert_allclose(found.draws, draws, atol=1e-12)
    if not cluster:
        expected = dense_degrees(loading, received, hat, hat_t, errors, gap, effect, (H, own_h), design)
        np.testing.assert_allclose(found.curve.df, expected, rtol=1e-8)


def dense_degrees(loading, received, hat, hat_t, errors, gap, effect, widths, design):
    """Satterthwaite from stacked errors (outcome, treatment) with homoskedastic second moments."""
    n, out = design.x.size, []
    both = (dense(design, widths[0])[2] > 0) & (dense(design, widths[1])[2] > 0)
    rows = np.diag(loading) @ (np.eye(n) - hat)
    rows_t = np.diag(received) @ (np.eye(n) - hat_t)
    for j, theta in enumerate(effect):
        pairs = np.column_stack([errors[both, j], gap[both, 0]])
        root = np.linalg.cholesky(pairs.T @ pairs / both.sum())
        stacked = np.concatenate([rows, -theta * rows_t], axis=1) @ np.kron(root, np.eye(n))
        out.append(satterthwaite(stacked))
    return out


def test_equal_windows_have_the_numerator_s_degrees_of_freedom():
    design = simulated(n=500, fuzzy=True)
    sharp = answer(arrays(design.x, design.Q))
    np.testing.assert_allclose(answer(design).curve.df, sharp.curve.df, rtol=1e-12)
    close = answer(design, h_treatment=H * (1 + 1e-9))
    np.testing.assert_allclose(close.curve.df, sharp.curve.df, rtol=1e-5)


def test_outcome_proportional_to_the_treatment_has_no_error():
    design = simulated(n=500, fuzzy=True)
    found = answer(
        arrays(design.x, design.treatment[:, None] * np.array([2.0, 2.0]), T=design.treatment), tests=("nullity",)
    )
    np.testing.assert_allclose(found.curve.estimate, 2.0, rtol=1e-12)
    assert np.isnan(found.se).all() and len(found.curve.unavailable) == 2


def test_first_stage_has_its_own_row():
    design = simulated(n=500, fuzzy=True)
    row = answer(design, h_treatment=H_T).first_stage
    alone = answer(arrays(design.x, design.treatment[:, None]), H_T, tests=())
    for name in ("estimate", "se", "df", "conf_low", "conf_high", "p_value"):
        np.testing.assert_allclose(getattr(row, name), getattr(alone.curve, name), rtol=1e-9)


def rejected(N, D, V, theta, c):
    return (N - theta * D) ** 2 > c**2 * (V[0] - 2 * theta * V[1] + theta**2 * V[2])


def test_sets_hold_exactly_the_effects_that_are_not_rejected():
    g = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        root = g.normal(size=(2, 2))
        V = root @ root.T
        N, D = g.normal(scale=3, size=2)
        sets = robust_sets(
            np.array([N]), D, (V[:1, 0], V[:1, 1], V[1, 1]), (g.normal(size=(39, 1)), g.normal(size=39)),
            np.ones((39, 1)), np.array([1.96]), 0.95,
        )  # fmt: skip
        pieces = sets.pointwise[0]
        seen.add(sets.pointwise_shape[0])
        for theta in np.concatenate([np.tan(np.linspace(-1.57, 1.57, 400)), [N / D]]):
            inside = any(low <= theta <= high for low, high in pieces)
            edge = min(abs(theta - end) for piece in pieces for end in piece)
            if edge > 1e-6 * (1 + abs(theta)):
                assert inside != rejected(N, D, (V[0, 0], V[0, 1], V[1, 1]), theta, 1.96)
        assert any(low <= N / D <= high for low, high in pieces)
    assert seen == {"interval", "rays", "line"}


def test_sets_tend_to_wald_and_uniform_sets_hold_pointwise_ones():
    design = simulated(n=4000, fuzzy=True)
    found = answer(design, n_boot=999)
    assert set(found.sets.pointwise_shape) == {"interval"}
    width = found.curve.conf_high - found.curve.conf_low
    for j in range(7):
        (low, high), (under, over) = found.sets.pointwise[j][0], found.sets.uniform[j][0]
        assert abs(low - found.curve.conf_low[j]) < 0.15 * width[j]
        assert under < low and high < over
    # The uniform critical value is the order statistic of sup sqrt(nu' V^{-1} nu).
    C = found.contributions
    sups = np.zeros(999)
    for j in range(7):
        V = np.column_stack([C.jump[:, j], C.treatment])
        V = V.T @ V
        nu = np.column_stack([found.numerator_draws[:, j], found.first_stage.draws[:, 0]])
        sups = np.maximum(sups, np.sqrt(np.einsum("bi,ij,bj->b", nu, np.linalg.inv(V), nu)) * found.curve.factors[:, 0])
    np.testing.assert_allclose(found.sets.critical, np.sort(sups)[949], rtol=1e-9)


def test_weak_first_stage_is_said_and_its_sets_are_not_truncated():
    g = np.random.default_rng(3)
    design = simulated(n=300)
    T = (g.random(300) < np.where(design.x >= 0, 0.52, 0.48)).astype(float)
    with pytest.warns(WeakFirstStageWarning, match="Anderson-Rubin"):
        found = answer(arrays(design.x, design.Q, T=T))
    assert set(found.sets.pointwise_shape) <= {"rays", "line"}
    assert all(np.isinf(pieces[0][0]) and np.isinf(pieces[-1][1]) for pieces in found.sets.uniform)


def test_tests_are_sups_over_the_range():
    design = simulated(m=19)
    found = answer(design, n_boot=499, test_range=(0.2, 0.8))
    inside = (design.quantiles > 0.19) & (design.quantiles < 0.81)
    tau, se, draws, factor = found.curve.estimate, found.se, found.draws, found.curve.factors
    nullity, homogeneity, dominance = found.tests
    sups = (abs(draws[:, inside]) / se[inside] * factor).max(axis=1)
    assert nullity.statistic == (abs(tau) / se)[inside].max()
    assert nullity.p_value == (1 + (sups >= nullity.statistic).sum()) / 500
    assert nullity.critical_value == np.sort(sups)[474] and nullity.n_levels == inside.sum()
    np.testing.assert_allclose(nullity.test_range, (0.2, 0.8))
    w = np.where(inside, design.cells, 0) / design.cells[inside].sum()
    own = found.merged - (found.merged @ w)[:, None]
    sd = np.sqrt((own**2).sum(axis=0))
    moved = abs(draws - (draws @ w)[:, None]) / sd * factor
    np.testing.assert_allclose(homogeneity.statistic, (abs(tau - w @ tau) / sd)[inside].max(), rtol=1e-10)
    np.testing.assert_allclose(homogeneity.critical_value, np.sort(moved[:, inside].max(axis=1))[474], rtol=1e-10)
    sups = np.maximum(-draws[:, inside] / se[inside] * factor, 0).max(axis=1)
    assert dominance.statistic == max(0, (-tau / se)[inside].max())
    assert dominance.p_value == (1 + (sups >= dominance.statistic).sum()) / 500


def test_constant_bands_have_unstudentized_tests():
    found = answer(simulated(m=9), band="constant", critical="normal")
    assert found.tests[0].statistic == abs(found.curve.estimate).max()
    assert found.tests[0].critical_value == found.curve.critical
    assert found.tests[2].statistic == max(0.0, -found.curve.estimate.min())


def test_one_quantile_and_an_empty_range():
    one = answer(simulated(m=1)).tests
    assert np.isnan(one[1].p_value) and "single quantile" in one[1].unavailable and np.isfinite(one[0].p_value)
    with pytest.raises(OptionError, match="holds none of the 7 quantiles"):
        answer(simulated(), test_range=(0.9, 0.99))


def test_p_values_are_uniform_when_nothing_happens():
    # 120 samples without an effect: the smallest and the mean of the p-values.
    found = []
    for seed in range(120):
        g = np.random.default_rng(1000 + seed)
        x, mean = g.uniform(-1, 1, 150), g.normal(size=150)
        Q = np.sort(mean[:, None] + g.normal(size=(150, 5)), axis=1)
        found.append([t.p_value for t in answer(arrays(x, Q), np.full(2, 0.8)).tests])
    for values in np.array(found).T[:2]:
        assert stats.kstest(values, "uniform").pvalue > 1e-3
    # One-sided, with an atom at a statistic of zero: no test rejects too often.
    assert (np.array(found)[:, 2] <= 0.1).mean() < 0.1 + 3 * np.sqrt(0.09 / 120)


def test_gap_between_first_stage_and_warning():
    design = simulated(n=500, fuzzy=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer(design)
