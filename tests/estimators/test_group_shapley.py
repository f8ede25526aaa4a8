"""Group Shapley: the rule, its other forms, its axioms, draws and shares."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from causalsat.effects.table import EffectTable
from causalsat.errors import DataError, OptionError
from causalsat.estimators.group_shapley import group_shapley, swap_value
from causalsat.estimators.shapley_matrix import kernel_weight, least_norm, membership, shapley_matrix

NAMES = ("mix", "dose", "model", "sensor", "place")
numbers = st.floats(-100.0, 100.0, allow_nan=False)


def key(m, number, names=NAMES):
    return frozenset(names[j] for j in range(m) if number >> j & 1)


def game(values, names=NAMES):
    """The mapping form of an array (2^m,) of values."""
    m = len(values).bit_length() - 1
    return {key(m, s, names): float(v) if np.ndim(v) == 0 else v for s, v in enumerate(values)}


def contributions(table):
    rows = table.where(term="contribution")
    return rows["estimate"][:-1]


def split(values, **options):
    m = len(values).bit_length() - 1
    return contributions(group_shapley(game(values), NAMES[:m], shares=False, **options))


def over_orders(values):
    """Average step over all m! orders: the definition by brute force."""
    m = len(values).bit_length() - 1
    phi = np.zeros(m)
    orders = list(itertools.permutations(range(m)))
    for order in orders:
        at = 0
        for j in order:
            phi[j] += values[at | 1 << j] - values[at]
            at |= 1 << j
    return phi / len(orders)


games = st.integers(1, 4).flatmap(lambda m: st.lists(numbers, min_size=2**m, max_size=2**m)).map(np.array)


@settings(max_examples=60, deadline=None)
@given(games)
def test_definition_is_the_average_over_orders(values):
    np.testing.assert_allclose(split(values), over_orders(values), atol=1e-11)


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_least_squares_form_is_the_same_rule(m):
    """The constrained least squares solved by its own optimality system, without the basis used by the library."""
    values = np.random.default_rng(m).normal(size=2**m)
    g, inside = values - values[0], membership(m).astype(float)
    size = inside.sum(axis=0).astype(int)
    kept = (size > 0) & (size < m)
    k, rows = kernel_weight(m, size[kept]), inside[:, kept].T
    system = np.block([[2.0 * rows.T @ (k[:, None] * rows), np.ones((m, 1))], [np.ones((1, m)), np.zeros((1, 1))]])
    right = np.concatenate([2.0 * rows.T @ (k * g[kept]), [g[-1]]])
    direct = np.linalg.solve(system, right)[:m]
    np.testing.assert_allclose(split(values), direct, atol=1e-12)
    np.testing.assert_allclose(split(values, missing="min_norm"), direct, atol=1e-12)


def test_matrix_equals_the_spec_formula():
    from math import factorial as f

    m = 4
    matrix = shapley_matrix(m)
    for s in range(2**m):
        size = s.bit_count()
        for j in range(m):
            inside = s >> j & 1
            weight = f(size - 1) * f(m - size) / f(m) if inside else -f(size) * f(m - size - 1) / f(m)
            assert matrix[j, s] == pytest.approx(weight, rel=1e-14)


@settings(max_examples=60, deadline=None)
@given(games)
def test_efficiency(values):
    table = group_shapley(game(values), NAMES[: len(values).bit_length() - 1])
    scale = max(1.0, np.abs(values).max())
    assert abs(contributions(table).sum() - (values[-1] - values[0])) <= 1e-12 * scale
    assert table["group"][-1] == "(total)"
    assert table["estimate"][-1] == pytest.approx(values[-1] - values[0], abs=1e-12 * scale)


@settings(max_examples=30, deadline=None)
@given(st.lists(numbers, min_size=8, max_size=8).map(np.array), st.lists(numbers, min_size=8, max_size=8).map(np.array))
def test_linearity(one, two):
    np.testing.assert_allclose(split(2.0 * one - 3.0 * two), 2.0 * split(one) - 3.0 * split(two), atol=1e-9)


def test_a_common_level_changes_nothing_and_costs_no_digits():
    values = np.random.default_rng(0).normal(size=16)
    shifted = split(values + 1e8)
    np.testing.assert_allclose(shifted, split(values), atol=1e-7)
    assert abs(shifted.sum() - ((values + 1e8)[-1] - (values + 1e8)[0])) < 1e-12


@settings(max_examples=30, deadline=None)
@given(st.lists(numbers, min_size=8, max_size=8).map(np.array))
def test_dummy(values):
    """A fourth group that never changes the value gets nothing, and the others what they had."""
    wide = np.concatenate([values, values])
    phi = split(wide)
    assert abs(phi[3]) < 1e-11
    np.testing.assert_allclose(phi[:3], split(values), atol=1e-11)


def test_symmetry():
    """Two groups that every coalition treats alike get the same."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=16)
    for s in range(16):
        if s & 1 and not s & 2:
            values[s ^ 3] = values[s]
    phi = split(values)
    assert phi[0] == pytest.approx(phi[1], abs=1e-13)


