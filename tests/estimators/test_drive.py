"""The verb `drive` from table to table: Card (1995), options, rows, seams, sensitivity."""

import io
import json

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.errors import (
    AboveThresholdWarning,
    FewClustersWarning,
    NearThresholdWarning,
    OptionError,
    WeakInstrumentWarning,
)
from causalsat.simulate.iv import iv

CONTROLS = ["exper", "expersq", "black", "smsa", "south", "smsa66", *(f"reg{i}" for i in range(662, 670))]


@pytest.fixture(scope="module")
def card():
    from linearmodels.datasets import card as shipped

    return shipped.load()[["lwage", "educ", "nearc2", "nearc4", *CONTROLS]].dropna()


@pytest.fixture(scope="module")
def just(card):
    with pytest.warns(WeakInstrumentWarning):
        return cs.drive(
            card, outcome="lwage", treatment="educ", instruments="nearc4", covariates=CONTROLS, n_boot=199,
            compare=("ols", "tsls", "liml", "fuller"), sets=("ar", "clr", "lm"), seed=1,
        )  # fmt: skip


@pytest.fixture(scope="module")
def strong():
    data, _ = iv(n=600, q=4, concentration=200.0, seed=3)
    return pd.DataFrame(data), {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2", "z3", "z4"]}


def test_card_rows(just):
    table = just.table
    assert table.row(method="ols", interval="wald")["estimate"] == pytest.approx(0.0746933, abs=5e-8)
    assert table.row(method="tsls", interval="wald")["estimate"] == pytest.approx(0.1315038, abs=5e-8)
    assert table.row(method="tsls", interval="wald")["std_error"] == pytest.approx(0.0541436, abs=5e-8)
    assert table.row(method="liml", interval="wald")["estimate"] == pytest.approx(0.1315038, abs=5e-8)
    assert table.row(method="fuller", interval="wald")["estimate"] == pytest.approx(0.1275010, abs=5e-8)
    ar = table.row(method="ar", interval="homoskedastic")
    assert (ar["conf_low"], ar["conf_high"]) == pytest.approx((0.024855, 0.284721), abs=5e-7)
    assert ar["p_value"] == pytest.approx(0.019961, abs=5e-7)
    assert np.isnan(ar["estimate"])


def test_just_identified_drive_is_tsls_to_the_last_bit(just):
    rows = just.table
    assert just.rho > 0.0
    tsls = just.equations[0].problem.b_tsls
    assert just.fit.b == pytest.approx(tsls, abs=0.0)
    assert rows.row(method="drive", interval="limit")["estimate"] == pytest.approx(
        rows.row(method="tsls", interval="wald")["estimate"], rel=1e-12
    )


def test_weak_instruments_put_the_sets_first_and_the_summary_says_so(just):
    assert just.meta["weak"] is True
    assert just.table["method"][0] in ("ar", "clr", "lm")
    text = just.summary()
    assert "weak" in text
    assert "exclusion" in text
    assert json.dumps(just.meta)


def test_robust_and_homoskedastic_ar_stand_beside_each_other(just):
    kinds = {(m, k) for m, k in zip(just.table["method"], just.table["interval"], strict=True)}
    assert ("ar", "homoskedastic") in kinds
    assert ("ar", "robust") in kinds


def test_intervals_that_would_be_wrong_are_refused(just):
    for method in ("percentile", "normal"):
        with pytest.raises(OptionError, match=r"refused"):
            just.table.interval(method=method)


def test_another_level_needs_no_refit(just):
    wide = just.with_level(0.99)
    row = wide.table.row(method="ar", interval="homoskedastic")
    assert (row["conf_low"], row["conf_high"]) == pytest.approx((-0.019641, 0.397014), abs=5e-7)
    assert (
        wide.table.row(method="drive", interval="limit")["conf_low"]
        < just.table.row(method="drive", interval="limit")["conf_low"]
    )
    assert wide.meta["n_input"] == just.meta["n_input"]


def test_same_seed_same_bits(strong):
    data, roles = strong
    one = cs.drive(data, **roles, n_boot=199, seed=5)
    two = cs.drive(data, **roles, n_boot=199, seed=5)
    assert one.table.with_meta(seconds=0.0) == two.table.with_meta(seconds=0.0)
    assert np.array_equal(one.table.draws, two.table.draws, equal_nan=True)


def test_row_order_does_not_matter(strong):
    data, roles = strong
    one = cs.drive(data, **roles, n_boot=0)
    two = cs.drive(data.sample(frac=1.0, random_state=0), **roles, n_boot=0)
    assert two.table["estimate"] == pytest.approx(one.table["estimate"], rel=1e-10, nan_ok=True)


def test_rho_zero_is_tsls(strong):
    data, roles = strong
    result = cs.drive(data, **roles, rho=0.0, n_boot=199)
    assert result.table.row(method="drive", interval="limit")["estimate"] == pytest.approx(
        result.table.row(method="tsls", interval="wald")["estimate"], abs=1e-12
    )
    assert "rho = 0" in result.summary()


def test_above_the_threshold_the_rows_are_pseudo_true(strong):
    data, roles = strong
    with pytest.warns(AboveThresholdWarning):
        result = cs.drive(data, **roles, rho=5.0, n_boot=199)
    row = result.table.row(method="drive", interval="pseudo_true")
    assert np.isfinite(row["conf_low"])
    assert result.meta["estimand"] == "pseudo-true value"
    assert "limit" not in set(result.table["interval"])


@pytest.mark.parametrize("kind", ["table", "path", "strength", "sets"])
def test_every_plot_draws(strong, just, kind):
    data, roles = strong
    ax = just.plot(kind=kind)
    ax.figure.savefig(io.BytesIO())
    assert cs.drive(data, **roles, n_boot=0).plot(kind=kind) is not None


def test_path_has_the_columns_and_falls(strong):
    data, roles = strong
    result = cs.drive(data, **roles, n_boot=0)
    frame = result.path()
    assert list(frame.columns) == ["rho", "rho_over_lambda_min", "lam", "s", "t", "above_threshold", "x"]
    assert len(frame) == 122
    assert (np.diff(np.abs(frame["x"])) <= 1e-12).all()
    assert frame["x"].iloc[0] == pytest.approx(result.table.row(method="tsls")["estimate"], rel=1e-12)


def test_covariate_effects_are_the_regression_of_the_rest(card, just):
    import statsmodels.api as sm

    b = just.table.row(method="drive", interval="limit")["estimate"]
    fit = sm.OLS(card["lwage"] - b * card["educ"], sm.add_constant(card[CONTROLS])).fit()
    found = just.covariate_effects()
    for name in CONTROLS:
        assert found[name] == pytest.approx(fit.params[name], rel=1e-8)


def test_sensitivity_of_tsls_under_a_prior_and_over_a_box(just):
    found = just.sensitivity(direct=0.01, prior={"nearc4": (0.0, 0.01)})
    union = found.to_frame().set_index("method")
    tsls = just.table.row(method="tsls", interval="wald")
    assert union.loc["tsls", "low"] < tsls["conf_low"] < tsls["conf_high"] < union.loc["tsls", "high"]
    assert found.prior["std_error"][0] > tsls["std_error"]
    problem = just.equations[0].problem
    z = problem.rows.Z[:, 0]
    direct = found.breakdown["tsls"] * np.std(problem.sd_y * problem.rows.y) / np.std(z)
    edge = []
    for eta in (-direct, direct):
        y = problem.sd_y * problem.rows.y - eta * z
        x = problem.sd_x[0] * problem.rows.X[:, 0]
        b = z @ y / (z @ x)
        error = np.sqrt(np.sum(z**2 * (y - b * x) ** 2) * 3010 / 2994) / abs(z @ x)
        edge.append(b - 1.959964 * error)
    assert min(edge) == pytest.approx(0.0, abs=1e-4)
    assert "standard deviations" in found.summary()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"radius": 0.1}, "squared radius"),
        ({"rho": "theroy"}, 'Did you mean "theory"'),
        ({"rho": -1.0}, "rho=-1.0"),
        ({"rho": "cv"}, "environment"),
        ({"compare": "kclass"}, "kappa"),
        ({"n_boot": 5}, "draws"),
        ({"interval": "recentred", "n_boot": 0}, 'interval="recentred" is made of bootstrap draws'),
        ({"interval": "recentred", "inference": cs.Sandwich("hc1")}, "a Sandwich"),
        ({"inference": cs.Bootstrap(199), "n_boot": 299}, "contradicts"),
        ({"inference": cs.Bootstrap(199, "wild")}, "wild"),
        ({"shrink_to": "mean"}, "shrink_to"),
    ],
)
def test_bad_options(strong, given, words):
    data, roles = strong
    with pytest.raises(OptionError, match=words):
        cs.drive(data, **roles, **given)


