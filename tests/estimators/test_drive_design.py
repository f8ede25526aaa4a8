"""Preparation of drive: partialling out, weights, fixed effects, and every guard's message."""

import numpy as np
import pytest

from causalsat.errors import (
    CausalsatWarning,
    CollinearWarning,
    DataError,
    DroppedRowsWarning,
    EmbeddingInstrumentWarning,
    IdentificationError,
    ManyInstrumentsWarning,
    OptionError,
)
from causalsat.estimators.drive_design import drive_design, roles_of
from causalsat.estimators.drive_guards import guard_instruments
from causalsat.estimators.k_class import comparator
from causalsat.inference.options import Sandwich
from causalsat.study.embeddings import Embeddings
from causalsat.study.open import open_study

LM = pytest.importorskip("linearmodels.iv")


def simulated(n=400, seed=0):
    rng = np.random.default_rng(seed)
    z1, z2, c1, c2, u = rng.normal(size=(5, n))
    village = rng.integers(0, 40, n)
    shock = rng.normal(size=40)[village]
    x = z1 + 0.5 * z2 + c1 + u + shock
    return {
        "z1": z1 + 3.0, "z2": z2, "c1": c1, "c2": c2 + 1e4, "x": x, "y": 2.0 * x + c2 - u + shock + rng.normal(size=n),
        "w": rng.uniform(0.5, 2.0, n), "village": village, "year": rng.integers(2000, 2006, n),
    }  # fmt: skip


def design(data, *, embeddings=None, embedding_key=None, options=(), **roles):
    given = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2"]} | roles
    study = open_study(
        data, roles_of(**given), embeddings=embeddings, embedding_key=embedding_key, verb="drive"
    )  # fmt: skip
    return drive_design(study, **dict(options))


def test_partialling_out_is_the_full_regression():
    data = simulated()
    found = design(data, covariates=["c1", "c2"], weights="w")
    exog = np.column_stack([np.ones(400), data["c1"], data["c2"]])
    full = LM.IV2SLS(
        data["y"], exog, data["x"], np.column_stack([data["z1"], data["z2"]]), weights=data["w"]
    ).fit(cov_type="unadjusted")  # fmt: skip
    b = found.rows.moments.b_tsls
    np.testing.assert_allclose(b, full.params.to_numpy()[-1:], rtol=1e-8)
    assert found.covariates == ("(constant)", "c1", "c2")
    np.testing.assert_allclose(list(found.covariate_effects(b).values()), full.params.to_numpy()[:-1], rtol=1e-7)
    assert found.rows.m == 3
    assert found.rows.weights.mean() == pytest.approx(1.0)
    w = data["w"]
    assert found.effective_n == pytest.approx(w.sum() ** 2 / (w**2).sum())


def test_controls_span_what_was_partialled_out():
    found = design(simulated(), covariates=["c1", "c2"], weights="w")
    rows = found.rows
    moment = rows.controls.T @ (rows.weights[:, None] * rows.controls) / rows.n
    np.testing.assert_allclose(moment, np.eye(3), atol=1e-12)
    across = rows.controls.T @ (rows.weights[:, None] * np.column_stack([rows.y, rows.X, rows.Z])) / rows.n
    assert np.abs(across).max() < 1e-11


def test_a_common_factor_of_weights_changes_nothing():
    data = simulated()
    one, two = design(data, weights="w"), design(data | {"w": 7.0 * data["w"]}, weights="w")
    np.testing.assert_allclose(one.rows.Z, two.rows.Z, rtol=1e-12)


def test_text_covariates_are_dummies():
    data = simulated()
    data["region"] = np.array(["a", "b", "c"])[data["village"] % 3]
    found = design(data, covariates=["region"])
    assert found.covariates == ("(constant)", "region[b]", "region[c]")


def test_fixed_effects_are_dummies():
    data = simulated()
    absorbed = design(data, covariates=["c1"], fixed_effects=["village", "year"], weights="w")
    text = data | {"village": np.char.add("v", data["village"].astype(str)), "year": data["year"].astype(str)}
    plain = design(text, covariates=["c1", "village", "year"], weights="w")
    for name in ("y", "X", "Z"):
        np.testing.assert_allclose(getattr(absorbed.rows, name), getattr(plain.rows, name), atol=1e-9)
    assert absorbed.rows.m == plain.rows.m == 1 + 40 + 5
    assert absorbed.rows.controls.shape == (400, 0)
    b = absorbed.rows.moments.b_tsls
    assert absorbed.covariate_effects(b)["c1"] == pytest.approx(plain.covariate_effects(b)["c1"], rel=1e-7)
    assert absorbed.levels == {"village": 40, "year": 6}
    assert absorbed.absorbed.total == 45


