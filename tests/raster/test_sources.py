"""Rasters in: headers, bands, keys, dates, fingerprints, layouts."""

import hashlib
import pickle

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.transform import from_origin

from causalsat.errors import DataError, OptionError, RasterReadError
from causalsat.raster import retile
from causalsat.raster.sources import open_sources
from tests.raster.making import CORNER, ZONE, at, chips, flipped, image, pixel, write


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        where = from_origin(CORNER[0] + 1500 * i, CORNER[1], 10, 10)
        write(tmp_path / f"scene_{2005 + i}.tif", image(seed=i), transform=where, descriptions=["blue", "green", "nir"])
    return tmp_path


def test_one_file(folder):
    sources = open_sources(folder / "scene_2005.tif")
    item = sources.items[0]
    assert (sources.keyed, sources.n_bands, sources.dtype, sources.band_names) == (
        False, 3, np.dtype("uint16"), ("blue", "green", "nir"),
    )  # fmt: skip
    assert (item.crs, item.width, item.height, item.gsd_m, item.name) == (ZONE, 150, 120, 10.0, "scene_2005.tif")
    assert item.bounds == (CORNER[0], CORNER[1] - 1200, CORNER[0] + 1500, CORNER[1])
    assert not sources.dated


def test_many_files_in_every_way(folder):
    names = [f"scene_{year}.tif" for year in (2005, 2006, 2007)]
    paths = [folder / n for n in names]
    for rasters in (folder, str(folder / "*.tif"), paths, pd.DataFrame({"path": paths})):
        assert [item.name for item in open_sources(rasters).items] == names
    assert [item.name for item in open_sources(paths[::-1]).items] == names[::-1]


def test_keys_bind_files_to_places(folder):
    template = open_sources(str(folder / "scene_{site}.tif"))
    mapping = open_sources({2006: folder / "scene_2006.tif"})
    assert (template.keyed, sorted(template.by_key), mapping.by_key) == (True, ["2005", "2006", "2007"], {"2006": 0})


def test_keyed_chips_never_blend(tmp_path):
    for name, value in (("a", 1), ("b", 2)):
        write(tmp_path / f"{name}.tif", np.full((1, 20, 20), value, "uint8"))
    table = at(*pixel([10, 10, 19], [10, 10, 10])) | {"site": ["a", "b", "c"]}
    batch = chips(str(tmp_path / "{site}.tif"), table, size_m=300)
    assert batch.pixels.max(axis=(1, 2, 3)).tolist() == [1, 2, 0]
    assert batch.status.tolist() == ["partial", "partial", "off_raster"]
    assert batch.n_sources.tolist() == [1, 1, 0]


def test_bands_by_number_name_and_order(folder):
    path = folder / "scene_2005.tif"
    for bands in (["nir", "blue"], [3, 1], ["NIR", 1]):
        assert open_sources(path, bands=bands).items[0].bands == (3, 1)
    batch = chips(path, at(*pixel(50, 50)), source_options={"bands": ["nir", "blue"]})
    assert np.array_equal(batch.pixels[0].transpose(2, 0, 1), image()[[2, 0], 42:58, 42:58])
    warped = chips(path, at(*pixel(50, 50)), source_options={"bands": ["nir", "blue"]}, align="exact")
    assert np.array_equal(warped.pixels, batch.pixels)


def test_arrays_equal_files(folder):
    array = image()
    table = at(*pixel([50, 3], [50, 118]))
    given = (array, from_origin(*CORNER, 10, 10), ZONE)
    assert np.array_equal(chips(given, table).pixels, chips(folder / "scene_2005.tif", table).pixels)
    up = (array[:, ::-1], flipped(from_origin(*CORNER, 10, 10), 120), ZONE)
    assert np.array_equal(chips(up, table).pixels, chips(given, table).pixels)
    flat = (array[0] > 100, from_origin(*CORNER, 10, 10), ZONE)
    assert open_sources(flat).dtype == np.uint8


def test_dates_of_files(folder):
    by_name = open_sources(folder, dates=r"_(\d{4})")
    assert [str(i.first_day) for i in by_name.items] == ["2005-01-01", "2006-01-01", "2007-01-01"]
    assert str(by_name.items[0].last_day) == "2005-12-31"
    paths = sorted(folder.glob("*.tif"))
    from_table = open_sources(pd.DataFrame({"path": paths, "date": ["2001-01-05"] * 3}))
    assert {str(i.last_day) for i in from_table.items} == {"2001-01-05"}
    stated = open_sources(folder, dates=r"_(\d{4})", image_date=2012)
    assert {str(i.first_day) for i in stated.items} == {"2012-01-01"}
    each = open_sources(folder, image_date={"scene_2006.tif": "2006-05-01"})
    assert [str(i.first_day) for i in each.items] == ["NaT", "2006-05-01", "NaT"]


