"""The RCF encoder: patches, whitening, filters, thresholds, columns."""

import numpy as np
import pytest

from causalsat import Rcf
from causalsat.errors import DataError, NumericalError, OptionError
from causalsat.raster.encoders.patches import draw_patches, standardise, whitened_filters, zca
from causalsat.raster.encoders.protocol import FitSample
from causalsat.raster.encoders.rcf import resize_chips
from tests.raster import jobs


def sample(n=8, side=14, bands=3, seed=0, holes=0.0):
    rng = np.random.default_rng(seed)
    pixels = rng.random((n, side, side, bands), dtype=np.float32)
    mask = rng.random((n, side, side)) >= holes
    names = tuple(f"b{i}" for i in range(bands))
    return FitSample(tuple(f"p{i}" for i in range(n)), pixels, mask, lambda p, m: p, names, side)


def golden_filters(patches, kept, eps):
    """Steps 1 to 3 in plain float64."""
    x = patches - patches.mean(axis=1, keepdims=True)
    norm = np.sqrt((x**2).sum(axis=1, keepdims=True))
    x = x / np.where(norm < 1e-8, 1.0, norm)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    z = vectors @ np.diag((values + eps) ** -0.5) @ vectors.T
    return (x @ z @ z.T)[kept]


def test_filters_follow_the_steps():
    drawn, ids = draw_patches(sample(), patch=3, n_patches=500, seed=0)
    assert drawn.shape == (500, 27)
    assert ids == tuple(f"p{i}" for i in range(8))
    filters = whitened_filters(drawn, n_filters=40, eps=1e-3, seed=0)
    every = golden_filters(drawn, slice(None), 1e-3)
    distance = np.abs(every[None] - filters[:, None].astype(np.float64)).max(axis=2)
    rows = distance.argmin(axis=1)
    assert len(set(rows.tolist())) == 40
    np.testing.assert_allclose(filters, every[rows], rtol=1e-4, atol=1e-4)


