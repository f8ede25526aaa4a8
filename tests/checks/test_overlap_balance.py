"""Overlap, balance and trimming: closed forms, properties, warnings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat.checks.balance import balance_check, embedding_components
from causalsat.checks.overlap import (
    arm_weights,
    inverse_propensity_weights,
    normalization_check,
    overlap_check,
    overlap_form_check,
)
from causalsat.checks.trimming import crump_threshold, trim_mask, trimming_check
from causalsat.errors import DataError, OptionError, WeakOverlapWarning


def study(seed, n=400, slope=0.7):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    m = 1 / (1 + np.exp(-slope * x))
    return x, (rng.random(n) < m).astype(float), m


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_effective_size_is_at_most_the_arm(seed):
    weights = np.random.default_rng(seed).random(50) + 1e-3
    found = arm_weights(weights)
    assert 1 <= found.ess <= 50
    assert arm_weights(7 * weights).ess == pytest.approx(found.ess)
    assert arm_weights(np.full(50, 3.0)).ess == pytest.approx(50)
    assert found.largest_share == pytest.approx(weights.max() / weights.sum())


def test_good_overlap_passes_and_says_what_it_saw():
    _, d, m = study(1, n=2000)
    found = overlap_check("w, both", d, m, clipped=np.zeros(2000, bool))
    assert found.name == "overlap[w, both]"
    assert found.passed is True
    ess = [arm_weights(a).ess for a in inverse_propensity_weights(d, m)]
    assert f"{ess[0]:.1f} of {int(d.sum())} treated" in found.text
    assert found.statistic == pytest.approx(min(ess[0] / d.sum(), ess[1] / (1 - d).sum()))
    assert sum(found.table["n_treated"]) == d.sum()
    assert sum(found.table["n_control"]) == (1 - d).sum()


def test_clipping_of_more_than_five_percent_warns():
    _, d, m = study(2)
    clipped = np.arange(400) < 21
    with pytest.warns(WeakOverlapWarning, match=r"5\.2% of propensities are clipped"):
        found = overlap_check("w, image", d, m, clipped=clipped)
    assert found.passed is False
    assert overlap_check("w, image", d, m, clipped=np.arange(400) < 20).passed is True


def test_a_near_perfect_image_auc_warns_only_for_sets_with_the_image():
    _, d, m = study(3)
    with pytest.warns(WeakOverlapWarning, match="encodes location"):
        overlap_check("w, image", d, m, auc=0.96, image=True)
    overlap_check("w, tabular", d, m, auc=0.96)


def test_one_heavy_row_fails_without_a_warning_and_a_collapsed_arm_warns():
    d = np.r_[np.ones(100), np.zeros(100)]
    weights = np.ones(200)
    weights[0] = 8.0
    found = overlap_check("w", d, np.full(200, 0.5), weights, np.ones(200))
    assert found.passed is False
    assert "carries 7.5%" in found.text
    weights[0] = 1000.0
    with pytest.warns(WeakOverlapWarning, match="weigh as much as"):
        overlap_check("w", d, np.full(200, 0.5), weights, np.ones(200))


def test_an_empty_arm_is_an_error():
    with pytest.raises(DataError, match="no row with a positive weight"):
        overlap_check("w", np.ones(10), np.full(10, 0.5))


def test_normalisation_and_form_checks():
    assert normalization_check("w", 1.0, 1.02, 0.1).passed is True
    with pytest.warns(WeakOverlapWarning, match="-0.30 standard errors"):
        assert normalization_check("w", 1.0, 0.97, 0.1).passed is False
    assert normalization_check("w", 1.0, 1.02, float("nan")).passed is None
    assert overlap_form_check("w", 1.0, 1.1, 0.02).passed is False
    assert overlap_form_check("w", 1.0, 1.0, 0.0).passed is None


def test_balance_by_hand():
    x = np.array([1.0, 2.0, 3.0, 0.0, 1.0, 5.0])
    d = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    w0 = np.array([9.0, 9.0, 9.0, 1.0, 0.0, 1.0])
    found = balance_check("w", {"x": x}, d, np.ones(6), w0)
    spread = np.sqrt((np.var([1, 2, 3]) + np.var([0, 1, 5])) / 2)
    assert found.table["smd_before"] == [pytest.approx((2 - 2) / spread)]
    assert found.table["smd_after"] == [pytest.approx((2 - 2.5) / spread)]
    assert found.table["se"] == [pytest.approx(np.sqrt(1 / 3 + 1 / 2))]
    assert found.passed is True  # two and three rows cannot tell .3 from chance
    assert found.text.startswith("1 of 1 columns differ by .1 standard deviations or more after weighting, 0 of them")
    assert found.statistic == pytest.approx(0.5 / spread)


@pytest.mark.parametrize("p", [9, 25])
def test_balance_of_a_randomised_treatment_passes_and_of_a_confounded_one_fails(p):
    passed, above = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((400, p))
        columns = {f"x{j}": x[:, j] for j in range(p)}
        found = balance_check("w", columns, (rng.random(400) < 0.5).astype(float), np.ones(400), np.ones(400))
        passed += found.passed
        above += found.statistic >= 0.1
        d = (rng.random(400) < 1 / (1 + np.exp(-0.7 * x[:, 0]))).astype(float)
        assert balance_check("w", columns, d, np.ones(400), np.ones(400)).passed is False
    assert passed >= 15
    assert above >= 15  # the bare .1 rule would have failed these


def test_balance_of_large_arms_is_the_rule_of_a_tenth():
    d = np.tile([0.0, 1.0], 20_000)
    x = np.random.default_rng(0).standard_normal(40_000)
    for shift, passed in ((0.06, True), (0.15, False)):
        assert balance_check("w", {"x": x + shift * d}, d, np.ones(40_000), np.ones(40_000)).passed is passed


@given(st.integers(0, 10_000), st.floats(0.1, 100), st.floats(-50, 50))
@settings(max_examples=25, deadline=None)
def test_balance_flips_with_the_arms_and_ignores_units(seed, scale, shift):
    x, d, m = study(seed, n=100)
    a1, a0 = inverse_propensity_weights(d, m)
    found = balance_check("w", {"x": x}, d, a1, a0).table
    flipped = balance_check("w", {"x": x}, 1 - d, a0, a1).table
    moved = balance_check("w", {"x": shift + scale * x}, d, a1, a0).table
    for key in ("smd_before", "smd_after"):
        assert flipped[key][0] == pytest.approx(-found[key][0], abs=1e-10)
        assert moved[key][0] == pytest.approx(found[key][0], abs=1e-9)


def test_balance_leaves_missing_values_out_and_cannot_judge_constants():
    x, d, m = study(4)
    holes = x.copy()
    holes[:30] = np.nan
    a1, a0 = inverse_propensity_weights(d, m)
    found = balance_check("w", {"holes": holes, "flat": np.ones(400)}, d, a1, a0)
    kept = balance_check("w", {"holes": x[30:]}, d[30:], a1[30:], a0[30:])
    assert found.table["smd_after"][0] == pytest.approx(kept.table["smd_after"][0])
    assert np.isnan(found.table["smd_after"][1])
    assert balance_check("w", {"flat": np.ones(400)}, d, a1, a0).passed is None
    with pytest.raises(DataError, match="one of them is empty"):
        balance_check("w", {"x": x}, np.ones(400), a1, a0)


def test_true_inverse_weights_balance_the_confounder():
    x, d, m = study(5, n=20_000)
    found = balance_check("w", {"x": x}, d, *inverse_propensity_weights(d, m))
    assert abs(found.table["smd_before"][0]) > 0.5
    assert found.passed is True


def test_components_are_orthogonal_ordered_and_do_not_depend_on_units():
    rng = np.random.default_rng(6)
    matrix = np.column_stack([rng.standard_normal((50, 5)) @ rng.standard_normal((5, 5)), np.ones(50)])
    found = embedding_components(matrix, np.arange(50), n=3)
    scores = np.column_stack(list(found.values()))
    assert list(found) == ["image pc 1", "image pc 2", "image pc 3"]
    gram = scores.T @ scores
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-9)
    assert np.all(np.diff(np.diag(gram)) <= 0)
    again = embedding_components(matrix * 10 + 3, np.arange(50), n=3)
    np.testing.assert_allclose(again["image pc 2"], found["image pc 2"], atol=1e-9)
    assert embedding_components(np.ones((5, 3)), np.arange(5)) == {}


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_crump_solves_its_equation_and_no_smaller_cut_does(seed):
    m = 1 / (1 + np.exp(-3 * np.random.default_rng(seed).standard_normal(200)))
    cut = crump_threshold(m)
    k = 1 / (m * (1 - m))
    if cut == 0.0:
        assert k.max() <= 2 * k.mean() * (1 + 1e-12)
        return
    kept = trim_mask(m, cut)
    assert 1 / (cut * (1 - cut)) == pytest.approx(2 * k[kept].mean(), rel=1e-9)
    for smaller in np.linspace(1e-6, cut - 1e-6, 50):
        assert 1 / (smaller * (1 - smaller)) > 2 * k[trim_mask(m, smaller)].mean()
    assert crump_threshold(1 - m) == pytest.approx(cut)
    assert crump_threshold(np.repeat(m, 2)) == pytest.approx(cut)
    assert crump_threshold(m, np.full(200, 3.0)) == pytest.approx(cut)


def test_crump_on_the_uniform_minimises_the_variance_bound():
    m = (np.arange(200_000) + 0.5) / 200_000
    cut = crump_threshold(m)
    k = 1 / (m * (1 - m))
    bounds = {a: k[trim_mask(m, a)].mean() / trim_mask(m, a).mean() for a in np.linspace(0.01, 0.3, 59)}
    assert min(bounds, key=bounds.get) == pytest.approx(cut, abs=0.006)


def test_trimming_at_zero_is_neutral_and_the_profile_names_who_goes():
    x, d, m = study(7, slope=2.0)
    assert trim_mask(m, 0.0).all()
    assert trimming_check("w", d, m, 0.0, {"x": x}).passed is True
    found = trimming_check("w", d, m, 0.1, {"x": x})
    keep = trim_mask(m, 0.1)
    assert found.passed is False
    assert f"drops {int((~keep & (d == 1)).sum())} treated" in found.text
    assert found.table["mean_dropped"][0] == pytest.approx(x[~keep].mean())
    with pytest.raises(OptionError, match=r"trim=0\.6"):
        trim_mask(m, 0.6)
    with pytest.raises(DataError, match="not inside"):
        crump_threshold(np.array([0.0, 0.5]))