def test_effects_nested_in_clusters_leave_the_covariates_to_the_bootstrap():
    data = simulated()
    nested = design(data, covariates=["c1", "c2"], fixed_effects="village", cluster="village")
    assert nested.rows.controls.shape == (400, 2)
    assert nested.rows.n_partialled == 2 + 40
    assert nested.rows.n_partialled_clustered == 2 + 1
    across = design(data, covariates=["c1", "c2"], fixed_effects=["village", "year"], cluster="village")
    assert across.rows.controls.shape == (400, 0)
    assert across.rows.n_partialled_clustered == 2 + 1 + 5


@pytest.mark.parametrize("effects", ["village", "village + year"])
def test_pyfixest_with_fixed_effects(effects):
    pyfixest = pytest.importorskip("pyfixest")
    pandas = pytest.importorskip("pandas")
    data = simulated()
    fit = pyfixest.feols(f"y ~ c1 | {effects} | x ~ z1", data=pandas.DataFrame(data), vcov={"CRV1": "village"})
    found = design(data, instruments="z1", covariates=["c1"], fixed_effects=effects.split(" + "), cluster="village")
    assert found.rows.moments.b_tsls[0] == pytest.approx(fit.coef()["x"], rel=1e-8)
    ours = comparator("tsls", found.rows, Sandwich("cluster")).covariance.std_error[0]
    assert ours == pytest.approx(fit.se()["x"], rel=1e-6)


def test_singletons_are_dropped_and_counted():
    data = simulated()
    data["village"] = np.concatenate([np.arange(100, 103), data["village"][3:]])
    with pytest.warns(DroppedRowsWarning, match="3 further rows are left out: alone in a level of the fixed effects"):
        found = design(data, fixed_effects="village", cluster="village")
    assert found.rows.n == 397
    assert found.dropped == {"alone in a level of the fixed effects": 3}
    assert found.rows.sampling.cluster.max() == len(np.unique(data["village"][3:])) - 1
    assert found.kept.tolist() == list(range(3, 400))


def test_rows_of_weight_zero_go():
    data = simulated()
    data["w"][:10] = 0.0
    with pytest.warns(DroppedRowsWarning, match="weights w is zero in 10"):
        found = design(data, weights="w")
    assert found.rows.n == 390


def test_environments_come_with_their_labels():
    codes, labels = design(simulated(), environments="year").environments
    assert labels.tolist() == [2000, 2001, 2002, 2003, 2004, 2005] or len(labels) == 6
    assert codes.shape == (400,)
    assert design(simulated()).environments is None


def test_collinear_covariates_and_instruments_are_left_out_by_name():
    data = simulated()
    data |= {"c3": data["c1"] - 2 * data["c2"], "z3": data["z1"] + data["z2"] - data["c1"], "one": np.ones(400)}
    with pytest.warns(CollinearWarning) as caught:
        found = design(data, covariates=["c1", "c2", "c3", "one"], instruments=["z1", "z2", "z3"])
    texts = [str(w.message) for w in caught]
    assert any("covariates c3, one are left out" in t for t in texts)
    assert any("instruments z3 are left out" in t and "q = 2" in t for t in texts)
    assert found.dropped_covariates == ("c3", "one")
    assert found.dropped_instruments == ("z3",)
    assert (found.rows.q, found.rows.m) == (2, 3)


def test_an_instrument_in_the_span_of_the_covariates_goes():
    data = simulated()
    data["z3"] = 2 * data["c1"] + 5
    with pytest.warns(CollinearWarning, match="instruments z3 are left out"):
        assert design(data, covariates=["c1"], instruments=["z1", "z3"]).rows.instruments == ("z1",)
    with pytest.warns(CollinearWarning), pytest.raises(IdentificationError, match="no instrument varies"):
        design(data, covariates=["c1"], instruments="z3")


def test_treatments_that_cannot_be_told_apart():
    data = simulated()
    data["x2"] = data["x"] * 2 - data["c1"]
    with pytest.raises(IdentificationError, match="treatments 'x2' are determined by the other treatments"):
        design(data, treatment=["x", "x2"], covariates=["c1"])
    data["x3"] = data["c1"] + 1
    with pytest.raises(IdentificationError, match="treatments 'x3' are determined"):
        design(data, treatment=["x", "x3"], covariates=["c1"])


