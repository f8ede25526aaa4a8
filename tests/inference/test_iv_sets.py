"""Weak-instrument sets: Card's numbers, another implementation, every shape, symmetries."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from causalsat.errors import OptionError
from causalsat.inference.iv_clr import clr_level, clr_p_value, lm_levels
from causalsat.inference.iv_pencil import level_set, pencil_of, ratio, subset_ratio
from causalsat.inference.iv_quadratic import quadratic_set, shape, union, written
from causalsat.inference.iv_sets import METHODS, ar_test, clr_test, confidence_sets, eigenvalues, lm_test
from causalsat.inference.options import Sandwich
from tests.inference.iv_designs import card_arrays, mroz_arrays, net, permitted, simulated

# Chosen so that each shape of the 95 % AR set occurs: (strength, direct effect, seed).
SHAPES = {
    "interval": (0.1, (0.0, 0.0, 0.0), 0),
    "rays": (0.05, (0.4, 0.4, 0.4), 0),
    "line": (0.05, (0.0, 0.0, 0.0), 0),
    "empty": (0.1, (0.4, -0.4, 0.0), 0),
}


def study(name):
    strength, direct, seed = SHAPES[name]
    return net(*simulated(seed, strength=strength, direct=np.array(direct)))


def one(rows, method, **options):
    return confidence_sets(rows, method, **options)[0].found


def liml(rows):
    from scipy import linalg

    m = rows.moments
    vectors = linalg.eigh(m.projected, m.projected + m.orthogonal)[1]
    return -vectors[1, 0] / vectors[0, 0]


def other_pieces(inverse, arrays, alpha):
    from ivmodels.confidence_set import ConfidenceSet as Theirs

    y, X, Z, C = arrays
    found = inverse(Z, X, y, alpha=alpha, C=C[:, 1:])
    return tuple((Theirs.from_quadric(found) if hasattr(found, "A") else found).boundaries)


# Card (1995), one instrument: printed digits.


def test_card_test_at_zero():
    rows = net(*card_arrays(["nearc4"]))
    by_chi2, by_f = ar_test(rows, [0.0]), ar_test(rows, [0.0], law="f")
    assert rows.d1 == 2994
    assert by_chi2.statistic == pytest.approx(5.415274, abs=5e-7)
    assert by_chi2.p_value == pytest.approx(0.019961, abs=5e-7)
    assert by_f.p_value == pytest.approx(0.020028, abs=5e-7)


@pytest.mark.parametrize(
    ("law", "level", "low", "high"),
    [
        ("chi2", 0.95, 0.024855, 0.284721),
        ("f", 0.95, 0.024805, 0.284823),
        ("chi2", 0.99, -0.019641, 0.397014),
        ("f", 0.99, -0.019781, 0.397447),
    ],
)
def test_card_sets(law, level, low, high):
    found = one(net(*card_arrays(["nearc4"])), "ar", level=level, ar_law=law)
    assert found.shape == "interval"
    np.testing.assert_allclose(found.hull(), (low, high), rtol=0, atol=5e-7)


def test_one_instrument_makes_all_three_equal():
    for rows in (net(*card_arrays(["nearc4"])), net(*simulated(1, q=1, strength=0.05))):
        sets = [one(rows, method) for method in METHODS]
        assert sets[0].pieces == sets[1].pieces == sets[2].pieces
        at = [ar_test(rows, [0.3]), clr_test(rows, 0.3), lm_test(rows, [0.3])]
        np.testing.assert_allclose([t.statistic for t in at], at[0].statistic, rtol=1e-9)
        np.testing.assert_allclose([t.p_value for t in at], at[0].p_value, rtol=1e-9)


def test_mroz_joint_test():
    from ivmodels.tests import anderson_rubin_test, lagrange_multiplier_test

    y, X, Z, C = mroz_arrays()
    rows = net(y, X, Z, C)
    assert ar_test(rows, [0.0, 0.0]).statistic == pytest.approx(2.08, abs=5e-3)
    for b in ([0.0, 0.0], [0.1, 0.02]):
        theirs = anderson_rubin_test(Z, X, y, np.array(b), critical_values="f")
        np.testing.assert_allclose(ar_test(rows, b, law="f")[::2], theirs, rtol=1e-9)
        np.testing.assert_allclose(lm_test(rows, b)[::2], lagrange_multiplier_test(Z, X, y, np.array(b)), rtol=1e-8)


# Against ivmodels.


@pytest.mark.parametrize("case", ["one", "both", 0, 3, 7])
def test_tests_against_another_implementation(case):
    from ivmodels import tests as theirs

    names = {"one": ["nearc4"], "both": ["nearc2", "nearc4"]}
    y, X, Z, C = card_arrays(names[case]) if case in names else simulated(case, q=4, strength=0.1)
    rows = net(y, X, Z, C)
    for b in (-0.4, 0.0, 0.13, 1.0):
        at = np.array([b])
        for law in ("chi2", "f"):
            expected = theirs.anderson_rubin_test(Z, X, y, at, C=C[:, 1:], critical_values=law)
            np.testing.assert_allclose(ar_test(rows, at, law=law)[::2], expected, rtol=1e-8, atol=1e-13)
        expected = theirs.conditional_likelihood_ratio_test(Z, X, y, at, C=C[:, 1:], tol=1e-10)
        np.testing.assert_allclose(clr_test(rows, b)[::2], expected, rtol=1e-6, atol=1e-9)
        expected = theirs.lagrange_multiplier_test(Z, X, y, at, C=C[:, 1:])
        np.testing.assert_allclose(lm_test(rows, at)[::2], expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("case", ["card", 0, 3, 4])
def test_sets_against_another_implementation(case, alpha):
    from ivmodels import tests as theirs

    arrays = card_arrays(["nearc2", "nearc4"]) if case == "card" else simulated(case, strength=0.15)
    rows = net(*arrays)
    pairs = {
        "ar": theirs.inverse_anderson_rubin_test,
        "clr": theirs.inverse_conditional_likelihood_ratio_test,
        "lm": theirs.inverse_lagrange_multiplier_test,
    }
    for method, inverse in pairs.items():
        found, expected = one(rows, method, level=1 - alpha).pieces, other_pieces(inverse, arrays, alpha)
        assert len(found) == len(expected), (method, found, expected)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_card_over_identified_values_are_kept():
    rows = net(*card_arrays(["nearc2", "nearc4"]))
    np.testing.assert_allclose(one(rows, "ar").hull(), (0.0536742, 0.3617431), atol=5e-8)
    np.testing.assert_allclose(one(rows, "clr").hull(), (0.0621200, 0.3361808), atol=5e-8)
    two = one(rows, "lm")
    assert two.shape == "intervals"
    assert "spurious" in two.text


# Shapes.


@pytest.mark.parametrize("name", sorted(SHAPES))
@pytest.mark.parametrize("method", METHODS)
def test_shapes_by_brute_force(name, method):
    rows = study(name)
    found = one(rows, method)
    grid = np.concatenate([np.linspace(-60, 60, 1201), np.linspace(-3, 6, 901), [-1e7, 1e7]])
    test = {"ar": lambda b: ar_test(rows, [b]), "clr": lambda b: clr_test(rows, b), "lm": lambda b: lm_test(rows, [b])}
    p_value = np.array([test[method](b).p_value for b in grid])
    assert permitted(0.05 - p_value, grid, found.pieces, slack=1e-7)
    if method == "ar":
        assert found.shape == name
    if method == "lm":
        assert found.shape in ("intervals", "mixed", "line")


def test_an_empty_set_reads_as_a_rejected_model():
    row = confidence_sets(study("empty"), "ar")[0]
    assert row.found.pieces == ()
    assert "rejected" in row.found.text
    assert "not precision" in row.found.text
    assert all(math.isnan(end) for end in row.found.hull())
    assert not row.found.contains(1.0)


def test_one_ray_at_the_boundary_of_rejection():
    pencil = pencil_of(study("interval"))
    level = pencil.d1 * pencil.G[1, 1] / pencil.M[1, 1]
    pieces = level_set(pencil, 0, float(level))
    assert shape(pieces) == "ray"
    end = pieces[0][0] if np.isfinite(pieces[0][0]) else pieces[0][1]
    side = 1.0 if np.isfinite(pieces[0][0]) else -1.0
    assert ratio(pencil, np.array([end])) == pytest.approx(level, rel=1e-9)
    assert ratio(pencil, np.array([end + side])) < level < ratio(pencil, np.array([end - side]))


def test_unbounded_exactly_when_the_first_stage_does_not_reject():
    for name in SHAPES:
        rows = study(name)
        first = rows.d1 * float(rows.moments.XPX[0, 0] / rows.moments.XMX[0, 0])
        found = one(rows, "ar")
        if found.pieces:
            assert np.isinf(found.hull()[1]) == (first <= stats.chi2.isf(0.05, rows.q))


def test_clr_is_never_empty_and_contains_liml_as_lm_does():
    for seed in range(8):
        for strength, direct in ((0.02, 0.0), (0.1, 0.0), (0.3, np.array([2.0, -2.0, 1.0]))):
            rows = net(*simulated(seed, strength=strength, direct=direct))
            centre = liml(rows)
            for method in ("clr", "lm"):
                assert one(rows, method).contains(centre), (seed, strength, method)


def test_sets_hold_the_test_at_every_end():
    rows = net(*simulated(2, q=4, strength=0.2))
    for method, test in (("ar", lambda b: ar_test(rows, [b])), ("clr", lambda b: clr_test(rows, b))):
        for level in (0.5, 0.9, 0.999):
            for end in (e for piece in one(rows, method, level=level).pieces for e in piece if np.isfinite(e)):
                assert test(end).p_value == pytest.approx(1 - level, rel=1e-7)


# The conditional law.


@pytest.mark.parametrize("q", [2, 3, 5, 20, 100])
@pytest.mark.parametrize("tau", [0.01, 3.0, 80.0, 1e5])
def test_conditional_law_by_integration(q, tau):
    for x in (0.1, 3.84, 15.0):

        def integrand(angle, x=x):
            s2 = np.sin(angle) ** 2
            return np.cos(angle) ** (q - 2) * stats.chi2.sf((tau + x) / (1 + tau * s2 / x), q)

        near = min(1.5, 5.0 / math.sqrt(q))
        top = sum(integrate.quad(integrand, *ends, epsabs=1e-13)[0] for ends in ((0, near), (near, math.pi / 2)))
        whole = math.sqrt(math.pi) / 2 * math.exp(math.lgamma((q - 1) / 2) - math.lgamma(q / 2))
        assert clr_p_value(x, tau, q) == pytest.approx(top / whole, rel=1e-8, abs=1e-12)


def test_conditional_law_by_simulation():
    rng = np.random.default_rng(5)
    first, rest = rng.chisquare(1, 200_000), rng.chisquare(3, 200_000)
    for tau in (0.5, 6.0, 40.0):
        both = first + rest
        draws = 0.5 * (both - tau + np.sqrt((both + tau) ** 2 - 4 * rest * tau))
        for x in (1.0, 4.0, 8.0):
            p = clr_p_value(x, tau, 4)
            assert np.mean(draws > x) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / draws.size) + 1e-5)


def test_conditional_law_at_its_ends():
    assert clr_p_value(5.0, 0.0, 4) == pytest.approx(stats.chi2.sf(5.0, 4), rel=1e-10)
    assert clr_p_value(5.0, 1e13, 4) == pytest.approx(stats.chi2.sf(5.0, 1), rel=1e-5)
    assert clr_p_value(5.0, math.inf, 4) == pytest.approx(stats.chi2.sf(5.0, 1))
    assert clr_p_value(5.0, 2.0, 1) == pytest.approx(stats.chi2.sf(5.0, 1))
    assert clr_p_value(0.0, 0.0, 3) == 1.0
    assert clr_level(0.3, 0.4, 3, 0.05) == math.inf
    assert clr_level(2.0, math.inf, 3, 0.05) == pytest.approx(2.0 + stats.chi2.isf(0.05, 1))
    assert lm_levels(2.0, math.inf, 3.84) == (5.84, math.inf)
    assert lm_levels(1.0, 2.0, 3.84) == (math.inf, math.inf)


def test_lm_levels_solve_the_test():
    low, high, critical = 1.3, 40.0, 3.84
    for level in lm_levels(low, high, critical):
        assert (level - low) * (high - level) / (low + high - level) == pytest.approx(critical, rel=1e-12)


# Symmetries and weights.


@pytest.mark.parametrize("name", ["interval", "rays"])
def test_sign_and_units(name):
    rows = study(name)
    for method in METHODS:
        pieces = one(rows, method).pieces
        mirrored = one(replace(rows, y=-rows.y), method).pieces
        np.testing.assert_allclose(sorted((-h, -l) for l, h in mirrored), pieces, rtol=1e-9)
        scaled = one(rows.scaled(1e-3, np.array([1e4])), method).pieces
        np.testing.assert_allclose(np.array(scaled) / 1e7, pieces, rtol=1e-9)
        moved = one(replace(rows, y=rows.y + 1e6 * rows.X[:, 0]), method).pieces
        np.testing.assert_allclose(np.array(moved) - 1e6, pieces, rtol=1e-6, atol=1e-7)
        turned = one(replace(rows, Z=rows.Z @ np.array([[2.0, 1, 0], [0, 1, 5], [0, 0, -3]])), method).pieces
        np.testing.assert_allclose(turned, pieces, rtol=1e-9)


def test_integer_weights_against_repeated_rows():
    y, X, Z, C = simulated(4, strength=0.4)
    times = np.random.default_rng(0).integers(1, 4, y.size)
    again = np.repeat(np.arange(y.size), times)
    weighted, repeated = net(y, X, Z, C, weights=times.astype(float)), net(y[again], X[again], Z[again], C[again])
    # n is the row count, so that degrees of freedom differ and the ratio of the two forms does not.
    assert weighted.d1 != repeated.d1
    for b in (0.0, 1.0):
        first, second = (ar_test(rows, [b]).statistic / rows.d1 for rows in (weighted, repeated))
        assert first == pytest.approx(second, rel=1e-11)
    first, second = pencil_of(weighted), pencil_of(repeated)
    np.testing.assert_allclose(np.array(eigenvalues(first)) / first.d1, np.array(eigenvalues(second)) / second.d1)
    share = 0.03
    np.testing.assert_allclose(
        level_set(first, 0, share * first.d1), level_set(second, 0, share * second.d1), rtol=1e-10
    )


def test_narrow_set_far_from_zero():
    rows = net(*simulated(1, n=400, strength=1.0, b=1e7, noise=1e-3))
    low, high = one(rows, "ar").hull()
    assert 0 < high - low < 1e-3
    for end in (low, high):
        assert ar_test(rows, [end]).p_value == pytest.approx(0.05, rel=1e-3)


# Several treatments.


def test_subset_against_another_implementation():
    from ivmodels.confidence_set import ConfidenceSet as Theirs
    from ivmodels.tests import anderson_rubin_test, inverse_anderson_rubin_test

    y, X, Z, C = mroz_arrays()
    rows = net(y, X, Z, C, treatments=("educ", "exper"))
    for law in ("chi2", "f"):
        found = confidence_sets(rows, "ar", ar_law=law)
        assert [row.treatment for row in found] == ["educ", "exper"]
        for j, row in enumerate(found):
            one_x, other = X[:, [j]], X[:, [1 - j]]
            theirs = anderson_rubin_test(Z, one_x, y, np.array([0.0]), W=other, critical_values=law)
            np.testing.assert_allclose((row.statistic, row.p_value), theirs, rtol=1e-9)
            quadric = inverse_anderson_rubin_test(Z, one_x, y, W=other, critical_values=law)
            np.testing.assert_allclose(row.found.pieces, Theirs.from_quadric(quadric).boundaries, rtol=1e-9)


def test_subset_shapes_by_brute_force():
    seen = set()
    for seed, scale, direct in ((0, 1.0, 0.0), (1, 0.1, 0.3), (2, 0.2, 0.3), (3, 0.2, 0.3), (4, 0.05, 0.0)):
        strength = scale * np.random.default_rng(seed).standard_normal((4, 2)) * np.array([1.0, 4.0])[None, :]
        rows = net(*simulated(seed, q=4, p=2, strength=strength, direct=direct * np.array([1.0, 1.0, 0.0, 0.0])))
        pencil = pencil_of(rows)
        grid = np.concatenate([np.linspace(-40, 40, 801), np.linspace(-3, 5, 401)])
        for j, row in enumerate(confidence_sets(rows, "ar")):
            excess = np.array([subset_ratio(pencil, j, b) for b in grid]) - stats.chi2.isf(0.05, 3)
            assert permitted(excess, grid, row.found.pieces, slack=1e-7)
            seen.add(row.found.shape)
    assert {"interval", "line", "rays", "empty"} <= seen


def test_conditional_sets_have_a_reason_with_several_treatments():
    rows = net(*mroz_arrays())
    for row in confidence_sets(rows, ("clr", "lm")):
        assert row.found is None
        assert "one treatment" in row.reason
        assert math.isnan(row.statistic)
    assert "one treatment" in clr_test(rows, 0.0).law


# Edges.


def test_treatment_in_the_span_of_the_instruments():
    y, _, Z, C = simulated(0, strength=0.5)
    rows = net(y, Z[:, :1] + 0.5 * Z[:, 1:2], Z, C)
    for row in confidence_sets(rows, METHODS, sandwich=Sandwich("hc1")):
        assert row.found.shape in ("interval", "empty", "intervals"), row
        assert np.isfinite(row.statistic)
    clr = one(rows, "clr")
    assert clr_test(rows, clr.hull()[0]).p_value == pytest.approx(0.05, rel=1e-6)
    assert clr.contains(liml(rows))


def test_exact_fit_and_too_few_rows_have_reasons():
    y, X, Z, C = simulated(0, strength=0.5)
    exact = net(2.0 * X[:, 0], X, Z, C)
    for row in confidence_sets(exact, METHODS, sandwich=Sandwich("hc1")):
        assert row.found is None
        assert "exact function" in row.reason
    few = replace(net(y, X, Z, C), n_partialled=118)
    assert "degrees of freedom" in confidence_sets(few, "ar")[0].reason
    under = net(*simulated(0, q=1, p=2, strength=np.ones((1, 2))))
    assert all("fewer instruments" in row.reason for row in confidence_sets(under, "ar", sandwich=Sandwich("hc1")))


def test_options_are_checked():
    rows = study("interval")
    with pytest.raises(OptionError, match="sets"):
        confidence_sets(rows, "wald")
    with pytest.raises(OptionError, match="level"):
        confidence_sets(rows, "ar", level=1.0)
    with pytest.raises(OptionError, match="ar_law"):
        confidence_sets(rows, "ar", ar_law="t")


def test_quadratics_and_unions():
    size = (1.0, 1.0, 1.0)
    assert quadratic_set(1.0, 0.0, 1.0, size) == ()
    assert quadratic_set(-1.0, 0.0, -1.0, size) == ((-math.inf, math.inf),)
    assert quadratic_set(0.0, 1.0, 4.0, size) == ((2.0, math.inf),)
    assert quadratic_set(0.0, -1.0, 4.0, size) == ((-math.inf, -2.0),)
    assert quadratic_set(0.0, 0.0, 1.0, size) == ()
    assert quadratic_set(0.0, 0.0, -1.0, size) == ((-math.inf, math.inf),)
    assert quadratic_set(1.0, 1.0, 1.0, size) == ((1.0, 1.0),)
    assert quadratic_set(1e-17, 0.5, 1.0, size) == ((1.0, math.inf),)
    low, high = quadratic_set(1.0, 1e8, 1.0, (1.0, 1e8, 1.0))[0]
    assert low == pytest.approx(5e-9, rel=1e-12)
    assert high == pytest.approx(2e8)
    assert union([(0.0, 1.0)], [(1.0, 2.0), (3.0, 4.0)]) == ((0.0, 2.0), (3.0, 4.0))
    assert shape(((-math.inf, 0.0), (1.0, 2.0), (3.0, math.inf))) == "mixed"
    assert shape(((0.0, 1.0), (2.0, 3.0))) == "intervals"
    assert written(((-math.inf, 1.0),)) == "(-inf, 1]"
