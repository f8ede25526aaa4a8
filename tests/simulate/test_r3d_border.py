"""A border study from files: the districts, the field, the pixels, and all three verbs."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from scipy import stats

import causalsat as cs
from causalsat.errors import OptionError
from causalsat.simulate.r3d_border import border


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    files, truth = border(tmp_path_factory.mktemp("border"), seed=1)
    return files, gpd.read_file(files["zones"]), truth


def test_three_verbs_from_files_to_the_effect(study):
    files, zones, truth = study
    zones["distance_m"] = cs.signed_distance(zones, files["border"], treated=files["treated_side"]).metres
    pixels = cs.pixel_distributions(files["raster"], zones, zone_id="zone", min_coverage=0.5).merge(zones)
    result = cs.r3d(
        pixels, outcome="value", weights="weight", unit="zone", running="distance_m", coords=("lon", "lat"), quantiles=9,
        inference=cs.Bootstrap(n=499, scheme="block", block_km=4), checks=None,
    )  # fmt: skip
    effect = result.table.where(term="laqte")
    assert ((effect["band_low"] <= truth["tau"]) & (truth["tau"] <= effect["band_high"])).all()
    assert {test.name for test in result.estimates[0].inference.tests if test.p_value < 0.05} == {
        "nullity",
        "homogeneity",
    }
    assert result.estimates[0].design.n == 640
    # A programme that moves the spread shows in the curve, hardly in the mean.
    slope = np.polyfit(stats.norm.ppf(truth["quantiles"]), effect["estimate"], 1)[0]
    assert slope == pytest.approx(truth["sd"], abs=0.15)


def test_districts_follow_the_line_and_never_cross_it(study):
    files, zones, truth = study
    line = gpd.read_file(files["border"])
    assert len(zones) == 640 and zones["zone"].is_unique and zones.crs == line.crs
    assert zones.geometry.is_valid.all()
    assert not zones.geometry.crosses(line.geometry.iloc[0]).any()
    assert zones.geometry.area.sum() == pytest.approx(zones.geometry.union_all().area, rel=1e-6)
    assert (zones.geometry.distance(line.geometry.iloc[0]) < 1e-6).sum() >= 80
    assert ((truth["distance"] > 0) == truth["treated"]).all() and truth["treated"].mean() == 0.5
    measured = cs.signed_distance(zones, files["border"], treated=files["treated_side"]).metres
    np.testing.assert_allclose(measured, truth["distance"], rtol=1e-3, atol=5.0)
    assert np.unique(truth["distance"].round(1)).size > 600


def test_pixels_of_a_district_have_the_stated_spread(study):
    files, zones, truth = study
    pixels = cs.pixel_distributions(files["raster"], zones, zone_id="zone", min_coverage=0.99).pixels
    spread = pixels.groupby("zone")["value"].std().reindex(truth["zone"]).to_numpy()
    assert np.nanmean(spread[truth["treated"]]) == pytest.approx(1.5, abs=0.03)
    assert np.nanmean(spread[~truth["treated"]]) == pytest.approx(1.0, abs=0.02)
    with rasterio.open(files["raster"]) as raster:
        values = raster.read(1)
    assert np.isnan(values).any() and np.isfinite(values).mean() > 0.5


def test_neighbours_resemble_each_other_over_the_range(tmp_path):
    near, far = [], []
    for seed in range(6):
        files, truth = border(
            tmp_path / str(seed), rows=24, columns=3, pixel_m=200.0, wave_m=0.0, noise=1.0, effect=0.0, seed=seed
        )
        zones = gpd.read_file(files["zones"])
        means = cs.pixel_distributions(files["raster"], zones, zone_id="zone").summary["mean"].to_numpy()
        rest = (means - 5 - 1.5 * truth["distance"] / 3000).reshape(24, 6)
        near.append(np.mean(rest[1:] * rest[:-1]))
        far.append(np.mean(rest[20:] * rest[:4]))
    # Squared-exponential correlation: exp(-1/72) at 1 km, about exp(-400/72) at 20 km.
    assert np.mean(near) > 0.4 and abs(np.mean(far)) < 0.5 * np.mean(near)


def test_same_seed_same_files_and_bad_numbers(tmp_path):
    read = []
    for name in ("a", "b"):
        files, _ = border(tmp_path / name, rows=4, columns=2, seed=3)
        with rasterio.open(files["raster"]) as raster:
            read.append(raster.read(1))
    np.testing.assert_array_equal(*read)
    for wrong in ({"rows": 0}, {"pixel_m": 0.0}, {"pixel_m": 5000.0}, {"wave_m": -1.0}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            border(tmp_path / "c", **wrong)
