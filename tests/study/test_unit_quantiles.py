"""Quantiles of units: every rule against NumPy, expanded samples, brute force and exact order statistics."""

import itertools
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat.errors import DataError, OptionError, SmallUnitsWarning
from causalsat.study import unit_quantiles as unit_quantiles_module
from causalsat.study.distributions import Histogram, QuantileMatrix
from causalsat.study.unit_draws import binned_draws, grouped_draws, matrix_draws, ragged_draws
from causalsat.study.unit_functionals import (
    matrix_as_draws,
    matrix_levels,
    matrix_means,
    unit_functional,
    unit_means,
)
from causalsat.study.unit_quantiles import (
    cell_weights,
    expected_attenuation,
    half_coefficients,
    quantile_levels,
    sampling_variance,
    unit_quantiles,
    warn_small_units,
    weighted_quantiles,
)

LEVELS = np.arange(1, 20) / 20
NUMPY = {"type7": "linear", "type8": "median_unbiased", "type9": "normal_unbiased"}
# Expected relative error in per cent for normal draws at q = .05, .10, .25: type 7, 8, 9 and the jackknife.
ATTENUATION = {
    5: [(-37.4, -29.3, -29.3, -16.3), (-30.1, -9.3, -9.3, -7.0), (-26.6, 6.4, 4.3, -5.6)],
    10: [(-21.2, -6.5, -6.5, -4.9), (-17.7, 4.7, 3.3, -5.2), (-13.1, 1.5, 0.5, 0.4)],
    20: [(-13.0, 3.7, 2.7, -4.9), (-9.6, 1.9, 1.2, -1.5), (-6.7, 0.9, 0.5, -0.3)],
    30: [(-8.6, 2.1, 1.1, -2.0), (-6.6, 1.2, 0.7, -1.2), (-4.6, 0.5, 0.2, -0.3)],
    50: [(-5.5, 1.1, 0.6, -0.5), (-4.0, 0.6, 0.3, -0.5), (-2.8, 0.3, 0.1, 0.0)],
    100: [(-3.0, 0.5, 0.3, -0.4), (-2.1, 0.3, 0.2, -0.1), (-1.4, 0.2, 0.1, 0.0)],
}


def parts_of(seed=0, n=40, low=1, high=60):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=rng.integers(low, high)) for _ in range(n)]


@pytest.mark.parametrize("rule", sorted(NUMPY))
def test_rules_agree_with_numpy(rule):
    parts = parts_of()
    found = unit_quantiles(ragged_draws(parts)[0], LEVELS, rule=rule)
    expected = np.array([np.quantile(part, LEVELS, method=NUMPY[rule]) for part in parts])
    np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("n", sorted(ATTENUATION))
def test_attenuation_of_normal_draws(n):
    for q, row in zip((0.05, 0.10, 0.25), ATTENUATION[n]):
        found = [100 * expected_attenuation(n, np.array([q]), rule=rule)[0] for rule in ("type7", "type8", "type9")]
        found.append(100 * expected_attenuation(n, np.array([q]), small_sample="half")[0])
        np.testing.assert_allclose(found, row, atol=0.0501)


def test_attenuation_is_what_simulation_shows():
    draws = matrix_draws(np.random.default_rng(1).normal(size=(100_000, 10)))[0]
    q = np.array([0.1])
    for small_sample in (None, "half"):
        mean = unit_quantiles(draws, q, small_sample=small_sample).mean()
        expected = expected_attenuation(10, q, small_sample=small_sample)[0]
        assert mean / -1.2815515655446004 - 1 == pytest.approx(expected, abs=0.006)


def test_attenuation_at_the_median_is_unknown():
    assert np.isnan(expected_attenuation(10, np.array([0.5]))).all()


def test_equal_weights_are_type_7_exactly():
    parts = parts_of(2)
    plain = unit_quantiles(ragged_draws(parts)[0], LEVELS)
    for weight in (1.0, 0.1, 7.3):
        own = ragged_draws(parts, [np.full(part.size, weight) for part in parts])[0]
        assert (unit_quantiles(own, LEVELS) == plain).all()


