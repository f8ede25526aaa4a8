"""Files: exact round trips."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from causalsat import EffectTable
from causalsat.errors import DataError, OptionError
from tests.effects.tables import make_table

ARRAYS = ("draws", "influence", "covariance", "places")


def same_bits(left, right):
    return left is right is None or left.tobytes() == right.tobytes()


def test_everything_comes_back_bit_for_bit(tmp_path):
    draws = np.random.default_rng(0).normal(size=(50, 4))
    draws[3] = np.nan
    table = make_table(
        index={"adjust": ["none", "ünï", "", "b"], "q": [0.1, np.nan, 1 / 3, -0.0], "h": [1, 2, 3, 4],
               "flag": [True, False, True, True]},
        estimate=[1.0, np.nan, 5e-324, -0.0], draws=draws, unavailable={1: "no overlap"}, df=[3.0, np.inf, 5, 6],
        places=[[0.1, 0.2], [np.nan, np.nan], [1, 2], [3, 4]], null=[0.0, 1.0, 2.0, 3.0],
        acceleration=[0.1, 0.2, 0.3, 0.4], draw_std_error=np.abs(draws),
        meta={"x": [1, 2.5, None, "ü"], "deep": {"nan": float("nan"), "inf": float("inf"), "tiny": 5e-324}},
    ).joint(method="holm", level=0.9)  # fmt: skip
    back = EffectTable.read(table.write(tmp_path / "effects.parquet"))
    assert back == table
    for name in table.columns:
        assert back[name].dtype.kind == table[name].dtype.kind
        assert back[name].tobytes() == table[name].tobytes()
    for name in (*ARRAYS, "df", "null", "acceleration", "draw_std_error"):
        assert same_bits(getattr(back.carried, name), getattr(table.carried, name)), name
    assert json.dumps(back.meta) == json.dumps(table.meta)


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.float64, (3,), elements=st.floats(-1e300, 1e300)),
    hnp.arrays(np.float64, (7, 3), elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=8), min_size=3, max_size=3, unique=True),
)  # fmt: skip
def test_round_trip_of_anything(tmp_path_factory, estimate, draws, names):
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    table = EffectTable.build(
        {"name": names}, term="w", estimate=estimate, std_error=[1.0, 2.0, 3.0], n_obs=1, draws=draws, meta={"a": names}
    )
    back = EffectTable.read(table.write(path))
    assert back == table
    assert back.draws.tobytes() == table.draws.tobytes()
    assert back["estimate"].tobytes() == table["estimate"].tobytes()


def test_a_read_table_still_changes_its_interval_and_contrasts(tmp_path, table):
    back = EffectTable.read(table.write(tmp_path / "t.parquet"))
    assert back.interval(0.8, "bca") == table.interval(0.8, "bca")
    assert back.contrast("both - none") == table.contrast("both - none")
    assert back.joint() == table.joint()


def test_empty_and_bare_tables_come_back(tmp_path):
    empty = EffectTable.build({"adjust": []}, term="w", estimate=[], std_error=[], n_obs=[], meta={})
    assert EffectTable.read(empty.write(tmp_path / "a.parquet")) == empty
    bare = make_table(draws=None, influence=None, covariance=None)
    assert EffectTable.read(bare.write(tmp_path / "b.parquet")) == bare


def test_files_are_the_same_bytes_each_time_and_replace_older_ones(tmp_path, table):
    path = tmp_path / "new" / "effects.parquet"
    table.write(path)
    first = path.read_bytes(), path.with_suffix(".json").read_bytes()
    table.write(path)
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == first
    table.interval(0.5).write(path)
    assert EffectTable.read(path).level == 0.5
    assert sorted(p.name for p in path.parent.iterdir()) == ["effects.json", "effects.parquet"]


def test_the_json_beside_is_strict_json(tmp_path):
    table = make_table(estimate=[1.0, np.nan, 2.0, 3.0], unavailable={1: "no overlap"}, meta={"cut": float("inf")})
    path = table.write(tmp_path / "t.parquet").with_suffix(".json")

    def refuse(constant):
        raise AssertionError(constant)

    told = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert told["columns"]["estimate"] == [1.0, None, 2.0, 3.0]
    assert told["meta"]["cut"] == "inf"
    assert told["meta"]["unavailable"]["1"]["estimate"] == "no overlap"


def test_bad_paths_and_strangers_are_explained(tmp_path, table):
    with pytest.raises(OptionError, match=r"must end in \.parquet"):
        table.write(tmp_path / "t.csv")
    with pytest.raises(DataError, match="cannot be read"):
        EffectTable.read(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(DataError, match="cannot be read"):
        EffectTable.read(tmp_path / "text.parquet")
    table.to_frame().to_parquet(tmp_path / "stranger.parquet")
    with pytest.raises(DataError, match="no effect table"):
        EffectTable.read(tmp_path / "stranger.parquet")


def test_geoparquet_holds_points_numbers_and_meta(tmp_path):
    import geopandas as gpd
    import pyarrow.parquet as pq

    places = np.array([[30.5, -1.25], [31.0, 2.0], [np.nan, np.nan], [32.0, 0.0]])
    table = make_table(places=places)
    path = table.to_geoparquet(tmp_path / "t.parquet")
    frame = gpd.read_parquet(path)
    assert frame.crs.to_epsg() == 4326
    assert frame.geometry.x.tolist()[:2] == [30.5, 31.0]
    assert frame.geometry.isna().tolist() == [False, False, True, False]
    assert frame["estimate"].tolist() == table["estimate"].tolist()
    assert json.loads(pq.read_schema(path).metadata[b"causalsat"])["meta"]["seed"] == 7
    with pytest.raises(DataError, match="needs places"):
        make_table().to_geoparquet(tmp_path / "u.parquet")
