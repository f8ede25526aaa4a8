"""Comparators of DRIVE against linearmodels, ivmodels and statsmodels on real data, and their identities."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest

from causalsat.errors import NumericalError, OptionError
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_problem import drive_problem
from causalsat.estimators.k_class import METHODS, comparator
from causalsat.inference.options import Sandwich
from tests.estimators.iv_oracles import Data, card_collinear, card_design

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import statsmodels.api as sm
    from linearmodels.datasets import mroz
    from linearmodels.iv import IV2SLS, IVLIML

CLASSICAL, HC0, HC1 = (Sandwich(k) for k in ("classical", "hc0", "hc1"))


@pytest.fixture(scope="module")
def just():
    return card_design("just")


@pytest.fixture(scope="module")
def over():
    return card_design("over")


@pytest.fixture(scope="module")
def weighted():
    return card_design("weighted")


def error(data, method, sandwich, dof="none", **options):
    found = comparator(method, data.rows(dof), sandwich, **options)
    return found.b, found.covariance.std_error


def test_card_just_identified_table(just):
    b, se = error(just, "ols", CLASSICAL)
    assert b[0] == pytest.approx(0.0746933, abs=5e-8)
    assert se[0] == pytest.approx(0.003489, abs=5e-7)
    assert error(just, "ols", HC0)[1][0] == pytest.approx(0.003637, abs=5e-7)
    for method in ("tsls", "liml"):
        b, se = error(just, method, CLASSICAL)
        assert b[0] == pytest.approx(0.1315038, abs=5e-8)
        assert se[0] == pytest.approx(0.054817, abs=5e-7)
        assert error(just, method, HC0)[1][0] == pytest.approx(0.054000, abs=5e-7)
        assert error(just, method, HC1, "small")[1][0] == pytest.approx(0.0541436, abs=5e-8)
    fuller = comparator("fuller", just.rows(), HC1)
    assert fuller.b[0] == pytest.approx(0.1275010, abs=5e-8)
    assert fuller.kappa == pytest.approx(0.999665999, abs=5e-10)
    assert comparator("liml", just.rows(), HC1).kappa == 1.0
    assert just.rows().d1 == 2994


DESIGNS = ("just", "over", "weighted")


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("dof", ["small", "none"])
@pytest.mark.parametrize(("sandwich", "kind"), [(CLASSICAL, "unadjusted"), (HC1, "robust")])
def test_card_linearmodels(request, design, dof, sandwich, kind):
    data = request.getfixturevalue(design)
    debiased = dof == "small"
    oracles = {
        "tsls": data.oracle(IV2SLS, kind, debiased),
        "liml": data.oracle(IVLIML, kind, debiased),
        "fuller": data.oracle(IVLIML, kind, debiased, fuller=1.0),
    }
    for method, (b, se) in oracles.items():
        found, error_of = error(data, method, sandwich, dof)
        np.testing.assert_allclose(found, b, rtol=0, atol=1e-9, err_msg=method)
        np.testing.assert_allclose(error_of, se, rtol=1e-7, err_msg=method)


@pytest.mark.parametrize("design", DESIGNS)
def test_ols_statsmodels(request, design):
    data = request.getfixturevalue(design)
    weights = 1.0 if data.weights is None else data.weights
    fit = sm.WLS(data.y, np.column_stack([data.C, data.X]), weights=weights)
    for sandwich, name in ((CLASSICAL, "nonrobust"), (HC0, "HC0"), (HC1, "HC1")):
        oracle = fit.fit(cov_type=name)
        b, se = error(data, "ols", sandwich, "small")
        np.testing.assert_allclose(b, oracle.params[-1:], rtol=1e-9)
        np.testing.assert_allclose(se, oracle.bse[-1:], rtol=1e-7)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("kappa", [-0.5, 0.0, 0.8, 0.999, 1.0])
def test_kclass_point(request, design, kappa):
    data = request.getfixturevalue(design)
    found = comparator("kclass", data.rows(), HC1, kappa=kappa)
    np.testing.assert_allclose(found.b, data.oracle(IVLIML, "robust", False, kappa=kappa)[0], atol=1e-9)
    if data.weights is None:
        np.testing.assert_allclose(found.b, data.ivmodels(kappa), atol=1e-9)


@pytest.mark.parametrize("design", ["just", "over"])
def test_ivmodels(request, design):
    data = request.getfixturevalue(design)
    for method, name in (("ols", "ols"), ("tsls", "tsls"), ("liml", "liml"), ("fuller", "fuller(1)")):
        np.testing.assert_allclose(comparator(method, data.rows(), HC1).b, data.ivmodels(name), atol=1e-8, err_msg=name)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 5.0, 1e4])
def test_anchor_is_least_squares_of_transformed_rows(over, gamma):
    rows = over.rows()
    found = comparator("anchor", rows, HC1, gamma=gamma)
    basis = np.linalg.qr(rows.Z)[0]

    def turn(columns):
        return columns + (np.sqrt(gamma) - 1.0) * basis @ (basis.T @ columns)

    direct = np.linalg.lstsq(turn(rows.X), turn(rows.y[:, None]), rcond=None)[0][:, 0]
    np.testing.assert_allclose(found.b, direct, atol=1e-11)
    np.testing.assert_allclose(found.b, over.ivmodels((gamma - 1.0) / gamma), atol=1e-9)


def test_anchor_limits(over):
    rows = over.rows()
    ols, tsls = (comparator(m, rows, HC1) for m in ("ols", "tsls"))
    one = comparator("anchor", rows, HC1, gamma=1.0)
    np.testing.assert_array_equal(one.b, ols.b)
    np.testing.assert_array_equal(one.covariance.std_error, ols.covariance.std_error)
    gaps = [abs(comparator("anchor", rows, HC1, gamma=g).b[0] - tsls.b[0]) for g in (1e3, 1e5, 1e7, 1e9)]
    assert all(np.diff(gaps) < 0.0)
    assert gaps[-1] < 1e-6
    np.testing.assert_array_equal(comparator("anchor", rows, HC1, gamma=np.inf).b, tsls.b)


def test_mroz_two_treatments():
    frame = mroz.load()
    frame = frame[frame["inlf"] == 1]
    data = Data(frame, "lwage", ["educ", "exper"], ["age", "kidslt6", "kidsge6"], [])
    np.testing.assert_allclose(comparator("tsls", data.rows(), HC1).b, [0.1058361, 0.0161527], atol=5e-8)
    for dof, debiased in (("small", True), ("none", False)):
        for kind, sandwich in (("unadjusted", CLASSICAL), ("robust", HC1)):
            for method, model in (("tsls", IV2SLS), ("liml", IVLIML)):
                b, se = error(data, method, sandwich, dof)
                oracle_b, oracle_se = data.oracle(model, kind, debiased)
                np.testing.assert_allclose(b, oracle_b, atol=1e-8)
                np.testing.assert_allclose(se, oracle_se, rtol=1e-6)


def test_treatment_in_span_of_instruments_and_controls():
    collinear = card_collinear(["nearc2", "nearc4", "age", "agesq"])
    rows = collinear.rows()
    assert np.linalg.eigvalsh(rows.scaled(1.0, rows.X.std(axis=0)).moments.XMX)[0] < 1e-12
    tsls = collinear.oracle(IV2SLS, "robust", True)
    found = comparator("tsls", rows, HC1)
    np.testing.assert_allclose(found.b, tsls[0], atol=1e-7)
    np.testing.assert_allclose(found.covariance.std_error, tsls[1], rtol=1e-5)
    liml, fuller = (comparator(m, rows, HC1) for m in ("liml", "fuller"))
    assert liml.kappa > 1.0
    assert fuller.kappa == pytest.approx(liml.kappa - 1.0 / rows.d1, abs=1e-12)
    for other in (liml, fuller):
        np.testing.assert_allclose(other.b, collinear.oracle(IVLIML, "robust", True, kappa=other.kappa)[0], atol=1e-7)
        assert np.all(other.covariance.std_error > 0.0)


def test_just_identified_in_span():
    data = card_collinear(["nearc4", "age", "agesq"])
    rows = data.rows()
    liml = comparator("liml", rows, HC1)
    assert liml.kappa == 1.0
    np.testing.assert_array_equal(liml.b, comparator("tsls", rows, HC1).b)
    np.testing.assert_allclose(liml.b, data.oracle(IV2SLS, "robust", True)[0], atol=1e-7)


def test_liml_minimises_the_variance_ratio(over):
    rows = over.rows()
    moments, liml = rows.moments, comparator("liml", rows, HC1)

    def ratio(b):
        direction = np.array([1.0, -b])
        return (direction @ moments.projected @ direction) / (direction @ moments.orthogonal @ direction)

    here = ratio(liml.b[0])
    assert here == pytest.approx(liml.kappa - 1.0, rel=1e-8)
    assert all(ratio(liml.b[0] + step) > here for step in (-1e-2, -1e-3, 1e-3, 1e-2))


def test_order_of_estimates(over):
    """With kappa rising from 0 to LIML's, the estimate moves monotonically from OLS past Fuller and TSLS."""
    rows = over.rows()
    b = {m: comparator(m, rows, HC1).b[0] for m in ("ols", "fuller", "tsls", "liml")}
    grid = np.linspace(0.0, comparator("liml", rows, HC1).kappa, 60)
    path = [comparator("kclass", rows, HC1, kappa=float(k)).b[0] for k in grid]
    assert np.all(np.diff(path) > 0.0)
    assert b["ols"] < b["tsls"] < b["liml"]
    assert b["ols"] < b["fuller"] < b["liml"]