@pytest.mark.parametrize(("column", "named"), [("x", "treatment 'x'"), ("y", "outcome 'y'")])
def test_an_instrument_that_is_a_treatment_or_the_outcome(column, named):
    data = simulated()
    data["z3"] = 3.0 * data[column] + data["c1"] - 2.0
    with pytest.raises(IdentificationError, match=f"instrument 'z3' equals {named}"):
        design(data, instruments=["z1", "z3"], covariates=["c1"])


def test_no_variation_inside_fixed_effects():
    data = simulated()
    data["z3"] = np.sin(data["village"])
    with pytest.raises(IdentificationError, match=r"instrument 'z3' does not vary inside .* village \(40 levels\)"):
        design(data, instruments=["z1", "z3"], fixed_effects="village")
    with pytest.raises(IdentificationError, match="treatment 'z3' does not vary inside"):
        design(data, treatment=["x", "z3"], fixed_effects="village")


def test_an_outcome_that_the_controls_determine():
    data = simulated()
    with pytest.raises(DataError, match="outcome 'y' does not vary once the controls"):
        design(data | {"y": data["c1"] * 2}, covariates=["c1"])
    with pytest.raises(DataError, match="constant"):
        design(data | {"y": np.ones(400)})


def test_one_cluster():
    with pytest.raises(DataError, match="cluster column 'village' has one cluster"):
        design(simulated() | {"village": np.zeros(400, int)}, cluster="village")


def test_too_few_rows_and_many_instruments():
    short = {k: v[:6] for k, v in simulated().items()}
    with pytest.raises(DataError, match=r"6 rows cannot carry 2 instruments, 1 treatments and 2 .*at least 7"):
        design(short, covariates=["c1"])
    wide = {k: v[:12] for k, v in simulated().items()} | {f"n{j}": np.arange(12) == j for j in range(10)}
    with pytest.raises(DataError, match="12 rows cannot carry 2 instruments, 1 treatments and 11 "):
        design(wide, covariates=[f"n{j}" for j in range(10)])
    with pytest.warns(ManyInstrumentsWarning, match="2 instruments for 15 rows"):
        design({k: v[:15] for k, v in simulated().items()})


def test_values_that_the_door_refuses():
    data = simulated()
    for name in ("y", "x", "z1", "c1"):
        with pytest.raises(DataError, match=name):
            design(data | {name: np.where(np.arange(400) == 3, np.inf, data[name])}, covariates=["c1"])
    with pytest.raises(DataError, match="weights column 'w' is negative in 1 rows"):
        design(data | {"w": np.where(np.arange(400) == 3, -1.0, 1.0)}, weights="w")
    with pytest.raises(DataError, match="is both"):
        design(data, instruments=["z1", "x"])


def test_two_ways_of_clustering():
    data = simulated()
    found = design(data, cluster=["village", "year"], fixed_effects="year")
    assert found.rows.sampling.second is not None
    # Nested in the second way: not counted, but whole villages do not keep the years whole.
    assert found.rows.n_partialled_clustered == 1
    assert found.rows.controls.shape == (400, 0)
    with pytest.raises(OptionError, match="names 3 columns"):
        design(data, cluster=["village", "year", "c1"])


def test_card_matches_the_published_equation():
    """Returns to schooling with college proximity, South and so on partialled out, against linearmodels."""
    card = pytest.importorskip("linearmodels.datasets.card").load().assign(agesq=lambda t: t["age"] ** 2)
    covariates = ["exper", "expersq", "black", "south", "smsa", "smsa66", *(f"reg66{i}" for i in range(2, 10))]
    found = design(card, outcome="lwage", treatment="educ", instruments=["nearc4"], covariates=covariates)
    exog = card[covariates].assign(const=1.0)
    full = LM.IV2SLS(card["lwage"], exog, card[["educ"]], card[["nearc4"]]).fit(cov_type="unadjusted")
    assert found.rows.moments.b_tsls[0] == pytest.approx(full.params["educ"], rel=1e-9)
    assert found.rows.moments.b_tsls[0] == pytest.approx(0.1315, abs=5e-5)
    three = design(
        card, outcome="lwage", treatment=["educ", "exper", "expersq"], instruments=["nearc4", "age", "agesq"],
        covariates=["black", "south", "smsa"],
    )  # fmt: skip
    other = LM.IV2SLS(
        card["lwage"], card[["black", "south", "smsa"]].assign(const=1.0), card[["educ", "exper", "expersq"]],
        card[["nearc4", "age", "agesq"]],
    ).fit(cov_type="unadjusted")  # fmt: skip
    np.testing.assert_allclose(three.rows.moments.b_tsls, other.params[["educ", "exper", "expersq"]], rtol=1e-6)