@settings(max_examples=20, deadline=None)
@given(st.lists(numbers, min_size=16, max_size=16).map(np.array), st.permutations(range(4)))
def test_relabelling_permutes(values, order):
    listed = [NAMES[j] for j in order]
    table = group_shapley(game(values), listed, shares=False)
    np.testing.assert_allclose(contributions(table), split(values)[list(order)], atol=1e-11)


@settings(max_examples=30, deadline=None)
@given(games)
def test_exchanging_a_and_b_negates(values):
    np.testing.assert_allclose(split(values[::-1].copy()), -split(values), atol=1e-10)


def test_two_groups_are_the_mean_of_the_two_oaxaca_blinder_splits():
    v = np.array([1.0, 1.7, 0.4, 3.0])
    phi = split(v)
    g = v - v[0]
    assert phi[0] == pytest.approx(0.5 * (g[1] + g[3] - g[2]), abs=1e-15)
    assert phi[0] == pytest.approx(0.5 * ((v[1] - v[0]) + (v[3] - v[2])), abs=1e-15)


def test_one_group_takes_the_whole_change():
    table = group_shapley({"": 2.0, "mix": 5.0}, ["mix"])
    assert table.row(group="mix", term="contribution")["estimate"] == 3.0
    assert table.row(group="mix", term="share")["estimate"] == 1.0
    assert group_shapley({"": 2.0, "mix": 5.0}, ["mix"], missing="min_norm")["estimate"][0] == 3.0


# Missing values: least norm


def test_min_norm_with_the_ends_only_shares_equally():
    table = group_shapley({"": 1.0, "mix+dose+model": 7.0}, NAMES[:3], missing="min_norm")
    np.testing.assert_allclose(contributions(table), [2.0, 2.0, 2.0], atol=1e-14)
    assert table.meta["rank"] == 0 and table.meta["unique"] is False


def test_min_norm_with_one_group_alone_keeps_it_and_shares_the_rest():
    known = {"": 1.0, "mix": 1.5, "mix+dose+model+sensor": 7.0}
    table = group_shapley(known, NAMES[:4], missing="min_norm")
    np.testing.assert_allclose(contributions(table), [0.5, 5.5 / 3, 5.5 / 3, 5.5 / 3], atol=1e-13)
    assert table.meta["rank"] == 1 and table.meta["rank_needed"] == 3


def test_min_norm_is_the_least_of_all_minimisers():
    """Against a general optimiser of the same criterion with a vanishing penalty on the norm."""
    m, rng = 4, np.random.default_rng(3)
    values = rng.normal(size=16)
    known = np.zeros(16, dtype=bool)
    known[[0, 15, 3, 12, 5]] = True
    inside = membership(m).astype(float)
    size = inside.sum(axis=0).astype(int)
    kept = known & (size > 0) & (size < m)
    g = values - values[0]

    def criterion(phi):
        fit = (kernel_weight(m, size[kept]) * (g[kept] - phi @ inside[:, kept]) ** 2).sum()
        return fit + 1e-7 * (phi**2).sum()

    equal = {"type": "eq", "fun": lambda phi: phi.sum() - g[-1]}
    found = minimize(criterion, np.zeros(m), constraints=[equal], tol=1e-16, options={"maxiter": 1000})
    fit = least_norm(m, known)
    np.testing.assert_allclose(fit.weights @ np.where(known, values, 0.0), found.x, atol=1e-4)
    assert fit.rank == 2 and not fit.unique


