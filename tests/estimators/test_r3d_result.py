"""What `r3d` returns: refits, stored tables, contrasts, pictures, words, checks, documented defaults."""

import inspect
import re
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

import causalsat as cs
from causalsat.errors import BandwidthWarning, DataError, FewDrawsWarning, OptionError, SingularWindowError
from causalsat.estimators.r3d_options import R3dChoices
from tests.estimators.r3d_verb import ask, curve, fuzzy_result, sharp_result, units


@pytest.fixture(scope="module")
def base():
    return sharp_result()


@pytest.fixture(scope="module")
def taken_up():
    return fuzzy_result()


def test_refit_is_a_call_with_other_choices(base):
    data, draws = units()
    again = base.refit(bandwidth=0.6, kernel="epanechnikov", order=1)
    call = ask(
        data, draws, bandwidth=0.6, kernel="epanechnikov", order=1, functionals=("mean", "iqr", "sd", "unit:sd", "w2"),
        tests=("nullity", "homogeneity", "dominance"),
    )  # fmt: skip
    for name in ("estimate", "std_error", "conf_low", "band_low", "p_value"):
        np.testing.assert_array_equal(again.table[name], call.table[name])
    assert again.meta["kernel"] == "epanechnikov" and base.meta["kernel"] == "triangular"
    for wrong, words in (
        ({"running": "w"}, "refit cannot change running"), ({"donut": 0.1}, "refit cannot change donut"),
        ({"kernel": "triangel"}, "triangular"), ({"bandwidth": "mse"}, "imse"), ({"order": 0}, "above the order 0"),
        ({"bandwidth": [0.5, 0.6, 0.7]}, "frechet"), ({"n_boot": 5}, "at least 19"),
    ):  # fmt: skip
        with pytest.raises(OptionError, match=words):
            base.refit(**wrong)
    with pytest.raises(SingularWindowError, match="least workable"):
        base.refit(bandwidth=1e-3)


def test_refit_takes_what_a_call_takes():
    data, draws = units(n=400, seed=2)
    data["c"] = np.where(np.arange(400) % 2, 3.0, -1.0)
    data["score"] = data["x"] + data["c"]
    options = {"running": "score", "cutoff": "c", "bandwidth": (0.9, 0.8)}
    result = ask(data, draws, **options)
    for changes in ({}, {"tests": "nullity", "n_boot": 299, "level": 0.9, "functionals": "iqr", "seed": 4}):
        again, call = result.refit(**changes), ask(data, draws, **(options | changes))
        for name in ("estimate", "std_error", "band_low", "band_high"):
            np.testing.assert_array_equal(again.table[name], call.table[name])
        assert again.choices.bandwidth.tolist() == [0.8, 0.9] and again.choices.bootstrap == call.choices.bootstrap
        assert list(again.tests["name"]) == list(call.tests["name"])
    by_column = result.refit(estimator="pointwise", bandwidth=[0.6, 0.7, 0.8, 0.9, 0.9]).refit(kernel="uniform")
    assert by_column.bandwidths["3"]["h"] == [[0.6, 0.7, 0.8, 0.9, 0.9]] * 2


