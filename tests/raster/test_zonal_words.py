"""What printed pixel distributions tell."""

import html

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from rasterio.transform import from_origin

from causalsat import PixelDistributions, pixel_distributions
from causalsat.errors import RasterCoverageWarning
from tests.raster.making import ZONE

SHAPES = [shapely.box(0, 3, 20, 40), shapely.box(50, 50, 70, 70), shapely.box(1, 1, 3.5, 3), None]


def measured(**options):
    array = np.random.default_rng(0).integers(0, 63, (60, 60)).astype(np.uint8)
    zones = gpd.GeoDataFrame({"zone": list("abcd")}, geometry=SHAPES, crs=ZONE)
    with pytest.warns(RasterCoverageWarning):
        return pixel_distributions((array, from_origin(0, 60, 1, 1), ZONE, 0), zones, **options)


def facts_of(found):
    lines = repr(found).splitlines()
    assert lines[1] == ""
    return lines[0], {line.split("  ", 1)[0]: line.split("  ", 1)[1].strip() for line in lines[2:]}


def test_rows():
    found = measured()
    first, facts = facts_of(found)
    table = found.summary
    assert first == "PixelDistributions: 4 zones, one row per pixel"
    assert facts["status"] == "2 ok, 1 few_pixels (fewer than 30), 1 no_geometry"
    n, masked = int(table["n_pixels"].sum()), int(table["n_masked"].sum())
    assert facts["pixels"] == f"{n} with a value, 6 to {table['n_pixels'].max()} in a zone (median 99)"
    assert facts["masked"] == f"{masked} without a value ({100 * masked / (n + masked):.3g}%)"
    assert facts["outside"] == "1 zone not fully covered, up to 75% of one"
    assert facts["values"].startswith("1 to 62, means of zones ")
    assert facts["weight"] == "share of the pixel inside the zone"
    assert facts["rasters"].endswith(f"band {found.meta['band']}; {ZONE}")
    assert str(found) == repr(found) and "DataFrame" not in repr(found)


def test_histograms_and_quantiles_tell_their_grid():
    first, facts = facts_of(measured(as_="histogram"))
    assert first.endswith("histograms of 62 bins") and facts["bins"] == "0.5 to 62.5, 1 wide, exact"
    first, facts = facts_of(measured(as_="quantiles", quantiles=[0.1, 0.5]))
    assert first.endswith("2 quantiles") and facts["quantiles"].startswith("levels 0.1 to 0.5, values ")
    assert facts_of(measured(weight="area"))[1]["weight"] == "area of the pixel inside the zone, m²"


def test_zones_without_pixels_and_results_made_by_hand():
    nothing = np.array([0, 0])
    missing = np.array([np.nan, np.nan])
    summary = pd.DataFrame(
        {"zone": ["a", "b"], "status": ["all_masked", "all_masked"], "n_pixels": nothing, "n_masked": [3, 4],
         "share_outside": [0.0, 0.0], "mean": missing, "low": missing, "high": missing}
    )  # fmt: skip
    first, facts = facts_of(PixelDistributions(np.array(["a", "b"]), summary))
    assert first == "PixelDistributions: 2 zones, 0 quantiles"
    assert facts == {
        "status": "2 all_masked", "pixels": "none with a value", "masked": "7 without a value (100%)", "values": "none"
    }  # fmt: skip


def test_notebooks_show_the_same_facts_and_names_are_escaped():
    found = measured()
    page = found._repr_html_()
    for name, text in facts_of(found)[1].items():
        assert name in page and html.escape(text) in page
    found.meta["rasters"] = ["<b>.tif"] * 5
    assert "<b>" not in found._repr_html_() and "&lt;b&gt;.tif and 2 more" in found._repr_html_()
