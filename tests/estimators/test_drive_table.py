"""Rows, reasons and meta of `drive`: order of the sets, no identification, several equations, units of the draws."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.errors import (
    AboveThresholdWarning,
    CausalsatWarning,
    IdentificationError,
    OptionError,
    WeakInstrumentWarning,
)
from causalsat.estimators.drive_equation import weakness
from causalsat.simulate.iv import iv

ROLES = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2", "z3", "z4"]}


def study(**given):
    return pd.DataFrame(iv(**({"n": 400, "q": 4} | given))[0])


def drive(data, **given):
    return cs.drive(data, **(ROLES | {"n_boot": 0} | given))


@pytest.fixture(scope="module")
def strong():
    return study(seed=3)


@pytest.fixture(scope="module")
def apart():
    data = study(n=800, p=2, concentration=400.0, seed=2)
    with pytest.warns(CausalsatWarning, match="leaves the other treatments out"):
        return drive(data, treatment=["x1", "x2"], joint=False, n_boot=199)


def test_robust_sets_come_first_and_the_others_say_what_they_assume():
    data = study(n=800, q=3, concentration=20.0, confounding=0.3, clusters=50, intraclass=0.3, seed=1)
    with pytest.warns(WeakInstrumentWarning) as caught:
        result = drive(data, instruments=["z1", "z2", "z3"], cluster="cluster")
    assert next(zip(result.table["method"], result.table["interval"], strict=True)) == ("ar", "robust")
    assert result.meta["sets"][0]["interval"] == "robust"
    text = result.summary()
    assert "they alone hold" not in text
    assert "AR set of x (homoskedastic, independent rows only)" in text
    assert "CLR set of x (homoskedastic, independent rows only)" in text
    for said in (text, *(str(one.message) for one in caught if "effective F" in str(one.message))):
        assert "read the AR (robust) set first" in said
        assert "AR and CLR" not in said


def test_homoskedastic_sets_are_read_first_only_without_a_robust_one():
    data = study(q=3, concentration=8.0, seed=1)
    with pytest.warns(WeakInstrumentWarning) as caught:
        drive(data, instruments=["z1", "z2", "z3"], covariance=cs.Sandwich("classical"))
    said = "read the AR and CLR sets first, which hold for independent rows"
    assert any(said in str(one.message) for one in caught)


def test_no_warning_names_sets_that_several_treatments_do_not_have():
    data = study(p=2, concentration=4.0, seed=1)
    with pytest.warns(WeakInstrumentWarning) as caught:
        drive(data, treatment=["x1", "x2"])
    assert not any("CLR" in str(one.message) for one in caught)


def test_an_effective_f_that_does_not_exist_is_told_as_such(strong):
    stage = replace(drive(strong).first_stage, f_effective=np.nan, unavailable={"effective_f": "no finite variance"})
    (text,) = weakness(stage, ())
    assert text.startswith("the effective F does not exist (no finite variance)")
    assert "nan" not in text.replace("finite", "")


def test_invalid_instruments_leave_no_claim_of_the_effect(strong):
    data = strong.assign(y=strong["y"] + 1.5 * strong["z1"])
    result = drive(data)
    radius = result.check("radius")
    assert result.check("hansen").passed is False
    assert radius.passed is None
    assert "the instruments contradict each other (Hansen" in radius.text
    assert "p < .0001" in radius.text
    assert "so its limit is" not in radius.text
    assert result.summary().split("\n")[0] == radius.text


def test_valid_instruments_make_a_conditional_claim(strong):
    result = drive(strong)
    assert "the limit of TSLS, which is the effect if the instruments are valid" in result.check("radius").text
    assert result.check("radius").passed is True


def test_no_identification_keeps_every_row_with_its_reason():
    data = study(p=2, concentration=300.0)
    with pytest.warns(AboveThresholdWarning):
        result = drive(
            data, treatment=["x1", "x2"], instruments="z1", rho=0.1,
            options=cs.DriveOptions(allow_underidentified=True), compare=("ols", "tsls", "liml", "anchor"),
        )  # fmt: skip
    table = result.table
    for method in ("tsls", "liml", "ar", "clr"):
        for row in table.where(method=method).to_frame().to_dict("records"):
            assert np.isnan(row["estimate"]) and np.isnan(row["conf_low"])
    for method in ("drive", "ols", "anchor"):
        rows = table.where(method=method)
        assert np.isfinite(rows["estimate"]).all() and np.isnan(rows["conf_low"]).all()
    told = [why["estimate"] for i, why in table.meta["unavailable"].items() if "estimate" in why]
    assert any("identify no effect" in why for why in told)
    assert all(told)
    joint = result.check("joint_null")
    assert joint.table["test"] == ["ar, robust", "ar, homoskedastic"]
    assert joint.table["df"] == [1.0, 1]
    assert np.isfinite(joint.table["p_value"]).all()
    with pytest.raises(IdentificationError):
        drive(data, treatment=["x1", "x2"], instruments="z1", rho=0.1)


def test_every_equation_can_be_asked(apart):
    second = apart.equation("x2")
    assert second.rho == apart.equations[1].radius.rho != apart.rho
    assert set(second.table["treatment"]) == {"x2"}
    assert {c.name for c in second.checks} == {c.name for c in apart.checks if c.name.endswith("[x2]")}
    assert second.meta["rho"] == second.rho and second.meta["n_input"] == apart.meta["n_input"]
    assert second.table["estimate"].tolist()[0] == apart.table.where(treatment="x2")["estimate"].tolist()[0]
    assert second.first_stage.treatments == ("x2",)
    assert set(apart.scale_factors) == {"y", "x1", "x2"}
    assert list(apart.path([0.1], equation="x2").columns)[-1] == "x2"
    assert apart.sensitivity(equation="x2").union["treatment"][0] == "x2"
    assert apart.covariate_effects("x2") == apart.covariate_effects(1)
    for kind in ("table", "sets"):
        labels = [text.get_text() for text in apart.plot(kind=kind, equation="x2").get_yticklabels()]
        assert labels and not any("x1" in label for label in labels)
    for kind in ("path", "strength"):
        apart.plot(kind=kind, equation="x2")
    for wrong in (2, -1, "x3", True):
        with pytest.raises(OptionError, match=r"x1.*x2"):
            apart.equation(wrong)
        with pytest.raises(OptionError, match=r"x1.*x2"):
            apart.path([0.1], equation=wrong)


def test_facts_of_every_equation_reach_the_user(apart):
    assert set(apart.meta["rho"]) == {"x1", "x2"}
    assert isinstance(apart.meta["refit"], bool)
    assert all(name.endswith(("[x1]", "[x2]")) for name in apart.meta["n_failed"])


def test_images_of_every_equation_have_their_r2():
    data = study(n=300, p=2, q=2, concentration=300.0, seed=4)
    rng = np.random.default_rng(0)
    keys = [f"i{k}" for k in range(300)]
    found = cs.Embeddings.from_matrix(rng.standard_normal((300, 5)), keys)
    with pytest.warns(CausalsatWarning, match="leaves the other treatments out"):
        result = drive(
            data.assign(key=keys), treatment=["x1", "x2"], instruments=["z1", "z2"], joint=False, embeddings=found,
            embedding_key="key",
        )  # fmt: skip
    assert {"y", "x1", "x2", "z1", "z2"} <= set(result.meta["embedding_r2"])


@pytest.mark.parametrize(
    ("given", "clusters", "said"),
    [
        ({"covariance": cs.Sandwich("conley", cutoff_km=50.0), "coords": ("lon", "lat")}, 0, "resample single rows"),
        ({"cluster": "cluster", "inference": cs.Bootstrap(199, "iid")}, 50, "resample single rows"),
        ({"cluster": "cluster"}, 50, ""),
        ({}, 0, ""),
    ],
)
def test_draws_of_other_units_than_the_covariance_are_told(given, clusters, said):
    data = study(clusters=clusters, seed=5)
    rng = np.random.default_rng(1)
    data = data.assign(lon=rng.uniform(0.0, 3.0, 400), lat=rng.uniform(0.0, 3.0, 400))
    given = given if "inference" in given else {"n_boot": 199} | given
    if not said:
        result = drive(data, **given)
        assert "resampling_note" not in result.meta
        return
    data_given = ROLES | given
    with pytest.warns(CausalsatWarning, match=said):
        result = cs.drive(data, **data_given)
    assert said in result.meta["resampling_note"]
    assert said in result.summary()
    rows = list(zip(result.table["method"], result.table["interval"], strict=True))
    reasons = result.meta["unavailable"]
    assert said in reasons[str(rows.index(("drive", "recentred")))]["statistic"]
    assert said not in reasons[str(rows.index(("drive", "limit")))]["statistic"]


def test_blocks_go_with_conley():
    data = study(seed=5)
    rng = np.random.default_rng(1)
    data = data.assign(lon=rng.uniform(0.0, 3.0, 400), lat=rng.uniform(0.0, 3.0, 400))
    result = cs.drive(
        data, **ROLES, coords=("lon", "lat"), covariance=cs.Sandwich("conley", cutoff_km=50.0),
        inference=cs.Bootstrap(199, "block", block_km=50.0),
    )  # fmt: skip
    assert "resampling_note" not in result.meta


def test_the_complier_note_says_what_covariates_must_be():
    rng = np.random.default_rng(0)
    n = 600
    z, u, c = rng.integers(0, 2, n), rng.standard_normal(n), rng.integers(0, 3, n)
    x = (z + 0.7 * u + rng.standard_normal(n) > 0.5).astype(float)
    data = pd.DataFrame({"y": x + u, "x": x, "z": z + 1.0, "c": c.astype(float), "cell": [f"c{k}" for k in c]})
    given = {"instruments": "z"}
    plain = drive(data, **given)
    assert "the effect is the average over compliers" in plain.meta["reading"]
    assert "Reading: treatment and instrument are binary" in plain.summary()
    assert "enter linearly" in drive(data, covariates="c", **given).meta["reading"]
    assert "one parameter per cell" in drive(data, covariates="cell", **given).meta["reading"]
    assert "one parameter per cell: with" in drive(data, fixed_effects="cell", **given).meta["reading"]
    assert "reading" not in drive(data.assign(x=10.0 * data["x"]), **given).meta


def test_flags_of_the_radius_reach_summary_and_notes():
    data = study(concentration=0.5, seed=1)
    with pytest.warns(WeakInstrumentWarning):
        result = drive(data)
    assert result.rho == 0.0
    (flag,) = result.rho_report.flags
    assert f"Note: {flag}." in result.summary()
    assert flag in result.meta["flags"] and flag in " ".join(result.table.summary().split())


def test_clipped_eigenvalues_of_the_limit_law_are_told():
    n = 60
    rng = np.random.default_rng(2)
    data = study(n=n, seed=2).assign(lon=rng.uniform(0.0, 2.0, n), lat=rng.uniform(0.0, 2.0, n))
    sandwich = cs.Sandwich("conley", cutoff_km=120.0, kernel="uniform")
    with pytest.warns(WeakInstrumentWarning):
        result = drive(data, coords=("lon", "lat"), covariance=sandwich)
    assert "eigenvalue" in " ".join(result.meta["flags"])
    assert "eigenvalue" in result.summary()


def test_a_perfect_fit_has_no_standard_error(strong):
    result = drive(strong.assign(y=2.0 * strong["x"]), n_boot=199)
    table = result.table
    for method in ("drive", "ols", "tsls"):
        rows = table.where(method=method)
        assert rows["estimate"] == pytest.approx(2.0)
        assert np.isnan(rows["std_error"]).all() and np.isnan(rows["statistic"]).all()
        assert all("no residual variance" in why["std_error"] for why in rows.meta["unavailable"].values())
    (liml,) = table.where(method="liml").meta["unavailable"].values()
    assert "LIML has no kappa" in liml["estimate"]


def test_small_p_values_are_not_zero():
    data = study(p=2, concentration=300.0)
    text = drive(data, treatment=["x1", "x2"]).check("joint_null").text
    assert "p < .0001" in text and "p = 0.0000" not in text


def test_refusals_concern_the_rows_of_drive_alone(strong):
    table = drive(strong, n_boot=199).table
    tsls = table.where(method="tsls")
    made = tsls.interval(0.9, "percentile")
    assert made["conf_low"][0] < made["estimate"][0] < made["conf_high"][0]
    assert np.isfinite(tsls.interval(0.9, "normal")["statistic"]).all()
    for rows in (table, table.where(method="drive")):
        for method in ("percentile", "normal", "bca"):
            with pytest.raises(OptionError, match="refused"):
                rows.interval(0.9, method)
    contrast = table.contrast("`tsls:wald` - `ols:wald`", method="normal") if table.covariance is not None else None
    assert contrast is None or np.isfinite(contrast["conf_low"]).all()


def test_a_stacked_table_still_refuses_the_rows_of_drive(strong):
    table = drive(strong, n_boot=199).table
    other = cs.EffectTable.build(
        {"method": ["elsewhere"], "treatment": ["x"], "interval": ["wald"]}, term="effect", estimate=[1.0],
        std_error=[0.1], n_obs=[400], meta={"estimator": "elsewhere"}, level=0.95,
    )  # fmt: skip
    stacked = cs.EffectTable.concat([table, other])
    with pytest.raises(OptionError, match="refused"):
        stacked.interval(0.9, "normal")
    assert np.isfinite(stacked.where(method="elsewhere").interval(0.9, "normal")["conf_low"]).all()


def test_another_interval_gives_drive_no_statistic(strong):
    table = drive(strong, n_boot=199).table
    made = table.interval(0.9, "basic")
    for interval in ("limit", "recentred"):
        row = made.row(method="drive", interval=interval)
        assert row["statistic"] is None or np.isnan(row["statistic"])
    assert np.isfinite(made.row(method="tsls", interval="wald")["statistic"])
    found = table.contrast("`drive:recentred` - `tsls:wald`", method="basic")
    assert np.isnan(found["statistic"]).all()
    with pytest.raises(OptionError, match="refused"):
        found.interval(method="percentile")


def test_few_clusters_leave_a_set_without_claim():
    data = study(clusters=8, seed=3)
    with pytest.warns(CausalsatWarning) as caught:
        result = drive(data, cluster="cluster")
    texts = [str(one.message) for one in caught if one.category is WeakInstrumentWarning]
    assert any("no set that allows for dependence between rows exists here" in text for text in texts)
    assert not any("read the" in text for text in texts)
    assert "none, the statistic cannot exceed" in result.summary()


def test_a_level_close_to_one_is_named_exactly(strong):
    with pytest.raises(OptionError, match=r"199 draws have no 99\.9% interval; use at least 1999 draws"):
        drive(strong, n_boot=199, level=0.999)
