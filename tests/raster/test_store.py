"""The job folder: layout, identity, resume, refusals."""

import errno
import json
import os
import socket
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

import causalsat as cs
from causalsat.errors import DataError, UnfinishedJobError
from causalsat.raster import parts, store
from causalsat.raster.lock import folder_lock
from tests.raster import jobs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished job of four parts: its folder, its raster, its places, the table in memory."""
    folder = tmp_path_factory.mktemp("store")
    scene, places = jobs.raster(folder), jobs.table()
    table = jobs.embed(scene, places, out=folder / "job", shard_rows=10)
    return folder / "job", scene, places, table


@pytest.fixture
def job(finished, tmp_path):
    """A copy of the finished job that a test may break."""
    import shutil

    folder, scene, places, table = finished
    shutil.copytree(folder, tmp_path / "job")
    return tmp_path / "job", scene, places, table


def again(job, **options):
    folder, scene, places, _ = job
    return jobs.embed(scene, places, **{"out": folder, "shard_rows": 10} | options)


def test_layout_and_columns(finished):
    folder, _, _, table = finished
    assert sorted(p.name for p in folder.iterdir()) == ["encoder", "job.json", "manifest.json", "parts"]
    assert sorted(p.name for p in (folder / "encoder").iterdir()) == [
        "encoder.json",
        "filters.safetensors",
        "normaliser.json",
    ]
    schema = pq.read_schema(folder / "parts" / "part-00000.parquet")
    types = {field.name: str(field.type) for field in schema}
    text = "dictionary<values=string, indices=int32, ordered=0>"
    assert types == {
        "unit_id": "string", "row": "int64", "date": "timestamp[us]", "draw": "int16",
        "embedding": "fixed_size_list<element: float>[16]", "valid_frac": "float", "masked_frac": "float",
        "n_frames": "int16", "centre_offset_m": "float", "native_gsd_m": "float", "warped": "bool",
        "source_id": text, "n_sources": "int16", "status": text, "chip_sha256": "string", "minx": "double",
        "miny": "double", "maxx": "double", "maxy": "double", "chip_crs": text, "geometry": "binary",
    }  # fmt: skip
    about = json.loads(schema.metadata[b"causalsat"])
    assert tuple(about["feature_names"]) == table.feature_names
    assert about["encoder_sha256"] == json.loads((folder / "encoder" / "encoder.json").read_text())["sha256"]


def test_vectors_are_byte_stream_split_without_dictionary(finished):
    footer = pq.read_metadata(finished[0] / "parts" / "part-00000.parquet")
    columns = {
        footer.row_group(0).column(i).path_in_schema: footer.row_group(0).column(i) for i in range(footer.num_columns)
    }
    vectors = columns["embedding.list.element"]
    assert "BYTE_STREAM_SPLIT" in vectors.encodings
    assert not any("DICTIONARY" in name for name in vectors.encodings)
    assert {column.compression for column in columns.values()} == {"ZSTD"}


def test_geometry_is_geoparquet(finished):
    import geopandas as gpd

    folder, _, places, _ = finished
    frame = gpd.read_parquet(folder / "parts" / "part-00000.parquet")
    assert frame.crs.to_epsg() == 4326
    np.testing.assert_array_equal(frame.geometry.x, places["longitude"][frame["row"]])


def test_rows_of_a_part_are_in_input_order_and_all_rows_appear_once(finished):
    rows = [pq.read_table(p)["row"].to_numpy() for p in sorted((finished[0] / "parts").iterdir())]
    assert all((np.diff(r) > 0).all() for r in rows)
    assert sorted(np.concatenate(rows)) == list(range(40))


def test_memory_folder_and_read_give_the_same_table(finished):
    folder, scene, places, table = finished
    for other in (cs.Embeddings.read(folder), jobs.embed(scene, places)):
        for name in ("ids", "matrix", "status", "valid_frac", "lonlat", "footprint", "footprint_crs", "chip_sha256"):
            np.testing.assert_array_equal(getattr(other, name), getattr(table, name))


def test_equal_work_gives_equal_bytes_and_no_path_or_time_in_parts(finished, tmp_path):
    folder, scene, places, _ = finished
    jobs.embed(scene, places, out=tmp_path / "twin", shard_rows=10)
    assert jobs.contents(tmp_path / "twin") == jobs.contents(folder)
    assert not any(str(scene.parent).encode() in content for content in jobs.contents(folder).values())


def test_job_id_is_canonical():
    one = {"a": [1, 2.5], "b": {"x": None, "y": "é"}}
    assert store.job_id(one) == store.job_id({"b": {"y": "é", "x": None}, "a": (1, 2.5)})
    assert store.job_id(one) != store.job_id(one | {"a": [1, 2]})
    assert store.canonical({"b": 1, "a": 2}) == '{"a":2,"b":1}'
    with pytest.raises(ValueError):
        store.canonical({"a": float("nan")})


def test_only_what_is_missing_is_made_again(job, monkeypatch):
    before = jobs.contents(job[0])
    made = []
    real = store.write_part
    monkeypatch.setattr("causalsat.raster.job.write_part", lambda *a: (made.append(a[1]), real(*a)))
    again(job)
    assert made == []
    (job[0] / "parts" / "part-00002.parquet").unlink()
    again(job)
    assert made == [2]
    assert jobs.contents(job[0]) == before


@pytest.mark.parametrize("harm", ["footer", "empty", "other", "rows"])
def test_a_broken_part_is_made_again(job, harm):
    before = jobs.contents(job[0])
    path = job[0] / "parts" / "part-00001.parquet"
    whole = path.read_bytes()
    if harm == "footer":
        path.write_bytes(whole[:-20])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "other":
        path.write_bytes((job[0] / "parts" / "part-00000.parquet").read_bytes())
    else:
        rows = parts.part_rows(path)
        short = parts.ShardRows(**{n: getattr(rows, n)[:-1] for n in rows.__dataclass_fields__})
        path.write_bytes(parts.part_bytes(short, parts.part_metadata(path)[0]))
    again(job)
    assert jobs.contents(job[0]) == before


def test_an_interrupted_job_is_refused_by_read_and_then_finished(job):
    (job[0] / "manifest.json").unlink()
    (job[0] / "parts" / "part-00003.parquet").unlink()
    with pytest.raises(UnfinishedJobError):
        cs.Embeddings.read(job[0])
    assert len(cs.Embeddings.read(job[0], partial=True)) == 30
    again(job)
    assert len(cs.Embeddings.read(job[0])) == 40


def test_filters_are_read_and_never_fitted_again(job, monkeypatch):
    (job[0] / "parts" / "part-00000.parquet").unlink()
    monkeypatch.setattr("causalsat.raster.job.fit", lambda work: pytest.fail("fitted again"))
    np.testing.assert_array_equal(again(job).matrix, job[3].matrix)


def test_old_temporaries_are_removed(job):
    for name in ("parts/.part-00001.parquet.ab12.tmp", ".job.json.cd.tmp", "encoder/.encoder.json.ef.tmp"):
        (job[0] / name).write_bytes(b"half")
    again(job)
    assert not [p for p in job[0].rglob("*") if p.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"encoder": cs.Rcf(n_features=16, n_patches=400, n_fit=6, seed=1)}, r"encoder.seed: stored 0, asked 1"),
        ({"size_m": 200}, r"chips.size_m: stored 160.0, asked 200.0"),
        ({"min_valid_frac": 0.9}, r"chips.min_valid_frac: stored 0.5, asked 0.9"),
        ({"batch_size": 8}, r"numerics.batch_size: stored 32, asked 8"),
        ({"normalise": cs.Normalise(spread=100)}, r"normalise.spread: stored None, asked \[100.0\]"),
        ({"shard_rows": 20}, r"chips.shard_rows: stored 10, asked 20"),
    ],
)
def test_another_request_in_the_same_folder_is_refused_with_the_fields(job, options, match):
    before = jobs.contents(job[0])
    with pytest.raises(DataError, match=match):
        again(job, **options)
    assert jobs.contents(job[0]) == before


def test_other_places_or_rasters_are_refused(job, tmp_path):
    folder, _, places, _ = job
    moved = places | {"longitude": places["longitude"] + 1e-4}
    with pytest.raises(DataError, match=r"places.sha256: stored"):
        jobs.embed(job[1], moved, out=folder, shard_rows=10)
    from tests.raster import making

    other = making.write(tmp_path / "scene.tif", making.image(dtype="uint8", seed=9))
    with pytest.raises(DataError, match=r"sources\[0\].sha256: stored"):
        jobs.embed(other, places, out=folder, shard_rows=10)


def test_folders_of_something_else_and_resume_false(job, tmp_path):
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds files of something else \(notes.txt\)"):
        again(job, out=tmp_path / "papers")
    with pytest.raises(DataError, match="resume=False"):
        again(job, resume=False)


def test_a_second_job_is_locked_out(job):
    with folder_lock(job[0]), pytest.raises(DataError, match=f"process {os.getpid()} on .* holds job.lock"):
        again(job)
    assert not (job[0] / "job.lock").exists()
    again(job)


def test_a_lock_of_another_machine_counts_while_its_heart_beats(job):
    lock = job[0] / "job.lock"
    lock.write_text(json.dumps({"host": f"not-{socket.gethostname()}", "process": 1}))
    with pytest.raises(DataError, match="process 1 on not-"):
        again(job)
    old = time.time() - 3600
    os.utime(lock, (old, old))
    again(job)
    lock.write_text(json.dumps({"host": socket.gethostname(), "process": 1}))
    again(job)
    assert not lock.exists()


def test_a_full_disk_names_bytes_and_leaves_nothing_half_written(job, monkeypatch):
    folder = job[0]
    for shard in (1, 2):
        (folder / "parts" / f"part-0000{shard}.parquet").unlink()
    real = os.fsync
    calls = {"left": 1}

    def full(handle):
        if calls["left"] == 0 and "part-" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        calls["left"] -= "part-" in os.readlink(f"/proc/self/fd/{handle}")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"part-00002.parquet.*\d+ bytes are needed and \d+ are free"):
        again(job)
    monkeypatch.undo()
    assert sorted(p.name for p in (folder / "parts").iterdir()) == [f"part-0000{i}.parquet" for i in (0, 1, 3)]
    assert not (folder / "manifest.json").exists()
    np.testing.assert_array_equal(again(job).matrix, job[3].matrix)


def test_a_disk_that_cannot_hold_the_job_is_refused_before_work(finished, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"needs up to 11360 bytes for 40 rows of 16 features and 1000 are free"):
        jobs.embed(finished[1], finished[2], out=tmp_path / "job")
    assert not list((tmp_path / "job" / "parts").iterdir())


def test_a_changed_encoder_file_is_refused(job):
    path = job[0] / "encoder" / "normaliser.json"
    path.write_text(path.read_text().replace("255.0", "254.0"))
    with pytest.raises(DataError, match="was changed after it was saved"):
        again(job)


def test_missing_vectors_are_nan_and_not_null(tmp_path):
    places = jobs.table(4)
    places["longitude"] = np.where(np.arange(4) == 2, np.nan, places["longitude"])
    with pytest.warns(cs.errors.RasterCoverageWarning, match="bad_place: 1"):
        jobs.embed(jobs.raster(tmp_path), places, out=tmp_path / "job")
    table = pq.read_table(tmp_path / "job" / "parts" / "part-00000.parquet")
    assert table["embedding"].null_count == 0
    assert np.isnan(table["embedding"].combine_chunks().flatten().to_numpy().reshape(4, -1)[2]).all()
    assert table["geometry"].null_count == 1
    rows = parts.part_rows(tmp_path / "job" / "parts" / "part-00000.parquet")
    assert np.isnan(rows.lonlat[2]).all()
    assert rows.status.tolist() == ["ok", "ok", "bad_place", "ok"]
