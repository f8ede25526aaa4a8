"""Bounds of group Shapley values, and the waterfall that shows them."""

import numpy as np
import pytest

from causalsat.effects.waterfall import plot_waterfall
from causalsat.errors import DataError, OptionError
from causalsat.estimators.group_shapley import group_shapley
from causalsat.estimators.shapley_matrix import membership, shapley_matrix
from tests.estimators.test_group_shapley import NAMES, drawn_game, key


def ends(held, m=3, **options):
    table = group_shapley(held, NAMES[:m], missing="bounds", **options)
    lower = table.where(term="contribution_lower")["estimate"]
    return lower, table.where(term="contribution_upper")["estimate"]


@pytest.mark.parametrize("structure", [(), "monotone", ("monotone", "supermodular")])
def test_bounds_hold_every_admissible_completion_and_shrink_with_information(structure):
    rng = np.random.default_rng(2)
    size = membership(3).sum(axis=0)
    for _ in range(5):
        values = rng.uniform(0.5, 1.5, 3) @ membership(3) + rng.uniform(0.1, 1.0) * size**2
        wide, narrow = ({key(3, s): values[s] for s in range(8) if s not in gone} for gone in ([3, 5], [3]))
        options = {"low": 0.0, "high": 30.0, "structure": structure}
        low, high = ends(wide, **options)
        low2, high2 = ends(narrow, **options)
        phi = shapley_matrix(3) @ values
        assert (low <= phi + 1e-7).all() and (phi <= high + 1e-7).all()
        assert (low <= low2 + 1e-7).all() and (high2 <= high + 1e-7).all()
        box_low, box_high = ends(wide, low=0.0, high=30.0)
        assert (box_low <= low + 1e-7).all() and (high <= box_high + 1e-7).all()


def test_the_box_is_sharp():
    held = {"": 1.0, "mix": 1.5, "mix+dose": 3.0}
    low, high = ends(held, m=2, low=1.0, high=3.0)
    np.testing.assert_allclose([low, high], [[0.25, 0.75], [1.25, 1.75]], atol=1e-14)


def test_unlimited_and_contradicting_values_say_so():
    held = {"": 1.0, "mix": 1.5, "mix+dose": 3.0}
    table = group_shapley(held, NAMES[:2], missing="bounds")
    assert table.row(group="mix", term="contribution_lower")["estimate"] == -np.inf
    assert "nothing limits" in table.meta["unavailable"]["1"]["std_error"]
    assert table.meta["unavailable"]["0"]["estimate"] == "identified up to an interval"
    with pytest.raises(DataError, match=r"monotone: v\(\{mix\}\) <= v\(\{mix, dose\}\) would have to give way by 3"):
        ends({**held, "mix": 6.0}, m=2, structure="monotone")
    with pytest.raises(DataError, match="monotone"):
        ends(held, m=2, low=4.0, structure="monotone")
    with pytest.raises(OptionError, match="lies above high"):
        ends(held, m=2, low=4.0, high=3.0)
    unknown = group_shapley({"": 1.0, "mix": 1.5}, NAMES[:2], missing="bounds", low=0.0, high=4.0)
    assert "share" not in unknown["term"] and unknown["group"][-1] == "(total)"


def test_outer_quantiles_of_the_ends_and_the_waterfall():
    _, _, mapping = drawn_game(b=99)
    held = {k: v for k, v in mapping.items() if k != {"mix"}}
    table = group_shapley(held, NAMES[:3], missing="bounds", structure="monotone")
    row = table.row(group="mix", term="contribution")
    assert row["conf_low"] == pytest.approx(np.sort(table.draws[:, 1])[1])
    assert row["conf_high"] == pytest.approx(np.sort(table.draws[:, 2])[97])
    names = [text.get_text() for text in plot_waterfall(table, order="value").get_yticklabels()]
    assert set(names) == {"A", "B", *NAMES[:3]}
    assert all(patch.get_facecolor()[3] == 0.0 for patch in plot_waterfall(table).patches)


def test_exact_values_have_the_identified_set_as_their_interval():
    held = {"": 1.0, "mix": 1.5, "mix+dose": 3.0}
    table = group_shapley(held, NAMES[:2], missing="bounds", low=1.0, high=3.0)
    for name in NAMES[:2]:
        row = table.row(group=name, term="contribution")
        limits = [table.row(group=name, term=f"contribution_{side}")["estimate"] for side in ("lower", "upper")]
        assert [row["conf_low"], row["conf_high"]] == limits
        assert np.isnan(row["estimate"])
    assert table.meta["interval_of_bounds"].startswith("the identified set itself: the values came without draws")
    half = group_shapley(held, NAMES[:2], missing="bounds", structure="monotone", low=1.0)
    row = half.row(group="mix", term="contribution")
    assert [row["conf_low"], row["conf_high"]] == pytest.approx([0.25, 1.25], abs=1e-9)
    one_sided = group_shapley(held, NAMES[:2], missing="bounds", low=1.0).row(group="dose", term="contribution")
    assert one_sided["conf_low"] == pytest.approx(0.75) and one_sided["conf_high"] == np.inf
    unknown = group_shapley({"": 1.0, "mix": 1.5}, NAMES[:2], missing="bounds", low=0.0, high=4.0)
    total = unknown.row(group="(total)", term="contribution")
    assert [total["conf_low"], total["conf_high"]] == [-1.0, 3.0]
    _, _, mapping = drawn_game(b=99)
    drawn = group_shapley({k: v for k, v in mapping.items() if k != {"mix"}}, NAMES[:3], missing="bounds", low=0.0)
    assert drawn.meta["interval_of_bounds"].startswith("outer quantiles")
    with pytest.raises(OptionError, match="shares='no' must be True or False"):
        group_shapley(held, NAMES[:2], missing="bounds", shares="no")
