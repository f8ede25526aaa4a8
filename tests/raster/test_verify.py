"""``verify``: a whole job passes, a harmed one says what is wrong."""

import json
import shutil

import numpy as np
import pytest

import causalsat as cs
from causalsat.errors import OptionError, UnfinishedJobError
from causalsat.raster import parts
from causalsat.raster.encoders.callables import CallableEncoder
from causalsat.raster.store import part_path
from causalsat.raster.verify import verify
from tests.raster import jobs, making


@pytest.fixture
def job(tmp_path):
    scene, places = jobs.raster(tmp_path), jobs.table(30)
    jobs.embed(scene, places, encoder=["bands", jobs.SMALL], out=tmp_path / "job", shard_rows=10)
    return tmp_path / "job"


def rewritten(folder, change):
    """Change the rows of part 1 and make the manifest agree with the new bytes."""
    path = part_path(folder, 1)
    path.write_bytes(parts.part_bytes(change(parts.part_rows(path)), parts.part_metadata(path)[0]))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parts"][1]["sha256"] = parts.file_sha256(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def replaced(rows, **values):
    return parts.ShardRows(**{name: values.get(name, getattr(rows, name)) for name in rows.__dataclass_fields__})


def test_a_whole_job_passes_to_the_last_bit(job):
    found = verify(job)
    assert found.passed
    assert found.exact
    assert (found.n_parts, found.n_rows, found.n_sampled, found.max_difference) == (3, 30, 30, 0.0)
    assert verify(job, sample=0).n_sampled == 0
    assert verify(job, sample=4, seed=1).n_sampled == 4


def test_changed_bytes_are_found(job):
    path = part_path(job, 1)
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(bytes(content))
    assert verify(job).problems == ("part-00001.parquet was changed: its hash is not the one in manifest.json",)
    path.unlink()
    assert verify(job).problems == ("part-00001.parquet is missing",)


def test_changed_features_are_found_even_under_a_matching_manifest(job):
    rewritten(job, lambda rows: replaced(rows, embedding=rows.embedding + np.float32(0.25)))
    found = verify(job)
    assert not found.passed
    assert found.max_difference == pytest.approx(0.25)
    assert "re-encoded features differ by up to 0.25" in found.problems


def test_repeated_rows_and_statuses_against_vectors_are_found(job):
    rewritten(job, lambda rows: replaced(rows, row=np.full(10, 3), status=np.full(10, "all_nodata")))
    problems = verify(job).problems
    assert any("not the places 0 to 29, each once" in p for p in problems)
    assert any("10 rows have a vector against their status" in p for p in problems)


def test_changed_rasters_are_found(job, tmp_path):
    making.write(tmp_path / "scene.tif", making.image(dtype="uint8", seed=3))
    problems = verify(job).problems
    assert any(p.startswith("sources[0].sha256 was") for p in problems)
    assert any("other pixels" in p for p in problems)


def test_other_numerics_are_compared_within_a_tolerance(job, monkeypatch):
    monkeypatch.setattr("causalsat.raster.verify.numerics", lambda size: {"device": "another"})
    found = verify(job)
    assert found.passed
    assert not found.exact


def test_a_moved_job_is_told_where_its_rasters_are(job, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(tmp_path / "scene.tif", moved / "scene.tif")
    assert verify(job, rasters=moved / "scene.tif").passed


def test_dated_jobs_and_functions_ask_for_what_the_folder_cannot_hold(tmp_path):
    scene, places = jobs.raster(tmp_path), jobs.table(6)
    dated = places | {"year": np.full(6, 2010)}
    options = {"dates": cs.Dates("year", window_months=(-120, 0)), "image_date": "2008-05-01"}
    jobs.embed(scene, dated, encoder="bands", out=tmp_path / "dated", **options)
    with pytest.raises(OptionError, match="places= is needed"):
        verify(tmp_path / "dated")
    assert verify(tmp_path / "dated", places=dated).passed
    named = CallableEncoder(lambda batch: batch.mean(axis=(1, 2)), name="means", version="1")
    jobs.embed(scene, places, encoder=named, out=tmp_path / "named")
    with pytest.raises(OptionError, match="encoder= is needed"):
        verify(tmp_path / "named")
    assert verify(tmp_path / "named", encoder=named).passed


def test_arrays_and_unfinished_jobs(job, tmp_path):
    from rasterio.transform import from_origin

    source = (making.image(dtype="uint8"), from_origin(*making.CORNER, 10, 10), making.ZONE)
    jobs.embed(source, jobs.table(5), out=tmp_path / "array")
    with pytest.raises(OptionError, match="rasters= is needed"):
        verify(tmp_path / "array")
    assert verify(tmp_path / "array", rasters=source).passed
    (job / "manifest.json").unlink()
    with pytest.raises(UnfinishedJobError):
        verify(job)