def test_fewer_instruments_than_treatments():
    data = simulated()
    with pytest.raises(IdentificationError, match=r"1 linearly independent instruments for 2 treatments .x, c2."):
        design(data, treatment=["x", "c2"], instruments="z1")
    allowed = design(data, treatment=["x", "c2"], instruments="z1", options={"allow_underidentified": True})
    assert not allowed.identified


def test_a_treatment_that_no_instrument_moves():
    data = simulated()
    rng = np.random.default_rng(9)
    Z = np.column_stack([np.ones(400), data["z1"], data["z2"]])
    still = rng.normal(size=400)
    data["x2"] = still - Z @ np.linalg.lstsq(Z, still, rcond=None)[0]
    with pytest.raises(IdentificationError, match="do not move some combination of x, x2"):
        design(data, treatment=["x", "x2"])


def test_a_treatment_in_the_span_of_covariates_and_instruments_is_legal():
    """Experience is age less education less six: M_Z X is singular and nothing fails."""
    rng = np.random.default_rng(1)
    n = 800
    near, ability, age = rng.integers(0, 2, n), rng.normal(size=n), rng.integers(24, 35, n).astype(float)
    educ = np.round(12 + 2 * near + ability + rng.normal(size=n))
    exper = age - educ - 6
    data = {
        "educ": educ, "exper": exper, "exper2": exper**2 / 100, "age": age, "age2": age**2 / 100, "near": near,
        "y": 0.1 * educ + 0.05 * exper - 0.1 * exper**2 / 100 + ability + rng.normal(size=n),
    }  # fmt: skip
    found = design(data, treatment=["educ", "exper", "exper2"], instruments=["near", "age", "age2"])
    assert found.identified
    for method in ("ols", "tsls", "liml"):
        assert np.isfinite(comparator(method, found.rows, Sandwich("hc1")).b).all()
    with pytest.raises(IdentificationError, match="treatments 'age' are determined"):
        design(data, treatment=["educ", "exper", "age"], instruments=["near", "age2", "exper2"])


def test_raw_embeddings_are_refused_as_instruments():
    images = Embeddings.from_matrix(np.random.default_rng(0).normal(size=(5, 3)))
    with pytest.raises(OptionError, match="instruments=Embeddings is refused"):
        guard_instruments(images)
    with pytest.raises(OptionError, match="must be names of columns, not ndarray"):
        guard_instruments(np.ones((5, 2)))
    guard_instruments("z1")
    guard_instruments(["z1", "z2"])


def test_columns_of_embeddings_as_instruments_are_warned_of():
    data = simulated()
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(400, 4)).astype(np.float32)
    named = data | {"e0": data["z1"], "rcf/0012+": data["z2"]}
    with pytest.warns(
        EmbeddingInstrumentWarning, match=r"instruments e0, rcf/0012\+ carry the names or values of image features"
    ):
        found = design(named, instruments=["e0", "rcf/0012+"])
    assert found.embedding_instruments == ("e0", "rcf/0012+")
    wide = Embeddings.from_matrix(matrix).to_wide()
    frame = wide.assign(y=data["y"], x=data["x"] + wide["e1"])
    with pytest.warns(EmbeddingInstrumentWarning, match="instruments e1, e2 carry"):
        assert design(frame, instruments=["e1", "e2"]).embedding_instruments == ("e1", "e2")
    renamed = data | {"z1": matrix[:, 2].astype(float)}
    renamed["x"] = data["x"] + renamed["z1"]
    with pytest.warns(EmbeddingInstrumentWarning, match="instruments z1 carry"), pytest.raises(IdentificationError):
        design(renamed, embeddings=matrix)


def test_one_equation_per_treatment():
    from causalsat.estimators.drive_design import drive_designs
    from causalsat.estimators.drive_options import DriveOptions

    class Choices:
        joint, embedding_control, seed, fine = False, "ridge", 0, DriveOptions()

    study = open_study(simulated(), roles_of(outcome="y", treatment=["x", "c2"], instruments=["z1", "z2"]))
    with pytest.warns(CausalsatWarning, match="joint=False fits one equation for each of x, c2"):
        designs = drive_designs(study, Choices())
    assert [d.rows.treatments for d in designs] == [("x",), ("c2",)]