@pytest.mark.parametrize("rule", ["type8", "type9"])
def test_equal_weights_are_types_8_and_9(rule):
    parts = parts_of(3)
    own = ragged_draws(parts, [np.full(part.size, 0.3) for part in parts])[0]
    plain = unit_quantiles(ragged_draws(parts)[0], LEVELS, rule=rule)
    np.testing.assert_allclose(unit_quantiles(own, LEVELS, rule=rule), plain, atol=1e-12)


def test_weighted_type_7_by_hand():
    values, weights = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.0, 1.0, 5.0])
    # Weights rescaled to .5 .5 .5 2.5 cumulate to .5 1 1.5 4; at q = .5 the position is 2.5, between two fours, at
    # q = .1 it is 1.3: order statistic 1 is the two, order statistic 2 the four.
    np.testing.assert_allclose(weighted_quantiles(values, weights, np.array([0.1, 0.5])), [2.0 + 0.3 * 2.0, 4.0])


def test_weighted_plotting_positions_by_hand():
    values, weights = np.array([0.0, 1.0]), np.array([1.0, 3.0])
    effective, alpha = 16 / 10, 1 / 3
    at = (effective * np.array([0.125, 0.625]) + 0.5 - alpha) / (effective + 1 - 2 * alpha)
    q = np.array([0.1, 0.3, 0.5, 0.9])
    np.testing.assert_allclose(weighted_quantiles(values, weights, q, rule="type8"), np.interp(q, at, values))


@pytest.mark.parametrize("rule", sorted(NUMPY))
def test_counts_are_the_expanded_sample(rule):
    rng = np.random.default_rng(4)
    values = np.sort(rng.normal(size=12))
    counts = rng.integers(0, 6, size=(15, 12)).astype(float)
    counts[:, 0] += 1
    found = unit_quantiles(binned_draws(values, counts), LEVELS, rule=rule)
    expanded = ragged_draws([np.repeat(values, row.astype(int)) for row in counts])[0]
    np.testing.assert_allclose(found, unit_quantiles(expanded, LEVELS, rule=rule), atol=1e-12)


def test_splitting_a_count_changes_nothing():
    values, counts = np.array([3.0, 1.0, 2.0]), np.array([4.0, 2.0, 5.0])
    unit = np.zeros(3, int)
    whole = grouped_draws(values, unit, 1, counts, counts=True)[0]
    split = grouped_draws(np.tile(values, 2), np.zeros(6, int), 1, np.tile(counts / 2, 2), counts=True)[0]
    np.testing.assert_array_equal(unit_quantiles(whole, LEVELS), unit_quantiles(split, LEVELS))
    assert split.totals.tolist() == [11.0]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 9])
def test_half_is_the_jackknife_over_all_subsets(n):
    z = np.random.default_rng(n).normal(size=n)
    found = unit_quantiles(ragged_draws([z])[0], LEVELS, small_sample="half")[0]
    k = n // 2
    own = np.quantile(z, LEVELS)
    if k:
        mean = np.mean([np.quantile(z[list(s)], LEVELS) for s in itertools.combinations(range(n), k)], axis=0)
        own = (n * own - k * mean) / (n - k)
    np.testing.assert_allclose(found, own, atol=1e-12)


@pytest.mark.parametrize("n", [50, 1001, 4000])
def test_half_coefficients_of_large_units(n):
    table, sums = half_coefficients(n, np.array([0.01, 0.5, 0.9]))
    np.testing.assert_allclose(sums, 1.0, atol=1e-9)
    np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-10)


def test_half_of_whole_counts_expands_them():
    values, counts = np.array([1.0, 2.0, 5.0]), np.array([[3.0, 0.0, 2.0]])
    found = unit_quantiles(binned_draws(values, counts), LEVELS, small_sample="half")
    expanded = ragged_draws([np.array([1.0, 1.0, 1.0, 5.0, 5.0])])[0]
    np.testing.assert_allclose(found, unit_quantiles(expanded, LEVELS, small_sample="half"), atol=1e-12)
    with pytest.raises(DataError, match="whole counts"):
        unit_quantiles(binned_draws(values, counts / 2), LEVELS, small_sample="half")


