"""Chips against slices of the array and against rasterio's own warps."""

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.transform import Affine, from_origin
from rasterio.vrt import WarpedVRT

from causalsat.raster.reader import ChipReader
from tests.raster.making import CORNER, at, chips, degrees, flipped, image, pixel, plan_of, write


def padded(array, column, row, n):
    """Brute force: the window with zeros and False beyond the raster."""
    out, mask = np.zeros((n, n, array.shape[0]), array.dtype), np.zeros((n, n), bool)
    for i in range(n):
        for j in range(n):
            if 0 <= row + i < array.shape[1] and 0 <= column + j < array.shape[2]:
                out[i, j], mask[i, j] = array[:, row + i, column + j], True
    return out, mask


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    array = image()
    return write(tmp_path_factory.mktemp("grid") / "a.tif", array, tiled=True, blockxsize=64, blockysize=64), array


@settings(max_examples=40, deadline=None)
@given(column=st.floats(0.01, 149.9), row=st.floats(0.01, 119.9), n=st.integers(1, 40))
def test_plain_windows_equal_brute_force(raster, column, row, n):
    path, array = raster
    column, row = round(column, 3), round(row, 3)
    batch = chips(path, at(*pixel(column, row)), size_m=10.0 * n)
    first = [
        int(np.floor(c + (0.5 if n % 2 == 0 else 0) + 1e-9)) - (n // 2 if n % 2 == 0 else (n - 1) // 2)
        for c in (column, row)
    ]
    pixels, mask = padded(array, *first, n)
    assert np.array_equal(batch.pixels[0], pixels)
    assert np.array_equal(batch.mask[0], mask)
    assert batch.valid_frac[0] == pytest.approx(mask.mean())
    assert not batch.warped[0]
    assert batch.centre_offset_m[0] <= 10 / np.sqrt(2) + 1e-3


def test_an_edge_place_keeps_its_centre(raster):
    path, array = raster
    batch = chips(path, at(*pixel(0.5, 0.5)), size_m=150)
    assert (batch.pixels[0, 7, 7] == array[:, 0, 0]).all()
    assert batch.status[0] == "partial"
    assert batch.valid_frac[0] == pytest.approx(64 / 225)
    assert batch.masked_frac[0] == 0
    assert batch.bounds[0].tolist() == [CORNER[0] - 70, CORNER[1] - 80, CORNER[0] + 80, CORNER[1] + 70]


def test_a_window_larger_than_the_raster_is_padded(tmp_path):
    array = image(12, 9)
    batch = chips(write(tmp_path / "a.tif", array), at(*pixel(4.5, 6.0)), size_m=300)
    assert batch.valid_frac[0] == pytest.approx(12 * 9 / 900)
    assert np.array_equal(batch.pixels[0][batch.mask[0]], array.transpose(1, 2, 0).reshape(-1, 3))


def own_warp(path, epsg, origin, step, n, method="bilinear", **options):
    with rasterio.open(path) as src, WarpedVRT(
        src, crs=epsg, transform=from_origin(*origin, step, step), width=n, height=n,
        resampling=Resampling[method], **options,
    ) as chip:  # fmt: skip
        return chip.read()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32635", "EPSG:3035", "EPSG:32636"])
def test_warped_chips_equal_rasterios_own_warp(tmp_path, crs):
    from pyproj import Transformer

    centre = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(33.01, 40.02)
    step = {"EPSG:4326": 1e-4}.get(crs, 12.0)
    transform = from_origin(centre[0] - 60 * step, centre[1] + 50 * step, step, step)
    path = write(tmp_path / "a.tif", image(100, 120), crs=crs, transform=transform)
    rng = np.random.default_rng(3)
    lon, lat = degrees(centre[0] + step * rng.uniform(-60, 60, 12), centre[1] + step * rng.uniform(-50, 50, 12), crs)
    table = {"site": np.arange(12), "longitude": lon, "latitude": lat}
    batch = chips(path, table, size_m=320, gsd_m=10)
    for i in range(12):
        left, bottom, right, top = batch.bounds[i]
        expected = own_warp(path, batch.crs[i], (left, top), 10, 32, add_alpha=True)
        assert np.array_equal(batch.mask[i], expected[3] > 0)
        assert np.array_equal(batch.pixels[i][batch.mask[i]], expected[:3].transpose(1, 2, 0)[batch.mask[i]])
        assert (batch.crs[i], batch.centre_offset_m[i]) == ("EPSG:32636", 0)
        assert ((left + right) / 2, (bottom + top) / 2) == pytest.approx(
            Transformer.from_crs("EPSG:4326", 32636, always_xy=True).transform(lon[i], lat[i]), abs=1e-6
        )


def test_an_identity_warp_equals_the_plain_window(raster):
    path, _ = raster
    x, y = pixel(50.0, 60.0)
    snapped, exact = (chips(path, at(x, y), size_m=160, align=a) for a in ("snap", "exact"))
    with rasterio.open(path) as src:
        whole = own_warp(path, src.crs, (x[0] - 80, y[0] + 80), 10, 16)
    assert np.array_equal(snapped.pixels[0], whole.transpose(1, 2, 0))
    assert np.array_equal(snapped.pixels[0], exact.pixels[0])
    assert snapped.sha256[0] == exact.sha256[0]


def test_exact_alignment_has_no_offset(raster):
    batch = chips(raster[0], at(*pixel(50.3, 60.7)), size_m=160, align="exact")
    assert (batch.centre_offset_m[0], bool(batch.warped[0]), batch.crs[0]) == (0, True, "EPSG:32636")


def test_bottom_up_equals_its_top_down_twin(tmp_path):
    array = image()
    top = from_origin(*CORNER, 10, 10)
    down = write(tmp_path / "down.tif", array, transform=top)
    up = write(tmp_path / "up.tif", array[:, ::-1], transform=flipped(top, array.shape[1]))
    table = at(*pixel([0.2, 75.3, 149.8, 60], [0.1, 60.2, 119.9, 119]))
    for options in ({}, {"align": "exact"}, {"gsd_m": 25, "size_m": 500}, {"grid": "laea"}):
        one, two = chips(down, table, **options), chips(up, table, **options)
        assert np.array_equal(one.mask, two.mask)
        assert np.array_equal(one.pixels, two.pixels)
        assert one.sha256.tolist() == two.sha256.tolist()


def test_rotated_rasters_are_warped(tmp_path):
    turn = Affine.translation(*CORNER) * Affine.rotation(-20) * Affine.scale(10, -10)
    path = write(tmp_path / "a.tif", image(), transform=turn)
    x, y = turn * (70, 60)
    batch = chips(path, at(x, y), gsd_m=10)
    expected = own_warp(path, "EPSG:32636", (batch.bounds[0, 0], batch.bounds[0, 3]), 10, 16, add_alpha=True)
    assert batch.warped[0]
    assert np.array_equal(batch.pixels[0], expected[:3].transpose(1, 2, 0))


LAYOUTS = [
    {},
    {"tiled": True, "blockxsize": 32, "blockysize": 32},
    {"tiled": True, "blockxsize": 128, "blockysize": 64, "compress": "deflate", "predictor": 2},
    {"interleave": "pixel"},
    {"interleave": "band", "compress": "lzw"},
]


def test_layout_does_not_matter(tmp_path):
    array, table = image(), at(*pixel([3, 75.3, 140], [9, 60.2, 100]))
    batches = [chips(write(tmp_path / f"{i}.tif", array, **layout), table) for i, layout in enumerate(LAYOUTS)]
    for other in batches[1:]:
        assert other.sha256.tolist() == batches[0].sha256.tolist()
        assert np.array_equal(other.pixels, batches[0].pixels)


@settings(max_examples=10, deadline=None)
@given(right=st.integers(-300, 300), down=st.integers(-300, 300))
def test_shifting_place_and_raster_by_whole_pixels_changes_nothing(tmp_path_factory, right, down):
    folder = tmp_path_factory.mktemp("shift")
    x, y = pixel([20.3, 75.7], [30.1, 2.2])
    here = chips(write(folder / "a.tif", image()), at(x, y))
    moved = from_origin(CORNER[0] + 10 * right, CORNER[1] - 10 * down, 10, 10)
    there = chips(write(folder / "b.tif", image(), transform=moved), at(x + 10 * right, y - 10 * down))
    assert np.array_equal(here.pixels, there.pixels)
    assert here.sha256.tolist() == there.sha256.tolist()


def test_tiles_cut_from_one_raster_equal_the_raster(tmp_path):
    array = image(128, 128)
    whole = write(tmp_path / "whole.tif", array)
    tiles = [
        write(tmp_path / f"t{i}{j}.tif", array[:, i : i + 64, j : j + 64],
              transform=from_origin(CORNER[0] + 10 * j, CORNER[1] - 10 * i, 10, 10))
        for i in (0, 64) for j in (0, 64)
    ]  # fmt: skip
    table = at(*pixel([64, 64, 10, 60.3, 127.9], [64, 10, 64, 70.2, 127.9]))
    one, many = chips(whole, table), chips(tiles, table)
    assert np.array_equal(one.pixels, many.pixels)
    assert one.sha256.tolist() == many.sha256.tolist()
    assert many.n_sources.tolist() == [4, 2, 2, 4, 1]


def test_many_tiles_are_matched_through_the_tree(tmp_path):
    array = image(96, 96)
    for i in range(0, 96, 16):
        for j in range(0, 96, 16):
            where = from_origin(CORNER[0] + 10 * j, CORNER[1] - 10 * i, 10, 10)
            write(tmp_path / f"t{i:02d}_{j:02d}.tif", array[:, i : i + 16, j : j + 16], transform=where)
    rng = np.random.default_rng(0)
    table = at(*pixel(rng.uniform(0, 96, 20), rng.uniform(0, 96, 20)))
    whole = chips(write(tmp_path.parent / "whole36.tif", array), table, size_m=200)
    assert chips(tmp_path, table, size_m=200).sha256.tolist() == whole.sha256.tolist()


def test_pixels_come_first_from_the_raster_that_covers_most(tmp_path):
    left = write(tmp_path / "left.tif", np.full((1, 40, 40), 1, "uint8"))
    right = write(
        tmp_path / "right.tif",
        np.full((1, 40, 40), 2, "uint8"),
        transform=from_origin(CORNER[0] + 300, CORNER[1], 10, 10),
    )
    table = at(*pixel([34, 36, 35], [20, 20, 20]))
    forward, backward = chips([left, right], table, size_m=200), chips([right, left], table, size_m=200)
    assert forward.source_id.tolist() == ["left.tif", "right.tif", "left.tif"]
    assert backward.source_id.tolist() == ["left.tif", "right.tif", "right.tif"]
    assert forward.pixels[0, 0, :, 0].tolist() == [1] * 16 + [2] * 4
    assert forward.pixels[1, 0, :, 0].tolist() == [1] * 4 + [2] * 16


def test_a_raster_off_phase_is_warped_onto_the_primary_grid(tmp_path):
    left = write(tmp_path / "left.tif", np.full((1, 40, 40), 10, "uint8"))
    right = write(
        tmp_path / "right.tif",
        np.full((1, 40, 40), 20, "uint8"),
        transform=from_origin(CORNER[0] + 403, CORNER[1], 10, 10),
    )
    batch = chips([left, right], at(*pixel(38, 20)), size_m=160)
    assert (batch.source_id[0], bool(batch.warped[0]), batch.n_sources[0]) == ("left.tif", False, 2)
    assert batch.pixels[0, 0, :, 0].tolist() == [10] * 10 + [20] * 6


def test_coarse_chips_are_averaged(tmp_path):
    array = image(64, 64, 1, "float32")
    batch = chips(write(tmp_path / "a.tif", array), at(*pixel(32, 32)), size_m=320, gsd_m=40)
    means = array[0, 16:48, 16:48].reshape(8, 4, 8, 4).mean(axis=(1, 3))
    assert batch.pixels[0, ..., 0] == pytest.approx(means, rel=1e-5)
    twice = chips(write(tmp_path / "b.tif", array), at(*pixel(32, 32)), size_m=320, gsd_m=20)
    expected = own_warp(tmp_path / "b.tif", "EPSG:32636", (twice.bounds[0, 0], twice.bounds[0, 3]), 20, 16)
    assert np.array_equal(twice.pixels[0], expected.transpose(1, 2, 0))


def test_rows_do_not_depend_on_order_threads_or_company(raster):
    path, _ = raster
    rng = np.random.default_rng(1)
    table = at(*pixel(rng.uniform(0, 150, 300), rng.uniform(0, 120, 300)))
    plan = plan_of(path, table, shard_rows=37)
    order = rng.permutation(300)
    with ChipReader(plan, threads=1) as reader:
        alone = reader.read(np.arange(300))
    with ChipReader(plan, threads=3, cache_bytes=2**20) as reader:
        mixed = reader.read(order)
        streamed = list(reader.batches(order, 7))
    assert np.array_equal(alone.pixels[order], mixed.pixels)
    assert np.array_equal(np.concatenate([b.pixels for b in streamed]), mixed.pixels)
    assert np.concatenate([b.rows for b in streamed]).tolist() == order.tolist()
    few = chips(path, {k: v[:3] for k, v in table.items()})
    assert few.sha256.tolist() == alone.sha256[:3].tolist()
    assert sorted(np.concatenate(plan.shards).tolist()) == list(range(300))


def test_equal_windows_are_read_once_and_hash_alike(raster):
    path, _ = raster
    table = at(*pixel([50.1, 50.2, 80, 50.15], [60.1, 60.2, 60, 60.3]))
    plan = plan_of(path, table)
    assert plan.window_id[0] == plan.window_id[1] == plan.window_id[3] != plan.window_id[2]
    with ChipReader(plan, threads=1) as reader:
        batch = reader.read([3, 2, 1, 0])
    assert batch.sha256[0] == batch.sha256[2] == batch.sha256[3] != batch.sha256[1]
    assert np.array_equal(batch.pixels[0], batch.pixels[3])


def test_a_closed_reader_says_so(raster):
    plan = plan_of(raster[0], at(*pixel(50, 60)))
    with pytest.raises(ValueError, match="with ChipReader"):
        ChipReader(plan).read([0])
