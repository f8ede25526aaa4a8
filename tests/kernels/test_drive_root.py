"""The one-dimensional root: a conic solver, closed forms, the worst case itself, identities, derivatives."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from causalsat.kernels.drive_root import CLIPPED, OK, drive_root, ols_root, reduced, threshold

cvxpy = pytest.importorskip("cvxpy")

TIGHT = {"tol_gap_abs": 1e-13, "tol_gap_rel": 1e-13, "tol_feas": 1e-13, "max_iter": 200}


def problem(seed, q, p, strength=1.0):
    g = np.random.default_rng(seed)
    return jnp.asarray(strength * g.normal(size=(q, p)) / np.sqrt(q)), jnp.asarray(g.normal(size=q))


def objective(B, w, b, rho):
    return np.linalg.norm(w - B @ b) + np.sqrt(rho * (1.0 + b @ b))


@jax.jit
def _solved(B, w, rho):
    return drive_root(reduced(B, w, B.shape[0] == B.shape[1]), rho)


def solved(B, w, rho):
    return _solved(B, w, jnp.float64(rho))


rooted = jax.jit(drive_root)
to_ols = jax.jit(ols_root, static_argnums=6)


def residual_parts(seed, p, singular=False):
    """X'M_Z X/n, X'M_Z y/n, y'M_Z y/n of rows of their own; the first treatment in the span of Z if ``singular``."""
    g = np.random.default_rng(seed + 999)
    rows = g.normal(size=(50, p + 1))
    if singular:
        rows[:, 0] = 0.0
    gram = rows.T @ rows / 50
    return jnp.asarray(gram[:p, :p]), jnp.asarray(gram[:p, p]), jnp.asarray(gram[p, p])


SHAPES = [(1, 1), (4, 1), (3, 3), (5, 2), (9, 5), (8, 8), (20, 20), (24, 20)]


