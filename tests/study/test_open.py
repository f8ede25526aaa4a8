"""The door: one content, one study, whatever the frame; missing rows counted; R's traps."""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import causalsat as cs
from causalsat.errors import DataError, DroppedRowsWarning, TextMissingWarning, collected_warnings
from causalsat.study.frame import read_frame
from causalsat.study.open import Role, open_study
from tests.study.making import ROLES, opened, permuted, table

CODES = Role("cluster", "site", "codes")


def as_frames(data, folder):
    pandas = pd.DataFrame(data)
    yield "mapping", data
    yield "lists", {name: values.tolist() for name, values in data.items()}
    yield "pandas", pandas
    yield "indexed", pandas.set_index(np.arange(len(pandas))[::-1] * 7)
    yield "category", pandas.astype({"region": "category", "site": "category"})
    yield "nullable", pandas.convert_dtypes()
    yield "object", pandas.astype(object)
    yield "polars", pl.DataFrame({name: values.tolist() for name, values in data.items()})
    yield "pyarrow", pa.Table.from_pandas(pandas)
    for ending, write in (("csv", "to_csv"), ("csv.gz", "to_csv"), ("parquet", "to_parquet")):
        path = folder / f"table.{ending}"
        getattr(pandas, write)(path, index=False)
        yield ending, path
        yield f"{ending} by text", str(path)


def assert_same(a, b, what):
    assert a.data_hash == b.data_hash, what
    for mine, theirs in ((a.numeric, b.numeric), (a.codes, b.codes), (a.labels, b.labels)):
        assert mine.keys() == theirs.keys(), what
        for role in mine:
            np.testing.assert_array_equal(mine[role], theirs[role], err_msg=f"{what} {role}")
    assert a.names == b.names, what
    np.testing.assert_array_equal(a.rows, b.rows, err_msg=what)


@pytest.mark.parametrize("holes", [False, True])
def test_every_type_of_frame_gives_the_same_study(tmp_path, holes):
    data = table()
    if holes:
        data["x"][[3, 50]] = np.nan
        data["region"][7] = None
        data["site"][9] = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedRowsWarning)
        studies = {
            kind: open_study(frame, (*ROLES, CODES), coords=("lon", "lat")) for kind, frame in as_frames(data, tmp_path)
        }
    for kind, study in studies.items():
        assert_same(studies["mapping"], study, kind)
        assert len(study.rows) == (116 if holes else 120)


def test_dummies_leave_out_the_first_level_and_name_the_others():
    study = opened(table())
    assert study.names["covariates"] == ("x", "region[south]", "region[west]", "urban[True]")
    np.testing.assert_array_equal(study.numeric["covariates"][:, 1], table()["region"] == "south")
    np.testing.assert_array_equal(study.numeric["covariates"][:, 3], table()["urban"])


def test_types_and_shapes():
    study = opened(table(), cluster="site", coords=("lon", "lat"))
    assert study.numeric["outcome"].shape == (120,)
    assert study.numeric["treatment"].shape == (120, 1)
    assert all(values.dtype == np.float64 for values in study.numeric.values())
    assert study.codes["cluster"].dtype == np.int64
    np.testing.assert_array_equal(study.labels["cluster"][study.codes["cluster"]], table()["site"])


def test_missing_rows_are_dropped_counted_and_warned_about_once():
    data = table()
    data["y"][:4] = np.nan
    data["x"][2:6] = np.nan
    with pytest.warns(DroppedRowsWarning, match="6 of 120 rows") as caught, collected_warnings() as notes:
        study = opened(data)
    assert len(caught) == len(notes) == 1
    assert caught[0].filename == __file__.replace("test_open", "making")
    assert study.dropped == {"outcome y is missing": 4, "covariates x is missing": 2}
    np.testing.assert_array_equal(study.rows, np.arange(6, 120))


def test_rows_with_missing_roles_equal_rows_absent():
    data = table()
    hole = {name: values.copy() for name, values in data.items()}
    hole["x"][[5, 17]] = np.nan
    with pytest.warns(DroppedRowsWarning):
        study = opened(hole, cluster="site")
    other = opened(permuted(data, np.delete(np.arange(120), [5, 17])), cluster="site")
    for role in study.numeric:
        np.testing.assert_array_equal(study.numeric[role], other.numeric[role])
    np.testing.assert_array_equal(study.codes["cluster"], other.codes["cluster"])


