"""The verb `r3d` from data to table: rows, bandwidths, designs, weights, clusters, schemes, functionals."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

import causalsat as cs
from causalsat.errors import BandwidthWarning, FewClustersWarning, WeakFirstStageWarning
from causalsat.simulate.r3d import clusters, fuzzy
from tests.estimators.r3d_verb import LEVELS, QUICK, ask, curve, fuzzy_result, one_number, sharp_result, units


@pytest.fixture(scope="module")
def base():
    return sharp_result()


@pytest.fixture(scope="module")
def taken_up():
    return fuzzy_result()


def test_rows_and_columns(base):
    table = base.table
    assert table.index_names == ("method", "quantile")
    assert list(table["term"]) == ["laqte"] * 5 + ["mean", "iqr", "sd", "unit:sd", "w2"]
    np.testing.assert_allclose(table["quantile"][:5], LEVELS)
    assert np.isnan(table["quantile"][5:]).all() and np.isnan(table["band_low"][5:]).all()
    rows = curve(base)
    df = base.meta["df"]
    reach = stats.t(df).ppf(0.975) * rows["std_error"]
    np.testing.assert_allclose(rows["conf_high"] - rows["estimate"], reach, rtol=1e-9)
    np.testing.assert_allclose(rows["p_value"], 2 * stats.t(df).sf(np.abs(rows["statistic"])), rtol=1e-9)
    assert (rows["band_low"] < rows["conf_low"]).all() and (rows["band_high"] > rows["conf_high"]).all()
    assert (rows["n_obs"] == base.estimates[0].window.sum()).all() and (rows["n_obs"] < 160).all()
    assert base.draws.shape == (199, 5)
    assert table.row(term="w2")["conf_low"] >= 0.0 and np.isnan(table.row(term="w2")["std_error"])
    mean = table.row(term="mean")
    cells = base.estimates[0].design.cells
    assert mean["estimate"] == pytest.approx(rows["estimate"] @ cells / cells.sum(), abs=0.1)
    assert base.meta["estimand"].startswith("difference") and len(base.meta["assumptions"]) == 4


def test_mean_is_the_scalar_discontinuity_of_unit_means():
    data, draws = units()
    whole = ask(data, draws, bandwidth=0.6).table.row(term="mean")
    scalar = ask(data, one_number(draws.mean(axis=1)), bandwidth=0.6, quantiles=[0.5], functionals=()).table
    assert whole["estimate"] == pytest.approx(scalar["estimate"][0], abs=1e-10)
    assert whole["std_error"] == pytest.approx(scalar["std_error"][0], abs=1e-10)


def test_average_quantiles_differ_by_the_effect(base):
    averages = base.average_quantiles
    assert averages.index_names == ("method", "quantile")
    above, below = averages.where(term="above"), averages.where(term="below")
    np.testing.assert_allclose(above["estimate"] - below["estimate"], curve(base)["estimate"], atol=1e-12)
    assert (np.diff(above["estimate"]) >= 0).all() and (np.diff(below["estimate"]) >= 0).all()
    assert (above["band_low"] < above["estimate"]).all()
    np.testing.assert_allclose(
        above["std_error"] ** 2 + below["std_error"] ** 2, curve(base)["std_error"] ** 2, rtol=1e-10
    )


def test_tests_frame(base):
    frame = base.tests.set_index("name")
    assert list(frame.index) == ["nullity", "homogeneity", "dominance"]
    assert frame.loc["nullity", "statistic"] == pytest.approx(np.abs(curve(base)["statistic"]).max(), rel=1e-12)
    assert frame["p_value"].between(1 / 200, 1).all() and (frame["n_levels"] == 5).all()
    data, draws = units()
    short = ask(data, draws, tests="nullity", test_range=(0.3, 0.7), bandwidth=0.6).tests
    assert list(short["name"]) == ["nullity"] and short["n_levels"][0] == 3
    assert ask(data, draws, tests=None, bandwidth=0.6).tests.empty


def test_bandwidths_tell_every_step(base):
    found = base.bandwidths["pooled"]
    assert found["h"][0] == found["h"][1] == base.meta["h"]
    chosen = found["selection"]
    assert {"b", "c", "V", "B", "R", "capped", "n_effective"} <= set(chosen) and chosen["h"] == found["h"]
    assert np.shape(chosen["V"]) == (2, 5) and min(found["n_window"]) > 20


@pytest.mark.parametrize(
    ("estimator", "bandwidth", "h"),
    [
        ("frechet", 0.7, [0.7, 0.7]),
        ("frechet", (0.5, 0.8), [0.8, 0.5]),
        ("pointwise", [0.5, 0.6, 0.7, 0.8, 0.9], [[0.5, 0.6, 0.7, 0.8, 0.9]] * 2),
    ],
)
def test_given_bandwidths(estimator, bandwidth, h):
    data, draws = units()
    result = ask(data, draws, estimator=estimator, bandwidth=bandwidth, n_boot=199)
    assert result.bandwidths["pooled"]["h"] == h and result.meta["bandwidth"] == "given"
    assert np.isfinite(curve(result)["band_high"]).all()
    for j in range(5):
        pair = np.array(h)[:, j] if np.ndim(h) == 2 else np.array(h)
        one = ask(
            data, one_number(np.quantile(draws, LEVELS[j], axis=1)), quantiles=[0.5], bandwidth=tuple(pair[::-1]),
            functionals=(), tests=(),
        )  # fmt: skip
        assert curve(result)["estimate"][j] == pytest.approx(one.table["estimate"][0], abs=1e-9)
        assert curve(result)["std_error"][j] == pytest.approx(one.table["std_error"][0], abs=1e-9)
        assert curve(result)["n_obs"][j] == one.table["n_obs"][0]


def test_pointwise_rule_gives_every_quantile_its_bandwidth():
    data, draws = units()
    result = ask(data, draws, estimator="pointwise", bandwidth="mse")
    h = np.array(result.bandwidths["pooled"]["h"])
    assert h.shape == (2, 5) and (h > 0).all() and np.unique(h[0]).size > 1
    assert (result.table["method"] == "pointwise").all()
    two = ask(data, draws, bandwidth=cs.Bandwidth(sides="two", coverage=True))
    h = two.bandwidths["pooled"]["h"]
    assert h[0] != h[1] and two.meta["h"] == {"right": h[0], "left": h[1]}


def test_several_cutoffs():
    data, draws = units(n=400, seed=2)
    data["c"] = np.where(np.arange(400) % 2, 3.0, -1.0)
    data["score"] = data["x"] + data["c"]
    result = ask(data, draws, running="score", cutoff="c", bandwidth=0.9)
    table = result.table
    assert table.index_names == ("cutoff", "method", "quantile") and len(table) == 18
    assert sorted(set(table["cutoff"])) == ["-1", "3", "pooled"]
    pooled = ask(data, draws, bandwidth=0.9)
    np.testing.assert_allclose(
        table.where(cutoff="pooled", term="laqte")["estimate"], curve(pooled)["estimate"], atol=1e-10
    )
    alone = ask(data[data["c"] == 3.0], draws[np.arange(400) % 2 == 1], bandwidth=0.9)
    np.testing.assert_allclose(table.where(cutoff="3", term="laqte")["estimate"], curve(alone)["estimate"], atol=1e-10)
    assert (
        set(result.bandwidths) == {"pooled", "-1", "3"} and "pooled over cutoffs" in result.meta["estimand"]["pooled"]
    )
    assert len(result.average_quantiles) == 30
    plt.close(result.plot().figure)


def test_donut_and_tie():
    data, draws = units()
    with pytest.warns(BandwidthWarning, match="extrapolated over 7% of the bandwidth 0.7"):
        result = ask(data, draws, donut=0.05, bandwidth=0.7)
    near = int((np.abs(data["x"]) < 0.05).sum())
    assert (
        near > 0
        and result.meta["dropped"] == {"inside the donut of 0.05": near}
        and result.meta["n_units"] == 160 - near
    )
    apart = ask(data[np.abs(data["x"]) >= 0.05], draws[np.abs(data["x"]) >= 0.05], bandwidth=0.7)
    np.testing.assert_allclose(curve(result)["estimate"], curve(apart)["estimate"], atol=1e-12)
    data.loc[:2, "x"] = 0.0
    estimates = {tie: ask(data, draws, tie=tie, bandwidth=0.7) for tie in ("treated", "control", "drop")}
    assert estimates["treated"].meta["notes"]["ties"] == 3
    assert estimates["drop"].meta["n_units"] == 157
    assert len({float(curve(one)["estimate"][0]) for one in estimates.values()}) == 3


def test_covariates_have_rows_no_new_estimand():
    data, draws = units(n=400, seed=5)
    bare, with_w = (ask(data, draws, covariates=c, bandwidth=0.7) for c in (None, "w"))
    assert (curve(with_w)["std_error"] < curve(bare)["std_error"]).all()
    far = ask(data.assign(w=1000 * data["w"] + 7), draws, covariates="w", bandwidth=0.7)
    np.testing.assert_allclose(curve(far)["estimate"], curve(with_w)["estimate"], atol=1e-8)


def test_unit_weights_are_copies_and_have_no_scale():
    data, draws = units()
    data["two"] = np.where(np.arange(160) % 3, 1, 2)
    weighted = ask(data, draws, unit_weights="two", bandwidth=0.7)
    twice = np.repeat(np.arange(160), data["two"])
    copied = ask(data.iloc[twice], draws[twice], bandwidth=0.7)
    np.testing.assert_allclose(curve(weighted)["estimate"], curve(copied)["estimate"], atol=1e-10)
    scaled = ask(data.assign(two=5.0 * data["two"]), draws, unit_weights="two", bandwidth=0.7)
    np.testing.assert_allclose(curve(scaled)["std_error"], curve(weighted)["std_error"], rtol=1e-12)
    assert "units weigh by two" in weighted.meta["estimand"]


def test_duplicated_units_as_clusters():
    data, draws = units()
    thrice = np.repeat(np.arange(160), 3)
    plain = ask(data, draws, residuals="hc0", bandwidth=0.7)
    naive = ask(data.iloc[thrice], draws[thrice], residuals="hc0", bandwidth=0.7)
    grouped = ask(data.iloc[thrice], draws[thrice], residuals="hc0", bandwidth=0.7, cluster="unit")
    np.testing.assert_allclose(curve(grouped)["std_error"], curve(plain)["std_error"], rtol=1e-10)
    np.testing.assert_allclose(curve(naive)["std_error"], curve(plain)["std_error"] / np.sqrt(3), rtol=1e-10)
    assert grouped.meta["residuals"] == "cr0" and plain.meta["residuals"] == "hc0"


def test_clusters_and_blocks():
    data, _ = clusters(n_clusters=50, units=8, n_draws=60, seed=1)
    result = cs.r3d(data, outcome="value", running="x", unit="unit", cluster="cluster", bandwidth=0.8, **QUICK)
    assert result.meta["residuals"] == "cr2" and result.meta["n_clusters"] < result.meta["n_units"]
    data, draws = units()
    blocks = ask(data, draws, coords=("lon", "lat"), bandwidth=0.8, inference=cs.Bootstrap(199, "block", block_km=30.0))
    assert blocks.meta["resampling"] == "block" and blocks.meta["notes"]["independent"] == "blocks"
    assert any("compound discontinuity" in words for words in blocks.meta["assumptions"])
    plt.close(blocks.plot(kind="map").figure)
    with pytest.warns(FewClustersWarning):
        ask(data.assign(group=np.arange(160) % 8), draws, cluster="group", bandwidth=0.8)


@pytest.mark.parametrize("scheme", ["wild", "iid", "bayes"])
def test_other_schemes_agree_with_the_analytic_error(scheme):
    data, draws = units()
    result = ask(data, draws, bandwidth=0.9, residuals="hc0", n_boot=999, inference=cs.Bootstrap(999, scheme))
    ratio = result.draws.std(axis=0) / curve(result)["std_error"]
    assert (np.abs(ratio - 1.0) < (0.08 if scheme == "wild" else 0.35)).all()


def test_fuzzy(taken_up):
    result, truth = taken_up
    stage = result.table.row(term="first_stage")
    assert stage["estimate"] == pytest.approx(truth["first_stage"], abs=4 * stage["std_error"])
    jump = (
        result.average_quantiles.where(term="above")["estimate"]
        - result.average_quantiles.where(term="below")["estimate"]
    )
    np.testing.assert_allclose(curve(result)["estimate"], jump / stage["estimate"], rtol=1e-10)
    assert result.meta["design"] == "fuzzy" and len(result.meta["assumptions"]) == 6
    sets = result.sets
    assert set(sets.pointwise_shape) == {"interval"}
    for pieces, wide, estimate in zip(sets.pointwise, sets.uniform, curve(result)["estimate"], strict=True):
        assert len(pieces) == 1 and pieces[0][0] < estimate < pieces[0][1]
        assert wide[0][0] <= pieces[0][0] and wide[0][1] >= pieces[0][1]


def test_weak_first_stage_has_sets_that_are_not_intervals():
    data, _ = fuzzy(n=300, n_draws=60, seed=1, weak=True)
    with pytest.warns(WeakFirstStageWarning, match="Anderson-Rubin"):
        result = cs.r3d(data, outcome="value", running="x", unit="unit", treatment="treatment", bandwidth=0.8, **QUICK)
    assert set(result.sets.pointwise_shape) <= {"rays", "line", "ray"}
    ends = [end for pieces in result.sets.pointwise for piece in pieces for end in piece]
    assert np.isinf(ends).any()
    stored = result.meta["anderson_rubin"]["pooled"]
    for pieces, told in zip(result.sets.pointwise, stored["pointwise"], strict=True):
        assert told == [[end if np.isfinite(end) else None for end in piece] for piece in pieces]
    estimate, se = curve(result)["estimate"], curve(result)["std_error"]
    assert all(
        any(low <= at <= high for low, high in own) for own, at in zip(result.sets.pointwise, estimate, strict=True)
    )
    assert np.isfinite(se).all()


def test_sharp_data_passed_as_fuzzy():
    data, draws = units()
    data["t"] = data["x"] >= 0
    sharp, same = ask(data, draws), ask(data, draws, treatment="t")
    for name in ("estimate", "std_error", "conf_low", "band_low", "band_high", "p_value"):
        np.testing.assert_allclose(curve(same)[name], curve(sharp)[name], rtol=1e-9)
    assert same.table.row(term="first_stage")["estimate"] == pytest.approx(1.0, abs=1e-12)
    coded = ask(data.assign(t=data["t"].astype(float)), draws, treatment="t")
    np.testing.assert_array_equal(curve(coded)["estimate"], curve(same)["estimate"])


def test_thresholds_and_functionals():
    data, draws = units()
    rows = {"bandwidth": 0.8, "thresholds": (4.0, 6.0), "functionals": ("gini", "share_top(0.1)")}
    result = ask(data, np.exp(0.3 * draws), **rows)
    assert list(result.table["term"][5:]) == ["gini", "share_top(0.1)", "unit:exceed(4)", "unit:exceed(6)"]
    shares = one_number((np.exp(0.3 * draws) > 4.0).mean(axis=1))
    scalar = ask(data, shares, quantiles=[0.5], bandwidth=0.8, functionals=())
    own = result.table.row(term="unit:exceed(4)")
    assert own["estimate"] == pytest.approx(scalar.table["estimate"][0], abs=1e-10)
    assert own["std_error"] == pytest.approx(scalar.table["std_error"][0], abs=1e-10)
    negative = ask(data, draws - 4.0, bandwidth=0.8, functionals="gini").table
    assert np.isnan(negative.row(term="gini")["estimate"])
    assert "negative draw" in str(negative.meta["unavailable"])