def test_drive_is_ridge_tsls_at_its_implicit_penalty(over):
    rows = over.rows()
    problem = drive_problem(rows)
    fit = solve_drive(problem, 0.001)
    found = comparator("ridge_tsls", rows, HC1, ridge=(fit.lam, problem))
    np.testing.assert_allclose(found.b, problem.to_raw(fit.b), rtol=1e-10)


def test_ridge_tsls_is_ridge_on_the_moments(over):
    rows = over.rows()
    problem = drive_problem(rows)
    found = comparator("ridge_tsls", rows, HC1, ridge=(0.002, problem))
    stacked = np.vstack([problem.B, np.sqrt(0.002) * np.eye(1)])
    direct = np.linalg.lstsq(stacked, np.append(problem.w, 0.0), rcond=None)[0]
    np.testing.assert_allclose(found.b, problem.to_raw(direct), rtol=1e-12)
    assert found.covariance is None
    assert "biased" in found.unavailable
    zero = comparator("ridge_tsls", rows, HC1, ridge=(0.0, problem))
    np.testing.assert_allclose(zero.b, comparator("tsls", rows, HC1).b, rtol=1e-12)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "ridge_tsls"])
def test_integer_weights_are_repeated_rows(over, method):
    times = 1 + np.arange(3010) % 3
    heavy, repeated = copy.copy(over), copy.copy(over)
    heavy.weights = times.astype(np.float64)
    repeated.y, repeated.X, repeated.Z, repeated.C = (
        np.repeat(a, times, axis=0) for a in (over.y, over.X, over.Z, over.C)
    )
    options = {"fuller": 0.0, "kappa": 0.9}
    one, two = (comparator(method, d.rows(), HC0, **options) for d in (heavy, repeated))
    np.testing.assert_allclose(one.b, two.b, rtol=1e-9)
    np.testing.assert_allclose(comparator(method, replace_scaled(heavy), HC0, **options).b, one.b, rtol=1e-9)