@settings(max_examples=40, deadline=None)
@given(st.lists(numbers, min_size=4, max_size=4).map(np.array), st.integers(0, 2**14 - 1), numbers)
def test_additive_games_are_recovered_while_the_rank_allows(parts, pattern, level):
    inside = membership(4).astype(float)
    values = level + parts @ inside
    known = np.array([True, *(bool(pattern >> i & 1) for i in range(14)), True])
    held = {key(4, s): values[s] for s in range(16) if known[s]}
    table = group_shapley(held, NAMES[:4], missing="min_norm", shares=False)
    assert abs(contributions(table).sum() - parts.sum()) < 1e-9
    plane = inside[:, known][:, 1:-1].T - inside[:, known][:, 1:-1].sum(axis=0)[:, None] / 4
    rank = np.linalg.matrix_rank(plane, tol=1e-9) if plane.size else 0
    assert table.meta["rank"] == rank
    assert table.meta["unique"] == (rank == 3)
    if table.meta["unique"]:
        np.testing.assert_allclose(contributions(table), parts, atol=1e-9)


def test_min_norm_needs_both_ends():
    with pytest.raises(DataError, match="needs the values at both ends; the one with all groups swapped is missing"):
        group_shapley({"": 1.0, "mix": 2.0}, ["mix", "dose"], missing="min_norm")
    with pytest.raises(DataError, match="no group swapped is missing"):
        group_shapley({"mix+dose": 1.0}, ["mix", "dose"], missing="min_norm")


# Draws, intervals, shares


def drawn_game(m=3, b=399, seed=0, noise=0.1, level=5.0):
    """Values with draws that share most of their error across coalitions, as one resample gives."""
    rng = np.random.default_rng(seed)
    values = level * membership(m).sum(axis=0) + rng.normal(size=2**m)
    draws = values[:, None] + noise * (rng.normal(size=(1, b)) + 0.5 * rng.normal(size=(2**m, b)))
    return values, draws, {key(m, s): (values[s], draws[s]) for s in range(2**m)}


def test_draws_of_contributions_are_the_same_matrix_times_the_draws():
    _, draws, mapping = drawn_game()
    table = group_shapley(mapping, NAMES[:3])
    np.testing.assert_allclose(table.draws[:, :3], (shapley_matrix(3) @ draws).T, atol=1e-12)
    np.testing.assert_allclose(table.draws[:, -1], draws[-1] - draws[0], atol=1e-12)
    np.testing.assert_allclose(table.draws[:, 3], table.draws[:, 0] / table.draws[:, -1], rtol=1e-12)
    np.testing.assert_allclose(table["std_error"], table.draws.std(axis=0, ddof=1), rtol=1e-12)


def test_intervals_are_basic_and_follow_level_and_method():
    _, _, mapping = drawn_game()
    table = group_shapley(mapping, NAMES[:3])
    ordered = np.sort(table.draws[:, 0])
    assert table.meta["interval"] == "basic"
    assert table["conf_low"][0] == pytest.approx(2 * table["estimate"][0] - ordered[389], abs=1e-12)
    assert table["conf_high"][0] == pytest.approx(2 * table["estimate"][0] - ordered[9], abs=1e-12)
    other = group_shapley(mapping, NAMES[:3], interval="percentile", level=0.9)
    assert other["conf_low"][0] == pytest.approx(ordered[19], abs=1e-12)
    again = table.interval(level=0.9, method="percentile")
    np.testing.assert_allclose(again["conf_low"], other["conf_low"], atol=1e-12)
    normal = group_shapley(mapping, NAMES[:3], interval="normal")
    assert normal["conf_high"][0] == pytest.approx(normal["estimate"][0] + 1.959964 * normal["std_error"][0], abs=1e-5)


