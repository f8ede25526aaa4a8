"""Up to which radius DRIVE tends to the effect: bias of the first stage, thresholds, uniform bounds."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from causalsat.checks.iv_strength import first_stage
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_options import DriveOptions
from causalsat.estimators.drive_problem import drive_problem
from causalsat.estimators.drive_radius import choose_radius
from causalsat.estimators.drive_threshold import corrected_strength, ols_radius, smallest_root, threshold, thresholds
from causalsat.inference.options import Sandwich
from tests.estimators.radius_studies import clustered, radius, raw_study, study

LOG = logging.getLogger(__name__)


def test_homoskedastic_correction_is_one_minus_one_over_the_partial_f():
    rows = study()
    problem = drive_problem(rows)
    r2 = float(problem.A[0, 0])
    f = r2 / (1.0 - r2) * rows.d1 / rows.q
    assert corrected_strength(problem, Sandwich("classical"))[0, 0] == pytest.approx(r2 * (1.0 - 1.0 / f), rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "weighted"),
    [("classical", False), *((kind, weighted) for kind in ("hc0", "hc1", "cluster") for weighted in (False, True))],
)
@pytest.mark.parametrize("dof", ["small", "none"])
def test_correction_is_one_minus_one_over_the_effective_f(kind, dof, weighted):
    y, X, Z, C = raw_study()
    weights = np.random.default_rng(1).uniform(0.3, 2.0, y.size) if weighted else None
    rows = clustered(y, X, Z, C, weights, dof=dof)
    for scale in ("unit", "raw"):
        problem = drive_problem(rows, scale=scale)
        f = first_stage(rows, Sandwich(kind)).f_effective
        wanted = problem.A[0, 0] * (1.0 - 1.0 / f)
        assert corrected_strength(problem, Sandwich(kind))[0, 0] == pytest.approx(wanted, rel=1e-10)


def test_classical_correction_with_unequal_weights_is_robust():
    y, X, Z, C = raw_study()
    rows = clustered(y, X, Z, C, np.random.default_rng(1).uniform(0.3, 2.0, y.size))
    problem = drive_problem(rows)
    found = [corrected_strength(problem, Sandwich(kind)) for kind in ("classical", "hc1")]
    assert np.array_equal(*found)


@pytest.mark.parametrize("kind", ["hc0", "cluster"])
def test_correction_with_two_treatments_by_loops(kind):
    y, X, Z, C = raw_study(n=360, q=3, p=2)
    rows = clustered(y, X, Z, C, np.random.default_rng(1).uniform(0.3, 2.0, y.size), dof="none")
    problem = drive_problem(rows, scale="raw")
    S = rows.Z.T @ (rows.weights[:, None] * rows.Z) / rows.n
    lower = np.linalg.cholesky(S)
    v = rows.moments.MX
    code = rows.sampling.cluster if kind == "cluster" else np.arange(rows.n)
    noise = np.zeros((2, 2))
    for g in np.unique(code):
        block = sum(
            rows.weights[i] * np.outer(np.linalg.solve(lower, rows.Z[i]), v[i]) for i in np.flatnonzero(code == g)
        )
        noise += block.T @ block / rows.n**2
    found = problem.A - corrected_strength(problem, Sandwich(kind))
    np.testing.assert_allclose(found, noise, rtol=1e-10)
    turned = np.linalg.solve(lower, rows.Z.T).T
    leverage = sum(
        rows.weights[i] ** 2 * (turned[i] @ turned[i]) * np.outer(v[i], v[i]) for i in range(rows.n)
    )  # fmt: skip
    if kind == "hc0":
        np.testing.assert_allclose(found, leverage / rows.n**2, rtol=1e-10)


def test_correction_is_unbiased():
    rng = np.random.default_rng(0)
    n, q, reps = 400, 6, 3000
    Z = np.linalg.qr(rng.standard_normal((n, q)))[0] * np.sqrt(n)
    pi = np.full(q, 0.1)
    X = Z @ pi + rng.standard_normal((reps, n))
    B = X @ Z / n
    naive = np.sum(B**2, axis=1)
    rest = np.sum(X**2, axis=1) / n - naive
    corrected = naive - q * rest / (n - q)
    se = corrected.std() / np.sqrt(reps)
    LOG.info(f"A {pi @ pi:.5f}, mean of A_hat {naive.mean():.5f}, corrected {corrected.mean():.5f} ({se:.5f})")
    assert abs(corrected.mean() - pi @ pi) < 4.0 * se
    assert naive.mean() - pi @ pi > 20.0 * se


def test_optimal_metric_and_tsls_metric_agree_under_classical_errors():
    rows = study()
    tsls, gmm = drive_problem(rows), drive_problem(rows, metric="gmm", sandwich=Sandwich("classical"))
    for kind in ("classical", "hc1", "cluster"):
        np.testing.assert_allclose(
            corrected_strength(tsls, Sandwich(kind)), corrected_strength(gmm, Sandwich(kind)), rtol=1e-10
        )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [1, 2, 3])
def test_threshold_is_where_the_limit_problem_leaves_the_truth(p, seed):
    rng = np.random.default_rng(seed)
    root, b0 = rng.standard_normal((p + 2, p)), rng.standard_normal(p)
    A = root.T @ root
    limit = threshold(A, b0 / np.sqrt(1.0 + b0 @ b0))
    assert limit == pytest.approx((1.0 + b0 @ b0) / (b0 @ np.linalg.solve(A, b0)), rel=1e-10)
    bound = np.linalg.eigvalsh(A)[0]
    assert bound <= bound * (1.0 + 1.0 / (b0 @ b0)) <= limit * (1.0 + 1e-12)

    def best(rho):
        def loss(b):
            return np.sqrt((b - b0) @ A @ (b - b0)) + np.sqrt(rho * (1.0 + b @ b))

        starts = [b0, 0.9 * b0, 0.5 * b0]
        options = {"xatol": 1e-11, "fatol": 1e-15, "maxiter": 20_000, "maxfev": 20_000}
        runs = [scipy.optimize.minimize(loss, s, method="Nelder-Mead", options=options) for s in starts]
        return min(runs, key=lambda run: run.fun).x

    assert np.linalg.norm(best(0.97 * limit) - b0) < 1e-6
    assert np.linalg.norm(best(1.1 * limit) - b0) > 1e-3


def test_threshold_at_its_edges():
    assert threshold(np.eye(2), np.zeros(2)) == np.inf
    assert threshold(np.diag([1.0, 0.0]), np.ones(2)) == 0.0
    assert threshold(np.diag([1.0, -0.1]), np.ones(2)) == 0.0
    wide = np.diag([1.0, 1e13])
    assert threshold(wide, np.array([1.0, 0.0])) == pytest.approx(1.0, rel=1e-12)


def test_just_identified_fit_leaves_tsls_at_the_plug_in_threshold():
    problem = drive_problem(study(q=1))
    limit = thresholds(problem, Sandwich("hc1")).rho_hat
    A, b = float(problem.A[0, 0]), float(problem.b_tsls[0])
    assert limit == pytest.approx(A * (1.0 + 1.0 / b**2), rel=1e-12)
    assert solve_drive(problem, limit * (1.0 - 1e-9)).b[0] == b
    assert abs(solve_drive(problem, limit * 1.001).b[0]) < abs(b)


@pytest.mark.parametrize("p", [1, 2])
def test_bounds_of_the_target_ols(p):
    problem = drive_problem(study(q=5, p=p), shrink_to="ols")
    bounds = thresholds(problem, Sandwich("classical"))
    c = problem.gradient(problem.b_tsls)
    assert 0.0 < c @ np.linalg.solve(problem.V, c) <= 1.0
    assert bounds.lambda_min <= bounds.lambda_min_at_b <= bounds.rho_hat * (1.0 + 1e-12)
    assert bounds.lambda_min_corrected < bounds.lambda_min
    if p == 1:
        r2 = first_stage(problem.rows, Sandwich("classical")).partial_r2[0]
        degrees = problem.rows.d1 / problem.rows.n
        assert bounds.lambda_min == pytest.approx(r2 / (1.0 - r2) * degrees, rel=1e-10)
    b_ols = np.linalg.lstsq(problem.rows.X, problem.rows.y, rcond=None)[0]
    assert solve_drive(problem, bounds.rho_ols * (1.0 - 1e-9)).b == pytest.approx(b_ols, rel=1e-5)
    assert solve_drive(problem, bounds.rho_ols).b == pytest.approx(b_ols, rel=1e-9)


def test_threshold_of_the_target_ols_with_one_instrument():
    problem = drive_problem(study(q=1), shrink_to="ols")
    limit = thresholds(problem, Sandwich("hc1")).rho_hat
    assert solve_drive(problem, 0.999 * limit).b[0] == pytest.approx(problem.b_tsls[0], rel=1e-12)
    assert abs(solve_drive(problem, 1.01 * limit).b[0] - problem.b_tsls[0]) > 1e-4


def test_smallest_root_of_a_singular_pencil():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((5, 3))
    A = root.T @ root
    turn = rng.standard_normal((3, 3))
    spread = turn @ np.diag([2.0, 0.5, 0.0]) @ turn.T
    nearly = turn @ np.diag([2.0, 0.5, 1e-9]) @ turn.T
    wanted = scipy.linalg.eigh(A, nearly, eigvals_only=True)[0]
    assert smallest_root(A, spread) == pytest.approx(wanted, rel=1e-4)
    assert smallest_root(A, np.zeros((3, 3))) == np.inf
    assert smallest_root(A, np.eye(3)) == pytest.approx(np.linalg.eigvalsh(A)[0], rel=1e-12)


def test_a_treatment_in_the_span_of_the_instruments_survives():
    y, X, Z, C = raw_study(p=2, q=4)
    rows = clustered(y, np.column_stack([X[:, 0], Z @ np.array([1.0, -1.0, 0.5, 0.0])]), Z, C)
    for target in ("zero", "ols"):
        for rule in ("theory", "bootstrap"):
            report = radius(rows, rule, shrink_to=target)
            assert 0.0 < report.rho < report.rho_hat
            assert np.isfinite(report.rho)
    assert ols_radius(drive_problem(rows, shrink_to="ols")) > 0.0


def test_a_conley_variance_that_does_not_exist_counts_as_that_of_independent_rows():
    y, X, Z, C = raw_study(n=400)
    rows = clustered(y, X, Z, C)
    rows = replace(rows, sampling=replace(rows.sampling, lonlat=np.random.default_rng(0).uniform(0.0, 3.0, (400, 2))))
    problem = drive_problem(rows)
    for cutoff in (400.0, 2000.0):
        sandwich = Sandwich("conley", cutoff_km=cutoff, kernel="uniform")
        found, plain = thresholds(problem, sandwich), thresholds(problem, Sandwich("hc1"))
        assert found.lambda_min_corrected <= plain.lambda_min_corrected < found.lambda_min
        assert "Conley variance of the first stage" in found.flags[0]
        report = choose_radius(problem, "theory", DriveOptions(), sandwich, seed=0)
        assert found.flags[0] in report.flags
        assert report.rho <= 0.5 * plain.lambda_min_corrected * (1.0 + 1e-12)
    assert thresholds(problem, Sandwich("conley", cutoff_km=30.0, kernel="askey")).flags == ()
    assert thresholds(problem, sandwich, many_instruments=False).flags == ()


@pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")
@pytest.mark.parametrize("p", [1, 2])
def test_a_two_way_variance_is_never_partly_forgotten(p):
    flagged = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rows = clustered(*raw_study(n=400, p=p, seed=seed))
        codes = {"cluster": rng.integers(0, 8, 400), "second": rng.integers(0, 7, 400)}
        problem = drive_problem(replace(rows, sampling=replace(rows.sampling, **codes)))
        found = thresholds(problem, Sandwich("twoway"))
        noise = problem.A - corrected_strength(problem, Sandwich("twoway"))
        plain = problem.A - corrected_strength(problem, Sandwich("hc1"))
        assert np.linalg.eigvalsh(noise)[0] > 0.0
        if found.flags:
            assert np.mean(np.diag(noise) / np.diag(plain)) >= 1.0 - 1e-12
            flagged += 1
    assert flagged > 0
