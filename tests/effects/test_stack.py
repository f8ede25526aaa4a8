"""Stacked tables refuse what their parts refuse, for the rows of these parts, with their reasons."""

import numpy as np
import pytest

import causalsat as cs
from causalsat import EffectTable
from causalsat.errors import OptionError
from causalsat.simulate.iv import iv
from tests.effects.tables import make_table
from tests.estimators.r3d_verb import ask, units

KINDS = ("normal", "percentile", "basic", "bca", "studentized")


def refusing(part, **refused):
    return make_table(meta={"estimator": part, "refused_intervals": refused}).with_index(part=part)


def answers(table, kinds=(*KINDS, "joint")):
    """Kind to the reason why it is refused, with "" where it is not."""
    found = {}
    for kind in kinds:
        try:
            table.joint() if kind == "joint" else table.interval(0.9, kind)
        except OptionError as error:
            found[kind] = str(error).partition("is refused for these rows: ")[2]
        else:
            found[kind] = ""
    return found


@pytest.fixture(scope="module")
def parts():
    data, _ = iv(n=400, q=3, concentration=300.0, seed=2)
    roles = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2", "z3"]}
    return cs.drive(data, n_boot=199, sets=(), **roles).table, ask(*units(n=200), bandwidth=0.6).table


def test_drive_and_r3d_keep_what_each_refuses(parts):
    stacked = EffectTable.concat(parts)
    drive, r3d = stacked.take(np.arange(len(parts[0]))), stacked.take(np.arange(len(parts[0]), len(stacked)))
    for kept, alone in ((drive, parts[0]), (r3d, parts[1])):
        told = answers(alone)
        assert {kind: why for kind, why in answers(kept).items() if told[kind]} == {k: w for k, w in told.items() if w}
    own = [table.meta["refused_intervals"] for table in parts]
    assert set(stacked.meta["refused_intervals"]) == set(own[0]) | set(own[1])
    assert {"joint", "basic", "percentile", "bca"} <= set(stacked.meta["refused_intervals"])
    with pytest.raises(OptionError, match=r"joint\(\) is refused"):
        stacked.joint()
    assert np.isfinite(r3d.interval(0.9, "normal")["conf_low"]).any()
    assert not answers(drive.where(method="tsls"))["normal"]


def test_a_stack_of_stacks_refuses_the_same():
    tables = [refusing("a", basic="of a", normal="of both"), refusing("b", normal="of both"), refusing("c")]
    whole = EffectTable.concat(tables)
    nested = EffectTable.concat([EffectTable.concat(tables[:2]), tables[2]])
    for stacked in (whole, nested):
        assert stacked.meta["refused_intervals"] == {
            "basic": {"reason": "of a", "rows": {"part": ["a"]}},
            "normal": {"reason": "of both", "rows": {"part": ["a", "b"]}},
        }
        assert answers(stacked.where(part="b"), ("basic", "normal")) == {"basic": "", "normal": "of both"}
    both = EffectTable.concat(tables[:2])
    assert both.meta["refused_intervals"]["normal"] == "of both"


def test_two_reasons_for_one_kind_stand_side_by_side():
    some = {"reason": "of b", "rows": {"adjust": ["image"]}}
    stacked = EffectTable.concat([refusing("a", normal="of a"), refusing("b", normal=some), refusing("c")])
    assert answers(stacked, ("normal",)) == {"normal": "of a; of b"}
    for part, adjust, why in (("a", "none", "of a"), ("b", "image", "of b"), ("b", "none", ""), ("c", "image", "")):
        assert answers(stacked.where(part=part, adjust=adjust), ("normal",)) == {"normal": why}
    assert stacked.contrast("`b:none` - `c:none`", method="normal") is not None
    with pytest.raises(OptionError, match="of b"):
        stacked.contrast("`b:image` - `c:none`", method="normal")


def test_rows_that_no_box_of_values_describes_are_told_one_by_one():
    first = make_table(meta={"refused_intervals": {"basic": "of the first"}}).take([0, 3])
    second = make_table().take([0, 3]).with_index(run=[2, 1])
    stacked = EffectTable.concat([first.with_index(run=[1, 2]), second])
    assert len(stacked.meta["refused_intervals"]["basic"]) == 2
    for run, adjust, why in ((1, "none", True), (2, "both", True), (2, "none", False), (1, "both", False)):
        assert bool(answers(stacked.where(run=run, adjust=adjust), ("basic",))["basic"]) is why


def test_refusals_survive_a_file(tmp_path):
    stacked = EffectTable.concat([refusing("a", normal="of a"), refusing("b", normal="of b")])
    stacked.write(tmp_path / "table.parquet")
    again = EffectTable.read(tmp_path / "table.parquet")
    assert again.meta["refused_intervals"] == stacked.meta["refused_intervals"]
    assert answers(again, ("normal",)) == {"normal": "of a; of b"}
