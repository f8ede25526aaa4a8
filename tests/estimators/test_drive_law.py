"""The limit law of DRIVE against what the estimator does, and its limit above the threshold."""

import logging

import numpy as np
import pytest
import scipy.optimize

from causalsat.errors import DataError
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_law import (
    expected_chi,
    homoskedastic_moments,
    limit_law,
    pseudo_true_limit,
    residual_variance,
)
from causalsat.estimators.drive_problem import DriveProblem, drive_problem
from causalsat.estimators.drive_threshold import threshold
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.simulate.iv import drive_limit, iv

LOG = logging.getLogger(__name__)
N = 40_000


def rows_of(y: np.ndarray, X: np.ndarray, Z: np.ndarray, **given) -> IvRows:
    n = y.size
    C = np.ones((n, 1))
    y, X, Z = y - y.mean(), X - X.mean(axis=0), Z - Z.mean(axis=0)
    return IvRows(y, X, Z, np.ones(n), C, 1, 1, given.get("sampling", Sampling(n)))


def study(n=4000, q=4, p=1, effect=1.0, strength=0.3, seed=0, spread=False) -> IvRows:
    rng = np.random.default_rng(seed)
    Z, v = rng.standard_normal((n, q)), rng.standard_normal((n, p))
    u = 0.6 * v[:, 0] + 0.8 * rng.standard_normal(n)
    if spread:
        u = u * np.sqrt(0.5 + 0.5 * Z[:, 0] ** 2)
    X = Z @ (strength * rng.uniform(0.5, 1.0, (q, p))) + v
    return rows_of(X @ np.full(p, effect) + u, X, Z)


def exact_draws(reps, n, pi, b0, confounding, rho, seed, scales=None) -> np.ndarray:
    """(reps, p) sqrt(n)(b_hat - b0) on fixed instruments with Z'Z/n = I: (B, w) are then exactly normal.

    ``scales`` (m, q) are rows z over which the noise has sd sqrt(.5 + .5 z1^2); None for one sd.
    """
    import jax

    from causalsat.kernels.drive_root import drive_root, reduced

    rng, (q, p) = np.random.default_rng(seed), pi.shape
    own = np.sqrt(1.0 - confounding @ confounding)
    noise_v = rng.standard_normal((reps, q, p))
    noise_u = rng.standard_normal((reps, q))
    if scales is None:
        Zu = noise_v @ confounding + own * noise_u
    else:
        sd = np.sqrt(0.5 + 0.5 * scales[:, 0] ** 2)
        first = scales.T @ (scales * sd[:, None]) / len(scales)
        second = scales.T @ (scales * (sd**2)[:, None]) / len(scales)
        shared = np.einsum("kl,rlp->rkp", first, noise_v) @ confounding
        rest = second - (confounding @ confounding) * first @ first
        Zu = shared + noise_u @ np.linalg.cholesky(rest).T
    B = pi[None] + noise_v / np.sqrt(n)
    w = B @ b0 + Zu / np.sqrt(n)
    fit = jax.jit(jax.vmap(lambda B, w: drive_root(reduced(B, w, q == p), np.float64(rho)).b))
    return np.sqrt(n) * (np.asarray(fit(B, w)) - b0)


def formula(pi, b0, rho, s2=1.0):
    """Mean and covariance of T - ||r|| v under homoskedastic noise."""
    A, (q, p) = pi.T @ pi, pi.shape
    c = b0 / np.sqrt(1.0 + b0 @ b0)
    direction = np.linalg.solve(A, c)
    v = np.sqrt(rho) * direction / np.sqrt(1.0 - rho * c @ direction)
    chi = expected_chi(q - p)
    return -np.sqrt(s2) * chi * v, s2 * (np.linalg.inv(A) + np.outer(v, v) * (q - p - chi**2))


def compared(name, draws, mean, covariance, slack=0.0):
    """Print and check means and variances within four Monte Carlo standard errors."""
    reps = len(draws)
    centred = draws - draws.mean(axis=0)
    variance = centred.var(axis=0)
    se_mean = np.sqrt(variance / reps)
    se_variance = np.sqrt(((centred**4).mean(axis=0) - variance**2) / reps)
    wanted = np.diag(covariance)
    for j in range(draws.shape[1]):
        LOG.info(
            f"{name}[{j}]: mean {draws[:, j].mean():.4f} ({se_mean[j]:.4f}) against {mean[j]:.4f}; "
            f"variance {variance[j]:.4f} ({se_variance[j]:.4f}) against {wanted[j]:.4f}"
        )
    assert (np.abs(draws.mean(axis=0) - mean) < 4.0 * se_mean + slack * np.sqrt(wanted)).all()
    assert (np.abs(variance - wanted) < 4.0 * se_variance + slack * wanted).all()