def test_half_is_refused_where_it_is_undefined():
    draws = ragged_draws([np.arange(5.0)], [np.arange(1.0, 6.0)])[0]
    with pytest.raises(OptionError, match="count alike"):
        unit_quantiles(draws, LEVELS, small_sample="half")
    with pytest.raises(OptionError, match='corrects quantile_rule="type7"'):
        unit_quantiles(draws, LEVELS, rule="type9", small_sample="half")
    with pytest.raises(OptionError, match='Did you mean "type7"'):
        unit_quantiles(draws, LEVELS, rule="typ7")


def test_shapes_agree():
    parts = parts_of(5)
    matrix = np.full((len(parts), 60), np.nan)
    for i, part in enumerate(parts):
        matrix[i, 60 - part.size :] = part
    unit = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    shuffle = np.random.default_rng(0).permutation(unit.size)
    long = grouped_draws(np.concatenate(parts)[shuffle], unit[shuffle], len(parts))[0]
    for rule in NUMPY:
        first = unit_quantiles(ragged_draws(parts)[0], LEVELS, rule=rule)
        for other in (long, matrix_draws(matrix)[0]):
            np.testing.assert_allclose(unit_quantiles(other, LEVELS, rule=rule), first, atol=1e-12)
    np.testing.assert_allclose(unit_means(long), [part.mean() for part in parts], atol=1e-12)


def test_histogram_of_integers_is_exact():
    rng = np.random.default_rng(6)
    whole = rng.integers(0, 9, size=(30, 200))
    counts = np.stack([np.bincount(row, minlength=9) for row in whole])
    binned = Histogram(np.arange(10) - 0.5, counts)
    draws, bins = matrix_draws(whole)[0], binned_draws(binned.centres, binned.counts)
    for rule in NUMPY:
        np.testing.assert_allclose(
            unit_quantiles(bins, LEVELS, rule=rule), unit_quantiles(draws, LEVELS, rule=rule), atol=1e-12
        )
    for name, arguments in (("mean", ()), ("variance", ()), ("gini", ()), ("exceed", (4.0,)), ("lorenz", (0.3,))):
        np.testing.assert_allclose(
            unit_functional(bins, name, *arguments), unit_functional(draws, name, *arguments), atol=1e-12
        )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 200))
def test_blocks_change_nothing(sizes, elements):
    rng = np.random.default_rng(sum(sizes))
    draws = ragged_draws([rng.normal(size=size) for size in sizes])[0]
    covered = [row for block in draws.blocks(elements) for row in block.rows.tolist()]
    assert sorted(covered) == np.flatnonzero(draws.sizes).tolist()
    for block in draws.blocks(elements):
        assert block.values.size <= max(elements, block.values.shape[1])
        for row, values, size in zip(block.rows, block.values, block.sizes):
            start = draws.starts[row]
            assert values[:size].tolist() == sorted(draws.values[start : start + size].tolist())


def test_streaming_equals_whole(monkeypatch):
    values = np.random.default_rng(7).normal(size=(300, 50)).astype(np.float32)
    whole = unit_quantiles(matrix_draws(values)[0], LEVELS)
    monkeypatch.setattr("causalsat.study.unit_draws._BLOCK", 512)
    draws = matrix_draws(values)[0]
    monkeypatch.setattr(type(draws).blocks, "__defaults__", (512,))
    assert len(list(draws.blocks())) == 30
    assert (unit_quantiles(draws, LEVELS) == whole).all()
    assert whole.dtype == np.float64


def test_memory_is_a_few_blocks_and_the_matrix(tmp_path):
    n, k = 20_000, 1_000
    values = np.lib.format.open_memmap(tmp_path / "draws.npy", mode="w+", dtype=np.float32, shape=(n, k))
    rng = np.random.default_rng(8)
    for first in range(0, n, 1000):
        values[first : first + 1000] = rng.standard_normal((1000, k), dtype=np.float32)
    levels = np.arange(1, 100) / 100
    tracemalloc.start()
    start = time.perf_counter()
    found = unit_quantiles(matrix_draws(values)[0], levels)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (n, 99)
    # 80 MB of draws; the matrix of quantiles holds 16 MB and a block 17 MB.
    assert peak < 16e6 + 4 * 17e6
    assert seconds < 10.0


