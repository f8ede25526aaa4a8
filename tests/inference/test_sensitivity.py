"""Omitted-variable bounds: closed forms, monotonicity, units, derivatives, and the pieces DoubleML computes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat.errors import DataError, NumericalError, OptionError
from causalsat.inference import sensitivity as s
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling


def study(seed, n=300):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    m = 1 / (1 + np.exp(-0.8 * np.tanh(x)))
    d = (rng.random(n) < m).astype(float)
    y = x + d * (1 + 0.5 * x) + rng.standard_normal(n)
    return {"y": y, "d": d, "g0": 0.9 * x, "g1": 1 + 1.4 * x, "m": m}


def aipw(u, w=None):
    w = np.ones_like(u["y"]) if w is None else w / w.mean()
    y, d, g0, g1, m = u.values()
    rows = g1 - g0 + d * (y - g1) / m - (1 - d) * (y - g0) / (1 - m)
    theta = np.mean(w * rows)
    return theta, w * (rows - theta)


def att(u):
    y, d, g0, _, m = u.values()
    rows = (d - (1 - d) * m / (1 - m)) * (y - g0) / d.mean()
    return rows.mean(), rows - d / d.mean() * rows.mean()


def elements(name, seed):
    u = study(seed)
    if name == "plr":
        return s.plr_elements(u["y"] - u["m"] * u["g1"] - (1 - u["m"]) * u["g0"], u["d"] - u["m"])
    theta, phi = aipw(u) if name == "ate" else att(u)
    return (s.ate_elements if name == "ate" else s.att_elements)(theta, phi, *u.values())


MODELS = ["plr", "ate", "att"]


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_centred_and_derivatives_of_their_moments(name):
    e = elements(name, 1)
    for psi in (e.phi, e.psi_sigma, e.psi_nu, e.psi_scale):
        assert abs(psi.mean()) < 1e-10
    if name == "plr":
        u = study(1)
        residual = (u["y"] - u["m"] * u["g1"] - (1 - u["m"]) * u["g0"], u["d"] - u["m"])
        step, n = 1e-6, 300
        for row in (0, 17):
            w = np.ones(n)
            w[row] += step * n
            moved = s.plr_elements(*residual, weights=w)
            base = s.plr_elements(*residual)
            assert (moved.theta - base.theta) / step == pytest.approx(base.phi[row], rel=1e-2, abs=1e-3)
            assert (moved.nu2 - base.nu2) / step == pytest.approx(base.psi_nu[row], rel=1e-2, abs=1e-3)


def test_influence_of_a_bound_is_its_derivative_in_the_row_weights():
    u, step, n = study(1), 1e-7, 300
    base = s.ate_elements(*aipw(u), *u.values())
    c = s.strength(0.1, 0.2)
    for row in (0, 5, 123):
        ends = []
        for sign in (1.0, -1.0):
            w = np.ones(n)
            w[row] += sign * step * n
            ends.append(s.ate_elements(*aipw(u, w), *u.values(), weights=w))
        low = (ends[0].theta - c * ends[0].scale - ends[1].theta + c * ends[1].scale) / (2 * step)
        assert low == pytest.approx((base.phi - c * base.psi_scale)[row], rel=1e-5, abs=1e-6)


@given(st.sampled_from(MODELS), st.integers(0, 500))
@settings(max_examples=15, deadline=None)
def test_no_confounding_has_no_width_and_the_usual_interval(name, seed):
    e = elements(name, seed)
    fit = s.sensitivity(e, sides="two-sided")
    for strength in ((0.0, 0.5), (0.5, 0.0)):
        found = s.bounds(fit, *strength)
        assert found.low == found.high == e.theta
        se = math.sqrt((e.phi**2).sum()) / e.phi.size
        assert found.conf_high - found.conf_low == pytest.approx(2 * 1.959963984540054 * se, rel=1e-10)


@given(st.sampled_from(MODELS), st.integers(0, 500), st.floats(0.01, 0.8), st.floats(0.01, 0.8), st.floats(0.05, 0.9))
@settings(max_examples=25, deadline=None)
def test_bias_grows_in_every_argument(name, seed, cf_y, cf_d, rho):
    fit = s.sensitivity(elements(name, seed))
    width = s.bounds(fit, cf_y, cf_d, rho).high - s.bounds(fit, cf_y, cf_d, rho).low
    for stronger in ((cf_y + 0.1, cf_d, rho), (cf_y, cf_d + 0.1, rho), (cf_y, cf_d, rho + 0.1)):
        wider = s.bounds(fit, *stronger)
        assert wider.high - wider.low > width
    mirrored = s.bounds(fit, cf_y, cf_d, -rho)
    assert mirrored.high - mirrored.low == pytest.approx(width)


@given(st.sampled_from(MODELS), st.integers(0, 500), st.floats(-2, 2))
@settings(max_examples=25, deadline=None)
def test_robustness_values_attain_the_null(name, seed, null):
    fit = s.sensitivity(elements(name, seed))
    rv, rva = s.robustness_value(fit, null)
    side = "low" if fit.theta >= null else "high"
    assert getattr(s.bounds(fit, rv, rv), side) == pytest.approx(null, abs=1e-9)
    assert 0 <= rva <= rv < 1
    if rva > 0:
        assert getattr(s.bounds(fit, rva, rva), f"conf_{side}") == pytest.approx(null, abs=1e-9)
    else:
        limit = getattr(s.bounds(fit, 0, 0), f"conf_{side}")
        assert limit <= null if side == "low" else limit >= null


def test_closed_form_robustness_value_equals_a_root_search():
    from scipy import optimize

    fit = s.sensitivity(elements("ate", 2))
    root = optimize.brentq(lambda cf: s.bounds(fit, cf, cf).low, 0, 0.999, xtol=1e-13)
    assert s.robustness_value(fit)[0] == pytest.approx(root, abs=1e-9)


@given(st.integers(0, 500), st.floats(0.01, 100), st.floats(0.01, 100))
@settings(max_examples=15, deadline=None)
def test_units_of_outcome_and_treatment(seed, a, b):
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(100)
    u = 0.7 * v + rng.standard_normal(100)
    plain, moved = s.plr_elements(u, v), s.plr_elements(a * u, b * v)
    assert moved.theta == pytest.approx(plain.theta * a / b)
    assert moved.scale == pytest.approx(plain.scale * a / b)
    one, two = (s.robustness_value(s.sensitivity(e)) for e in (plain, moved))
    assert two == pytest.approx(one, abs=1e-8)


def test_weights_that_count_rows_and_clusters():
    u = study(3)
    counts = np.random.default_rng(3).integers(0, 3, 300)
    theta, phi = aipw(u, counts.astype(float))
    weighted = s.ate_elements(theta, phi, *u.values(), weights=counts)
    copies = {c: np.repeat(v, counts) for c, v in u.items()}
    expanded = s.ate_elements(*aipw(copies), *copies.values())
    for name in ("theta", "sigma2", "nu2"):
        assert getattr(weighted, name) == pytest.approx(getattr(expanded, name))
    cluster = Sandwich("cluster", small_sample="none")
    kept = np.repeat(np.arange(300), counts)
    one = s.sensitivity(weighted, sandwich=cluster, sampling=Sampling(300, cluster=np.arange(300)))
    two = s.sensitivity(expanded, sandwich=cluster, sampling=Sampling(kept.size, cluster=kept))
    np.testing.assert_allclose(one.covariance, two.covariance, rtol=1e-9)


def test_limits_are_one_sided_at_the_level_or_two_sided():
    e = elements("ate", 4)
    one, two = (s.bounds(s.sensitivity(e, sides=side), 0.1, 0.1) for side in s.SIDES)
    assert (one.low - one.conf_low) / one.std_error_low == pytest.approx(1.6448536269514722)
    assert (two.low - two.conf_low) / two.std_error_low == pytest.approx(1.959963984540054)


def test_contour_holds_the_side_of_the_null():
    fit = s.sensitivity(elements("ate", 5))
    grid = np.array([0.0, 0.1, 0.3])
    found = s.contour(fit, grid, grid)
    assert found[1, 2] == s.bounds(fit, 0.1, 0.3).low
    assert s.contour(fit, grid, grid, null=100.0)[1, 2] == s.bounds(fit, 0.1, 0.3).high
    assert s.contour(fit, grid, grid, of="limit")[2, 1] == s.bounds(fit, 0.3, 0.1).conf_low
    with pytest.raises(OptionError, match="limit"):
        s.contour(fit, grid, grid, of="limits")


def test_benchmark_of_a_dropped_confounder_points_its_way():
    rng = np.random.default_rng(6)
    z, n = rng.standard_normal(5000), 5000
    d = z + rng.standard_normal(n)
    y = d + 2 * z + rng.standard_normal(n)
    long, short = s.plr_elements(y - 3 * z, d - z), s.plr_elements(y, d)
    found = s.benchmark(long, short, y.var())
    assert found.change == pytest.approx(1.0, abs=0.1)
    assert found.cf_d == pytest.approx(1.0, abs=0.05)  # nu2 halves
    assert found.rho > 0.9
    with pytest.raises(DataError, match="same rows"):
        s.benchmark(long, s.plr_elements(y[1:], d[1:]), 1.0)


def test_dead_ends_have_names():
    with pytest.raises(NumericalError, match="no variation left"):
        s.plr_elements(np.ones(5), np.zeros(5))
    u = study(7) | {"m": np.full(300, 0.001)}
    with pytest.raises(NumericalError, match="nu2=-"):
        s.ate_elements(*aipw(u), *u.values())
    fit = s.sensitivity(elements("ate", 8))
    for arguments in ((1.1, 0.1), (0.1, -0.1), (0.1, 0.1, 2.0)):
        with pytest.raises(OptionError):
            s.bounds(fit, *arguments)
    assert math.isinf(s.strength(0.1, 1.0))


def test_words():
    text = s.in_words(s.sensitivity(elements("ate", 9)))
    assert "robustness value" in text
    assert "one-sided" in text
