"""The plan: grids, primaries, order, counts, refusals; all before a pixel is read."""

import json

import numpy as np
import pytest
from rasterio.transform import from_origin

from causalsat.errors import DataError, OptionError, RasterLayoutWarning, collected_warnings
from causalsat.raster.places import read_places
from causalsat.raster.plan import make_plan
from causalsat.raster.sources import open_sources
from tests.raster.making import CORNER, at, image, pixel, plan_of, write


@pytest.fixture
def raster(tmp_path):
    return write(tmp_path / "a.tif", image(), tiled=True, blockxsize=32, blockysize=32)


def scattered(n=200, seed=0, width=150, height=120):
    rng = np.random.default_rng(seed)
    return at(*pixel(rng.uniform(0, width, n), rng.uniform(0, height, n)))


def test_planning_reads_no_pixels(raster):
    sources = open_sources(raster)
    raster.unlink()
    plan = make_plan(read_places(scattered(), embedding_key="site"), sources, size_m=160)
    assert plan.describe()["plain"] == 200


def test_the_step_defaults_to_the_native_one(raster):
    plan = plan_of(raster, scattered(), size_m=160)
    assert (plan.gsd_m, plan.n_px, plan.size_m_actual, plan.bands) == (10.0, 16, 160.0, (1, 2, 3))
    assert plan.native_gsd_m == pytest.approx(10 / 0.9996, rel=1e-3)


def test_shards_hold_each_row_once_in_reading_order(raster):
    table = scattered()
    table["longitude"][5] = np.nan
    plan = plan_of(raster, table, shard_rows=64)
    assert [len(s) for s in plan.shards] == [64, 64, 64, 8]
    assert sorted(plan.order.tolist()) == list(range(200))
    assert plan.order[-1] == 5
    assert plan.status[5] == "bad_place"


def test_the_order_stays_close_on_the_raster(tmp_path):
    square = write(tmp_path / "a.tif", image(128, 128), tiled=True, blockxsize=32, blockysize=32)
    plan = plan_of(square, scattered(2000, width=128, height=128))
    first = np.floor((plan.position[plan.order] - 8).clip(0) / 32)
    steps = np.abs(np.diff(first, axis=0)).sum(axis=1)
    assert steps.max() == 1
    assert steps.sum() == 15


def test_shards_do_not_depend_on_how_the_table_is_ordered(raster):
    table = scattered(50)
    turn = np.random.default_rng(1).permutation(50)
    one = plan_of(raster, table)
    two = plan_of(raster, {k: np.asarray(v)[turn] for k, v in table.items()})
    assert one.places.ids[one.order].tolist() == two.places.ids[two.order].tolist()
    assert np.array_equal(one.origin[turn], two.origin)


def test_description_counts_and_is_plain_json(raster):
    table = at(*pixel([50, 50, 80, 1e5], [60, 60, 60, 60]))
    table["latitude"][2] = np.nan
    plan = plan_of(raster, table, align="snap")
    seen = json.loads(json.dumps(plan.describe()))
    assert (seen["rows"], seen["unique_chips"], seen["plain"], seen["warped"], seen["off_raster"]) == (4, 1, 2, 0, 1)
    assert seen["status"] == {"ok": 2, "off_raster": 1, "bad_place": 1}
    assert (seen["files"], seen["blocks"], seen["decoded_bytes"]) == (1, 2, 2 * 32 * 32 * 2 * 3)
    assert seen["compressed_bytes"] == int(raster.stat().st_size * 2 / 20)
    assert json.loads(json.dumps(plan.spec()))["n_px"] == 16


def test_exact_alignment_is_counted_as_warped(raster):
    assert plan_of(raster, scattered(), align="exact").describe()["warped"] == 200