def test_sorting_500_by_500_takes_milliseconds():
    draws = matrix_draws(np.random.default_rng(9).normal(size=(500, 500)))[0]
    levels = np.arange(1, 100) / 100
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        unit_quantiles(draws, levels)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1


def test_units_without_draws_are_missing():
    draws = ragged_draws([np.array([1.0, 2.0]), np.zeros(0), np.array([np.nan])])
    assert draws[1] == 1
    assert np.isnan(unit_quantiles(draws[0], LEVELS)).all(axis=1).tolist() == [False, True, True]
    assert np.isnan(unit_means(draws[0])).tolist() == [False, True, True]


def test_draws_that_cannot_be_used():
    with pytest.raises(DataError, match=r"infinite in 1 draws \(first: draw 1\)"):
        ragged_draws([np.array([1.0, np.inf])])
    with pytest.raises(DataError, match="infinite"):
        matrix_draws(np.array([[1.0, -np.inf]]))
    with pytest.raises(DataError, match="hold -1"):
        ragged_draws([np.array([1.0, 2.0])], [np.array([1.0, -1.0])])
    with pytest.raises(DataError, match="hold inf"):
        matrix_draws(np.ones((1, 2)), np.array([[1.0, np.inf]]))
    with pytest.raises(DataError, match="weights of unit 0 have 1 values and its draws 2"):
        ragged_draws([np.array([1.0, 2.0])], [np.array([1.0])])
    with pytest.raises(DataError, match="shape"):
        matrix_draws(np.ones(3))


def test_quantile_matrix_is_checked():
    q = np.array([0.25, 0.5, 0.75])
    with pytest.raises(DataError, match=r"row 1 decreases at level 0\.75 \(3 before, 2 there; 1 such rows\)"):
        QuantileMatrix(np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]]), q)
    with pytest.raises(DataError, match="row 0 holds infinite values or NaN"):
        QuantileMatrix(np.array([[1.0, np.nan, 3.0]]), q)
    with pytest.raises(DataError, match=r"\(1, 2\) and quantiles \(3,\)"):
        QuantileMatrix(np.ones((1, 2)), q)
    with pytest.raises(DataError, match="strictly increasing"):
        QuantileMatrix(np.ones((1, 3)), q[::-1])
    assert repr(QuantileMatrix(np.ones((2, 3)), q)) == "QuantileMatrix(2 units, 3 levels)"


def test_histogram_is_checked():
    with pytest.raises(DataError, match="give \\(n, k\\) and \\(k \\+ 1,\\)"):
        Histogram(np.array([0.0, 1.0]), np.ones((2, 2)))
    with pytest.raises(DataError, match="counts of row 1 are negative"):
        Histogram(np.array([0.0, 1.0]), np.array([[1.0], [-1.0]]))
    with pytest.raises(DataError, match="strictly increasing"):
        Histogram(np.array([1.0, 0.0]), np.ones((2, 1)))


def test_levels_beyond_the_smallest_units_are_left_off():
    with pytest.warns(SmallUnitsWarning, match="81 of 99 levels stay .* 100 of 100 units have at most 9 draws"):
        levels, off = quantile_levels(99, np.full(100, 9))
    np.testing.assert_allclose(levels, np.arange(10, 91) / 100)
    assert off.size == 18
    assert quantile_levels(99, np.ones(5))[0].tolist() == [0.5]
    assert quantile_levels(20, np.ones(5))[0].tolist() == [0.5]
    assert quantile_levels([0.01, 0.99], np.ones(5))[0].tolist() == [0.01, 0.99]
    assert quantile_levels(99, np.full(5, 1000))[1].size == 0


