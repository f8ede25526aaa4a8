"""Scores against closed forms, their own derivatives, DoubleML, and the algebra they must obey."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat.kernels import effect_scores as k

FITTED = {
    "ate": k.aipw_ate,
    "att": k.aipw_att,
    "ato fitted": k.aipw_ato_fitted,
    "ato orthogonal": k.aipw_ato_orthogonal,
}
HAJEK = {"ate": k.ipw_ate, "att": k.ipw_att, "ato": k.ipw_ato}
OUTCOME = {"ate": k.outcome_ate, "att": k.outcome_att, "ato": k.outcome_ato}


def study(seed, n=60):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    m = 1 / (1 + np.exp(-0.7 * x + 0.3 * rng.standard_normal(n)))
    d = (rng.random(n) < m).astype(float)
    d[:2] = 0.0, 1.0
    y = 1 + x + d * (0.5 + 0.3 * x) + rng.standard_normal(n)
    g0, g1 = 1 + 0.9 * x, 1.4 + 1.2 * x
    w = rng.random(n) + 0.5
    return {name: jnp.asarray(v) for name, v in {"y": y, "d": d, "g0": g0, "g1": g1, "m": m, "w": w / w.mean()}.items()}


def evaluate(name, s):
    if name in FITTED:
        return FITTED[name](s["y"], s["d"], s["g0"], s["g1"], s["m"], s["w"])
    return HAJEK[name.removeprefix("ipw ")](s["y"], s["d"], s["m"], s["w"])


ALL = [*FITTED, "ipw ate", "ipw att", "ipw ato"]


@pytest.mark.parametrize("name", ALL)
def test_phi_is_the_derivative_in_the_row_weights(name):
    s = study(1)
    theta, phi = evaluate(name, s)
    slope = jax.grad(lambda w: evaluate(name, s | {"w": w})[0])(s["w"])
    np.testing.assert_allclose(phi, slope * s["w"] * len(phi), rtol=1e-10, atol=1e-12)
    assert abs(float(phi.sum())) < 1e-10
    assert np.isfinite(float(theta))


@pytest.mark.parametrize("rescale", [k.rescale_arm, k.rescale_odds])
def test_phi_of_rescaled_scores_is_the_whole_derivative_constants_included(rescale):
    s = study(2)
    d, m = s["d"], s["m"]
    for shift in (0.0, 3.0):  # outcome regressions that are wrong make the constants matter
        arguments = s["y"], d, s["g0"] - shift, s["g1"] + shift, m
        for score in (k.aipw_ate, k.aipw_att, k.aipw_ato_fitted):
            phi = score(*arguments, s["w"], rescaled=rescale(d, m, s["w"]))[1]
            slope = jax.grad(lambda w, f=score, a=arguments: f(*a, w, rescaled=rescale(d, m, w))[0])(s["w"])
            np.testing.assert_allclose(phi, slope * s["w"] * len(phi), rtol=1e-9, atol=1e-11)
            assert abs(float(phi.sum())) < 1e-9


def test_rescaled_att_has_the_influence_of_the_normalised_mean():
    s = study(4)
    pair = k.rescale_odds(s["d"], s["m"], s["w"])
    phi = k.aipw_att(s["y"], s["d"], s["g0"], s["g1"], s["m"], s["w"], rescaled=pair)[1]
    expected = k.ipw_att(s["y"] - s["g0"], s["d"], s["m"], s["w"])[1]
    np.testing.assert_allclose(phi, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("score", "rescale"),
    [(k.aipw_ate, k.rescale_arm), (k.aipw_att, k.rescale_odds), (k.aipw_ato_fitted, k.rescale_arm)],
)
def test_sandwich_and_bootstrap_with_the_nuisances_held_agree_when_g_is_wrong(score, rescale):
    s = study(10, n=800)
    d, m = s["d"], jnp.clip(s["m"], 0.1, 0.9)
    arguments = s["y"] + 5.0, d, s["g0"], s["g1"], m
    phi = score(*arguments, s["w"], rescaled=rescale(d, m, s["w"]))[1]
    sandwich = float(jnp.sqrt(jnp.sum(phi**2)) / 800)

    def draw(v):
        return score(*arguments, s["w"] * v, rescaled=rescale(d, m, s["w"] * v))[0]

    draws = jax.vmap(draw)(jax.random.exponential(jax.random.key(0), (2000, 800), dtype=jnp.float64))
    assert float(draws.std()) == pytest.approx(sandwich, rel=0.06)
    fixed = rescale(d, m, s["w"])._replace(treated_influence=0 * m, control_influence=0 * m)
    held = score(*arguments, s["w"], rescaled=fixed)[1]
    assert float(jnp.sqrt(jnp.sum(held**2)) / 800) > 1.3 * sandwich


def test_rescaled_weights_average_one_and_odds_count_the_treated():
    s = study(3)
    d, w = s["d"], s["w"]
    treated, control, *_ = k.rescale_arm(d, s["m"], w)
    assert float(jnp.mean(w * d / treated)) == pytest.approx(1.0, abs=1e-12)
    assert float(jnp.mean(w * (1 - d) / control)) == pytest.approx(1.0, abs=1e-12)
    odds = k.control_odds(d, s["m"], k.rescale_odds(d, s["m"], w))
    assert float(jnp.sum(w * odds)) == pytest.approx(float(jnp.sum(w * d)), rel=1e-12)


def test_rescaled_att_is_the_residual_difference_of_normalised_means():
    s = study(4)
    pair = k.rescale_odds(s["d"], s["m"], s["w"])
    theta = k.aipw_att(s["y"], s["d"], s["g0"], s["g1"], s["m"], s["w"], rescaled=pair)[0]
    assert float(theta) == pytest.approx(float(k.ipw_att(s["y"] - s["g0"], s["d"], s["m"], s["w"])[0]), rel=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_att_by_the_longer_formula_with_g1_is_the_same(seed):
    s = study(seed)
    y, d, g0, g1, m, w = (s[c] for c in ("y", "d", "g0", "g1", "m", "w"))
    longer = d * (g1 - g0) + d * (y - g1) - (1 - d) * (y - g0) * m / (1 - m)
    theta, _ = k.aipw_att(y, d, g0, jnp.full_like(y, jnp.nan), m, w)
    assert float(theta) == pytest.approx(float(jnp.sum(w * longer) / jnp.sum(w * d)), abs=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_orthogonal_ato_is_residual_on_residual(seed):
    s = study(seed)
    y, d, m, w = s["y"], s["d"], s["m"], s["w"]
    u = y - m * s["g1"] - (1 - m) * s["g0"]
    theta, phi = k.aipw_ato_orthogonal(y, d, s["g0"], s["g1"], m, w)
    expected = jnp.sum(w * (d - m) * u) / jnp.sum(w * (d - m) ** 2)
    assert float(theta) == pytest.approx(float(expected), abs=1e-12)
    np.testing.assert_allclose(
        phi, w * (d - m) * (u - theta * (d - m)) / jnp.mean(w * (d - m) ** 2), rtol=1e-9, atol=1e-11
    )


@given(st.integers(0, 10_000), st.floats(-5, 5), st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_units_of_the_outcome_scale_estimates_and_influence(seed, shift, scale):
    s = study(seed)
    moved = s | {c: shift + scale * s[c] for c in ("y", "g0", "g1")}
    for name in ALL:
        theta, phi = evaluate(name, s)
        theta2, phi2 = evaluate(name, moved)
        assert float(theta2) == pytest.approx(scale * float(theta), rel=1e-8, abs=1e-8)
        np.testing.assert_allclose(phi2, scale * phi, rtol=1e-7, atol=1e-7)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_swapped_arms_flip_the_sign(seed):
    s = study(seed)
    swapped = s | {"d": 1 - s["d"], "m": 1 - s["m"], "g0": s["g1"], "g1": s["g0"]}
    for name in ("ate", "ato fitted", "ato orthogonal", "ipw ate", "ipw ato"):
        assert float(evaluate(name, swapped)[0]) == pytest.approx(-float(evaluate(name, s)[0]), abs=1e-11)
    y, d, g1, m, w = s["y"], s["d"], s["g1"], s["m"], s["w"]
    atc = jnp.sum(w * ((1 - d) * (g1 - y) + d * (1 - m) / m * (y - g1))) / jnp.sum(w * (1 - d))
    assert float(evaluate("att", swapped)[0]) == pytest.approx(-float(atc), abs=1e-11)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_rows_weights_and_copies(seed):
    s = study(seed)
    order = np.random.default_rng(seed).permutation(60)
    counts = np.random.default_rng(seed).integers(0, 4, 60)
    counts[:2] = 1
    for name in ALL:
        theta, phi = evaluate(name, s)
        theta_p, phi_p = evaluate(name, {c: v[order] for c, v in s.items()})
        assert float(theta_p) == pytest.approx(float(theta), abs=1e-11)
        np.testing.assert_allclose(phi_p, phi[order], rtol=1e-9, atol=1e-10)
        doubled = evaluate(name, s | {"w": 2 * s["w"]})
        assert float(doubled[0]) == pytest.approx(float(theta), abs=1e-12)
        np.testing.assert_allclose(doubled[1], phi, rtol=1e-10, atol=1e-12)
        weighted = evaluate(name, s | {"w": jnp.asarray(counts, dtype=float)})
        copies = evaluate(name, {c: jnp.repeat(v, counts) for c, v in s.items()} | {"w": jnp.ones(counts.sum())})
        assert float(weighted[0]) == pytest.approx(float(copies[0]), abs=1e-11)
        # A row of weight 2 is two copies of one cluster: the summed influence over n is the same.
        summed = np.add.reduceat(np.append(copies[1], 0.0), np.minimum(np.cumsum(counts) - counts, counts.sum()))
        summed = np.where(counts > 0, summed, 0.0) / counts.sum()
        np.testing.assert_allclose(summed, np.asarray(weighted[1]) / 60, atol=1e-10)


def test_constant_propensity_and_arm_means_give_the_difference_in_means_everywhere():
    s = study(5)
    y, d, w = s["y"], s["d"], s["w"]
    one, zero = (jnp.full_like(y, jnp.sum(w * a * y) / jnp.sum(w * a)) for a in (d, 1 - d))
    flat = s | {"g1": one, "g0": zero, "m": jnp.full_like(y, jnp.mean(w * d))}
    plain, influence = k.difference_in_means(y, d, w)
    for name in ALL:
        theta, phi = evaluate(name, flat)
        assert float(theta) == pytest.approx(float(plain), abs=1e-12)
        np.testing.assert_allclose(phi, influence, rtol=1e-9, atol=1e-10)
    for name, outcome in OUTCOME.items():
        assert float(outcome(d, zero, one, flat["m"], w)) == pytest.approx(float(plain), abs=1e-12), name


def test_forms_of_the_ato_meet_when_the_effect_is_constant_and_residuals_cancel():
    s = study(6)
    y, d, m, w = s["y"], s["d"], s["m"], s["w"]
    g0 = s["g0"] + jnp.sum(w * (1 - d) * m * (y - s["g0"])) / jnp.sum(w * (1 - d) * m)
    g1 = g0 + jnp.sum(w * d * (1 - m) * (y - g0)) / jnp.sum(w * d * (1 - m))
    pair = [float(FITTED[f](y, d, g0, g1, m, w)[0]) for f in ("ato fitted", "ato orthogonal")]
    assert pair[0] == pytest.approx(pair[1], abs=1e-12)
    assert pair[0] == pytest.approx(float((g1 - g0)[0]), abs=1e-12)


def test_ato_with_constant_propensity_is_the_ate():
    s = study(7)
    flat = s | {"m": jnp.full_like(s["m"], 0.4)}
    assert float(evaluate("ato fitted", flat)[0]) == pytest.approx(float(evaluate("ate", flat)[0]), abs=1e-12)


@given(st.integers(0, 10_000), st.floats(0.2, 1.0), st.floats(0.2, 1.0))
@settings(max_examples=20, deadline=None)
def test_hajek_ignores_a_constant_per_arm(seed, c1, c0):
    s = study(seed)
    a1, a0 = k.inverse_weights(s["d"], s["m"])
    scaled = k.hajek(s["y"], c1 * a1, c0 * a0, s["w"])
    plain = k.ipw_ate(s["y"], s["d"], s["m"], s["w"])
    assert float(scaled[0]) == pytest.approx(float(plain[0]), abs=1e-11)
    np.testing.assert_allclose(scaled[1], plain[1], rtol=1e-9, atol=1e-10)


def test_outcome_estimates_average_over_their_targets():
    s = study(8)
    d, g0, g1, m, w = (np.asarray(s[c]) for c in ("d", "g0", "g1", "m", "w"))
    weights = {"ate": w, "att": w * d, "ato": w * m * (1 - m)}
    for name, outcome in OUTCOME.items():
        value = float(outcome(s["d"], s["g0"], s["g1"], s["m"], s["w"]))
        assert value == pytest.approx(np.average(g1 - g0, weights=weights[name]), rel=1e-12)


def test_scores_compile_and_differentiate_with_certain_rows_in_the_other_arm():
    s = study(9)
    m = s["m"].at[0].set(0.0).at[1].set(1.0)  # row 0 is a control, row 1 treated
    theta, phi = jax.jit(k.aipw_ate)(s["y"], s["d"], s["g0"], s["g1"], m, s["w"])
    assert np.isfinite(float(theta))
    assert np.isfinite(np.asarray(phi)).all()
    slope = jax.grad(lambda y: k.aipw_ate(y, s["d"], s["g0"], s["g1"], m, s["w"])[0])(s["y"])
    assert np.isfinite(np.asarray(slope)).all()
