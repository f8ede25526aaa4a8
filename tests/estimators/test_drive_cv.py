"""Cross-validation of the radius over environments."""

import numpy as np
import pytest

import causalsat as cs
from causalsat.errors import DataError, OptionError, SplitClusterWarning
from causalsat.estimators.drive_cv import cross_validate
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_options import DriveOptions
from causalsat.estimators.drive_problem import drive_problem
from tests.estimators.radius_studies import clustered, environments, radius, raw_study, study


@pytest.mark.parametrize("criterion", ["moment", "prediction"])
@pytest.mark.parametrize("weighted", [False, True])
def test_cv_curve_by_refitting_from_raw_columns(criterion, weighted):
    y, X, Z, C = raw_study(p=2, q=4)
    w = np.random.default_rng(4).uniform(0.3, 2.0, y.size) if weighted else np.ones(y.size)
    rows = clustered(y, X, Z, C, w)
    problem = drive_problem(rows)
    codes, labels = environments(y.size)
    rhos = np.array([1e-4, 0.05, 0.2])
    curve = cross_validate(problem, rhos, (codes, labels), criterion)
    for e in range(5):
        train, test = codes != e, codes == e
        fitted = clustered(y[train], X[train], Z[train], C[train], w[train])
        scaled = drive_problem(fitted.scaled(problem.sd_y, problem.sd_x), scale="raw")
        for k, rho in enumerate(rhos):
            b = problem.to_raw(solve_drive(scaled, rho).b)
            if criterion == "moment":
                held = clustered(y[test], X[test], Z[test], C[test], w[test])
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
    rows = clustered(y, X, Z, C)
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


def test_random_folds_are_refused():
    y, X, Z, _ = raw_study(n=300)
    data = {"y": y, "x": X[:, 0], "z": Z[:, 0]}
    with pytest.raises(OptionError, match="random folds hold the same environment on both sides"):
        cs.drive(data, outcome="y", treatment="x", instruments="z", rho="cv", folds=cs.Folds(5))


def test_an_instrument_that_lives_in_one_environment_is_named():
    y, X, Z, C = raw_study(n=300)
    codes = np.arange(300) // 60
    Z[codes != 2, 3] = 0.0
    with pytest.raises(DataError, match='without environment "region 2"'):
        radius(clustered(y, X, Z, C), "cv", environments=(codes, environments(10)[1]))


@pytest.mark.parametrize("target", ["zero", "ols"])
@pytest.mark.parametrize("metric", ["tsls", "gmm"])
def test_cv_with_every_target_and_metric(target, metric):
    rows = study(n=900)
    report = radius(rows, "cv", environments=environments(rows.n), shrink_to=target, metric=metric)
    assert 0.0 < report.rho <= report.cap


def test_clusters_that_straddle_environments_are_told():
    y, X, Z, _ = raw_study(n=600)
    data = {
        "y": y,
        "x": X[:, 0],
        "z1": Z[:, 0],
        "z2": Z[:, 1],
        "g": np.arange(600) // 6,
        "e": np.arange(600) % 5,
        "h": np.arange(600) % 40,
    }
    data["whole"] = data["g"] % 5
    roles = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2"], "rho": "cv", "n_boot": 0, "sets": ()}
    with pytest.warns(SplitClusterWarning, match="100 of 100 clusters have rows in several environments"):
        found = cs.drive(data, **roles, cluster="g", folds=cs.Folds(by="e"))
    assert any("several environments" in text for text in found.meta["warnings"])
    whole = cs.drive(data, **roles, cluster="g", folds=cs.Folds(by="whole"))
    assert not any("several environments" in text for text in whole.meta["warnings"])
    with pytest.warns(SplitClusterWarning, match="100 of 100"):
        cs.drive(data, **roles, cluster=["h", "g"], folds=cs.Folds(by="e"))
