"""Embeddings: exact round trip, joins, the folder of a job."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import causalsat as cs
from causalsat.errors import DataError, UnfinishedJobError

FIELDS = ("ids", "matrix", "status", "valid_frac", "lonlat", "footprint", "footprint_crs", "chip_sha256", "image_date")


def full(n: int = 7, d: int = 5) -> cs.Embeddings:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(n, d))
    matrix[1] = np.nan
    lonlat = np.column_stack([rng.random(n), rng.random(n)])
    lonlat[2] = np.nan
    return cs.Embeddings.from_matrix(
        matrix,
        ids=[f"place {i}" for i in range(n)],
        feature_names=[f"band{j}" for j in range(d)],
        status=["ok", "off_raster", "partial", *["ok"] * (n - 3)],
        valid_frac=np.linspace(0, 1, n),
        lonlat=lonlat,
        footprint=rng.normal(size=(n, 4)),
        footprint_crs=["EPSG:32636", "EPSG:4326", *["EPSG:32635"] * (n - 2)],
        chip_sha256=["", *["ab"] * (n - 1)],
        image_date=np.array(["2014-03-01", "NaT", *["2015-06-30"] * (n - 2)], "datetime64[D]"),
        provenance={"encoder": {"name": "bands", "k": 3}, "sources": ["a.tif"]},
    )


def assert_equal(a: cs.Embeddings, b: cs.Embeddings) -> None:
    for name in FIELDS:
        mine, theirs = getattr(a, name), getattr(b, name)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            assert mine.dtype.kind == theirs.dtype.kind, name
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
    assert a.feature_names == b.feature_names
    assert a.provenance == b.provenance


def test_round_trip_is_exact(tmp_path):
    full().write(tmp_path / "e.parquet")
    back = cs.Embeddings.read(tmp_path / "e.parquet")
    assert_equal(full(), back)
    assert back.matrix.dtype == np.float32
    assert [p.name for p in tmp_path.iterdir()] == ["e.parquet"]


def test_round_trip_keeps_what_is_unknown_unknown(tmp_path):
    plain = cs.Embeddings.from_matrix(np.eye(3))
    plain.write(tmp_path / "e.parquet")
    back = cs.Embeddings.read(tmp_path / "e.parquet")
    assert_equal(plain, back)
    assert back.lonlat is None
    assert back.image_date is None


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(width=32, allow_infinity=False)
    )
)
def test_any_vectors_survive_the_file_bit_for_bit(tmp_path_factory, matrix):
    path = tmp_path_factory.mktemp("e") / "e.parquet"
    images = cs.Embeddings.from_matrix(matrix)
    images.write(path)
    back = cs.Embeddings.read(path).matrix
    seen = ~np.isnan(images.matrix)
    np.testing.assert_array_equal(images.matrix[seen].view(np.int32), back[seen].view(np.int32))
    np.testing.assert_array_equal(seen, ~np.isnan(back))


def test_equal_embeddings_give_equal_bytes(tmp_path):
    full().write(tmp_path / "a.parquet")
    full().write(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_vectors_are_split_by_byte_and_geopandas_reads_the_places(tmp_path):
    import geopandas as gpd
    import pyarrow.parquet as pq

    full().write(tmp_path / "e.parquet")
    group = pq.ParquetFile(tmp_path / "e.parquet").metadata.row_group(0)
    column = next(
        group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema.startswith("embedding")
    )
    assert "BYTE_STREAM_SPLIT" in column.encodings
    places = gpd.read_parquet(tmp_path / "e.parquet")
    assert places.crs.to_epsg() == 4326
    np.testing.assert_array_equal(places.geometry.x[[0, 3]], full().lonlat[[0, 3], 0])


def job(folder, finished: bool = True) -> cs.Embeddings:
    """A job of two shards whose places were worked on out of order."""
    import pyarrow.parquet as pq

    images = full(9)
    (folder / "parts").mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    whole = folder / "whole.parquet"
    images.write(whole)
    table = pq.read_table(whole)
    whole.unlink()
    about = {"feature_names": list(images.feature_names), "job_id": "j", "encoder_sha256": "e"}
    shards = ([4, 0, 8, 2], [1, 7, 3, 6, 5])
    for k, rows in enumerate(shards):
        part = table.take(rows).replace_schema_metadata(
            {"causalsat": json.dumps(about | {"shard": k, "n_rows": len(rows)})}
        )
        pq.write_table(part, folder / "parts" / f"part-{k:05d}.parquet")
    (folder / "parts" / ".part-00002.abc.tmp").write_text("half")
    if finished:
        parts = [{"name": f"part-{k:05d}.parquet"} for k in range(2)]
        (folder / "manifest.json").write_text(json.dumps({"job_id": "j", "parts": parts}))
    return images


def test_a_job_folder_reads_in_the_order_of_places(tmp_path):
    images = job(tmp_path / "out")
    back = cs.Embeddings.read(tmp_path / "out")
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(images, name), getattr(back, name), err_msg=name)
    assert back.provenance == {"job_id": "j", "encoder_sha256": "e"}


def test_an_unfinished_job_is_refused_unless_partial(tmp_path):
    job(tmp_path / "out", finished=False)
    (tmp_path / "out/parts/part-00001.parquet").unlink()
    with pytest.raises(UnfinishedJobError, match=r"1 parts are done.*partial=True"):
        cs.Embeddings.read(tmp_path / "out")
    assert cs.Embeddings.read(tmp_path / "out", partial=True).ids.tolist() == [
        "place 0",
        "place 2",
        "place 4",
        "place 8",
    ]


def test_a_lost_part_is_named(tmp_path):
    job(tmp_path / "out")
    (tmp_path / "out/parts/part-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 2 parts.*part-00001"):
        cs.Embeddings.read(tmp_path / "out")


def test_align_finds_positions_and_marks_the_absent():
    images = cs.Embeddings.from_matrix(np.eye(3), ids=[10, 20, 30])
    assert images.align([30, "10", 20.0, 5]).tolist() == [2, 0, 1, -1]
    with pytest.raises(DataError, match="cannot tell"):
        cs.Embeddings.from_matrix(np.eye(2), ids=["a", "a"]).align(["a"])


def test_status_of_vectors_with_holes():
    images = cs.Embeddings.from_matrix([[1.0, 2.0], [np.nan, 2.0], [np.nan, np.nan]])
    assert images.status.tolist() == ["ok", "low_valid", "all_nodata"]
    assert images.usable.tolist() == [True, False, False]
    assert np.isnan(images.matrix[1]).all()
    assert repr(images) == "Embeddings(3 images, 2 features, 1 usable)"


def test_to_wide_names_every_feature():
    wide = full().to_wide()
    assert wide.columns.tolist() == ["unit_id", "status", "valid_frac", "longitude", "latitude", *full().feature_names]
    np.testing.assert_array_equal(wide["band2"], full().matrix[:, 2])


def test_take_keeps_everything_of_an_image():
    part = full().take([3, 0])
    assert part.ids.tolist() == ["place 3", "place 0"]
    assert part.footprint_crs.tolist() == ["EPSG:32635", "EPSG:32636"]
    np.testing.assert_array_equal(part.matrix[1], full().matrix[0])


def test_a_whole_job_of_another_width_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"status has shape \(2,\) and 3 ids ask for \(3,\)"):
        cs.Embeddings.from_matrix(np.eye(3), status=["ok", "ok"])


def test_a_part_of_a_job_reads_back(tmp_path):
    """The job's own writer and this reader agree."""
    from causalsat.raster.parts import ShardRows, part_bytes

    images, n = full(), 7
    known = np.array([0.5] * n)
    rows = ShardRows(
        unit_id=images.ids, row=np.arange(n), date=images.image_date, embedding=images.matrix, valid_frac=images.valid_frac,
        masked_frac=known, n_frames=np.ones(n), centre_offset_m=known, native_gsd_m=known, warped=known > 1,
        source_id=np.array(["a.tif"] * n), n_sources=np.ones(n), status=images.status, chip_sha256=images.chip_sha256,
        bounds=images.footprint, chip_crs=images.footprint_crs, lonlat=images.lonlat,
    )  # fmt: skip
    path = tmp_path / "part-00000.parquet"
    path.write_bytes(
        part_bytes(rows, {"feature_names": list(images.feature_names), "shard": 0, "n_rows": n, "job_id": "j"})
    )
    back = cs.Embeddings.read(path)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(images, name), getattr(back, name), err_msg=name)
    assert back.provenance == {"job_id": "j"}