def test_a_sandwich_as_inference_drops_the_bootstrap(strong):
    data, roles = strong
    result = cs.drive(data, **roles, inference=cs.Sandwich("classical"))
    assert "recentred" not in set(result.table["interval"])
    assert result.meta["covariance"] == "classical"


def test_one_equation_per_treatment(strong):
    data, _ = iv(n=800, q=4, p=2, concentration=400.0, seed=2)
    names = [c for c in data if c.startswith("x")]
    roles = {"outcome": "y", "treatment": names, "instruments": [c for c in data if c.startswith("z")]}
    joint = cs.drive(data, **roles, n_boot=199)
    assert {*joint.table["treatment"]} == {*names}
    with pytest.warns(match="leaves the other treatments out"):
        apart = cs.drive(data, **roles, joint=False, n_boot=0)
    assert len(apart.equations) == 2


def test_reselecting_the_radius_changes_draws_and_not_the_estimate(strong):
    data, roles = strong
    fixed = cs.drive(data, **roles, n_boot=199, seed=2)
    again = cs.drive(data, **roles, n_boot=199, seed=2, options=cs.DriveOptions(reselect=True))
    row = {"method": "drive", "interval": "recentred"}
    assert again.table.row(**row)["estimate"] == fixed.table.row(**row)["estimate"]
    assert again.table.row(**row)["std_error"] != fixed.table.row(**row)["std_error"]
    assert again.table.row(**row)["std_error"] == pytest.approx(fixed.table.row(**row)["std_error"], rel=0.1)
    with pytest.raises(OptionError, match="reselect"):
        cs.drive(data, **roles, rho=0.1, options=cs.DriveOptions(reselect=True))


