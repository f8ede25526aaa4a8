"""Segments of a border: sets of units at one cutoff, their labels, what a thin one leaves, and what figures say."""

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.effects.table import EffectTable
from causalsat.errors import BandwidthWarning, DataError, OptionError
from causalsat.estimators.r3d_units import number_labels
from causalsat.run import run_study
from tests.estimators.r3d_verb import ask, units

FIXED = {"bandwidth": 0.8}


@pytest.fixture(scope="module")
def border():
    data, draws = units(n=240, seed=3)
    data["part"] = np.where(np.arange(240) % 2, "north", "south")
    return data, draws


@pytest.fixture(scope="module")
def split(border):
    data, draws = border
    return ask(data, draws, segments="part", functionals=("mean", "sd"), coords=("lon", "lat"), **FIXED)


def test_every_segment_is_the_call_on_its_units(border, split):
    data, draws = border
    table = split.table
    assert table.index_names == ("segment", "method", "quantile")
    assert list(dict.fromkeys(table["segment"].tolist())) == ["pooled", "north", "south"]
    for label, rows in (("pooled", np.ones(240, bool)), ("north", data["part"].to_numpy() == "north")):
        alone = ask(data[rows], draws[rows], functionals=("mean", "sd"), **FIXED).table
        own = table.where(segment=label)
        np.testing.assert_allclose(own["estimate"], alone["estimate"], rtol=1e-10, atol=1e-12)
        linear = alone["term"] != "sd"
        np.testing.assert_allclose(own["std_error"][linear], alone["std_error"][linear], rtol=1e-10)
    assert "pooled over segments" in table.meta["estimand"]["pooled"]
    assert split.tests["segment"].tolist() == ["pooled"] * 2 + ["north"] * 2 + ["south"] * 2


def test_the_mean_with_equal_weights_is_a_contrast(split):
    means = split.table.where(term="mean")
    both = means.contrast("0.5 * b1 + 0.5 * b2", method="normal")
    assert both["estimate"][0] == pytest.approx(means["estimate"][1:].mean(), rel=1e-12)
    assert both["std_error"][0] == pytest.approx(np.hypot(*means["std_error"][1:]) / 2, rel=1e-9)


def test_segments_from_a_border_and_from_a_study_file(border, tmp_path):
    import shapely

    data, draws = border
    line = shapely.LineString([(30, -1), (30, 3)])
    measured = cs.signed_distance(
        data[["lon", "lat"]].to_numpy(), line, treated=shapely.Point(31, 1), segment_km=150.0
    )  # fmt: skip
    data = data.assign(metres=measured.metres, stretch=measured.segment)
    options = {"running": "metres", "segments": "stretch", "bandwidth": 75e3}
    result = ask(data, draws, **options)
    wanted = ["pooled", *(str(k) for k in np.unique(measured.segment))]
    assert [one.cutoff for one in result.estimates] == wanted and len(wanted) >= 3
    # Segments move no score.
    np.testing.assert_allclose(np.sort(result.estimates[0].design.x), np.sort(measured.metres))
    long = data.loc[np.repeat(np.arange(240), 60)].assign(value=draws.reshape(-1))
    long.to_csv(tmp_path / "pixels.csv", index=False)
    (tmp_path / "study.toml").write_text(
        '[study]\ntitle = "t"\ntable = "pixels.csv"\n\n[r3d]\noutcome = "value"\nunit = "unit"\nrunning = "metres"\n'
        'segments = "stretch"\nbandwidth = 75e3\nquantiles = 5\nn_boot = 199\nchecks = "basic"\n'
    )
    run_study(tmp_path / "study.toml", out=tmp_path / "out")
    read = EffectTable.read(tmp_path / "out" / "effects.parquet")
    own = result.table
    np.testing.assert_allclose(read["estimate"], own["estimate"], rtol=1e-9)
    assert read["segment"].tolist() == own["segment"].tolist()


