"""``cs.embed`` from end to end: rows, statuses, invariances, guards."""

import logging

import jax
import numpy as np
import pytest

import causalsat as cs
from causalsat.errors import DataError, EmbeddingQualityWarning, OptionError, RasterCoverageWarning, RasterReadError
from causalsat.raster.diagnostics import describe
from tests.raster import jobs, making

RCF = cs.Rcf(n_features=32, patch=3, n_patches=1000, n_fit=40)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return jobs.raster(tmp_path_factory.mktemp("scene"), blockxsize=32, blockysize=32, tiled=True)


def gappy(folder):
    """The standard raster with nodata stripes of several widths and a corner of nodata."""
    array = making.image(dtype="uint8")
    array[:, 20:23, :] = 0
    array[:, :, 60:72] = 0
    array[:, 80:, 100:] = 0
    return making.write(folder / "gappy.tif", array, nodata=0)


@pytest.mark.parametrize("encoder", ["bands", RCF])
def test_order_of_places_duplicates_threads_and_shards_do_not_matter(scene, encoder):
    places = jobs.table(70)
    places["longitude"][5], places["latitude"][5] = places["longitude"][9], places["latitude"][9]
    table = jobs.embed(scene, places, encoder=encoder)
    assert table.ids.tolist() == places["site"]
    np.testing.assert_array_equal(table.matrix[5], table.matrix[9])
    order = np.random.default_rng(0).permutation(70)
    moved = {"site": np.array(places["site"])[order]} | {k: places[k][order] for k in ("longitude", "latitude")}
    np.testing.assert_array_equal(jobs.embed(scene, moved, encoder=encoder).matrix, table.matrix[order])
    for options in ({"shard_rows": 7}, {"threads": 1}, {"threads": 3, "shard_rows": 33}):
        np.testing.assert_array_equal(jobs.embed(scene, places, encoder=encoder, **options).matrix, table.matrix)


def test_other_places_do_not_matter_given_the_encoder(scene):
    places = jobs.table(40)
    fixed = cs.Rcf(n_features=32, source="gaussian")
    normalise = cs.Normalise(kind="zscore", centre=128.0, spread=64.0)
    table = jobs.embed(scene, places, encoder=fixed, normalise=normalise)
    few = {k: v[10:25] for k, v in places.items()}
    np.testing.assert_array_equal(
        jobs.embed(scene, few, encoder=fixed, normalise=normalise).matrix, table.matrix[10:25]
    )


def test_batch_sizes_from_2_to_32_give_equal_bits(scene):
    places = jobs.table(45)
    table = jobs.embed(scene, places, encoder=RCF, batch_size=32)
    for size in (2, 3, 8, 17):
        np.testing.assert_array_equal(jobs.embed(scene, places, encoder=RCF, batch_size=size).matrix, table.matrix)
    with pytest.raises(OptionError, match="batch_size=1 must be at least 2"):
        jobs.embed(scene, places, batch_size=1)


def test_default_settings_of_jax_give_the_same_bits(scene):
    table = jobs.embed(scene, jobs.table(10))
    with jax.enable_x64(False):
        np.testing.assert_array_equal(jobs.embed(scene, jobs.table(10)).matrix, table.matrix)


def test_statuses_are_rows_and_vectors_are_finite_or_nan(tmp_path):
    x, y = making.pixel([30, 66, 124, 62, -400, 30], [60, 60, 104, 60, 60, 22])
    places = making.at(x, y)
    places["longitude"][5] = places["latitude"][5] = 0.0
    with pytest.warns(
        RasterCoverageWarning,
        match=r"4 of 6 places have no vector \(all_nodata: 1, bad_place: 1, low_valid: 1, off_raster: 1\)",
    ):
        table = jobs.embed(gappy(tmp_path), places, encoder="bands", min_valid_frac=0.3)
    assert table.status.tolist() == ["ok", "low_valid", "all_nodata", "partial", "off_raster", "bad_place"]
    finite = np.isfinite(table.matrix).all(axis=1)
    assert finite.tolist() == [True, False, False, True, False, False]
    assert np.isnan(table.matrix[~finite]).all()
    np.testing.assert_allclose(table.valid_frac[[0, 2]], [1.0, 0.0])


def test_too_few_whole_windows_is_low_valid_and_never_zero(tmp_path):
    array = making.image(dtype="uint8")
    array[:, ::2, :] = 0
    places = making.at(*making.pixel([50, 80], [60, 60]))
    with pytest.warns(RasterCoverageWarning, match="low_valid: 2"):
        table = jobs.embed(
            making.write(tmp_path / "comb.tif", array, nodata=0), places, min_valid_frac=0.4,
            encoder=cs.Rcf(n_features=4, source="gaussian"),
        )  # fmt: skip
    assert table.status.tolist() == ["low_valid", "low_valid"]
    assert np.isnan(table.matrix).all()


