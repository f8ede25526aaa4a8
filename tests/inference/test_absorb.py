"""Fixed effects: residuals equal those on dummies, singletons, degrees of freedom, convergence."""

import numpy as np
import pytest

from causalsat.errors import NumericalError
from causalsat.inference.absorb import absorb, absorbed_parameters, factor, is_nested, without_singletons
from causalsat.inference.independent import independent_columns, net_of


def dummies(*codes):
    return np.column_stack([(c[:, None] == np.unique(c)[None, :]).astype(float) for c in codes])


def on_dummies(columns, w, *codes):
    D, root = dummies(*codes), np.sqrt(w)[:, None]
    return columns - D @ np.linalg.lstsq(D * root, columns * root, rcond=None)[0]


@pytest.mark.parametrize("n_factors", [1, 2, 3])
def test_residuals_equal_those_on_dummies(n_factors):
    rng = np.random.default_rng(n_factors)
    n = 400
    codes = [rng.integers(0, k, n) for k in (40, 23, 7)][:n_factors]
    w = rng.uniform(0.2, 3.0, n)
    X = rng.normal(size=(n, 3)) + 1e3 * codes[0][:, None]
    found = absorb(X, [factor(str(i), c) for i, c in enumerate(codes)], w)
    np.testing.assert_allclose(found, on_dummies(X, w, *codes), atol=1e-8)


def test_sparsely_linked_levels_converge():
    """A chain of firms with few movers, where plain alternation needs thousands of sweeps."""
    rng = np.random.default_rng(0)
    worker = np.repeat(np.arange(300), 4)
    firm = np.repeat(np.arange(300) // 10, 4)
    movers = rng.choice(len(firm), 60, replace=False)
    firm[movers] = np.clip(firm[movers] + 1, 0, 29)
    X = rng.normal(size=(len(firm), 2)) + firm[:, None] ** 2
    w = np.ones(len(firm))
    found = absorb(X, [factor("worker", worker), factor("firm", firm)], w)
    np.testing.assert_allclose(found, on_dummies(X, w, worker, firm), atol=1e-8)


def test_balanced_factors_leave_nothing_to_iterate():
    """The first sweep is the answer: what is left to solve is rounding and must not be amplified."""
    rng = np.random.default_rng(8)
    unit, time = np.repeat(np.arange(50), 6), np.tile(np.arange(6), 50)
    X = rng.normal(size=(300, 3)) + np.array([1e6, 0.0, 1e3])[None, :]
    for w in (np.ones(300), rng.uniform(0.99, 1.01, 300)):
        found = absorb(X, [factor("unit", unit), factor("time", time)], w)
        np.testing.assert_allclose(found, on_dummies(X, w, unit, time), atol=1e-7)


def test_a_column_of_the_dummies_is_zero():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 30, 500), rng.integers(0, 20, 500)
    X = (rng.normal(size=30)[a] + rng.normal(size=20)[b])[:, None] * 1e6
    assert np.abs(absorb(X, [factor("a", a), factor("b", b)], np.ones(500))).max() < 1e-6


def test_too_few_sweeps_are_an_error():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 30, 200), rng.integers(0, 20, 200)
    with pytest.raises(NumericalError, match=r"a \(30 levels\), b \(20 levels\) were not absorbed within max_steps=1"):
        absorb(rng.normal(size=(200, 1)), [factor("a", a), factor("b", b)], np.ones(200), max_steps=1)


def test_singletons_go_again_and_again():
    # Row 0 is alone in a; without it row 1 is alone in b; without that row 2 is alone in a.
    a = np.array([0, 1, 1, 2, 2, 2, 2])
    b = np.array([0, 0, 1, 1, 1, 2, 2])
    assert without_singletons([a, b]).tolist() == [False, False, False, True, True, True, True]
    assert without_singletons([a]).tolist() == [False, True, True, True, True, True, True]


def test_parameters_are_the_rank_of_the_dummies():
    rng = np.random.default_rng(3)
    # Two blocks of levels that never meet, and a third of one row of levels each: three components.
    block = rng.integers(0, 3, 600)
    a, b = 5 * block + rng.integers(0, 5, 600), 4 * block + rng.integers(0, 4, 600)
    found = absorbed_parameters([factor("a", a), factor("b", b)])
    assert found.per_factor == {"a": 15, "b": 12 - 3}
    assert found.total == np.linalg.matrix_rank(dummies(a, b)) == 24
    assert found.exact


def test_three_factors_never_count_too_few():
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 12, 500), rng.integers(0, 9, 500)
    c = rng.integers(0, 5, 500)
    found = absorbed_parameters([factor("a", a), factor("b", b), factor("c", c)])
    assert not found.exact
    assert found.total == 12 + 8 + 4 == np.linalg.matrix_rank(dummies(a, b, c))
    # A factor inside another adds nothing.
    assert absorbed_parameters([factor("a", a), factor("half", a // 2)]).total == 12


def test_levels_inside_clusters_do_not_count_in_cluster_factors():
    unit = np.repeat(np.arange(20), 6)
    time = np.tile(np.arange(6), 20)
    village = unit // 4
    assert is_nested(unit, village)
    assert not is_nested(time, village)
    both = absorbed_parameters([factor("time", time), factor("unit", unit)], village)
    assert both.nested == ("unit",)
    assert (both.total, both.clustered) == (20 + 5, 1 + 5)
    assert absorbed_parameters([factor("unit", unit)], village).clustered == 1
    assert absorbed_parameters([factor("time", time)], village).clustered == 6


def test_the_first_of_collinear_columns_stays():
    rng = np.random.default_rng(5)
    a, b, d = rng.normal(size=(3, 100)) * np.array([1.0, 1e6, 1e-6])[:, None]
    w = rng.uniform(0.5, 2.0, 100)
    found = independent_columns(np.column_stack([a, b, a * 3 + b / 1e3, d, np.zeros(100)]), w)
    assert found.kept.tolist() == [0, 1, 3]
    assert found.dropped.tolist() == [2, 4]
    np.testing.assert_allclose(found.basis.T @ (w[:, None] * found.basis), np.eye(3), atol=1e-12)
    assert np.abs(net_of(np.column_stack([a, b, d]), found.basis, w)).max() < 1e-8


def test_more_columns_than_rows():
    X = np.random.default_rng(6).normal(size=(5, 8))
    assert independent_columns(X, np.ones(5)).kept.tolist() == [0, 1, 2, 3, 4]