def test_bands_are_refused_and_point_to_the_joint_test(strong):
    data, roles = strong
    table = cs.drive(data, **roles, n_boot=199).table
    for refused in (table, table.contrast("`drive:recentred` - `tsls:wald`", method="basic")):
        with pytest.raises(OptionError, match=r"joint\(\) is refused for these rows.*joint_null"):
            refused.joint()


def test_a_contrast_names_the_methods_that_are_not_refused(strong):
    data, roles = strong
    table = cs.drive(data, **roles, n_boot=199).table
    expression = "`drive:recentred` - `tsls:wald`"
    with pytest.raises(OptionError, match='pass method="basic" where the rows have draws'):
        table.contrast(expression)
    found = table.contrast(expression, method="basic")
    assert np.isfinite(found["conf_low"]).all()
    with pytest.raises(OptionError, match="refused"):
        table.contrast(expression, method="percentile")


def test_a_clipped_radius_fails_its_check(strong):
    data, roles = strong
    options = cs.DriveOptions(above_threshold="clip")
    with pytest.warns(NearThresholdWarning):
        result = cs.drive(data, **roles, n_boot=0, rho=1e3, options=options)
    assert result.check("radius").passed is False
    assert "limit_unreliable" in result.meta


@pytest.mark.filterwarnings("ignore:the draws of inference resample single rows")
@pytest.mark.parametrize(("scheme", "nested", "expected"), [
    ("iid", True, False), ("cluster", True, True), ("cluster", False, False), ("iid", None, True),
])  # fmt: skip
def test_refit_is_false_where_fixed_effects_are_held(strong, scheme, nested, expected):
    data, roles = strong
    level = np.arange(600) % 60
    cluster = level if nested else np.arange(600) // 10
    data = data.assign(level=level, cluster=cluster, c=np.random.default_rng(0).standard_normal(600))
    effects = {} if nested is None else {"fixed_effects": "level"}
    result = cs.drive(data, **roles, **effects, covariates="c", cluster="cluster", inference=cs.Bootstrap(199, scheme))
    assert result.meta["refit"] is expected


def test_a_covariate_called_like_the_constant_does_not_replace_it(strong):
    data, roles = strong
    values = 3.0 * np.random.default_rng(1).standard_normal(600)
    found = cs.drive(data.assign(**{"(constant)": values}), **roles, covariates="(constant)", n_boot=0)
    plain = cs.drive(data.assign(c=values), **roles, covariates="c", n_boot=0)
    assert found.covariate_effects()["(constant)"] == pytest.approx(plain.covariate_effects()["(constant)"])
    assert found.covariate_effects()["covariate (constant)"] == pytest.approx(plain.covariate_effects()["c"])


def test_few_clusters_give_the_robust_set_a_reason(strong):
    data, roles = strong
    with pytest.warns(FewClustersWarning):
        result = cs.drive(data.assign(g=np.arange(600) % 8), **roles, cluster="g", n_boot=0)
    row = result.table.row(method="ar", interval="robust")
    assert np.isnan(row["conf_low"]) and 0.0 < row["p_value"] < 1.0
    (entry,) = [e for e in result.meta["sets"] if e["interval"] == "robust"]
    assert "cannot exceed" in entry["reason"] and "shape" not in entry
    assert "cannot exceed" in result.summary()
