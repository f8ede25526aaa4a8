"""Cell means of quantile functions: exact for draws, weights, counts and given quantiles; the jackknife of them."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy import stats

from causalsat.study.distributions import QuantileMatrix
from causalsat.study.unit_cells import cell_means, half_cells, matrix_cell_means
from causalsat.study.unit_draws import binned_draws, matrix_draws, ragged_draws
from causalsat.study.unit_functionals import unit_functional, unit_means

EDGES = np.arange(201) / 200.0
WIDTHS = np.diff(EDGES)


def stepped(values, shares, edges):
    """Cell means of a discrete distribution by brute force over pieces between all jumps and edges."""
    upper = np.cumsum(shares) / np.sum(shares)
    knots = np.union1d(edges, np.clip(upper, 0.0, 1.0))
    middle = 0.5 * (knots[1:] + knots[:-1])
    own = values[np.minimum(np.searchsorted(upper, middle), len(values) - 1)]
    return np.array(
        [(own * np.diff(knots))[(middle > low) & (middle < high)].sum() / (high - low) for low, high in pairwise(edges)]
    )


def test_cells_of_draws_of_all_sizes():
    rng = np.random.default_rng(0)
    parts = [rng.exponential(2.0, n) for n in (1, 2, 7, 200, 333, 1000)]
    draws = ragged_draws(parts)[0]
    found = cell_means(draws, EDGES)
    for i, part in enumerate(parts):
        np.testing.assert_allclose(found.means[i], stepped(np.sort(part), np.ones(part.size), EDGES), rtol=1e-10)
    np.testing.assert_allclose(found.means @ WIDTHS, unit_means(draws), rtol=1e-12)
    np.testing.assert_allclose(found.variance, unit_functional(draws, "variance"), rtol=1e-12)
    assert (np.diff(found.means, axis=1) > -1e-12).all()
    assert ((found.within(WIDTHS) == 0.0) == [True, True, False, True, False, False]).all()


def test_cells_of_units_of_one_size():
    for n in (1, 3, 200, 501, 5000):
        z = np.random.default_rng(n).exponential(2.0, (3, n)).astype(np.float32)
        z[1] = 4.0
        found = cell_means(matrix_draws(z)[0], EDGES)
        for i in range(3):
            expected = stepped(np.sort(z[i].astype(np.float64)), np.ones(n), EDGES)
            np.testing.assert_allclose(found.means[i], expected, rtol=1e-9)
        np.testing.assert_allclose(found.variance, z.astype(np.float64).var(axis=1), rtol=1e-10, atol=1e-12)


def test_cells_of_weighted_draws_and_of_counts():
    rng = np.random.default_rng(1)
    values, weights = rng.standard_normal((5, 60)), rng.uniform(0.0, 2.0, (5, 60))
    weights[weights < 0.4] = 0.0
    found = cell_means(matrix_draws(values, weights)[0], EDGES)
    for i in range(5):
        order = np.argsort(values[i])
        np.testing.assert_allclose(found.means[i], stepped(values[i, order], weights[i, order], EDGES), atol=1e-10)
    counts = rng.poisson(3.0, (4, 30)).astype(float)
    expanded = ragged_draws([np.repeat(np.arange(30.0), row.astype(int)) for row in counts])[0]
    binned = binned_draws(np.arange(30.0), counts)
    for small_sample in (None, "half"):
        first, second = (cell_means(d, EDGES, small_sample=small_sample) for d in (expanded, binned))
        np.testing.assert_allclose(second.means, first.means, atol=1e-10)
        np.testing.assert_allclose(second.variance, first.variance, rtol=1e-10)


def test_distance_from_zero_costs_no_digits():
    rng = np.random.default_rng(2)
    z = np.sort(rng.standard_normal((3, 500)), axis=1)
    near, far = cell_means(matrix_draws(z)[0], EDGES), cell_means(matrix_draws(z + 1e8)[0], EDGES)
    np.testing.assert_allclose(far.means - 1e8, near.means, atol=1e-7)
    np.testing.assert_allclose(far.within(WIDTHS), near.within(WIDTHS), atol=1e-9)


def test_blocks_and_order_leave_no_trace(monkeypatch):
    from causalsat.study import unit_draws

    rng = np.random.default_rng(3)
    parts = [rng.standard_normal(n) for n in rng.integers(1, 300, 50)]
    whole = cell_means(ragged_draws(parts)[0], EDGES)
    monkeypatch.setattr(unit_draws.UnitDraws.blocks, "__defaults__", (1000,))
    again = cell_means(ragged_draws([p[::-1] for p in parts])[0], EDGES)
    np.testing.assert_allclose(again.means, whole.means, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_jackknife_of_cells_is_that_over_all_subsets(n):
    z = np.sort(np.random.default_rng(n).exponential(1.0, n))
    edges = np.array([0.0, 0.1, 0.35, 0.8, 1.0])
    whole, k = stepped(z, np.ones(n), edges), n // 2
    expected = whole
    if k:
        half = np.mean([stepped(z[list(own)], np.ones(k), edges) for own in combinations(range(n), k)], axis=0)
        expected = (n * whole - k * half) / (n - k)
    np.testing.assert_allclose(half_cells(n, edges) @ z, expected, atol=1e-12)
    found = cell_means(matrix_draws(z[None])[0], edges, small_sample="half")
    np.testing.assert_allclose(found.means[0], expected, atol=1e-12)


@pytest.mark.parametrize("n", [20, 400])
def test_jackknife_of_cells_corrects_the_variance_of_the_average(n):
    z = np.random.default_rng(4).standard_normal((4000, n))
    plain, half = (cell_means(matrix_draws(z)[0], EDGES, small_sample=s).means.mean(axis=0) for s in (None, "half"))
    short, corrected = (abs(1.0 - ((m - m.mean()) ** 2).mean()) for m in (plain, half))
    assert corrected < 0.5 * short


@pytest.mark.parametrize("n", [99, 101, 150, 400])
def test_spread_within_cells_is_that_of_the_draws_under_the_jackknife(n):
    z = np.random.default_rng(n).lognormal(size=(50, n))
    plain, half = (cell_means(matrix_draws(z)[0], EDGES, small_sample=s) for s in (None, "half"))
    assert (plain.within(WIDTHS) > 0.0).all() and plain.plain is None
    np.testing.assert_array_equal(half.within(WIDTHS), plain.within(WIDTHS))
    assert not np.allclose(half.means, plain.means)
    coarse = EDGES[::2]
    first, second = (cells.merged(EDGES, coarse) for cells in (plain, half))
    np.testing.assert_array_equal(second.within(np.diff(coarse)), first.within(np.diff(coarse)))


def test_cells_of_given_quantiles_integrate_the_line_between_them():
    levels = np.array([0.103, 0.25, 0.5, 0.9])
    values = np.array([[0.0, 1.0, 1.5, 7.0], [2.0, 2.0, 2.0, 2.0]])
    found = matrix_cell_means(QuantileMatrix(values, levels), EDGES)
    fine = (np.arange(2_000_000) + 0.5) / 2_000_000
    for i in range(2):
        curve = np.interp(fine, levels, values[i])
        np.testing.assert_allclose(found.means[i], curve.reshape(200, -1).mean(axis=1), atol=1e-7)
        assert found.variance[i] == pytest.approx(curve.var(), abs=1e-9)
    single = matrix_cell_means(QuantileMatrix(np.array([[3.0]]), np.array([0.5])), EDGES)
    np.testing.assert_allclose(single.means, 3.0)
    assert single.variance[0] == 0.0


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5])
def test_cells_of_a_lognormal(sigma):
    # A million quantiles at midpoints stand for the quantile function itself.
    n = 1_000_000
    z = np.exp(sigma * stats.norm.ppf((np.arange(n) + 0.5) / n))[None]
    cells = cell_means(matrix_draws(z)[0], EDGES)
    lorenz = stats.norm.cdf(stats.norm.ppf(EDGES) - sigma) * math.exp(sigma**2 / 2)
    np.testing.assert_allclose(cells.means[0], np.diff(lorenz) / WIDTHS, rtol=4e-3)
    np.testing.assert_allclose(cells.means[0, :-1], (np.diff(lorenz) / WIDTHS)[:-1], rtol=1e-4)
    between = ((cells.means[0] - z.mean()) ** 2).mean()
    assert between + cells.within(WIDTHS)[0] == pytest.approx(z.var(), rel=1e-12)
