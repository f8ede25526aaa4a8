"""The door of r3d: five shapes of data, what must not vary inside a unit, cutoffs, and everything that is refused."""

import numpy as np
import pandas as pd
import pytest

from causalsat.errors import CollinearWarning, DataError, DroppedRowsWarning, OptionError, SmallUnitsWarning
from causalsat.estimators.r3d_design import open_design
from causalsat.study.distributions import Histogram, QuantileMatrix

N = 40


def units_and_parts(seed=0, whole=False):
    rng = np.random.default_rng(seed)
    units = pd.DataFrame(
        {
            "unit": [f"u{i:02d}" for i in range(N)],
            "x": rng.uniform(-1, 1, N),
            "a": rng.normal(size=N),
            "g": rng.choice(list("pqrs"), N),
            "size": rng.integers(1, 5, N).astype(float),
            "lon": rng.uniform(30, 31, N),
            "lat": rng.uniform(0, 1, N),
        }
    )
    units["t"] = (rng.uniform(size=N) < np.where(units.x > 0, 0.9, 0.2)).astype(float)
    draw = rng.poisson if whole else rng.normal
    return units, [draw(5 + x, size=rng.integers(20, 60)).astype(float) for x in units.x]


def long_of(units, parts):
    frame = units.loc[units.index.repeat([part.size for part in parts])].reset_index(drop=True)
    return frame.assign(z=np.concatenate(parts))


def padded(parts):
    matrix = np.full((len(parts), max(part.size for part in parts)), np.nan)
    for i, part in enumerate(parts):
        matrix[i, : part.size] = part
    return matrix


ROLES = {
    "running": "x", "treatment": "t", "covariates": ["a", "g"], "unit_weights": "size", "cluster": "g",
    "coords": ("lon", "lat"), "quantiles": 19,
}  # fmt: skip


def same(a, b, tolerance=1e-12):
    for name in ("x", "treated", "Q", "quantiles", "cells", "means", "omega", "treatment", "covariates"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=tolerance, rtol=0)
    assert a.covariate_names == b.covariate_names
    assert (a.sampling.cluster == b.sampling.cluster).all()
    assert (a.sampling.lonlat == b.sampling.lonlat).all()


def test_five_shapes_agree():
    units, parts = units_and_parts()
    long = open_design(long_of(units, parts), outcome="z", unit="unit", **ROLES)
    shuffled = long_of(units, parts).sample(frac=1.0, random_state=1)
    mapping = dict(zip(units.unit, parts))
    quantiles = np.stack([np.quantile(part, long.quantiles) for part in parts])
    matrix = QuantileMatrix(quantiles, long.quantiles, means=np.array([part.mean() for part in parts]))
    for data, outcome, unit in (
        (shuffled, "z", "unit"),
        (units, mapping, "unit"),
        (units, parts, None),
        (units, padded(parts), "unit"),
        (units, matrix, None),
    ):
        other = open_design(data, outcome=outcome, unit=unit, **ROLES)
        same(long, other)
        if not isinstance(outcome, QuantileMatrix):
            assert (long.n_draws == other.n_draws).all()
    assert long.n == N
    assert (np.diff(long.x) >= 0).all()
    assert long.labels.tolist() == units.unit[np.argsort(units.x)].tolist()
    assert long.covariate_names == ("a", "g[q]", "g[r]", "g[s]")
    assert long.omega.mean() == pytest.approx(1.0)
    assert long.names["cluster"] == "g"


def test_histogram_of_integers_agrees_exactly():
    units, parts = units_and_parts(whole=True)
    k = int(max(part.max() for part in parts)) + 1
    counts = np.stack([np.bincount(part.astype(int), minlength=k) for part in parts])
    binned = open_design(units, outcome=Histogram(np.arange(k + 1) - 0.5, counts), unit="unit", **ROLES)
    long = open_design(long_of(units, parts), outcome="z", unit="unit", **ROLES)
    same(binned, long)
    assert (binned.Q == long.Q).all()
    assert (binned.n_draws == long.n_draws).all()
    tall = pd.DataFrame({"z": np.tile(np.arange(k), N), "w": counts.ravel()}).join(
        units.loc[units.index.repeat(k)].reset_index(drop=True)
    )
    counted = open_design(tall, outcome="z", unit="unit", weights="w", count_weights=True, **ROLES)
    same(counted, long)


