"""Intervals: closed forms, scipy on the same draws, duality with p-values, metamorphic properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalsat.errors import DataError, OptionError
from causalsat.inference.intervals import INTERVALS, acceleration, draws_needed, interval, tail_rank

B = 999
BOOTSTRAP = tuple(kind for kind in INTERVALS if kind != "normal")


def sample(seed=0, b=B, k=1, skew=1.0):
    g = np.random.default_rng(seed)
    estimate = g.normal(size=k)
    draws = estimate + skew * (g.exponential(size=(b, k)) - 1.0) + g.normal(size=(b, k))
    inner = 0.8 + 0.4 * g.random((b, k))
    return estimate, np.full(k, 1.3), draws, inner


def make(kind, level=0.95, null=0.0, seed=0, b=B, k=1, a=0.05):
    estimate, se, draws, inner = sample(seed, b, k)
    return interval(
        kind, estimate, se, level=level, draws=draws, acceleration=np.full(k, a), draw_std_error=inner, null=null
    )


def test_ranks_are_25_and_975_at_999_draws():
    assert tail_rank(999, (1 - 0.95) / 2) == 25
    draws = np.arange(1.0, 1000.0)[:, None]
    out = interval("percentile", np.array([500.0]), np.array([1.0]), level=0.95, draws=draws)
    assert (out.low[0], out.high[0]) == (25.0, 975.0)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95, 0.99])
def test_too_few_draws_name_the_number_needed(level):
    needed = draws_needed(level)
    assert make("percentile", level, b=needed).low.shape == (1,)
    with pytest.raises(OptionError, match=f"at least {needed} bootstrap draws"):
        make("percentile", level, b=needed - 1)


def test_normal_law_and_t_law():
    estimate, se = np.array([1.0, -2.0]), np.array([0.5, 1.0])
    out = interval("normal", estimate, se, level=0.9, df=np.array([math.inf, 5.0]))
    np.testing.assert_allclose(out.high - estimate, se * [stats.norm.ppf(0.95), stats.t.ppf(0.95, 5)], rtol=1e-12)
    np.testing.assert_allclose(out.p_value, [2 * stats.norm.sf(2.0), 2 * stats.t.sf(2.0, 5)], rtol=1e-12)


@pytest.mark.parametrize(
    ("estimate", "se", "reason"), [(np.nan, 1.0, "estimate"), (1.0, np.nan, "not available"), (1.0, 0.0, "zero")]
)
def test_normal_reasons_instead_of_infinities(estimate, se, reason):
    out = interval("normal", np.array([estimate]), np.array([se]), level=0.95)
    assert np.isnan([out.low[0], out.high[0], out.p_value[0]]).all()
    assert reason in out.unavailable[0]


@pytest.mark.parametrize("kind", BOOTSTRAP)
@given(seed=st.integers(0, 10_000), level=st.sampled_from([0.8, 0.9, 0.95, 0.98]))
@settings(max_examples=25, deadline=None)
def test_p_value_inverts_the_interval(kind, seed, level):
    g = np.random.default_rng(seed)
    null = sample(seed)[0][0] + g.normal() * 2.0
    out = make(kind, level, null=null, seed=seed)
    outside = null < out.low[0] or null > out.high[0]
    assert outside == (out.p_value[0] <= (1 - level) * (1 + 1e-9))


@pytest.mark.parametrize("kind", INTERVALS)
def test_intervals_nest_in_the_level(kind):
    narrow, wide = make(kind, 0.8), make(kind, 0.95)
    assert wide.low[0] <= narrow.low[0] <= narrow.high[0] <= wide.high[0]


@pytest.mark.parametrize("kind", INTERVALS)
def test_sign_flip_swaps_bounds(kind):
    estimate, se, draws, inner = sample(3)
    a = np.array([0.05])
    one = interval(kind, estimate, se, level=0.9, draws=draws, acceleration=a, draw_std_error=inner)
    two = interval(kind, -estimate, se, level=0.9, draws=-draws, acceleration=-a, draw_std_error=inner)
    np.testing.assert_allclose([two.low[0], two.high[0]], [-one.high[0], -one.low[0]], rtol=1e-12)
    np.testing.assert_allclose(two.p_value, one.p_value, rtol=1e-9)


@pytest.mark.parametrize("kind", INTERVALS)
def test_shift_and_scale(kind):
    estimate, se, draws, inner = sample(4)
    a = np.array([0.05])
    one = interval(kind, estimate, se, level=0.9, draws=draws, acceleration=a, draw_std_error=inner, null=0.3)
    two = interval(
        kind,
        2 * estimate + 1,
        2 * se,
        level=0.9,
        draws=2 * draws + 1,
        acceleration=a,
        draw_std_error=2 * inner,
        null=1.6,
    )
    np.testing.assert_allclose([two.low, two.high], [2 * one.low + 1, 2 * one.high + 1], rtol=1e-10)
    np.testing.assert_allclose(two.p_value, one.p_value, atol=2.1 / B)


def test_percentile_follows_monotone_maps():
    estimate, se, draws, _ = sample(5)
    one = interval("percentile", estimate, se, level=0.9, draws=draws)
    two = interval("percentile", np.exp(estimate), se, level=0.9, draws=np.exp(draws))
    np.testing.assert_allclose([two.low, two.high], np.exp([one.low, one.high]), rtol=1e-12)


def test_bca_is_percentile_without_bias_and_acceleration():
    g = np.random.default_rng(0)
    draws = g.normal(size=(B, 1))
    estimate = np.median(draws, axis=0)
    one = interval("bca", estimate, np.ones(1), level=0.95, draws=draws, acceleration=np.zeros(1), null=0.7)
    two = interval("percentile", estimate, np.ones(1), level=0.95, draws=draws, null=0.7)
    np.testing.assert_allclose([one.low, one.high, one.p_value], [two.low, two.high, two.p_value], rtol=1e-9)


@pytest.mark.parametrize(("kind", "method"), [("percentile", "percentile"), ("basic", "basic"), ("bca", "BCa")])
def test_scipy_on_the_same_draws(kind, method):
    """scipy interpolates between order statistics: its limit lies within two ranks of ours."""
    x = np.random.default_rng(1).exponential(size=40)
    peer = stats.bootstrap(
        (x,), np.mean, n_resamples=B, method=method, confidence_level=0.95, rng=np.random.default_rng(2)
    )
    draws = peer.bootstrap_distribution[:, None]
    phi = (x - x.mean())[:, None]
    out = interval(kind, np.array([x.mean()]), np.ones(1), level=0.95, draws=draws, acceleration=acceleration(phi))
    ordered = np.sort(draws[:, 0] if kind != "basic" else 2 * x.mean() - draws[:, 0])
    for ours, theirs in ((out.low[0], peer.confidence_interval.low), (out.high[0], peer.confidence_interval.high)):
        rank = int(np.searchsorted(ordered, ours))
        assert ordered[max(rank - 2, 0)] <= theirs <= ordered[min(rank + 2, B - 1)]


def test_acceleration_is_the_jackknife_one_for_the_mean():
    x = np.random.default_rng(1).exponential(size=40)
    left_out = np.array([np.delete(x, i).mean() for i in range(40)])
    u = left_out.mean() - left_out
    expected = (u**3).sum() / (6 * (u**2).sum() ** 1.5)
    np.testing.assert_allclose(acceleration((x - x.mean())[:, None])[0], expected, rtol=1e-10)


def test_acceleration_sums_within_clusters():
    phi = np.random.default_rng(0).normal(size=(12, 2))
    codes = np.repeat(np.arange(4), 3)
    sums = phi.reshape(4, 3, 2).sum(axis=1)
    np.testing.assert_allclose(acceleration(phi, codes), acceleration(sums), rtol=1e-12)
    assert np.isnan(acceleration(np.zeros((5, 1)))[0])


@pytest.mark.parametrize("kind", BOOTSTRAP)
def test_failed_draws_are_tolerated_to_a_tenth_and_then_withheld(kind):
    estimate, se, draws, inner = sample(6, k=2)
    draws[:60, 0] = np.nan
    draws[:120, 1] = np.nan
    out = interval(kind, estimate, se, level=0.9, draws=draws, acceleration=np.zeros(2), draw_std_error=inner)
    assert np.isfinite(out.low[0])
    assert np.isnan(out.low[1])
    assert "120 of 999 bootstrap draws failed" in out.unavailable[1]


@pytest.mark.parametrize("kind", BOOTSTRAP)
def test_a_row_without_draws_is_not_said_to_have_failed(kind):
    estimate, se, draws, inner = sample(6, k=2)
    draws[:, 1] = np.nan
    out = interval(kind, estimate, se, level=0.9, draws=draws, acceleration=np.zeros(2), draw_std_error=inner)
    assert np.isfinite(out.low[0]) and np.isnan(out.low[1])
    assert "none of the 999 bootstrap draws" in out.unavailable[1]
    assert "without draws" in out.unavailable[1]


def test_bca_says_why_it_is_not_there():
    estimate, se, draws, _ = sample(7)
    out = interval("bca", draws.max(axis=0) + 1.0, se, level=0.9, draws=draws, acceleration=np.zeros(1))
    assert "one side" in out.unavailable[0]
    out = interval("bca", estimate, se, level=0.9, draws=draws, acceleration=np.array([5.0]))
    assert "too large" in out.unavailable[0]


@pytest.mark.parametrize(
    ("kind", "word"), [("bca", "acceleration"), ("studentized", "standard error"), ("basic", "draws")]
)
def test_missing_inputs_are_named(kind, word):
    estimate, se, draws, _ = sample(0)
    with pytest.raises(OptionError, match=word):
        interval(kind, estimate, se, level=0.9, draws=None if kind == "basic" else draws)


def test_wrong_shapes_and_kinds_are_refused():
    estimate, se, draws, _ = sample(0)
    with pytest.raises(OptionError, match='Did you mean "percentile"'):
        interval("percentle", estimate, se, level=0.9, draws=draws)
    with pytest.raises(DataError, match="draws have shape"):
        interval("basic", estimate, se, level=0.9, draws=draws[:, 0])
    with pytest.raises(OptionError, match="level"):
        interval("normal", estimate, se, level=1.0)