def test_joint_bands_cover_more_than_each_interval():
    _, _, mapping = drawn_game()
    table = group_shapley(mapping, NAMES[:3]).where(term="contribution").joint()
    assert table.meta["joint"]["n_family"] == 4
    assert table.meta["joint"]["critical"] > 1.96
    assert (table["band_high"] - table["band_low"] > 2 * 1.96 * table["std_error"]).all()


def test_draws_of_a_constant_have_zero_width():
    mapping = {k: (v, np.full(99, v)) for k, v in game(np.array([0.1, 0.7, 1.3, 2.9])).items()}
    table = group_shapley(mapping, NAMES[:2])
    np.testing.assert_allclose(table["conf_high"] - table["conf_low"], 0.0, atol=1e-15)
    np.testing.assert_allclose(table["std_error"], 0.0, atol=1e-15)
    np.testing.assert_allclose(table.where(term="share")["estimate"].sum(), 1.0, atol=1e-12)


def test_exact_values_have_no_interval_and_say_why():
    table = group_shapley(game(np.arange(4.0)), NAMES[:2])
    assert np.isnan(table["std_error"]).all()
    assert "without draws" in table.meta["unavailable"]["0"]["std_error"]
    assert table.meta["interval"] == "none"


def test_shares_vanish_when_the_total_may_be_zero():
    _, _, mapping = drawn_game(level=0.0, noise=20.0)
    table = group_shapley(mapping, NAMES[:3])
    shares = table.where(term="share")
    assert np.isnan(shares["estimate"]).all()
    row = str(table["term"].tolist().index("share"))
    assert table.meta["unavailable"][row]["estimate"] == "the interval of the total change contains 0"
    exact = group_shapley(game(np.array([1.0, 2.0, 3.0, 1.0])), NAMES[:2])
    assert "zero, so it has no shares" in exact.meta["unavailable"]["2"]["estimate"]
    assert "share" not in group_shapley(mapping, NAMES[:3], shares=False)["term"]


def test_failed_draws_fail_everywhere_and_are_counted():
    _, _, mapping = drawn_game()
    broken = dict(mapping)
    v, d = broken[frozenset({"mix"})]
    d = d.copy()
    d[:5] = np.nan
    broken[frozenset({"mix"})] = (v, d)
    table = group_shapley(broken, NAMES[:3])
    assert table.meta["n_failed"] == 5
    assert np.isfinite(table["conf_low"]).all()
    assert np.isnan(table.draws[:5, 0]).all()
    d[:60] = np.nan
    table = group_shapley(broken, NAMES[:3])
    assert np.isnan(table["conf_low"][0])
    assert "60 of 399 bootstrap draws failed" in table.meta["unavailable"]["0"]["conf_low"]


def test_min_norm_draws_use_the_same_map():
    _, draws, mapping = drawn_game()
    held = {k: v for k, v in mapping.items() if k != frozenset({"mix", "dose"})}
    table = group_shapley(held, NAMES[:3], missing="min_norm")
    known = np.ones(8, dtype=bool)
    known[3] = False
    fit = least_norm(3, known)
    np.testing.assert_allclose(table.draws[:, :3], (fit.weights @ draws).T, atol=1e-11)
    assert table.meta["missing_coalitions"] == ["{mix, dose}"]


# Keys, calls, cache, seeds


def test_every_form_of_key_names_the_same_coalition():
    forms = [
        {frozenset(): 1.0, frozenset({"mix"}): 2.0, frozenset({"dose"}): 4.0, frozenset({"mix", "dose"}): 9.0},
        {(): 1.0, ("mix",): 2.0, ("dose",): 4.0, ("dose", "mix"): 9.0},
        {"": 1.0, "mix": 2.0, "dose": 4.0, "mix + dose": 9.0},
    ]
    tables = [group_shapley(form, ["mix", "dose"]) for form in forms]
    assert tables[0] == tables[1] == tables[2]


