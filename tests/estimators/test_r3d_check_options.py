"""Options of checks and figures of `r3d`: one number as good as a list, and a named error for what cannot be read."""

import numpy as np
import pytest

import causalsat as cs
from causalsat.errors import DataError, OptionError
from tests.estimators.r3d_verb import QUICK, ask, units


@pytest.fixture(scope="module")
def result():
    data, draws = units(n=200, seed=3)
    return ask(data, draws, bandwidth=0.8, coords=("lon", "lat"))


@pytest.fixture(scope="module")
def weighted():
    """A long table of pixels whose weights rise with their values."""
    data, draws = units(n=160, seed=4)
    rows = data.loc[np.repeat(np.arange(160), 60)].reset_index(drop=True)
    value = draws.reshape(-1)
    return rows.assign(value=value, weight=1.0 + 2.0 * (value > 4.5), number=1.0 + 3.0 * (value > 4.5))


@pytest.mark.parametrize("weights", [{"weights": "weight"}, {"weights": "number", "count_weights": True}])
def test_pre_period_keeps_weights_of_draws_and_places(weighted, weights):
    options = {
        "outcome": "value", "running": "x", "unit": "unit", "bandwidth": 0.8, "coords": ("lon", "lat"),
        "inference": cs.Bootstrap(199, "block", block_km=30.0), **QUICK,
    }  # fmt: skip
    result = cs.r3d(weighted, **options, **weights)
    check = result.check("pre_period", data=weighted, pre_outcome="value")
    mean = result.table.where(term="mean")
    assert check.table["mean"][0] == pytest.approx(mean["estimate"][0], abs=1e-10)
    assert check.table["std_error"][0] == pytest.approx(mean["std_error"][0], abs=1e-10)
    without = result.check("pre_period", data=weighted, pre_outcome="value", weights=None, count_weights=False)
    assert abs(without.table["mean"][0] - check.table["mean"][0]) > 0.01


def test_pre_period_asks_for_weights_that_are_no_column():
    data, draws = units(n=160)
    own = np.random.default_rng(0).uniform(1, 2, draws.shape)
    result = ask(data, draws, weights=own, bandwidth=0.8)
    with pytest.raises(OptionError, match=r"pass weights=\.\.\."):
        result.check("pre_period", data=data, pre_outcome=draws)
    again = result.check("pre_period", data=data, pre_outcome=draws, weights=own)
    assert again.table["mean"][0] == pytest.approx(result.table.where(term="mean")["estimate"][0], abs=1e-10)
    with pytest.raises(OptionError, match="does not take kernel"):
        result.check("pre_period", data=data, pre_outcome=draws, weights=own, kernel="uniform")


def test_one_number_is_a_list_of_one(result):
    assert result.check("density", h=0.5).table == result.check("density", h=(0.5, 0.5)).table
    assert result.check("blocks", block_km=10).table["block_km"] == [10.0]
    assert result.check("bandwidth", factors=1.25, orders=1).table["factor"] == [1.25] * 3
    import matplotlib.pyplot as plt

    for kind in ("rd", "bandwidth"):
        labels = [text.get_text() for text in result.plot(kind=kind, levels=0.5).get_legend().get_texts()]
        assert "q = 0.5" in labels and "q = 0.167" not in labels
    plt.close("all")


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("density", {"h": (-0.3, 0.2)}, "positive"),
        ("density", {"h": "wide"}, "h='wide'"),
        ("density", {"h": (0.1, 0.2, 0.3)}, "left, right"),
        ("density", {"kernel": "triangle"}, "triangular"),
        ("blocks", {"block_km": 0}, "block_km=0"),
        ("blocks", {"block_km": ["far"]}, "block_km"),
        ("bandwidth", {"factors": [1.0, -1.0]}, "factors"),
        ("bandwidth", {"orders": "two"}, "orders"),
        ("bandwidth", {"orders": 9}, "orders"),
        ("dates", {"dates": np.zeros(200), "treated_on": "2020-01-01", "expected": {}}, "dates is a ndarray"),
        ("dates", {"dates": {}, "treated_on": "2020-01-01", "expected": "after"}, "expected is a str"),
    ],
)
def test_options_of_checks_that_cannot_be_read(result, name, options, match):
    with pytest.raises(OptionError, match=match):
        result.check(name, **options)


def test_dates_that_cannot_be_read(result):
    good = np.repeat("2021-05-01", 200)
    for dates, start in ((np.repeat("1 May 21", 200), "2020-01-01"), (good, "spring")):
        with pytest.raises(DataError, match="cannot be read as dates"):
            result.check("dates", dates={"image": dates}, treated_on=start, expected={"image": "after"})
    found = result.check("dates", dates={"image": good}, treated_on="2020-01-01", expected={"image": "after"})
    assert found.passed and found.table["newer"] == [200]


@pytest.mark.parametrize(
    ("kind", "options"),
    [("rd", {"bins": 0}), ("rd", {"levels": 1.5}), ("rd", {"levels": "all"}), ("bandwidth", {"factors": (0.0, 1.0)})],
)
def test_options_of_figures_that_cannot_be_read(result, kind, options):
    with pytest.raises(OptionError, match=next(iter(options))):
        result.plot(kind=kind, **options)


def test_the_map_shows_the_border_within_the_frame_of_the_units(result):
    import matplotlib.pyplot as plt
    import shapely

    plain = result.plot(kind="map").axis()
    ax = result.plot(kind="map", border=shapely.LineString([(30, -60), (30, 60)]))
    assert ax.axis() == plain
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["treated side", "control", "border"]
    np.testing.assert_allclose(ax.lines[-1].get_xydata(), [[30, -60], [30, 60]])
    plt.close("all")


def test_the_legend_lists_the_band_only_where_there_is_one(result):
    import matplotlib.pyplot as plt

    for band, wanted in (("studentized", ["uniform band", "pointwise interval"]), (None, ["pointwise interval"])):
        ax = result.refit(band=band).plot()
        assert [text.get_text() for text in ax.get_legend().get_texts()] == wanted
    plt.close("all")


def test_the_density_figure_puts_ties_where_the_design_does():
    import matplotlib.pyplot as plt

    data, draws = units(n=200, seed=3)
    data["x"] = data["x"].round(1)
    counted = {}
    for tie in ("treated", "control"):
        result = ask(data, draws, bandwidth=0.8, tie=tie)
        left = sum(bar.get_height() for bar in result.plot(kind="density").patches[:-1] if bar.get_x() < -1e-9)
        counted[tie] = left - (~result.estimates[0].design.treated).sum()
    assert counted == {"treated": 0, "control": 0}
    plt.close("all")


def test_perfect_compliance_is_known_exactly():
    data, draws = units(n=200, seed=3)
    data["got"] = (data["x"] >= 0).astype(float)
    result = ask(data, draws, treatment="got", bandwidth=0.8)
    assert "first stage: jump 1 (known exactly)" in result.meta["findings"]
    check = result.check("first_stage")
    assert check.passed is True and "known exactly" in check.text
    assert "inf" not in check.text and "nan" not in " ".join(result.meta["findings"])