def test_row_order_labels_and_frames_change_nothing():
    import polars as pl

    units, parts = units_and_parts()
    long = long_of(units, parts)
    first = open_design(long, outcome="z", unit="unit", **ROLES)
    renamed = long.assign(unit=long.unit.map({f"u{i:02d}": f"v{(i * 7) % N:02d}" for i in range(N)}))
    same(first, open_design(renamed.iloc[::-1], outcome="z", unit="unit", **ROLES))
    other = open_design(pl.from_pandas(long), outcome="z", unit="unit", **ROLES)
    same(first, other)
    assert first.data_hash == other.data_hash


def test_weights_of_draws():
    units, parts = units_and_parts()
    rng = np.random.default_rng(3)
    weights = [rng.integers(0, 3, part.size).astype(float) + (np.arange(part.size) == 0) for part in parts]
    long = long_of(units, parts).assign(w=np.concatenate(weights))
    a = open_design(long, outcome="z", weights="w", unit="unit", running="x", quantiles=9)
    b = open_design(units, outcome=parts, weights=weights, running="x", quantiles=9)
    c = open_design(units, outcome=padded(parts), weights=np.nan_to_num(padded(weights)), running="x", quantiles=9)
    for other in (b, c):
        np.testing.assert_allclose(a.Q, other.Q, atol=1e-12)
        np.testing.assert_allclose(a.means, other.means, atol=1e-12)
    position = int(np.flatnonzero(a.labels == "u03")[0])
    assert a.means[position] == pytest.approx(np.average(parts[3], weights=weights[3]))


def test_a_column_that_varies_inside_a_unit():
    units, parts = units_and_parts()
    for name in ("x", "t", "a", "g", "size", "lon"):
        long = long_of(units, parts)
        rows = np.flatnonzero(long.unit.isin(["u07", "u30"]))
        long.loc[rows[-1], name] = "q!" if name == "g" else -0.125
        long.loc[rows[2], name] = "q!" if name == "g" else -0.125
        with pytest.raises(DataError, match=rf"column '{name}' varies inside unit u07 of 'unit' .*; 2 of 40 units"):
            open_design(long, outcome="z", unit="unit", **ROLES)
    long = long_of(units, parts)
    long.loc[0, "a"] = np.nan
    with pytest.raises(DataError, match=r"inside unit u00 .*missing"):
        open_design(long, outcome="z", unit="unit", **ROLES)


def test_missing_draws_and_units_without_draws_are_counted():
    units, parts = units_and_parts()
    long = long_of(units, parts)
    long.loc[[0, 1], "z"] = np.nan
    long.loc[long.unit == "u05", "z"] = np.nan
    lost = 2 + parts[5].size
    with pytest.warns(DroppedRowsWarning, match=rf"40 units .*1 units: no draws; {lost} draws: draw or its weight"):
        design = open_design(long, outcome="z", unit="unit", running="x")
    assert design.n == N - 1
    assert design.n_input == N
    assert design.dropped == {"no draws": 1}
    assert design.notes["draws_dropped"] == {"draw or its weight is missing": lost}
    assert design.n_draws[design.labels == "u00"] == parts[0].size - 2


def test_missing_roles_drop_units():
    units, parts = units_and_parts()
    units.loc[3, "x"] = np.nan
    units.loc[4, "a"] = np.nan
    units.loc[5, "size"] = 0.0
    with pytest.warns(DroppedRowsWarning, match="running x is missing.*covariates a is missing.*unit weight zero"):
        design = open_design(long_of(units, parts), outcome="z", unit="unit", **ROLES)
    assert design.n == N - 3
    assert not set(design.labels) & {"u03", "u04", "u05"}
    long = long_of(*units_and_parts())
    long.loc[0, "unit"] = None
    with pytest.warns(DroppedRowsWarning, match="1 draws: unit unit is missing"):
        open_design(long, outcome="z", unit="unit", running="x")


def test_bad_draws_and_weights():
    units, parts = units_and_parts()
    long = long_of(units, parts)
    with pytest.raises(DataError, match="outcome column 'z' is infinite"):
        open_design(long.assign(z=np.inf), outcome="z", unit="unit", running="x")
    with pytest.raises(DataError, match="weights hold -1"):
        open_design(long.assign(w=-1.0), outcome="z", unit="unit", running="x", weights="w")
    with pytest.raises(DataError, match="weights column 'w' is infinite"):
        open_design(long.assign(w=np.inf), outcome="z", unit="unit", running="x", weights="w")
    with pytest.raises(DataError, match="unit_weights column 'size' is negative"):
        open_design(units.assign(size=-1.0), outcome=parts, unit="unit", running="x", unit_weights="size")
    with pytest.raises(DataError, match="outcome is constant: every quantile of every unit is 1"):
        open_design(long.assign(z=1.0), outcome="z", unit="unit", running="x")