def replace_scaled(data):
    """Rows of the same design with every weight multiplied by seven."""
    again = copy.copy(data)
    again.weights = 7.0 * data.weights
    return again.rows()


@pytest.mark.parametrize("method", [m for m in METHODS if m != "ridge_tsls"])
def test_invariances(weighted, method):
    rows = weighted.rows()
    base = comparator(method, rows, HC1, kappa=0.7)
    turn = np.array([[2.0, 1.0], [-0.5, 3.0]])
    order = np.random.default_rng(0).permutation(rows.n)
    changed = [
        replace(rows, Z=rows.Z @ turn),
        replace(rows, y=rows.y[order], X=rows.X[order], Z=rows.Z[order], weights=rows.weights[order]),
    ]
    for other in changed:
        found = comparator(method, other, HC1, kappa=0.7)
        np.testing.assert_allclose(found.b, base.b, rtol=1e-10)
        np.testing.assert_allclose(found.covariance.std_error, base.covariance.std_error, rtol=1e-9)
    flipped = comparator(method, replace(rows, y=-3.0 * rows.y, X=0.1 * rows.X), HC1, kappa=0.7)
    np.testing.assert_allclose(flipped.b, -30.0 * base.b, rtol=1e-10)
    np.testing.assert_allclose(flipped.covariance.std_error, 30.0 * base.covariance.std_error, rtol=1e-9)
    if method not in ("liml", "fuller"):
        np.testing.assert_allclose(base.influence.mean(axis=0), 0.0, atol=1e-9)


def test_errors(over):
    rows = over.rows()
    with pytest.raises(OptionError, match="kappa"):
        comparator("kclass", rows, HC1)
    with pytest.raises(OptionError, match="gamma"):
        comparator("anchor", rows, HC1, gamma=0.0)
    with pytest.raises(OptionError, match="ridge"):
        comparator("ridge_tsls", rows, HC1)
    with pytest.raises(OptionError, match="penalty"):
        comparator("ridge_tsls", rows, HC1, ridge=(-1.0, drive_problem(rows)))
    with pytest.raises(OptionError, match="method"):
        comparator("gmm", rows, HC1)
    doubled = replace(rows, X=np.column_stack([rows.X, 2.0 * rows.X]), treatments=("a", "b"))
    for method in ("ols", "tsls"):
        with pytest.raises(NumericalError, match="singular"):
            comparator(method, doubled, HC1)
    exact = replace(rows, y=0.5 * rows.X[:, 0])
    np.testing.assert_allclose(comparator("tsls", exact, HC1).b, 0.5, rtol=1e-12)