def test_places_off_the_raster_keep_their_row(raster):
    plan = plan_of(raster, at(*pixel([50, 60, 5000], [50, 60, 50])))
    assert plan.status.tolist() == ["ok", "ok", "off_raster"]
    assert (plan.grid_crs[2], plan.window_id[2], len(plan.sources_of(2))) == (-1, -1, 0)
    assert np.isnan(plan.origin[2]).all()


def test_a_window_that_only_touches_is_not_on_the_raster(raster):
    plan = plan_of(raster, at(*pixel([50, 60, 158.0, 157.9], [50, 60, 50, 50])))
    assert plan.status.tolist() == ["ok", "ok", "off_raster", "off_raster"]
    assert plan_of(raster, at(*pixel([50, 157.4], [50, 50]))).status[1] == "ok"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"grid": "utn"}, "grid="),
        ({"grid": "EPSG:4326"}, "counts degrees"),
        ({"align": "centre"}, "align="),
        ({"resampling": "bilinaer"}, 'Did you mean "bilinear"'),
        ({"mask_rule": "most"}, "mask_rule="),
        ({"shard_rows": 0}, "shard_rows="),
        ({"size_m": -1}, "size_m="),
        ({"grid": "native", "gsd_m": 20}, 'grid="native" needs'),
    ],
)
def test_options_are_checked(raster, options, match):
    with pytest.raises(OptionError, match=match):
        plan_of(raster, scattered(), **options)


def test_degrees_need_a_step_in_metres(tmp_path):
    path = write(tmp_path / "a.tif", image(), crs="EPSG:4326", transform=from_origin(33, 45, 0.0001, 0.0001))
    places = {"site": [1], "longitude": [33.005], "latitude": [44.995]}
    with pytest.raises(OptionError, match=r"0.0001 x 0.0001 degrees \(about 7.87 m at latitude 45.0: try gsd_m=7.9"):
        plan_of(path, places)


def test_two_steps_need_a_choice(tmp_path):
    one = write(tmp_path / "a.tif", image())
    two = write(tmp_path / "b.tif", image(), transform=from_origin(*CORNER, 20, 20))
    with pytest.raises(OptionError, match=r"10 x 10 units of EPSG:32636; 20 x 20"):
        plan_of([one, two], scattered())


def test_swapped_coordinates_are_named(raster):
    table = scattered(10)
    table["longitude"], table["latitude"] = table["latitude"], table["longitude"]
    with pytest.raises(DataError, match="swapped"):
        plan_of(raster, table)


def test_mostly_off_raster_is_refused(raster):
    with pytest.raises(DataError, match="2 of 3 places lie off every raster"):
        plan_of(raster, at(*pixel([50, 5000, 6000], [50, 60, 50])))


def test_strips_of_a_large_raster_warn_once_with_the_cure(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1, 6000, 12000), "uint8"), compress="deflate")
    table = at(*pixel([6000, 6100], [3000, 3000]))
    with (
        collected_warnings() as notes,
        pytest.warns(RasterLayoutWarning, match=r"strips.*retile\(src, dst, block=256\)"),
    ):
        plan_of(path, table)
    assert len(notes) == 1


def test_a_million_places_and_a_thousand_tiles_in_miniature(tmp_path):
    """The same code path as the large plan: tiles through the tree, one row per place, nothing per place in Python."""
    import time

    tile = np.zeros((1, 16, 16), "uint8")
    for i in range(10):
        for j in range(10):
            write(
                tmp_path / f"{i}_{j}.tif", tile, transform=from_origin(CORNER[0] + 160 * j, CORNER[1] - 160 * i, 10, 10)
            )
    places, sources = (
        read_places(scattered(20_000, width=160, height=160), embedding_key="site"),
        open_sources(tmp_path),
    )
    start = time.process_time()
    plan = make_plan(places, sources, size_m=80)
    assert time.process_time() - start < 4.0
    assert set(plan.status) == {"ok"}
    assert 1 <= np.diff(plan.source_start).min() <= np.diff(plan.source_start).max() == 4