def test_a_name_with_a_plus_stands_for_itself():
    table = group_shapley({"": 0.0, "a+b": 1.0, "c": 2.0, ("a+b", "c"): 4.0}, ["a+b", "c"])
    assert contributions(table).tolist() == [1.5, 2.5]


class Counter:
    def __init__(self, stop=None):
        self.calls, self.stop = [], stop

    def __call__(self, coalition):
        assert isinstance(coalition, frozenset)
        self.calls.append(coalition)
        if self.stop is not None and len(self.calls) > self.stop:
            raise RuntimeError("machine went away")
        return float(len(coalition) ** 2 + ("mix" in coalition))


def test_each_coalition_is_called_once_smallest_first():
    value = Counter()
    table = group_shapley(value, NAMES[:4])
    assert len(value.calls) == len(set(value.calls)) == 16 == table.meta["n_called"]
    assert [len(c) for c in value.calls] == sorted(len(c) for c in value.calls)


def test_an_interrupted_run_resumes_from_its_cache():
    cache, value = {}, Counter(stop=5)
    with pytest.raises(RuntimeError, match="went away"):
        group_shapley(value, NAMES[:4], cache=cache)
    assert len(cache) == 5
    rest = Counter()
    resumed = group_shapley(rest, NAMES[:4], cache=cache)
    assert len(rest.calls) == 11 and not set(rest.calls) & set(value.calls[:5])
    whole = group_shapley(Counter(), NAMES[:4])
    np.testing.assert_array_equal(resumed["estimate"], whole["estimate"])
    idle = Counter()
    group_shapley(idle, NAMES[:4], cache=cache)
    assert idle.calls == []


def test_what_cannot_be_computed_is_remembered_as_missing():
    cache = {}
    value = lambda c: None if c == {"mix"} else float(len(c))  # noqa: E731
    with pytest.raises(
        DataError, match=r"1 of 4 coalitions have no value: \{mix\}. Compute them, or use missing=\"bounds\""
    ):
        group_shapley(value, NAMES[:2], cache=cache)
    table = group_shapley(Counter(), NAMES[:2], cache=cache, missing="min_norm")
    assert table.meta["n_called"] == 0 and table.meta["n_known"] == 3


def test_the_seed_reaches_callables_that_ask_for_it():
    seen = []

    def value(coalition, seed):
        seen.append(seed)
        return float(len(coalition))

    group_shapley(value, NAMES[:2], seed=11)
    assert seen == [11] * 4
    swapped = swap_value({"x": 1.0}, {"x": 2.0}, lambda x, seed=None: x * seed)
    assert group_shapley(swapped, ["x"], seed=3)["estimate"][0] == 3.0


def test_progress_events():
    events = []
    group_shapley(Counter(), NAMES[:2], progress=events.append)
    assert [e["done"] for e in events] == [1, 2, 3, 4]


def test_swap_value_takes_components_of_b_inside_the_coalition():
    a, b = {"share": 0.2, "gain": 5.0}, {"share": 0.4, "gain": 6.0}
    value = swap_value(a, b, lambda share, gain: share * gain)
    assert value.groups == ["share", "gain"]
    assert value(frozenset()) == 1.0
    assert value(frozenset({"gain"})) == pytest.approx(1.2)
    table = group_shapley(value, value.groups)
    np.testing.assert_allclose(contributions(table), [1.1, 0.3], atol=1e-12)
    back = group_shapley(swap_value(b, a, value.evaluate), value.groups)
    np.testing.assert_allclose(contributions(back), [-1.1, -0.3], atol=1e-12)


def test_one_row_tables_are_values():
    rng = np.random.default_rng(5)

    def value(coalition):
        draws = len(coalition) + 0.1 * rng.normal(size=(99, 1))
        return EffectTable.build(
            {"adjust": ["image"]},
            term="effect",
            estimate=[float(len(coalition))],
            std_error=[0.1],
            n_obs=9,
            draws=draws,
        )

    table = group_shapley(value, NAMES[:2])
    assert contributions(table).tolist() == [1.0, 1.0]
    assert np.isfinite(table["conf_low"]).all()