@pytest.mark.parametrize(("q", "p"), SHAPES)
def test_never_above_a_conic_solver(q, p):
    """56 problems, at radii far below, at 0.8 of and far above the threshold of the just-identified fit."""
    for seed in range(7):
        B, w = problem(100 * q + seed, q, p)
        limit = float(threshold(reduced(B, w, q == p)))
        rho = (0.05, 0.8, 20.0)[seed % 3] * limit
        root = solved(B, w, rho)
        b = cvxpy.Variable(p)
        loss = cvxpy.norm(np.asarray(w) - np.asarray(B) @ b)
        penalty = np.sqrt(rho) * cvxpy.norm(cvxpy.hstack([np.ones(1), b]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cvxpy.Problem(cvxpy.Minimize(loss + penalty)).solve(solver=cvxpy.CLARABEL, **TIGHT)
        ours = objective(np.asarray(B), np.asarray(w), np.asarray(root.b), rho)
        assert ours <= objective(np.asarray(B), np.asarray(w), b.value, rho) + 1e-10
        np.testing.assert_allclose(root.b, b.value, atol=3e-5 * (1.0 + np.abs(b.value).max()))
        assert ours == pytest.approx(float(root.s + np.sqrt(rho) * root.t), rel=1e-12)
        assert int(root.status) == OK


@pytest.mark.parametrize(("q", "p"), [(4, 2), (3, 3), (1, 1)])
def test_no_radius_is_two_stage_least_squares(q, p):
    B, w = problem(1, q, p)
    root = solved(B, w, 0.0)
    np.testing.assert_allclose(root.b, np.linalg.lstsq(B, w, rcond=None)[0], rtol=1e-12, atol=1e-12)
    assert float(root.lam) == 0.0


def test_just_identified_is_exact_below_the_threshold_and_closed_form_above():
    for strength, target in ((0.3, 1.0), (0.05, -2.0), (0.9, 0.1)):
        A = strength**2
        B, w = jnp.full((1, 1), strength), jnp.full(1, strength * target)
        red = reduced(B, w, True)
        limit = A * (1.0 + 1.0 / target**2)
        assert float(threshold(red)) == pytest.approx(limit, rel=1e-13)
        for factor in (1e-6, 0.5, 0.999999):
            root = rooted(red, jnp.float64(factor * limit))
            assert float(root.b[0]) == float(red.b_tsls[0])
            assert float(root.lam) == 0.0
        for factor in (1.001, 2.0, 50.0):
            rho = factor * limit
            root = rooted(red, jnp.float64(rho))
            assert float(root.b[0]) == pytest.approx(np.sign(target) * np.sqrt(A / (rho - A)), rel=1e-10)


def test_several_just_identified_treatments_stay_exact_below_the_threshold():
    B, w = problem(3, 3, 3)
    red = reduced(B, w, True)
    below, above = (rooted(red, f * threshold(red)) for f in (0.9999, 1.01))
    np.testing.assert_array_equal(below.b, red.b_tsls)
    assert float(above.lam) > 0.0


def test_an_explicit_shift_attains_the_worst_case_and_spends_the_ball():
    g = np.random.default_rng(2)
    n, p, rho = 400, 2, 0.07
    x, y = g.normal(size=(n, p)), g.normal(size=n)
    b = np.array([0.4, -1.1])
    e = y - x @ b
    direction = np.append(-b, 1.0)
    k = np.sqrt(rho / np.mean(e**2))
    shift = k * e[:, None] * direction[None, :] / np.linalg.norm(direction)
    assert np.mean(np.sum(shift**2, axis=1)) == pytest.approx(rho, rel=1e-12)
    moved = (y + shift[:, p]) - (x + shift[:, :p]) @ b
    dual = np.sqrt(np.mean(e**2)) + np.sqrt(rho * (1.0 + b @ b))
    assert np.sqrt(np.mean(moved**2)) == pytest.approx(dual, rel=1e-12)
    for _ in range(50):
        other = g.normal(size=shift.shape)
        other *= np.sqrt(rho / np.mean(np.sum(other**2, axis=1)))
        assert np.sqrt(np.mean((e + other @ direction) ** 2)) <= dual


@pytest.mark.parametrize(("q", "p"), [(6, 3), (3, 3), (5, 1)])
def test_norm_falls_with_the_radius_and_one_step_gives_tsls_back(q, p):
    B, w = problem(4, q, p)
    red = reduced(B, w, q == p)
    rhos = jnp.asarray(np.concatenate([[0.0], np.geomspace(1e-6, 100.0, 200)]))
    roots = jax.jit(jax.vmap(drive_root, in_axes=(None, 0)))(red, rhos)
    assert (np.diff(np.linalg.norm(roots.b, axis=1)) <= 1e-12).all()
    A = np.asarray(B.T @ B)
    back = roots.b + np.asarray(roots.lam)[:, None] * np.linalg.solve(A, np.asarray(roots.b).T).T
    scale = np.linalg.cond(A) * (1.0 + np.asarray(roots.lam)[:, None])
    assert (np.abs(back - red.b_tsls[None, :]) <= 1e-14 * scale + 1e-12).all()
    one = np.stack([np.asarray(rooted(red, r).b) for r in rhos[::40]])
    np.testing.assert_allclose(np.asarray(roots.b)[::40], one, rtol=1e-12, atol=1e-15)


def test_rotation_sign_and_recombination():
    B, w = problem(5, 6, 3)
    g = np.random.default_rng(0)
    turn, spin = np.linalg.qr(g.normal(size=(3, 3)))[0], np.linalg.qr(g.normal(size=(6, 6)))[0]
    b = np.asarray(solved(B, w, 0.2).b)
    np.testing.assert_allclose(solved(B @ turn, w, 0.2).b, turn.T @ b, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(solved(spin @ B, spin @ w, 0.2).b, b, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(solved(B, -w, 0.2).b, -b, rtol=1e-12, atol=1e-13)
    skew = turn + 0.4
    assert np.abs(np.linalg.solve(skew, b) - solved(B @ skew, w, 0.2).b).max() > 1e-3


def test_fewer_instruments_than_treatments_still_have_a_minimiser():
    B, w = problem(6, 2, 3)
    for rho in (0.01, 1.0, 30.0):
        root = solved(B, w, rho)
        best = objective(np.asarray(B), np.asarray(w), np.asarray(root.b), rho)
        for k in range(3):
            for step in (1e-4, -1e-4):
                assert (
                    best
                    <= objective(np.asarray(B), np.asarray(w), np.asarray(root.b) + step * np.eye(3)[k], rho) + 1e-14
                )


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize(("q", "p"), [(6, 3), (3, 3), (4, 1), (1, 1)])
def test_shrinkage_to_least_squares_is_the_k_class(q, p, singular):
    B, w = problem(7, q, p)
    V, v, u = residual_parts(7, p, singular and p > 1)
    ols = np.linalg.solve(B.T @ B + V, B.T @ w + v)
    tsls = np.linalg.lstsq(B, w, rcond=None)[0]

    def m(b):
        return np.sqrt(u - 2 * v @ b + b @ V @ b)

    end = float((m(ols) / np.linalg.norm(w - B @ ols)) ** 2)
    for rho in (0.0, 1e-3 * end, 0.1 * end, 0.7 * end, 0.999 * end):
        root = to_ols(B, w, V, v, u, jnp.float64(rho), q == p)
        kappa = 1.0 - float(root.lam)
        b = np.asarray(root.b)
        gap = B.T @ (w - B @ b) + (1.0 - kappa) * (v - V @ b)
        np.testing.assert_allclose(gap, 0.0, atol=1e-10)
        if root.lam > 0:
            assert 1.0 - np.sqrt(rho) * np.linalg.norm(w - B @ b) / m(b) == pytest.approx(kappa, abs=1e-10)
        else:
            np.testing.assert_allclose(b, tsls, rtol=1e-10)
        best = np.linalg.norm(w - B @ b) + np.sqrt(rho) * m(b)
        g = np.random.default_rng(0)
        for _ in range(30):
            near = b + 1e-3 * g.normal(size=p)
            assert best <= np.linalg.norm(w - B @ near) + np.sqrt(rho) * m(near) + 1e-12
    at_end = to_ols(B, w, V, v, u, jnp.float64(end), q == p)
    np.testing.assert_allclose(at_end.b, ols, rtol=1e-8)
    beyond = to_ols(B, w, V, v, u, jnp.float64(3.0 * end), q == p)
    np.testing.assert_allclose(beyond.b, ols, rtol=1e-9)
    assert (int(beyond.status), float(beyond.lam)) == (CLIPPED, 1.0)


def test_shrinkage_to_least_squares_follows_any_recombination_of_treatments():
    B, w = problem(8, 5, 3)
    V, v, u = residual_parts(8, 3)
    mix = np.random.default_rng(1).normal(size=(3, 3))
    b = to_ols(B, w, V, v, u, jnp.float64(0.3), False).b
    turned = to_ols(B @ mix, w, mix.T @ V @ mix, mix.T @ v, u, jnp.float64(0.3), False).b
    np.testing.assert_allclose(mix @ turned, b, rtol=1e-10)


@pytest.mark.parametrize(("q", "p", "rho"), [(4, 2, 0.3), (3, 3, 40.0), (3, 3, 1e-4), (5, 1, 0.05)])
def test_derivatives_are_those_of_finite_differences(q, p, rho):
    B, w = problem(9, q, p)

    @jax.jit
    def b(B, w, rho):
        return drive_root(reduced(B, w, q == p), rho).b

    point = (B, w, jnp.float64(rho))
    forward, backward = (jax.jit(f(b, argnums=(0, 1, 2)))(*point) for f in (jax.jacfwd, jax.jacrev))
    for one, other in zip(forward, backward):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)
    step = 1e-6
    for i in range(q):
        e = step * jnp.eye(q)[i]
        np.testing.assert_allclose(
            forward[1][:, i], (b(B, w + e, rho) - b(B, w - e, rho)) / (2 * step), rtol=2e-6, atol=1e-7
        )
        for j in range(p):
            E = step * jnp.zeros((q, p)).at[i, j].set(1.0)
            found = (b(B + E, w, rho) - b(B - E, w, rho)) / (2 * step)
            np.testing.assert_allclose(forward[0][:, i, j], found, rtol=2e-5, atol=1e-6)
    e = 1e-4 * rho
    np.testing.assert_allclose(forward[2], (b(B, w, rho + e) - b(B, w, rho - e)) / (2 * e), rtol=1e-5, atol=1e-8)


def test_derivatives_of_the_ols_target_and_at_no_radius():
    B, w = problem(10, 4, 2)
    V, v, u = residual_parts(10, 2)

    @jax.jit
    def b(rho):
        return ols_root(B, w, V, v, u, rho, False).b

    e = 1e-6
    np.testing.assert_allclose(jax.jacfwd(b)(jnp.float64(0.2)), (b(0.2 + e) - b(0.2 - e)) / (2 * e), rtol=1e-6)
    slope = jax.jacfwd(lambda w: drive_root(reduced(B, w, False), jnp.float64(0.0)).b)(w)
    np.testing.assert_allclose(slope, np.linalg.pinv(B), rtol=1e-10)


def test_radii_and_studies_are_mapped_over():
    studies = [problem(s, 4, 2) for s in range(5)]
    B, w = (jnp.stack(part) for part in zip(*studies))
    rhos = jnp.asarray([0.0, 0.1, 3.0])
    grid = jax.vmap(lambda B, w: jax.vmap(lambda r: drive_root(reduced(B, w, False), r))(rhos))(B, w)
    assert grid.b.shape == (5, 3, 2)
    for i, (B1, w1) in enumerate(studies):
        for j, rho in enumerate(rhos):
            np.testing.assert_allclose(grid.b[i, j], solved(B1, w1, rho).b, rtol=1e-12)