def test_a_grid_cut_to_the_median_is_told_and_so_is_the_bias_of_the_median():
    sizes = np.where(np.arange(600) % 10 == 0, 1, 6)
    told = r"quantiles=99: 1 of 99 levels stay \(q=0.5 alone\), because 60 of 600 units .*least 1, median 6"
    with pytest.warns(SmallUnitsWarning, match=told):
        levels, off = quantile_levels(99, sizes)
    assert levels.tolist() == [0.5] and off.size == 98
    with pytest.warns(SmallUnitsWarning, match=r"600 of 600 .* median of 6 exponential draws is \+13\.0% off"):
        assert warn_small_units(sizes, levels)


def test_bias_of_the_median_of_exponential_draws():
    rng = np.random.default_rng(3)
    for n in (1, 2, 6, 7):
        simulated = np.median(rng.exponential(size=(200_000, n)), axis=1).mean() / np.log(2.0) - 1.0
        assert unit_quantiles_module._exponential_median(n) == pytest.approx(simulated, abs=0.01)


@pytest.mark.parametrize("bad", [[0.5, 0.5], [0.0, 0.5], [], [[0.5]], "half"])
def test_bad_levels(bad):
    with pytest.raises(OptionError, match="quantiles="):
        quantile_levels(bad, np.ones(3))


def test_cells_on_even_and_uneven_grids():
    np.testing.assert_allclose(cell_weights(np.arange(1, 10) / 10), 0.1)
    np.testing.assert_allclose(cell_weights(np.array([0.1, 0.2, 0.5, 0.9])), [0.1, 0.2, 0.35, 0.4])
    assert cell_weights(np.array([0.3])).tolist() == [1.0]


def test_small_units_are_warned_of():
    levels = np.array([0.05, 0.5, 0.9])
    with pytest.warns(SmallUnitsWarning, match=r"1 of 2 units .* \(least 10\).* q=0\.05 .* attenuated by 21\.2 %"):
        assert warn_small_units(np.array([10, 80]), levels)
    with pytest.warns(SmallUnitsWarning, match="one draw"):
        assert warn_small_units(np.array([1, 1]), np.array([0.5]))
    assert not warn_small_units(np.array([10]), levels, rule="type9")
    assert not warn_small_units(np.array([10]), levels, small_sample="half")
    assert not warn_small_units(np.array([50]), levels)


def test_sampling_variance_is_near_the_truth():
    draws = matrix_draws(np.random.default_rng(10).normal(size=(2000, 400)))[0]
    q = np.array([0.1, 0.5, 0.8])
    actual = unit_quantiles(draws, q).var(axis=0)
    np.testing.assert_allclose(sampling_variance(draws, q).mean(axis=0) / actual, 1.0, atol=0.15)
    assert np.isnan(sampling_variance(ragged_draws([np.ones(1)])[0], q)).all()


def test_functionals_by_their_definitions():
    z, w = np.array([1.0, 2.0, 2.0, 7.0]), np.array([1.0, 2.0, 1.0, 4.0])
    draws = ragged_draws([z], [w])[0]
    p = w / w.sum()
    mean = p @ z
    gini = (p[:, None] * p[None, :] * np.abs(z[:, None] - z[None, :])).sum() / (2 * mean)
    expected = {
        ("mean",): mean, ("variance",): p @ (z - mean) ** 2, ("gini",): gini, ("exceed", 2.0): 0.5,
        ("exceed", 1.5): 0.875, ("lorenz", 0.5): (0.125 * 1 + 0.375 * 2) / mean,
        ("share_top", 0.25): 0.25 * 7 / mean, ("share_bottom", 0.125): 0.125 / mean,
    }  # fmt: skip
    for call, value in expected.items():
        assert unit_functional(draws, *call)[0] == pytest.approx(value, abs=1e-12)
    assert unit_functional(draws, "sd")[0] ** 2 == pytest.approx(unit_functional(draws, "variance")[0])
    ends = unit_quantiles(draws, np.array([0.25, 0.75]))[0]
    assert unit_functional(draws, "iqr")[0] == ends[1] - ends[0]
    assert unit_functional(draws, "range", 0.25, 0.75)[0] == ends[1] - ends[0]


