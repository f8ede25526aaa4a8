"""Spillovers in `image_ate`: exposure adjusted for, exposure as an effect, controls near treated rows left out."""

import warnings

import numpy as np
import pytest

import causalsat as cs
from causalsat.errors import DataError, OptionError
from causalsat.simulate.aid_grid import aid_grid
from causalsat.study.exposure import nearest_treated_km, neighbour_exposure

SIDE, N = 25, 625
DIRECT, SPILLOVER, EXTRA = 2.0, 1.5, 0.8
QUIET = pytest.mark.filterwarnings("ignore::causalsat.errors.CausalsatWarning")
pytestmark = QUIET


def study(seed: int = 0, side: int = SIDE) -> dict[str, np.ndarray]:
    """Cells on a grid; x is smooth in space, moves treatment (hence the neighbours' too) and outcome."""
    rng = np.random.default_rng(seed)
    n = side * side
    row, column = np.divmod(np.arange(n), side)
    lonlat = np.column_stack([32 + 0.06 * column, 0.06 * (row - side / 2)])
    x = np.kron(rng.standard_normal((side // 5, side // 5)), np.ones((5, 5))).ravel() + 0.5 * rng.standard_normal(n)
    w = (rng.random(n) < 1 / (1 + np.exp(2.0 - x))).astype(float)
    exposed = neighbour_exposure(lonlat, w, (10,), measure="any")[:, 0]
    y = DIRECT * w + SPILLOVER * exposed + EXTRA * w * exposed + 2 * x + rng.standard_normal(n)
    data = {"y": y, "w": w, "x": x, "exposed": exposed, "lon": lonlat[:, 0], "lat": lonlat[:, 1]}
    return data | {"period": np.arange(n) % 2, "block": (row // 5) * 10 + column // 5}


BASE = {"outcome": "y", "treatment": "w", "covariates": "x", "coords": ("lon", "lat"), "adjust": ("none", "tabular")}
BASE |= {"eligibility": cs.Eligibility(min_treated=10)}
EFFECT = cs.Exposure(rings_km=(10,), role="effect")


def ate(data, **changes):
    return cs.image_ate(data, **(BASE | {"reference": "none"} | changes))


def lonlat_of(data) -> np.ndarray:
    return np.column_stack([data["lon"], data["lat"]])


@pytest.fixture(scope="module")
def data():
    return study()


@pytest.fixture(scope="module")
def joint(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ate(data, exposure=EFFECT)


def test_declared_exposure_is_the_same_as_its_columns_among_the_covariates(data):
    rings = neighbour_exposure(lonlat_of(data), data["w"], (10, 20))
    columns = {"near": rings[:, 0], "far": rings[:, 1]}
    declared = ate(data, exposure=cs.Exposure(rings_km=(10, 20)), cluster="block")
    written = ate(data | columns, covariates=["x", "near", "far"], cluster="block")
    np.testing.assert_array_equal(declared.table["estimate"], written.table["estimate"])
    np.testing.assert_array_equal(declared.table["std_error"], written.table["std_error"])
    assert abs(declared.table["estimate"][1] - DIRECT) < abs(declared.table["estimate"][0] - DIRECT)
    assert "exposure(w, 0-10 km)" in declared.check("balance[w, tabular]").table["column"]


def test_exposure_alone_makes_a_tabular_set_and_meta_says_what_it_means(data):
    table = ate(data, covariates=None, exposure=cs.Exposure(rings_km=10)).table
    assert list(table["adjust"][:2]) == ["none", "tabular"]
    assert "at given exposure" in table.meta["exposure"]["estimand"]
    assert "no interference beyond the exposure declared within 10 km" in table.meta["assumptions"]
    lagged = ate(data, time="period", exposure=cs.Exposure(rings_km=10, lag=1)).table
    assert "estimand" not in lagged.meta["exposure"]
    assert lagged["n_obs"][1] == N


def test_every_option_of_exposure_changes_the_result(data):
    other = (np.arange(N) % 3 == 0).astype(float)
    options = [
        {"rings_km": (10,)},
        {"rings_km": (20,)},
        {"rings_km": (10,), "measure": "any"},
        {"rings_km": (10,), "measure": "log_count"},
        {"rings_km": (10,), "lag": 1},
        {"rings_km": (10,), "source": "other"},
    ]
    found = [
        ate(data | {"other": other}, time="period", folds=None, exposure=cs.Exposure(**o)).table["estimate"][1]
        for o in options
    ]
    assert len({round(float(v), 10) for v in found}) == len(options)


def test_each_treatment_has_its_own_exposure(data):
    second = {"v": np.roll(data["w"], 37)}
    exposure = cs.Exposure(rings_km=(10,))
    together = ate(data | second, treatment=["w", "v"], folds=None, exposure=exposure).table.where(term="effect")
    alone = ate(data | second, treatment="v", folds=None, exposure=exposure).table.where(term="effect")
    np.testing.assert_allclose(together["estimate"][2:], alone["estimate"], rtol=1e-12)


def test_unadjusted_levels_are_differences_in_means_with_their_cluster_sandwich(data):
    import statsmodels.api as sm

    table = ate(data, exposure=EFFECT, cluster="block", adjust="none").table
    code = (data["w"] + 2 * data["exposed"]).astype(int)
    dummies = np.stack([code == a for a in (1, 2, 3)], axis=1).astype(float)
    fit = sm.OLS(data["y"], sm.add_constant(dummies)).fit(
        cov_type="cluster", cov_kwds={"groups": data["block"], "use_correction": False}
    )
    for term, j in (("direct", 1), ("spillover", 2), ("total", 3)):
        row = table.row(term=term)
        assert row["estimate"] == pytest.approx(fit.params[j], rel=1e-10)
        assert row["std_error"] == pytest.approx(fit.bse[j], rel=1e-10)


def test_in_sample_levels_are_the_scores_of_individualised_logits(data):
    import statsmodels.api as sm

    table = ate(data, exposure=EFFECT, folds=None, clip=0.0).table
    z, y = sm.add_constant(data["x"]), data["y"]
    code = (data["w"] + 2 * data["exposed"]).astype(int)
    reference = int(np.bincount(code).argmax())
    odds, psi = np.ones((4, N)), np.zeros((4, N))
    for a in set(range(4)) - {reference}:
        pair = np.isin(code, (a, reference))
        fit = sm.Logit((code == a)[pair].astype(float), z[pair]).fit(disp=0, method="newton", tol=1e-12)
        odds[a] = np.exp(z @ fit.params)
    p = odds / odds.sum(axis=0)
    multinomial = sm.MNLogit(code, z).fit(disp=0).predict(z)
    assert np.abs(p.T - multinomial).max() < 0.05
    for a in range(4):
        g = z @ sm.OLS(y[code == a], z[code == a]).fit().params
        psi[a] = g + (code == a) * (y - g) / p[a]
    for term, a in (("direct", 1), ("spillover", 2), ("total", 3)):
        difference = psi[a] - psi[0]
        row = table.row(adjust="tabular", term=term)
        assert row["estimate"] == pytest.approx(difference.mean(), abs=1e-6)
        assert row["std_error"] == pytest.approx(difference.std() / np.sqrt(N), rel=1e-5)


def test_spillovers_are_recovered_and_the_naive_rows_are_not():
    truth = {"direct": DIRECT, "spillover": SPILLOVER, "total": DIRECT + SPILLOVER + EXTRA}
    found = {(a, t): [] for a in ("none", "tabular") for t in truth}
    errors = []
    for seed in range(16):
        table = ate(study(seed), exposure=EFFECT).table
        for adjust, term in found:
            row = table.row(adjust=adjust, term=term)
            found[adjust, term].append(row["estimate"])
            if adjust == "tabular":
                errors.append((row["estimate"] - truth[term]) / row["std_error"])
    for term, value in truth.items():
        draws = np.array(found["tabular", term])
        assert abs(draws.mean() - value) < 3.3 * draws.std(ddof=1) / 4, term
        assert np.mean(found["none", term]) - value > 0.5, term
    # 48 studentised errors: their mean square is 1 within the wide band that dependence leaves.
    assert 0.5 < np.mean(np.square(errors)) < 2.0


def test_contrasts_of_levels_need_no_refit(joint):
    table = joint.table
    terms = list(table["term"])
    spillover, total = (terms.index(t) for t in ("spillover", "total"))
    found = table.contrast(f"b{total} - b{spillover}")
    assert found["estimate"][0] == pytest.approx(table["estimate"][total] - table["estimate"][spillover])
    assert 0 < found["std_error"][0] < table["std_error"][total] + table["std_error"][spillover]
    assert terms.count("effect") == 2 and "shrinkage" in terms
    assert set(table["estimand"]) == {"ate"}


def test_lagged_exposure_as_an_effect_leaves_out_the_first_period(data):
    lagged = cs.Exposure(rings_km=(15,), role="effect", lag=1)
    table = ate(data, time="period", exposure=lagged, adjust="none").table
    assert table.row(term="spillover")["n_obs"] == (data["period"] == 1).sum()
    assert table.row(term="effect")["n_obs"] == N


def test_multiplier_draws_agree_with_the_scores(data, joint):
    law = cs.Bootstrap(999, "multiplier", refit=False)
    drawn = ate(data, exposure=EFFECT, inference=law).table
    for term in ("direct", "spillover", "total"):
        pair = [t.row(adjust="tabular", term=term)["std_error"] for t in (drawn, joint.table)]
        assert pair[0] == pytest.approx(pair[1], rel=0.12)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"exposure": 10}, OptionError, "must be an Exposure"),
        ({"coords": None, "exposure": EFFECT}, DataError, "give coords"),
        ({"exposure": cs.Exposure(lag=1)}, DataError, "time="),
        ({"exposure": EFFECT, "method": "outcome"}, OptionError, 'lacks "aipw"'),
        ({"exposure": EFFECT, "known_propensity": 0.5}, OptionError, "joint propensity"),
        ({"exposure": EFFECT, "trim": 0.1}, OptionError, "trim"),
        ({"exposure": EFFECT, "n_boot": 99}, OptionError, "multiplier"),
        ({"exposure": cs.Exposure(source="z")}, DataError, "'z' is not a column"),
    ],
)
def test_what_cannot_be_done_is_refused(data, change, error, message):
    with pytest.raises(error, match=message):
        ate(data, **change)


def test_buffer_table_starts_at_the_table_and_drops_near_controls(data):
    result = ate(data, estimand="att")
    table = result.buffer_table((0, 9, 2000))
    assert list(table["buffer_km"]) == [0, 9, 2000] * 2
    for i, adjust in enumerate(("none", "tabular")):
        row = result.table.row(adjust=adjust, term="effect")
        assert table["estimate"][3 * i] == pytest.approx(row["estimate"], rel=1e-9)
        assert table["std_error"][3 * i] == pytest.approx(row["std_error"], rel=1e-9)
        assert table["estimate"][3 * i + 1] > row["estimate"]
        assert np.isnan(table["estimate"][3 * i + 2])
    assert "outside 2000 km" in str(table.meta["unavailable"])
    km = nearest_treated_km(lonlat_of(data), data["w"])
    assert table["n_obs"][1] == int(((data["w"] == 1) | (km > 9)).sum())


def test_a_buffered_estimate_is_that_of_the_rows_that_stay(data):
    km = nearest_treated_km(lonlat_of(data), data["w"])
    stay = (data["w"] == 1) | (km > 9)
    table = ate(data, folds=None).buffer_table((9,))
    alone = ate({k: v[stay] for k, v in data.items()}, folds=None).table.where(term="effect")
    np.testing.assert_allclose(table["estimate"], alone["estimate"], rtol=1e-6)
    np.testing.assert_allclose(table["std_error"], alone["std_error"], rtol=1e-5)


def test_buffers_are_refused_without_places(data):
    result = ate(data, coords=None)
    with pytest.raises(OptionError, match="needs coordinates"):
        result.buffer_table()
    with pytest.raises(OptionError, match="buffers_km is empty"):
        ate(data).buffer_table(())


@pytest.fixture(scope="module")
def aid():
    """Estimates for the first programme over grids: none, tabular, both; then with district means and exposure."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(6):
            found.append(aid_estimates(*aid_grid(seed=seed)[:2]))
    return np.array(found)


def aid_estimates(data, images) -> list[float]:
    m = images.matrix[images.align(data["cell"])]
    code = np.unique(data["adm2"], return_inverse=True)[1]
    means = {f"mean{j}": (np.bincount(code, c) / np.bincount(code))[code] for j, c in enumerate(m.T)}
    anybody = np.max([v for k, v in data.items() if k.startswith("funder")], axis=0)
    data = data | means | {"anybody": anybody}
    common = {"outcome": "y", "treatment": "funder1_sector1", "embeddings": images, "embedding_key": "cell"}
    common |= {"cluster": "adm2", "coords": ("longitude", "latitude"), "time": "period", "reference": "none"}
    sets = cs.image_ate(data, covariates="x", adjust=("none", "tabular", "both"), **common)
    near = cs.Exposure(rings_km=(25,), source="anybody")
    exposed = cs.image_ate(data, exposure=near, covariates=["x", *means], adjust="both", **common)
    return [*sets.table["estimate"][:3], exposed.table["estimate"][0]]


def test_aid_grid_adjustment_tells_the_story_and_exposure_ends_it(aid):
    error = 3.3 * aid.std(axis=0, ddof=1) / np.sqrt(len(aid))
    # Population values of linear adjustment, published to one decimal.
    assert np.all(np.abs(aid.mean(axis=0) - [9.9, 7.6, 4.4, 4.0]) < error + 0.06)
    assert np.all(np.diff(aid, axis=1) < 0)


def test_whole_districts_leave_no_unexposed_treated_cells():
    data, images, _ = aid_grid(side=20, seed=1)
    common = {"outcome": "y", "treatment": "funder1_sector1", "embeddings": images, "embedding_key": "cell"}
    common |= {"cluster": "adm2", "coords": ("longitude", "latitude"), "time": "period", "adjust": "none"}
    table = cs.image_ate(data, exposure=cs.Exposure(rings_km=(25,), role="effect"), **common).table
    direct = table.row(term="direct")
    assert np.isnan(direct["estimate"]) and "0 rows have funder1_sector1=1" in str(table.meta["unavailable"])
    assert np.isfinite([table.row(term=t)["estimate"] for t in ("spillover", "total")]).all()


def test_a_study_file_states_the_exposure_as_a_table():
    from causalsat.config import call_arguments

    found = call_arguments({"exposure": {"rings_km": [10, 25], "measure": "any", "lag": 1}})
    assert found["exposure"] == cs.Exposure(rings_km=(10, 25), measure="any", lag=1)
