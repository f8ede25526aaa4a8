"""Validity: nodata, masks inside and beside the file, alpha; nothing invalid leaks into what is valid."""

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from causalsat.raster.masks import value_validity
from tests.raster.making import at, chips, image, pixel, write

HOLE = (slice(20, 30), slice(25, 40))
PLACE = at(*pixel(32, 28))


def holed(array, value, bands=slice(None)):
    array = array.copy()
    array[(bands, *HOLE)] = value
    return array


def hole_mask(shape=(60, 70)):
    mask = np.full(shape, 255, "uint8")
    mask[HOLE] = 0
    return mask


def expected_mask(n=32, column=16, row=12):
    return hole_mask()[row : row + n, column : column + n] != 0


def small(dtype="uint16", bands=3):
    return image(60, 70, bands, dtype)


def with_nodata(path, dtype="uint16"):
    return write(path, holed(small(dtype), 0), nodata=0)


def with_nan(path):
    return write(path, holed(small("float32"), np.nan), nodata=np.nan)


def with_undeclared_nan(path):
    return write(path, holed(small("float32"), np.nan))


def with_inner_mask(path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        return write(path, holed(small(), 7), mask=hole_mask())


def with_mask_beside(path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        write(path, holed(small(), 7), mask=hole_mask())
    assert path.with_name(path.name + ".msk").exists()
    return path


def with_float_mask(path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        return write(path, holed(small("float32"), 7), mask=hole_mask())


def with_alpha(path):
    array = np.concatenate([holed(small("uint8"), 7), hole_mask()[None]])
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    return write(path, array, colours=colours)


def with_nodata_in_one_band(path):
    return write(path, holed(small(), 0, 1), nodata=0)


def with_nodata_and_a_mask(path):
    """One half of the hole is nodata, the other is masked."""
    array, mask = holed(small(), 7), hole_mask()
    array[:, 20:25, 25:40] = 0
    mask[20:25, 25:40] = 255
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        return write(path, array, mask=mask, nodata=0)


def with_nodata_and_alpha(path):
    array, mask = holed(small("uint8"), 7), hole_mask()
    array[:, 20:25, 25:40] = 0
    mask[20:25, 25:40] = 255
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    return write(path, np.concatenate([array, mask[None]]), colours=colours, nodata=0)


KINDS = [
    with_nodata, with_nan, with_undeclared_nan, with_inner_mask, with_mask_beside, with_float_mask, with_alpha,
    with_nodata_in_one_band, with_nodata_and_a_mask, with_nodata_and_alpha,
]  # fmt: skip


@pytest.mark.parametrize("make", KINDS)
def test_plain_chips_honour_every_kind_of_mask(tmp_path, make):
    batch = chips(make(tmp_path / "a.tif"), PLACE, size_m=320)
    assert not batch.warped[0]
    assert np.array_equal(batch.mask[0], expected_mask())
    assert batch.valid_frac[0] == pytest.approx(1 - 150 / 1024)
    assert batch.masked_frac[0] == pytest.approx(150 / 1024)
    assert (batch.pixels[0][~batch.mask[0]] == 0).all()
    assert batch.pixels.shape[-1] == 3


@pytest.mark.parametrize("make", KINDS)
def test_warped_chips_honour_every_kind_of_mask(tmp_path, make):
    """Constant ground around a hole of another value: resampling may not carry the hole into valid pixels."""
    path = make(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as raster:
        pixels = raster.read([1, 2, 3])
        outside = hole_mask() != 0
        pixels[:, outside] = 100
        if make is with_nodata_in_one_band:
            pixels[[0, 2]] = 100
        raster.write(pixels, [1, 2, 3])
    batch = chips(path, at(*pixel(32.25, 28.25)), size_m=320, align="exact")
    assert batch.warped[0]
    assert 80 <= (~batch.mask[0]).sum() <= 200
    assert np.unique(batch.pixels[0][batch.mask[0]]).tolist() == [100]
    assert (batch.pixels[0][~batch.mask[0]] == 0).all()


def test_a_warped_chip_off_the_edge_marks_the_padding(tmp_path):
    for dtype in ("uint8", "uint16", "float32"):
        path = write(tmp_path / f"{dtype}.tif", np.full((1, 60, 70), 50, dtype))
        batch = chips(path, at(*pixel(0.25, 0.25)), size_m=320, align="exact")
        assert batch.mask[0].sum() == pytest.approx(256, abs=16)
        assert np.unique(batch.pixels[0][batch.mask[0]]).tolist() == [50]


def per_band_vrt(tmp_path, values):
    """A VRT whose bands have different nodata values."""
    array = small()
    for band, value in enumerate(values):
        array[(band, slice(10 * band + 10, 10 * band + 15), slice(30, 35))] = value
    write(tmp_path / "inner.tif", array)
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{b + 1}"><NoDataValue>{v}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">inner.tif</SourceFilename><SourceBand>{b + 1}</SourceBand></SimpleSource>'
        "</VRTRasterBand>"
        for b, v in enumerate(values)
    )
    with rasterio.open(tmp_path / "inner.tif") as inner:
        wkt, geo = inner.crs.to_wkt(), ", ".join(map(str, inner.transform.to_gdal()))
    text = f'<VRTDataset rasterXSize="70" rasterYSize="60"><SRS>{wkt.replace(chr(34), "&quot;")}</SRS>'
    path = tmp_path / "bands.vrt"
    path.write_text(f"{text}<GeoTransform>{geo}</GeoTransform>{bands}</VRTDataset>")
    return path, array


def test_nodata_per_band(tmp_path):
    values = (1, 2, 3)
    path, array = per_band_vrt(tmp_path, values)
    valid = np.stack([array[b] != values[b] for b in range(3)])
    window = (slice(None), slice(12, 44), slice(16, 48))
    strict, loose = (chips(path, PLACE, size_m=320, mask_rule=rule) for rule in ("all", "any"))
    assert np.array_equal(strict.mask[0], valid.all(axis=0)[window[1:]])
    assert loose.mask.all()
    assert np.array_equal(loose.pixels[0].transpose(2, 0, 1), np.where(valid, array, 0)[window])
    warped = chips(path, PLACE, size_m=320, align="exact")
    assert np.array_equal(warped.mask[0], strict.mask[0])
    assert np.array_equal(warped.pixels[0], strict.pixels[0])


def test_a_masked_array_is_honoured():
    from rasterio.transform import from_origin

    from tests.raster.making import CORNER, ZONE

    array = np.ma.array(small(), mask=np.broadcast_to(hole_mask() == 0, (3, 60, 70)))
    batch = chips((array, from_origin(*CORNER, 10, 10), ZONE), PLACE, size_m=320)
    assert np.array_equal(batch.mask[0], expected_mask())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), fill=st.integers(0, 9), column=st.integers(0, 69), row=st.integers(0, 59))
def test_valid_share_equals_brute_force_and_the_fill_value_never_shows(tmp_path_factory, seed, fill, column, row):
    folder = tmp_path_factory.mktemp("fill")
    lost = np.random.default_rng(seed).random((60, 70)) < 0.3
    array = small()
    array[:, lost] = fill
    batch = chips(write(folder / "a.tif", array, nodata=fill), at(*pixel(column + 0.5, row + 0.5)), size_m=90)
    good = np.zeros((68, 78), bool)
    good[4:64, 4:74] = ~lost
    window = good[row : row + 9, column : column + 9]
    assert batch.valid_frac[0] == pytest.approx(window.mean())
    array[:, lost] = 9 - fill
    other = chips(write(folder / "b.tif", array, nodata=9 - fill), at(*pixel(column + 0.5, row + 0.5)), size_m=90)
    assert other.sha256[0] == batch.sha256[0]


def test_the_fill_value_does_not_show_in_warped_chips(tmp_path):
    hashes = set()
    for fill in (0, 3, 5):
        path = write(tmp_path / f"{fill}.tif", holed(small(), fill), nodata=fill)
        hashes.add(chips(path, at(*pixel(32.3, 28.4)), size_m=300, gsd_m=12).sha256[0])
    assert len(hashes) == 1


def test_nothing_valid_is_all_nodata(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1, 60, 70), "uint8"), nodata=0)
    batch = chips(path, PLACE)
    assert (batch.status[0], batch.valid_frac[0], batch.n_sources[0]) == ("all_nodata", 0, 0)
    assert batch.masked_frac[0] == 1


def test_a_second_raster_fills_what_the_first_lacks(tmp_path):
    first = write(tmp_path / "first.tif", holed(small(), 0), nodata=0)
    second = write(tmp_path / "second.tif", np.full((3, 60, 70), 9, "uint16"), nodata=0)
    batch = chips([first, second], PLACE, size_m=320)
    assert (batch.status[0], batch.n_sources[0], batch.source_id[0]) == ("ok", 2, "first.tif")
    assert (batch.pixels[0][~expected_mask()] == 9).all()


def test_values_that_a_type_cannot_hold_are_no_nodata():
    pixels = np.zeros((2, 2, 1), "uint8")
    assert value_validity(pixels, (-9999.0,)).all()
    assert value_validity(pixels, (0.5,)).all()
    assert value_validity(pixels, (None,)) is None
    assert not value_validity(pixels, (0.0,)).any()