def test_shapes_that_do_not_fit():
    units, parts = units_and_parts()
    with pytest.raises(DataError, match="outcome holds 39 units and data 40 rows"):
        open_design(units, outcome=parts[:-1], running="x")
    with pytest.raises(DataError, match="no entry for unit 'u39' \\(1 such units\\)"):
        open_design(units, outcome=dict(zip(units.unit[:-1], parts)), unit="unit", running="x")
    with pytest.raises(DataError, match="unit u00 stands in 2 rows"):
        open_design(pd.concat([units, units[:1]]), outcome=[*parts, parts[0]], unit="unit", running="x")
    with pytest.raises(DataError, match="outcome is a float"):
        open_design(units, outcome=1.0, running="x")
    with pytest.raises(OptionError, match="names a column, but outcome holds the draws"):
        open_design(units, outcome=parts, weights="size", running="x")
    with pytest.raises(OptionError, match="no meaning for a QuantileMatrix"):
        open_design(units, outcome=QuantileMatrix(np.ones((N, 1)), [0.5]), weights=parts, running="x")
    with pytest.raises(DataError, match="outcome='y' is not a column"):
        open_design(units, outcome="y", running="x")
    with pytest.raises(OptionError, match="reduce them first"):
        open_design(units, outcome=parts, running="x", covariates=np.ones((N, 2)))


def test_cutoffs_ties_and_donut():
    units, parts = units_and_parts()
    units.loc[0, "x"] = 0.25
    treated = open_design(units, outcome=parts, running="x", cutoff=0.25)
    assert treated.x[treated.rows == 0] == 0.0
    assert treated.treated[treated.rows == 0]
    assert treated.notes["ties"] == 1
    control = open_design(units, outcome=parts, running="x", cutoff=0.25, tie="control")
    assert not control.treated[control.rows == 0]
    dropped = open_design(units, outcome=parts, running="x", cutoff=0.25, tie="drop")
    assert dropped.dropped == {"exactly at the cutoff": 1}
    hole = open_design(units, outcome=parts, running="x", donut=0.2)
    assert hole.dropped == {"inside the donut of 0.2": int((np.abs(units.x) < 0.2).sum())}
    assert np.abs(hole.x).min() >= 0.2
    with pytest.raises(OptionError, match="tie='none'"):
        open_design(units, outcome=parts, running="x", tie="none")


def test_designs_without_two_sides():
    units, parts = units_and_parts()
    with pytest.raises(DataError, match="cutoff=3 lies outside the running variable 'x'"):
        open_design(units, outcome=parts, running="x", cutoff=3.0)
    with pytest.raises(DataError, match="'x' is constant: 1 in all units"):
        open_design(units.assign(x=1.0), outcome=parts, running="x", cutoff=1.0)
    lowest = float(units.x.min())
    with pytest.raises(DataError, match="No unit lies left"):
        open_design(units, outcome=parts, running="x", cutoff=lowest)
    with pytest.raises(DataError, match=r"No unit lies right .* nearer than 0.9 were dropped"):
        open_design(units.assign(x=np.minimum(units.x, 0.5)), outcome=parts, running="x", donut=0.9)
    with pytest.raises(OptionError, match="cutoff=nan"):
        open_design(units, outcome=parts, running="x", cutoff=float("nan"))


def test_treatment():
    units, parts = units_and_parts()
    with pytest.raises(DataError, match="'t' is 1 on both sides of the cutoff: there is no first stage"):
        open_design(units.assign(t=1.0), outcome=parts, running="x", treatment="t")
    kinds = {
        "sharp": units.x >= 0,
        "binary": units.t,
        "share": units.t * 0.5,
        "dose": units.t * 2.0,
    }
    for kind, values in kinds.items():
        design = open_design(units.assign(t=values), outcome=parts, running="x", treatment="t")
        assert design.notes["treatment"] == kind
        assert design.treatment.dtype == np.float64


def test_a_column_of_cutoffs():
    units, parts = units_and_parts()
    units["c"] = np.where(units.g.isin(["p", "q"]), 0.1, -0.2)
    design = open_design(units, outcome=parts, running="x", cutoff="c")
    np.testing.assert_allclose(np.sort(units.x - units.c), design.x)
    assert design.cutoffs.tolist() == [-0.2, 0.1]
    assert (design.cutoffs[design.cutoff] == units.c.to_numpy()[design.rows]).all()
    assert design.sampling.cluster is None