CASES = {
    "half the eigenvalue": (np.full((4, 1), 0.25), np.array([1.0]), np.array([0.6]), 0.5),
    "opposite confounding": (np.full((4, 1), 0.25), np.array([1.0]), np.array([-0.6]), 0.5),
    "no effect": (np.full((4, 1), 0.25), np.array([0.0]), np.array([0.6]), 0.5),
    "two treatments": (
        np.array([[0.5, 0.1], [0.0, 0.4], [0.3, -0.2], [0.1, 0.3], [0.2, 0.2]]), np.array([1.0, -0.5]),
        np.array([0.5, 0.2]), 0.8,
    ),
    "just identified": (np.array([[0.5]]), np.array([1.0]), np.array([0.6]), 0.9),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_law_matches_the_estimator_at_forty_thousand_rows(case):
    pi, b0, confounding, share = CASES[case]
    rho = share * np.linalg.eigvalsh(pi.T @ pi)[0]
    draws = exact_draws(4000, N, pi, b0, confounding, rho, seed=1)
    compared(case, draws, *formula(pi, b0, rho))


def test_law_is_reached_more_slowly_near_the_threshold():
    pi, b0, confounding = np.full((4, 1), 0.25), np.array([2.0]), np.array([0.3])
    rho = 0.9 * 1.25 * (pi.T @ pi)[0, 0]
    mean, covariance = formula(pi, b0, rho)
    missed = {n: float(exact_draws(4000, n, pi, b0, confounding, rho, seed=1).mean() - mean[0]) for n in (N, 100 * N)}
    LOG.info("missed by %s", missed)
    assert missed[N] > 0.3
    compared("near", exact_draws(4000, 10_000 * N, pi, b0, confounding, rho, seed=1), mean, covariance)


@pytest.mark.calibration
@pytest.mark.parametrize("case", CASES)
def test_law_matches_the_estimator_at_four_million_rows(case):
    pi, b0, confounding, share = CASES[case]
    rho = share * np.linalg.eigvalsh(pi.T @ pi)[0]
    draws = exact_draws(200_000, 4_000_000, pi, b0, confounding, rho, seed=2)
    compared(case, draws, *formula(pi, b0, rho), slack=2e-3)


def test_law_matches_the_estimator_under_heteroskedastic_noise():
    pi, b0, confounding = np.full((4, 1), 0.25), np.array([1.0]), np.array([0.6])
    Z = np.linalg.qr(np.random.default_rng(0).standard_normal((2000, 4)))[0] * np.sqrt(2000.0)
    rho = 0.5 * (pi.T @ pi)[0, 0]
    draws = exact_draws(6000, N, pi, b0, confounding, rho, seed=3, scales=Z)
    rng = np.random.default_rng(4)
    omega = Z.T @ (Z * (0.5 + 0.5 * Z[:, :1] ** 2)) / len(Z)
    W = rng.multivariate_normal(np.zeros(4), omega, size=400_000)
    T = W @ pi / (pi.T @ pi)
    r = np.sqrt(np.sum((W - T * pi[:, 0][None, :]) ** 2, axis=1))
    c = b0 / np.sqrt(2.0)
    v = np.sqrt(rho) * c / (pi.T @ pi)[0] / np.sqrt(1.0 - rho * c**2 / (pi.T @ pi)[0])
    law = T[:, 0] - r * v
    compared("heteroskedastic", draws, np.array([law.mean()]), np.array([[law.var()]]), slack=5e-3)
    levels = [0.025, 0.5, 0.975]
    LOG.info("quantiles %s against %s", np.quantile(draws[:, 0], levels).round(3), np.quantile(law, levels).round(3))
    assert np.quantile(draws[:, 0], levels) == pytest.approx(np.quantile(law, levels), abs=0.05 * law.std() * 2.0)


@pytest.mark.parametrize("spread", [False, True])
def test_estimated_law_is_close_to_the_law_at_the_truth(spread):
    rows = study(n=N, strength=0.35, spread=spread)
    problem = drive_problem(rows, scale="raw")
    rho = 0.5 * float(problem.A[0, 0])
    law = limit_law(problem, rho, Sandwich("hc1"), n_law=100_000, seed=0).draws[:, 0]
    rng = np.random.default_rng(0)
    rng.standard_normal((N, 4)), rng.standard_normal((N, 1)), rng.standard_normal(N)
    pi = 0.35 * rng.uniform(0.5, 1.0, (4, 1))
    omega = np.diag([2.0, 1.0, 1.0, 1.0]) if spread else np.eye(4)
    W = np.random.default_rng(1).multivariate_normal(np.zeros(4), omega, size=200_000)
    A = float(pi[:, 0] @ pi[:, 0])
    T = W @ pi[:, 0] / A
    r = np.sqrt(np.sum((W - T[:, None] * pi[:, 0][None, :]) ** 2, axis=1))
    v = np.sqrt(rho) / np.sqrt(2.0) / A / np.sqrt(1.0 - rho / (2.0 * A))
    truth = T - r * v
    LOG.info(f"mean {law.mean():.4f} against {truth.mean():.4f}; sd {law.std():.4f} against {truth.std():.4f}")
    assert law.mean() == pytest.approx(truth.mean(), abs=0.04 * truth.std())
    assert law.std() == pytest.approx(truth.std(), rel=0.04)


@pytest.mark.calibration
@pytest.mark.parametrize("spread", [False, True])
def test_law_matches_whole_studies_on_unit_scale(spread):
    reps, level = 600, 0.95
    tail = (1.0 - level) / 2.0
    estimates, covered, means, sds = [], [], [], []
    for seed in range(reps):
        data, _ = iv(n=N, q=4, concentration=4000.0, confounding=0.6, seed=seed, heteroskedastic=spread)
        rows = rows_of(data["y"], data["x"][:, None], np.column_stack([data[f"z{k + 1}"] for k in range(4)]))
        problem = drive_problem(rows)
        rho = 0.5 * float(problem.A[0, 0])
        raw = float(problem.to_raw(solve_drive(problem, rho).b)[0])
        law = problem.to_raw(limit_law(problem, rho, Sandwich("hc1"), n_law=4000, seed=seed).draws)[:, 0]
        high, low = raw - np.quantile(law, [tail, 1.0 - tail]) / np.sqrt(N)
        estimates.append(np.sqrt(N) * (raw - 1.0))
        covered.append(low <= 1.0 <= high)
        means.append(law.mean())
        sds.append(law.std())
    draws = np.array(estimates)
    share = float(np.mean(covered))
    LOG.info(f"mean {draws.mean():.3f} against {np.mean(means):.3f}, sd {draws.std():.3f} against {np.mean(sds):.3f}, "
          f"coverage {share:.3f}")  # fmt: skip
    assert abs(draws.mean() - np.mean(means)) < 4.0 * draws.std() / np.sqrt(reps) + 0.02 * draws.std()
    assert draws.std() == pytest.approx(np.mean(sds), rel=4.0 / np.sqrt(2.0 * reps))
    assert abs(share - level) < 4.0 * np.sqrt(level * (1.0 - level) / reps)


@pytest.mark.parametrize("target", ["zero", "ols"])
@pytest.mark.parametrize("p", [1, 2])
def test_homoskedastic_moments_are_those_of_the_simulated_law(target, p):
    problem = drive_problem(study(q=6, p=p), shrink_to=target)
    rho = 0.6 * threshold(problem.A, problem.gradient(problem.b_tsls))
    law = limit_law(problem, rho, Sandwich("classical"), n_law=200_000, seed=3)
    compared(target, law.draws, *homoskedastic_moments(problem, rho))
    across = np.cov(law.draws.T).reshape(p, p)
    assert across == pytest.approx(homoskedastic_moments(problem, rho)[1], abs=0.02 * across.max())


def test_optimal_metric_makes_the_moments_spherical():
    rows = study(spread=True)
    problem = drive_problem(rows, metric="gmm", sandwich=Sandwich("hc0"))
    rho = 0.5 * float(problem.A[0, 0])
    law = limit_law(problem, rho, Sandwich("hc0"), n_law=200_000, seed=3)
    mean, covariance = homoskedastic_moments(problem, rho)
    assert law.draws.mean() == pytest.approx(mean[0], abs=0.02 * np.sqrt(covariance[0, 0]))
    assert law.draws.var() == pytest.approx(covariance[0, 0], rel=0.02)


def same_law_as_tsls(problem: DriveProblem, rho: float) -> None:
    drive = limit_law(problem, rho, Sandwich("hc1"), n_law=1000, seed=5)
    tsls = limit_law(problem, 0.0, Sandwich("hc1"), n_law=1000, seed=5)
    assert drive.valid
    np.testing.assert_allclose(drive.draws, tsls.draws, rtol=0.0, atol=1e-9)


def test_law_of_tsls_when_nothing_can_shrink():
    same_law_as_tsls(drive_problem(study()), 0.0)
    same_law_as_tsls(drive_problem(study(q=1)), 0.01)
    same_law_as_tsls(drive_problem(study(q=2, p=2)), 0.01)
    rows = study()
    flat = IvRows(rows.y - rows.X @ rows.moments.b_tsls, rows.X, rows.Z, rows.weights, rows.controls, 1, 1,
                  rows.sampling)  # fmt: skip
    same_law_as_tsls(drive_problem(flat), 0.05)


def test_law_at_radius_zero_has_the_robust_covariance_of_tsls():
    rows = study(spread=True)
    problem = drive_problem(rows, scale="raw")
    law = limit_law(problem, 0.0, Sandwich("hc0"), n_law=400_000, seed=1).draws[:, 0]
    inside = rows.Z @ np.linalg.lstsq(rows.Z, rows.X, rcond=None)[0][:, 0]
    error = rows.residuals(rows.moments.b_tsls)
    wanted = rows.n * np.sum((inside * error) ** 2) / np.sum(inside**2) ** 2
    assert law.var() == pytest.approx(wanted, rel=0.01)
    assert abs(law.mean()) < 4.0 * law.std() / np.sqrt(law.size)


def test_longer_laws_start_with_shorter_ones():
    problem = drive_problem(study(q=7, p=2))
    short = limit_law(problem, 0.01, Sandwich("hc1"), n_law=1003, seed=9).draws
    long = limit_law(problem, 0.01, Sandwich("hc1"), n_law=20_000, seed=9).draws
    assert np.array_equal(short, long[:1003])
    assert not np.array_equal(short, limit_law(problem, 0.01, Sandwich("hc1"), n_law=1003, seed=10).draws)


def test_no_law_above_the_threshold_or_without_identification():
    problem = drive_problem(study())
    limit = threshold(problem.A, problem.gradient(problem.b_tsls))
    law = limit_law(problem, limit, Sandwich("hc1"), n_law=1000, seed=0)
    assert not law.valid and "threshold" in law.notes["reason"] and np.isnan(law.draws).all()
    with pytest.raises(DataError, match="does not exist"):
        homoskedastic_moments(problem, 2.0 * limit)
    rows = study(q=1, p=2)
    short = limit_law(drive_problem(rows), 0.0, Sandwich("hc1"), n_law=1000, seed=0)
    assert not short.valid and "fewer instruments" in short.notes["reason"]


def test_residual_variance_follows_the_convention_of_the_study():
    rows = study(n=200)
    problem = drive_problem(rows, scale="raw")
    error = rows.residuals(rows.moments.b_tsls)
    assert residual_variance(problem) == pytest.approx(error @ error / (200 - 2), rel=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.999, 1.001, 1.5, 4.0])