def test_fingerprints_follow_the_bytes_and_name_no_folder(folder):
    path = folder / "scene_2005.tif"
    print_ = open_sources(path).fingerprint()[0]
    whole = open_sources(path).fingerprint(full_hash=True)[0]
    data = path.read_bytes()
    assert (print_["file"], print_["size"]) == ("scene_2005.tif", len(data))
    assert whole["sha256"] == hashlib.sha256(data).hexdigest()
    assert print_["sha256"] == hashlib.sha256(data[:65536] + data[-65536:]).hexdigest()
    path.write_bytes(data[:-1] + b"x")
    assert open_sources(path).fingerprint()[0]["sha256"] != print_["sha256"]
    array = open_sources((image(), from_origin(*CORNER, 10, 10), ZONE))
    assert array.fingerprint() == open_sources((image(), from_origin(*CORNER, 10, 10), ZONE)).fingerprint()


def test_equal_names_in_two_folders_are_told_apart(tmp_path):
    for year in ("2005", "2006"):
        (tmp_path / year).mkdir()
        write(tmp_path / year / "a.tif", image(20, 20))
    assert [i.name for i in open_sources(tmp_path).items] == ["2005/a.tif", "2006/a.tif"]


def test_footprints_and_licences(folder):
    with rasterio.open(folder / "scene_2005.tif", "r+") as raster:
        raster.update_tags(TIFFTAG_COPYRIGHT="CC0")
    sources = open_sources(folder)
    frame = sources.footprints()
    assert frame.crs.to_epsg() == 4326
    assert frame["source_id"].tolist()[0] == "scene_2005.tif"
    assert frame.total_bounds[0] == pytest.approx(33.0, abs=1e-3)
    assert sources.licences == ("CC0",)


def test_sources_of_files_can_be_pickled(folder):
    sources = open_sources(folder)
    assert repr(pickle.loads(pickle.dumps(sources))) == repr(sources)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"bands": 2}, "band count"),
        ({"dtype": "uint8"}, "pixel type"),
    ],
)
def test_rasters_must_agree(folder, change, match):
    write(folder / "zz_other.tif", image(**change))
    with pytest.raises(DataError, match=f"{match}.*scene_2005.tif has .* zz_other.tif has"):
        open_sources(folder)


def test_scales_must_agree(folder):
    with rasterio.open(folder / "scene_2006.tif", "r+") as raster:
        raster.scales = (0.1, 0.1, 0.1)
    with pytest.raises(DataError, match="scale"):
        open_sources(folder)


def test_classes_are_not_averaged(tmp_path):
    path = write(tmp_path / "a.tif", image(60, 60, 1, "uint8"), descriptions=["SCL"])
    batch = chips(path, at(*pixel(30.3, 30.3)), align="exact")
    assert set(np.unique(batch.pixels)) <= set(np.unique(image(60, 60, 1, "uint8")))
    with pytest.raises(OptionError, match="classes"):
        chips(path, at(*pixel(30, 30)), resampling="bilinear")


def test_retile_keeps_pixels_masks_and_names(tmp_path):
    mask = np.full((600, 600), 255, "uint8")
    mask[:50] = 0
    src = write(tmp_path / "a.tif", image(600, 600), mask=mask, descriptions=["r", "g", "b"])
    dst = retile(src, tmp_path / "b.tif", block=128)
    with rasterio.open(src) as one, rasterio.open(dst) as two:
        assert np.array_equal(one.read(), two.read())
        assert np.array_equal(one.dataset_mask(), two.dataset_mask())
        assert (two.block_shapes[0], two.descriptions, two.overviews(1)) == ((128, 128), ("r", "g", "b"), [2, 4])
        assert one.transform == two.transform
    assert {p.suffix for p in tmp_path.iterdir()} <= {".tif", ".msk"}


def test_retile_leaves_nothing_behind_when_it_fails(tmp_path, real_data):
    with pytest.raises(RasterReadError, match=r"corrupt.tif"):
        retile(real_data("rasters/corrupt.tif"), tmp_path / "b.tif")
    assert list(tmp_path.iterdir()) == []
    src = write(tmp_path / "a.tif", image(20, 20))
    with pytest.raises(DataError, match="over its own source"):
        retile(src, src)
    with pytest.raises(OptionError, match="multiple of 16"):
        retile(src, tmp_path / "c.tif", block=100)