def test_a_unit_at_two_cutoffs_is_a_cluster():
    units, parts = units_and_parts()
    twice = pd.concat([units.assign(c=0.1), units[:10].assign(c=-0.2)], ignore_index=True)
    both = parts + parts[:10]
    for data, outcome in ((twice, both), (long_of(twice, both), "z")):
        design = open_design(data, outcome=outcome, unit="unit", running="x", cutoff="c")
        assert design.n == N + 10
        assert design.notes["clusters"] == "units used at several cutoffs"
        assert design.sampling.cluster.max() == N - 1
        codes = design.sampling.cluster[design.labels == "u03"]
        assert codes.size == 2
        assert codes[0] == codes[1]
        assert open_design(data, outcome=outcome, unit="unit", running="x", cutoff="c", cluster="g").n == N + 10
    with pytest.raises(DataError, match="unit u00 is used at several cutoffs and stands in different clusters"):
        open_design(twice, outcome=both, unit="unit", running="x", cutoff="c", cluster="c")


def test_collinear_covariates_are_named():
    units, parts = units_and_parts()
    units["b"], units["one"] = 2 * units.a, 1.0
    with pytest.warns(CollinearWarning, match="covariates b, one are left out"):
        design = open_design(units, outcome=parts, running="x", covariates=["a", "b", "one"])
    assert design.covariate_names == ("a",)
    assert design.notes["dropped_covariates"] == ("b", "one")


def test_scalar_outcomes():
    units, _ = units_and_parts()
    design = open_design(units, outcome="a", running="x")
    assert design.quantiles.tolist() == [0.5]
    assert (design.Q[:, 0] == design.means).all()
    assert (design.means == units.a.to_numpy()[design.rows]).all()
    assert len(design.notes["levels_left_off"]) == 98
    with pytest.warns(SmallUnitsWarning, match="one draw"):
        assert design.warn_small_units(np.abs(design.x) < 0.5)


def test_small_units_in_the_window():
    units, parts = units_and_parts()
    design = open_design(units, outcome=parts, running="x", quantiles=9)
    with pytest.warns(SmallUnitsWarning, match="attenuated"):
        assert design.warn_small_units(np.ones(N, bool))
    assert not design.with_quantiles("type9").warn_small_units(np.ones(N, bool))
    notes = design.draw_notes(np.ones(N, bool))
    assert notes["draws_min"] == min(part.size for part in parts)
    assert all(0.0 < share <= 1.0 for share in notes["noise_share"])


def test_further_columns_of_units():
    units, parts = units_and_parts()
    design = open_design(units, outcome=parts, running="x", quantiles=9)
    order = design.rows.tolist()
    middle = (np.arange(200) + 0.5) / 200
    np.testing.assert_allclose(
        design.at_levels(middle), np.stack([np.quantile(parts[i], middle) for i in order]), atol=1e-12
    )
    np.testing.assert_allclose(design.unit_column("exceed", 5.0), [(parts[i] > 5.0).mean() for i in order], atol=1e-12)
    np.testing.assert_allclose(design.unit_column("variance"), [parts[i].var() for i in order], atol=1e-12)
    assert design.unit_column("mean") is design.means
    nine = design.with_quantiles("type9")
    np.testing.assert_allclose(
        nine.Q, [np.quantile(parts[i], nine.quantiles, method="normal_unbiased") for i in order], atol=1e-12
    )


def test_some_units_of_a_design():
    units, parts = units_and_parts()
    design = open_design(long_of(units, parts), outcome="z", unit="unit", **ROLES)
    right = design.take(design.treated)
    assert right.n == int(design.treated.sum())
    assert right.treated.all()
    np.testing.assert_allclose(right.at_levels(design.quantiles), design.Q[design.treated])
    assert right.sampling.lonlat.shape == (right.n, 2)
    assert right.treatment.shape == (right.n,)


def test_levels_of_given_quantiles():
    units, parts = units_and_parts()
    levels = np.arange(1, 10) / 10
    matrix = QuantileMatrix(np.stack([np.quantile(part, levels) for part in parts]), levels)
    design = open_design(units, outcome=matrix, running="x")
    assert (design.quantiles == levels).all()
    assert design.draws is None
    assert design.unit_column("iqr").shape == (N,)
    some = open_design(units, outcome=matrix, running="x", quantiles=[0.1, 0.5])
    np.testing.assert_allclose(some.Q, design.Q[:, [0, 4]])
    with pytest.raises(DataError, match=r"outside the levels 0\.1 to 0\.9"):
        open_design(units, outcome=matrix, running="x", quantiles=[0.05, 0.5])
    assert not design.warn_small_units(np.ones(N, bool))