def test_inequality_needs_positive_draws():
    draws = ragged_draws([np.array([-1.0, 5.0]), np.array([0.0, 0.0]), np.array([2.0, 2.0])])[0]
    assert np.isnan(unit_functional(draws, "gini")).tolist() == [True, True, False]
    assert unit_functional(draws, "gini")[2] == 0.0


def test_unknown_functionals():
    draws = ragged_draws([np.ones(2)])[0]
    with pytest.raises(OptionError, match='Did you mean "gini"'):
        unit_functional(draws, "ginni")
    with pytest.raises(OptionError, match="takes 1 numbers; 0 were given"):
        unit_functional(draws, "exceed")
    with pytest.raises(OptionError, match="must be a number in"):
        unit_functional(draws, "lorenz", 1.5)


def test_functionals_of_given_quantiles():
    levels = np.arange(1, 100) / 100
    matrix = QuantileMatrix(np.stack([levels, 2 * levels]), levels)
    np.testing.assert_allclose(matrix_means(matrix), [0.5, 1.0], atol=1e-12)
    np.testing.assert_allclose(matrix_levels(matrix, np.array([0.125, 0.001])), [[0.125, 0.01], [0.25, 0.02]])
    np.testing.assert_allclose(unit_functional(matrix_as_draws(matrix), "gini"), 1 / 3, atol=2e-3)
    given = QuantileMatrix(matrix.values, levels, means=np.array([3.0, 4.0]))
    assert matrix_means(given).tolist() == [3.0, 4.0]


@pytest.mark.parametrize("rule", sorted(NUMPY))
def test_order_of_draws_changes_nothing_among_ties(rule):
    rng = np.random.default_rng(11)
    z, w = rng.integers(0, 4, 30).astype(float), rng.uniform(0.1, 3, 30)
    shuffle = rng.permutation(30)
    a, b = ragged_draws([z], [w])[0], ragged_draws([z[shuffle]], [w[shuffle]])[0]
    np.testing.assert_allclose(unit_quantiles(a, LEVELS, rule=rule), unit_quantiles(b, LEVELS, rule=rule), atol=1e-9)


def test_shares_need_no_order():
    draws = matrix_draws(np.array([[3.0, 1.0, 2.0], [5.0, np.nan, 1.0]]))[0]
    assert unit_functional(draws, "exceed", 1.5).tolist() == [2 / 3, 0.5]
    np.testing.assert_allclose(unit_functional(draws, "variance"), [2 / 3, 4.0])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.sampled_from(sorted(NUMPY)),
    st.sampled_from(["plain", "weights", "counts"]),
)
def test_quantiles_never_fall(seed, n, rule, kind):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n).round(2) / 3
    w = None if kind == "plain" else rng.integers(1, 4, n) * (0.1 if kind == "weights" else 1.0)
    draws = grouped_draws(z, np.zeros(n, int), 1, w, counts=kind == "counts")[0]
    found = unit_quantiles(draws, np.linspace(0.001, 0.999, 499), rule=rule)[0]
    assert (np.diff(found) >= 0.0).all()
    assert found.min() >= z.min()
    assert found.max() <= z.max()


def rule_as_written(z, w, q):
    """Weighted type 7 one level at a time, from its description."""
    order = np.argsort(z)
    z, w = z[order][w[order] > 0], w[order][w[order] > 0]
    n = z.size
    reached = np.cumsum(w * n / w.sum())
    t = 1 + (n - 1) * q
    low = np.floor(t + 1e-12)
    first, second = (z[np.argmax(reached >= min(level, n) - 1e-9 * n)] for level in (low, low + 1))
    return first + (t - low) * (second - first)


def test_weighted_type_7_is_the_rule_as_written():
    rng = np.random.default_rng(12)
    for _ in range(300):
        n = rng.integers(1, 30)
        z, w = rng.normal(size=n), rng.choice([0, 0.2, 0.5, 1, 2.5], n)
        w[0] = 1.0
        q = np.sort(rng.uniform(0.001, 0.999, 5))
        found = unit_quantiles(ragged_draws([z], [w])[0], q)[0]
        np.testing.assert_allclose(found, [rule_as_written(z, w, level) for level in q], atol=1e-12)