def test_fill_values_never_reach_features(tmp_path):
    places = jobs.table(30)
    tables = []
    for fill in (0, 255):
        array = making.image(dtype="uint8")
        array[:, 40:44, :] = fill
        path = making.write(tmp_path / f"fill{fill}.tif", array, nodata=fill)
        tables.append(jobs.embed(path, places, min_valid_frac=0.1))
    assert set(tables[0].status) == {"ok", "partial"}
    np.testing.assert_array_equal(tables[0].matrix, tables[1].matrix)


def test_integers_without_a_divisor_are_refused_before_any_work(tmp_path):
    wide = making.write(tmp_path / "wide.tif", making.image())
    with pytest.raises(OptionError, match="no divisor for uint16"):
        jobs.embed(wide, jobs.table(5))
    declared = jobs.embed(wide, jobs.table(5), normalise=cs.Normalise(spread=250), encoder="bands")
    byte = making.write(tmp_path / "byte.tif", making.image(dtype="uint8"))
    scaled = jobs.embed(byte, jobs.table(5), normalise=cs.Normalise(spread=250), encoder="bands")
    np.testing.assert_array_equal(declared.matrix, scaled.matrix)


def test_a_fitted_normaliser_sees_only_the_allowed_ids_and_is_stored(scene, tmp_path):
    places = jobs.table(20)
    allowed = places["site"][:8]
    normalise = cs.Normalise(kind="zscore", fit="sample", n_fit=5, fit_ids=allowed)
    table = jobs.embed(scene, places, normalise=normalise, encoder="bands", out=tmp_path / "job")
    seen = table.provenance["normaliser"]["fit_ids"]
    assert len(seen) == 5
    assert set(seen) <= set(allowed)
    np.testing.assert_array_equal(
        jobs.embed(scene, places, normalise=normalise, encoder="bands", out=tmp_path / "job").matrix, table.matrix
    )


def test_most_places_off_the_raster_is_an_error(scene):
    with pytest.raises(DataError, match="lie off every raster"):
        jobs.embed(scene, making.at(*making.pixel([-500, -600, 50], [0, 0, 50])))


def test_files_that_cannot_be_read_name_the_file_or_are_recorded(tmp_path, real_data):
    corrupt = real_data("rasters/corrupt.tif")
    from rasterio import open as opened

    with opened(corrupt) as raster:
        left, bottom, right, top = raster.bounds
        places = making.at(np.linspace(left, right, 12)[1:-1], np.linspace(top, bottom, 12)[1:-1], raster.crs)
        size = raster.res[0] * 32
    with pytest.raises(RasterReadError, match=r"corrupt.tif cannot be read in the window of place"):
        jobs.embed(corrupt, places, size_m=size, encoder="bands", out=tmp_path / "job")
    assert not list((tmp_path / "job" / "parts").iterdir())
    assert not (tmp_path / "job" / "manifest.json").exists()
    with pytest.warns(RasterCoverageWarning):
        table = jobs.embed(corrupt, places, size_m=size, encoder="bands", on_error="record")
    assert "read_error" in table.status
    assert np.isnan(table.matrix[table.status == "read_error"]).all()


def test_recorded_read_errors_are_made_again_when_errors_raise(tmp_path, monkeypatch):
    import causalsat.raster.reader as reader

    scene, places = jobs.raster(tmp_path), jobs.table(20)
    whole = jobs.embed(scene, places, encoder="bands")
    real = reader._read_chip

    def broken(plan, handles, batch, i, row):
        if row == 7:
            raise RasterReadError("scene.tif is gone for a moment")
        real(plan, handles, batch, i, row)

    options = {"encoder": "bands", "out": tmp_path / "job", "shard_rows": 5}
    monkeypatch.setattr(reader, "_read_chip", broken)
    with pytest.warns(RasterCoverageWarning) as told:
        table = jobs.embed(scene, places, on_error="record", **options)
    assert any("gone for a moment" in str(note.message) for note in told)
    assert table.status.tolist().count("read_error") == 1
    with pytest.raises(RasterReadError):
        jobs.embed(scene, places, **options)
    monkeypatch.undo()
    with pytest.warns(RasterCoverageWarning, match="read_error: 1"):
        jobs.embed(scene, places, on_error="record", **options)
    np.testing.assert_array_equal(jobs.embed(scene, places, **options).matrix, whole.matrix)