def test_reference_quantiles(real_data):
    frame = pd.read_csv(real_data("r3d/ref_data_sharp_simple_20.csv"))
    levels = np.arange(1, 21) / 21
    matrix = QuantileMatrix(frame[[f"Q{k}" for k in range(1, 21)]].to_numpy(), levels)
    design = open_design(frame, outcome=matrix, running="X")
    assert design.n == 200
    assert design.Q.shape == (200, 20)
    np.testing.assert_allclose(design.cells, 1 / 21)


def test_places_of_a_geodataframe():
    import geopandas as gpd

    units, parts = units_and_parts()
    shapes = gpd.GeoDataFrame(units, geometry=gpd.points_from_xy(units.lon, units.lat), crs="EPSG:4326")
    design = open_design(shapes, outcome=parts, running="x")
    np.testing.assert_allclose(design.sampling.lonlat, units[["lon", "lat"]].to_numpy()[design.rows])
    pixels = shapes.loc[shapes.index.repeat([part.size for part in parts])].reset_index(drop=True)
    pixels["z"] = np.concatenate(parts)
    assert open_design(pixels, outcome="z", unit="unit", running="x").sampling.lonlat is not None
    pixels["geometry"] = gpd.points_from_xy(np.linspace(0, 1, len(pixels)), np.zeros(len(pixels)), crs="EPSG:4326")
    assert open_design(pixels, outcome="z", unit="unit", running="x").sampling.lonlat is None


def test_one_column_one_role():
    units, parts = units_and_parts()
    long = long_of(units, parts)
    with pytest.raises(DataError, match="'x' is both outcome and running"):
        open_design(long, outcome="x", unit="unit", running="x")
    with pytest.raises(DataError, match="'a' is both weights and covariates"):
        open_design(long, outcome="z", unit="unit", running="x", weights="a", covariates="a")
    with pytest.raises(DataError, match="'z' is both outcome and weights"):
        open_design(long, outcome="z", unit="unit", running="x", weights="z")
    with pytest.raises(DataError, match="both"):
        open_design(long, outcome="z", unit="unit", running="x", covariates="x")
    with pytest.raises(OptionError, match="names 2 columns; this role takes one"):
        open_design(long, outcome="z", unit="unit", running="x", cluster=["g", "a"])


def test_series_and_frames_of_draws():
    units, parts = units_and_parts()
    first = open_design(units, outcome=parts, running="x")
    frame = pd.DataFrame(padded(parts))
    for outcome in (pd.Series(parts), frame):
        assert (open_design(units, outcome=outcome, running="x").Q == first.Q).all()
    assert open_design(units, outcome=units.a, running="x").quantiles.tolist() == [0.5]


def test_labels_of_other_types():
    units, parts = units_and_parts()
    units["k"] = np.arange(N) + 100
    first = open_design(units, outcome=parts, running="x")
    by_number = open_design(units, outcome={k + 100: parts[k] for k in range(N)}, unit="k", running="x")
    assert (by_number.Q == first.Q).all()
    assert by_number.labels.tolist() == (units.k.to_numpy()[first.rows]).tolist()
    category = open_design(units.assign(unit=units.unit.astype("category")), outcome=parts, unit="unit", running="x")
    assert (category.Q == first.Q).all()
    columns = {name: long_of(units, parts)[name].to_numpy() for name in ("z", "k", "x")}
    assert (open_design(columns, outcome="z", unit="k", running="x").Q == first.Q).all()


def test_units_without_draws_in_every_shape():
    units, parts = units_and_parts()
    parts[2] = np.full(3, np.nan)
    levels = np.arange(1, 10) / 10
    quantiles = np.stack([np.quantile(part, levels) for part in parts])
    counts = np.stack([np.histogram(part[~np.isnan(part)], np.arange(-5.0, 15.0))[0] for part in parts])
    shapes = (parts, padded(parts), QuantileMatrix(quantiles, levels), Histogram(np.arange(-5.0, 15.0), counts))
    for outcome in shapes:
        with pytest.warns(DroppedRowsWarning, match="1 units: no draws"):
            design = open_design(units, outcome=outcome, running="x")
        assert design.dropped == {"no draws": 1}
        assert np.isfinite(design.Q).all()
        assert 2 not in design.rows
