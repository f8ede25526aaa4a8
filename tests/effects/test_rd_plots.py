"""Histogram of the running variable: one width, no bin across the cutoff, every unit once, McCrary's rule."""

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from causalsat.effects.rd_plots import MAX_BINS, plot_running, running_bins

DESIGNS = {
    "normal": lambda rng, n: rng.standard_normal(n) - 0.5,
    "uniform": lambda rng, n: rng.uniform(-1, 3, n),
    "exponential": lambda rng, n: rng.exponential(1.0, n) - 0.7,
    "two modes": lambda rng, n: np.where(rng.random(n) < 0.5, -4.0, 4.0) + rng.standard_normal(n),
}


def check(x, right=None):
    """What must hold of every sample; returns the bins."""
    own = x >= 0 if right is None else right
    bins = running_bins(x, right)
    m = bins.counts.size
    np.testing.assert_allclose(np.diff(bins.edges), bins.width, rtol=1e-9)
    assert bins.edges.size == m + 1 and (bins.edges == 0.0).sum() == 1
    zero = int(np.flatnonzero(bins.edges == 0.0)[0])
    assert bins.counts[:zero].sum() == (~own).sum() and bins.counts[zero:].sum() == own.sum()
    assert bins.edges[0] <= x.min() + 1e-6 * bins.width and x.max() - 1e-6 * bins.width <= bins.edges[-1]
    assert m <= MAX_BINS
    return bins


@pytest.mark.parametrize("n", [50, 400, 10_000])
@pytest.mark.parametrize("design", sorted(DESIGNS))
def test_width_is_mccrarys(design, n):
    x = DESIGNS[design](np.random.default_rng(0), n)
    bins = check(x)
    rule = 2.0 * x.std(ddof=1) * n**-0.5
    doubled = (x.max() - x.min()) / rule > MAX_BINS - 2
    assert bins.width == pytest.approx((2.0 if doubled else 1.0) * rule, rel=1e-12) and doubled <= (n == 10_000)
    assert bins.counts.tolist() == np.histogram(x, bins.edges)[0].tolist()


@seed(0)
@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(-40, -1), min_size=1, max_size=60), st.lists(st.integers(0, 40), min_size=1, max_size=60),
    st.sampled_from([1.0, 0.1, 1e-3, 7.3]), st.sampled_from([0.0, 0.5, 50.3]),
)  # fmt: skip
def test_lattices_fill_every_bin_with_equally_many_values(left, right, step, cutoff):
    shift = 0.5 if cutoff == 0.5 else 0.0
    x = (cutoff + step * (np.array(left + right) + shift)) - cutoff
    own = np.arange(x.size) >= len(left)
    bins = check(x, own)
    if np.unique(np.array(left + right)).size < 0.5 * x.size and np.unique(np.array(left + right)).size > 1:
        gap = step * np.diff(np.unique(np.array(left + right))).min()
        assert bins.width / gap == pytest.approx(round(bins.width / gap), abs=1e-5)


def test_whole_numbers_make_no_comb():
    x = np.random.default_rng(1).integers(-60, 60, 5000).astype(float)
    bins = check(x)
    assert bins.width == 1.0 and bins.counts.min() > 20
    few = check(np.random.default_rng(1).integers(-60, 60, 400).astype(float))
    rule = 2.0 * np.random.default_rng(1).integers(-60, 60, 400).std(ddof=1) / 20.0
    assert few.width == np.ceil(rule)


def test_units_at_the_cutoff_are_counted_on_their_own_side():
    x = np.array([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0])
    up, down = check(x), check(x, x > 0)
    zero = [int(np.flatnonzero(b.edges == 0.0)[0]) for b in (up, down)]
    assert up.counts[zero[0] :].sum() == 4 and down.counts[: zero[1]].sum() == 4
    mirrored = check(-x, -x >= 0)
    assert mirrored.counts.tolist()[::-1] == down.counts.tolist()


def test_an_outlier_widens_the_bins_by_a_power_of_two():
    x = np.append(np.random.default_rng(2).standard_normal(200_000), 5.0e5)
    bins = check(x)
    factor = np.log2(bins.width / (2.0 * x.std(ddof=1) * x.size**-0.5))
    assert factor == pytest.approx(round(factor), abs=1e-9) and factor >= 1


def test_scale_of_the_running_variable_does_not_matter():
    x = np.random.default_rng(3).gamma(3.0, 1.0, 500) - 2.5
    base = check(x)
    for k in (1e-6, 1e6):
        scaled = check(k * x)
        assert scaled.counts.tolist() == base.counts.tolist()
        np.testing.assert_allclose(scaled.edges, k * base.edges, rtol=1e-9)


def test_plot_draws_these_bins_in_the_colour_of_their_side():
    x = np.random.default_rng(4).standard_normal(300)
    bins, ax = running_bins(x), plot_running(x, (0.4, 0.6), "title")
    bars = [p for p in ax.patches if hasattr(p, "get_height") and p.get_height() in bins.counts][: bins.counts.size]
    assert [bar.get_height() for bar in bars] == bins.counts.tolist()
    np.testing.assert_allclose([bar.get_x() for bar in bars], bins.edges[:-1])
    sides = (
        {bar.get_facecolor() for bar in bars if bar.get_x() < 0},
        {b.get_facecolor() for b in bars if b.get_x() >= 0},
    )
    assert len(sides[0]) == len(sides[1]) == 1 and sides[0] != sides[1]
    assert ax.get_ylabel() == f"units per bin of {bins.width:.3g}"


def test_two_units():
    assert check(np.array([-1.0, 2.0])).counts.sum() == 2