def test_odd_bandwidths_and_few_draws_are_told():
    data, draws = units()
    for options, kind, words in (
        ({"bandwidth": 1.2}, BandwidthWarning, "wider than the data right"),
        ({"bandwidth": 0.0795, "order": 1}, BandwidthWarning, "leaves 4 units right"),
        ({"bandwidth": 0.8, "n_boot": 99}, FewDrawsWarning, "coarse"),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = ask(data, draws, **options)
        assert any(issubclass(w.category, kind) and re.search(words, str(w.message)) for w in caught)
        assert any(re.search(words, text) for text in result.meta["warnings"])


def test_table_round_trip(base, taken_up, tmp_path):
    for result in (base, taken_up[0]):
        path = result.table.write(tmp_path / "table.parquet")
        back = cs.EffectTable.read(path)
        assert back == result.table
        for name in ("quantile", "band_low", "band_high", "std_error"):
            np.testing.assert_array_equal(back[name], result.table[name])
        np.testing.assert_array_equal(back.draws, result.table.draws)
        assert back.meta["notes"] and "–" in back.to_markdown()


def test_contrast_is_the_delta_method(base):
    table, covariance = base.table, base.estimates[0].inference.covariance
    found = table.contrast("b4 - b0", method="normal")
    gap = table["estimate"][4] - table["estimate"][0]
    error = np.sqrt(covariance[4, 4] + covariance[0, 0] - 2 * covariance[4, 0])
    assert found["estimate"][0] == pytest.approx(gap, rel=1e-12)
    assert found["std_error"][0] == pytest.approx(error, rel=1e-12)
    reach = stats.t(base.meta["df"]).ppf(0.975) * error
    assert found["conf_high"][0] == pytest.approx(gap + reach, rel=1e-9)
    # A linear functional is a column like the quantiles: its covariance with them is known, its interval is theirs.
    mean = table.contrast("b5 - b2", method="normal")
    expected = np.sqrt(covariance[5, 5] + covariance[2, 2] - 2 * covariance[5, 2])
    assert mean["std_error"][0] == pytest.approx(expected, rel=1e-12)
    again = table.interval(method="normal")
    np.testing.assert_allclose(again["conf_low"][:7], table["conf_low"][:7], rtol=1e-9)
    with pytest.raises(OptionError, match="lack the factor"):
        table.interval(method="percentile")


def test_same_seed_same_bits(base):
    data, draws = units()
    options = {"functionals": ("mean", "iqr", "sd", "unit:sd", "w2"), "tests": ("nullity", "homogeneity", "dominance")}
    again, other = ask(data, draws, **options), ask(data, draws, seed=1, **options)
    assert again.table.draws.tobytes() == base.table.draws.tobytes()
    for name in ("estimate", "std_error", "band_low", "band_high", "p_value", "conf_low"):
        np.testing.assert_array_equal(again.table[name], base.table[name])
    assert not np.array_equal(other.table["band_low"][:5], base.table["band_low"][:5])
    np.testing.assert_array_equal(other.table["estimate"], base.table["estimate"])


def test_ties_leave_the_supremum_with_a_reason():
    data, draws = units()
    floor = np.maximum(draws, 0.0)
    floor[:, :20] = 0.0
    result = ask(data, np.sort(np.where(np.arange(60) < 20, 0.0, np.abs(floor)), axis=1), bandwidth=0.8)
    rows = curve(result)
    assert np.isnan(rows["std_error"][0]) and np.isnan(rows["band_low"][0]) and np.isfinite(rows["band_low"][-1])
    assert "ties" in str(result.meta["unavailable"])
    plt.close(result.plot().figure)


@pytest.mark.parametrize("kind", ["effect", "averages", "rd", "bandwidth", "density"])
def test_every_plot_draws(base, taken_up, kind):
    options = {"bandwidth": {"factors": (0.8, 1.0, 1.3), "levels": (0.5,)}, "rd": {"levels": (0.2, 0.8), "bins": 8}}
    for result in (base, taken_up[0]):
        ax = result.plot(kind=kind, **options.get(kind, {}))
        assert ax.get_title() or ax.figure.axes
        ax.figure.canvas.draw()
        plt.close(ax.figure)
    _, own = plt.subplots()
    assert base.plot(own, kind="effect") is own
    plt.close(own.figure)


def test_plots_refuse_what_they_cannot_draw(base):
    with pytest.raises(OptionError, match="effect"):
        base.plot(kind="efect")
    with pytest.raises(OptionError, match="no option bins"):
        base.plot(kind="effect", bins=3)
    with pytest.raises(DataError, match="coords"):
        base.plot(kind="map")
    assert "h = " in base.plot().get_title() and "95%" in base.plot().get_title()
    plt.close("all")


def test_words(base):
    text = base.summary()
    assert "nullity over q in [0.167, 0.833]" in text and "Assumes: continuity" in text
    assert repr(base).startswith("R3dResult") and "laqte" in base.table.to_latex()


def test_checks_are_made_and_found():
    data, draws = units(n=300, seed=3)
    result = ask(data, draws, covariates="w", bandwidth=0.8, checks="basic")
    assert [c.name for c in result.checks] == ["density", "covariates", "effective_n", "mass_points", "atoms"]
    assert result.check("density") is result.checks[0]
    with pytest.raises(OptionError, match="There is no check 'desnity'"):
        result.check("desnity")


def test_documented_defaults_are_the_coded_ones():
    parameters = inspect.signature(cs.r3d).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    expected = {
        "unit": None, "cutoff": 0.0, "segments": None, "treatment": None, "covariates": None, "weights": None, "count_weights": False,
        "unit_weights": None, "cluster": None, "coords": None, "quantiles": 99, "estimator": "frechet", "order": 2,
        "kernel": "triangular", "bandwidth": "imse", "bandwidth_treatment": None, "quantile_rule": "type7",
        "small_sample": None, "functionals": ("mean",), "thresholds": (), "tests": ("nullity", "homogeneity"),
        "test_range": None, "band": "studentized", "critical": "t", "residuals": "hc2", "donut": 0.0, "tie": "treated",
        "level": 0.95, "inference": cs.Bootstrap(n=1999, scheme="multiplier"), "n_boot": None, "seed": 0,
        "checks": "basic", "compat": None, "progress": None,
    }  # fmt: skip
    assert defaults == expected
    text = inspect.getdoc(cs.r3d)
    described = text[text.index("Parameters\n") : text.index("Returns\n")]
    for name, parameter in parameters.items():
        told = re.search(rf"^{name} : (.*)$", described, flags=re.MULTILINE)
        assert told, name
        written = re.search(r", default (.+)$", told[1])
        if written:
            assert eval(written[1], {"Bootstrap": cs.Bootstrap}) == parameter.default, name
        else:
            assert parameter.default is parameter.empty or parameter.default is None, name
    assert cs.Bandwidth() == cs.Bandwidth("imse", 1, "global", 1.0, "common", False)
    assert set(R3dChoices.__dataclass_fields__) - {"bootstrap"} <= set(parameters)


def test_resolved_defaults_are_told():
    data, draws = units()
    result = cs.r3d(data, outcome=draws, running="x", bandwidth=0.8)
    told = {
        "order": 2,
        "kernel": "triangular",
        "residuals": "hc2",
        "band": "studentized",
        "critical": "t",
        "n_boot": 1999,
    }
    assert {name: result.meta[name] for name in told} == told and result.meta["resampling"] == "multiplier"
    assert len(curve(result)) == 97 and result.meta["notes"]["levels_left_off"] == [0.01, 0.99]
