"""Critical values: closed forms, printed values, and the laws behind them."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import ncx2

from causalsat.checks.iv_critical_values import (
    _SIZE_TABLE,
    bias_critical_values,
    effective_critical_values,
    relative_bias,
    size_critical_values,
)


def test_effective_values_with_one_instrument():
    found = effective_critical_values(np.array([[3.7]]))
    assert {share: round(value, 2) for share, value in found.values.items()} == {
        5: 37.42,
        10: 23.11,
        20: 15.06,
        30: 12.05,
    }
    assert found.degrees == {5: 1.0, 10: 1.0, 20: 1.0, 30: 1.0}


def test_effective_values_know_how_concentrated_the_variance_is():
    even, uneven = (
        effective_critical_values(np.eye(5)),
        effective_critical_values(np.diag([1.0, 1e-9, 1e-9, 1e-9, 1e-9])),
    )
    assert even.degrees[10] == pytest.approx(5.0)
    assert uneven.degrees[10] == pytest.approx(1.0, abs=1e-6)
    one = effective_critical_values(np.eye(1))
    for share in (5, 10, 20, 30):
        assert even.values[share] < uneven.values[share]
        assert uneven.values[share] == pytest.approx(one.values[share], rel=1e-5)


def test_effective_values_ignore_scale_and_rotation():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((4, 4))
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    a, b = root @ root.T, 17.0 * turn @ root @ root.T @ turn.T
    first, second = effective_critical_values(a).values, effective_critical_values(b).values
    assert first == pytest.approx(second, rel=1e-10)


@pytest.mark.parametrize("variance", [np.full((2, 2), np.nan), np.zeros((2, 2)), -np.eye(2)])
def test_effective_values_without_a_variance_have_a_reason(variance):
    found = effective_critical_values(variance)
    assert found.reason
    assert all(np.isnan(value) for value in found.values.values())


def test_bias_criterion_with_three_instruments():
    found = bias_critical_values(1, 3).values
    assert {share: round(value, 2) for share, value in found.items()} == {5: 13.76, 10: 9.18, 20: 6.60, 30: 5.49}


# Stock and Yogo (2005), table 5.1: published from a simulation
@pytest.mark.parametrize(
    ("q", "published"),
    [(3, (13.91, 9.08, 6.46, 5.39)), (4, (16.85, 10.27, 6.71, 5.34)), (5, (18.37, 10.83, 6.77, 5.25))],
)
def test_bias_criterion_is_near_the_published_simulation(q, published):
    np.testing.assert_allclose(list(bias_critical_values(1, q).values.values()), published, rtol=0.025)


@pytest.mark.parametrize("mu2", [0.01, 1.0, 8.0, 60.0, 900.0])
def test_relative_bias_has_closed_forms_for_two_and_four_instruments(mu2):
    half = mu2 / 2
    assert relative_bias(mu2, 2) == pytest.approx(np.exp(-half), abs=1e-12)
    assert relative_bias(mu2, 4) == pytest.approx(-np.expm1(-half) / half, rel=1e-9)


@pytest.mark.parametrize(("p", "q"), [(2, 4), (1, 1)])
def test_bias_criterion_without_a_mean_has_a_reason(p, q):
    found = bias_critical_values(p, q)
    assert found.reason
    assert all(np.isnan(value) for value in found.values.values())


def test_size_criterion_cells():
    assert tuple(size_critical_values(1, 1).values.values()) == (16.38, 8.96, 6.66, 5.53)
    assert tuple(size_critical_values(1, 3).values.values()) == (22.30, 12.83, 9.54, 7.80)
    assert tuple(size_critical_values(2, 3).values.values()) == (13.43, 8.18, 6.40, 5.45)
    absent = size_critical_values(3, 7)
    assert "3 treatments and 7 instruments" in absent.reason
    assert all(np.isnan(value) for value in absent.values.values())


@pytest.mark.parametrize("q", [1, 2, 3, 6, 10])
def test_size_criterion_is_the_size_of_the_wald_test(q):
    """The worst case, correlation one, simulated: typed cells within 4 per cent of it."""
    rng = np.random.default_rng(q)
    z, rest = rng.standard_normal(200_000), rng.chisquare(q - 1, 200_000) if q > 1 else np.zeros(200_000)

    def excess(mu2, size):
        a, b = (np.sqrt(mu2) + z) ** 2 + rest, (np.sqrt(mu2) + z) * z + rest
        return (np.abs(b / np.sqrt(a) / (1.0 - b / a)) > 1.959964).mean() - size

    for percent, typed in zip((10, 15, 20, 25), _SIZE_TABLE[1, q], strict=True):
        mu2 = brentq(excess, 0.05, 800.0, args=(percent / 100,), xtol=1e-3)
        assert typed == pytest.approx(ncx2.ppf(0.95, q, mu2) / q, rel=0.04)


def test_size_criterion_grows_with_the_instruments():
    for p in (1, 2):
        cells = np.array([_SIZE_TABLE[p, q] for q in sorted(q for (k, q) in _SIZE_TABLE if k == p)])
        assert (np.diff(cells, axis=0) > 0).all()
        assert (np.diff(cells, axis=1) < 0).all()