def test_all_nodata_is_counted_and_never_zero(real_data):
    from rasterio import open as opened

    path = real_data("rasters/all-nodata.tif")
    with opened(path) as raster:
        left, bottom, right, top = raster.bounds
        places = making.at(np.linspace(left, right, 7)[1:-1], np.linspace(top, bottom, 7)[1:-1], raster.crs)
    with pytest.warns(RasterCoverageWarning, match="all_nodata: 5"):
        table = jobs.embed(path, places, encoder="bands", size_m=2000, gsd_m=100, normalise=cs.Normalise(spread=1))
    assert set(table.status) == {"all_nodata"}
    assert np.isnan(table.matrix).all()


@pytest.mark.parametrize("encoder", ["bands", cs.Rcf(n_features=128, n_patches=5000)])
def test_uganda_chips(real_data, encoder):
    import pandas as pd

    people = pd.read_csv(real_data("uganda/people.csv"))
    sites = people.drop_duplicates("site")[["site", "longitude", "latitude"]]
    chips = str(real_data("uganda/chips")) + "/{site}.tif"
    table = cs.embed(chips, sites, embedding_key="site", encoder=encoder, size_m=1050)
    assert table.ids.tolist() == sites["site"].astype(str).tolist()
    assert len(table) == 327
    assert set(table.status) == {"ok"}
    assert np.isfinite(table.matrix).all()
    assert table.provenance["diagnostics"]["duplicate_vectors"] == 2
    assert table.provenance["rows"]["centre_offset_m"]["q1"] < 0.01


def test_rgb_byte_through_every_encoder(real_data):
    from rasterio import open as opened

    path = real_data("rasters/RGB.byte.tif")
    with opened(path) as raster:
        left, bottom, right, top = raster.bounds
        rng = np.random.default_rng(0)
        places = making.at(rng.uniform(left, right, 60), rng.uniform(bottom, top, 60), raster.crs)
    with pytest.warns(RasterCoverageWarning):
        table = cs.embed(
            path, places, embedding_key="site", encoder=["bands", cs.Rcf(n_features=32, n_patches=2000)], size_m=19200,
            gsd_m=600,
        )  # fmt: skip
    usable = np.isin(table.status, ["ok", "partial"])
    assert 10 < usable.sum() < 60
    np.testing.assert_array_equal(np.isfinite(table.matrix).all(axis=1), usable)


def test_progress_events_add_up(scene):
    events = []
    jobs.embed(scene, jobs.table(70), progress=events.append)
    assert events[-1] == {"what": "embed", "done": 70, "total": 70}


def test_global_settings_are_as_before(scene):
    import rasterio

    def settings():
        with rasterio.Env() as env:
            gdal = dict(env.options)
        return gdal, np.geterr(), logging.getLogger().level, jax.config.jax_default_matmul_precision

    before = settings()
    jobs.embed(scene, jobs.table(5))
    assert settings() == before


def test_a_constant_image_is_named(tmp_path):
    flat = making.write(tmp_path / "flat.tif", np.full((3, 60, 60), 9, np.uint8))
    with pytest.warns(EmbeddingQualityWarning, match="All places have the same vector"):
        table = jobs.embed(flat, making.at(*making.pixel([20, 30], [20, 30])), encoder="bands")
    assert table.provenance["diagnostics"]["constant"]
    assert any("same vector" in note for note in table.provenance["warnings"])


def test_diagnostics_of_known_matrices():
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((4000, 6)).astype(np.float32)
    wide[:, 4] = wide[:, 3] * 2
    wide[:, 5] = 1.0
    wide[1] = wide[0]
    facts = describe(cs.Embeddings.from_matrix(wide))
    assert (facts["dead_features"], facts["correlated_features"], facts["duplicate_vectors"]) == (1, 2, 1)
    free = describe(cs.Embeddings.from_matrix(rng.standard_normal((4000, 5)).astype(np.float32)))
    assert free["effective_rank"] == pytest.approx(5.0, abs=0.05)
    line = np.outer(np.arange(50.0), np.ones(4)).astype(np.float32)
    assert describe(cs.Embeddings.from_matrix(line))["effective_rank"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"on_error": "ignore"}, 'allowed: "raise", "record"'),
        ({"min_valid_frac": 1.5}, "min_valid_frac=1.5"),
        ({"seed": 1.5}, "seed=1.5 must be a whole number"),
        ({"encoder": "resnet"}, 'encoder=\'resnet\' is not known; allowed: "rcf", "bands"'),
    ],
)
def test_refusals(scene, options, match):
    with pytest.raises(OptionError, match=match):
        jobs.embed(scene, jobs.table(3), **options)


def test_no_places_is_refused(scene):
    empty = {"site": np.array([], str), "longitude": np.array([]), "latitude": np.array([])}
    with pytest.raises(DataError, match="places is empty"):
        jobs.embed(scene, empty)