def test_segments_that_cannot_be_used(border):
    data, draws = border
    for options, error, match in (
        ({"segments": "part", "cutoff": "w"}, OptionError, "give one of them"),
        ({"segments": ["part"]}, OptionError, "must name one column"),
        ({"segments": "name"}, DataError, '"pooled"'),
        ({"segments": "nothing"}, DataError, "nothing"),
    ):
        with pytest.raises(error, match=match):
            ask(data.assign(name="pooled"), draws, **options)


@pytest.mark.parametrize(
    ("one", "two"), [(1000001.0, 1000002.0), (20240101, 20240102), (0.1234561, 0.1234562), (-1.5, 3.0)]
)
def test_cutoffs_keep_labels_of_their_own(border, one, two):
    data, draws = border
    point = np.where(np.arange(240) % 2, one, two)
    result = ask(data.assign(c=point, score=data["x"] + point), draws, running="score", cutoff="c", **FIXED)
    labels = [estimate.cutoff for estimate in result.estimates]
    assert labels == ["pooled", *number_labels(np.array([one, two]))]
    assert sorted(float(label) for label in labels[1:]) == sorted([one, two])
    assert len(result.table.where(cutoff=labels[1], term="laqte")) == 5


def test_a_thin_cutoff_leaves_its_reason_and_the_others(border):
    data, draws = border
    point = np.where(np.arange(240) < 12, 10.0, 20.0)
    data = data.assign(c=point, score=data["x"] + point)
    with pytest.warns(BandwidthWarning, match=r"cutoff 10 \(12 of 240 units\) has no estimate"):
        result = ask(data, draws, running="score", cutoff="c")
    table = result.table
    assert table["cutoff"].tolist() == ["pooled"] * 6 + ["10"] * 6 + ["20"] * 6
    thin = table["cutoff"] == "10"
    assert np.isnan(table["estimate"][thin]).all() and np.isfinite(table["estimate"][~thin]).all()
    assert [one.cutoff for one in result.failed] == ["10"] and "bandwidth" in table.meta["not_estimated"]["10"]
    assert any(line.startswith("cutoff 10 (12 units) has no estimate") for line in table.meta["findings"])
    assert np.isnan(result.average_quantiles.where(cutoff="10")["estimate"]).all()
    with pytest.raises(DataError, match="no estimate to plot"):
        result.plot(cutoff=10)
    alone = ask(data[point == 20.0], draws[point == 20.0], running="score", cutoff=20.0).table
    np.testing.assert_allclose(table.where(cutoff="20")["estimate"], alone["estimate"], rtol=1e-9)
    with pytest.warns(BandwidthWarning):
        assert not result.refit(bandwidth=0.9).failed


def test_a_segment_on_one_side_has_a_reason(border):
    data, draws = border
    data = data.assign(part=np.where((data["x"] > 0.5) & (data["unit"] % 2 == 0), "east", "rest"))
    with pytest.warns(BandwidthWarning, match="segment east .*No unit lies left"):
        result = ask(data, draws, segments="part", **FIXED)
    assert [one.cutoff for one in result.estimates] == ["pooled", "rest"]


def test_titles_and_findings_name_the_units(split):
    import matplotlib.pyplot as plt

    assert "pooled over 2 segments" in split.plot().get_title()
    for kind in ("effect", "averages", "rd", "density", "map"):
        assert "segment north" in split.plot(kind=kind, segment="north").get_title()
    assert split.plot(segment="south").lines[-1].get_ydata() == pytest.approx(
        split.table.where(segment="south", term="laqte")["estimate"]
    )
    plt.close("all")
    assert all(line.startswith("pooled over 2 segments: ") for line in split.meta["findings"][:2])
    with pytest.raises(OptionError, match="pooled, north, south"):
        split.plot(segment="east")
    with pytest.raises(OptionError, match="allowed: segment"):
        split.plot(cutoff=0)
    assert isinstance(split.tests, pd.DataFrame)