def test_patches_are_pieces_of_their_chips_and_fully_valid():
    given = sample(n=2, side=9, holes=0.1)
    drawn, _ = draw_patches(given, patch=3, n_patches=40, seed=0)
    windows = np.lib.stride_tricks.sliding_window_view(given.pixels, (3, 3), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    whole = np.lib.stride_tricks.sliding_window_view(given.mask, (3, 3), axis=(1, 2)).all(axis=(3, 4))
    allowed = {row.tobytes() for row in windows[whole].reshape(-1, 27).astype(np.float64)}
    assert all(row.tobytes() in allowed for row in drawn)


def test_whitening_makes_the_second_moment_of_patches_near_the_identity():
    drawn, _ = draw_patches(sample(n=30), patch=3, n_patches=4000, seed=0)
    x = standardise(drawn)
    whitened = x @ zca(x, 1e-9)
    moment = whitened.T @ whitened / len(x)
    np.testing.assert_allclose(np.linalg.eigvalsh(moment)[1:], 1.0, rtol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1.0, rtol=1e-12)
    assert (standardise(np.full((2, 27), 3.0)) == 0).all()


def test_patches_do_not_depend_on_other_chips_and_seed_zero_is_a_seed():
    given = sample()
    few = FitSample(given.ids[:4], given.pixels[:4], given.mask[:4], given.normalise, given.band_names, given.n_px)
    of_all, _ = draw_patches(given, patch=3, n_patches=80, seed=0)
    of_few, _ = draw_patches(few, patch=3, n_patches=40, seed=0)
    np.testing.assert_array_equal(of_all[:40], of_few)
    filters = [Rcf(n_features=8, n_patches=50, seed=s).fit(given).filters for s in (0, 0, 1)]
    np.testing.assert_array_equal(filters[0], filters[1])
    assert not np.array_equal(filters[0], filters[2])


def test_filters_from_permuted_places_are_equal(tmp_path):
    scene, places = jobs.raster(tmp_path), jobs.table(12)
    order = np.random.default_rng(0).permutation(12)
    moved = {"site": [places["site"][i] for i in order]} | {k: places[k][order] for k in ("longitude", "latitude")}
    one, two = jobs.embed(scene, places), jobs.embed(scene, moved)
    assert one.provenance["encoder_sha256"] == two.provenance["encoder_sha256"]
    np.testing.assert_array_equal(one.matrix[order], two.matrix)


def test_a_job_equals_numpy_on_the_saved_filters(tmp_path):
    from safetensors.numpy import load_file

    from tests.raster import making

    column, row = np.array([20, 47, 90]), np.array([30, 61, 88])
    table = jobs.embed(jobs.raster(tmp_path), making.at(*making.pixel(column, row)), out=tmp_path / "job")
    filters = load_file(tmp_path / "job" / "encoder" / "filters.safetensors")["filters"].astype(np.float64)
    whole = making.image(dtype="uint8").transpose(1, 2, 0) / 255.0
    for i in range(3):
        chip = whole[row[i] - 8 : row[i] + 8, column[i] - 8 : column[i] + 8]
        windows = np.lib.stride_tricks.sliding_window_view(chip, (3, 3), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
        response = windows.reshape(-1, 27) @ filters.T
        expected = np.concatenate([np.maximum(response, 0).mean(axis=0), np.maximum(-response, 0).mean(axis=0)])
        np.testing.assert_allclose(table.matrix[i], expected, rtol=1e-5)


def test_a_quantile_sets_the_threshold():
    given = sample()
    fitted = Rcf(n_features=8, n_patches=200, bias="q0.75").fit(given)
    drawn, _ = draw_patches(given, patch=3, n_patches=200, seed=0)
    expected = np.quantile(np.abs(drawn @ fitted.filters.T.astype(np.float64)), 0.75)
    assert fitted.bias == pytest.approx(expected, rel=1e-5)
    features = fitted.encode(given.pixels, given.mask)
    free = Rcf(n_features=8, n_patches=200).fit(given).encode(given.pixels, given.mask)
    assert (features <= free).all()
    assert (features < free).any()


def test_gaussian_filters_look_at_no_pixel():
    options = Rcf(n_features=200, patch=4, source="gaussian", seed=2)
    assert options.n_fit_places == 0
    one, two = options.fit(sample(seed=1)), options.fit(sample(seed=2))
    np.testing.assert_array_equal(one.filters, two.filters)
    assert one.filters.shape == (100, 48)
    assert abs(one.filters.mean()) < 0.05
    assert abs(one.filters.std() - 1) < 0.05


def test_columns_alternate_in_blocks_when_asked():
    given = sample()
    plain = Rcf(n_features=16, n_patches=100).fit(given)
    blocks = Rcf(n_features=16, n_patches=100, block=4).fit(given)
    assert plain.feature_names[:2] == ("rcf/0000+", "rcf/0001+")
    assert plain.feature_names[8] == "rcf/0000-"
    assert blocks.feature_names[:9] == (*(f"rcf/000{i}{s}" for s in "+-" for i in range(4)), "rcf/0004+")
    order = [plain.feature_names.index(name) for name in blocks.feature_names]
    np.testing.assert_array_equal(
        blocks.encode(given.pixels, given.mask), plain.encode(given.pixels, given.mask)[:, order]
    )


def test_the_papers_settings():
    options = Rcf.mosaiks()
    assert (options.n_filters, options.patch, options.bias, options.zca_eps) == (4096, 3, 0.0, 1e-3)
    assert (options.n_patches, options.n_fit, options.resize, options.block) == (100_000, 10, 256, 1024)


def test_resizing_keeps_constants_and_linear_ramps_and_never_blends_invalid_pixels():
    ramp = np.broadcast_to(np.arange(10.0, dtype=np.float32)[None, :, None, None], (1, 10, 10, 1)).copy()
    mask = np.ones((1, 10, 10), bool)
    large, valid = resize_chips(ramp, mask, 20)
    centres = np.clip((np.arange(20) + 0.5) / 2 - 0.5, 0, 9)
    np.testing.assert_allclose(large[0, :, 0, 0], centres, rtol=1e-5, atol=1e-6)
    assert valid.all()
    mask[0, 4, 4] = False
    ramp[0, 4, 4] = 1e9
    large, valid = resize_chips(ramp, mask, 20)
    assert large[valid].max() <= 9.0
    given = sample()
    resized = Rcf(n_features=4, n_patches=50, resize=20).fit(given)
    assert np.isfinite(resized.encode(given.pixels, given.mask)).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_features": 7}, "must be even"),
        ({"bias": "median"}, 'such as "q0.75"'),
        ({"bias": "q1.5"}, 'such as "q0.75"'),
        ({"bias": float("nan")}, "Rcf.bias"),
        ({"source": "noise"}, 'allowed: "data", "gaussian"'),
        ({"n_features": 512, "n_patches": 100}, "at least the 256 filters"),
        ({"block": 5}, "must divide"),
        ({"seed": -1}, "Rcf.seed"),
        ({"patch": 0}, "Rcf.patch"),
    ],
)
def test_refusals(options, match):
    with pytest.raises(OptionError, match=match):
        Rcf(**options)


def test_dead_ends_are_named():
    with pytest.raises(OptionError, match="larger than the chip of 14 pixels"):
        Rcf(patch=15).fit(sample())
    flat = sample()
    flat.pixels[:] = 0.5
    with pytest.raises(NumericalError, match="every patch of the fit sample is constant"):
        Rcf(n_features=4, n_patches=10).fit(flat)
    flat.mask[:] = False
    with pytest.raises(DataError, match="no fully valid 3 x 3 patch"):
        Rcf(n_features=4, n_patches=10).fit(flat)
