"""The radius of DRIVE: thresholds, rules, warnings, cross-validation over environments."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats

from causalsat.checks.iv_strength import first_stage
from causalsat.errors import AboveThresholdWarning, DataError, NearThresholdWarning, OptionError
from causalsat.estimators.drive_cv import cross_validate
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_options import DriveOptions
from causalsat.estimators.drive_problem import drive_problem
from causalsat.estimators.drive_radius import TOO_WEAK, RadiusReport, choose_radius, score_draws
from causalsat.estimators.drive_threshold import corrected_strength, ols_radius, smallest_root, threshold, thresholds
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling

LOG = logging.getLogger(__name__)


def raw_study(n=600, q=4, p=1, effect=1.0, strength=0.3, seed=0):
    rng = np.random.default_rng(seed)
    C = np.column_stack([np.ones(n), rng.standard_normal((n, 2))])
    Z = rng.standard_normal((n, q)) + 0.3 * C[:, 1:2]
    v = rng.standard_normal((n, p)) * np.sqrt(0.5 + 0.5 * Z[:, :1] ** 2)
    X = Z @ (strength * rng.uniform(0.5, 1.0, (q, p))) + v
    y = X @ np.full(p, effect) + C[:, 1] + 0.6 * v[:, 0] + rng.standard_normal(n)
    return y, X, Z, C


def partialled(y, X, Z, C, weights=None, **given) -> IvRows:
    w = np.ones(y.size) if weights is None else weights / weights.mean()
    root = np.sqrt(w)[:, None]

    def net(a):
        return a - C @ np.linalg.lstsq(C * root, a * root, rcond=None)[0]

    m = C.shape[1]
    sampling = given.pop("sampling", Sampling(y.size, cluster=np.arange(y.size) // 10))
    return IvRows(net(y[:, None])[:, 0], net(X), net(Z), w, C, m, m, sampling, **given)


def study(**given) -> IvRows:
    return partialled(*raw_study(**given))


def radius(rows: IvRows, rule, sandwich="hc1", environments=None, fine=None, **problem) -> RadiusReport:
    return choose_radius(
        drive_problem(rows, **problem), rule, fine or DriveOptions(), Sandwich(sandwich), seed=0,
        environments=environments,
    )  # fmt: skip


# the bias of A


def test_homoskedastic_correction_is_one_minus_one_over_the_partial_f():
    rows = study()
    problem = drive_problem(rows)
    r2 = float(problem.A[0, 0])
    f = r2 / (1.0 - r2) * rows.d1 / rows.q
    assert corrected_strength(problem, Sandwich("classical"))[0, 0] == pytest.approx(r2 * (1.0 - 1.0 / f), rel=1e-12)


@pytest.mark.parametrize("kind", ["classical", "hc0", "hc1", "cluster"])
@pytest.mark.parametrize("dof", ["small", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_correction_is_one_minus_one_over_the_effective_f(kind, dof, weighted):
    if weighted and kind == "classical":
        pytest.skip("unequal weights: read as hc1")
    y, X, Z, C = raw_study()
    weights = np.random.default_rng(1).uniform(0.3, 2.0, y.size) if weighted else None
    rows = partialled(y, X, Z, C, weights, dof=dof)
    for scale in ("unit", "raw"):
        problem = drive_problem(rows, scale=scale)
        f = first_stage(rows, Sandwich(kind)).f_effective
        wanted = problem.A[0, 0] * (1.0 - 1.0 / f)
        assert corrected_strength(problem, Sandwich(kind))[0, 0] == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("kind", ["hc0", "cluster"])
def test_correction_with_two_treatments_by_loops(kind):
    y, X, Z, C = raw_study(n=360, q=3, p=2)
    rows = partialled(y, X, Z, C, np.random.default_rng(1).uniform(0.3, 2.0, y.size), dof="none")
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
    variance = rows.moments.L @ rows.moments.L.T * float(np.mean(rows.residuals(rows.moments.b_tsls) ** 2))
    tsls, gmm = drive_problem(rows), drive_problem(rows, metric="gmm", variance=variance)
    for kind in ("classical", "hc1", "cluster"):
        np.testing.assert_allclose(
            corrected_strength(tsls, Sandwich(kind)), corrected_strength(gmm, Sandwich(kind)), rtol=1e-10
        )


# thresholds


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
    rows = partialled(y, np.column_stack([X[:, 0], Z @ np.array([1.0, -1.0, 0.5, 0.0])]), Z, C)
    for target in ("zero", "ols"):
        for rule in ("theory", "bootstrap"):
            report = radius(rows, rule, shrink_to=target)
            assert 0.0 < report.rho < report.rho_hat
            assert np.isfinite(report.rho)
    assert ols_radius(drive_problem(rows, shrink_to="ols")) > 0.0


# rules


def test_theory_is_the_cap_times_the_corrected_eigenvalue():
    report = radius(study(), "theory")
    assert report.rho == 0.5 * report.lambda_min_corrected == report.cap
    assert (report.bound_by, report.above, report.near, report.flags) == ("cap", False, False, ())
    assert report.ratio == report.rho / report.rho_hat
    assert report.lambda_min_corrected < report.lambda_min <= report.lambda_min_at_b <= report.rho_hat * (1 + 1e-12)
    assert radius(study(), "theory", fine=DriveOptions(cap=0.25)).rho == pytest.approx(0.5 * report.rho, rel=1e-12)
    plain = radius(study(), "theory", fine=DriveOptions(many_instruments=False))
    assert plain.rho == 0.5 * plain.lambda_min == 0.5 * plain.lambda_min_corrected
    assert np.isnan(report.rho_ols)


def test_sharp_cap_uses_the_threshold_at_tsls():
    fine = DriveOptions(sharp_cap=True)
    report = radius(study(), "theory", fine=fine)
    assert report.bound_by == "sharp cap"
    assert report.cap < report.rho <= 0.5 * report.rho_hat or report.rho == report.cap
    plain = radius(study(), "theory", fine=replace(fine, many_instruments=False))
    assert plain.rho == pytest.approx(0.5 * plain.rho_hat, rel=1e-12)


def test_useless_instruments_leave_no_radius():
    y, X, Z, C = raw_study()
    rows = partialled(y, X, np.random.default_rng(3).standard_normal(Z.shape), C)
    problem = drive_problem(rows)
    assert corrected_strength(problem, Sandwich("hc1"))[0, 0] < 0.0
    codes = np.arange(rows.n) % 4
    for rule in ("theory", "bootstrap", "cv"):
        report = radius(rows, rule, environments=(codes, np.array(list("abcd"))))
        assert report.rho == 0.0 and report.ratio == 0.0 and TOO_WEAK in report.flags
    assert TOO_WEAK in radius(rows, 1e-6).flags


def test_fewer_instruments_than_treatments_have_no_consistent_radius():
    rows = study(q=1, p=2)
    report = radius(rows, "theory")
    assert report.rho == report.lambda_min == report.rho_hat == 0.0
    assert "no radius is consistent" in report.flags[0]
    with pytest.warns(AboveThresholdWarning):
        assert radius(rows, 0.1).above


def test_rules_do_not_depend_on_units_or_on_the_basis_of_the_instruments():
    y, X, Z, C = raw_study(p=2, q=5)
    turn = np.random.default_rng(2).standard_normal((5, 5))
    rows, other = partialled(y, X, Z, C), partialled(3.0 * y + C[:, 1], X * np.array([0.1, 70.0]), Z @ turn, C)
    for target in ("zero", "ols"):
        first, second = radius(rows, "theory", shrink_to=target), radius(other, "theory", shrink_to=target)
        for name in ("rho", "lambda_min", "lambda_min_corrected", "rho_hat", "lambda_min_at_b"):
            assert getattr(first, name) == pytest.approx(getattr(second, name), rel=1e-9)
    ols = [radius(r, "theory", shrink_to="ols", scale="raw").rho for r in (rows, other)]
    assert ols[0] == pytest.approx(ols[1], rel=1e-9)


# the score


def test_score_constants_of_the_homoskedastic_law():
    law = {q: 1.21 * scipy.stats.beta(0.5, (q - 1) / 2.0).ppf(0.95) for q in (2, 4, 8, 10, 20)}
    LOG.info("constants %s", {q: round(value, 4) for q, value in law.items()})
    assert [round(v, 2) for v in law.values()] == [1.20, 0.93, 0.54, 0.44, 0.23]


@pytest.mark.parametrize("q", [2, 4, 8, 10, 20])
def test_score_rule_has_the_beta_law(q):
    problem = drive_problem(study(q=q, n=2000))
    squares = score_draws(problem, Sandwich("classical"), n=20_000, seed=1) ** 2 / problem.A[0, 0]
    test = scipy.stats.kstest(squares, scipy.stats.beta(0.5, (q - 1) / 2.0).cdf)
    assert test.pvalue > 1e-3
    report = radius(study(q=q, n=2000), "bootstrap", sandwich="classical")
    ratio = report.score["rho_score"] / report.lambda_min
    wanted = 1.21 * scipy.stats.beta(0.5, (q - 1) / 2.0).ppf(0.95)
    LOG.info(f"q {q}: rho_score/A {ratio:.4f} against {wanted:.4f}, bound by {report.bound_by}")
    assert ratio == pytest.approx(wanted, rel=0.03)


def test_score_binds_only_with_many_strong_instruments():
    few = radius(study(q=6, n=4000), "bootstrap")
    many = radius(study(q=14, n=4000, strength=0.4), "bootstrap")
    assert (few.bound_by, many.bound_by) == ("cap", "score")
    assert few.rho == few.cap < few.score["rho_score"]
    assert many.rho == many.score["rho_score"] < many.cap
    assert "below the cap" in many.text and "the score asks for" in few.text


def test_one_instrument_has_a_constant_score():
    report = radius(study(q=1), "bootstrap")
    assert report.score["rho_score"] == pytest.approx(1.21 * report.lambda_min, rel=1e-10)


@pytest.mark.parametrize("kind", ["hc1", "cluster"])
@pytest.mark.parametrize("target", ["zero", "ols"])
def test_score_draws_have_the_law_of_multipliers(kind, target):
    problem = drive_problem(study(q=4, p=2), shrink_to=target)
    rows = problem.rows
    scores = rows.residuals(problem.b_tsls)[:, None] * (rows.Z @ problem.root.T)
    scores = scores - scores.mean(axis=0)
    if kind == "cluster":
        scores = np.add.reduceat(scores, np.arange(0, rows.n, 10), axis=0)
    draws = np.random.default_rng(0).standard_normal((20_000, len(scores))) @ scores
    slopes = draws @ problem.B
    S = problem.V * rows.n / rows.d1 if target == "ols" else np.eye(2)
    sizes = np.sqrt(np.einsum("ri,ij,rj->r", slopes, np.linalg.inv(S), slopes) / np.sum(draws**2, axis=1))
    found = score_draws(problem, Sandwich(kind), n=20_000, seed=0)
    assert scipy.stats.ks_2samp(found, sizes).pvalue > 1e-3
    levels = [0.5, 0.9, 0.95]
    assert np.quantile(found, levels) == pytest.approx(np.quantile(sizes, levels), rel=0.02)


# numbers


def test_numbers_and_the_threshold():
    rows = study()
    limit = radius(rows, "theory").rho_hat
    calm = radius(rows, 0.5 * limit)
    assert (calm.rule, calm.bound_by, calm.above, calm.near, calm.ratio) == ("given", "user", False, False, 0.5)
    with pytest.warns(NearThresholdWarning, match="0.970 times"):
        close = radius(rows, 0.97 * limit)
    assert close.near and not close.above
    with pytest.warns(AboveThresholdWarning, match="pseudo-true"):
        far = radius(rows, 1.2 * limit)
    assert far.above and not far.near and far.ratio == pytest.approx(1.2)
    clipped = radius(rows, 1.2 * limit, fine=DriveOptions(above_threshold="clip"))
    assert clipped.rho == pytest.approx(0.95 * limit) and clipped.bound_by == "clip" and not clipped.near
    assert "was clipped" in clipped.flags[0]
    with pytest.raises(OptionError, match="above_threshold"):
        radius(rows, 1.2 * limit, fine=DriveOptions(above_threshold="error"))
    zero = radius(rows, 0.0)
    assert zero.rho == zero.ratio == 0.0 and not zero.above


@pytest.mark.parametrize("rule", [-0.1, float("nan"), float("inf"), "theroy", None, True])
def test_rules_that_do_not_exist(rule):
    with pytest.raises(OptionError, match="rho"):
        radius(study(), rule)


def test_beyond_ols_a_warning_says_so():
    rows = study()
    bound = radius(rows, "theory", shrink_to="ols").rho_ols
    with pytest.warns(AboveThresholdWarning) as caught:
        report = radius(rows, 2.0 * bound, shrink_to="ols")
    assert any("clipped to OLS" in str(w.message) for w in caught)
    assert report.above and any("is OLS" in flag for flag in report.flags)


# environments


def environments(n, g=5, seed=0):
    codes = np.random.default_rng(seed).integers(0, g, n)
    return codes, np.array([f"region {e}" for e in range(g)])


@pytest.mark.parametrize("criterion", ["moment", "prediction"])
@pytest.mark.parametrize("weighted", [False, True])
def test_cv_curve_by_refitting_from_raw_columns(criterion, weighted):
    y, X, Z, C = raw_study(p=2, q=4)
    w = np.random.default_rng(4).uniform(0.3, 2.0, y.size) if weighted else np.ones(y.size)
    rows = partialled(y, X, Z, C, w)
    problem = drive_problem(rows)
    codes, labels = environments(y.size)
    rhos = np.array([1e-4, 0.05, 0.2])
    curve = cross_validate(problem, rhos, (codes, labels), criterion)
    for e in range(5):
        train, test = codes != e, codes == e
        fitted = partialled(y[train], X[train], Z[train], C[train], w[train], sampling=Sampling(int(train.sum())))
        scaled = drive_problem(fitted.scaled(problem.sd_y, problem.sd_x), scale="raw")
        for k, rho in enumerate(rhos):
            b = problem.to_raw(solve_drive(scaled, rho).b)
            if criterion == "moment":
                held = partialled(y[test], X[test], Z[test], C[test], w[test], sampling=Sampling(int(test.sum())))
                left = held.moments.w - held.moments.B @ b
                wanted = left @ left
            else:
                root = np.sqrt(w[train])
                delta = np.linalg.lstsq(
                    C[train] * root[:, None], (y[train] - X[train] @ b) * root, rcond=None
                )[0]  # fmt: skip
                error = y[test] - X[test] @ b - C[test] @ delta
                wanted = w[test] @ error**2 / w[test].sum()
            assert curve.loss[e, k] == pytest.approx(wanted / problem.sd_y**2, rel=1e-9)
    share = np.bincount(codes) / codes.size
    np.testing.assert_allclose(curve.mean, share @ curve.loss, rtol=1e-12)
    np.testing.assert_allclose(curve.std_error, curve.loss.std(axis=0, ddof=1) / np.sqrt(5), rtol=1e-12)


def test_cv_picks_by_one_standard_error_and_clips_at_the_cap():
    rows = study(n=900)
    given = environments(rows.n)
    report = radius(rows, "cv", environments=given)
    table = report.cv
    assert table is not None
    assert len(table["rho"]) == 41
    assert [k for k in table if k.startswith("loss[")] == [f"loss[region {e}]" for e in range(5)]
    assert table["rho_over_lambda_min"][0] == pytest.approx(1e-3)
    assert table["rho_over_lambda_min"][-1] == pytest.approx(4.0)
    loss, error = np.array(table["loss"]), np.array(table["std_error"])
    at = int(np.argmin(loss))
    within = np.flatnonzero(loss <= loss[at] + error[at])[-1]
    free = radius(rows, "cv", environments=given, fine=DriveOptions(cv_clip=False))
    assert free.rho == pytest.approx(table["rho"][within], rel=1e-12)
    assert report.rho == min(report.cap, free.rho)
    best = radius(rows, "cv", environments=given, fine=DriveOptions(cv_clip=False, one_se=False))
    assert best.rho == pytest.approx(table["rho"][at], rel=1e-12)
    assert any("without a guarantee" in flag for flag in report.flags)


def test_weak_instruments_run_to_the_end_of_the_grid_and_are_clipped():
    rows = study(n=900, strength=0.12)
    given = environments(rows.n)
    free = radius(rows, "cv", environments=given, fine=DriveOptions(cv_clip=False))
    assert free.bound_by == "grid end" and any("end of its grid" in flag for flag in free.flags)
    clipped = radius(rows, "cv", environments=given)
    assert clipped.rho == clipped.cap and clipped.bound_by == "cap"
    assert any("clipped at the cap" in flag for flag in clipped.flags)
    assert "clipped at" in clipped.text


def test_cv_prefers_a_small_radius_when_the_effect_is_large_and_known():
    y, X, Z, C = raw_study(n=6000, strength=0.8, effect=4.0)
    rows = partialled(y, X, Z, C)
    fine = DriveOptions(cv_clip=False, cv_grid=(1e-3, 40.0, 41))
    report = radius(rows, "cv", environments=environments(rows.n), fine=fine)
    assert report.bound_by == "curve" and report.cv is not None
    assert report.rho < report.cv["rho"][-1]
    assert report.cv["loss"][-1] > 5.0 * min(report.cv["loss"])


def test_cv_needs_three_usable_environments():
    rows = study(n=300)
    with pytest.raises(OptionError, match=r"Folds\(by="):
        radius(rows, "cv")
    with pytest.raises(DataError, match="at least 3 environments of at least 17 rows"):
        radius(rows, "cv", environments=environments(rows.n, g=2))
    codes = np.minimum(np.arange(300) // 20, 13)
    codes[:10], codes[10:20] = 14, 15
    labels = np.array([f"e{k}" for k in range(16)])
    report = radius(rows, "cv", environments=(codes, labels))
    assert "e14, e15" in next(flag for flag in report.flags if "too few rows" in flag)
    assert report.cv is not None and "loss[e14]" not in report.cv
    two_large = np.concatenate([np.zeros(140, int), np.ones(140, int), np.full(10, 2), np.full(10, 3)])
    with pytest.raises(DataError, match="2 of 4 are that large"):
        radius(rows, "cv", environments=(two_large, labels))


def test_an_instrument_that_lives_in_one_environment_is_named():
    y, X, Z, C = raw_study(n=300)
    codes = np.arange(300) // 60
    Z[codes != 2, 3] = 0.0
    with pytest.raises(DataError, match='without environment "region 2"'):
        radius(partialled(y, X, Z, C), "cv", environments=(codes, environments(10)[1]))


@pytest.mark.parametrize("target", ["zero", "ols"])
@pytest.mark.parametrize("metric", ["tsls", "gmm"])
def test_cv_with_every_target_and_metric(target, metric):
    rows = study(n=900)
    scores = rows.residuals(rows.moments.b_tsls)[:, None] * rows.Z
    report = radius(
        rows, "cv", environments=environments(rows.n), shrink_to=target, metric=metric,
        variance=scores.T @ scores / rows.n,
    )  # fmt: skip
    assert 0.0 < report.rho <= report.cap