def test_missing_values_outside_the_roles_drop_nothing():
    data = table() | {"spare": np.full(120, np.nan)}
    assert opened(data).dropped == {}


def test_missing_treatment_is_kept_as_not_eligible():
    data = table()
    data["w"] = np.where(np.arange(120) < 5, np.nan, data["w"])
    study = opened(data)
    assert np.isnan(study.numeric["treatment"]).sum() == 5
    assert len(study.rows) == 120


def test_one_of_several_treatments_may_be_constant():
    data = table() | {"rare": np.zeros(120)}
    study = open_study(data, [Role("treatment", ["w", "rare"], "binary", many=True)])
    assert study.numeric["treatment"].shape == (120, 2)


def test_whole_floats_are_codes_and_equal_integers():
    floats = open_study({"g": np.array([3.0, 1.0, 3.0])}, [Role("cluster", "g", "codes")])
    integers = open_study({"g": np.array([3, 1, 3])}, [Role("cluster", "g", "codes")])
    np.testing.assert_array_equal(floats.labels["cluster"], [1, 3])
    assert floats.labels["cluster"].dtype == np.int64
    assert floats.data_hash == integers.data_hash


def test_large_integers_stay_apart_as_codes():
    ids = np.array([2**60, 2**60 + 1, 2**60])
    study = open_study({"g": ids}, [Role("cluster", "g", "codes")])
    assert study.codes["cluster"].tolist() == [0, 1, 0]


def test_the_text_na_in_a_role_column_is_named():
    data = table()
    data["region"][:2] = "NA"
    with pytest.warns(TextMissingWarning, match=r"'region' \(2 rows\)"):
        study = opened(data)
    assert "region[north]" in study.names["covariates"]


def test_csv_tells_missing_from_the_text_na(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text('"y","site"\n1.5,"a"\n2.5,NA\nNA,"NA"\n3.5,"b"\n')
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.column("site", "cluster").missing, [False, True, False, False])
    assert frame.column("site", "cluster").values[2] == "NA"
    np.testing.assert_array_equal(frame.column("y", "outcome").missing, [False, False, True, False])