@pytest.mark.parametrize("b0", [0.3, -2.0])
def test_limit_with_one_treatment(share, b0):
    A = np.array([[0.2]])
    rho = share * A[0, 0] * (1.0 + 1.0 / b0**2)
    found = float(pseudo_true_limit(A, np.array([b0]), rho)[0])
    wanted = b0 if share < 1.0 else np.sign(b0) * np.sqrt(A[0, 0] / (rho - A[0, 0]))
    assert found == pytest.approx(wanted, rel=1e-12)
    assert found == pytest.approx(float(drive_limit(rho, A=A, b=np.array([b0]), j=0.0)[0]), rel=1e-9)
    worst = scipy.optimize.minimize_scalar(
        lambda b: np.sqrt(A[0, 0]) * abs(b - b0) + np.sqrt(rho * (1.0 + b**2)), bounds=(-3.0, 3.0), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    assert found == pytest.approx(worst.x, abs=1e-4)


@pytest.mark.parametrize("share", [0.9, 1.1, 3.0])
def test_limit_with_two_treatments(share):
    A, b0 = np.array([[0.5, 0.2], [0.2, 0.3]]), np.array([1.0, -0.7])
    rho = share * threshold(A, b0 / np.sqrt(1.0 + b0 @ b0))
    found = pseudo_true_limit(A, b0, rho)
    assert found == pytest.approx(drive_limit(rho, A=A, b=b0, j=0.0), rel=1e-9)
    assert (share < 1.0) == np.array_equal(found, b0)
