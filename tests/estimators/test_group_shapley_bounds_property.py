"""Bounds as properties: every admissible completion inside, ends attained, draws as if solved one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from causalsat.errors import DataError
from causalsat.estimators import shapley_programs
from causalsat.estimators.group_shapley import group_shapley
from causalsat.estimators.shapley_bounds import inequalities
from causalsat.estimators.shapley_matrix import shapley_matrix
from tests.estimators.test_group_shapley import NAMES, key

M = 3
KINDS = ("monotone", "supermodular", "submodular")
weights = st.lists(st.floats(0.0, 5.0), min_size=2**M - 1, max_size=2**M - 1).map(np.array)
patterns = st.integers(1, 2**6 - 1)


def unanimity(parts):
    """sum_T w_T 1{T in S} with w >= 0: monotone and supermodular."""
    s = np.arange(2**M)
    return sum(w * ((s & t) == t) for t, w in enumerate(parts, start=1))


def coverage(parts):
    """sum_T w_T 1{T meets S} with w >= 0: monotone and submodular."""
    s = np.arange(2**M)
    return sum(w * ((s & t) > 0) for t, w in enumerate(parts, start=1))


def held(values, pattern):
    """The known part: bit i of the pattern takes coalition i + 1 away; both ends stay."""
    return {key(M, s): values[s] for s in range(2**M) if s in (0, 2**M - 1) or not pattern >> (s - 1) & 1}


def ends(table):
    return (table.where(term=f"contribution_{side}")["estimate"] for side in ("lower", "upper"))


@settings(max_examples=40, deadline=None)
@given(weights, patterns, st.sampled_from(["super", "sub"]))
def test_every_admissible_completion_is_inside_and_information_shrinks(parts, pattern, curvature):
    values = unanimity(parts) if curvature == "super" else coverage(parts)
    structure = ("monotone", f"{curvature}modular")
    low, high = ends(group_shapley(held(values, pattern), NAMES[:M], missing="bounds", structure=structure))
    phi = shapley_matrix(M) @ values
    slack = 1e-6 * (1.0 + np.abs(values).max())
    assert (low <= phi + slack).all() and (phi <= high + slack).all()
    wide_low, wide_high = ends(group_shapley(held(values, pattern), NAMES[:M], missing="bounds", structure="monotone"))
    assert (wide_low <= low + slack).all() and (high <= wide_high + slack).all()


@settings(max_examples=25, deadline=None)
@given(weights, patterns, st.sampled_from(KINDS), st.integers(0, M - 1))
def test_ends_equal_a_program_over_all_values(parts, pattern, kind, j):
    """The same bound from one program over all 2^m values with the known ones fixed by equality."""
    values = coverage(parts) if kind == "submodular" else unanimity(parts)
    known = held(values, pattern)
    low, high = ends(group_shapley(known, NAMES[:M], missing="bounds", structure=kind, low=-50.0, high=90.0))
    fixed = [key(M, s) in known for s in range(2**M)]
    box = [(v, v) if there else (-50.0, 90.0) for v, there in zip(values, fixed)]
    matrix, cost = inequalities(M, kind).matrix, shapley_matrix(M)[j]
    for sign, end in ((1.0, low[j]), (-1.0, high[j])):
        found = linprog(sign * cost, A_ub=matrix, b_ub=np.full(matrix.shape[0], 1e-9), bounds=box, method="highs-ipm")
        assert found.status == 0
        assert end == pytest.approx(sign * found.fun, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=8, max_size=8).map(np.array), patterns)
def test_the_box_is_sharp_for_every_component(values, pattern):
    """Against every corner of the box."""
    known = held(values, pattern)
    low, high = ends(group_shapley(known, NAMES[:M], missing="bounds", low=0.0, high=1.0))
    free = [s for s in range(2**M) if key(M, s) not in known]
    corners = np.tile(values, (2 ** len(free), 1))
    for place, s in enumerate(free):
        corners[:, s] = np.arange(2 ** len(free)) >> place & 1
    phi = corners @ shapley_matrix(M).T
    np.testing.assert_allclose(low, phi.min(axis=0), atol=1e-12)
    np.testing.assert_allclose(high, phi.max(axis=0), atol=1e-12)


def noisy(noise, b=60, seed=0, pattern=0b101010):
    rng = np.random.default_rng(seed)
    values = unanimity(rng.uniform(0.2, 1.0, 7))
    draws = values[:, None] + noise * rng.normal(size=(8, b))
    return {names: (v, draws[s]) for s in range(8) for names, v in held(values, pattern).items() if names == key(M, s)}


@pytest.mark.parametrize("structure", ["monotone", "supermodular", ("monotone", "supermodular")])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_draws_of_bounds_are_the_bounds_of_the_draws(structure, noise):
    """Reuse of a basis over draws against every draw solved as if it were the estimate."""
    mapping = noisy(noise)
    options = {"missing": "bounds", "structure": structure, "low": -5.0, "high": 9.0, "shares": False}
    table = group_shapley(mapping, NAMES[:M], **options)
    lower, upper = ([i for i, t in enumerate(table["term"]) if t == f"contribution_{s}"] for s in ("lower", "upper"))
    contradictions = 0
    for r in range(60):
        try:
            found = group_shapley({names: d[r] for names, (_, d) in mapping.items()}, NAMES[:M], **options)
        except DataError:
            contradictions += 1
            continue
        for columns, point in zip((lower, upper), ends(found)):
            np.testing.assert_allclose(table.draws[r, columns], point, atol=1e-7)
    assert table.meta["n_failed"] <= contradictions


def test_a_basis_serves_many_draws(monkeypatch):
    calls = []
    solve = shapley_programs.Program._solve
    monkeypatch.setattr(shapley_programs.Program, "_solve", lambda *a: calls.append(1) or solve(*a))
    group_shapley(noisy(0.02, b=199), NAMES[:M], missing="bounds", structure="supermodular", low=-5.0, high=9.0)
    assert len(calls) < 199


def test_without_reuse_the_draws_are_the_same(monkeypatch):
    options = {"missing": "bounds", "structure": "supermodular", "low": -5.0, "high": 9.0}
    fast = group_shapley(noisy(0.05), NAMES[:M], **options)
    monkeypatch.setattr(shapley_programs, "_MOST_UNKNOWN", 0)
    slow = group_shapley(noisy(0.05), NAMES[:M], **options)
    np.testing.assert_allclose(fast.draws, slow.draws, atol=1e-9)