def test_csv_types_come_from_all_rows(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("x\n" + "1\n" * 700_000 + "2.5\n")
    assert read_frame(path).column("x", "outcome").values[-1] == 2.5


def test_dates_from_text_years_and_timestamps():
    role = [Role("time", "t", "date")]
    for values in (["2015-06-30", "2016-01-01"], np.array(["2015-06-30", "2016-01-01"], "datetime64[ns]")):
        study = open_study({"t": values}, role)
        np.testing.assert_array_equal(study.dates["time"], np.array(["2015-06-30", "2016-01-01"], "datetime64[D]"))
    years = open_study({"t": [2015, 2016]}, role)
    np.testing.assert_array_equal(years.dates["time"], np.array(["2015-01-01", "2016-01-01"], "datetime64[D]"))


def test_dates_make_equal_codes_in_every_frame():
    days = pd.date_range("2020-01-01", periods=4)
    role = [Role("time", "t", "codes")]
    pandas = open_study(pd.DataFrame({"t": days}), role)
    polars = open_study(pl.DataFrame({"t": [d.date() for d in days]}), role)
    assert pandas.data_hash == polars.data_hash


def test_a_lazy_frame_is_refused_with_the_cure():
    with pytest.raises(DataError, match="collect"):
        read_frame(pl.DataFrame({"y": [1.0]}).lazy())


def test_geodataframe_supplies_places_in_degrees(tmp_path):
    import geopandas as gpd
    from shapely.geometry import Point, Polygon

    shapes = [Point(33.0, 1.0), Polygon([(32, 0), (34, 0), (34, 2), (32, 2)]), Point(31.0, -1.0)]
    frame = gpd.GeoDataFrame({"y": [1.0, 2.0, 4.0]}, geometry=shapes, crs="EPSG:4326").to_crs("EPSG:32636")
    frame.to_file(tmp_path / "places.gpkg")
    frame.to_parquet(tmp_path / "places.parquet")
    for data in (frame, tmp_path / "places.gpkg", tmp_path / "places.parquet"):
        study = open_study(data, [Role("outcome", "y", "numeric")])
        np.testing.assert_allclose(study.lonlat[[0, 2]], [[33.0, 1.0], [31.0, -1.0]], atol=1e-6)
        assert shapes[1].contains(Point(*study.lonlat[1]))


def test_longitudes_beyond_180_are_turned():
    study = opened(table() | {"lon": np.full(120, 190.0)}, coords=("lon", "lat"))
    assert (study.lonlat[:, 0] == -170.0).all()


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_permuted_rows_give_permuted_arrays(random):
    data = table(40)
    order = np.array(random.sample(range(40), 40))
    study, other = opened(data, cluster="site"), opened(permuted(data, order), cluster="site")
    for role in study.numeric:
        np.testing.assert_array_equal(study.numeric[role][order], other.numeric[role])
    np.testing.assert_array_equal(study.codes["cluster"][order], other.codes["cluster"])


def test_the_hash_sees_values_names_and_roles():
    data = table()
    hashes = {opened(data).data_hash, opened(data, cluster="site").data_hash}
    hashes.add(opened(data | {"y": data["y"] + 1e-12}).data_hash)
    hashes.add(opened(data | {"region": np.where(data["region"] == "west", "east", data["region"])}).data_hash)
    hashes.add(opened(data, coords=("lon", "lat")).data_hash)
    hashes.add(opened(data, embeddings=np.random.default_rng(0).normal(size=(120, 2))).data_hash)
    assert len(hashes) == 6
    assert opened(data | {"spare": data["y"]}).data_hash == opened(data).data_hash


def test_the_door_loads_no_heavy_module():
    code = (
        "import sys, causalsat.study.open, causalsat.study.fold_units\n"
        "print([m for m in ('pandas', 'pyarrow', 'scipy', 'geopandas', 'shapely', 'jax') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_rows_join_their_images():
    data = table()
    sites = sorted(set(data["site"]))
    matrix = np.random.default_rng(0).normal(size=(len(sites) + 3, 4))
    images = cs.Embeddings.from_matrix(matrix, ids=[*sites, "spare1", "spare2", "spare3"])
    study = opened(data, embeddings=images, embedding_key="site")
    assert len(study.embeddings) == len(sites)
    np.testing.assert_array_equal(study.embeddings.ids[study.image], data["site"])


def test_images_without_a_vector_drop_their_rows_by_status(tmp_path):
    data = table() | {"site": np.arange(120) // 4}
    matrix = np.random.default_rng(0).normal(size=(29, 4))
    status = np.array(["ok"] * 29, dtype=object)
    matrix[:3], status[:3] = np.nan, ["off_raster", "all_nodata", "off_raster"]
    images = cs.Embeddings.from_matrix(matrix, ids=np.arange(29), status=status)
    images.write(tmp_path / "e.parquet")
    for given_images in (images, tmp_path / "e.parquet", str(tmp_path / "e.parquet")):
        with pytest.warns(DroppedRowsWarning):
            study = opened(data, embeddings=given_images, embedding_key="site")
        assert study.dropped == {"image not among the embeddings": 4, "image all_nodata": 4, "image off_raster": 8}
        assert len(study.rows) == 104
        assert np.isfinite(study.embeddings.matrix[study.image]).all()


def test_a_matrix_joins_by_row_and_equal_rows_share_an_image():
    data = table()
    matrix = np.random.default_rng(0).normal(size=(120, 3))
    matrix[7] = matrix[3]
    study = opened(data, embeddings=matrix)
    assert len(study.embeddings) == 119
    assert study.image[7] == study.image[3]
    np.testing.assert_array_equal(study.embeddings.matrix[study.image], matrix.astype(np.float32))


def test_one_vector_everywhere_is_no_shared_image():
    study = opened(table(), embeddings=np.ones((120, 3)))
    assert len(study.embeddings) == 120


def test_a_matrix_with_a_key_keeps_one_image_per_key():
    data = table()
    names, code = np.unique(data["site"].astype(str), return_inverse=True)
    matrix = np.random.default_rng(0).normal(size=(len(names), 3))[code]
    study = opened(data, embeddings=matrix, embedding_key="site")
    np.testing.assert_array_equal(study.embeddings.ids, names)
    np.testing.assert_array_equal(study.image, code)


def test_a_key_without_embeddings_still_says_which_rows_share_an_image():
    study = opened(table(), embedding_key="site")
    assert study.embeddings is None
    np.testing.assert_array_equal(study.labels["embedding_key"][study.image], table()["site"])
