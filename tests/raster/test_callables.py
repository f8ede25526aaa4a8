"""Users' functions and joined encoders."""

import numpy as np
import pytest

from causalsat import Bands, Rcf
from causalsat.errors import DataError, OptionError
from causalsat.raster.encoders.callables import CallableEncoder
from causalsat.raster.encoders.joined import Joined, as_encoder
from causalsat.raster.encoders.protocol import FitSample
from tests.raster import jobs


def sample(n=4, side=8, bands=3):
    rng = np.random.default_rng(0)
    pixels = rng.random((n, side, side, bands), dtype=np.float32)
    mask = np.ones((n, side, side), bool)
    names = tuple(f"b{i}" for i in range(bands))
    return FitSample(tuple(f"p{i}" for i in range(n)), pixels, mask, lambda p, m: p, names, side)


def means(batch):
    return batch.mean(axis=(1, 2))


def masked_means(batch, mask):
    return np.stack([chip[valid].mean(axis=0) for chip, valid in zip(batch, mask)])


def test_width_is_learnt_and_shapes_are_checked():
    fitted = CallableEncoder(means, name="means", version="1").fit(sample())
    assert fitted.feature_names == ("means/0000", "means/0001", "means/0002")
    pixels = sample().pixels
    np.testing.assert_array_equal(fitted.encode(pixels, np.ones((4, 8, 8), bool)), means(pixels))
    with pytest.raises(DataError, match=r"returned shape \(4, 3\); it must return \(N, d\) = \(4, 5\)"):
        CallableEncoder(means, n_features=5).fit(sample()).encode(pixels, np.ones((4, 8, 8), bool))
    with pytest.raises(DataError, match="must return"):
        CallableEncoder(lambda batch: 1.0).fit(sample())


def test_numbers_that_are_not_finite_are_refused():
    fitted = CallableEncoder(lambda batch: means(batch) / 0.0 if batch.any() else means(batch)).fit(sample())
    with np.errstate(divide="ignore"), pytest.raises(DataError, match="not finite for 4 of 4 chips"):
        fitted.encode(sample().pixels, np.ones((4, 8, 8), bool))


def test_a_second_argument_receives_the_mask():
    mask = np.ones((4, 8, 8), bool)
    mask[:, 4:] = False
    fitted = CallableEncoder(masked_means).fit(sample())
    np.testing.assert_allclose(
        fitted.encode(sample().pixels, mask), sample().pixels[:, :4].mean(axis=(1, 2)), rtol=1e-6
    )


def test_functions_run_through_the_job_and_only_named_ones_resume(tmp_path):
    places, scene = jobs.table(6), jobs.raster(tmp_path)
    named = CallableEncoder(means, name="means", version="1")
    table = jobs.embed(scene, places, encoder=named, out=tmp_path / "named")
    np.testing.assert_array_equal(jobs.embed(scene, places, encoder=named, out=tmp_path / "named").matrix, table.matrix)
    with pytest.raises(DataError, match=r"encoder.version: stored '1', asked '2'"):
        jobs.embed(scene, places, encoder=CallableEncoder(means, name="means", version="2"), out=tmp_path / "named")
    jobs.embed(scene, places, encoder=means, out=tmp_path / "nameless")
    with pytest.raises(OptionError, match="cannot be hashed"):
        jobs.embed(scene, places, encoder=means, out=tmp_path / "nameless")


def test_a_list_joins_vectors_and_each_part_is_what_it_is_alone(tmp_path):
    places, scene = jobs.table(12), jobs.raster(tmp_path)
    other = Rcf(n_features=8, patch=3, n_patches=100, n_fit=3, seed=5)
    joined = jobs.embed(scene, places, encoder=["bands", jobs.SMALL, other], out=tmp_path / "job")
    alone = [jobs.embed(scene, places, encoder=e).matrix for e in ("bands", jobs.SMALL, other)]
    np.testing.assert_array_equal(joined.matrix, np.concatenate(alone, axis=1))
    assert len(set(joined.feature_names)) == joined.d
    np.testing.assert_array_equal(
        jobs.embed(scene, places, encoder=["bands", jobs.SMALL, other], out=tmp_path / "job").matrix, joined.matrix
    )


def test_what_may_be_an_encoder():
    assert as_encoder("rcf", seed=3) == Rcf(seed=3)
    assert as_encoder("bands") == Bands()
    assert isinstance(as_encoder(["bands", Rcf()]), Joined)
    with pytest.raises(OptionError, match='Did you mean "rcf"'):
        as_encoder("rfc")
    with pytest.raises(OptionError, match="is empty"):
        as_encoder([])
    with pytest.raises(OptionError, match="must be a name"):
        as_encoder(3)
