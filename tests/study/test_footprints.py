"""Footprints: one cell per point, more reach never untreats, precision nests, regions of unknown treatment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import causalsat as cs
from causalsat.errors import DataError, FootprintWarning, OptionError
from causalsat.simulate.aid_grid import CELL_KM, aid_grid
from causalsat.study.cells import holding_cell, read_cells
from causalsat.study.sphere import great_circle_km

SIDE = 12


def grid(side: int = SIDE, step: float = 0.0625, west: float = 30.0, south: float = -0.375, district: int = 4):
    """Boxes on multiples of a power of two: their edges are exact numbers."""
    row, column = np.divmod(np.arange(side * side), side)
    x, y = west + step * column, south + step * row
    return {
        "cell": np.array([f"c{i}" for i in range(side * side)]),
        "west": x,
        "south": y,
        "east": x + step,
        "north": y + step,
        "adm2": np.array([f"d{i // district}_{j // district}" for i, j in zip(row, column)]),
        "adm1": np.array([f"r{int(j >= side / 2)}" for j in column]),
    }


def outlines(cells):
    import geopandas as gpd
    import shapely

    boxes = shapely.box(cells["west"], cells["south"], cells["east"], cells["north"])
    return gpd.GeoDataFrame({k: cells[k] for k in ("cell", "adm2", "adm1")}, geometry=boxes, crs="EPSG:4326")


def project(lon, lat, precision="exact", **others):
    lon, lat = np.atleast_1d(np.asarray(lon, float)), np.atleast_1d(np.asarray(lat, float))
    n = len(lon)
    base = {"longitude": lon, "latitude": lat, "year": np.full(n, 2015), "funder": np.full(n, "F")}
    return base | {"precision": np.full(n, precision)} | others


def treated(projects, cells, **options):
    return cs.footprints(projects, cells, period="year", group="funder", **options)["F"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.5]))
def test_a_point_on_an_edge_or_corner_treats_one_cell(column, row, right, up):
    cells = grid()
    here = project(30.0 + 0.0625 * (column + right), -0.375 + 0.0625 * (row + up))
    for shapes in (cells, outlines(cells)):
        found = treated(here, shapes)
        assert np.flatnonzero(found).tolist() == [row * SIDE + column]


def test_outer_edges_are_half_open_too():
    cells = grid()
    east, north = 30.0 + SIDE * 0.0625, -0.375 + SIDE * 0.0625
    with pytest.warns(FootprintWarning, match="2 of 3 projects"):
        found = treated(project([east, 30.1, 30.0], [0.0, north, -0.375]), cells)
    assert np.flatnonzero(found).tolist() == [0]


def test_slanted_shared_edges_split_every_point_once():
    import geopandas as gpd
    import shapely

    rng = np.random.default_rng(0)
    corner = rng.uniform(-0.3, 0.3, (7, 7, 2)) + np.stack(np.meshgrid(np.arange(7.0), np.arange(7.0)), axis=-1)
    shapes, names = [], []
    for i in range(6):
        for j in range(6):
            ring = [corner[i, j], corner[i, j + 1], corner[i + 1, j + 1], corner[i + 1, j]]
            shapes.append(shapely.Polygon(ring if (i + j) % 2 else ring[::-1]))
            names.append(f"{i}{j}")
    cells = read_cells(gpd.GeoDataFrame({"cell": names}, geometry=shapes, crs="EPSG:4326"), "cell", ())
    middle = np.array([(corner[i, j] + corner[i, j + 1]) / 2 for i in range(1, 6) for j in range(6)])
    vertices = corner[1:6, 1:6].reshape(-1, 2)
    points = np.concatenate([middle, vertices, rng.uniform(1, 5, (200, 2))])
    crossings = [sum(_held(shape, p) for shape in shapes) for p in points]
    assert crossings == [1] * len(points)
    assert (holding_cell(cells, points) >= 0).all()


def _held(shape, point) -> int:
    from causalsat.study.cells import _crossings

    return _crossings(shape, point) % 2


def test_a_hole_belongs_to_its_filling():
    import geopandas as gpd
    import shapely

    ring = shapely.Polygon(shapely.box(0, 0, 4, 4).exterior, [shapely.box(1, 1, 2, 2).exterior])
    cells = read_cells(
        gpd.GeoDataFrame({"cell": ["ring", "hole"]}, geometry=[ring, shapely.box(1, 1, 2, 2)], crs="EPSG:4326"),
        "cell",
        (),
    )
    points = np.array([[1.5, 1.5], [1.0, 1.5], [2.0, 1.5], [3.0, 3.0], [4.0, 1.0], [np.nan, 1.0]])
    assert holding_cell(cells, points).tolist() == [1, 1, 0, 0, -1, -1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(1, 60), st.floats(1, 60))
def test_a_larger_radius_never_untreats(seed, a, b):
    rng = np.random.default_rng(seed)
    here = project(rng.uniform(30, 30.75, 3), rng.uniform(-0.375, 0.375, 3), "near")
    small, large = (treated(here, grid(), radius_km=r) for r in sorted((a, b)))
    assert (small <= large).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(0.35, 0.65), st.floats(0.35, 0.65), st.floats(5, 9))
def test_precisions_nest_when_the_disc_lies_in_the_district(u, v, radius):
    cells = grid()
    at = (30.25 + 0.25 * u, -0.125 + 0.25 * v)
    exact, near, adm2 = (treated(project(*at, p), cells, radius_km=radius) for p in ("exact", "near", "adm2"))
    assert exact.sum() == 1 and adm2.sum() == 16
    assert (exact <= near).all() and (near <= adm2).all()


def test_near_is_the_slow_loop_and_keeps_the_holding_cell():
    cells = grid()
    centre = np.column_stack([(cells["west"] + cells["east"]) / 2, (cells["south"] + cells["north"]) / 2])
    here = np.array([30.4, 0.03])
    km = great_circle_km(centre, np.tile(here, (len(centre), 1)))
    np.testing.assert_array_equal(treated(project(*here, "near"), cells), km <= 25)
    alone = treated(project(*here, "near"), cells, radius_km=0.5)
    np.testing.assert_array_equal(alone, treated(project(*here), cells))


def test_boxes_and_polygons_and_other_systems_agree():
    cells = grid()
    rng = np.random.default_rng(3)
    here = project(
        rng.uniform(30, 30.75, 20), rng.uniform(-0.375, 0.375, 20), np.tile(["exact", "near", "adm2", "2"], 5)
    )
    base = treated(here, cells)
    np.testing.assert_array_equal(base, treated(here, outlines(cells)))
    np.testing.assert_array_equal(base, treated(here, outlines(cells).to_crs("EPSG:32636")))


def test_the_district_rule_treats_whole_districts():
    cells = grid()
    found = treated(project(30.1, 0.1), cells, rule="adm2")
    np.testing.assert_array_equal(found, treated(project(30.1, 0.1, 3), cells))
    assert found.sum() == 16


def test_a_project_names_its_own_district_or_stands_in_it():
    cells = grid()
    named = project(np.nan, np.nan, "adm2", adm2=np.array(["d1_1"]))
    np.testing.assert_array_equal(treated(named, cells), cells["adm2"] == "d1_1")
    with pytest.raises(DataError, match="located exactly or nearly"):
        treated(project(np.nan, np.nan), cells)


def test_coarser_projects_treat_nobody_and_leave_their_region_open():
    cells = grid()
    both = project([30.1, 30.1], [0.1, 0.1], np.array(["exact", "adm1"]))
    kept = cs.footprints(both, cells, period="year", group="funder")
    assert kept["F"].sum() == 1
    np.testing.assert_array_equal(kept["ambiguous"], (cells["adm1"] == "r0") & (kept["F"] == 0))
    dropped = cs.footprints(both, cells, period="year", group="funder", ambiguous="drop")
    np.testing.assert_array_equal(np.isnan(dropped["F"]), kept["ambiguous"])
    assert dropped["F"][kept["F"] == 1].tolist() == [1.0]
    numbered = project([30.1, 30.1], [0.1, 0.1], np.array([1, 6]))
    anywhere = cs.footprints(numbered, cells, period="year", group="funder", regions={6: None})
    assert anywhere["ambiguous"].sum() == SIDE * SIDE - 1
    with pytest.raises(DataError, match="regions="):
        treated(numbered, cells)


def test_precisions_left_out_leave_their_cells_open():
    here = project([30.1, 30.5], [0.1, 0.1], np.array(["exact", "near"]))
    whole = cs.footprints(here, grid(), period="year", group="funder")
    exact = cs.footprints(here, grid(), period="year", group="funder", use=("exact",), ambiguous="drop")
    assert np.nansum(exact["F"]) == 1
    np.testing.assert_array_equal(np.isnan(exact["F"]), (whole["F"] == 1) & (exact["F"] != 1))


def test_order_of_projects_and_duplicates_change_no_treatment():
    rng = np.random.default_rng(5)
    n = 30
    here = project(
        rng.uniform(30, 30.75, n),
        rng.uniform(-0.375, 0.375, n),
        rng.choice(["exact", "near", "adm2"], n),
        year=rng.integers(2010, 2013, n),
        sector=rng.integers(1, 3, n),
    )
    base = cs.footprints(here, grid(), period="year", group=("funder", "sector"), radius_km=8)
    twice = np.concatenate([rng.permutation(n), np.arange(n)])
    moved = cs.footprints({k: v[twice] for k, v in here.items()}, grid(), period="year", radius_km=8)
    assert list(base) == list(moved)
    for name in ("F_sector1", "F_sector2", "ambiguous", "share_near"):
        np.testing.assert_array_equal(base[name], moved[name])
    np.testing.assert_array_equal(moved["n_projects"], 2 * base["n_projects"])
    total = base["share_exact"] + base["share_near"] + base["share_adm2"]
    np.testing.assert_allclose(total[base["n_projects"] > 0], 1.0)
    assert np.isnan(total[base["n_projects"] == 0]).all()
    later = cs.footprints(here, grid(), period="year", radius_km=8, periods=(2009, 2010))
    assert later["F_sector1"][: SIDE * SIDE].sum() == 0
    np.testing.assert_array_equal(later["F_sector1"][SIDE * SIDE :], base["F_sector1"][: SIDE * SIDE])


def test_the_aid_grid_gives_back_its_treatments_by_district():
    data, _, truth = aid_grid(side=10, seed=2)
    half = np.degrees(CELL_KM / 2 / 6371.01)
    first = slice(0, 100)
    lon, lat = data["longitude"][first], data["latitude"][first]
    wide = half / np.cos(np.radians(1.0))
    cells = {"cell": data["cell"][first], "adm2": data["adm2"][first]}
    cells |= {"west": lon - wide, "east": lon + wide, "south": lat - half, "north": lat + half}
    found = cs.footprints(truth["projects"], cells, period="period", rule="adm2")
    for name in truth["effects"]:
        np.testing.assert_array_equal(found[name], data[name])
    np.testing.assert_array_equal(found["cell"], data["cell"])
    np.testing.assert_array_equal(found["period"], data["period"])
    by_precision = cs.footprints(truth["projects"], cells, period="period", use=("exact",))
    name = "funder1_sector1"
    assert (by_precision[name] <= found[name]).all() and by_precision[name].sum() < found[name].sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "all"}, 'Did you mean|allowed: "any", "adm2"'),
        ({"ambiguous": "maybe"}, 'allowed: "keep", "drop"'),
        ({"use": ()}, "use is empty"),
        ({"use": "exat"}, 'Did you mean "exact"'),
        ({"radius_km": -1}, "radius_km"),
        ({"bounds": ("west", "south")}, "four columns"),
    ],
)
def test_bad_options_are_refused(change, message):
    with pytest.raises(OptionError, match=message):
        treated(project(30.1, 0.1), grid(), **change)


def test_bad_tables_are_refused():
    cells = grid()
    with pytest.raises(DataError, match="each of the 144 cells once"):
        treated(project(30.1, 0.1), cells | {"cell": np.full(144, "a")})
    with pytest.raises(DataError, match="west < east"):
        treated(project(30.1, 0.1), cells | {"east": cells["west"]})
    with pytest.raises(DataError, match="no longitude and latitude in degrees"):
        treated(project(500_000.0, 100_000.0), cells)
    with pytest.raises(DataError, match="rename the labels"):
        treated(project(30.1, 0.1, funder=np.array(["ambiguous"])), cells)