# What is refused


def test_bad_groups():
    flat = {"": 0.0}
    with pytest.raises(OptionError, match="groups='mix' is one text; pass a list"):
        group_shapley(flat, "mix")
    with pytest.raises(OptionError, match="must list at least one name"):
        group_shapley(flat, [])
    with pytest.raises(OptionError, match=r"\['mix'\] stands more than once"):
        group_shapley(flat, ["mix", "mix"])
    with pytest.raises(OptionError, match=r'"\(total\)" is reserved'):
        group_shapley(flat, ["mix", "(total)"])
    with pytest.raises(OptionError, match=r"17 names, which needs 2\^17 = 131,072 values.*Merge groups"):
        group_shapley(flat, [f"g{i}" for i in range(17)])


def test_bad_values():
    full = {"": 0.0, "mix": 1.0, "dose": 2.0, "mix+dose": 3.0}
    groups = ["mix", "dose"]
    with pytest.raises(OptionError, match=r"names 'dos', which is no group.*Did you mean \"dose\""):
        group_shapley({"dos": 1.0}, groups)
    with pytest.raises(OptionError, match=r"two keys for the coalition \{mix, dose\}"):
        group_shapley({**full, "dose+mix": 3.0}, groups)
    with pytest.raises(OptionError, match="1 does not name a coalition"):
        group_shapley({1: 1.0}, groups)
    with pytest.raises(OptionError, match="value is a float; pass a mapping"):
        group_shapley(1.0, groups)
    with pytest.raises(DataError, match=r"The value of \{mix\} is 'high'; it must be a number"):
        group_shapley({**full, "mix": "high"}, groups)
    with pytest.raises(DataError, match=r"The value of \{mix\} is inf; values must be finite"):
        group_shapley({**full, "mix": np.inf}, groups)
    with pytest.raises(DataError, match=r"\{\} has 0 draws and \{mix\} has 3.*numpy.full"):
        group_shapley({**full, "mix": (1.0, np.ones(3))}, groups)
    with pytest.raises(DataError, match=r"draws of \{mix\} have shape \(2, 2\)"):
        group_shapley({**full, "mix": (1.0, np.ones((2, 2)))}, groups)
    with pytest.raises(DataError, match="No coalition has a value"):
        group_shapley({"": None}, groups)
    with pytest.raises(OptionError, match="cache= remembers the results of a callable"):
        group_shapley(full, groups, cache={})


def test_bad_options():
    full = {"": 0.0, "mix": 1.0, "dose": 2.0, "mix+dose": 3.0}
    groups = ["mix", "dose"]
    with pytest.raises(OptionError, match=r"missing='bound' is not known.*Did you mean \"bounds\""):
        group_shapley(full, groups, missing="bound")
    with pytest.raises(OptionError, match="interval='bca' is not known"):
        group_shapley(full, groups, interval="bca")
    with pytest.raises(OptionError, match='low and structure limit unknown values, which missing="error" does not use'):
        group_shapley(full, groups, low=0.0, structure="monotone")
    with pytest.raises(OptionError, match="level=95"):
        group_shapley(full, groups, level=95)
    few = {k: (v, np.full(9, v)) for k, v in full.items()}
    with pytest.raises(OptionError, match="at least 39 bootstrap draws, there are 9"):
        group_shapley(few, groups)


def test_bad_swaps():
    with pytest.raises(OptionError, match=r"only one of them has \['dos', 'dose'\]"):
        swap_value({"dose": 1}, {"dos": 1}, lambda dose: 1.0)
    with pytest.raises(OptionError, match="evaluate does not take the groups"):
        swap_value({"dose": 1}, {"dose": 2}, lambda other: 1.0)
    with pytest.raises(OptionError, match="pass a mapping from group names"):
        swap_value([1], {"dose": 2}, lambda dose: 1.0)
    with pytest.raises(OptionError, match="pass a callable"):
        swap_value({"dose": 1}, {"dose": 2}, 3.0)
